//! Connections by server name and by weight: TLSRoute, TCPRoute, VirtualService's `tls` and `tcp`.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use proxy_e2e::{Agent, Node, Pod, Service};
use serde_json::{Value, json};

/// Services `web`, `blue` and `green` of one endpoint each, and a captured client.
struct Scene {
    agent: Agent,
    client: Pod,
    web: Service,
    _others: Vec<Service>,
    pods: Vec<Pod>,
    node: Node,
}

const NAMES: [&str; 3] = ["web", "blue", "green"];

impl Scene {
    /// HTTPS servers on a port that is TLS by name.
    fn tls() -> Result<Self> {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls_server.py");
        Self::new(("https", 443), |node, name| {
            let pod = node.pod(name).start()?;
            let scratch = node.scratch().to_str().context("a path")?;
            let mut command = Command::new("/usr/bin/python3");
            command.args([fixture, name, "9000", scratch]);
            let mut server = pod.spawn("https", command)?;
            server.wait_for_output("ready")?;
            pod.keep(server);
            Ok(pod)
        })
    }

    /// Servers that greet, on a port of that name.
    fn tcp(port: (&str, u16)) -> Result<Self> {
        Self::new(port, |node, name| {
            let pod = node.pod(name).start()?;
            let arguments = ["serve", "--name", name, "--port", "9000", "--mode", "greet"];
            pod.serve("e2e-tcp", &arguments)?;
            Ok(pod)
        })
    }

    fn new(port: (&str, u16), server: impl Fn(&Node, &str) -> Result<Pod>) -> Result<Self> {
        let node = Node::new()?;
        certificate(&node)?;
        let pods = NAMES.map(|name| server(&node, name));
        let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
        let mut services = Vec::new();
        for (name, pod) in NAMES.iter().zip(&pods) {
            services.push(node.service(name).port(port.0, port.1, 9000).to([pod])?);
        }
        let client = node.pod("client").label("app", "shop").captured().start()?;
        let agent = Agent::start(&node)?;
        agent.wait_captured([&client])?;
        for service in &services {
            agent.wait_endpoints(service, 1)?;
        }
        Ok(Self {
            agent,
            client,
            web: services.remove(0),
            _others: services,
            pods,
            node,
        })
    }

    /// Puts objects and waits until they are in force, without an error.
    fn put(&self, objects: &[Value]) -> Result<()> {
        self.agent.apply(self.node.config(), "route.yaml", objects)
    }

    /// What an HTTPS request for `name` to `web` is answered.
    fn https(&self, name: &str) -> Result<String> {
        let to = format!("{name}:443:{}", self.web.ip());
        let url = format!("https://{name}/");
        let arguments = ["--insecure", "--resolve", &to, "--max-time", "5", &url];
        self.client.curl(&arguments)?.success()
    }

    /// Who greets on `count` connections to `web`.
    fn greetings(&self, count: usize) -> Result<BTreeMap<String, usize>> {
        let mut greeted = BTreeMap::new();
        for _ in 0..count {
            let report = self
                .client
                .talk(self.web.address(), &["--listen-first", "--half-close"])?;
            let text = report["received"].as_str().unwrap_or_default();
            let name = text.split(' ').nth(1).unwrap_or("nobody");
            *greeted.entry(name.to_owned()).or_default() += 1;
        }
        Ok(greeted)
    }

    fn resets(&self, reason: &str) -> Result<u64> {
        let line = format!("proxy_agent_local_replies_total{{reason=\"{reason}\"}} ");
        let metrics = self.agent.metrics()?;
        let mut found = metrics.lines().filter_map(|one| one.strip_prefix(&line));
        Ok(found.next().unwrap_or("0").trim().parse()?)
    }
}

fn certificate(node: &Node) -> Result<()> {
    let mut command = Command::new("openssl");
    command.current_dir(node.scratch());
    command.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"]);
    command.args([
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-subj",
        "/CN=test",
    ]);
    command.args(["-keyout", "key.pem", "-out", "cert.pem"]);
    let made = command.output().context("openssl")?;
    ensure!(made.status.success(), "{made:?}");
    Ok(())
}

fn route(kind: &str, name: &str, mut spec: Value) -> Value {
    spec["parentRefs"] = json!([{ "group": "", "kind": "Service", "name": "web" }]);
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": { "namespace": "default", "name": name },
        "spec": spec,
    })
}

