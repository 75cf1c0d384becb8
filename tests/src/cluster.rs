//! A real Kubernetes on this machine: `Cluster::up(folder, 2)`.
//!
//! Every node is a network, a mount and a cgroup namespace with its own containerd, kubelet and
//! kube-proxy; the first also runs the control plane. Pods, Services, probes, rollouts and RBAC are
//! Kubernetes' own. Nothing leaves the namespaces, and [`Cluster::remove`] leaves nothing.
//!
//! `cargo xtask setup --cluster` brings the programs; their configuration is in tests/cluster.

mod access;
mod clients;
mod control_plane;
mod faults;
mod groups;
mod home;
mod kit;
mod node;
mod processors;
mod release;
mod removal;
mod start;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use groups::Groups;
use home::Home;
use kit::Kit;
use node::Node;

pub use processors::Apart;

/// The variable that says where the cluster's files are.
pub const FOLDER: &str = "PROXY_AGENT_CLUSTER";

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
        let hidden = ["/run", "/var"]
            .iter()
            .any(|place| folder.starts_with(place));
        ensure!(
            !hidden,
            "nodes have a {} of their own: take another place",
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
        clients::output(&mut self.on_node(number, command)?)
    }

    /// Gives an image archive to every node.
    ///
    /// # Errors
    /// A containerd refused it.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let archive = archive
            .canonicalize()
            .with_context(|| format!("find {}", archive.display()))?;
        start::at_once(&self.nodes, |node| node.load(&archive))
    }

    fn node(&self, number: u8) -> Result<&Node> {
        let index = usize::from(number).checked_sub(1);
        let node = index.and_then(|index| self.nodes.get(index));
        node.with_context(|| format!("there is no node {number}"))
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
