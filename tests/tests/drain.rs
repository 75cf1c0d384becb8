//! SIGTERM: what is open ends well, and nobody new is refused.

use anyhow::Result;
use nix::sys::signal::Signal;
use proxy_e2e::{Agent, AgentOptions, Load, Node, Scene, until};

#[test]
fn under_load_no_request_fails() -> Result<()> {
    let scene = Scene::new(2)?;
    let load = Load::new(&scene.web.url()).connections(4);
    let loads = [
        scene.client.start_load(&load)?,
        scene.client.start_load(&load.clone().http2())?,
        scene.client.start_load(&load.fresh().pause_ms(1))?,
    ];
    for load in &loads {
        load.wait_answers(200)?;
    }
    assert_eq!(
        scene.web.packets()?,
        0,
        "the control: the agent serves all of it"
    );

    scene.agent.stop()?;
    for load in &loads {
        load.wait_answers(load.answers() + 200)?;
    }

    for load in loads {
        load.stop()?.flawless()?;
    }
    assert!(
        scene.web.dnat_connections()? >= 200,
        "afterwards by the ordinary path"
    );
    Ok(())
}

#[test]
fn a_request_under_way_is_answered() -> Result<()> {
    let scene = Scene::new(2)?;
    let url = scene.web.url_of("delay/2000");
    let slow = scene.client.start_load(&Load::new(&url).requests(1))?;
    until("the request is under way", || {
        Ok(scene.agent.service("web")?["traffic"]["in_flight"] == 1)
    })?;

    scene.agent.stop()?;

    slow.finish()?.all_ok(1)
}

#[test]
fn a_request_that_crosses_the_goaway_of_an_idle_connection_is_answered() -> Result<()> {
    let mut scene = Scene::new(1)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/goaway.py");
    let mut client = std::process::Command::new("/usr/bin/python3");
    client.args([script, &scene.web.ip().to_string(), "80"]);
    let mut client = scene.client.spawn("goaway", client)?;
    client.wait_for_output("idle")?;
    // Longer idle than a draining agent keeps an idle connection.
    std::thread::sleep(std::time::Duration::from_millis(1_500));

    scene.agent.signal(Signal::SIGTERM)?;

    let output = client.finish()?.success()?;
    assert!(output.contains("answered"), "{output}");
    assert!(scene.agent.process().wait()?.success());
    Ok(())
}

#[test]
fn another_agent_has_the_node_before_the_last_connections_have_ended() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 1)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let places = [node.pod("agent-0").start()?, node.pod("agent-1").start()?];
    let mut first = AgentOptions::new(&node).inside(&places[0]).start()?;
    first.wait_captured([&client])?;
    first.wait_endpoints(&web, 1)?;
    let slow = Load::new(&web.url_of("delay/8000")).requests(1);
    let slow = client.start_load(&slow.timeout_ms(20_000))?;
    until("the request is under way", || {
        Ok(first.service("web")?["traffic"]["in_flight"] == 1)
    })?;

    first.signal(Signal::SIGTERM)?;
    // As one that was refused: it waits beside the first one. Without the node it would end.
    until("the first one has left the node", || {
        Ok(!node.scratch().join("agent.sock").exists())
    })?;
    let second = AgentOptions::new(&node).inside(&places[1]).start()?;

    second.wait_captured([&client])?;
    second.wait_endpoints(&web, 1)?;
    client
        .load(&Load::new(&web.url()).requests(10).fresh())?
        .all_ok(10)?;
    assert_eq!(second.counter("proxied")?, 10);
    assert!(first.process().is_running()?, "the control: it drains");
    slow.finish()?.all_ok(1)?;
    assert!(first.process().wait()?.success());
    assert_eq!(second.probe("/readyz")?.0, 200, "its socket is its own");
    assert!(second.status().is_ok());
    Ok(())
}

#[test]
fn readiness_is_withdrawn_and_liveness_is_not() -> Result<()> {
    let mut scene = Scene::new(2)?;
    let url = scene.web.url_of("delay/3000");
    let slow = scene.client.start_load(&Load::new(&url).requests(1))?;
    until("the request is under way", || {
        Ok(scene.agent.service("web")?["traffic"]["in_flight"] == 1)
    })?;
    assert_eq!(scene.agent.probe("/readyz")?.0, 200, "the control");

    scene.agent.signal(Signal::SIGTERM)?;

    until("/readyz says that it drains", || {
        let (code, body) = scene.agent.probe("/readyz")?;
        Ok(code == 503 && body.contains("drain"))
    })?;
    assert_eq!(scene.agent.probe("/healthz")?.0, 200);
    slow.finish()?.all_ok(1)?;
    assert!(scene.agent.process().wait()?.success());
    Ok(())
}

#[test]
fn an_opaque_connection_goes_on_while_the_agent_drains() -> Result<()> {
    let node = Node::new()?;
    let server = node.pod("echo-0").start()?;
    server.serve(
        "e2e-tcp",
        &[
            "serve", "--name", "echo-0", "--port", "9000", "--mode", "greet",
        ],
    )?;
    let echo = node.service("echo").annotated("mode", "proxy");
    let echo = echo.port("tcp", 9000, 9000).to([&server])?;
    let client = node.pod("client").captured().start()?;
    let mut agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&echo, 1)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/chat.py");
    let mut chat = std::process::Command::new("/usr/bin/python3");
    chat.args([script, &echo.ip().to_string(), "9000"]);
    let mut chat = client.spawn("chat", chat)?;
    chat.wait_for_output("HELLO echo-0")?;

    agent.signal(Signal::SIGTERM)?;
    until("the agent drains", || Ok(agent.probe("/readyz")?.0 == 503))?;
    chat.input("still here\n")?;
    chat.wait_for_output("got still here")?;

    let output = chat.finish()?.success()?;
    assert!(output.contains("END echo-0"), "{output}");
    assert!(agent.process().wait()?.success());
    assert_eq!(echo.packets()?, 0, "all of it went through the agent");
    Ok(())
}
