//! What takes a whole machine: cgroup2 alone and the pods where a node has them, links with delay.
//!
//! `cargo xtask vm-test` runs these, on stock kernels; `cargo xtask e2e` does not.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy_e2e::{Agent, AgentOptions, Layout, Load, Netns, Node, NodeOptions, Pod, until};
use serde_json::Value;

/// File system type and mount point of every cgroup mount.
fn cgroup_mounts() -> Result<Vec<(String, String)>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let point = fields.next()?;
        Some((fields.next()?.to_owned(), point.to_owned()))
    });
    Ok(fields
        .filter(|(kind, _)| kind.starts_with("cgroup"))
        .collect())
}

#[test]
fn on_cgroup2_alone_the_agent_finds_the_pods_itself() -> Result<()> {
    let only = ("cgroup2".to_owned(), "/sys/fs/cgroup".to_owned());
    assert_eq!(cgroup_mounts()?, [only]);
    for layout in [Layout::Cgroupfs, Layout::Systemd] {
        let node = Node::with(NodeOptions { layout })?;
        let servers = node.echo_pods("web", 2)?;
        let web = node.service("web").to(&servers)?;
        let client = node.pod("client").captured().start()?;
        let other = node.pod("other").start()?;
        let agent = AgentOptions::new(&node).finding_the_pods().start()?;
        agent.wait_captured([&client])?;
        agent.wait_endpoints(&web, 2)?;

        let root = agent.status()?["overview"]["cgroup_root"].clone();
        assert_eq!(root.as_str(), node.kubepods().to_str());
        client
            .load(&Load::new(&web.url()).requests(10).fresh())?
            .all_ok(10)?;
        assert_eq!((agent.counter("proxied")?, web.packets()?), (10, 0));
        // The control: a pod that is not captured takes the node's ordinary way.
        other
            .load(&Load::new(&web.url()).requests(10).fresh())?
            .all_ok(10)?;
        assert_eq!(agent.counter("proxied")?, 10);
        assert_eq!(web.dnat_connections()?, 10);
        agent.stop()?;
    }
    Ok(())
}

#[test]
fn without_any_pods_cgroup_the_agent_says_where_it_looked() -> Result<()> {
    let node = Node::new()?;
    fs::remove_dir(node.kubepods()).context("remove the empty kubepods cgroup")?;

    let mut agent = AgentOptions::new(&node).finding_the_pods().launch()?;

    let status = agent.process().wait()?;
    let log = agent.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("no kubepods cgroup below /sys/fs/cgroup"),
        "{log}"
    );
    Ok(())
}

/// Packets that netem let go on a device.
fn delayed_packets(netns: &Netns, device: &str) -> Result<u64> {
    let mut tc = Command::new("tc");
    tc.args(["-n", netns.name(), "-statistics", "-json", "qdisc", "show"]);
    let output = tc.args(["dev", device]).output().context("run tc")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tc: {error}");
    let qdiscs: Value = serde_json::from_slice(&output.stdout).context("tc's JSON")?;
    let qdiscs = qdiscs.as_array().context("tc lists an array")?;
    let netem = qdiscs.iter().filter(|qdisc| qdisc["kind"] == "netem");
    Ok(netem.filter_map(|qdisc| qdisc["packets"].as_u64()).sum())
}

/// An agent on a node whose pods are this far from each other, with a captured client.
fn far_pods(delay: Duration) -> Result<(Node, Vec<Pod>, Pod, Agent)> {
    let node = Node::new()?;
    let mut servers = Vec::new();
    for name in ["web-0", "web-1"] {
        let server = node.pod(name).delayed(delay).start()?;
        server.serve_echo(8080)?;
        servers.push(server);
    }
    let client = node.pod("client").captured().delayed(delay).start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    Ok((node, servers, client, agent))
}

#[test]
fn connections_over_a_slow_link_keep_their_destinations() -> Result<()> {
    for delay_ms in [1, 5] {
        let (node, servers, client, agent) = far_pods(Duration::from_millis(delay_ms))?;
        let web = node.service("web").dual_stack().to(&servers)?;
        // Each pod has two addresses.
        agent.wait_endpoints(&web, 4)?;

        let fresh = client.load(&Load::new(&web.url()).requests(100).connections(8).fresh())?;
        let kept = client.load(&Load::new(&web.url_v6()?).requests(100).connections(4))?;

        fresh.all_ok(100)?;
        kept.all_ok(100)?;
        assert_eq!(fresh.by_endpoint.len(), 2, "{fresh:?}");
        assert_eq!(agent.counter("proxied")?, 100 + kept.connects);
        assert_eq!(agent.counter("flow_bind_failed")?, 0);
        assert_eq!(web.packets()?, 0);
        // The control: the packets did meet the delay, on the link and on the way to the agent.
        for device in ["eth0", "lo"] {
            assert!(delayed_packets(client.netns(), device)? > 200, "{device}");
        }
        until("every destination was taken from the map", || {
            let status = agent.status()?;
            let maps = status["bpf"]["maps"].as_array().context("maps")?.clone();
            let flows = maps.into_iter().find(|map| map["name"] == "ORIG_DST");
            Ok(flows.context("ORIG_DST")?["entries"] == 0)
        })?;
    }
    Ok(())
}
