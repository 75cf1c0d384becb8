//! Acceleration: bytes go from socket to socket, and are the same bytes in the same order.

use std::process::Command;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use proxy_e2e::{AgentOptions, Load, Node, Pod, Scene, until};
use serde_json::Value;

const CLIENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/fixtures/accelerated_client.py"
);
const ANNOTATION: &str = "proxy-agent.io/acceleration";

fn accelerating(servers: usize) -> Result<Scene> {
    Scene::with(
        servers,
        |service| service,
        |agent| agent.arguments(&["--acceleration", "on"]),
    )
}

fn acceleration(scene: &Scene) -> Result<Value> {
    Ok(scene.agent.status()?["bpf"]["acceleration"].clone())
}

fn python(scene: &Scene, arguments: &[&str]) -> Command {
    let mut client = Command::new("/usr/bin/python3");
    client
        .arg(CLIENT)
        .args([&scene.web.ip().to_string(), "80"])
        .args(arguments);
    client
}

#[test]
fn the_requests_of_a_connection_go_from_socket_to_socket() -> Result<()> {
    let scene = accelerating(1)?;
    let status = acceleration(&scene)?;
    assert_eq!(status["unusable"], "", "{status}");
    let items = status["self_test"].as_array().map_or(0, Vec::len);
    assert!(items > 0, "{status}");
    assert_eq!(scene.agent.counter("redirected_bytes")?, 0);

    let load = Load::new(&scene.web.url()).requests(200);
    scene.client.load(&load)?.all_ok(200)?;

    assert_eq!(scene.agent.counter("acceleration_entered")?, 1);
    assert_eq!(acceleration(&scene)?["connections_total"], 1);
    // The first requests and answers go by TCP, all others both ways, each of some 100 bytes.
    let messages = scene.agent.counter("redirected")?;
    assert!(messages >= 2 * 190, "{messages}");
    until("the connection is over", || {
        Ok(acceleration(&scene)?["connections_open"] == 0)
    })
}

#[test]
fn only_pods_that_ask_for_it_are_accelerated() -> Result<()> {
    let mut scene = Scene::new(1)?;
    let load = Load::new(&scene.web.url()).requests(50);
    scene.client.load(&load)?.all_ok(50)?;
    for counter in ["acceleration_entered", "redirected"] {
        assert_eq!(scene.agent.counter(counter)?, 0, "{counter}");
    }

    scene.client.annotate(ANNOTATION, Some("enabled"))?;
    until("the pod's connections are accelerated", || {
        scene.client.load(&load)?.all_ok(50)?;
        Ok(scene.agent.counter("redirected")? > 0)
    })?;

    scene.client.annotate(ANNOTATION, Some("disabled"))?;
    until("they are no longer", || {
        let before = scene.agent.counter("redirected")?;
        scene.client.load(&load)?.all_ok(50)?;
        Ok(scene.agent.counter("redirected")? == before)
    })
}

#[test]
fn with_acceleration_off_nobody_is_accelerated() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 1)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").captured();
    let client: Pod = client.annotation(ANNOTATION, "enabled").start()?;
    let agent = AgentOptions::new(&node).arguments(&["--acceleration", "off"]);
    let agent = agent.start()?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 1)?;

    let load = Load::new(&web.url()).requests(50);
    client.load(&load)?.all_ok(50)?;

    assert_eq!(agent.counter("acceleration_entered")?, 0);
    let status = agent.status()?["bpf"]["acceleration"].clone();
    assert_eq!(status["unusable"], "--acceleration off");
    Ok(())
}

#[test]
fn bodies_of_every_size_arrive_whole_in_both_directions() -> Result<()> {
    let scene = accelerating(1)?;

    let client = scene
        .client
        .spawn("client", python(&scene, &["24"]))?
        .finish()?;

    assert_eq!(client.success()?.trim(), "done");
    assert!(scene.agent.counter("redirected")? > 0);
    // What is larger than the window, and what follows it unread, goes by TCP.
    assert!(scene.agent.counter("by_tcp_window")? > 0);
    assert_eq!(scene.web.packets()?, 0);
    Ok(())
}

