//! Which traffic the agent takes on a real cluster, and which it leaves alone.

use anyhow::{Result, ensure};

use crate::answers;
use crate::scene::{MANY, Scene, client};

pub(crate) fn captured_pods_of_both_nodes_are_balanced_by_request(scene: &Scene) -> Result<()> {
    for node in 1..=2 {
        let address = scene.address(&client(node))?;
        let answers = scene.ask(&client(node), "http://echo.mesh/", MANY)?;

        // One endpoint is on this node, the other across.
        assert_eq!(answers::pods(&answers).len(), 2, "{answers:?}");
        for answer in &answers {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.client, address, "servers see the pod itself");
        }
    }
    // Nobody asked for its capture.
    scene.ensure_ordinary("plain/outsider", "http://echo.mesh/")?;
    let outsider = scene.cluster.agent_view(1, "plain/outsider")?;
    assert_eq!(outsider["captured"], false, "{outsider}");
    Ok(())
}

pub(crate) fn grpc_and_tcp_reach_the_endpoints_of_both_nodes(scene: &Scene) -> Result<()> {
    for node in 1..=2 {
        // Every call on the one connection finds an endpoint of its own.
        let calls = scene.ask(&client(node), "grpc://echo.mesh:7070", MANY)?;
        assert_eq!(answers::pods(&calls).len(), 2, "{calls:?}");
        // Every TCP request of the client is a connection.
        let connections = scene.ask(&client(node), "tcp://echo.mesh:9090", MANY)?;
        assert_eq!(answers::pods(&connections).len(), 2, "{connections:?}");
    }
    scene.ensure_ordinary("plain/outsider", "grpc://echo.mesh:7070")
}

pub(crate) fn headless_services_take_the_ordinary_way(scene: &Scene) -> Result<()> {
    for node in 1..=2 {
        scene.ensure_ordinary(&client(node), "http://echo-headless.mesh:8080/")?;
    }
    // The same pods by their other Service, from the same client.
    scene.ensure_balanced(1)
}

pub(crate) fn node_ports_take_the_ordinary_way(scene: &Scene) -> Result<()> {
    // From a captured pod to this node and to the other, and from a node itself.
    for address in ["10.99.0.1", "10.99.0.2"] {
        let url = format!("http://{address}:30080/");
        scene.ensure_ordinary(&client(1), &url)?;
        let page = scene
            .cluster
            .in_node(1, &["curl", "--silent", "--max-time", "5", &url])?;
        ensure!(page.starts_with("Hostname=echo-"), "{url} answers {page}");
    }
    // The same Service by its cluster address is not left alone.
    let answers = scene.ask(&client(1), "http://echo-outside.mesh/", MANY)?;
    assert_eq!(answers::pods(&answers).len(), 2, "{answers:?}");
    Ok(())
}

pub(crate) fn dns_is_left_alone(scene: &Scene) -> Result<()> {
    let status = scene.cluster.agent_status(1)?;
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let mode = |namespace: &str, name: &str, port: u16| {
        let entry = services.iter().find(|entry| {
            entry["namespace"] == namespace && entry["name"] == name && entry["port"] == port
        });
        entry.map(|entry| entry["mode"].clone()).unwrap_or_default()
    };
    assert_eq!(mode("kube-system", "kube-dns", 53), "pass");
    assert_eq!(mode("mesh", "echo", 80), "http");
    // Asked by UDP from a captured pod, and by TCP.
    let exec = [
        "exec",
        "-n",
        "mesh",
        "client-node1",
        "-c",
        "shell",
        "--",
        "/bin/busybox",
    ];
    let lookup = ["nslookup", "echo.mesh.svc.cluster.local", "10.96.0.10"];
    let answer = scene.cluster.kubectl(exec.iter().chain(&lookup))?;
    ensure!(answer.contains("Name:"), "nslookup says {answer}");
    let connect = ["nc", "-w", "5", "10.96.0.10", "53"];
    scene.cluster.kubectl(exec.iter().chain(&connect)).map(drop)
}

pub(crate) fn a_service_without_endpoints_fails_fast(scene: &Scene) -> Result<()> {
    let answers = scene.ask(&client(1), "http://nobody.mesh/", 1)?;
    assert_eq!(answers[0].status, 503);
    // Where nobody stands between, there is no answer at all.
    let outsider = scene.ask("plain/outsider", "http://nobody.mesh/", 1);
    ensure!(outsider.is_err(), "the outsider got {outsider:?}");
    Ok(())
}

/// A pod that asks before its containers start; its first connection carries all of its requests.
const EARLY: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: early, namespace: @NAMESPACE@}
spec:
  nodeSelector: {kubernetes.io/hostname: node2}
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: first, image: 'local/echo:1', imagePullPolicy: Never, command: [client, '--count=30', 'http://echo.mesh/']}
  containers:
  - {name: main, image: 'local/echo:1', imagePullPolicy: Never, args: [--port=8080]}
";

pub(crate) fn the_first_connection_of_an_init_container_is_captured(scene: &Scene) -> Result<()> {
    // In a namespace that is not captured, one endpoint answers them all.
    for (namespace, endpoints) in [("mesh", 2), ("plain", 1)] {
        let cluster = &scene.cluster;
        cluster.apply(&EARLY.replace("@NAMESPACE@", namespace))?;
        let ready = [
            "wait",
            "pod",
            "early",
            "--for=condition=Ready",
            "--timeout=60s",
        ];
        cluster.kubectl(ready.iter().chain(&["-n", namespace]))?;
        let said = cluster.kubectl(["logs", "-n", namespace, "early", "-c", "first"])?;
        cluster.kubectl(["delete", "pod", "-n", namespace, "early"])?;
        let answers = answers::parse(&said)?;
        assert_eq!(answers::pods(&answers).len(), endpoints, "{answers:?}");
    }
    Ok(())
}
