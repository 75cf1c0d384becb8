//! ServiceEntries: hosts outside of the cluster, with endpoints that are written and by DNS.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use proxy_e2e::{Agent, AgentOptions, Node, Pod, until};
use serde_json::{Value, json};

const DNS: &str = "127.0.0.1:5353";
const HOST: &str = "api.example.org";

/// Two servers, a captured client, and a DNS server that says what a file says.
struct Scene {
    agent: Agent,
    client: Pod,
    servers: Vec<Pod>,
    node: Node,
}

impl Scene {
    fn new() -> Result<Self> {
        let node = Node::new()?;
        let servers = node.echo_pods("api", 2)?;
        let names = node.scratch().join("names");
        fs::write(&names, "")?;
        let mut command = Command::new("/usr/bin/python3");
        command.arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/dns_server.py"
        ));
        let (address, port) = DNS.split_once(':').context("a port")?;
        command.args([address, port]).arg(&names);
        let mut server = node.spawn("dns", command)?;
        server.wait_for_output("ready")?;
        let client = node.pod("client").captured().start()?;
        client.keep(server);
        let agent = AgentOptions::new(&node).arguments(&["--dns-server", DNS]);
        let agent = agent.start()?;
        agent.wait_captured([&client])?;
        Ok(Self {
            agent,
            client,
            servers,
            node,
        })
    }

    /// What DNS says of the host from now on; nothing stands for no such name.
    fn says(&self, servers: &[&Pod]) -> Result<()> {
        let addresses: Vec<_> = servers.iter().map(|pod| pod.ip().to_string()).collect();
        let line = match addresses.is_empty() {
            true => String::new(),
            false => format!("{HOST} 1 {}\n", addresses.join(",")),
        };
        // As a whole: the server reads it at any time.
        let names = self.node.scratch().join("names");
        let next = names.with_extension("next");
        fs::write(&next, line)?;
        Ok(fs::rename(next, names)?)
    }

    fn put(&self, objects: &[Value]) -> Result<()> {
        self.agent.apply(self.node.config(), "entry.yaml", objects)
    }

    /// The answer to a request for the host by an address, with its head, lower case.
    fn answer(&self, address: &str, port: u16) -> Result<String> {
        let resolve = format!("{HOST}:{port}:{address}");
        let url = format!("http://{HOST}:{port}/");
        let arguments = ["--include", "--resolve", &resolve, &url];
        Ok(self.client.curl(&arguments)?.success()?.to_lowercase())
    }

    /// Addresses of the host, as status has them.
    fn addresses(&self) -> Result<String> {
        Ok(self.agent.service(HOST)?["addresses"].to_string())
    }
}

fn entry(mut spec: Value) -> Value {
    spec["hosts"] = json!([HOST]);
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": { "namespace": "default", "name": "api" },
        "spec": spec,
    })
}

/// A route that says that it was taken.
fn marked() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": "api" },
        "spec": { "hosts": [HOST], "http": [{
            "headers": { "response": { "set": { "x-marked": "yes" } } },
            "route": [{ "destination": { "host": HOST } }],
        }]},
    })
}

#[test]
fn endpoints_that_are_written_serve_the_address_that_is_given() -> Result<()> {
    let scene = Scene::new()?;
    assert!(scene.answer("10.96.200.1", 80).is_err(), "nobody is there");
    let endpoints: Vec<_> = scene
        .servers
        .iter()
        .map(|pod| json!({ "address": pod.ip(), "labels": { "pod": pod.name() } }))
        .collect();
    let subset = json!({ "name": "second", "labels": { "pod": "api-1" } });
    let mut route = marked();
    route["spec"]["http"][0]["route"][0]["destination"]["subset"] = json!("second");
    scene.put(&[
        entry(json!({
            "addresses": ["10.96.200.1"],
            "ports": [{ "number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080 }],
            "resolution": "STATIC",
            "endpoints": endpoints,
        })),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": { "namespace": "default", "name": "api" },
            "spec": { "host": HOST, "subsets": [subset] },
        }),
        route,
    ])?;

    for _ in 0..6 {
        let answer = scene.answer("10.96.200.1", 80)?;
        assert!(answer.contains("x-marked: yes"), "{answer}");
        assert!(answer.contains("x-endpoint: api-1"), "{answer}");
    }
    Ok(())
}

#[test]
fn a_host_is_captured_by_what_dns_says_and_follows_it() -> Result<()> {
    let scene = Scene::new()?;
    let [first, second] = &scene.servers[..] else {
        unreachable!("two servers")
    };
    scene.says(&[first])?;
    let port = json!({ "number": 8080, "name": "http", "protocol": "HTTP" });
    scene.put(&[
        entry(json!({ "ports": [port], "resolution": "DNS" })),
        marked(),
    ])?;
    let has = |pod: &Pod| {
        Ok(scene
            .addresses()?
            .contains(&format!("\"{}:8080\"", pod.ip())))
    };
    until("the name is resolved", || has(first))?;

    let answer = scene.answer(&first.ip().to_string(), 8080)?;
    assert!(
        answer.contains("x-marked: yes") && answer.contains("x-endpoint: api-0"),
        "{answer}"
    );
    let other = scene.answer(&second.ip().to_string(), 8080)?;
    assert!(
        !other.contains("x-marked"),
        "an address that is not the host's: {other}"
    );
    scene.says(&[second])?;
    until("the new address is known", || has(second))?;
    assert!(!has(first)?, "{}", scene.addresses()?);
    let answer = scene.answer(&second.ip().to_string(), 8080)?;
    assert!(
        answer.contains("x-marked: yes") && answer.contains("x-endpoint: api-1"),
        "{answer}"
    );
    Ok(())
}

