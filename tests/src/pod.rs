//! A pod: a netns on the node's bridge, a cgroup, and a process that holds both.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cgroup::Cgroup;
use crate::echo::Answer;
use crate::load::{Load, Report, Running};
use crate::manifest;
use crate::netns::Netns;
use crate::node::{GATEWAY_V4, GATEWAY_V6, Node};
use crate::process::{Finished, Place, Process, tool};

/// A pod that is about to be started.
#[derive(Debug)]
pub struct PodOptions {
    node: Node,
    namespace: String,
    name: String,
    uid: Option<String>,
    labels: Value,
    annotations: Value,
    ipv6: bool,
    manifest: bool,
}

impl PodOptions {
    pub(crate) fn new(node: Node, name: &str) -> Self {
        Self {
            node,
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: None,
            labels: json!({ "app": name }),
            annotations: json!({}),
            ipv6: true,
            manifest: true,
        }
    }

    /// Annotated with `proxy-agent.io/capture: enabled`.
    #[must_use]
    pub fn captured(self) -> Self {
        self.annotation("proxy-agent.io/capture", "enabled")
    }

    /// With one more annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations[key] = json!(value);
        self
    }

    /// With one more label; `app` is the pod's name unless it is set.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels[key] = json!(value);
        self
    }

    /// In another namespace than `default`.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// With a given uid, as a pod that comes back has.
    #[must_use]
    pub fn uid(mut self, uid: &str) -> Self {
        self.uid = Some(uid.to_owned());
        self
    }

    /// With IPv6 switched off in its netns.
    #[must_use]
    pub fn without_ipv6(mut self) -> Self {
        self.ipv6 = false;
        self
    }

    /// Without a manifest in the config directory: only its cgroup tells of it.
    #[must_use]
    pub fn without_manifest(mut self) -> Self {
        self.manifest = false;
        self
    }

    /// Starts it: network, sandbox process, manifest with the condition Ready.
    ///
    /// # Errors
    /// A part of it could not be made.
    pub fn start(self) -> Result<Pod> {
        let [v4, v6] = self.node.next_pod_addresses();
        let uid = self
            .uid
            .clone()
            .unwrap_or_else(|| manifest::uid(&self.name, v4));
        let mut ips = vec![v4];
        ips.extend(self.ipv6.then_some(v6));

        let netns = connect(&self.node, &ips)?;
        let layout = self.node.inner.layout;
        let sandbox_path = self.node.kubepods().join(layout.pod(&uid));
        let parent = Cgroup::create(sandbox_path.clone())?;
        let cgroup = Cgroup::create(sandbox_path.join(layout.container("sandbox")))?;
        let place = Place {
            netns: Arc::clone(netns.file()),
            cgroup_procs: Arc::clone(cgroup.procs()),
            logs: self.node.scratch().to_owned(),
        };
        let mut pause = Command::new("sleep");
        pause.arg("infinity");
        let pause = Process::spawn(&place, &format!("{}.pause", self.name), pause)?;
        let pod = Pod {
            running: Mutex::new(Vec::new()),
            pause,
            _cgroups: [cgroup, parent],
            netns,
            place,
            ips,
            uid,
            namespace: self.namespace,
            name: self.name,
            labels: self.labels,
            annotations: self.annotations,
            manifest: self.manifest,
            node: self.node,
        };
        pod.write_manifest()?;
        Ok(pod)
    }
}

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

    /// Whether the program is there to be run in pods.
    pub fn has_program(path: &str) -> bool {
        Path::new(path).is_file()
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

/// Makes the pod's netns and wires it to the bridge.
fn connect(node: &Node, ips: &[IpAddr]) -> Result<Netns> {
    let v4 = ips[0];
    let IpAddr::V4(address) = v4 else {
        anyhow::bail!("a pod's first address is IPv4");
    };
    let [_, _, high, low] = address.octets();
    let veth = format!("veth{high}-{low}");
    let netns = Netns::create(&format!("{}-{high}-{low}", node.name()))?;
    if ips.len() == 1 {
        netns.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
    }
    node.netns().ip(&[
        format!(
            "link add {veth} type veth peer name eth0 netns {}",
            netns.name()
        ),
        format!("link set {veth} master br0 up"),
    ])?;
    let mut inside = vec![
        format!("addr add {v4}/16 dev eth0"),
        "link set eth0 up".to_owned(),
        format!("route add default via {GATEWAY_V4}"),
    ];
    if let Some(v6) = ips.get(1) {
        inside.push(format!("addr add {v6}/64 dev eth0 nodad"));
        inside.push(format!("route add default via {GATEWAY_V6}"));
    }
    netns.ip(&inside)?;
    Ok(netns)
}
