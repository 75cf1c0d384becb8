//! Handovers that do not come off, and agents that end in the middle of one.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use proxy_e2e::{AgentOptions, Load, Node, Process, Scene, until};

use crate::{attached, flawless, loads, more_answers, python};

/// A successor that goes no further than `step`, once it has said `text`.
fn half_successor(scene: &Scene, protocol: &str, step: &str, text: &str) -> Result<Process> {
    let socket = scene.agent.handover_socket();
    let socket = socket.to_string_lossy();
    let command = python("half_successor.py", &[&socket, protocol, step]);
    let mut half = scene.node.spawn("half", command)?;
    half.wait_for_output(text)?;
    Ok(half)
}

#[test]
fn a_successor_that_vanishes_half_way_harms_nobody() -> Result<()> {
    let scene = Scene::new(2)?;
    let loads = loads(&scene.client, &scene.web)?;
    for (step, text) in [
        ("hello", "offer"),
        ("estate", "7 files 4 listeners"),
        ("estate", "7 files 4 listeners"),
    ] {
        let mut half = half_successor(&scene, "1", step, text)?;
        more_answers(&loads)?;
        half.kill()?;
        more_answers(&loads)?;
    }
    flawless(loads)?;
    assert_eq!(scene.web.packets()?, 0);
    assert_eq!(attached(&scene.node)?, 6);
    Ok(())
}

#[test]
fn the_predecessor_takes_back_the_hooks_that_a_successor_left_switched() -> Result<()> {
    let scene = Scene::new(1)?;
    let load = Load::new(&scene.web.url()).requests(10).fresh();
    scene.client.load(&load)?.all_ok(10)?;
    assert_eq!(scene.web.dnat_connections()?, 0);

    let mut half = half_successor(&scene, "1", "hook", "connect4 passes")?;
    scene.client.load(&load)?.all_ok(10)?;
    assert_eq!(
        scene.web.dnat_connections()?,
        10,
        "the control: it has the hook"
    );
    half.kill()?;

    until("the predecessor has its hook again", || {
        let before = scene.web.dnat_connections()?;
        scene.client.load(&load)?.all_ok(10)?;
        Ok(scene.web.dnat_connections()? == before)
    })?;
    assert_eq!(scene.agent.probe("/readyz")?.0, 200);
    Ok(())
}

#[test]
fn a_successor_of_another_protocol_is_refused_and_the_next_one_is_not() -> Result<()> {
    let mut scene = Scene::new(1)?;
    let loads = loads(&scene.client, &scene.web)?;

    let half = half_successor(&scene, "2", "hello", "refuse handover protocol 2")?;
    more_answers(&loads)?;
    drop(half);

    let log = scene.agent.log();
    assert!(log.contains("no handover; serving as before"), "{log}");
    let successor = AgentOptions::new(&scene.node).succeed()?;
    std::mem::replace(&mut scene.agent, successor).stop()?;
    more_answers(&loads)?;
    flawless(loads)
}

#[test]
fn a_successor_that_is_killed_while_it_prepares_harms_nobody() -> Result<()> {
    let scene = Scene::new(2)?;
    let loads = loads(&scene.client, &scene.web)?;
    for attempt in 1..=3 {
        let mut successor = AgentOptions::new(&scene.node).launch()?;
        until("it prepares", || {
            let log = scene.agent.log();
            Ok(log.matches("prepares to take over").count() == attempt)
        })?;
        successor.process().kill()?;
        more_answers(&loads)?;
    }
    flawless(loads)?;
    assert_eq!(scene.web.packets()?, 0);
    assert_eq!(attached(&scene.node)?, 6);
    Ok(())
}

#[test]
fn a_refused_successor_says_why_and_takes_the_node_when_it_is_free() -> Result<()> {
    let node = Node::new()?;
    let web = node.echo_pod("web")?;
    let service = node.service("web").to([&web])?;
    let client = node.pod("client").captured().start()?;
    let socket = node.scratch().join("agent.handover.sock");
    let (cgroup, socket) = (node.kubepods().to_string_lossy(), socket.to_string_lossy());
    let holder = python("refusing_holder.py", &[&cgroup, &socket]);
    let mut holder = node.spawn("holder", holder)?;
    holder.wait_for_output("ready")?;

    let mut agent = AgentOptions::new(&node).launch()?;
    until("/readyz says why", || {
        let (code, reason) = agent.probe("/readyz")?;
        Ok(code == 503 && reason.contains("full moon"))
    })?;
    assert_eq!(agent.probe("/healthz")?.0, 200, "nothing to restart it for");
    assert_eq!(attached(&node)?, 0);

    holder.kill()?;
    agent.wait_serving()?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&service, 1)?;
    let load = Load::new(&service.url()).requests(10).fresh();
    client.load(&load)?.all_ok(10)?;
    assert_eq!(agent.counter("proxied")?, 10);
    Ok(())
}

