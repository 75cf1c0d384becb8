//! HTTP/2 by prior knowledge, gRPC, and h2spec.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use proxy_e2e::{Agent, Load, Node, Scene, ServiceOptions};

const PYTHON: &str = "/usr/bin/python3";

/// One echo pod behind a Service made by `make`.
fn scene(make: impl FnOnce(ServiceOptions) -> ServiceOptions) -> Result<Scene> {
    Scene::with(1, make, |agent| agent)
}

#[test]
fn prior_knowledge_is_understood_and_spoken_on() -> Result<()> {
    let scene = scene(|service| service)?;
    let url = scene.web.url_of("x?y=z");

    let h2 = scene
        .client
        .request(&["--http2-prior-knowledge", "-H", "X-Kept: 1", &url])?;
    let h1 = scene.client.request(&["--http1.1", &url])?;
    let load = Load::new(&url).requests(500).connections(2).http2();
    let load = scene.client.load(&load)?;

    assert_eq!(h2.version, "HTTP/2.0", "as received");
    assert_eq!(h1.version, "HTTP/1.1", "as received");
    assert_eq!((h2.path.as_str(), h2.header("x-kept")), ("/x?y=z", "1"));
    assert_eq!(
        h2.authority,
        scene.web.ip().to_string(),
        "the authority is kept"
    );
    load.all_ok(500)?;
    assert_eq!(load.connects, 2);
    assert_eq!(scene.web.packets()?, 0);
    Ok(())
}

#[test]
fn http1_clients_reach_a_service_that_speaks_h2c() -> Result<()> {
    let scene = scene(|service| service.app_protocol("kubernetes.io/h2c"))?;

    let answer = scene
        .client
        .request(&["--http1.1", "--data", "abc", &scene.web.url()])?;

    assert_eq!(answer.version, "HTTP/2.0");
    assert_eq!((answer.method.as_str(), answer.body_bytes), ("POST", 3));
    assert_eq!(answer.peer_ip(), scene.client.ip().to_string());
    assert_eq!(scene.web.packets()?, 0);
    Ok(())
}

#[test]
fn an_offer_to_upgrade_to_h2c_is_declined_and_answered() -> Result<()> {
    let scene = scene(|service| service)?;

    let answer = scene.client.request(&["--http2", &scene.web.url()])?;

    assert_eq!(answer.version, "HTTP/1.1");
    assert_eq!(answer.header("http2-settings"), "");
    assert_eq!(scene.web.packets()?, 0);
    Ok(())
}

#[test]
fn large_bodies_and_many_streams_share_one_connection() -> Result<()> {
    let scene = scene(|service| service)?;
    let url = scene.web.url_of("bytes/3000000");

    let load = Load::new(&url)
        .requests(32)
        .connections(8)
        .http2_on_one_connection();
    let report = scene.client.load(&load)?;

    report.all_ok(32)?;
    assert_eq!(report.connects, 1);
    assert_eq!(report.body_bytes, 32 * 3_000_000);
    assert_eq!(scene.agent.counter("proxied")?, 1);
    assert_eq!(scene.web.packets()?, 0);
    Ok(())
}

#[test]
fn long_response_heads_pass_on_both_protocols() -> Result<()> {
    let scene = scene(|service| service)?;
    let url = scene.web.url_of("header/40000");

    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let status = scene.client.status(&[protocol, &url])?;
        assert_eq!(status, 200, "{protocol}");
    }
    assert_eq!(scene.web.packets()?, 0);
    Ok(())
}

#[test]
fn grpc_calls_of_every_kind_work() -> Result<()> {
    let node = Node::new()?;
    let servers = [node.pod("grpc-0").start()?, node.pod("grpc-1").start()?];
    let fixture = |name: &str| format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    for pod in &servers {
        let mut command = std::process::Command::new(PYTHON);
        command.args([&fixture("grpc_server.py"), pod.name(), "50051"]);
        let mut server = pod.spawn("grpc", command)?;
        server.wait_for_output("ready")?;
        pod.keep(server);
    }
    let service = node
        .service("grpc")
        .port("grpc", 50051, 50051)
        .to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&service, 2)?;
    let address = service.address().to_string();

    let output = client
        .run(PYTHON, &[&fixture("grpc_client.py"), &address])?
        .success()?;

    assert!(
        output.contains("unary 40 of 40 by grpc-0 grpc-1"),
        "one channel, both: {output}"
    );
    assert!(output.contains("stream 100 in order"), "{output}");
    assert!(output.contains("chat 50 in order"), "{output}");
    assert!(
        output.contains("status NOT_FOUND no such thing, metadata kept"),
        "{output}"
    );
    assert!(output.contains("deadline DEADLINE_EXCEEDED"), "{output}");
    assert_eq!(service.packets()?, 0);
    // The control: the ordinary path pins the channel to one of them.
    let bare = node.pod("bare").start()?;
    let output = bare
        .run(PYTHON, &[&fixture("grpc_client.py"), &address])?
        .success()?;
    assert!(!output.contains("by grpc-0 grpc-1"), "{output}");
    Ok(())
}

/// Runs h2spec against an address and returns the names of the cases that failed.
fn h2spec(scene: &Scene, host: &str, port: &str) -> Result<(usize, BTreeSet<String>)> {
    let tool = std::env::var("PROXY_AGENT_H2SPEC")
        .context("PROXY_AGENT_H2SPEC is not set: run `cargo xtask e2e`")?;
    let report = scene.node.scratch().join(format!("h2spec-{port}.xml"));
    let report = report.to_str().context("a path in UTF-8")?;
    let arguments = [
        "-h",
        host,
        "-p",
        port,
        "--timeout",
        "2",
        "--junit-report",
        report,
    ];
    // It ends with status 1 when a case fails: the report tells which.
    scene.client.run(&tool, &arguments)?;
    let report = fs::read_to_string(report).context("h2spec's report")?;
    let cases: Vec<&str> = report.split("<testcase ").skip(1).collect();
    let failed = cases.iter().filter(|case| case.contains("<failure"));
    let name = |case: &&str| case.split(" time=").next().unwrap_or_default().to_owned();
    Ok((cases.len(), failed.map(name).collect()))
}

#[test]
fn h2spec_finds_nothing_that_hyper_alone_does_not_show() -> Result<()> {
    let scene = scene(|service| service.app_protocol("kubernetes.io/h2c"))?;

    let (bare_count, bare) = h2spec(&scene, &scene.servers[0].ip().to_string(), "8080")?;
    let (count, captured) = h2spec(&scene, &scene.web.ip().to_string(), "80")?;

    assert!(
        bare_count > 100,
        "the control: h2spec ran {bare_count} cases"
    );
    assert_eq!(count, bare_count);
    let ours: Vec<&String> = captured.difference(&bare).collect();
    assert!(ours.is_empty(), "only through the agent: {ours:#?}");
    assert!(
        scene.agent.counter("proxied")? > 100,
        "they went through the agent"
    );
    Ok(())
}
