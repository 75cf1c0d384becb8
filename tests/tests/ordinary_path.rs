//! The node without an agent: what every other test takes for granted about the harness.

use anyhow::Result;
use proxy_e2e::{Layout, Load, Node, NodeOptions};

#[test]
fn without_an_agent_the_dnat_rule_takes_every_connection() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 3)?;
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").start()?;

    let report = client.load(&Load::new(&web.url()).requests(30).fresh())?;

    report.all_ok(30)?;
    assert_eq!(report.connects, 30);
    assert_eq!(web.dnat_connections()?, 30);
    assert!(
        web.packets()? > 30,
        "the node sees every packet to the Service address"
    );
    let counts: Vec<u64> = report.by_endpoint.values().copied().collect();
    assert_eq!(counts, [10, 10, 10], "numgen goes round");
    Ok(())
}

#[test]
fn the_ordinary_path_has_ipv6_where_the_pod_has_it() -> Result<()> {
    let node = Node::new()?;
    let servers = node.echo_pods("web", 1)?;
    let web = node.service("web").dual_stack().to(&servers)?;
    let client = node.pod("client").start()?;
    let without = node.pod("v4-only").without_ipv6().start()?;

    assert_eq!(client.get(&web.url_v6()?)?.endpoint, "web-0");
    assert_eq!(without.get(&web.url())?.endpoint, "web-0");
    assert!(without.get(&web.url_v6()?).is_err());
    Ok(())
}

#[test]
fn a_pod_has_its_cgroup_in_both_layouts_and_leaves_nothing() -> Result<()> {
    for layout in [Layout::Cgroupfs, Layout::Systemd] {
        let node = Node::with(NodeOptions { layout })?;
        let pod = node.pod("client").start()?;
        let (cgroup, netns) = (pod.cgroup(), format!("/run/netns/{}", pod.netns().name()));
        let sandbox = std::fs::read_to_string(format!("/proc/{}/cgroup", pod.sandbox_pid()))?;
        let name = cgroup
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        assert!(sandbox.contains(name), "{sandbox} is below {name}");

        drop(pod);

        assert!(!cgroup.exists(), "{} is left", cgroup.display());
        assert!(!std::path::Path::new(&netns).exists(), "{netns} is left");
        let kubepods = node.kubepods().to_owned();
        drop(node);
        assert!(!kubepods.exists(), "{} is left", kubepods.display());
    }
    Ok(())
}
