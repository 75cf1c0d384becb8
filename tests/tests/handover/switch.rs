//! Handovers that come off: loads, open streams, names, pods, places, and the figures.

use anyhow::Result;
use nix::sys::signal::Signal;
use proxy_e2e::{Agent, AgentOptions, Attempt, Load, Node, Scene, until};

use crate::{attached, flawless, loads, more_answers, python};

#[test]
fn under_load_back_and_forth_no_request_fails_and_none_passes_by() -> Result<()> {
    let mut scene = Scene::new(2)?;
    let loads = loads(&scene.client, &scene.web)?;

    for workers in [2, 1, 3, 2, 4] {
        let successor = AgentOptions::new(&scene.node).workers(workers).succeed()?;
        successor.wait_captured([&scene.client])?;
        more_answers(&loads)?;
        assert!(
            scene.agent.process().is_running()?,
            "or it would be restarted"
        );
        std::mem::replace(&mut scene.agent, successor).stop()?;
        more_answers(&loads)?;
    }

    flawless(loads)?;
    assert_eq!(scene.web.packets()?, 0, "not one by the ordinary path");
    assert!(scene.agent.counter("proxied")? > 0, "the last one's hooks");
    Ok(())
}

/// Prints the table of docs/handover.md.
#[test]
#[ignore = "a measurement: takes a minute or two"]
fn twenty_handovers_in_figures() -> Result<()> {
    const ROUNDS: usize = 20;
    let mut scene = Scene::new(2)?;
    let load = Load::new(&scene.web.url()).connections(8);
    let names = [
        "HTTP/1.1, kept alive",
        "HTTP/2, kept alive",
        "a connection each",
    ];
    let loads = [
        scene.client.start_load(&load)?,
        scene.client.start_load(&load.clone().http2())?,
        scene.client.start_load(&load.fresh().pause_ms(1))?,
    ];
    more_answers(&loads)?;
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let successor = AgentOptions::new(&scene.node).succeed()?;
        let log = successor.log();
        let line = log.lines().find(|line| line.contains("took the node over"));
        took.extend(
            line.and_then(|line| line.split("took=").nth(1))
                .map(str::to_owned),
        );
        more_answers(&loads)?;
        std::mem::replace(&mut scene.agent, successor).stop()?;
        more_answers(&loads)?;
    }
    println!("| {ROUNDS} handovers | requests | connections | failed |\n|---|---|---|---|");
    for (name, load) in names.into_iter().zip(loads) {
        let report = load.stop()?;
        let (requests, failed) = (report.answered, report.failures.len());
        println!("| {name} | {requests} | {} | {failed} |", report.connects);
        let mut durations_ms: Vec<_> = report.attempts.iter().map(duration_ms).collect();
        durations_ms.sort_unstable();
        if let Some(longest_ms) = durations_ms.last() {
            println!("longest of these: {longest_ms} ms");
        }
    }
    println!("passed by: {}", scene.web.dnat_connections()?);
    println!(
        "from asking for the links to having the node: {}",
        took.join(" ")
    );
    Ok(())
}

fn duration_ms(attempt: &Attempt) -> u64 {
    (attempt.done_us - attempt.connect_us) / 1_000
}

#[test]
fn without_a_handover_connections_pass_by_meanwhile() -> Result<()> {
    let mut scene = Scene::new(2)?;
    let fresh = Load::new(&scene.web.url())
        .connections(4)
        .fresh()
        .pause_ms(1);
    let fresh = scene.client.start_load(&fresh)?;
    fresh.wait_answers(100)?;
    assert_eq!(scene.web.dnat_connections()?, 0, "the control");

    scene.agent.process().kill()?;
    scene.agent = Agent::start(&scene.node)?;
    scene.agent.wait_captured([&scene.client])?;

    assert!(scene.web.dnat_connections()? > 0, "the gap");
    fresh.stop()?;
    Ok(())
}

