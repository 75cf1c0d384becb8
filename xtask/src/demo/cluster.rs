//! `cargo xtask demo --cluster`: the agent on a real Kubernetes, from `helm install` to
//! `helm uninstall`, with the application of `examples/cluster`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use proxy_e2e::cluster::Cluster;
use proxy_e2e::{until, until_some};

use super::heading;
use crate::image;
use crate::setup;
use crate::workspace::{BuildProfile, root};

/// Shows everything; the cluster is removed in the end.
pub(super) fn show() -> Result<()> {
    setup::cluster()?;
    println!("demo: building the agent and its image (some minutes the first time)");
    let image = image::build(BuildProfile::Debug)?;
    let folder = std::env::temp_dir().join(format!("proxy-agent-demo-{}", std::process::id()));

    heading("A cluster of two nodes: cargo xtask cluster up 2");
    let cluster = Cluster::up(&folder, 2)?;
    cluster.apply_gateway_api("standard")?;
    print_lines(&cluster.kubectl(["get", "nodes"])?);

    heading("helm install proxy-agent deploy/helm/proxy-agent --namespace proxy-agent …");
    cluster.load(&image)?;
    cluster.install(&[])?;
    print_lines(&cluster.kubectl(["get", "pods", "-n", "proxy-agent", "-o", "wide"])?);

    heading("kubectl apply -f examples/cluster/application.yaml");
    cluster.apply(&example("application.yaml")?)?;
    cluster.kubectl([
        "rollout",
        "status",
        "deployment/shop",
        "-n",
        "demo",
        "--timeout=60s",
    ])?;
    cluster.kubectl([
        "rollout",
        "status",
        "deployment/shop-next",
        "-n",
        "demo",
        "--timeout=60s",
    ])?;
    for (namespace, pod) in [("demo", "client"), ("default", "visitor")] {
        let ready = ["wait", "--for=condition=Ready", "pod", pod, "--timeout=60s"];
        cluster.kubectl(ready.iter().chain(&["-n", namespace]))?;
    }
    until(
        "the client is captured and its requests are balanced",
        || Ok(ask(&cluster, "demo", "client", 30, &[])?.len() == 3),
    )?;
    print_lines(&cluster.kubectl(["get", "pods", "-n", "demo", "-o", "wide"])?);

    let shown = traffic(&cluster).and_then(|()| leave(&cluster));
    drop(cluster);
    shown
}

fn traffic(cluster: &Cluster) -> Result<()> {
    heading("demo/client sends 300 requests to http://shop.demo, on ONE connection");
    print_counts(&ask(cluster, "demo", "client", 300, &[])?);

    heading("default/visitor is not captured: its connection takes the ordinary way, to one pod");
    print_counts(&ask(cluster, "default", "visitor", 300, &[])?);

    heading("kubectl apply -f examples/cluster/route.yaml: one of five to the next version");
    cluster.apply(&example("route.yaml")?)?;
    until("the route is followed", || {
        Ok(ask(cluster, "demo", "client", 30, &["-H", "x-tester: yes"])?.len() == 1)
    })?;
    print_counts(&ask(cluster, "demo", "client", 300, &[])?);

    heading("… and with the header x-tester: yes: always the next version");
    print_counts(&ask(
        cluster,
        "demo",
        "client",
        100,
        &["-H", "x-tester: yes"],
    )?);

    let node = until_some("the client's node is known", || {
        let pod = cluster.kubectl_json(["get", "pod", "-n", "demo", "client"])?;
        let node = pod["spec"]["nodeName"].as_str();
        Ok(node.and_then(|node| node.strip_prefix("node")?.parse().ok()))
    })?;
    for words in [
        &[
            "explain",
            "--from",
            "demo/client",
            "GET",
            "http://shop.demo/",
        ][..],
        &["status"],
        &["status", "pods"],
    ] {
        heading(&format!(
            "kubectl exec … -- proxy-agent {}",
            words.join(" ")
        ));
        print_lines(&cluster.agent_verb(node, words)?);
    }
    Ok(())
}

fn leave(cluster: &Cluster) -> Result<()> {
    heading(
        "helm uninstall: the client's requests take the ordinary way, the route is not followed",
    );
    cluster.uninstall()?;
    let counts = ask(cluster, "demo", "client", 300, &[])?;
    print_counts(&counts);
    ensure!(counts.len() == 1, "an agent is still in the way");
    Ok(())
}

fn example(file: &str) -> Result<String> {
    let path = root().join("examples/cluster").join(file);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Sends requests from a pod; returns how many each pod answered.
fn ask(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    count: u32,
    more: &[&str],
) -> Result<BTreeMap<String, u32>> {
    let count = format!("--count={count}");
    let client = ["client", "http://shop.demo/", &count];
    let exec = ["exec", "-n", namespace, pod, "--"];
    let text = cluster.kubectl(exec.iter().chain(&client).chain(more))?;
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        if let Some((_, status)) = line.split_once(" StatusCode=")
            && status != "200"
        {
            bail!("a request was answered {status}");
        }
        if let Some((_, answered)) = line.split_once("Hostname=") {
            *counts.entry(answered.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

fn print_counts(counts: &BTreeMap<String, u32>) {
    for (pod, count) in counts {
        println!("   {pod:<28} {count:>5}");
    }
}

fn print_lines(text: &str) {
    for line in text.lines() {
        println!("   {line}");
    }
}
