//! Pods that come and go under traffic leave nothing behind in the agent.

use anyhow::{Context, Result};
use proxy_e2e::{Agent, Load, Node, until};

const PODS: usize = 50;

/// What fewer than the churned pods explain: pooled connections, threads of file reads that idle.
const SLACK: usize = 8;

fn pods_in_the_map(agent: &Agent) -> Result<u64> {
    let status = agent.status()?;
    let maps = status["bpf"]["maps"].as_array().context("maps in status")?;
    let pods = maps
        .iter()
        .find(|map| map["name"] == "PODS")
        .context("the map PODS")?;
    pods["entries"].as_u64().context("its entries")
}

#[test]
fn fifty_pods_come_and_go_under_traffic_and_nothing_leaks() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 2)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 2)?;
    client
        .load(&Load::new(&web.url()).requests(100).connections(4))?
        .all_ok(100)?;
    let (descriptors, threads) = (agent.proc_count("fd")?, agent.proc_count("task")?);
    let entries = pods_in_the_map(&agent)?;
    let traffic = client.start_load(&Load::new(&web.url()).connections(2).pause_ms(1))?;
    let fresh = client.start_load(&Load::new(&web.url()).fresh().pause_ms(2))?;

    for number in 0..PODS {
        let pod = node.pod(&format!("churn-{number}")).captured().start()?;
        agent.wait_captured([&pod])?;
        let answer = pod.get(&web.url())?;
        assert_eq!(answer.peer_ip(), pod.ip().to_string());
    }

    traffic.stop()?.flawless()?;
    fresh.stop()?.flawless()?;
    assert_eq!(
        web.packets()?,
        0,
        "every pod was captured from its first connection"
    );
    until("the map holds the pods that are left", || {
        Ok(pods_in_the_map(&agent)? == entries)
    })?;
    until("descriptors are given back", || {
        let now = agent.proc_count("fd")?;
        anyhow::ensure!(
            now <= descriptors + SLACK,
            "{now} descriptors, {descriptors} before"
        );
        Ok(true)
    })?;
    until("threads are given back", || {
        let now = agent.proc_count("task")?;
        anyhow::ensure!(now <= threads + SLACK, "{now} threads, {threads} before");
        Ok(true)
    })?;
    let flows = agent.status()?["bpf"]["flows_swept_total"].clone();
    assert_eq!(flows, 0, "no destination was left lying");
    agent.stop()
}

#[test]
fn a_pod_that_dies_at_once_harms_nobody() -> Result<()> {
    let node = Node::new()?;
    let server = node.echo_pod("web-0")?;
    let web = node.service("web").to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 1)?;
    let entries = pods_in_the_map(&agent)?;

    for number in 0..10 {
        drop(node.pod(&format!("brief-{number}")).captured().start()?);
    }

    client
        .load(&Load::new(&web.url()).requests(20).fresh())?
        .all_ok(20)?;
    until("only the first pods are left", || {
        Ok(pods_in_the_map(&agent)? == entries)
    })?;
    assert_eq!(web.packets()?, 0);
    agent.stop()
}
