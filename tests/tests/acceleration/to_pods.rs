//! What the agent sends to endpoints whose pods ask for acceleration, and what they answer.

use anyhow::{Result, ensure};
use proxy_e2e::{AgentOptions, Load, Node, Scene, until};

use crate::{
    ANNOTATION, accelerating_all, accelerating_both, acceleration, admitted,
    ask_for_small_and_large, python, serve_small_and_large, sleeps,
};

#[test]
fn the_requests_of_a_pooled_connection_go_from_socket_to_socket() -> Result<()> {
    let scene = accelerating_both(1)?;

    let load = Load::new(&scene.web.url()).requests(200);
    scene.client.load(&load)?.all_ok(200)?;

    assert_eq!(scene.agent.counter("acceleration_accepted")?, 1);
    assert_eq!(acceleration(&scene)?["to_pods_total"], 1);
    // The first requests and answers of each half go by TCP, all others four times.
    let messages = scene.agent.counter("redirected")?;
    ensure!(messages >= 4 * 190, "{messages}");
    Ok(())
}

/// It is edge-triggered, stops after short reads, and sends files from the page cache.
#[test]
fn nginx_serves_small_answers_and_large_ones() -> Result<()> {
    let scene = accelerating_all(1, serve_small_and_large)?;

    ask_for_small_and_large(&scene)?;

    let messages = scene.agent.counter("redirected")?;
    ensure!(messages >= 4 * 1_900, "{messages}");
    ensure!(acceleration(&scene)?["to_pods_total"].as_u64() > Some(0));
    Ok(())
}

/// The client asks for nothing, one of two servers does.
#[test]
fn only_connections_to_pods_that_ask_for_it_are_accelerated() -> Result<()> {
    let node = Node::new()?;
    let mut server = node.pod("web-0").captured().start()?;
    server.serve_echo(8080)?;
    let web = node.service("web").to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = AgentOptions::new(&node).start()?;
    agent.wait_captured([&client, &server])?;
    agent.wait_endpoints(&web, 1)?;
    let load = Load::new(&web.url()).requests(50);
    client.load(&load)?.all_ok(50)?;
    for counter in ["acceleration_accepted", "redirected"] {
        assert_eq!(agent.counter(counter)?, 0, "{counter}");
    }

    // Pooled connections stay as they are: only a new one is of the new kind.
    server.annotate(ANNOTATION, Some("enabled"))?;
    admitted(&agent)?;
    until("new connections to it are accelerated", || {
        client.load(&load.clone().connections(4))?.all_ok(50)?;
        Ok(agent.counter("redirected")? > 0)
    })?;
    assert_eq!(
        agent.counter("acceleration_entered")?,
        0,
        "the client's own"
    );
    Ok(())
}

#[test]
fn bodies_of_every_size_arrive_whole_through_both_halves() -> Result<()> {
    let scene = accelerating_both(1)?;

    let client = scene
        .client
        .spawn("client", python(&scene, &["24"]))?
        .finish()?;

    assert_eq!(client.success()?.trim(), "done");
    assert!(acceleration(&scene)?["to_pods_total"].as_u64() > Some(0));
    assert!(scene.agent.counter("by_tcp_window")? > 0);
    assert_eq!(scene.web.packets()?, 0);
    Ok(())
}

#[test]
fn a_client_that_sleeps_holds_the_servers_answer_back() -> Result<()> {
    sleeps(&accelerating_both(1)?)
}

/// A connection that no agent made is ready at the server, and is never joined.
#[test]
fn connections_past_the_agent_go_by_tcp() -> Result<()> {
    let scene = accelerating_both(1)?;
    let server = &scene.servers[0];

    let url = format!("http://{}:8080/", server.ip());
    let load = Load::new(&url).requests(50);
    scene.client.load(&load)?.all_ok(50)?;
    // The server's own, over its loopback.
    server.get("http://127.0.0.1:8080/")?;

    assert_eq!(scene.agent.counter("acceleration_accepted")?, 1);
    assert_eq!(scene.agent.counter("redirected")?, 0);
    Ok(())
}

#[test]
fn http2_and_opaque_connections_to_pods_go_by_tcp_and_are_counted() -> Result<()> {
    let scene = accelerating_both(1)?;

    let load = Load::new(&scene.web.url()).requests(50).http2();
    scene.client.load(&load)?.all_ok(50)?;
    let talk = ["--send", "SSH-2.0-x\\r\\n\\r\\n"];
    scene.client.talk(scene.web.address(), &talk)?;

    let not = acceleration(&scene)?["not_accelerated"].clone();
    assert_eq!(not["to_pod_opaque"], 1, "{not}");
    ensure!(not["to_pod_http2"].as_u64() > Some(0), "{not}");
    assert_eq!(scene.agent.counter("redirected")?, 0);
    Ok(())
}

/// An upgraded connection is no messages any more.
#[test]
fn a_tunnel_to_a_pod_goes_on_by_tcp() -> Result<()> {
    let scene: Scene = accelerating_both(1)?;
    let upgrade = "GET /up HTTP/1.1\\r\\nHost: web\\r\\nConnection: upgrade\\r\\n\
                   Upgrade: echo\\r\\n\\r\\n";
    let load = Load::new(&scene.web.url()).requests(20);
    scene.client.load(&load)?.all_ok(20)?;
    ensure!(scene.agent.counter("redirected")? > 0, "it is joined");

    let client = scene
        .client
        .spawn("client", python(&scene, &["upgrade", upgrade]))?;
    assert_eq!(client.finish()?.success()?.trim(), "done");
    Ok(())
}
