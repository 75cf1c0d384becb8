//! Who is captured, and what capture does to a connection.

use anyhow::Result;
use proxy_e2e::{Agent, AgentOptions, Layout, Load, Node, NodeOptions, until};
use serde_json::json;

#[test]
fn a_captured_get_is_balanced_by_the_agent_alone() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 3)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 3)?;

    let report = client.load(&Load::new(&web.url()).requests(30))?;

    report.all_ok(30)?;
    assert_eq!(report.connects, 1);
    assert_eq!(
        report.by_endpoint.len(),
        3,
        "one connection reaches every endpoint: {report:?}"
    );
    let peers: Vec<&str> = report.by_peer.keys().map(String::as_str).collect();
    assert_eq!(
        peers,
        [client.ip().to_string()],
        "the server sees the pod's own address"
    );
    assert_eq!(
        web.packets()?,
        0,
        "no packet to the Service address reached the node"
    );
    assert_eq!(agent.counter("proxied")?, 1);
    let traffic = agent.service("web")?["traffic"].clone();
    assert_eq!(traffic["requests_total"], 30, "{traffic}");
    assert_eq!(traffic["success_total"], 30, "{traffic}");
    agent.stop()
}

#[test]
fn an_uncaptured_pod_takes_the_ordinary_path() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 3)?;
    let web = node.service("web").to(&servers)?;
    let (client, captured) = (
        node.pod("batch").start()?,
        node.pod("client").captured().start()?,
    );
    let agent = Agent::start(&node)?;
    agent.wait_captured([&captured])?;
    let reason = agent.wait_not_captured(&client)?;

    let report = client.load(&Load::new(&web.url()).requests(30).fresh())?;

    report.all_ok(30)?;
    assert_eq!(web.dnat_connections()?, 30);
    assert_eq!(agent.counter("proxied")?, 0);
    assert!(!reason.is_empty(), "status says why");
    Ok(())
}

#[test]
fn pod_addresses_and_unknown_ports_are_left_alone() -> Result<()> {
    let node = Node::new()?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 1)?;

    let answer = client.get(&format!("http://{}:8080/", server.ip()))?;
    let unknown = client.curl(&[
        &format!("http://{}:81/", web.ip()),
        "--connect-timeout",
        "1",
    ])?;

    assert_eq!(answer.endpoint, "web-0");
    assert_eq!(answer.peer_ip(), client.ip().to_string());
    assert!(!unknown.status.success(), "nothing serves port 81");
    assert_eq!(agent.counter("proxied")?, 0);
    assert_eq!(agent.counter("passed_no_frontend")?, 2);
    // The control: the same client is captured for the Service's own port.
    client.get(&web.url())?;
    assert_eq!(agent.counter("proxied")?, 1);
    Ok(())
}

#[test]
fn getpeername_shows_the_service_address() -> Result<()> {
    let node = Node::new()?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").dual_stack().to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    let request = ["--send", "GET / HTTP/1.0\\r\\n\\r\\n"];

    let mapped = format!("[::ffff:{}]:80", web.ip()).parse()?;
    for to in [web.address(), web.address_v6()?, mapped] {
        let report = client.talk(to, &request)?;
        let text = report["received"].as_str().unwrap_or_default();
        assert!(text.contains("web-0"), "{to}: {report}");
        assert_eq!(report["getpeername"], json!(to), "{report}");
    }

    assert_eq!(agent.counter("proxied")?, 3);
    assert_eq!(web.packets()?, 0);
    Ok(())
}

#[test]
fn ipv6_services_are_captured() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 2)?;
    let web = node.service("web").dual_stack().to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;

    let report = client.load(&Load::new(&web.url_v6()?).requests(40).fresh())?;

    report.all_ok(40)?;
    assert_eq!(agent.counter("proxied")?, 40);
    assert_eq!(web.packets()?, 0);
    Ok(())
}

#[test]
fn a_pod_without_ipv6_is_captured_on_ipv4() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 1)?;
    let web = node.service("web").dual_stack().to(&servers)?;
    let client = node.pod("client").captured().without_ipv6().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;

    client
        .load(&Load::new(&web.url()).requests(10).fresh())?
        .all_ok(10)?;

    assert_eq!(agent.counter("proxied")?, 10);
    assert_eq!(web.packets()?, 0);
    Ok(())
}

#[test]
fn a_python_client_with_a_dual_stack_socket_is_captured() -> Result<()> {
    let node = Node::new()?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 1)?;

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/dual_stack.py");
    let output = client.run("/usr/bin/python3", &[script, &web.ip().to_string(), "80"])?;

    let output = output.success()?;
    assert!(output.contains("web-0"), "{output}");
    assert!(
        output.contains(&format!("peer ::ffff:{} 80", web.ip())),
        "{output}"
    );
    assert_eq!(agent.counter("proxied")?, 1);
    Ok(())
}

