//! The sidecars: static configuration, and an nftables redirect in the netns of their pod.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use proxy_e2e::{Node, Pod, Process};
use serde_json::{Value, json};

/// Threads that serve, as many as the agent's workers.
pub(super) const THREADS: u8 = 2;

/// One port of a sidecar, and where what arrives there goes.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) listen: u16,
    pub(super) http2: bool,
    pub(super) to: Vec<SocketAddr>,
}

/// Starts Envoy in a pod: the leanest configuration that does the job.
pub(super) fn envoy(node: &Node, pod: &Pod, hops: &[Hop], binary: &Path) -> Result<Process> {
    let config = json!({ "static_resources": {
        "listeners": hops.iter().map(envoy_listener).collect::<Vec<_>>(),
        "clusters": hops.iter().map(envoy_cluster).collect::<Vec<_>>(),
    }});
    let path = node.scratch().join(format!("{}.envoy.json", pod.name()));
    fs::write(&path, config.to_string())?;
    let mut command = Command::new(binary);
    command.arg("--config-path").arg(path);
    command.args(["--concurrency", &THREADS.to_string()]);
    command.args(["--disable-hot-restart", "--log-level", "warning"]);
    pod.spawn("envoy", command)
}

fn envoy_listener(hop: &Hop) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": typed("filters.http.router.v3.Router") },
    });
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": name(hop) } });
    let manager = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": typed(
                "filters.network.http_connection_manager.v3.HttpConnectionManager"
            ),
            "stat_prefix": name(hop),
            "http_filters": [router],
            "route_config": {
                "virtual_hosts": [{ "name": "web", "domains": ["*"], "routes": [route] }],
            },
        },
    });
    json!({
        "address": { "socket_address": { "address": "0.0.0.0", "port_value": hop.listen } },
        "filter_chains": [{ "filters": [manager] }],
    })
}

fn envoy_cluster(hop: &Hop) -> Value {
    let endpoint = |to: &SocketAddr| {
        let address = json!({ "address": to.ip(), "port_value": to.port() });
        json!({ "endpoint": { "address": { "socket_address": address } } })
    };
    let mut cluster = json!({
        "name": name(hop),
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name(hop),
            "endpoints": [{ "lb_endpoints": hop.to.iter().map(endpoint).collect::<Vec<_>>() }],
        },
    });
    if hop.http2 {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({ options: {
            "@type": typed("upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { "http2_protocol_options": {} },
        }});
    }
    cluster
}

fn name(hop: &Hop) -> String {
    format!("hop-{}", hop.listen)
}

fn typed(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

/// Starts HAProxy in a pod.
pub(super) fn haproxy(node: &Node, pod: &Pod, hops: &[Hop]) -> Result<Process> {
    let mut config = String::new();
    for hop in hops {
        let (listen, name) = (hop.listen, name(hop));
        let proto = if hop.http2 { " proto h2" } else { "" };
        config += &format!("frontend in-{name}\n    bind 0.0.0.0:{listen}{proto}\n");
        config += &format!("    default_backend {name}\nbackend {name}\n    balance roundrobin\n");
        for (number, to) in hop.to.iter().enumerate() {
            config += &format!("    server s{number} {to}{proto}\n");
        }
    }
    start_haproxy(node, pod, "sidecar", &config)
}

/// Starts HAProxy in a pod, with these frontends and backends.
pub(crate) fn start_haproxy(node: &Node, pod: &Pod, name: &str, proxies: &str) -> Result<Process> {
    let config = format!(
        "global
    nbthread {THREADS}
    maxconn 8000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
{proxies}"
    );
    let path = node.scratch().join(format!("{name}.haproxy.cfg"));
    fs::write(&path, config)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(path);
    pod.spawn("haproxy", command)
}

/// Sends what the pod's processes send to these addresses to its sidecar, as a mesh's init
/// container does.
pub(super) fn redirect_outbound(pod: &Pod, from_to: &[(SocketAddr, u16)]) -> Result<()> {
    let rule = |(from, to): &(SocketAddr, u16)| {
        let (ip, port): (IpAddr, u16) = (from.ip(), from.port());
        format!("ip daddr {ip} tcp dport {port} redirect to :{to};")
    };
    redirect(pod, "output", from_to.iter().map(rule))
}

/// Sends what arrives for these ports of the pod to its sidecar.
pub(super) fn redirect_inbound(pod: &Pod, from_to: &[(u16, u16)]) -> Result<()> {
    let rule = |(from, to): &(u16, u16)| format!("tcp dport {from} redirect to :{to};");
    redirect(pod, "prerouting", from_to.iter().map(rule))
}

fn redirect(pod: &Pod, hook: &str, rules: impl Iterator<Item = String>) -> Result<()> {
    let rules: String = rules.collect::<Vec<_>>().join(" ");
    let table = format!(
        "table ip sidecar {{ chain redirected {{ type nat hook {hook} priority -100; {rules} }}; }}"
    );
    let output = pod.run("nft", &[&table])?;
    ensure!(output.status.success(), "nft: {}", output.stderr);
    Ok(())
}
