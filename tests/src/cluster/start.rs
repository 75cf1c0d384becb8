//! Bringing a cluster up: what comes first, what goes on at the same time, what is waited for.

use std::ffi::OsStr;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::node::{Node, PATIENCE};
use super::{Cluster, control_plane};
use crate::netns::Netns;
use crate::wait::until_some_within;

/// Between two looks at a state that takes a whole program to look at.
const PAUSE: Duration = Duration::from_millis(200);

impl Cluster {
    pub(super) fn start(&self) -> Result<()> {
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
                node.start_systemd()?;
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
        self.apply(include_str!("../../cluster/dns.yaml"))?;
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

    pub(super) fn wait_api(&self) -> Result<()> {
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
    pub(super) fn log_ends(&self) -> String {
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
pub(super) fn at_once(nodes: &[Node], work: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
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