#[test]
fn what_is_open_goes_on_while_the_predecessor_drains() -> Result<()> {
    let node = Node::new()?;
    let server = node.pod("server").start()?;
    let mut grpc = server.spawn("grpc", python("grpc_server.py", &["server", "50051"]))?;
    grpc.wait_for_output("ready")?;
    server.serve(
        "e2e-tcp",
        &[
            "serve", "--name", "server", "--port", "9000", "--mode", "greet",
        ],
    )?;
    let calls = node
        .service("calls")
        .port("grpc", 50051, 50051)
        .to([&server])?;
    let lines = node
        .service("lines")
        .annotated("mode", "proxy")
        .port("tcp", 9000, 9000)
        .to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&calls, 1)?;
    agent.wait_endpoints(&lines, 1)?;
    let call = python("grpc_chat.py", &[&calls.address().to_string()]);
    let mut call = client.spawn("call", call)?;
    call.input("before\n")?;
    call.wait_for_output("got before")?;
    let chat = python("chat.py", &[&lines.ip().to_string(), "9000"]);
    let mut chat = client.spawn("chat", chat)?;
    chat.wait_for_output("HELLO server")?;

    let successor = AgentOptions::new(&node).succeed()?;
    call.input("after\n")?;
    call.wait_for_output("got after")?;
    chat.input("after\n")?;
    chat.wait_for_output("got after")?;
    // As kubelet does once the successor is ready.
    agent.signal(Signal::SIGTERM)?;
    call.input("at the end\n")?;
    call.wait_for_output("got at the end")?;

    assert!(call.finish()?.success()?.contains("ended well"));
    assert!(chat.finish()?.success()?.contains("END server"));
    assert_eq!((calls.packets()?, lines.packets()?), (0, 0));
    drop(successor);
    Ok(())
}

#[test]
fn getpeername_still_answers_with_the_service_address() -> Result<()> {
    let scene = Scene::new(1)?;
    let (ip, port) = (scene.web.ip().to_string(), "80");
    let mut connection = scene
        .client
        .spawn("peer", python("peer_name.py", &[&ip, port]))?;
    connection.wait_for_output("connected")?;

    let successor = AgentOptions::new(&scene.node).succeed()?;
    connection.input("handed-over\n")?;
    connection.wait_for_output(&format!("handed-over {ip} {port}"))?;

    connection.finish()?.success()?;
    // The control, maps that are not shared, is a test of the agent's `bpf`.
    drop(successor);
    Ok(())
}

#[test]
fn pods_that_come_and_go_meanwhile_are_captured_and_forgotten() -> Result<()> {
    let mut scene = Scene::new(1)?;
    let going = scene.node.pod("going").captured().start()?;
    scene.agent.wait_captured([&going])?;
    let mut successor = AgentOptions::new(&scene.node).launch()?;
    until("the successor prepares", || {
        Ok(scene.agent.log().contains("prepares to take over"))
    })?;
    successor.signal(Signal::SIGSTOP)?;
    let gone = going.uid().to_owned();
    drop(going);
    let coming = scene.node.pod("coming").captured().start()?;
    scene.agent.wait_captured([&coming])?;

    successor.signal(Signal::SIGCONT)?;
    successor.wait_serving()?;

    successor.wait_captured([&coming, &scene.client])?;
    let load = Load::new(&scene.web.url()).requests(10).fresh();
    for pod in [&coming, &scene.client] {
        pod.load(&load)?.all_ok(10)?;
    }
    assert_eq!(scene.web.packets()?, 0);
    until("the one that went is forgotten", || {
        let pods = successor.status()?["pods"].to_string();
        Ok(!pods.contains(&gone))
    })?;
    std::mem::replace(&mut scene.agent, successor).stop()
}

#[test]
fn agents_in_pods_of_their_own_change_places_and_leave_nothing_behind() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 2)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let places = [node.pod("agent-0").start()?, node.pod("agent-1").start()?];
    let first = AgentOptions::new(&node).inside(&places[0]).start()?;
    first.wait_captured([&client])?;
    first.wait_endpoints(&web, 2)?;
    let loads = loads(&client, &web)?;

    let second = AgentOptions::new(&node).inside(&places[1]).succeed()?;
    more_answers(&loads)?;
    assert_eq!(second.probe("/readyz")?.0, 200);
    until("the first one says who serves", || {
        let (code, reason) = first.probe("/readyz")?;
        let successor = format!("handed over to pid {}", second.pid());
        Ok(code == 503 && reason.contains(&successor))
    })?;
    assert_eq!(first.probe("/healthz")?.0, 200, "or it would be restarted");

    first.stop()?;
    more_answers(&loads)?;
    flawless(loads)?;
    assert_eq!(web.packets()?, 0);
    assert_eq!(attached(&node)?, 6, "the control");
    second.stop()?;
    assert_eq!(attached(&node)?, 0);
    let left = std::fs::read_dir(node.scratch())?.flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().contains(".sock"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}
