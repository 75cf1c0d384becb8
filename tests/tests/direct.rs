//! Direct mode: connections that go from the pod straight to an endpoint.

use std::process::Command;

use anyhow::{Context, Result};
use proxy_e2e::{Agent, AgentOptions, Load, Node, Pod, Process, Service, until};
use serde_json::Value;

fn echo_pod(node: &Node, name: &str) -> Result<Pod> {
    let pod = node.pod(name).start()?;
    let arguments = ["serve", "--name", name, "--port", "9000", "--mode", "greet"];
    pod.serve("e2e-tcp", &arguments)?;
    Ok(pod)
}

/// A Service `db` of opaque TCP.
fn service<'a>(
    node: &Node,
    annotation: Option<(&str, &str)>,
    pods: impl IntoIterator<Item = &'a Pod>,
) -> Result<Service> {
    let service = node.service("db").port("tcp", 9000, 9000);
    match annotation {
        Some((name, value)) => service.annotated(name, value),
        None => service,
    }
    .to(pods)
}

/// A connection that stays open until its input ends.
fn chat(client: &Pod, service: &Service) -> Result<Process> {
    python(client, service, "chat.py")
}

fn python(client: &Pod, service: &Service, script: &str) -> Result<Process> {
    let script = format!("{}/fixtures/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new("/usr/bin/python3");
    python.args([&script, &service.ip().to_string(), "9000"]);
    client.spawn("python", python)
}

/// The entry of an endpoint in `status`.
fn endpoint(agent: &Agent, address: &str) -> Result<Value> {
    let status = agent.status()?;
    let all = status["endpoints"].as_array().context("endpoints")?;
    let found = all.iter().find(|one| one["address"] == address);
    found
        .cloned()
        .with_context(|| format!("{address} is not in status"))
}

fn address(pod: &Pod) -> String {
    format!("{}:9000", pod.ip())
}

#[test]
fn tcp_goes_straight_to_an_endpoint_and_shows_the_service() -> Result<()> {
    let node = Node::new()?;
    let server = echo_pod(&node, "db-0")?;
    let db = service(&node, None, [&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&db, 1)?;

    let report = client.talk(db.address(), &["--listen-first", "--half-close"])?;

    assert_eq!(report["error"], Value::Null, "{report}");
    assert_eq!(report["getpeername"], serde_json::json!(db.address()));
    let said = report["received"].as_str().unwrap_or_default();
    assert!(said.contains(&format!(" {} ", client.ip())), "{said}");
    assert_eq!(db.packets()?, 0);
    assert_eq!(agent.service("db")?["mode"], "direct");
    let counters = [agent.counter("direct")?, agent.counter("proxied")?];
    assert_eq!(counters, [1, 0]);
    let shown = endpoint(&agent, &address(&server))?;
    assert_eq!(shown["direct_total"], 1, "{shown}");
    assert!(shown["direct_connect_us"].as_u64() > Some(0), "{shown}");
    Ok(())
}

#[test]
fn a_pod_reaches_itself_through_its_service() -> Result<()> {
    let node = Node::new()?;
    let server = node.pod("db-0").captured().start()?;
    let arguments = [
        "serve", "--name", "db-0", "--port", "9000", "--mode", "greet",
    ];
    server.serve("e2e-tcp", &arguments)?;
    let db = service(&node, None, [&server])?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&server])?;
    agent.wait_endpoints(&db, 1)?;

    let report = server.talk(db.address(), &["--listen-first", "--half-close"])?;

    assert_eq!(report["error"], Value::Null, "{report}");
    assert_eq!(agent.counter("direct")?, 1);
    assert_eq!(db.packets()?, 0);
    Ok(())
}

#[test]
fn http_can_go_direct_too_and_endpoints_change_without_a_failed_request() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 3)?;
    let web = node.service("web").annotated("mode", "direct");
    let web = web.to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 3)?;
    let load = client.start_load(&Load::new(&web.url()).connections(4).fresh())?;
    load.wait_answers(100)?;

    for _ in 0..5 {
        web.set_endpoints(&servers[..2])?;
        agent.wait_endpoints(&web, 2)?;
        load.wait_answers(load.answers() + 100)?;
        web.set_endpoints(&servers)?;
        agent.wait_endpoints(&web, 3)?;
        load.wait_answers(load.answers() + 100)?;
    }

    let report = load.stop()?;
    report.flawless()?;
    assert_eq!(report.by_endpoint.len(), 3, "{:?}", report.by_endpoint);
    assert_eq!((agent.counter("proxied")?, web.packets()?), (0, 0));
    Ok(())
}