#[test]
fn a_name_that_is_gone_keeps_its_last_addresses_and_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let first = &scene.servers[0];
    scene.says(&[first])?;
    let port = json!({ "number": 8080, "name": "http", "protocol": "HTTP" });
    scene.put(&[
        entry(json!({ "ports": [port], "resolution": "DNS" })),
        marked(),
    ])?;
    let known = format!("\"{}:8080\"", first.ip());
    until("the name is resolved", || {
        Ok(scene.addresses()?.contains(&known))
    })?;

    scene.says(&[])?;
    scene.agent.wait_problem(&[HOST, "cannot be resolved"])?;

    assert!(scene.addresses()?.contains(&known));
    let answer = scene.answer(&first.ip().to_string(), 8080)?;
    assert!(answer.contains("x-marked: yes"), "{answer}");
    Ok(())
}

/// An entry for both servers by two addresses of its own, with more in its spec.
fn of_both(scene: &Scene, more: Value) -> Value {
    let mut spec = json!({ "ports": [{ "number": 8080, "name": "http", "protocol": "HTTP" }] });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
        spec.entry("addresses")
            .or_insert_with(|| json!(scene.servers.iter().map(Pod::ip).collect::<Vec<_>>()));
    }
    entry(spec)
}

#[test]
fn without_a_resolution_the_client_chooses_the_address() -> Result<()> {
    let scene = Scene::new()?;
    scene.put(&[of_both(&scene, json!({ "resolution": "NONE" })), marked()])?;

    for _ in 0..4 {
        for server in &scene.servers {
            let answer = scene.answer(&server.ip().to_string(), 8080)?;
            let own = format!("x-endpoint: {}", server.name());
            assert!(answer.contains("x-marked: yes"), "{answer}");
            assert!(answer.contains(&own), "{own}: {answer}");
        }
    }
    Ok(())
}

#[test]
fn endpoints_get_their_share_by_weight() -> Result<()> {
    let scene = Scene::new()?;
    let weights = [4, 1];
    let endpoints: Vec<_> = (scene.servers.iter().zip(weights))
        .map(|(pod, weight)| json!({ "address": pod.ip(), "weight": weight }))
        .collect();
    scene.put(&[of_both(
        &scene,
        json!({
            "addresses": ["10.96.200.1"],
            "resolution": "STATIC",
            "endpoints": endpoints,
        }),
    )])?;

    let mut first = 0;
    for _ in 0..40 {
        let answer = scene.answer("10.96.200.1", 8080)?;
        first += u32::from(answer.contains("x-endpoint: api-0"));
    }
    // Each worker's turns come to four fifths; a round that is not over is at most one off.
    assert!((28..=36).contains(&first), "{first} of 40");
    Ok(())
}

#[test]
fn endpoints_are_the_pods_that_are_selected() -> Result<()> {
    let scene = Scene::new()?;
    for server in &scene.servers {
        scene.put(&[entry(json!({
            "addresses": ["10.96.200.1"],
            "ports": [{ "number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080 }],
            "resolution": "STATIC",
            "workloadSelector": { "labels": { "app": server.name() } },
        }))])?;
        for _ in 0..6 {
            let answer = scene.answer("10.96.200.1", 80)?;
            let own = format!("x-endpoint: {}", server.name());
            assert!(answer.contains(&own), "{own}: {answer}");
        }
    }
    Ok(())
}

#[test]
fn an_entry_is_for_those_it_is_exported_to() -> Result<()> {
    let scene = Scene::new()?;
    let stranger = scene.node.pod("stranger").namespace("blog").captured();
    let stranger = stranger.start()?;
    scene.agent.wait_captured([&stranger])?;
    let put = |to: &str| {
        scene.put(&[entry(json!({
            "exportTo": [to],
            "addresses": ["10.96.200.1"],
            "ports": [{ "number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080 }],
            "resolution": "STATIC",
            "endpoints": [{ "address": scene.servers[0].ip() }],
        }))])
    };
    let ask = || {
        let arguments = ["--max-time", "2", "http://10.96.200.1/"];
        stranger.curl(&arguments)?.success()
    };

    put("*")?;
    assert!(ask()?.contains("api-0"), "the control");
    put(".")?;
    assert!(
        scene
            .answer("10.96.200.1", 80)?
            .contains("x-endpoint: api-0")
    );
    let refused = ask();
    assert!(refused.is_err(), "nobody is there for it: {refused:?}");
    Ok(())
}

#[test]
fn endpoints_may_be_names_that_dns_resolves() -> Result<()> {
    let scene = Scene::new()?;
    let [first, second] = &scene.servers[..] else {
        unreachable!("two servers")
    };
    // The host itself has another address, which is not asked.
    let says = |pod: &Pod| -> Result<()> {
        let names = scene.node.scratch().join("names");
        let next = names.with_extension("next");
        let lines = format!("{HOST} 1 192.0.2.1\nbackend.example.org 1 {}\n", pod.ip());
        fs::write(&next, lines)?;
        Ok(fs::rename(next, names)?)
    };
    says(first)?;
    scene.put(&[entry(json!({
        "addresses": ["10.96.200.1"],
        "ports": [{ "number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080 }],
        "resolution": "DNS",
        "endpoints": [{ "address": "backend.example.org" }],
    }))])?;

    for pod in [first, second] {
        says(pod)?;
        let own = format!("x-endpoint: {}", pod.name());
        until("the endpoint's name is resolved", || {
            let answer = scene.answer("10.96.200.1", 80);
            Ok(answer.is_ok_and(|answer| answer.contains(&own)))
        })?;
    }
    Ok(())
}
