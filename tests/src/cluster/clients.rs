//! What one asks of a cluster: kubectl, helm and the other clients, as the administrator.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Cluster, home};
use crate::netns::feed;
use crate::until;

impl Cluster {
    /// One of the kit's programs (`kubectl`, `helm`, `conformance.test`) in the first node's
    /// network namespace and the caller's folder, as the administrator.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let netns = Path::new("/run/netns").join(self.home.netns(1).unwrap_or_default());
        let mut flag = OsString::from("--net=");
        flag.push(netns);
        command
            .arg(flag)
            .arg("--")
            .arg(self.kit.program(program))
            .env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs `work` on a thread in the first node's network namespace, where the API server is.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `work` failed.
    pub fn beside_api<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.node(1)?.netns()?.enter(work)
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// It failed; its complaint is in the message.
    pub fn kubectl<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        output(self.client("kubectl").args(arguments))
    }

    /// Runs kubectl with `-o json` and reads its answer.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn kubectl_json<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Value> {
        let mut kubectl = self.client("kubectl");
        let text = output(kubectl.args(arguments).args(["-o", "json"]))?;
        serde_json::from_str(&text).context("kubectl prints JSON")
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// The API server refused one.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let mut kubectl = self.client("kubectl");
        kubectl.args(["apply", "-f", "-"]);
        feed(kubectl, manifests)
    }

    /// Applies the Gateway API's definitions of a channel, `standard` or `experimental`, and waits until
    /// the API server answers for what they define.
    ///
    /// # Errors
    /// The API server refused one, or does not come to serve it.
    pub fn apply_gateway_api(&self, channel: &str) -> Result<()> {
        let folder = self.kit.gateway_api(channel);
        // They are too large for the annotation that a client-side apply keeps.
        let mut kubectl = self.client("kubectl");
        kubectl.args(["apply", "--server-side", "-f"]).arg(folder);
        output(&mut kubectl)?;
        let columns = "jsonpath={range .items[*]}{.spec.names.plural}.{.spec.group} {end}";
        let defined = self.kubectl(["get", "crd", "-o", columns])?;
        until("the API server serves what was defined", || {
            let served = self.kubectl(["api-resources", "--cached=false", "-o", "name"])?;
            let serves = |one| served.lines().any(|line| line == one);
            Ok(defined.split_whitespace().all(serves))
        })
    }

    /// Gives a node's kubelet a pod past the API server; `name` is the file's.
    ///
    /// # Errors
    /// There is no such node.
    pub fn place_static_pod(&self, node: u8, name: &str, manifest: &str) -> Result<()> {
        let folder = self.node(node)?.static_pods();
        home::write(&folder.join(name).with_extension("yaml"), manifest)
    }

    /// Takes it away again.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove_static_pod(&self, node: u8, name: &str) -> Result<()> {
        let file = self.node(node)?.static_pods().join(name);
        let file = file.with_extension("yaml");
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))
    }

    /// Runs helm and returns what it printed.
    ///
    /// # Errors
    /// It failed; its complaint is in the message.
    pub fn helm<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        output(self.client("helm").args(arguments))
    }
}

/// Runs a command to its end and returns its standard output.
pub(super) fn output(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {complaint}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
