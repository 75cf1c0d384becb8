//! How requests spread over endpoints.

use anyhow::Result;
use proxy_e2e::{Agent, AgentOptions, Load, Node, Report};

const REQUESTS: u64 = 3_000;

/// 0.999 quantile of the chi-squared distribution with two degrees of freedom.
const CHI_SQUARED_LIMIT: f64 = 13.816;

/// 3,000 requests from two captured pods over three endpoints: half of each pod's on connections
/// that are kept, half on fresh ones.
fn three_thousand(round_robin: bool) -> Result<Report> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 3)?;
    let service = node.service("web");
    let web = if round_robin {
        service.round_robin()
    } else {
        service
    }
    .to(&servers)?;
    let clients = [
        node.pod("a").captured().start()?,
        node.pod("b").captured().start()?,
    ];
    let agent = AgentOptions::new(&node)
        .arguments(&["--balance-seed", "42"])
        .start()?;
    agent.wait_captured(&clients)?;
    agent.wait_endpoints(&web, 3)?;

    let kept = Load::new(&web.url()).requests(750).connections(4);
    let fresh = kept.clone().fresh();
    let mut running = Vec::new();
    for client in &clients {
        running.push(client.start_load(&kept)?);
        running.push(client.start_load(&fresh)?);
    }
    let mut report = Report::default();
    for load in running {
        report = report.and(&load.finish()?);
    }

    report.all_ok(REQUESTS)?;
    assert_eq!(report.connects, 2 * (4 + 750), "{:?}", report.by_endpoint);
    assert_eq!(
        report.by_peer.len(),
        2,
        "each pod comes with its own address"
    );
    assert_eq!(web.packets()?, 0);
    agent.stop()?;
    Ok(report)
}

#[test]
fn round_robin_gives_each_of_three_endpoints_its_third() -> Result<()> {
    let report = three_thousand(true)?;

    for endpoint in ["web-0", "web-1", "web-2"] {
        let count = report.of(endpoint);
        assert!(
            (980..=1_020).contains(&count),
            "{endpoint} had {count}: {:?}",
            report.by_endpoint
        );
    }
    Ok(())
}

#[test]
fn power_of_two_choices_favours_nobody_among_equals() -> Result<()> {
    let report = three_thousand(false)?;

    let expected = 1_000.0;
    let chi_squared: f64 = ["web-0", "web-1", "web-2"]
        .iter()
        .map(|endpoint| report.of(endpoint))
        .map(|count| f64::from(u32::try_from(count).unwrap_or(u32::MAX)))
        .map(|count| (count - expected).powi(2) / expected)
        .sum();
    assert!(
        chi_squared < CHI_SQUARED_LIMIT,
        "{chi_squared}: {:?}",
        report.by_endpoint
    );
    Ok(())
}

#[test]
fn power_of_two_choices_avoids_the_endpoint_that_is_slow() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 2)?;
    let slow = node.pod("slow").start()?;
    slow.serve(
        "e2e-http",
        &[
            "serve",
            "--name",
            "slow",
            "--port",
            "8080",
            "--delay-ms",
            "50",
        ],
    )?;
    let web = node.service("web").to(servers.iter().chain([&slow]))?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 3)?;

    let report = client.load(&Load::new(&web.url()).requests(1_000).connections(8))?;

    report.all_ok(1_000)?;
    let slow = report.of("slow");
    assert!(slow > 0, "it is not left out: {:?}", report.by_endpoint);
    assert!(slow < 200, "a third would be 333: {:?}", report.by_endpoint);
    Ok(())
}

#[test]
fn a_connection_never_carries_requests_of_two_pods() -> Result<()> {
    let node = Node::new()?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").to([&server])?;
    let clients = [
        node.pod("a").captured().start()?,
        node.pod("b").captured().start()?,
    ];
    let agent = AgentOptions::new(&node).workers(1).start()?;
    agent.wait_captured(&clients)?;
    agent.wait_endpoints(&web, 1)?;

    let mut steppers = Vec::new();
    for client in &clients {
        steppers.push(client.start_server("e2e-http", &["step", "--url", &web.url()])?);
    }
    for round in 1..=500 {
        for stepper in &mut steppers {
            stepper.input("\n")?;
            stepper.wait_for_lines(1 + round)?;
        }
    }

    for (client, stepper) in clients.iter().zip(&steppers) {
        let (output, own) = (stepper.stdout(), format!("\"peer\":\"{}:", client.ip()));
        let answers: Vec<&str> = output.lines().skip(1).collect();
        assert_eq!(answers.len(), 500);
        for answer in answers {
            assert!(
                answer.starts_with("200 ") && answer.contains(&own),
                "{answer} lacks {own}"
            );
        }
    }
    assert_eq!(agent.counter("proxied")?, 2);
    Ok(())
}

#[test]
fn endpoints_come_and_go_without_a_failed_request() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 3)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 3)?;
    let load = client.start_load(&Load::new(&web.url()).connections(4))?;
    load.wait_answers(100)?;

    for round in 0..5 {
        web.set_endpoints(&servers[..1])?;
        agent.wait_endpoints(&web, 1)?;
        load.wait_answers(load.answers() + 100)?;
        web.set_endpoints(&servers)?;
        agent.wait_endpoints(&web, 3)?;
        load.wait_answers(load.answers() + 100 * (round + 1))?;
    }

    let report = load.stop()?;
    report.flawless()?;
    assert_eq!(report.by_endpoint.len(), 3, "{:?}", report.by_endpoint);
    Ok(())
}

#[test]
fn a_removed_endpoint_gets_nothing_more() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 2)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 2)?;
    let before = client.load(&Load::new(&web.url()).requests(50).connections(4))?;

    web.set_endpoints(&servers[..1])?;
    agent.wait_endpoints(&web, 1)?;
    let after = client.load(&Load::new(&web.url()).requests(50).connections(4))?;

    assert!(
        before.of("web-1") > 0,
        "the control: it had some before: {:?}",
        before.by_endpoint
    );
    after.all_ok(50)?;
    assert_eq!(after.of("web-0"), 50, "{:?}", after.by_endpoint);
    Ok(())
}
