//! What Kubernetes does with pods goes on as before.

use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};

use crate::scene::{Scene, client};

pub(crate) fn probes_logs_and_port_forward_work_on_captured_pods(scene: &Scene) -> Result<()> {
    for node in ["node1", "node2"] {
        let name = format!("echo-{node}");
        let pod = scene
            .cluster
            .kubectl_json(["get", "pod", "-n", "mesh", &name])?;
        let container = &pod["status"]["containerStatuses"][0];
        // Readiness and liveness are asked over HTTP each second; three misses would restart it.
        assert_eq!(container["ready"], true, "{container}");
        assert_eq!(container["restartCount"], 0, "{container}");
        let load = format!("load-{node}");
        let log = scene
            .cluster
            .kubectl(["logs", "-n", "mesh", &load, "-c", "kept", "--tail=5"])?;
        assert_eq!(log.lines().count(), 5, "{log}");
        port_forward(scene, &name)?;
    }
    Ok(())
}

fn port_forward(scene: &Scene, pod: &str) -> Result<()> {
    let mut kubectl = scene.cluster.client("kubectl");
    kubectl.args(["port-forward", "-n", "mesh", pod, "18080:8080"]);
    kubectl
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _forward = Forward(kubectl.spawn().context("start kubectl")?);
    // kubectl listens in the network namespace that it runs in: the first node's.
    let page = scene.until("the forwarded port answers", || {
        let url = "http://127.0.0.1:18080/";
        let page = scene
            .cluster
            .in_node(1, &["curl", "--silent", "--fail", url])?;
        ensure!(!page.is_empty(), "an empty page");
        Ok(page)
    })?;
    ensure!(page.contains(&format!("Hostname={pod}")), "{page}");
    Ok(())
}

/// Ended on drop.
struct Forward(Child);

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended by itself; the test has said what it thinks of that.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn kube_system_is_left_alone_also_when_everything_is_captured(
    scene: &Scene,
) -> Result<()> {
    let dns = dns_pods(scene)?;
    ensure!(!dns.is_empty(), "there is a DNS pod");
    scene.cluster.install(&["capture=all"])?;
    let checked = scene.until("everything is captured", || {
        scene.cluster.ensure_captured(1, "plain/outsider")?;
        for (node, pod) in &dns {
            let entry = scene.cluster.agent_view(*node, pod)?;
            ensure!(entry["captured"] == false, "status shows {entry}");
        }
        scene.ensure_balanced(1)
    });
    scene.cluster.install(&[])?;
    checked?;
    scene.until("only what is labelled is captured", || {
        let outsider = scene.cluster.agent_view(1, "plain/outsider")?;
        ensure!(outsider["captured"] == false, "status shows {outsider}");
        scene.cluster.ensure_captured(1, &client(1))
    })?;
    scene.wait_captured()
}

/// Node and name of the pods that serve DNS.
fn dns_pods(scene: &Scene) -> Result<Vec<(u8, String)>> {
    let pods = scene
        .cluster
        .kubectl_json(["get", "pods", "-n", "kube-system"])?;
    let pods = pods["items"].as_array().context("a list of pods")?;
    let place = |pod: &serde_json::Value| {
        let node = pod["spec"]["nodeName"].as_str()?.strip_prefix("node")?;
        let name = pod["metadata"]["name"].as_str()?;
        Some((node.parse().ok()?, format!("kube-system/{name}")))
    };
    Ok(pods.iter().filter_map(place).collect())
}