fn virtual_service(mut spec: Value) -> Value {
    spec["hosts"] = json!(["web"]);
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": "route" },
        "spec": spec,
    })
}

fn to(names: &[(&str, u16)], port: u16) -> Value {
    let one =
        |(name, weight): &(&str, u16)| json!({ "name": name, "port": port, "weight": weight });
    json!([{ "backendRefs": names.iter().map(one).collect::<Vec<_>>() }])
}

#[test]
fn tls_is_routed_by_server_name_and_never_opened() -> Result<()> {
    let scene = Scene::tls()?;
    assert_eq!(scene.https("any.example")?, "web any.example", "no route");
    let named = |hosts: Value, name: &str| {
        let spec = json!({ "hostnames": hosts, "rules": to(&[(name, 1)], 443) });
        route("TLSRoute", name, spec)
    };
    scene.put(&[
        named(json!(["*.example.org"]), "blue"),
        named(json!(["green.example.org"]), "green"),
    ])?;

    assert_eq!(scene.https("a.b.example.org")?, "blue a.b.example.org");
    assert_eq!(scene.https("green.example.org")?, "green green.example.org");
    for unmatched in ["example.org", "any.example"] {
        let refused = scene.https(unmatched);
        assert!(refused.is_err(), "{unmatched}: {refused:?}");
    }
    assert_eq!(scene.resets("no_route")?, 2);
    let plain = format!("http://{}/", scene.web.address());
    assert!(scene.client.curl(&[&plain])?.success().is_err());
    assert_eq!(scene.resets("not_tls")?, 1);
    assert_eq!(scene.web.packets()?, 0);
    let explained = scene.agent.verb(&[
        "explain",
        "--from",
        "default/client",
        "GET",
        &format!("https://{}/", scene.web.address()),
    ])?;
    let explained = explained.success()?;
    assert!(
        explained.contains("resets the connection (no_route)"),
        "{explained}"
    );
    Ok(())
}

#[test]
fn tls_of_a_virtual_service_goes_by_name_and_client() -> Result<()> {
    let scene = Scene::tls()?;
    let stranger = scene.node.pod("stranger").captured().start()?;
    scene.agent.wait_captured([&stranger])?;
    let to = |host: &str| json!([{ "destination": { "host": host } }]);
    scene.put(&[virtual_service(json!({ "tls": [
        {
            "match": [{ "sniHosts": ["shop.example"], "sourceLabels": { "app": "shop" } }],
            "route": to("blue"),
        },
        { "match": [{ "sniHosts": ["*.example"] }], "route": to("green") },
    ]}))])?;

    assert_eq!(scene.https("shop.example")?, "blue shop.example");
    assert_eq!(scene.https("other.example")?, "green other.example");
    assert!(scene.https("other.org").is_err());
    let resolve = format!("shop.example:443:{}", scene.web.ip());
    let arguments = ["--insecure", "--resolve", &resolve, "https://shop.example/"];
    let answer = stranger.curl(&arguments)?.success()?;
    assert_eq!(answer, "green shop.example", "another client's label");
    Ok(())
}

#[test]
fn connections_are_shared_out_by_weight() -> Result<()> {
    let scene = Scene::tcp(("tcp", 9000))?;
    let own = scene.greetings(4)?;
    assert_eq!(own.get("web"), Some(&4), "no route: {own:?}");
    let weights = [("blue", 3), ("green", 1), ("web", 0)];
    scene.put(&[route(
        "TCPRoute",
        "r",
        json!({ "rules": to(&weights, 9000) }),
    )])?;

    let greeted = scene.greetings(60)?;

    // Five standard deviations of a binomial share: 5 × sqrt(60 × 0.75 × 0.25) = 17.
    let blue = greeted.get("blue").copied().unwrap_or(0);
    assert!((28..=59).contains(&blue), "{greeted:?}");
    assert_eq!(greeted.get("green"), Some(&(60 - blue)), "{greeted:?}");
    assert_eq!(scene.web.packets()?, 0);
    assert_eq!(scene.agent.service("web")?["mode"], "direct");
    let counters = [
        scene.agent.counter("direct")?,
        scene.agent.counter("proxied")?,
    ];
    assert_eq!(counters, [64, 0], "in the kernel, without the agent");
    Ok(())
}

