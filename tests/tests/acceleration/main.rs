//! Acceleration: bytes go from socket to socket, and are the same bytes in the same order.
//!
//! `PROXY_E2E_LONG=1` makes the figures of some tests those of docs/testing.md.

mod between_pods;
mod faults;
mod from_pods;
mod to_pods;

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use proxy_e2e::{Agent, AgentOptions, Load, Node, Pod, Running, Scene, until};
use serde_json::Value;

const CLIENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/fixtures/accelerated_client.py"
);
pub(crate) const ANNOTATION: &str = "proxy-agent.io/acceleration";
/// The agent that accelerates every captured pod.
pub(crate) const ON: [&str; 2] = ["--acceleration", "on"];

pub(crate) fn long() -> bool {
    std::env::var_os("PROXY_E2E_LONG").is_some()
}

/// Whether pods are far from each other.
pub(crate) fn far_apart() -> bool {
    std::env::var_os("PROXY_E2E_DELAY_MS").is_some()
}

/// A client that asks for acceleration.
pub(crate) fn accelerating(servers: usize) -> Result<Scene> {
    let scene = Scene::with(servers, |service| service, |agent| agent.arguments(&ON))?;
    admitted(&scene.agent)?;
    Ok(scene)
}

/// A client and servers that do.
pub(crate) fn accelerating_both(servers: usize) -> Result<Scene> {
    accelerating_all(servers, |_, pod| pod.serve_echo(8080))
}

/// The same, with servers of another kind.
pub(crate) fn accelerating_all(
    servers: usize,
    serve: impl Fn(&Node, &Pod) -> Result<()>,
) -> Result<Scene> {
    let node = Node::new()?;
    let server = |index| {
        let pod = node.pod(&format!("web-{index}")).captured().start()?;
        serve(&node, &pod)?;
        Ok(pod)
    };
    let servers = (0..servers).map(server).collect::<Result<Vec<_>>>()?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let agent = AgentOptions::new(&node).arguments(&ON).start()?;
    agent.wait_captured(servers.iter().chain([&client]))?;
    agent.wait_endpoints(&web, servers.len())?;
    admitted(&agent)?;
    Ok(Scene {
        agent,
        client,
        web,
        servers,
        node,
    })
}

/// Waits until pods that ask are accelerated.
pub(crate) fn admitted(agent: &Agent) -> Result<()> {
    until("the self-test is over", || {
        let status = agent.status()?["bpf"]["acceleration"].clone();
        let items = status["self_test"].as_array().cloned().unwrap_or_default();
        let over = |item: &Value| item["result"] == "passed" || item["result"] == "tolerated";
        let failed = items.iter().find(|item| item["result"] == "failed");
        ensure!(failed.is_none(), "{failed:?}");
        Ok(!items.is_empty() && items.iter().all(over))
    })?;
    let status = agent.status()?["bpf"]["acceleration"].clone();
    ensure!(status["unusable"] == "", "{status}");
    Ok(())
}

/// Size of the file `large`.
pub(crate) const LARGE: usize = 1 << 20;

/// nginx with a small answer and a large file.
pub(crate) fn serve_small_and_large(node: &Node, pod: &Pod) -> Result<()> {
    let files = node.scratch().join("files");
    std::fs::create_dir_all(&files)?;
    std::fs::write(files.join("large"), vec![b'x'; LARGE])?;
    pod.serve_nginx(8080, node.scratch())
}

/// Asks for the one 2,000 times, and for the other 100 times.
pub(crate) fn ask_for_small_and_large(scene: &Scene) -> Result<()> {
    let small = Load::new(&scene.web.url()).requests(2_000).connections(8);
    let large = format!("{}files/large", scene.web.url());
    let large = Load::new(&large).requests(100).connections(4);
    scene.client.load(&small)?.all_ok(2_000)?;
    scene.client.load(&large)?.all_ok(100)
}

/// Requests on kept connections and on new ones that go on, accelerated already.
pub(crate) fn accelerated_loads(scene: &Scene) -> Result<[Running; 2]> {
    let kept = Load::new(&scene.web.url()).connections(4);
    let fresh = Load::new(&scene.web.url()).fresh().pause_ms(1);
    let loads = [
        scene.client.start_load(&kept)?,
        scene.client.start_load(&fresh)?,
    ];
    for load in &loads {
        load.wait_answers(200)?;
    }
    ensure!(scene.agent.counter("redirected")? > 0, "it is accelerated");
    Ok(loads)
}

pub(crate) fn acceleration(scene: &Scene) -> Result<Value> {
    Ok(scene.agent.status()?["bpf"]["acceleration"].clone())
}

pub(crate) fn python(scene: &Scene, arguments: &[&str]) -> Command {
    let mut client = Command::new("/usr/bin/python3");
    client
        .arg(CLIENT)
        .args([&scene.web.ip().to_string(), "80"])
        .args(arguments);
    client
}

/// A client that does not read a large answer: agent and kernel hold little of it, and all of it
/// comes when it does.
#[expect(clippy::print_stdout, reason = "figures, for those who ask for them")]
pub(crate) fn sleeps(scene: &Scene) -> Result<()> {
    let bytes: u64 = if long() { 1 << 30 } else { 1 << 28 };
    let bytes = bytes.to_string();
    let before_kib = scene.agent.memory_kib()?;
    let mut client = scene
        .client
        .spawn("client", python(scene, &["sleep", &bytes]))?;
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
        std::thread::sleep(Duration::from_millis(200));
        Ok(still)
    })?;

    let grown_kib = scene.agent.memory_kib()?.saturating_sub(before_kib);
    ensure!(grown_kib < 16 * 1024, "the agent grew by {grown_kib} KiB");
    ensure!(last * 4 < 64 * 1024, "the sockets hold {last} pages");
    ensure!(scene.agent.counter("redirected")? > 0, "it is accelerated");
    println!(
        "asleep: the agent grew by {grown_kib} KiB, sockets hold {} KiB",
        last * 4
    );

    client.input("\n")?;
    // Each in its own time: all of it may take longer than one thing should.
    for part in 1..=16 {
        client.wait_for_output(&format!("{part} of 16"))?;
    }
    client.wait_for_output(&format!("read {bytes}"))
}
