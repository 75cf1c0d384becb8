//! A pod: a netns on the node's bridge, a cgroup, and a process that holds both.

mod start;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cgroup::Cgroup;
use crate::echo::Answer;
use crate::load::{Load, Report, Running};
use crate::manifest;
use crate::netns::Netns;
use crate::node::Node;
use crate::process::{Finished, Place, Process, tool};

pub use start::PodOptions;

/// A running pod; everything of it goes on drop, its manifest too.
#[derive(Debug)]
pub struct Pod {
    // In the order of removal: processes, cgroups, netns.
    running: Mutex<Vec<Process>>,
    pause: Process,
    _cgroups: [Cgroup; 2],
    netns: Netns,
    place: Place,
    ips: Vec<IpAddr>,
    uid: String,
    namespace: String,
    name: String,
    labels: Value,
    annotations: Value,
    manifest: bool,
    node: Node,
}

impl Pod {
    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The IPv4 address.
    pub fn ip(&self) -> IpAddr {
        self.ips[0]
    }

    /// Every address.
    pub fn ips(&self) -> &[IpAddr] {
        &self.ips
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Process id of the sandbox process.
    pub fn sandbox_pid(&self) -> u32 {
        self.pause.pid()
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Changes an annotation in the manifest; `None` removes it.
    ///
    /// # Errors
    /// The manifest could not be written.
    pub fn annotate(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        let annotations = self
            .annotations
            .as_object_mut()
            .context("annotations are a map")?;
        match value {
            Some(value) => annotations.insert(key.to_owned(), json!(value)),
            None => annotations.remove(key),
        };
        self.write_manifest()
    }

    /// Starts a process in the pod; it ends when the handle is dropped.
    ///
    /// # Errors
    /// The program could not be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        Process::spawn(&self.place, &format!("{}.{name}", self.name), command)
    }

    /// Runs a command line in the pod to its end. The command must bound its own time.
    ///
    /// # Errors
    /// The program could not be started. How it ended is for the caller to judge.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.spawn(program.rsplit('/').next().unwrap_or(program), command)?
            .finish()
    }

    /// Keeps a process for the life of the pod.
    pub fn keep(&self, process: Process) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(process);
    }

    /// Runs one of the workspace's own test programs as a server: started when this returns.
    ///
    /// # Errors
    /// It did not come up.
    pub fn serve(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let process = self.start_server(program, arguments)?;
        self.keep(process);
        Ok(())
    }

    /// As [`Pod::serve`], with the process in the caller's hand.
    ///
    /// # Errors
    /// It did not come up.
    pub fn start_server(&self, program: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = Command::new(tool(program)?);
        command.args(arguments);
        let mut process = self.spawn(program, command)?;
        process.wait_for_output("ready")?;
        Ok(process)
    }

    /// The echo server, answering with the pod's name.
    ///
    /// # Errors
    /// It did not come up.
    pub fn serve_echo(&self, port: u16) -> Result<()> {
        let port = port.to_string();
        self.serve(
            "e2e-http",
            &["serve", "--name", &self.name, "--port", &port],
        )
    }

    /// curl with a bound on its time; for what its exit status and output tell.
    ///
    /// # Errors
    /// curl could not be started.
    pub fn curl(&self, arguments: &[&str]) -> Result<Finished> {
        let bounded = ["--silent", "--show-error", "--max-time", "10"];
        self.run("curl", &[&bounded, arguments].concat())
    }

    /// One GET answered by an echo server.
    ///
    /// # Errors
    /// curl failed, or what answered is no echo server.
    pub fn get(&self, url: &str) -> Result<Answer> {
        self.request(&[url])
    }

    /// One request of curl, with its arguments, answered by an echo server.
    ///
    /// # Errors
    /// As [`Pod::get`].
    pub fn request(&self, arguments: &[&str]) -> Result<Answer> {
        let body = self.curl(arguments)?.success()?;
        serde_json::from_str(&body).with_context(|| format!("no echo server answered: {body}"))
    }

    /// Status code of one request of curl.
    ///
    /// # Errors
    /// No HTTP answer came.
    pub fn status(&self, arguments: &[&str]) -> Result<u16> {
        let only_code = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        let code = self.curl(&[&only_code, arguments].concat())?.success()?;
        code.parse()
            .with_context(|| format!("status code {code:?}"))
    }

    /// One conversation of `e2e-tcp talk`, with its arguments; its report.
    ///
    /// # Errors
    /// The program failed. What failed on the connection is in the report.
    pub fn talk(&self, to: SocketAddr, arguments: &[&str]) -> Result<Value> {
        let program = tool("e2e-tcp")?;
        let program = program.to_str().context("a path in UTF-8")?;
        let to = to.to_string();
        let report = self
            .run(program, &[&["talk", "--to", &to], arguments].concat())?
            .success()?;
        serde_json::from_str(&report).with_context(|| format!("the report of talk: {report}"))
    }

    /// Sends a load from this pod and waits for its end.
    ///
    /// # Errors
    /// The load generator failed. Failures of requests are in the report.
    pub fn load(&self, load: &Load) -> Result<Report> {
        self.start_load(load)?.finish()
    }

    /// Starts a load from this pod.
    ///
    /// # Errors
    /// The load generator could not be started.
    pub fn start_load(&self, load: &Load) -> Result<Running> {
        Running::start(self, load)
    }

    fn manifest_name(&self) -> String {
        format!("pod-{}-{}.json", self.namespace, self.name)
    }

    fn write_manifest(&self) -> Result<()> {
        if !self.manifest {
            return Ok(());
        }
        let pod = manifest::pod(&manifest::PodFields {
            namespace: &self.namespace,
            name: &self.name,
            uid: &self.uid,
            node: self.node.name(),
            labels: &self.labels,
            annotations: &self.annotations,
            ips: &self.ips,
        });
        self.node.config().put(&self.manifest_name(), &[pod])
    }

    /// Directory of the pod's cgroup.
    pub fn cgroup(&self) -> PathBuf {
        self.node
            .kubepods()
            .join(self.node.inner.layout.pod(&self.uid))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.manifest {
            // A test may have taken the whole directory away.
            let _ = self.node.config().remove(&self.manifest_name());
        }
    }
}
