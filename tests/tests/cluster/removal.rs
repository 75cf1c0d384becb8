//! After `helm uninstall` a node is as if there had never been an agent; and the same by the rendered
//! manifests.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::load::{Toll, now_us};
use crate::scene::{Scene, client};

pub(crate) fn uninstalling_leaves_nothing(scene: &Scene) -> Result<()> {
    for node in 1..=2 {
        ensure!(!programs(scene, node)?.is_empty(), "no program before");
        ensure!(!files(scene, node)?.is_empty(), "no file before");
    }
    ensure!(listens(scene)?, "no listener before");
    let maps = maps(scene)?;
    ensure!(
        !maps.is_empty() && maps.iter().all(|id| is_map(id)),
        "no map before"
    );

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
    // The kernel frees them a moment after the last descriptor is closed.
    scene.until("the maps are gone", || {
        let left: Vec<_> = maps.iter().filter(|id| is_map(id)).collect();
        ensure!(left.is_empty(), "maps {left:?} are left");
        Ok(())
    })?;
    let of_cluster = ["clusterroles,clusterrolebindings", "-o", "name"];
    let objects = scene.cluster.kubectl(["get"].iter().chain(&of_cluster))?;
    ensure!(
        !objects.contains("proxy-agent"),
        "left in the cluster: {objects}"
    );
    Toll::since(scene, &[(1, "fresh"), (2, "fresh")], begun)?.ensure_flawless()
}

pub(crate) fn the_rendered_manifests_install_and_remove_it_too(scene: &Scene) -> Result<()> {
    // What a user writes who takes the manifests and an image of their own.
    let overlay = std::env::temp_dir().join(format!("proxy-agent-overlay-{}", std::process::id()));
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests");
    fs::create_dir_all(&overlay).context("make a folder")?;
    let copied = overlay.join("manifests");
    let copy = Command::new("cp")
        .arg("-r")
        .args([&manifests, &copied])
        .status();
    ensure!(copy.context("run cp")?.success(), "copy the manifests");
    let own = "resources: [manifests]\n\
               images: [{name: proxy-agent, newName: local/proxy-agent, newTag: dev}]\n";
    fs::write(overlay.join("kustomization.yaml"), own).context("write kustomization.yaml")?;
    let folder = overlay.to_str().context("a path in UTF-8")?;

    scene.cluster.kubectl(["apply", "-k", folder])?;
    let installed = scene
        .cluster
        .wait_agents()
        .and_then(|()| scene.wait_captured());
    let removed = scene
        .cluster
        .kubectl(["delete", "-k", folder, "--timeout=120s"]);
    fs::remove_dir_all(&overlay).context("remove the folder")?;
    installed?;
    removed?;

    for node in 1..=2 {
        ensure!(programs(scene, node)?.is_empty(), "programs on node{node}");
        scene.ensure_ordinary(&client(node), "http://echo.mesh/")?;
    }
    Ok(())
}

/// Ids of the maps that the agents hold.
fn maps(scene: &Scene) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for node in 1..=2 {
        let pid = scene.cluster.agent_process(node)?;
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
            // A descriptor may be closed meanwhile.
            let info = fs::read_to_string(entry.path()).unwrap_or_default();
            let id = info.lines().find_map(|line| line.strip_prefix("map_id:"));
            ids.extend(id.map(|id| id.trim().to_owned()));
        }
    }
    Ok(ids)
}

/// Whether the kernel has a map of this id.
fn is_map(id: &str) -> bool {
    let shown = Command::new("bpftool")
        .args(["map", "show", "id", id])
        .output();
    shown.is_ok_and(|shown| shown.status.success())
}

/// Programs on the cgroups of a node's pods, as bpftool shows them.
fn programs(scene: &Scene, node: u8) -> Result<String> {
    let show = "for group in $(find /sys/fs/cgroup -type d -name kubepods -o -type d -name kubepods.slice); do \
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
