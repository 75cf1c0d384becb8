//! What an agent holds, as the kernel tells: descriptors, memory, processor time, map entries.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use proxy_e2e::admin;
use proxy_e2e::cluster::Cluster;
use serde_json::Value;

use crate::process::{self, Threads, cpu_us};

/// The agent of a node. Nodes share the machine's process ids, so its own is ours too.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) node: u8,
    pid: u32,
}

/// What an agent holds at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Footprint {
    /// Open descriptors, all of them.
    pub(crate) descriptors: u64,
    /// Of those, network namespaces.
    pub(crate) namespaces: u64,
    /// Of those, sockets.
    pub(crate) sockets: u64,
    /// Memory in use, KiB.
    pub(crate) resident_kib: u64,
    /// Entries of the maps that grow and shrink, by name.
    pub(crate) entries: BTreeMap<String, u64>,
}

impl Agent {
    pub(super) fn of(cluster: &Cluster, node: u8) -> Result<Self> {
        let pid = cluster.agent_process(node)?;
        Ok(Self { node, pid })
    }

    /// A part of the status, by its path on the admin socket.
    pub(crate) fn status(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.page(path)?).with_context(|| format!("{path} is JSON"))
    }

    /// The same as it comes.
    pub(crate) fn page(&self, path: &str) -> Result<String> {
        let socket = format!("/proc/{}/root/run/proxy-agent/agent.sock", self.pid);
        let stream = UnixStream::connect(&socket).with_context(|| format!("connect {socket}"))?;
        // Longer than what tests grant: the state of a large cluster is large.
        stream.set_read_timeout(Some(6 * admin::TIMEOUT))?;
        let reply = admin::get(stream, path)?;
        ensure!(reply.status == 200, "{path}: {}", reply.body);
        Ok(reply.body)
    }

    /// A counter of the hooks.
    pub(crate) fn outcome(&self, name: &str) -> Result<u64> {
        let bpf = self.status("/status/bpf")?;
        let counters = bpf["counters"].as_array().context("counters")?;
        let counter = counters.iter().find(|counter| counter["name"] == name);
        let value = counter.and_then(|counter| counter["value"].as_u64());
        value.with_context(|| format!("no counter {name}"))
    }

    /// What it holds now.
    pub(crate) fn footprint(&self) -> Result<Footprint> {
        let mut footprint = Footprint {
            resident_kib: self.resident_kib()?,
            ..Footprint::default()
        };
        for entry in self.files("fd")? {
            footprint.descriptors += 1;
            // Closed since: it counts all the same.
            let to = fs::read_link(entry).unwrap_or_default();
            let to = to.to_string_lossy();
            footprint.namespaces += u64::from(to.starts_with("net:"));
            footprint.sockets += u64::from(to.starts_with("socket:"));
        }
        let bpf = self.status("/status/bpf")?;
        for map in bpf["maps"].as_array().context("maps")? {
            let (name, entries) = (map["name"].as_str(), map["entries"].as_u64());
            let (name, entries) = name.zip(entries).context("a map has a name and entries")?;
            footprint.entries.insert(name.to_owned(), entries);
        }
        Ok(footprint)
    }

    /// Memory in use, KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        process::resident_kib(self.pid)
    }

    /// Processor time of all that is no worker, microseconds.
    pub(crate) fn control_us(&self) -> Result<f64> {
        cpu_us(self.pid, Threads::But("worker"))
    }

    /// Memory that the kernel keeps for the agent's maps, KiB.
    pub(crate) fn maps_kib(&self) -> Result<u64> {
        process::bpf_maps_kib(self.pid)
    }

    fn files(&self, folder: &str) -> Result<Vec<std::path::PathBuf>> {
        let path = format!("/proc/{}/{folder}", self.pid);
        let entries = fs::read_dir(&path).with_context(|| {
            let node = self.node;
            format!("the agent of node{node} has ended: no {path}")
        })?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }
}
