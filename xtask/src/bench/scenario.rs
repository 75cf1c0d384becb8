//! What is compared: a client pod, two nginx endpoints, and what stands between them.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use proxy_e2e::{Agent, AgentOptions, Node, Pod, Process, Service};
use serde::Serialize;

use super::sidecar;

/// Bytes of the large body.
pub(super) const LARGE_BYTES: usize = 1 << 20;

/// What stands between the client and the endpoints.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// kube-proxy's DNAT alone.
    NoMesh,
    /// The client knows an endpoint's address: no Service at all.
    Straight,
    /// This project's agent on the node, and a Service in direct mode.
    Direct,
    /// This project's agent on the node.
    Agent,
    /// Envoy in the client's pod, behind an nftables redirect.
    Envoy,
    /// HAProxy in the client's pod, behind an nftables redirect.
    Haproxy,
}

impl Kind {
    pub(super) const ALL: &[Self] = &[
        Self::NoMesh,
        Self::Straight,
        Self::Direct,
        Self::Agent,
        Self::Envoy,
        Self::Haproxy,
    ];

    const fn has_agent(self) -> bool {
        matches!(self, Self::Agent | Self::Direct)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMesh => "no mesh",
            Self::Straight => "no mesh, no Service",
            Self::Direct => "agent, direct mode",
            Self::Agent => "agent",
            Self::Envoy => "Envoy sidecar",
            Self::Haproxy => "HAProxy sidecar",
        })
    }
}

/// The binaries that are measured.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) agent: PathBuf,
    pub(super) envoy: Option<PathBuf>,
}

/// What stands between, running.
#[derive(Debug)]
enum Proxy {
    None,
    Agent(Agent),
    Sidecar(Process),
}

/// One scenario on a node of its own.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) kind: Kind,
    proxy: Proxy,
    pub(super) client: Pod,
    pub(super) service: Service,
    servers: Vec<Pod>,
    _node: Node,
}

impl Scenario {
    pub(super) fn start(kind: Kind, programs: &Programs) -> Result<Self> {
        let node = Node::new()?;
        let files = node.scratch().join("files");
        fs::create_dir(&files)?;
        fs::write(files.join("large"), vec![b'x'; LARGE_BYTES])?;
        let mut servers = Vec::new();
        for name in ["nginx-0", "nginx-1"] {
            let pod = node.pod(name).start()?;
            pod.serve_nginx(8080, node.scratch())?;
            servers.push(pod);
        }
        let mut service = node.service("web").round_robin();
        if kind == Kind::Direct {
            service = service.annotated("mode", "direct");
        }
        let service = service.to(&servers)?;
        let client = node.pod("client");
        let client = if kind.has_agent() {
            client.captured()
        } else {
            client
        }
        .start()?;
        let proxy = match kind {
            Kind::NoMesh | Kind::Straight => Proxy::None,
            Kind::Agent | Kind::Direct => {
                let options = AgentOptions::new(&node).binary(&programs.agent).log("warn");
                let agent = options.start()?;
                agent.wait_captured([&client])?;
                agent.wait_endpoints(&service, servers.len())?;
                Proxy::Agent(agent)
            }
            Kind::Envoy => {
                let envoy = programs.envoy.as_deref().context("Envoy is installed")?;
                Proxy::Sidecar(sidecar::envoy(&node, &client, &service, &servers, envoy)?)
            }
            Kind::Haproxy => Proxy::Sidecar(sidecar::haproxy(&node, &client, &service, &servers)?),
        };
        let scenario = Self {
            kind,
            proxy,
            client,
            service,
            servers,
            _node: node,
        };
        scenario.verify()?;
        Ok(scenario)
    }

    /// `http://ADDRESS/` that the client asks, with a path that starts without a slash.
    pub(super) fn url_of(&self, path: &str) -> String {
        match self.kind {
            Kind::Straight => format!("http://{}:8080/{path}", self.servers[0].ip()),
            Kind::NoMesh | Kind::Direct | Kind::Agent | Kind::Envoy | Kind::Haproxy => {
                self.service.url_of(path)
            }
        }
    }

    /// Process id of the proxy.
    pub(super) fn proxy_pid(&self) -> Option<u32> {
        match &self.proxy {
            Proxy::None => None,
            Proxy::Agent(agent) => Some(agent.pid()),
            Proxy::Sidecar(process) => Some(process.pid()),
        }
    }

    /// Requires that requests are answered, and that they go where the scenario says.
    fn verify(&self) -> Result<()> {
        let ordinary = self.service.packets()?;
        proxy_e2e::until(&format!("{} answers", self.kind), || {
            Ok(self
                .client
                .status(&[&self.url_of("")])
                .is_ok_and(|status| status == 200))
        })?;
        let through_dnat = self.service.packets()? > ordinary;
        anyhow::ensure!(
            through_dnat == (self.kind == Kind::NoMesh),
            "{}: packets by the ordinary path: {through_dnat}",
            self.kind
        );
        Ok(())
    }
}
