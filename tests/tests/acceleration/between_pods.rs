//! Direct connections between two pods of the node that both ask for it, without the agent.

use anyhow::{Result, ensure};
use proxy_e2e::{Agent, Load, Node, Pod, Scene, until};

use crate::{
    ANNOTATION, LARGE, accelerated_loads, admitted, ask_for_small_and_large, far_apart, long,
    python, serve_small_and_large,
};

/// A Service in direct mode, and what its client and its servers ask for.
fn scene(client: &str, server: &str, serve: impl Fn(&Node, &Pod) -> Result<()>) -> Result<Scene> {
    let node = Node::new()?;
    let pod = |name: &str, asks: &str| {
        let pod = node.pod(name).captured().annotation(ANNOTATION, asks);
        pod.start()
    };
    let servers = vec![pod("web-0", server)?];
    for server in &servers {
        serve(&node, server)?;
    }
    let web = node.service("web").annotated("mode", "direct");
    let web = web.to(&servers)?;
    let client = pod("client", client)?;
    let agent = Agent::start(&node)?;
    agent.wait_captured(servers.iter().chain([&client]))?;
    agent.wait_endpoints(&web, 1)?;
    admitted(&agent)?;
    Ok(Scene {
        agent,
        client,
        web,
        servers,
        node,
    })
}

fn echo(_: &Node, pod: &Pod) -> Result<()> {
    pod.serve_echo(8080)
}

fn both_ask() -> Result<Scene> {
    scene("direct", "direct", echo)
}

#[test]
fn bodies_of_every_size_arrive_whole_from_socket_to_socket() -> Result<()> {
    let scene = both_ask()?;

    let client = scene
        .client
        .spawn("client", python(&scene, &["24"]))?
        .finish()?;

    assert_eq!(client.success()?.trim(), "done");
    assert_eq!(scene.agent.counter("acceleration_paired")?, 2);
    let unread = scene.agent.counter("by_tcp_unread")?;
    // 24 bodies to the server and as many back, 36,000 and 25,000 bytes each on the average.
    let redirected = scene.agent.counter("redirected_bytes")?;
    if far_apart() {
        // A client may be connected before its server is: what it says then goes by TCP, and so does the rest of
        // that request.
        let early = scene.agent.counter("by_tcp_gone")?;
        ensure!(unread == 0 || early > 0, "{unread} behind none");
        ensure!(redirected > 22 * 60_000, "{redirected}");
    } else {
        assert_eq!(unread, 0);
        ensure!(redirected > 24 * 60_000, "{redirected}");
    }
    assert_eq!(scene.agent.counter("proxied")?, 0);
    Ok(())
}

#[test]
fn one_of_them_alone_does_not_get_it() -> Result<()> {
    for (client, server) in [("direct", "enabled"), ("enabled", "direct")] {
        let scene = scene(client, server, echo)?;

        let load = Load::new(&scene.web.url()).requests(50);
        scene.client.load(&load)?.all_ok(50)?;

        ensure!(scene.agent.counter("direct")? > 0, "{client}, {server}");
        for counter in ["acceleration_paired", "redirected"] {
            let count = scene.agent.counter(counter)?;
            assert_eq!(count, 0, "{client}, {server}: {counter}");
        }
    }
    Ok(())
}

/// It is edge-triggered, stops after short reads, and sends files from the page cache.
#[test]
fn nginx_serves_small_answers_and_large_ones_without_the_agent() -> Result<()> {
    let scene = scene("direct", "direct", serve_small_and_large)?;

    ask_for_small_and_large(&scene)?;

    ensure!(scene.agent.counter("redirected_bytes")? > 100 * LARGE as u64);
    Ok(())
}

#[test]
fn short_connections_between_pods_are_each_others_alone() -> Result<()> {
    let count = if long() { 100_000 } else { 2_000 };
    let scene = both_ask()?;

    let load = Load::new(&scene.web.url()).requests(count).connections(8);
    scene.client.load(&load.fresh())?.all_ok(count.into())?;

    let paired = scene.agent.counter("acceleration_paired")?;
    assert_eq!(paired, 2 * u64::from(count));
    until("all are forgotten", || {
        let status = scene.agent.status()?;
        let maps = status["bpf"]["maps"].as_array().cloned();
        let mut maps = maps.unwrap_or_default().into_iter();
        let pairs = maps.find(|map| map["name"] == "PAIRS");
        let pairs = pairs.map(|pairs| pairs["entries"].clone());
        ensure!(pairs.is_some(), "{}", status["bpf"]["maps"]);
        Ok(pairs == Some(0.into()))
    })
}

/// The kernel alone holds what lies unread, and goes on with what comes after it.
#[test]
fn a_killed_agent_takes_nothing_with_it_that_lies_unread_between_pods() -> Result<()> {
    const BYTES: u64 = 4 << 20;
    let mut scene = both_ask()?;
    let bytes = BYTES.to_string();
    let mut client = scene
        .client
        .spawn("client", python(&scene, &["sleep", &bytes]))?;
    client.wait_for_output("asked")?;
    until("all of it lies unread", || {
        Ok(scene.agent.counter("redirected_bytes")? > BYTES)
    })?;

    // Until it is gone: its descriptors and its locks are.
    scene.agent.process().kill()?;
    let successor = Agent::start(&scene.node)?;
    successor.wait_captured(scene.servers.iter().chain([&scene.client]))?;

    client.input("\n")?;
    client.wait_for_output(&format!("read {BYTES}"))?;
    ensure!(client.finish()?.success().is_ok());
    Ok(())
}

#[test]
fn a_handover_does_not_touch_connections_between_pods() -> Result<()> {
    let mut scene = both_ask()?;
    let loads = accelerated_loads(&scene)?;

    for _ in 0..2 {
        let successor = proxy_e2e::AgentOptions::new(&scene.node).succeed()?;
        let pods = scene.servers.iter().chain([&scene.client]);
        successor.wait_captured(pods)?;
        admitted(&successor)?;
        std::mem::replace(&mut scene.agent, successor).stop()?;
        until(
            "the successor's programs accelerate new connections",
            || {
                loads
                    .iter()
                    .try_for_each(|load| load.wait_answers(load.answers() + 50))?;
                Ok(scene.agent.counter("acceleration_paired")? > 0)
            },
        )?;
    }

    loads
        .into_iter()
        .try_for_each(|load| load.stop()?.flawless())
}
