//! The sidecars: static configuration, and an nftables redirect in the client's own netns.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use proxy_e2e::{Node, Pod, Process, Service};
use serde_json::json;

/// Port that connections to the Service are redirected to.
const PORT: u16 = 15_001;
/// Threads that serve, as many as the agent's workers.
const THREADS: u8 = 2;

/// Starts Envoy in the client's pod.
pub(super) fn envoy(
    node: &Node,
    client: &Pod,
    service: &Service,
    servers: &[Pod],
    binary: &Path,
) -> Result<Process> {
    let endpoints: Vec<_> = servers
        .iter()
        .map(|pod| {
            let address = json!({ "address": pod.ip(), "port_value": 8080 });
            json!({ "endpoint": { "address": { "socket_address": address } } })
        })
        .collect();
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": typed("filters.http.router.v3.Router") },
    });
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "web" } });
    let manager = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": typed(
                "filters.network.http_connection_manager.v3.HttpConnectionManager"
            ),
            "stat_prefix": "web",
            "http_filters": [router],
            "route_config": {
                "virtual_hosts": [{ "name": "web", "domains": ["*"], "routes": [route] }],
            },
        },
    });
    let config = json!({ "static_resources": {
        "listeners": [{
            "address": { "socket_address": { "address": "0.0.0.0", "port_value": PORT } },
            "filter_chains": [{ "filters": [manager] }],
        }],
        "clusters": [{
            "name": "web",
            "type": "STATIC",
            "lb_policy": "ROUND_ROBIN",
            "load_assignment": {
                "cluster_name": "web",
                "endpoints": [{ "lb_endpoints": endpoints }],
            },
        }],
    }});
    let path = node.scratch().join("envoy.json");
    fs::write(&path, config.to_string())?;
    redirect(client, service)?;
    let mut command = Command::new(binary);
    command.arg("--config-path").arg(path);
    command.args([
        "--concurrency",
        &THREADS.to_string(),
        "--disable-hot-restart",
    ]);
    command.args(["--log-level", "warning"]);
    client.spawn("envoy", command)
}

fn typed(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

/// Starts HAProxy in the client's pod.
pub(super) fn haproxy(
    node: &Node,
    client: &Pod,
    service: &Service,
    servers: &[Pod],
) -> Result<Process> {
    let servers: Vec<String> = servers
        .iter()
        .map(|pod| format!("    server {} {}:8080", pod.name(), pod.ip()))
        .collect();
    let config = format!(
        "global
    nbthread {THREADS}
    maxconn 4000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend in
    bind 0.0.0.0:{PORT}
    default_backend web
backend web
    balance roundrobin
{}
",
        servers.join("\n")
    );
    let path = node.scratch().join("haproxy.cfg");
    fs::write(&path, config)?;
    redirect(client, service)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(path);
    client.spawn("haproxy", command)
}

/// Sends the pod's connections to the Service to the sidecar, as a mesh's init container does.
fn redirect(client: &Pod, service: &Service) -> Result<()> {
    let (ip, port) = (service.ip(), service.address().port());
    let rules = format!(
        "table ip sidecar {{ chain out {{ type nat hook output priority -100; \
         ip daddr {ip} tcp dport {port} redirect to :{PORT}; }}; }}"
    );
    let output = client.run("nft", &[&rules])?;
    ensure!(output.status.success(), "nft: {}", output.stderr);
    Ok(())
}
