//! A real Kubernetes on this machine: `Cluster::up(folder, 2)`.
//!
//! Every node is a network, a mount and a cgroup namespace with its own containerd, kubelet and
//! kube-proxy; the first also runs the control plane. Pods, Services, probes, rollouts and RBAC are
//! Kubernetes' own. Nothing leaves the namespaces, and [`Cluster::remove`] leaves nothing.
//!
//! `cargo xtask setup --cluster` brings the programs; their configuration is in tests/cluster.

mod access;
mod control_plane;
mod groups;
mod home;
mod kit;
mod node;
mod removal;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use groups::Groups;
use home::Home;
use kit::Kit;
use node::{Node, PATIENCE};

use crate::netns::{Netns, feed};
use crate::wait::until_some_within;

/// The variable that says where the cluster's files are.
pub const FOLDER: &str = "PROXY_AGENT_CLUSTER";

/// Between two looks at a state that takes a whole program to look at.
const PAUSE: Duration = Duration::from_millis(200);

/// A Kubernetes of some nodes.
#[derive(Debug)]
pub struct Cluster {
    home: Home,
    kit: Kit,
    nodes: Vec<Node>,
    /// Removed on drop.
    owned: bool,
}

impl Cluster {
    /// The folder of the machine's one cluster, if no other is asked for by [`FOLDER`].
    pub fn usual_folder() -> PathBuf {
        let other = std::env::var_os(FOLDER).map(PathBuf::from);
        other.unwrap_or_else(|| std::env::temp_dir().join("proxy-agent-cluster"))
    }

    /// Starts a cluster of this many nodes, with DNS, and waits until it is ready. It is removed on
    /// drop.
    ///
    /// # Errors
    /// There is one in this folder already, or a part of it did not come up: what was made is
    /// removed, and the ends of the logs are in the message.
    pub fn up(folder: &Path, nodes: u8) -> Result<Self> {
        ensure!(
            !folder.exists(),
            "there is a cluster in {}: `cargo xtask cluster down` removes it",
            folder.display()
        );
        ensure!((1..=9).contains(&nodes), "1 to 9 nodes, not {nodes}");
        let home = Home::new(folder);
        let kit = Kit::find()?;
        let nodes = (1..=nodes).map(|number| Node::new(&home, &kit, number));
        let cluster = Self {
            nodes: nodes.collect::<Result<_>>()?,
            home,
            kit,
            owned: true,
        };
        match cluster.start() {
            Ok(()) => Ok(cluster),
            Err(error) => Err(error.context(cluster.log_ends())),
        }
    }

    /// The cluster that runs in this folder; it goes on when this is dropped.
    ///
    /// # Errors
    /// There is none.
    pub fn attach(folder: &Path) -> Result<Self> {
        let home = Home::new(folder);
        let kit = Kit::find()?;
        let numbers = (1..=9).filter(|&number| home.node(number).is_dir());
        let nodes = numbers.map(|number| Node::new(&home, &kit, number));
        let nodes: Vec<Node> = nodes.collect::<Result<_>>()?;
        if nodes.is_empty() {
            bail!(
                "no cluster in {}: `cargo xtask cluster up` starts one",
                folder.display()
            );
        }
        Ok(Self {
            home,
            kit,
            nodes,
            owned: false,
        })
    }

    /// Lets the cluster run on after this process.
    #[must_use = "the cluster is removed when it is dropped"]
    pub fn keep(mut self) -> Self {
        self.owned = false;
        self
    }

    /// Ends and removes whatever there is of a cluster in this folder, also of half a one.
    ///
    /// # Errors
    /// A process does not end, or a namespace, cgroup or file cannot be removed.
    pub fn remove(folder: &Path) -> Result<()> {
        removal::remove(&Home::new(folder))
    }

    /// How many nodes it has; they are `node1`, `node2` …
    pub fn nodes(&self) -> u8 {
        u8::try_from(self.nodes.len()).unwrap_or(u8::MAX)
    }

