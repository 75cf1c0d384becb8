//! The agent dies, is stuck, or is tampered with: traffic takes the ordinary path.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use proxy_e2e::{Agent, AgentOptions, Load, Node, Pod, Scene, now_us, until};

/// Failures that four clients may have while the agent dies.
const FEW: usize = 40;

/// After this long without a heartbeat, hooks pass connections through.
const STALE_US: u64 = 3_000_000;

/// Sleeps until a moment: only where the passing of time itself is what is tested.
fn pass_time_until(us: u64) {
    thread::sleep(Duration::from_micros(us.saturating_sub(now_us())));
}

#[test]
fn connections_begun_after_a_kill_never_fail() -> Result<()> {
    let mut scene = Scene::new(2)?;
    let kept = scene
        .client
        .start_load(&Load::new(&scene.web.url()).connections(4).pause_ms(1))?;
    let fresh = Load::new(&scene.web.url())
        .connections(4)
        .fresh()
        .pause_ms(1);
    let fresh = scene.client.start_load(&fresh)?;
    kept.wait_answers(200)?;
    fresh.wait_answers(200)?;
    assert_eq!(
        scene.web.packets()?,
        0,
        "the control: the agent serves all of it"
    );

    let killed_us = now_us();
    scene.agent.process().kill()?;
    let gone_us = now_us();
    kept.wait_answers(kept.answers() + 200)?;
    fresh.wait_answers(fresh.answers() + 200)?;

    let (kept, fresh) = (kept.stop()?, fresh.stop()?);
    for failure in kept.failures.iter().chain(&fresh.failures) {
        assert!(
            failure.connect_us < gone_us,
            "begun {gone_us} or later: {failure:?}"
        );
    }
    // Each of four clients tries again every millisecond until the agent is gone.
    for failures in [&kept.failures, &fresh.failures] {
        let count = failures.len();
        assert!(
            count <= FEW,
            "{count} in {} µs: {failures:?}",
            gone_us - killed_us
        );
    }
    let after = fresh
        .attempts
        .iter()
        .filter(|attempt| attempt.connect_us > gone_us)
        .count();
    assert!(
        after >= 200,
        "{after} connections after the end of the agent"
    );
    assert!(scene.web.dnat_connections()? >= 200, "by the ordinary path");
    Ok(())
}

#[test]
fn a_restarted_agent_captures_again() -> Result<()> {
    let mut scene = Scene::new(2)?;
    let load = Load::new(&scene.web.url()).requests(20).fresh();
    for round in 1..=3 {
        scene.agent.process().kill()?;
        scene.client.load(&load)?.all_ok(20)?;
        assert_eq!(
            scene.web.dnat_connections()?,
            20 * round,
            "without an agent"
        );

        scene.agent = Agent::start(&scene.node)?;
        scene.agent.wait_captured([&scene.client])?;
        scene.agent.wait_endpoints(&scene.web, 2)?;
        scene.client.load(&load)?.all_ok(20)?;
        assert_eq!(
            scene.web.dnat_connections()?,
            20 * round,
            "with an agent again"
        );
        assert_eq!(scene.agent.counter("proxied")?, 20);
    }
    Ok(())
}

#[test]
fn while_the_agent_is_stuck_connections_take_the_ordinary_path() -> Result<()> {
    let scene = Scene::new(2)?;
    scene.agent.signal(Signal::SIGSTOP)?;
    let stopped_us = now_us();

    // Caught in the window: they wait for the agent.
    let window = Load::new(&scene.web.url())
        .requests(4)
        .connections(4)
        .fresh()
        .timeout_ms(30_000);
    let window = scene.client.start_load(&window)?;
    pass_time_until(stopped_us + STALE_US);
    let before = scene.web.dnat_connections()?;
    let load = Load::new(&scene.web.url())
        .connections(2)
        .fresh()
        .pause_ms(5)
        .timeout_ms(2_000);
    let later = scene.client.start_load(&load)?;
    later.wait_answers(200)?;
    pass_time_until(stopped_us + 10_000_000);
    later.wait_answers(later.answers() + 20)?;
    let later = later.stop()?;
    let by_dnat = scene.web.dnat_connections()? - before;
    scene.agent.signal(Signal::SIGCONT)?;

    later.flawless()?;
    assert_eq!(by_dnat, later.connects, "every one by the ordinary path");
    window.finish()?.all_ok(4)?;
    until("connections are captured again", || {
        let proxied = scene.agent.counter("proxied")?;
        scene.client.get(&scene.web.url())?;
        Ok(scene.agent.counter("proxied")? == proxied + 1)
    })?;
    assert!(scene.agent.counter("passed_stale")? >= by_dnat);
    Ok(())
}

#[test]
fn a_client_that_hangs_up_before_the_accept_never_reaches_another_service() -> Result<()> {
    let node = Node::new()?;
    let (a, b) = (node.pod("a").start()?, node.pod("b").start()?);
    let serve = |pod: &Pod| {
        let name = pod.name().to_owned();
        pod.start_server(
            "e2e-http",
            &["serve", "--log", "--port", "8080", "--name", &name],
        )
    };
    let (server_a, server_b) = (serve(&a)?, serve(&b)?);
    let (to_a, to_b) = (node.service("a").to([&a])?, node.service("b").to([&b])?);
    let client = node.pod("client").captured().start()?;
    let agent = AgentOptions::new(&node).workers(1).start()?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&to_a, 1)?;
    agent.wait_endpoints(&to_b, 1)?;

    agent.signal(Signal::SIGSTOP)?;
    for _ in 0..20 {
        for (service, path) in [(&to_a, "for-a"), (&to_b, "for-b")] {
            let request = format!("GET /{path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n");
            let report = client.talk(service.address(), &["--send", &request, "--hang-up"])?;
            assert_eq!(report["error"], serde_json::Value::Null, "{report}");
        }
    }
    agent.signal(Signal::SIGCONT)?;

    for (service, server, own, other) in [
        (&to_a, &server_a, "for-a", "for-b"),
        (&to_b, &server_b, "for-b", "for-a"),
    ] {
        // Behind all that the agent had in its queue.
        until("the service answers", || {
            Ok(client.get(&service.url_of("last")).is_ok())
        })?;
        until("the server has seen it", || {
            Ok(server.stdout().contains("/last"))
        })?;
        let log = server.stdout();
        assert!(!log.contains(other), "{log}");
        assert!(log.matches(own).count() <= 20, "none twice: {log}");
    }
    assert!(agent.counter("proxied")? >= 40, "all were captured");
    Ok(())
}

#[test]
fn a_second_agent_is_refused_by_name() -> Result<()> {
    let scene = Scene::new(2)?;

    let mut second = AgentOptions::new(&scene.node).second().launch()?;
    let status = second.process().wait()?;

    assert_eq!(status.code(), Some(1));
    let (log, holder) = (second.log(), scene.agent.pid().to_string());
    assert!(
        log.contains(&holder),
        "it names the holder, {holder}: {log}"
    );
    scene
        .client
        .load(&Load::new(&scene.web.url()).requests(20).fresh())?
        .all_ok(20)?;
    assert_eq!(
        scene.agent.counter("proxied")?,
        20,
        "the first one is not harmed"
    );
    Ok(())
}
