//! The DaemonSet's rolling update, under load.

use anyhow::{Result, ensure};

use crate::load::{LOADS, Toll, now_us};
use crate::scene::Scene;
use crate::wrk::Wrk;

pub(crate) fn a_rollout_under_load_fails_no_request(scene: &Scene) -> Result<()> {
    let wrk = Wrk::start(scene)?;
    let before = [scene.cluster.agent_pod(1)?, scene.cluster.agent_pod(2)?];
    let begun = now_us();
    scene.cluster.kubectl([
        "rollout",
        "restart",
        "daemonset/proxy-agent",
        "-n",
        "proxy-agent",
    ])?;
    scene.cluster.wait_agents()?;
    let after = [scene.cluster.agent_pod(1)?, scene.cluster.agent_pod(2)?];
    ensure!(
        before.iter().all(|pod| !after.contains(pod)),
        "not every agent is a new one: {after:?}"
    );
    scene.wait_captured()?;
    for pod in &after {
        let log = scene.cluster.kubectl(["logs", "-n", "proxy-agent", pod])?;
        let handed_over = log.contains("took the node over");
        ensure!(handed_over, "{pod} came without a handover: {log}");
    }
    wrk.ensure_flawless()?;
    let toll = Toll::since(scene, &LOADS, begun)?;
    println!("     {toll}");
    toll.ensure_flawless()?;
    // The load does notice when requests fail: all of Service `echo` goes where nobody is.
    let broken = now_us();
    crate::routes::route_to(scene, "nobody")?;
    let noticed = scene.until("the load notices failures", || {
        let toll = Toll::since(scene, &LOADS, broken)?;
        ensure!(toll.failed() > 0, "{toll}");
        Ok(())
    });
    crate::routes::remove_route(scene)?;
    noticed?;
    scene.wait_captured()
}

pub(crate) fn a_successor_that_cannot_start_leaves_the_old_one_serving(
    scene: &Scene,
) -> Result<()> {
    const DAEMON_SET: &str = "daemonset/proxy-agent";
    let begun = now_us();
    let patch = r#"[{"op": "add", "path": "/spec/template/spec/containers/0/args/-",
        "value": "--no-such-flag"}]"#;
    let change = [
        "patch",
        DAEMON_SET,
        "-n",
        "proxy-agent",
        "--type=json",
        "-p",
        patch,
    ];
    scene.cluster.kubectl(change)?;
    let failed = scene.until("a successor has failed to start", || {
        let pods = scene
            .cluster
            .kubectl_json(["get", "pods", "-n", "proxy-agent"])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let restarted = pods.iter().filter(|pod| {
            let container = &pod["status"]["containerStatuses"][0];
            container["restartCount"].as_u64() > Some(0) && container["ready"] == false
        });
        ensure!(restarted.count() > 0, "none has");
        Ok(())
    });
    let served = failed.and_then(|()| {
        scene.ensure_balanced(1)?;
        scene.ensure_balanced(2)
    });
    scene
        .cluster
        .kubectl(["rollout", "undo", DAEMON_SET, "-n", "proxy-agent"])?;
    scene.cluster.wait_agents()?;
    served?;
    scene.wait_captured()?;
    Toll::since(scene, &LOADS, begun)?.ensure_flawless()
}
