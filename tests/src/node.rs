//! The node: a netns with a bridge, a cgroup tree, a directory of manifests.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};

use crate::cgroup::{self, Cgroup, Layout};
use crate::config::ConfigDir;
use crate::kube_proxy::{KubeProxy, Rule};
use crate::netns::Netns;
use crate::pod::{Pod, PodOptions};
use crate::process::{Place, Process};
use crate::run_id;
use crate::service::ServiceOptions;

/// IPv4 address of the bridge; pods get the addresses after it.
pub(crate) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// IPv6 address of the bridge.
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1);

/// How a node differs from the usual one.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeOptions {
    /// cgroup driver.
    pub layout: Layout,
}

/// A node without an agent. Clones are the same node; the last one removes it.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

/// What pods and services share of their node.
#[derive(Debug)]
pub(crate) struct Inner {
    // In the order of removal: what runs in a netns goes before the netns.
    pub(crate) system: Cgroup,
    pub(crate) kubepods: Cgroup,
    _root: Cgroup,
    pub(crate) kube_proxy: KubeProxy,
    pub(crate) netns: Netns,
    pub(crate) config: ConfigDir,
    pub(crate) scratch: Scratch,
    pub(crate) name: String,
    pub(crate) layout: Layout,
    next_pod: AtomicU16,
    next_service: AtomicU16,
}

impl Node {
    /// A node as kubelet with the cgroupfs driver makes it.
    ///
    /// # Errors
    /// A privilege or a tool is missing; the message names it.
    pub fn new() -> Result<Self> {
        Self::with(NodeOptions::default())
    }

    /// A node that differs.
    ///
    /// # Errors
    /// As [`Node::new`].
    pub fn with(options: NodeOptions) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the node harness needs root"
        );
        let name = run_id::unique();
        let scratch = Scratch::create(std::env::temp_dir().join(&name))?;
        let mount = cgroup::mount_point()?;
        let root = Cgroup::create(mount.join(&name))?;
        let system = Cgroup::create(root.path().join("system"))?;
        let kubepods = Cgroup::create(root.path().join(options.layout.kubepods()))?;
        let netns = Netns::create(&format!("{name}-node"))?;
        bridge(&netns)?;
        let inner = Inner {
            system,
            kubepods,
            _root: root,
            kube_proxy: KubeProxy::new(netns.name())?,
            config: ConfigDir::create(scratch.path.join("config"))?,
            netns,
            scratch,
            name,
            layout: options.layout,
            next_pod: AtomicU16::new(2),
            next_service: AtomicU16::new(10),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// A pod to be started on this node, in namespace `default`.
    pub fn pod(&self, name: &str) -> PodOptions {
        PodOptions::new(self.clone(), name)
    }

    /// `count` pods `NAME-0`, `NAME-1` …, each with the echo server on port 8080.
    ///
    /// # Errors
    /// A pod or its server did not start.
    pub fn echo_pods(&self, name: &str, count: usize) -> Result<Vec<Pod>> {
        (0..count)
            .map(|index| self.echo_pod(&format!("{name}-{index}")))
            .collect()
    }

    /// A pod with the echo server on port 8080.
    ///
    /// # Errors
    /// The pod or its server did not start.
    pub fn echo_pod(&self, name: &str) -> Result<Pod> {
        let pod = self.pod(name).start()?;
        pod.serve_echo(8080)?;
        Ok(pod)
    }

    /// A Service to be made on this node, in namespace `default`.
    pub fn service(&self, name: &str) -> ServiceOptions {
        ServiceOptions::new(self.clone(), name)
    }

    /// Adds a rule to the ordinary path: a Service address whose objects are not the harness's.
    ///
    /// # Errors
    /// nft failed.
    pub fn dnat<'a>(
        &self,
        service: SocketAddr,
        pods: impl IntoIterator<Item = &'a Pod>,
        target_port: u16,
    ) -> Result<()> {
        let endpoints = pods.into_iter().map(Pod::ip).collect();
        self.inner.kube_proxy.set(Rule {
            service,
            endpoints,
            target_port,
            random: false,
        })
    }

    /// Connections that took the ordinary path to a Service address.
    ///
    /// # Errors
    /// The address has no rule.
    pub fn dnat_connections(&self, service: SocketAddr) -> Result<u64> {
        self.inner.kube_proxy.connections(service)
    }

    /// The directory that the agent's file source reads.
    pub fn config(&self) -> &ConfigDir {
        &self.inner.config
    }

    /// The node's own network namespace.
    pub fn netns(&self) -> &Netns {
        &self.inner.netns
    }

    /// Value for `--cgroup-root`.
    pub fn kubepods(&self) -> &Path {
        self.inner.kubepods.path()
    }

    /// Scratch directory of this node, removed with it.
    pub fn scratch(&self) -> &Path {
        &self.inner.scratch.path
    }

    /// Name of the node: prefix of its network namespaces.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Starts a process in the node's own netns, outside of kubepods, like a system service.
    ///
    /// # Errors
    /// The program could not be started.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        Process::spawn(&self.place(), name, command)
    }

    /// The next pod addresses: unique on this node.
    pub(crate) fn next_pod_addresses(&self) -> [IpAddr; 2] {
        let number = self.inner.next_pod.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let v4 = Ipv4Addr::new(10, 244, high, low);
        let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, number);
        [v4.into(), v6.into()]
    }

    /// The next cluster addresses: unique on this node.
    pub(crate) fn next_service_addresses(&self) -> [IpAddr; 2] {
        let number = self.inner.next_service.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let v4 = Ipv4Addr::new(10, 96, high, low);
        let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number);
        [v4.into(), v6.into()]
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            netns: Arc::clone(self.inner.netns.file()),
            cgroup_procs: Arc::clone(self.inner.system.procs()),
            logs: self.inner.scratch.path.clone(),
        }
    }
}

fn bridge(netns: &Netns) -> Result<()> {
    netns.sysctl("net/ipv4/ip_forward", "1")?;
    netns.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    netns.ip(&[
        "link add br0 type bridge".to_owned(),
        format!("addr add {GATEWAY_V4}/16 dev br0"),
        format!("addr add {GATEWAY_V6}/64 dev br0 nodad"),
        "link set br0 up".to_owned(),
    ])
}

/// A directory that is removed on drop.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // `PROXY_E2E_KEEP=1` leaves logs and manifests for a look after a failure.
        if std::env::var_os("PROXY_E2E_KEEP").is_none() {
            // The sweep of the next run takes what is left.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