    /// The administrator's kubeconfig; its address is that of the first node, inside its network
    /// namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.kubeconfig("admin")
    }

    /// Memory that the cluster's processes hold, in KiB.
    ///
    /// # Errors
    /// cgroup2 is not mounted.
    pub fn memory_kib(&self) -> Result<u64> {
        Ok(Groups::of_machine(self.home.name()?)?.memory_kib())
    }

    /// One of the kit's programs (`kubectl`, `helm`, `conformance.test`) in the first node's
    /// network namespace and the caller's folder, as the administrator.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let netns = Path::new("/run/netns").join(self.home.netns(1).unwrap_or_default());
        let mut flag = std::ffi::OsString::from("--net=");
        flag.push(netns);
        command
            .arg(flag)
            .arg("--")
            .arg(self.kit.program(program))
            .env("KUBECONFIG", self.kubeconfig());
        command
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

    /// Applies the Gateway API's definitions of a channel: `standard` or `experimental`.
    ///
    /// # Errors
    /// The API server refused one.
    pub fn apply_gateway_api(&self, channel: &str) -> Result<()> {
        let folder = self.kit.gateway_api(channel);
        // They are too large for the annotation that a client-side apply keeps.
        let mut kubectl = self.client("kubectl");
        kubectl.args(["apply", "--server-side", "-f"]).arg(folder);
        output(&mut kubectl).map(drop)
    }

    /// Runs helm and returns what it printed.
    ///
    /// # Errors
    /// It failed; its complaint is in the message.
    pub fn helm<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        output(self.client("helm").args(arguments))
    }

    /// A command that will run in the cgroup and the namespaces of a node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn on_node(&self, number: u8, command: Command) -> Result<Command> {
        self.node(number)?.enter(command)
    }

    /// Runs a command on a node and returns what it printed.
    ///
    /// # Errors
    /// There is no such node, or the command failed.
    pub fn in_node(&self, number: u8, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments);
        output(&mut self.on_node(number, command)?)
    }

    /// Gives an image archive to every node.
    ///
    /// # Errors
    /// A containerd refused it.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let archive = archive
            .canonicalize()
            .with_context(|| format!("find {}", archive.display()))?;
        at_once(&self.nodes, |node| node.load(&archive))
    }

    /// Ends the API server, as when its machine is lost; the objects stay.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_api(&self) -> Result<()> {
        control_plane::stop_api_server(self.node(1)?)
    }

    /// Starts the API server again and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_api(&self) -> Result<()> {
        control_plane::start_api_server(&self.home, self.node(1)?)?;
        self.wait_api()
    }

    /// Ends a node's kubelet; its pods go on.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_kubelet(&self, number: u8) -> Result<()> {
        self.node(number)?.stop("kubelet")
    }

    /// Starts a node's kubelet again.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_kubelet(&self, number: u8) -> Result<()> {
        self.node(number)?.start_kubelet()
    }

    /// Cuts a node and its pods off from the API server, without a word to either end. Not the
    /// first node: the API server is there.
    ///
    /// # Errors
    /// nftables refused it.
    pub fn cut_api(&self, number: u8) -> Result<()> {
        ensure!(number > 1, "the API server is on node1");
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"]);
        feed(
            self.on_node(number, nft)?,
            include_str!("../cluster/node/cut-api.nft"),
        )
    }

    /// Takes [`Cluster::cut_api`] back.
    ///
    /// # Errors
    /// It was not cut.
    pub fn restore_api(&self, number: u8) -> Result<()> {
        let words = ["nft", "delete", "table", "inet", "cut-api"];
        self.in_node(number, &words).map(drop)
    }

    fn node(&self, number: u8) -> Result<&Node> {
        let index = usize::from(number).checked_sub(1);
        let node = index.and_then(|index| self.nodes.get(index));
        node.with_context(|| format!("there is no node {number}"))
    }

    fn start(&self) -> Result<()> {
        fs::create_dir_all(self.home.folder())
            .with_context(|| format!("create {}", self.home.folder().display()))?;
        control_plane::prepare(&self.home)?;
        self.make_lan()?;
        for node in &self.nodes {
            node.make()?;
        }
        for node in 1..=self.nodes() {
            for other in (1..=self.nodes()).filter(|&other| other != node) {
                self.node(node)?.route_pods_of(other)?;
            }
        }
        let images = self.kit.images()?;
        thread::scope(|scope| {
            let api = scope.spawn(|| {
                control_plane::start_api(&self.home, self.node(1)?)?;
                self.wait_api()
            });
            at_once(&self.nodes, |node| {
                node.start_containerd()?;
                node.wait_containerd()?;
                images.iter().try_for_each(|image| node.load(image))
            })?;
            api.join().unwrap_or_else(|_| bail!("panic"))
        })?;
        control_plane::start_controllers(&self.home, self.node(1)?)?;
        for node in &self.nodes {
            node.start_kube_proxy()?;
            node.start_kubelet()?;
        }
        self.apply(include_str!("../cluster/dns.yaml"))?;
        self.wait_nodes()?;
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        let dns = [
            "rollout",
            "status",
            "deployment/coredns",
            "-n",
            "kube-system",
        ];
        self.kubectl(dns.iter().copied().chain([patience.as_str()]))
            .map(drop)
    }

    fn make_lan(&self) -> Result<()> {
        let lan = Netns::create(&self.home.lan()?)?;
        lan.ip(&[
            "link add lan type bridge".to_owned(),
            "addr add 10.99.0.254/24 dev lan".to_owned(),
            "link set lan up".to_owned(),
        ])?;
        lan.keep();
        Ok(())
    }

    fn wait_api(&self) -> Result<()> {
        patiently("the API server is ready", || {
            self.kubectl(["get", "--raw", "/readyz"]).map(drop)
        })
    }

    fn wait_nodes(&self) -> Result<()> {
        for node in &self.nodes {
            let name = node.name();
            patiently(&format!("{name} is ready"), || {
                let node = self.kubectl_json(["get", "node", &name])?;
                let conditions = node["status"]["conditions"].as_array();
                let ready = conditions.is_some_and(|conditions| {
                    conditions
                        .iter()
                        .any(|entry| entry["type"] == "Ready" && entry["status"] == "True")
                });
                ensure!(ready, "its conditions: {}", node["status"]["conditions"]);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The last lines of every log, for a message.
    fn log_ends(&self) -> String {
        let folders = self.nodes().min(1)..=self.nodes();
        let folders = folders.map(|number| self.home.node(number));
        let files = folders.filter_map(|folder| fs::read_dir(folder).ok());
        let files = files.flatten().flatten().map(|entry| entry.path());
        let logs = files.filter(|file| file.extension() == Some(OsStr::new("log")));
        logs.map(|log| {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(5)..].join("\n");
            format!("{}:\n{end}\n", log.display())
        })
        .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if let Err(error) = removal::remove(&self.home) {
            use std::io::Write as _;
            // There is nobody to return it to.
            let _ = writeln!(std::io::stderr(), "the cluster is not removed: {error:#}");
        }
    }
}

/// Waits until `look` succeeds.
fn patiently<T>(what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    until_some_within(PATIENCE, what, || {
        let seen = look();
        if seen.is_err() {
            thread::sleep(PAUSE);
        }
        seen.map(Some)
    })
}

/// The same on all nodes, each in a thread.
fn at_once(nodes: &[Node], work: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(|| work(node)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let worked = thread.join();
            worked.unwrap_or_else(|_| bail!("panic"))
        })
    })
}

/// Runs a command to its end and returns its standard output.
fn output(command: &mut Command) -> Result<String> {
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
