//! One scenario: a node with a client pod, two endpoints, and what stands between them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use proxy_e2e::{Agent, AgentOptions, Node, Pod, PodOptions, Process, Service, until};
use serde_json::Value;

use super::kind::Kind;
use super::sidecar::{self, Hop, THREADS};
use super::spread;
use super::work::Work;

/// Bytes of the large body.
pub(super) const LARGE_BYTES: usize = 1 << 20;

/// Ports of the endpoints: nginx on two, the gRPC server.
const HTTP1: u16 = 8_080;
const HTTP2: u16 = 8_081;
const GRPC: u16 = 8_082;
/// Port of the first hop of a client's sidecar, and of a copy.
const CLIENT_SIDE: u16 = 15_001;
/// Port of the copy of gRPC.
const GRPC_COPY: u16 = 15_002;
/// Port of the first hop of a server's sidecar.
const SERVER_SIDE: u16 = 15_011;

/// The binaries that are measured, or measure.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) agent: PathBuf,
    /// Another build of the agent.
    pub(super) before: Option<PathBuf>,
    pub(super) bench: PathBuf,
    pub(super) envoy: Option<PathBuf>,
}

impl Programs {
    /// Why this build cannot accelerate, if it says that it cannot: by its command line, before
    /// anything else is looked at.
    pub(super) fn without_acceleration(&self) -> Result<Option<String>> {
        let mut command = Command::new(&self.agent);
        command.args(["run", "--acceleration", "on", "--help"]);
        let said = command.output().context("start the agent")?;
        if said.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&said.stderr);
        let why = said.lines().next().unwrap_or_default();
        Ok(Some(why.trim_start_matches("error: ").to_owned()))
    }
}

/// The same endpoints by three protocols.
#[derive(Debug)]
struct Services {
    http1: Service,
    http2: Service,
    grpc: Service,
}

/// One scenario on a node of its own.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) kind: Kind,
    agent: Option<Agent>,
    others: Vec<Process>,
    pub(super) client: Pod,
    services: Services,
    servers: Vec<Pod>,
    pub(super) node: Node,
}

impl Scenario {
    pub(super) fn start(kind: Kind, programs: &Programs) -> Result<Self> {
        let node = Node::new()?;
        let files = node.scratch().join("files");
        fs::create_dir(&files)?;
        fs::write(files.join("large"), vec![b'x'; LARGE_BYTES])?;
        let servers = vec![
            server(&node, "server-0", programs, kind)?,
            server(&node, "server-1", programs, kind)?,
        ];
        let services = Services::of(&node, &servers, kind)?;
        let client = node.pod("client");
        let client = if kind.is_agent() {
            client.captured()
        } else {
            client
        };
        let client = asking(client, kind);
        let mut scenario = Self {
            kind,
            agent: None,
            others: Vec::new(),
            client: client.start()?,
            services,
            servers,
            node,
        };
        scenario.put_between(programs)?;
        scenario.verify()?;
        Ok(scenario)
    }

    /// Starts what stands between.
    fn put_between(&mut self, programs: &Programs) -> Result<()> {
        match self.kind {
            Kind::NoMesh => spread::over(&self.servers, &self.client)?,
            Kind::Dnat => {}
            Kind::TcpCopy => {
                let copy = self.copy(programs, CLIENT_SIDE, HTTP1, &[])?;
                self.others.push(copy);
            }
            Kind::Http2Copy => {
                for (port, to) in [(CLIENT_SIDE, HTTP2), (GRPC_COPY, GRPC)] {
                    let copy = self.copy(programs, port, to, &["--http2"])?;
                    self.others.push(copy);
                }
            }
            Kind::Agent
            | Kind::AgentDirect
            | Kind::AgentAccelerated
            | Kind::AgentDirectAccelerated => {
                self.agent = Some(self.agent(&programs.agent)?);
            }
            Kind::AgentBefore => {
                let before = programs.before.as_deref().context("--before PATH")?;
                self.agent = Some(self.agent(before)?);
            }
            Kind::Envoy | Kind::EnvoyTwice | Kind::Haproxy => self.sidecars(programs)?,
        }
        Ok(())
    }