#[test]
fn sockets_that_are_bound_or_used_again_are_captured() -> Result<()> {
    let node = Node::new()?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 1)?;
    let request = [
        "--send",
        "GET / HTTP/1.0\\r\\n\\r\\n",
        "--bind",
        "127.0.0.1:40001",
    ];

    let bound = client.talk(web.address(), &request)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/reconnect.py");
    let again = client
        .run("/usr/bin/python3", &[script, &web.ip().to_string(), "80"])?
        .success()?;

    assert!(
        bound["received"]
            .as_str()
            .unwrap_or_default()
            .contains("web-0"),
        "{bound}"
    );
    assert_eq!(again.matches("x-endpoint: web-0").count(), 2, "{again}");
    assert_eq!(agent.counter("proxied")?, 3);
    Ok(())
}

#[test]
fn the_systemd_layout_of_cgroups_is_captured() -> Result<()> {
    let node = Node::with(NodeOptions {
        layout: Layout::Systemd,
    })?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 1)?;

    client
        .load(&Load::new(&web.url()).requests(10).fresh())?
        .all_ok(10)?;

    assert_eq!(agent.counter("proxied")?, 10);
    assert_eq!(web.packets()?, 0);
    Ok(())
}

#[test]
fn an_agent_inside_kubepods_does_not_capture_itself() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 2)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").start()?;
    let home = node.pod("proxy-agent").namespace("kube-system").start()?;
    let agent = AgentOptions::new(&node)
        .inside(&home)
        .arguments(&["--capture", "all"])
        .start()?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 2)?;

    client
        .load(&Load::new(&web.url()).requests(20).fresh())?
        .all_ok(20)?;

    assert_eq!(
        agent.counter("proxied")?,
        20,
        "the client's connections and no others"
    );
    assert!(
        agent.counter("passed_agent")? > 0,
        "the agent's own were seen and passed"
    );
    assert_eq!(web.packets()?, 0);
    agent.stop()
}

#[test]
fn the_namespace_label_decides_unless_the_pod_says_otherwise() -> Result<()> {
    let node = Node::new()?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").to([&server])?;
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": "shop", "labels": { "proxy-agent.io/capture": "enabled" } },
    });
    node.config().put("namespace.json", &[namespace])?;
    let by_label = node.pod("by-label").namespace("shop").start()?;
    let refusing = node.pod("refusing").namespace("shop");
    let refusing = refusing
        .annotation("proxy-agent.io/capture", "disabled")
        .start()?;
    let agent = Agent::start(&node)?;

    agent.wait_captured([&by_label])?;
    let reason = agent.wait_not_captured(&refusing)?;

    assert_eq!(reason, "disabled");
    by_label.get(&web.url())?;
    assert_eq!((agent.counter("proxied")?, web.dnat_connections()?), (1, 0));
    refusing.get(&web.url())?;
    assert_eq!((agent.counter("proxied")?, web.dnat_connections()?), (1, 1));
    Ok(())
}

#[test]
fn an_annotation_takes_effect_both_ways_while_the_pod_runs() -> Result<()> {
    let node = Node::new()?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").to([&server])?;
    let mut client = node.pod("client").start()?;
    let agent = Agent::start(&node)?;
    agent.wait_not_captured(&client)?;
    agent.wait_endpoints(&web, 1)?;

    for round in 1..=3 {
        client.annotate("proxy-agent.io/capture", Some("enabled"))?;
        agent.wait_captured([&client])?;
        client
            .load(&Load::new(&web.url()).requests(10).fresh())?
            .all_ok(10)?;
        assert_eq!(agent.counter("proxied")?, 10 * round);

        client.annotate("proxy-agent.io/capture", None)?;
        agent.wait_not_captured(&client)?;
        client
            .load(&Load::new(&web.url()).requests(10).fresh())?
            .all_ok(10)?;
        assert_eq!(web.dnat_connections()?, 10 * round);
    }
    Ok(())
}

#[test]
fn a_pod_that_comes_back_with_the_same_uid_is_captured_again() -> Result<()> {
    let node = Node::new()?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").to([&server])?;
    let first = node.pod("client").captured().start()?;
    let uid = first.uid().to_owned();
    let agent = Agent::start(&node)?;
    agent.wait_captured([&first])?;
    agent.wait_endpoints(&web, 1)?;
    first.get(&web.url())?;
    drop(first);
    until("the pod is gone from the kernel's map", || {
        Ok(agent.status()?["overview"]["pods_captured"] == 0)
    })?;

    let second = node.pod("client").captured().uid(&uid).start()?;
    agent.wait_captured([&second])?;
    let answer = second.get(&web.url())?;

    assert_eq!(answer.peer_ip(), second.ip().to_string());
    assert_eq!(agent.counter("proxied")?, 2);
    assert_eq!(web.packets()?, 0);
    Ok(())
}
