//! The four example documents as they stand, each by traffic.

use anyhow::{Context, Result};
use proxy_e2e::{Agent, Load, Node, Pod, until_some};

/// A node whose only configuration is the named examples, two pods that their selector finds, one
/// that it does not, and a captured client.
struct Scene {
    agent: Agent,
    client: Pod,
    _pods: Vec<Pod>,
    _node: Node,
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
            _node: node,
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