#[test]
fn a_predecessor_that_ends_while_the_successor_prepares_leaves_it_a_free_node() -> Result<()> {
    let mut scene = Scene::new(1)?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut successor = AgentOptions::new(&scene.node).launch()?;
        until("the successor prepares", || {
            Ok(scene.agent.log().contains("prepares to take over"))
        })?;
        successor.signal(Signal::SIGSTOP)?;
        scene.agent.signal(signal)?;
        scene.agent.process().wait()?;
        assert_eq!(attached(&scene.node)?, 0, "the successor holds no hook yet");
        let load = Load::new(&scene.web.url()).requests(10).fresh();
        scene.client.load(&load)?.all_ok(10)?;

        successor.signal(Signal::SIGCONT)?;
        successor.wait_serving()?;
        successor.wait_captured([&scene.client])?;
        scene.client.load(&load)?.all_ok(10)?;
        assert_eq!(successor.counter("proxied")?, 10);
        assert_eq!(attached(&scene.node)?, 6);
        scene.agent = successor;
    }
    Ok(())
}

#[test]
fn a_predecessor_that_is_told_to_end_meanwhile_finishes_the_handover_or_takes_it_back() -> Result<()>
{
    let mut scene = Scene::new(1)?;
    let loads = loads(&scene.client, &scene.web)?;
    let mut half = half_successor(&scene, "1", "estate", "7 files 4 listeners")?;
    scene.agent.signal(Signal::SIGTERM)?;
    more_answers(&loads)?;
    assert_eq!(scene.web.packets()?, 0, "it waits for the successor's word");

    half.kill()?;

    assert!(scene.agent.process().wait()?.success(), "and then drains");
    assert_eq!(attached(&scene.node)?, 0);
    more_answers(&loads)?;
    flawless(loads)
}

#[test]
fn a_predecessor_that_is_killed_right_after_the_switch_takes_nothing_with_it() -> Result<()> {
    let mut scene = Scene::new(2)?;
    let fresh = Load::new(&scene.web.url())
        .connections(4)
        .fresh()
        .pause_ms(1);
    let mut successor = AgentOptions::new(&scene.node).launch()?;
    until("the node has changed hands", || {
        Ok(successor.log().contains("took the node over"))
    })?;
    scene.agent.process().kill()?;
    successor.wait_serving()?;

    scene.client.load(&fresh.requests(200))?.all_ok(200)?;
    assert_eq!(scene.web.packets()?, 0);
    assert_eq!(attached(&scene.node)?, 6);
    scene.agent = successor;
    Ok(())
}

#[test]
fn a_predecessor_whose_successor_ends_comes_back_for_the_free_node_and_only_then() -> Result<()> {
    let mut scene = Scene::new(1)?;
    let load = Load::new(&scene.web.url()).requests(10).fresh();
    let middle = AgentOptions::new(&scene.node).succeed()?;
    let last = AgentOptions::new(&scene.node).succeed()?;
    middle.stop()?;
    until("it looks whether the node is free", || {
        Ok(scene
            .agent
            .log()
            .contains("looking whether the node is free"))
    })?;
    // The control: longer than it looks at a node that is free.
    thread::sleep(Duration::from_secs(5));
    assert!(scene.agent.process().is_running()?, "another one has it");
    last.signal(Signal::SIGTERM)?;

    let ended = scene.agent.process().wait()?;

    assert_eq!(ended.code(), Some(1), "for kubelet to start it again");
    let log = scene.agent.log();
    assert!(log.contains("start again to serve it"), "{log}");
    scene.agent = AgentOptions::new(&scene.node).start()?;
    scene.agent.wait_captured([&scene.client])?;
    scene.client.load(&load)?.all_ok(10)?;
    assert_eq!(scene.agent.counter("proxied")?, 10);
    Ok(())
}
