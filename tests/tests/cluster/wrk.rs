//! wrk in captured pods: as many requests as go, on connections that are kept and on new ones.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy_e2e::is_of_pod;

use crate::scene::Scene;

/// How it connects, as the pod's name, and the header that makes it so.
const KINDS: [(&str, &str); 2] = [("wrk-kept", "x: y"), ("wrk-fresh", "connection: close")];

/// Two pods with wrk on the first node; deleted on drop.
pub(crate) struct Wrk<'a> {
    scene: &'a Scene,
}

impl<'a> Wrk<'a> {
    /// Starts it, and waits until it runs. The port is in the URL: the image has no /etc/services.
    pub(crate) fn start(scene: &'a Scene) -> Result<Self> {
        let service = ["get", "service", "echo", "-n", "mesh"];
        let service = scene.cluster.kubectl_json(service)?;
        let address = service["spec"]["clusterIP"].as_str();
        let address = address.context("the Service has an address")?;
        let wrk = Self { scene };
        for (name, header) in KINDS {
            scene.cluster.apply(&format!(
                "\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: mesh}}
spec:
  nodeSelector: {{kubernetes.io/hostname: node1}}
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: local/wrk:dev
    imagePullPolicy: Never
    command: [wrk, --threads=1, --connections=8, --duration=600s, --header, '{header}', 'http://{address}:80/']
"
            ))?;
            let ready = [
                "wait",
                "pod",
                name,
                "--for=condition=Ready",
                "--timeout=60s",
            ];
            scene.cluster.kubectl(ready.iter().chain(&["-n", "mesh"]))?;
        }
        Ok(wrk)
    }

    /// Ends it, and requires that every request was answered with success.
    pub(crate) fn ensure_flawless(&self) -> Result<()> {
        for (name, _) in KINDS {
            interrupt(self.scene, name)?;
            let said = self.scene.until("wrk has ended", || {
                let pod = ["get", "pod", name, "-n", "mesh"];
                let pod = self.scene.cluster.kubectl_json(pod)?;
                ensure!(pod["status"]["phase"] == "Succeeded", "{}", pod["status"]);
                self.scene.cluster.kubectl(["logs", "-n", "mesh", name])
            })?;
            let summary = said.lines().find(|line| line.contains("requests in"));
            println!("     {name}: {}", summary.unwrap_or_default().trim());
            let requests = summary.and_then(|line| line.split_whitespace().next()?.parse().ok());
            ensure!(requests > Some(100_u64), "{name} did not run: {said}");
            let failed = ["Socket errors", "Non-2xx"]
                .iter()
                .any(|word| said.contains(word));
            ensure!(!failed, "{name}: {said}");
        }
        Ok(())
    }
}

/// wrk ends early on SIGINT, and shows what it has counted.
fn interrupt(scene: &Scene, name: &str) -> Result<()> {
    let pod = ["get", "pod", name, "-n", "mesh"];
    let pod = scene.cluster.kubectl_json(pod)?;
    let uid = pod["metadata"]["uid"].as_str().context("it has a UID")?;
    for entry in fs::read_dir("/proc")?.flatten() {
        // Processes end while they are looked at.
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("comm").trim() == "wrk" && is_of_pod(&read("cgroup"), uid) {
            let pid = entry.file_name().to_string_lossy().parse()?;
            return kill(Pid::from_raw(pid), Signal::SIGINT).context("interrupt wrk");
        }
    }
    anyhow::bail!("{name} does not run: {}", pod["status"])
}

impl Drop for Wrk<'_> {
    fn drop(&mut self) {
        for (name, _) in KINDS {
            let delete = ["delete", "pod", name, "-n", "mesh", "--ignore-not-found"];
            if let Err(error) = self.scene.cluster.kubectl(delete) {
                eprintln!("pod {name} is not deleted: {error:#}");
            }
        }
    }
}
