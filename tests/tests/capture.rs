//! Which pods are captured, and what becomes of those whose capture is undecided or stuck.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use proxy_e2e::{Agent, AgentOptions, Load, NGINX_BODY, Node, Scene, until};

#[test]
fn nginx_and_curl_see_each_other_as_always() -> Result<()> {
    let node = Node::new()?;
    let server = node.pod("nginx-0").start()?;
    let files = node.scratch().join("files");
    fs::create_dir(&files)?;
    fs::write(files.join("text"), "0123456789")?;
    server.serve_nginx(8080, node.scratch())?;
    let web = node.service("web").to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 1)?;

    let body = client.curl(&[&web.url()])?.success()?;
    let range = client
        .curl(&["--range", "2-4", &web.url_of("files/text")])?
        .success()?;
    let missing = client.status(&[&web.url_of("files/nothing")])?;

    assert_eq!(
        (body.as_str(), range.as_str(), missing),
        (NGINX_BODY, "234", 404)
    );
    assert_eq!(agent.counter("proxied")?, 3);
    assert_eq!(web.packets()?, 0);
    Ok(())
}

#[test]
fn a_pod_with_a_sidecar_keeps_it_unless_it_says_otherwise() -> Result<()> {
    let scene = Scene::new(1)?;
    let sidecar = |name: &str| {
        let pod = scene.node.pod(name).namespace("mesh");
        pod.annotation(
            "sidecar.istio.io/status",
            "{\"containers\":[\"istio-proxy\"]}",
        )
    };
    let label = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": "mesh", "labels": { "proxy-agent.io/capture": "enabled" } },
    });
    scene.node.config().put("namespace.json", &[label])?;
    let left_alone = sidecar("left-alone").start()?;
    let insisting = sidecar("insisting").captured().start()?;

    let reason = until_reason(&scene.agent, &left_alone)?;
    scene.agent.wait_captured([&insisting])?;

    assert_eq!(reason, "sidecar");
    Ok(())
}

/// The reason that `status` gives once it knows the pod's object.
fn until_reason(agent: &Agent, pod: &proxy_e2e::Pod) -> Result<String> {
    proxy_e2e::until_some("status knows the pod", || {
        let reason = agent.wait_not_captured(pod)?;
        Ok((!reason.starts_with("unknown")).then_some(reason))
    })
}

#[test]
fn a_pod_that_nobody_knows_passes_by_default() -> Result<()> {
    let scene = Scene::new(1)?;
    let unknown = scene.node.pod("unknown").without_manifest().start()?;
    scene.agent.wait_not_captured(&unknown)?;

    unknown
        .load(&Load::new(&scene.web.url()).requests(5).fresh())?
        .all_ok(5)?;

    assert_eq!(scene.web.dnat_connections()?, 5);
    assert_eq!(scene.agent.counter("proxied")?, 0);
    Ok(())
}

#[test]
fn a_pod_that_nobody_knows_is_refused_if_so_asked() -> Result<()> {
    let scene = Scene::with(
        1,
        |service| service,
        |agent| agent.arguments(&["--unknown-pods", "refuse"]),
    )?;
    let unknown = scene.node.pod("unknown").without_manifest().start()?;
    scene.agent.wait_not_captured(&unknown)?;

    let report = unknown.load(&Load::new(&scene.web.url()).requests(5).fresh())?;

    assert_eq!(
        (report.answered, report.failures.len()),
        (0, 5),
        "{report:?}"
    );
    assert!(scene.agent.counter("refused_unknown_pod")? >= 5);
    assert_eq!(scene.web.packets()?, 0);
    // The control: a pod that is known is served.
    scene
        .client
        .load(&Load::new(&scene.web.url()).requests(5).fresh())?
        .all_ok(5)
}