    fn agent(&self, binary: &Path) -> Result<Agent> {
        let mut options = AgentOptions::new(&self.node).workers(THREADS);
        if self.kind == Kind::AgentAccelerated {
            options = options.arguments(&["--acceleration", "on"]);
        }
        let agent = options.binary(binary).log("warn").start()?;
        agent.wait_captured([&self.client])?;
        for service in self.services.all() {
            agent.wait_endpoints(service, self.servers.len())?;
        }
        if self.kind.accelerates() {
            agent.wait_captured(&self.servers)?;
            // Pods have their acceleration when the self-test is over.
            until("the self-test is over", || {
                let acceleration = agent.status()?["bpf"]["acceleration"].clone();
                let items = acceleration["self_test"].as_array().cloned();
                let over = |item: &Value| {
                    let result = item["result"].as_str().unwrap_or("passed");
                    !result.starts_with("not run") && result != "running"
                };
                Ok(items.unwrap_or_default().iter().all(over))
            })?;
        }
        Ok(agent)
    }

    fn copy(&self, programs: &Programs, port: u16, to: u16, how: &[&str]) -> Result<Process> {
        let mut command = Command::new(&programs.bench);
        command
            .args(["copy", "--port", &port.to_string()])
            .args(how);
        command.args(["--workers", &THREADS.to_string()]);
        for to in self.endpoints(to) {
            command.args(["--to", &to.to_string()]);
        }
        let mut process = self.client.spawn("copy", command)?;
        process.wait_for_output("ready")?;
        Ok(process)
    }

    fn sidecars(&mut self, programs: &Programs) -> Result<()> {
        let envoy = || programs.envoy.as_deref().context("Envoy is installed");
        let ports = [HTTP1, HTTP2, GRPC];
        let hops = hops(CLIENT_SIDE, ports.map(|port| self.endpoints(port)));
        let addresses = self.services.all().map(Service::address);
        let redirects: Vec<_> = addresses.into_iter().zip(CLIENT_SIDE..).collect();
        sidecar::redirect_outbound(&self.client, &redirects)?;
        if self.kind == Kind::Haproxy {
            let process = sidecar::haproxy(&self.node, &self.client, &hops)?;
            self.others.push(process);
            return Ok(());
        }
        let process = sidecar::envoy(&self.node, &self.client, &hops, envoy()?)?;
        self.others.push(process);
        if self.kind == Kind::EnvoyTwice {
            for pod in &self.servers {
                let own = |port| vec![SocketAddr::from(([127, 0, 0, 1], port))];
                let hops = self::hops(SERVER_SIDE, ports.map(own));
                let redirects: Vec<_> = ports.into_iter().zip(SERVER_SIDE..).collect();
                sidecar::redirect_inbound(pod, &redirects)?;
                let process = sidecar::envoy(&self.node, pod, &hops, envoy()?)?;
                self.others.push(process);
            }
        }
        Ok(())
    }

    fn endpoints(&self, port: u16) -> Vec<SocketAddr> {
        let of = |pod: &Pod| SocketAddr::new(pod.ip(), port);
        self.servers.iter().map(of).collect()
    }

    /// Ends it, the agent as its node would.
    pub(super) fn end(mut self) -> Result<()> {
        self.agent.take().map_or(Ok(()), Agent::stop)
    }

    /// Process ids of what stands between.
    pub(super) fn pids(&self) -> Vec<u32> {
        let others = self.others.iter().map(Process::pid);
        self.agent.iter().map(Agent::pid).chain(others).collect()
    }

    /// Where the client sends this work.
    pub(super) fn url(&self, work: Work) -> String {
        let address = if self.kind == Kind::NoMesh {
            SocketAddr::from((spread::ADDRESS, HTTP1))
        } else if self.kind == Kind::Http2Copy && work == Work::Grpc {
            SocketAddr::from(([127, 0, 0, 1], GRPC_COPY))
        } else if matches!(self.kind, Kind::TcpCopy | Kind::Http2Copy) {
            SocketAddr::from(([127, 0, 0, 1], CLIENT_SIDE))
        } else {
            self.services.of_work(work).address()
        };
        let path = if work == Work::LargeBodies {
            "files/large"
        } else if work == Work::Grpc {
            "bench.Echo/Unary"
        } else {
            ""
        };
        format!("http://{address}/{path}")
    }