#[test]
fn endpoints_outside_share_connections_by_their_own_weights() -> Result<()> {
    let scene = Scene::tcp(("tcp", 9000))?;
    let endpoint = |name: &str, weight: u32| -> Result<Value> {
        let pod = scene.pods.iter().find(|pod| pod.name() == name);
        let address = pod.context("a pod")?.ip();
        Ok(json!({ "address": address, "weight": weight }))
    };
    let entry = |endpoints: Value| {
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": { "namespace": "default", "name": "outside" },
            "spec": {
                "hosts": ["db.example.org"],
                "addresses": ["10.96.200.1"],
                "ports": [{ "number": 9000, "name": "tcp", "protocol": "TCP" }],
                "resolution": "STATIC",
                "endpoints": endpoints,
            },
        })
    };
    let to = json!([{ "destination": { "host": "db.example.org" } }]);
    let route = virtual_service(json!({ "tcp": [{ "route": to }] }));
    let blue_alone = entry(json!([endpoint("blue", 1)?]));
    scene.put(&[route.clone(), blue_alone])?;
    assert_eq!(scene.greetings(4)?.get("blue"), Some(&4), "the control");

    scene.put(&[
        route,
        entry(json!([endpoint("blue", 3)?, endpoint("green", 1)?])),
    ])?;
    let greeted = scene.greetings(60)?;

    // Five standard deviations of a binomial share: 5 × sqrt(60 × 0.75 × 0.25) = 17.
    let blue = greeted.get("blue").copied().unwrap_or(0);
    assert!((28..=59).contains(&blue), "{greeted:?}");
    assert_eq!(greeted.get("green"), Some(&(60 - blue)), "{greeted:?}");
    let counters = [
        scene.agent.counter("direct")?,
        scene.agent.counter("proxied")?,
    ];
    assert_eq!(counters, [64, 0], "in the kernel, without the agent");
    Ok(())
}

#[test]
fn an_invalid_destination_resets_its_share() -> Result<()> {
    let scene = Scene::tcp(("tcp", 9000))?;
    let spec = json!({ "rules": to(&[("gone", 1)], 9000) });
    scene
        .node
        .config()
        .put("route.yaml", &[route("TCPRoute", "r", spec)])?;
    scene
        .agent
        .wait_problem(&["TCPRoute", "no Service default/gone"])?;

    assert_eq!(scene.greetings(2)?.get("nobody"), Some(&2));
    assert_eq!(scene.resets("invalid_backend")?, 2, "the agent says whose");
    Ok(())
}

#[test]
fn tcp_of_a_virtual_service_leaves_http_to_its_own_rules() -> Result<()> {
    let scene = Scene::tcp(("any", 9000))?;
    let to = |host: &str| json!([{ "destination": { "host": host } }]);
    scene.put(&[virtual_service(json!({
        "http": [{ "directResponse": { "status": 418 } }],
        "tcp": [
            { "match": [{ "sourceLabels": { "app": "blog" } }], "route": to("green") },
            { "match": [{ "port": 9000 }], "route": to("blue") },
        ],
    }))])?;

    assert_eq!(scene.greetings(4)?.get("blue"), Some(&4));
    let url = format!("http://{}/", scene.web.address());
    assert_eq!(scene.client.status(&[&url])?, 418);
    Ok(())
}

#[test]
fn tcp_of_a_virtual_service_is_shared_out_by_weight() -> Result<()> {
    let scene = Scene::tcp(("tcp", 9000))?;
    let to = |host: &str, weight: u32| json!({ "destination": { "host": host }, "weight": weight });
    let route = |routes: Value| virtual_service(json!({ "tcp": [{ "route": routes }] }));
    scene.put(&[route(json!([to("green", 1)]))])?;
    assert_eq!(scene.greetings(4)?.get("green"), Some(&4), "the control");
    scene.put(&[route(json!([to("blue", 3), to("green", 1), to("web", 0)]))])?;

    let greeted = scene.greetings(60)?;

    // Five standard deviations of a binomial share: 5 × sqrt(60 × 0.75 × 0.25) = 17.
    let blue = greeted.get("blue").copied().unwrap_or(0);
    assert!((28..=59).contains(&blue), "{greeted:?}");
    assert_eq!(greeted.get("green"), Some(&(60 - blue)), "{greeted:?}");
    Ok(())
}
