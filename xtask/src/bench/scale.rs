//! A large configuration: what it takes to hold it, and how soon a change of one endpoint is in
//! effect.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use proxy_e2e::{Agent, AgentOptions, Node, Pod, Process, Service, now_us};
use serde_json::{Value, json};

use super::figures::{Measure, Sample};
use super::kind::Kind;
use super::scenario::Programs;
use super::sidecar::THREADS;
use crate::process::{Threads, bpf_maps_kib, cpu_us, resident_kib};

/// Services in one file.
const PER_FILE: u32 = 100;
/// Endpoints of each Service.
const ENDPOINTS: u32 = 10;
/// Times that the endpoint changes.
const CHANGES: usize = 7;
/// After which all that a change sets off is over, for the workers too.
const SETTLE: Duration = Duration::from_millis(500);
/// For the agent to have read all objects.
const READ_LIMIT: Duration = Duration::from_secs(120);

/// Memory with `services` direct Services, then one sample for each change of an endpoint: of a
/// proxied Service and of a direct one, which take turns.
pub(super) fn run(
    programs: &Programs,
    services: u32,
    trains: bool,
) -> Result<(Sample, Vec<(Kind, Sample)>)> {
    let node = Node::new()?;
    let mut number = 0;
    while number < services {
        let objects: Vec<Value> = (number..services.min(number + PER_FILE))
            .flat_map(objects)
            .collect();
        node.config()
            .put(&format!("many-{number}.yaml"), &objects)?;
        number += PER_FILE;
    }
    let servers = [node.echo_pod("server-0")?, node.echo_pod("server-1")?];
    // A change is a file alone: what stands in for kube-proxy takes longer than the agent.
    let proxied = node.service("web").without_dnat().to(&servers[..1])?;
    let direct = node.service("direct").annotated("mode", "direct");
    let direct = direct.without_dnat().to(&servers[..1])?;
    let client = node.pod("client").captured().start()?;
    let mut agent = AgentOptions::new(&node)
        .workers(THREADS)
        .binary(&programs.agent)
        .log("warn")
        .launch()?;
    proxy_e2e::until_some_within(READ_LIMIT, "the agent is ready", || {
        Ok(agent.wait_ready().is_ok().then_some(()))
    })?;
    agent.wait_captured([&client])?;
    for service in [&proxied, &direct] {
        agent.wait_endpoints(service, 1)?;
    }
    // What reading took is given back.
    sleep(4 * SETTLE);
    let held = held(&agent)?;
    let mut changes = Vec::new();
    for change in 1..=CHANGES {
        let server = &servers[change % servers.len()];
        for (kind, service) in [(Kind::Agent, &proxied), (Kind::AgentDirect, &direct)] {
            let sample = self::change(&agent, &client, service, server, kind, programs)?;
            changes.push((kind, sample));
        }
    }
    if trains {
        agent.stop()?;
    }
    Ok((held, changes))
}

fn held(agent: &Agent) -> Result<Sample> {
    let resident = resident_kib(agent.pid())?;
    let maps = bpf_maps_kib(agent.pid())?;
    let number = |kib: u64| u32::try_from(kib).map(f64::from);
    Ok(vec![
        (Measure::ResidentKib, number(resident)?),
        (Measure::MapsKib, number(maps)?),
        (Measure::MemoryKib, number(resident + maps)?),
    ])
}

/// Moves the Service to `server` and back and there again: once watched by requests, for the time
/// until they go there; once without any request, for the workers' share.
fn change(
    agent: &Agent,
    client: &Pod,
    service: &Service,
    server: &Pod,
    kind: Kind,
    programs: &Programs,
) -> Result<Sample> {
    let mut watch = watch(client, service, server, kind, programs)?;
    let begun_us = now_us();
    service.set_endpoints([server])?;
    let status = watch.wait()?;
    anyhow::ensure!(status.success(), "watch: {}", watch.stderr());
    let said = watch.stdout();
    let seen_us: u64 = said.lines().last().context("a time")?.parse()?;
    sleep(SETTLE);

    let workers_us = || cpu_us(agent.pid(), Threads::Only("worker"));
    let before = workers_us()?;
    sleep(SETTLE);
    let without = workers_us()? - before;
    // The same endpoints under another name: a change for the agent, none for the next round.
    let before = workers_us()?;
    service.set_endpoints([server, server])?;
    sleep(SETTLE);
    let with = workers_us()? - before;
    let elapsed_us = f64::from(u32::try_from(seen_us.saturating_sub(begun_us))?);
    Ok(vec![
        (Measure::ElapsedMs, elapsed_us / 1e3),
        (Measure::WorkersMs, (with - without).max(0.0) / 1e3),
    ])
}

/// Requests from the client until one is answered by `server`.
fn watch(
    client: &Pod,
    service: &Service,
    server: &Pod,
    kind: Kind,
    programs: &Programs,
) -> Result<Process> {
    let mut command = Command::new(&programs.bench);
    command.args(["watch", "--url", &service.url()]);
    // What is direct is decided for each connection.
    if kind == Kind::AgentDirect {
        command.arg("--fresh");
    }
    command.args(["--text", &format!("\"endpoint\":\"{}\"", server.name())]);
    let mut process = client.spawn("watch", command)?;
    process.wait_for_output("ready")?;
    Ok(process)
}

/// One Service with its EndpointSlice. It is direct: the kernel has all of its endpoints too.
fn objects(number: u32) -> [Value; 2] {
    let name = format!("many-{number}");
    let [_, _, high, low] = number.to_be_bytes();
    let port = json!({ "name": "tcp", "port": 80, "targetPort": 8080, "protocol": "TCP" });
    let endpoint = |index: u32| {
        let [_, second, third, fourth] = (number * ENDPOINTS + index).to_be_bytes();
        json!({
            "addresses": [format!("10.{}.{third}.{fourth}", 128 + second)],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "targetRef": { "kind": "Pod", "namespace": "many", "name": format!("{name}-{index}") },
        })
    };
    let cluster_ip = format!("10.112.{high}.{low}");
    [
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "namespace": "many", "name": name },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": cluster_ip,
                "clusterIPs": [cluster_ip],
                "ports": [port],
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": "many",
                "name": format!("{name}-ipv4"),
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
            "ports": [{ "name": "tcp", "protocol": "TCP", "port": 8080 }],
        }),
    ]
}
