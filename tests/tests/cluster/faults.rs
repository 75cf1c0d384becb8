//! Agents that die, and API servers that are gone.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::answers;
use crate::load::{LOADS, Toll, now_us};
use crate::routes::{remove_route, route_to};
use crate::scene::{MANY, Scene, client};

pub(crate) fn a_killed_agent_leaves_the_ordinary_way_and_comes_back(scene: &Scene) -> Result<()> {
    let restarts = restarts(scene, 2)?;
    let pid = agent_pid(scene, 2)?;
    let killed = now_us();
    kill(Pid::from_raw(pid), Signal::SIGKILL).context("kill the agent")?;

    scene.until("kubelet has started it again", || {
        let now = self::restarts(scene, 2)?;
        ensure!(now == restarts + 1, "{now} restarts");
        ensure!(agent_pid(scene, 2)? != pid, "it is the old one");
        Ok(())
    })?;
    scene.wait_captured()?;
    // The other node did not notice, and what began while no agent ran, took the ordinary way.
    Toll::since(scene, &[(1, "kept"), (1, "fresh"), (1, "grpc")], killed)?.ensure_flawless()?;
    let toll = Toll::since(scene, &[(2, "fresh")], killed)?;
    // A request that was inside the agent dies with it: at most the one of this load.
    ensure!(toll.failed() <= 1, "{toll}");
    Ok(())
}

fn restarts(scene: &Scene, node: u8) -> Result<u64> {
    let name = scene.cluster.agent_pod(node)?;
    let pod = scene
        .cluster
        .kubectl_json(["get", "pod", "-n", "proxy-agent", &name])?;
    let count = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    count.context("it has no restart count")
}

fn agent_pid(scene: &Scene, node: u8) -> Result<i32> {
    let pid = scene.cluster.agent_process(node)?;
    i32::try_from(pid).context("pid fits i32")
}

pub(crate) fn a_node_cut_off_from_the_api_server_goes_on_and_catches_up(
    scene: &Scene,
) -> Result<()> {
    let cut = now_us();
    scene.cluster.cut_api(2)?;
    let tried = (|| {
        scene.until("the node's agent misses the API server", || {
            let status = scene.cluster.agent_verb(2, &["status"])?;
            ensure!(
                status.contains("no contact with the API server since"),
                "{status}"
            );
            Ok(())
        })?;
        route_to(scene, "echo-node1")?;
        // The node that is in contact follows the route; the other goes on with what it knew.
        scene.until("node1 follows the route", || {
            ensure_only(scene, 1, "echo-node1")
        })?;
        scene.ensure_balanced(2)
    })();
    scene.cluster.restore_api(2)?;
    tried?;
    scene.until("node2 follows the route", || {
        ensure_only(scene, 2, "echo-node1")
    })?;
    remove_route(scene)?;
    scene.wait_captured()?;
    Toll::since(scene, &LOADS, cut)?.ensure_flawless()
}

/// Requires that a node's client is answered by this pod alone.
fn ensure_only(scene: &Scene, node: u8, pod: &str) -> Result<()> {
    let answers = scene.ask(&client(node), "http://echo.mesh/", MANY)?;
    let pods = answers::pods(&answers);
    ensure!(pods.iter().eq([&pod]), "answers come from {pods:?}");
    Ok(())
}

pub(crate) fn a_restart_of_the_api_server_is_not_felt(scene: &Scene) -> Result<()> {
    let stopped = now_us();
    scene.cluster.stop_api()?;
    let gone = scene.cluster.kubectl(["get", "nodes"]);
    scene.cluster.start_api()?;
    ensure!(gone.is_err(), "the API server was not gone");

    // What is written after it is back, is followed.
    route_to(scene, "echo-node2")?;
    for node in 1..=2 {
        scene.until("the route is followed", || {
            ensure_only(scene, node, "echo-node2")
        })?;
    }
    remove_route(scene)?;
    scene.wait_captured()?;
    Toll::since(scene, &LOADS, stopped)?.ensure_flawless()
}