#[test]
fn a_reader_that_sleeps_holds_no_more_than_without_acceleration() -> Result<()> {
    const BYTES: &str = "268435456";
    let scene = accelerating(1)?;
    let before_kib = scene.agent.memory_kib()?;
    let mut client = scene
        .client
        .spawn("client", python(&scene, &["sleep", BYTES]))?;
    client.wait_for_output("asked")?;
    // Until nothing moves any more.
    let mut last = u64::MAX;
    until("the sleeper's buffers are full", || {
        let file = format!("/proc/{}/net/sockstat", scene.client.sandbox_pid());
        let text = std::fs::read_to_string(file)?;
        let pages = text
            .lines()
            .filter(|line| line.starts_with("TCP:"))
            .find_map(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0);
        let still = pages == last;
        last = pages;
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(still)
    })?;

    let grown_kib = scene.agent.memory_kib()?.saturating_sub(before_kib);
    assert!(grown_kib < 16 * 1024, "the agent grew by {grown_kib} KiB");
    assert!(last * 4 < 64 * 1024, "the sockets hold {last} pages");
    ensure!(scene.agent.counter("redirected")? > 0, "it is accelerated");

    client.input("\n")?;
    client.wait_for_output(&format!("read {BYTES}"))
}

#[test]
fn a_client_that_pipelines_gets_its_answers_in_order_by_tcp() -> Result<()> {
    let scene = accelerating(1)?;
    let get = |n: u32| format!("GET /{n}x HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n");
    let mut all: String = (0..8).map(get).collect();
    all.push_str("GET /last HTTP/1.1\\r\\nHost: web\\r\\nConnection: close\\r\\n\\r\\n");

    let report = scene.client.talk(scene.web.address(), &["--send", &all])?;

    let text = report["received"].as_str().unwrap_or_default();
    let mut from = 0;
    for n in 0..8 {
        let wanted = format!("\"/{n}x\"");
        let at = text[from..].find(&wanted);
        ensure!(at.is_some(), "{wanted} is not in its place: {text}");
        from += at.unwrap_or(0);
    }
    assert_eq!(acceleration(&scene)?["not_accelerated"]["pipelined"], 1);
    Ok(())
}

#[test]
fn http2_and_opaque_connections_go_by_tcp_and_are_counted() -> Result<()> {
    let scene = accelerating(1)?;

    let load = Load::new(&scene.web.url()).requests(50).http2();
    scene.client.load(&load)?.all_ok(50)?;

    assert_eq!(acceleration(&scene)?["not_accelerated"]["http2"], 1);
    assert_eq!(scene.agent.counter("redirected")?, 0);
    Ok(())
}

#[test]
fn many_short_connections_are_answered() -> Result<()> {
    const CONNECTIONS: u32 = 2_000;
    let scene = accelerating(2)?;

    let load = Load::new(&scene.web.url()).requests(CONNECTIONS).fresh();
    let report = scene.client.load(&load.connections(4))?;

    report.all_ok(CONNECTIONS.into())?;
    let entered = scene.agent.counter("acceleration_entered")?;
    assert_eq!(entered, u64::from(CONNECTIONS));
    Ok(())
}

#[test]
fn when_the_agent_is_stopped_under_accelerated_load_no_request_fails() -> Result<()> {
    let scene = accelerating(2)?;
    let load = scene
        .client
        .start_load(&Load::new(&scene.web.url()).connections(4))?;
    load.wait_answers(400)?;
    assert!(scene.agent.counter("redirected")? > 0);

    scene.agent.signal(Signal::SIGTERM)?;
    load.wait_answers(load.answers() + 400)?;

    load.stop()?.flawless()
}