#[test]
fn without_an_endpoint_connections_are_refused_and_counted() -> Result<()> {
    let node = Node::new()?;
    let db = service(&node, None, [])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&db, 0)?;

    let report = client.talk(db.address(), &["--send", "x"])?;

    assert_eq!(report["error"], "ConnectionRefused", "{report}");
    assert_eq!(agent.counter("refused_no_endpoint")?, 1);
    Ok(())
}

#[test]
fn connections_to_an_endpoint_that_is_gone_are_ended_unless_they_are_to_stay() -> Result<()> {
    let node = Node::new()?;
    let servers = [echo_pod(&node, "db-0")?, echo_pod(&node, "db-1")?];
    // By chance, or each new connection would go to the endpoint that has fewer.
    let db = service(&node, Some(("balance", "random")), &servers)?;
    let kept = node.service("kept").port("tcp", 9000, 9000);
    let kept = kept.annotated("balance", "random");
    let kept = kept.annotated("stale-connections", "keep").to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&db, 2)?;
    agent.wait_endpoints(&kept, 2)?;
    let mut ended = python(&client, &db, "hold.py")?;
    ended.wait_for_output("HELLO db-")?;
    let first = usize::from(ended.stdout().contains("HELLO db-1"));
    let mut stays = Vec::new();
    for service in [&kept, &db] {
        // One that has the same endpoint and asked to be left alone, one to the other endpoint.
        let wanted = if service.name() == "kept" {
            first
        } else {
            1 - first
        };
        let chat = until_greeted(&client, service, wanted)?;
        stays.push(chat);
    }

    db.set_endpoints([&servers[1 - first]])?;
    kept.set_endpoints([&servers[1 - first]])?;

    ended.wait_for_output("ended by ECONNABORTED")?;
    for chat in &mut stays {
        chat.input("still here\n")?;
        chat.wait_for_output("got still here")?;
    }
    Ok(())
}

/// A connection to one of the two servers: they are chosen by chance.
fn until_greeted(client: &Pod, service: &Service, wanted: usize) -> Result<Process> {
    for _ in 0..50 {
        let mut chat = chat(client, service)?;
        chat.wait_for_output("HELLO db-")?;
        if chat.stdout().contains(&format!("HELLO db-{wanted}")) {
            return Ok(chat);
        }
    }
    anyhow::bail!("50 connections, and none to db-{wanted}")
}

#[test]
fn an_endpoint_that_refuses_is_left_out_and_shown() -> Result<()> {
    let node = Node::new()?;
    let mut servers = Vec::new();
    for name in ["db-0", "db-1", "db-2"] {
        servers.push(echo_pod(&node, name)?);
    }
    // It is ready, as far as anybody says, and nothing listens.
    let broken = node.pod("broken").start()?;
    let db = service(
        &node,
        Some(("balance", "round-robin")),
        servers.iter().chain([&broken]),
    )?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&db, 4)?;
    let talk = || client.talk(db.address(), &["--listen-first", "--half-close"]);

    let mut refused = 0;
    while refused < 5 {
        refused += u32::from(talk()?["error"] == "ConnectionRefused");
    }
    until("it is ejected", || {
        Ok(endpoint(&agent, &address(&broken))?["ejected_ms"].as_u64() > Some(0))
    })?;
    for _ in 0..12 {
        let report = talk()?;
        assert_eq!(report["error"], Value::Null, "{report}");
    }

    let shown = endpoint(&agent, &address(&broken))?;
    assert_eq!(shown["direct_failures_total"], 5, "{shown}");
    let healthy = endpoint(&agent, &address(&servers[0]))?;
    assert_eq!(healthy["ejected_ms"], 0, "the control: {healthy}");
    Ok(())
}

#[test]
fn the_next_agent_goes_on_counting_open_connections() -> Result<()> {
    let node = Node::new()?;
    let server = echo_pod(&node, "db-0")?;
    let db = service(&node, None, [&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&db, 1)?;
    let mut chat = chat(&client, &db)?;
    chat.wait_for_output("HELLO db-0")?;

    let successor = AgentOptions::new(&node).succeed()?;
    let open = || Ok(endpoint(&successor, &address(&server))?["direct_open"].clone());
    let before: Result<Value> = open();
    assert_eq!(before?, 1);
    chat.input("after\n")?;
    chat.wait_for_output("got after")?;
    chat.finish()?.success()?;

    until("it is counted down", || Ok(open()? == 0))?;
    drop(agent);
    Ok(())
}
