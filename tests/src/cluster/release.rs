//! The agent on a cluster: installed by its chart, asked through kubectl, removed by helm.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Cluster;

/// Name of the release, of its DaemonSet and of its namespace.
const RELEASE: &str = "proxy-agent";

/// The image that `cargo xtask image` writes, as values of the chart.
const IMAGE: &str = "image.repository=local/proxy-agent,image.tag=dev,image.pullPolicy=Never";

impl Cluster {
    /// Installs the chart, or changes what is installed, and waits until every agent is ready. The
    /// image must have been loaded. `values` are further `NAME=VALUE` of the chart.
    ///
    /// # Errors
    /// helm refused it, or an agent did not become ready: what they say is in the message.
    pub fn install(&self, values: &[&str]) -> Result<()> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/proxy-agent");
        let mut helm = self.client("helm");
        helm.args(["upgrade", "--install", RELEASE])
            .arg(chart)
            .args(["--namespace", RELEASE, "--create-namespace"])
            .args(["--set", IMAGE]);
        for value in values {
            helm.args(["--set", value]);
        }
        super::clients::output(&mut helm)?;
        self.wait_agents()
    }

    /// Waits until the DaemonSet's rollout is complete.
    ///
    /// # Errors
    /// It does not end; the agents' logs are in the message.
    pub fn wait_agents(&self) -> Result<()> {
        let daemon_set = format!("daemonset/{RELEASE}");
        let rollout = [
            "rollout",
            "status",
            &daemon_set,
            "-n",
            RELEASE,
            "--timeout=120s",
        ];
        self.kubectl(rollout)
            .map(drop)
            .with_context(|| self.agent_logs())
    }

    /// Removes the release and waits until its pods are gone.
    ///
    /// # Errors
    /// They do not go.
    pub fn uninstall(&self) -> Result<()> {
        self.helm(["uninstall", RELEASE, "--namespace", RELEASE, "--wait"])?;
        let gone = ["delete", "namespace", RELEASE, "--timeout=120s"];
        self.kubectl(gone).map(drop)
    }

    /// The name of the agent's pod on a node; the newest while two are there.
    ///
    /// # Errors
    /// There is none.
    pub fn agent_pod(&self, node: u8) -> Result<String> {
        let selector = format!("app.kubernetes.io/name={RELEASE}");
        let place = format!("spec.nodeName=node{node}");
        let order = "--sort-by=.metadata.creationTimestamp";
        let pods = self.kubectl_json([
            "get",
            "pods",
            "-n",
            RELEASE,
            "-l",
            &selector,
            "--field-selector",
            &place,
            order,
        ])?;
        let newest = pods["items"].as_array().and_then(|pods| pods.last());
        let name = newest.and_then(|pod| pod["metadata"]["name"].as_str());
        name.map(str::to_owned)
            .with_context(|| format!("no agent on node{node}"))
    }

    /// Runs a verb of the agent's binary in its pod on a node.
    ///
    /// # Errors
    /// There is no agent, or the verb failed.
    pub fn agent_verb(&self, node: u8, words: &[&str]) -> Result<String> {
        let pod = self.agent_pod(node)?;
        let exec = ["exec", "-n", RELEASE, &pod, "--", "proxy-agent"];
        self.kubectl(exec.iter().chain(words))
    }

    /// What `proxy-agent status -o json` shows on a node.
    ///
    /// # Errors
    /// As [`Cluster::agent_verb`].
    pub fn agent_status(&self, node: u8) -> Result<Value> {
        let text = self.agent_verb(node, &["status", "-o", "json"])?;
        serde_json::from_str(&text).context("status is JSON")
    }

    /// Process id, on this machine, of the agent that serves on a node: its own number is that of the
    /// node's processes.
    ///
    /// # Errors
    /// There is none.
    pub fn agent_process(&self, node: u8) -> Result<u32> {
        let status = self.agent_status(node)?;
        let own = &status["overview"]["pid"];
        let own = own.as_u64().context("status tells the process id")?;
        let processes = self.node(node)?.processes();
        let found = processes.into_iter().find(|pid| is_agent(*pid, own));
        found.with_context(|| format!("process {own} is not on node{node}"))
    }

    /// Requires that an agent captures this pod, `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// It does not; why is in the message.
    pub fn ensure_captured(&self, node: u8, pod: &str) -> Result<()> {
        let entry = self.agent_view(node, pod)?;
        ensure!(entry["captured"] == true, "status shows {entry}");
        Ok(())
    }

    /// A pod's entry in the status of a node's agent.
    ///
    /// # Errors
    /// There is none.
    pub fn agent_view(&self, node: u8, pod: &str) -> Result<Value> {
        let status = self.agent_status(node)?;
        let (namespace, name) = pod.split_once('/').context("NAMESPACE/NAME")?;
        let pods = status["pods"].as_array();
        let entry = pods.and_then(|pods| {
            pods.iter()
                .find(|entry| entry["namespace"] == namespace && entry["name"] == name)
        });
        let entry = entry.cloned();
        entry.with_context(|| format!("{pod} is not in the status of node{node}"))
    }

    /// What the agents and their DaemonSet say, for a message.
    pub fn agent_logs(&self) -> String {
        let selector = format!("app.kubernetes.io/name={RELEASE}");
        let asked = [
            vec!["get", "pods", "-n", RELEASE, "-o", "wide"],
            vec!["get", "events", "-n", RELEASE],
            vec![
                "logs",
                "-n",
                RELEASE,
                "-l",
                &selector,
                "--prefix",
                "--tail=40",
            ],
        ];
        let answers = asked.into_iter().map(|words| {
            let answer = self.kubectl(&words);
            answer.unwrap_or_else(|error| format!("{error:#}\n"))
        });
        answers.collect()
    }
}

/// Whether a process is an agent whose number is `own` where it lives (`NSpid` of proc(5): the last is
/// that of the innermost namespace).
fn is_agent(pid: u32, own: u64) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let number = field("NSpid:").and_then(|ids| ids.split_whitespace().last()?.parse().ok());
    number == Some(own) && field("Name:").is_some_and(|name| name.trim() == RELEASE)
}
