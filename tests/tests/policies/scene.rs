//! A Service whose endpoints fail as they are told, and one for copies.

use std::process::Command;

use anyhow::{Context, Result};
use proxy_e2e::echo::Answer;
use proxy_e2e::manifest::{endpoint_slice, http_route};
use proxy_e2e::{Agent, AgentOptions, Node, Pod, Service};
use serde_json::{Value, json};

pub(crate) const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// A pod with the server that fails as it is told.
pub(crate) fn moody_pod(node: &Node, name: &str) -> Result<Pod> {
    let pod = node.pod(name).start()?;
    let mut command = Command::new("/usr/bin/python3");
    command.args([&format!("{FIXTURES}/moody_server.py"), name, "8080"]);
    let mut server = pod.spawn("moody", command)?;
    server.wait_for_output("ready")?;
    pod.keep(server);
    Ok(pod)
}

/// Service `web` with three endpoints and `shadow` with one, and a captured client.
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) client: Pod,
    pub(crate) web: Service,
    pub(crate) servers: Vec<Pod>,
    pub(crate) shadow: Pod,
    _shadow: Service,
    pub(crate) node: Node,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        Self::with_workers(2)
    }

    pub(crate) fn with_workers(workers: u8) -> Result<Self> {
        let node = Node::new()?;
        let names = ["web-0", "web-1", "web-2"];
        let servers = names.map(|name| moody_pod(&node, name));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        let web = node.service("web").round_robin().to(&servers)?;
        let shadow = moody_pod(&node, "shadow-0")?;
        let service = node.service("shadow").to([&shadow])?;
        let client = node.pod("client").captured().start()?;
        let agent = AgentOptions::new(&node).workers(workers).start()?;
        agent.wait_captured([&client])?;
        agent.wait_endpoints(&web, 3)?;
        agent.wait_endpoints(&service, 1)?;
        Ok(Self {
            agent,
            client,
            web,
            servers,
            shadow,
            _shadow: service,
            node,
        })
    }

    /// Puts a VirtualService of these routes on `web` and waits until it is in force.
    pub(crate) fn virtual_service(&self, http: Value) -> Result<()> {
        self.put(&json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": { "namespace": "default", "name": "route" },
            "spec": { "hosts": ["web"], "http": http },
        }))
    }

    /// Puts a route of one rule to `web` on it, with more fields, and waits until it is in force.
    pub(crate) fn rule(&self, fields: Value) -> Result<()> {
        let mut rule = json!({ "backendRefs": [{ "name": "web", "port": 80 }] });
        let more = fields.as_object().context("fields are a map")?;
        rule.as_object_mut()
            .context("a rule is a map")?
            .extend(more.clone());
        self.put(&http_route("route", "web", &json!([rule])))
    }

    pub(crate) fn put(&self, object: &Value) -> Result<()> {
        self.put_all(std::slice::from_ref(object))
    }

    /// Puts these objects in place of those before and waits until they are in force.
    pub(crate) fn put_all(&self, objects: &[Value]) -> Result<()> {
        self.write("route.yaml", objects)
    }

    /// Puts Service `web` in its place as it is given.
    pub(crate) fn replace_web(&self, object: &Value) -> Result<()> {
        let mut objects = vec![object.clone()];
        let endpoints = self
            .servers
            .iter()
            .map(|pod| (pod.name().to_owned(), pod.ip()));
        let endpoints: Vec<_> = endpoints.collect();
        objects.push(endpoint_slice(object, "IPv4", &endpoints));
        self.write(&self.web.file(), &objects)
    }

    fn write(&self, file: &str, objects: &[Value]) -> Result<()> {
        self.agent.apply(self.node.config(), file, objects)
    }

    /// Requests for `path` that the endpoints of `web` have seen.
    pub(crate) fn seen(&self, path: &str) -> Result<Vec<Answer>> {
        let mut all = Vec::new();
        for server in &self.servers {
            all.extend(seen_by(server, path)?);
        }
        Ok(all)
    }

    pub(crate) fn status(&self, path: &str, arguments: &[&str]) -> Result<u16> {
        let url = self.web.url_of(path);
        self.client.status(&[arguments, &[&url]].concat())
    }

    /// The head of an answer as curl shows it, lower case.
    pub(crate) fn head(&self, path: &str, arguments: &[&str]) -> Result<String> {
        let url = self.web.url_of(path);
        let shown = ["--dump-header", "-", "--output", "/dev/null"];
        let head = self
            .client
            .curl(&[&shown, arguments, &[&url]].concat())?
            .success()?;
        Ok(head.to_lowercase())
    }

    /// What came of a response's body, which may have been cut off.
    pub(crate) fn body(&self, path: &str) -> Result<String> {
        let url = self.web.url_of(path);
        Ok(self.client.curl(&["--no-buffer", &url])?.stdout)
    }

    pub(crate) fn metric(&self, line: &str) -> Result<u64> {
        let metrics = self.agent.metrics()?;
        let mut found = metrics.lines().filter_map(|one| one.strip_prefix(line));
        let value = found.next().unwrap_or("0").trim();
        value.parse().with_context(|| format!("{line} is {value}"))
    }
}

pub(crate) fn seen_by(server: &Pod, path: &str) -> Result<Vec<Answer>> {
    let all = server.curl(&["http://127.0.0.1:8080/seen"])?.success()?;
    let all: Vec<Answer> = serde_json::from_str(&all)?;
    Ok(all.into_iter().filter(|one| one.path == path).collect())
}
