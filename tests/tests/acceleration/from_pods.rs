//! What pods send to the agent, and what it answers.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use proxy_e2e::{AgentOptions, Load, Node, Pod, Scene, slowness, until};

use crate::{ANNOTATION, accelerating, acceleration, long, python, sleeps};

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
fn only_pods_that_ask_for_it_are_accelerated_and_the_first_has_the_kernel_tried() -> Result<()> {
    let mut scene = Scene::new(1)?;
    let results = |scene: &Scene| -> Result<Vec<String>> {
        let status = acceleration(scene)?;
        let items = status["self_test"].as_array().cloned().unwrap_or_default();
        let result = |item: &serde_json::Value| item["result"].as_str().map(str::to_owned);
        Ok(items.iter().filter_map(result).collect())
    };
    let before = results(&scene)?;
    ensure!(!before.is_empty(), "each is named");
    ensure!(
        before.iter().all(|one| one == "not run: no pod asks"),
        "{before:?}"
    );
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
    let after = results(&scene)?;
    let known = ["passed", "tolerated"];
    ensure!(after.iter().all(|one| known.contains(&&**one)), "{after:?}");

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
    sleeps(&accelerating(1)?)
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
    // No HTTP, by its first bytes. The server says so, and closes.
    let talk = ["--send", "SSH-2.0-x\\r\\n\\r\\n"];
    scene.client.talk(scene.web.address(), &talk)?;
    assert_eq!(acceleration(&scene)?["not_accelerated"]["opaque"], 1);
    assert_eq!(scene.agent.counter("redirected")?, 0);
    Ok(())
}

#[test]
fn many_short_connections_are_answered() -> Result<()> {
    let connections = if long() { 100_000 } else { 2_000 };
    let scene = accelerating(2)?;

    let load = Load::new(&scene.web.url()).requests(connections).fresh();
    let report = scene.client.load(&load.connections(4))?;

    report.all_ok(connections.into())?;
    let entered = scene.agent.counter("acceleration_entered")?;
    assert_eq!(entered, u64::from(connections));
    // One request is nothing to join for.
    let status = acceleration(&scene)?;
    assert_eq!(status["connections_total"], 0, "{status}");
    let mut why = status["not_accelerated"].clone();
    // An emulated machine may stand still: a client is silent for so long then that nobody takes it for HTTP.
    if slowness() > 1
        && let Some(why) = why.as_object_mut()
    {
        why.remove("opaque");
    }
    assert_eq!(why, serde_json::json!({}), "{status}");
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
