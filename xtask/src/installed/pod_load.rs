//! A load of requests from inside a pod, through `kubectl exec`.

use std::io::{BufReader, Read as _};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use proxy_e2e::cluster::Cluster;
use proxy_e2e::{Load, Report};

/// A load that is under way; killed on drop.
#[derive(Debug)]
pub(crate) struct PodLoad {
    pub(crate) name: String,
    child: Child,
}

impl PodLoad {
    /// Starts it in a pod that has the program.
    pub(crate) fn start(cluster: &Cluster, pod: (&str, &str), load: &Load) -> Result<Self> {
        let (namespace, name) = pod;
        let mut kubectl = cluster.client("kubectl");
        kubectl
            .args(["exec", "-i", "-n", namespace, name, "--", "e2e-http"])
            .args(load.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Ok(Self {
            name: name.to_owned(),
            child: kubectl.spawn().context("start kubectl")?,
        })
    }

    /// Ends it, where it has no count of requests; reads its report.
    pub(crate) fn finish(mut self) -> Result<Report> {
        drop(self.child.stdin.take());
        let stdout = self.child.stdout.take().context("its output is piped")?;
        let mut report = String::new();
        BufReader::new(stdout).read_to_string(&mut report)?;
        let status = self.child.wait().context("wait for kubectl")?;
        let name = &self.name;
        ensure!(status.success(), "the load in {name} failed: {status}");
        serde_json::from_str(&report).with_context(|| format!("report of {name}: {report}"))
    }
}

impl Drop for PodLoad {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Errors: it ended in this moment.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
