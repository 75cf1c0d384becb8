//! How an agent is started: arguments, place, environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Agent;
use crate::node::Node;
use crate::pod::Pod;
use crate::process::{Process, tool};

const ADMIN_PORT: u16 = 15020;

/// An agent that is about to be started.
#[derive(Debug)]
pub struct AgentOptions<'a> {
    node: &'a Node,
    pod: Option<&'a Pod>,
    workers: u8,
    arguments: Vec<String>,
    log: &'a str,
    socket: &'a str,
    admin_port: u16,
    binary: Option<&'a Path>,
    cgroup_root: Option<&'a Path>,
}

impl<'a> AgentOptions<'a> {
    /// The usual agent of a node: two workers, labelled pods only, the node's manifests.
    pub fn new(node: &'a Node) -> Self {
        Self {
            node,
            pod: None,
            workers: 2,
            arguments: Vec::new(),
            log: "info",
            socket: "agent.sock",
            admin_port: ADMIN_PORT,
            binary: None,
            cgroup_root: Some(node.kubepods()),
        }
    }

    /// With this many workers.
    #[must_use]
    pub fn workers(mut self, workers: u8) -> Self {
        self.workers = workers;
        self
    }

    /// Inside a pod's cgroup and netns, as a DaemonSet's pod is.
    #[must_use]
    pub fn inside(mut self, pod: &'a Pod) -> Self {
        self.pod = Some(pod);
        self
    }

    /// With more arguments to `run`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// With another log filter than `info`.
    #[must_use]
    pub fn log(mut self, filter: &'a str) -> Self {
        self.log = filter;
        self
    }

    /// Another build of the binary than the one beside the tests.
    #[must_use]
    pub fn binary(mut self, path: &'a Path) -> Self {
        self.binary = Some(path);
        self
    }

    /// Without `--cgroup-root`: on a machine with no other node it finds the pods itself.
    #[must_use]
    pub fn finding_the_pods(mut self) -> Self {
        self.cgroup_root = None;
        self
    }

    /// With an admin socket and port of its own, beside another agent of the node.
    #[must_use]
    pub fn second(mut self) -> Self {
        self.socket = "second.sock";
        self.admin_port += 1;
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or did not become ready; its log is in the message.
    pub fn start(self) -> Result<Agent> {
        let mut agent = self.launch()?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Starts it on a node that another agent serves, and waits until it has taken over.
    ///
    /// # Errors
    /// It ended, or did not take over; its log is in the message.
    pub fn succeed(self) -> Result<Agent> {
        let mut agent = self.launch()?;
        agent.wait_serving()?;
        Ok(agent)
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn launch(self) -> Result<Agent> {
        let binary = self
            .binary
            .map_or_else(binary, |path| Ok(path.to_owned()))?;
        let netns = self.pod.map_or(self.node.netns(), Pod::netns);
        let admin_ip = self.pod.map_or_else(|| [127, 0, 0, 1].into(), Pod::ip);
        let admin_address = SocketAddr::new(admin_ip, self.admin_port);
        let socket = self.node.scratch().join(self.socket);
        let mut command = Command::new(&binary);
        command.arg("run");
        command
            .arg("--source")
            .arg(format!("file:{}", self.node.config().path().display()));
        if let Some(root) = self.cgroup_root {
            command.arg("--cgroup-root").arg(root);
        }
        command.arg("--admin-socket").arg(&socket);
        command
            .arg("--admin-address")
            .arg(admin_address.to_string());
        command.args(["--node-name", self.node.name()]);
        command.args(["--workers", &self.workers.to_string()]);
        if let Some(object) = std::env::var_os("PROXY_AGENT_BPF_OBJECT") {
            command.arg("--bpf-object").arg(object);
        }
        command
            .args(&self.arguments)
            .env("PROXY_AGENT_LOG", self.log);
        let place = self
            .pod
            .map_or_else(|| self.node.place(), |pod| pod.place().clone());
        let process = Process::spawn(&place, "agent", command)?;
        let netns = netns.name().to_owned();
        Ok(Agent {
            process,
            node: self.node.clone(),
            netns,
            socket,
            admin_address,
            binary,
        })
    }
}

fn binary() -> Result<PathBuf> {
    match std::env::var_os("PROXY_AGENT_BIN") {
        Some(path) => Ok(path.into()),
        None => tool("proxy-agent"),
    }
}