    /// Requires that requests are answered, and that they go where the scenario says.
    fn verify(&self) -> Result<()> {
        let ordinary = self.packets()?;
        if self.kind != Kind::Http2Copy {
            self.verify_spread()?;
        }
        for work in [Work::Http2, Work::Grpc] {
            if !self.kind.does(work) {
                continue;
            }
            let url = self.url(work);
            let arguments = ["--http2-prior-knowledge", &url];
            until(&format!("{} answers, {work}", self.kind), || {
                Ok(self.client.status(&arguments).is_ok_and(|code| code == 200))
            })?;
        }
        let through_dnat = self.packets()? > ordinary;
        anyhow::ensure!(
            through_dnat == (self.kind == Kind::Dnat),
            "{}: packets by the ordinary path: {through_dnat}",
            self.kind
        );
        if let Some(agent) = &self.agent {
            let [direct, proxied] = ["direct", "proxied"].map(|name| agent.counter(name));
            let direct = (direct? > 0, proxied? > 0);
            let expected = self.kind.is_direct();
            anyhow::ensure!(
                direct == (expected, !expected),
                "{}: connections that were direct, proxied: {direct:?}",
                self.kind
            );
            if self.kind == Kind::AgentDirectAccelerated {
                // A request and an answer at least.
                let redirected = agent.counter("redirected")?;
                anyhow::ensure!(redirected >= 2, "{}: {redirected} redirected", self.kind);
            }
        }
        Ok(())
    }

    /// Requires that requests are answered on connections with every server: paths can be compared
    /// only if they spread them alike. Nothing may have been asked before: a proxy would have a
    /// connection at hand.
    fn verify_spread(&self) -> Result<()> {
        let accepted =
            || -> Result<Vec<u64>> { self.servers.iter().map(spread::accepted).collect() };
        let before = accepted()?;
        let url = self.url(Work::KeepAlive);
        until(&format!("every server answers, {}", self.kind), || {
            let answered = self.client.status(&[&url])? == 200;
            let mut each = before.iter().zip(accepted()?);
            Ok(answered && each.all(|(before, now)| now > *before))
        })
    }

    /// Packets to the Services' addresses that the node has seen.
    fn packets(&self) -> Result<u64> {
        self.services.all().map(Service::packets).into_iter().sum()
    }
}

impl Services {
    fn of(node: &Node, servers: &[Pod], kind: Kind) -> Result<Self> {
        let service = |name: &str, port_name, target| {
            let mut options = node.service(name).round_robin();
            if kind.is_direct() {
                options = options.annotated("mode", "direct");
            }
            options.port(port_name, 80, target)
        };
        let http1 = service("http1", "http", HTTP1);
        // As `spread` does: in turn, two threads that connect at the same time would get a server
        // each. Proxies choose by themselves, and the few connections of HTTP/2 are to be shared
        // out evenly.
        let http1 = if kind.has_no_proxy() {
            http1.random()
        } else {
            http1
        };
        Ok(Self {
            http1: http1.to(servers)?,
            http2: service("http2", "http2", HTTP2)
                .app_protocol("kubernetes.io/h2c")
                .to(servers)?,
            grpc: service("grpc", "grpc", GRPC)
                .app_protocol("kubernetes.io/h2c")
                .to(servers)?,
        })
    }

    fn of_work(&self, work: Work) -> &Service {
        if work == Work::Http2 {
            &self.http2
        } else if work == Work::Grpc {
            &self.grpc
        } else {
            &self.http1
        }
    }

    const fn all(&self) -> [&Service; 3] {
        [&self.http1, &self.http2, &self.grpc]
    }
}

fn server(node: &Node, name: &str, programs: &Programs, kind: Kind) -> Result<Pod> {
    let pod = node.pod(name);
    let pod = if kind.accelerates() {
        pod.captured()
    } else {
        pod
    };
    let pod = asking(pod, kind).start()?;
    pod.serve_nginx_http2(HTTP1, HTTP2, node.scratch())?;
    let mut command = Command::new(&programs.bench);
    command.args(["grpc", "--port", &GRPC.to_string()]);
    let mut grpc = pod.spawn("grpc", command)?;
    grpc.wait_for_output("ready")?;
    pod.keep(grpc);
    Ok(pod)
}

/// With what the pod asks for; `--acceleration on` asks for the rest.
fn asking(pod: PodOptions, kind: Kind) -> PodOptions {
    if kind == Kind::AgentDirectAccelerated {
        pod.annotation("proxy-agent.io/acceleration", "direct")
    } else {
        pod
    }
}

fn hops(first: u16, to: [Vec<SocketAddr>; 3]) -> Vec<Hop> {
    let hop = |(listen, (http2, to))| Hop { listen, http2, to };
    (first..)
        .zip([false, true, true].into_iter().zip(to))
        .map(hop)
        .collect()
}
