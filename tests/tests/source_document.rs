//! The four example documents as they stand, each by traffic.

use anyhow::{Context, Result};
use proxy_e2e::{Agent, Load, Node, Pod, until_some};
use serde_json::json;

/// A node whose only configuration is the named examples, two pods that their selector finds, one
/// that it does not, and a captured client.
struct Scene {
    agent: Agent,
    client: Pod,
    _pods: Vec<Pod>,
    node: Node,
}

impl Scene {
    fn new(examples: &[&str]) -> Result<Self> {
        let node = Node::new()?;
        let mut pods = Vec::new();
        for (name, app) in [
            ("my-app-0", "my-app"),
            ("my-app-1", "my-app"),
            ("other-0", "other"),
        ] {
            let pod = node.pod(name).label("app", app).start()?;
            pod.serve_echo(8080)?;
            pods.push(pod);
        }
        for example in examples {
            node.config()
                .copy(&format!("examples/source-document/{example}"))?;
        }
        let client = node.pod("client").captured().start()?;
        let agent = Agent::start(&node)?;
        agent.wait_captured([&client])?;
        Ok(Self {
            agent,
            client,
            _pods: pods,
            node,
        })
    }

    /// The URL of `my-service`, whose address the agent gave it.
    fn url(&self) -> Result<String> {
        let address = until_some("my-service has an address and two endpoints", || {
            let service = self.agent.service("my-service")?;
            let ready = service["endpoints"] == 2;
            let address = service["addresses"][0].as_str().map(str::to_owned);
            Ok(address.filter(|_| ready))
        })?;
        anyhow::ensure!(
            address.starts_with("10.111."),
            "not of the default range: {address}"
        );
        Ok(format!("http://{address}/"))
    }

    /// Requires that both pods of the selector answer, and no other.
    fn balanced(&self, load: &Load) -> Result<()> {
        let report = self
            .client
            .load(&load.clone().requests(40).connections(2))?;
        report.all_ok(40)?;
        let endpoints: Vec<&String> = report.by_endpoint.keys().collect();
        anyhow::ensure!(
            endpoints == ["my-app-0", "my-app-1"],
            "{:?}; status shows {}",
            report.by_endpoint,
            self.agent.status()?["endpoints"]
        );
        Ok(())
    }
}

#[test]
fn kubernetes_clusterip_is_balanced_over_the_pods_of_its_selector() -> Result<()> {
    let scene = Scene::new(&["kubernetes-clusterip.yaml"])?;
    // Its port has no name, so it is no HTTP port: connections are balanced, not requests.
    scene.balanced(&Load::new(&scene.url()?).fresh())
}

#[test]
fn kubernetes_loadbalancer_is_balanced_over_the_pods_of_its_selector() -> Result<()> {
    let scene = Scene::new(&["kubernetes-loadbalancer.yaml"])?;
    // Its port has no name, so it is no HTTP port: connections are balanced, not requests.
    scene.balanced(&Load::new(&scene.url()?).fresh())
}

#[test]
fn istio_routes_to_its_destination() -> Result<()> {
    let scene = Scene::new(&["istio.yaml"])?;
    scene.balanced(&Load::new(&scene.url()?))?;
    let routes = scene.agent.status()?["routes"].clone();
    assert!(
        routes.to_string().contains("VirtualService"),
        "the route is not implicit: {routes}"
    );
    Ok(())
}

#[test]
fn linkerd_routes_by_the_host_of_a_request() -> Result<()> {
    let scene = Scene::new(&["kubernetes-clusterip.yaml", "linkerd.yaml"])?;
    let url = scene.url()?;

    let by_host = Load::new(&url).header("Host: My-Service.linkerd.service:80");
    scene.balanced(&by_host)?;

    let clusters = scene.agent.status()?["endpoints"].clone();
    let of_virtual_host = clusters
        .as_array()
        .context("a list")?
        .iter()
        .filter(|endpoint| {
            endpoint["cluster"]
                .as_str()
                .is_some_and(|cluster| cluster.starts_with("linkerd/"))
        });
    let requests: u64 = of_virtual_host
        .filter_map(|e| e["requests_total"].as_u64())
        .sum();
    assert_eq!(requests, 40, "by the virtual host: {clusters}");
    // The control: another host is the Kubernetes Service's own business.
    scene.balanced(&Load::new(&url).fresh())
}

#[test]
fn linkerd_routes_of_one_host_share_its_requests_by_weight() -> Result<()> {
    let scene = Scene::new(&["kubernetes-clusterip.yaml", "linkerd.yaml"])?;
    let url = scene.url()?;
    let by_host = Load::new(&url)
        .header("Host: my-service.linkerd.service")
        .requests(400)
        .connections(2);
    let before = scene.client.load(&by_host)?;
    assert_eq!(
        before.of("other-0"),
        0,
        "one Route: {:?}",
        before.by_endpoint
    );

    let object = |kind: &str, spec: serde_json::Value| {
        json!({
            "apiVersion": "linkerd.io/v1",
            "kind": kind,
            "metadata": { "name": "other" },
            "spec": spec,
        })
    };
    let service = json!({ "port": 8080, "host": "other.linkerd.service", "label": "app=other" });
    // The example's own Route has a weight of 100.
    let route = json!({
        "host": "my-service.linkerd.service",
        "kind": "service",
        "weight": 300,
        "service": { "kind": "Service", "name": "other" },
    });
    let objects = [object("Service", service), object("Route", route)];
    scene
        .agent
        .apply(scene.node.config(), "other.yaml", &objects)?;
    let after = scene.client.load(&by_host)?;

    after.all_ok(400)?;
    // Five standard deviations of a binomial share: 5 × sqrt(400 × 0.75 × 0.25) = 43.
    let other = after.of("other-0");
    assert!((257..=343).contains(&other), "{:?}", after.by_endpoint);
    Ok(())
}