#[test]
fn pods_that_were_there_are_not_refused_when_the_agent_comes_back() -> Result<()> {
    let refuse = ["--unknown-pods", "refuse"];
    let mut scene = Scene::with(1, |service| service, |agent| agent.arguments(&refuse))?;
    let uncaptured = scene.node.pod("uncaptured").start()?;
    until("it is decided", || {
        Ok(scene.agent.wait_not_captured(&uncaptured)? == "not-enabled")
    })?;
    let fresh = Load::new(&scene.web.url()).connections(4).fresh();
    let fresh = fresh.pause_ms(1);
    let beside = uncaptured.start_load(&fresh)?;
    for _ in 0..3 {
        scene.agent.process().kill()?;
        let without = scene.client.start_load(&fresh)?;
        without.wait_answers(50)?;

        scene.agent = AgentOptions::new(&scene.node).arguments(&refuse).start()?;
        scene.agent.wait_captured([&scene.client])?;
        until("unknown pods are refused again", || {
            Ok(scene.agent.log().contains("unknown pods are refused"))
        })?;
        without.wait_answers(without.answers() + 100)?;
        beside.wait_answers(beside.answers() + 100)?;

        without.stop()?.flawless()?;
        assert_eq!(scene.agent.counter("refused_unknown_pod")?, 0);
    }
    beside.stop()?.flawless()?;
    // The control: a pod that nobody knows.
    let unknown = scene.node.pod("unknown").without_manifest().start()?;
    scene.agent.wait_not_captured(&unknown)?;
    let refused = unknown.load(&Load::new(&scene.web.url()).requests(5).fresh())?;
    assert_eq!(refused.answered, 0);
    assert!(scene.agent.counter("refused_unknown_pod")? >= 5);
    Ok(())
}

#[test]
fn a_new_pod_may_have_the_name_of_an_old_one() -> Result<()> {
    let scene = Scene::new(1)?;
    for round in 1..=3 {
        let pod = scene.node.pod("again").captured().start()?;
        scene.agent.wait_captured([&pod])?;
        assert_eq!(scene.client.get(&scene.web.url())?.endpoint, "web-0");
        assert_eq!(pod.get(&scene.web.url())?.peer_ip(), pod.ip().to_string());
        assert_eq!(scene.agent.counter("proxied")?, 2 * round);
    }
    assert_eq!(scene.web.packets()?, 0);
    Ok(())
}

#[test]
fn while_the_agent_is_stuck_a_pod_that_fails_closed_is_refused() -> Result<()> {
    let scene = Scene::new(1)?;
    let closed = scene.node.pod("closed").captured();
    let closed = closed
        .annotation("proxy-agent.io/on-failure", "closed")
        .start()?;
    scene.agent.wait_captured([&closed])?;
    let load = Load::new(&scene.web.url())
        .requests(5)
        .fresh()
        .timeout_ms(2_000);
    closed.load(&load)?.all_ok(5)?;

    scene.agent.signal(Signal::SIGSTOP)?;
    // The hooks call a heartbeat stale after 3 s; there is nobody to ask whether they do yet.
    thread::sleep(Duration::from_millis(3_500));
    let refused = closed.load(&load)?;
    let passed = scene.client.load(&load)?;
    scene.agent.signal(Signal::SIGCONT)?;

    assert_eq!(
        (refused.answered, refused.failures.len()),
        (0, 5),
        "{refused:?}"
    );
    passed.all_ok(5)?;
    assert_eq!(scene.web.dnat_connections()?, 5, "the one that fails open");
    until("it is served again", || {
        Ok(closed.load(&load)?.failures.is_empty())
    })
}

#[test]
fn a_start_under_traffic_captures_what_comes_after_it() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 2)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let fresh = client.start_load(&Load::new(&web.url()).connections(2).fresh().pause_ms(1))?;
    fresh.wait_answers(50)?;

    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 2)?;
    let before = agent.counter("proxied")?;
    fresh.wait_answers(fresh.answers() + 100)?;

    fresh.stop()?.flawless()?;
    assert!(agent.counter("proxied")? >= before + 90);
    agent.stop()
}
