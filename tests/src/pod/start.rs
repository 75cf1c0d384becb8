//! How a pod is started: its options, its network, its sandbox.
//!
//! With `PROXY_E2E_DELAY_MS=N` in the environment every pod is N milliseconds away from all others,
//! unless it says otherwise: any test can run so, on a kernel that has netem.

use std::net::IpAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Pod;
use crate::cgroup::Cgroup;
use crate::manifest;
use crate::netns::Netns;
use crate::node::{GATEWAY_V4, GATEWAY_V6, Node};
use crate::process::{Place, Process};

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
    delay: Option<Duration>,
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
            delay: None,
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

    /// With this delay of every packet on its link, in either direction, and between the sockets of
    /// its own loopback device.
    #[must_use]
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
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
        if let Some(delay) = self
            .delay
            .map_or_else(usual_delay, |delay| Ok(Some(delay)))?
        {
            self.node.netns().delay(&veth(&ips)?, delay)?;
            netns.delay("eth0", delay)?;
            netns.delay("lo", delay)?;
        }
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

/// Makes the pod's netns and wires it to the bridge.
fn connect(node: &Node, ips: &[IpAddr]) -> Result<Netns> {
    let v4 = ips[0];
    let veth = veth(ips)?;
    let number = veth.trim_start_matches("veth");
    let netns = Netns::create(&format!("{}-{number}", node.name()))?;
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

/// The node's end of a pod's link.
fn veth(ips: &[IpAddr]) -> Result<String> {
    let IpAddr::V4(address) = ips[0] else {
        anyhow::bail!("a pod's first address is IPv4");
    };
    let [_, _, high, low] = address.octets();
    Ok(format!("veth{high}-{low}"))
}

/// What the environment says of pods that say nothing.
fn usual_delay() -> Result<Option<Duration>> {
    let Some(value) = std::env::var_os("PROXY_E2E_DELAY_MS") else {
        return Ok(None);
    };
    let number = value.to_str().and_then(|text| text.parse().ok());
    let delay_ms = number.with_context(|| format!("PROXY_E2E_DELAY_MS is {value:?}"))?;
    Ok(Some(Duration::from_millis(delay_ms)))
}
