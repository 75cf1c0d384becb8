//! After `helm uninstall` a node is as if there had never been an agent.

use anyhow::{Result, ensure};

use crate::load::{Toll, now_us};
use crate::scene::{Scene, client};

pub(crate) fn uninstalling_leaves_nothing(scene: &Scene) -> Result<()> {
    for node in 1..=2 {
        ensure!(!programs(scene, node)?.is_empty(), "no program before");
        ensure!(!files(scene, node)?.is_empty(), "no file before");
    }
    ensure!(listens(scene)?, "no listener before");

    let begun = now_us();
    scene.cluster.uninstall()?;

    for node in 1..=2 {
        let programs = programs(scene, node)?;
        ensure!(
            programs.is_empty(),
            "left attached on node{node}: {programs}"
        );
        let files = files(scene, node)?;
        ensure!(files.is_empty(), "left on node{node}: {files}");
        scene.ensure_ordinary(&client(node), "http://echo.mesh/")?;
    }
    ensure!(!listens(scene)?, "a listener is left in a pod");
    let of_cluster = ["clusterroles,clusterrolebindings", "-o", "name"];
    let objects = scene.cluster.kubectl(["get"].iter().chain(&of_cluster))?;
    ensure!(
        !objects.contains("proxy-agent"),
        "left in the cluster: {objects}"
    );
    Toll::since(scene, &[(1, "fresh"), (2, "fresh")], begun)?.ensure_flawless()
}

/// Programs on the cgroups of a node's pods, as bpftool shows them.
fn programs(scene: &Scene, node: u8) -> Result<String> {
    let show = "for group in $(find /sys/fs/cgroup -type d -name kubepods); do \
        test ! -e $group/cgroup.controllers || bpftool cgroup tree $group; done";
    let shown = scene.cluster.in_node(node, &["sh", "-c", show])?;
    let attached = |line: &&str| line.contains("connect") || line.contains("sock_ops");
    Ok(shown
        .lines()
        .filter(attached)
        .collect::<Vec<_>>()
        .join("\n"))
}

/// Files of the agent on a node.
fn files(scene: &Scene, node: u8) -> Result<String> {
    let find = "test ! -d /run/proxy-agent || find /run/proxy-agent -mindepth 1";
    scene.cluster.in_node(node, &["sh", "-c", find])
}

/// Whether the agent's listener is in a captured pod.
fn listens(scene: &Scene) -> Result<bool> {
    let exec = ["exec", "-n", "mesh", "client-node1", "-c", "shell", "--"];
    let netstat = ["/bin/busybox", "netstat", "-ltn"];
    let sockets = scene.cluster.kubectl(exec.iter().chain(&netstat))?;
    Ok(sockets.contains("127.0.0.1:15001"))
}
