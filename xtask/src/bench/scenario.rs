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
    /// This project's agent on the node.
    Agent,
    /// Envoy in the client's pod, behind an nftables redirect.
    Envoy,
    /// HAProxy in the client's pod, behind an nftables redirect.
    Haproxy,
}

impl Kind {
    pub(super) const ALL: &[Self] = &[Self::NoMesh, Self::Agent, Self::Envoy, Self::Haproxy];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMesh => "no mesh",
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
    _servers: Vec<Pod>,
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
        let service = node.service("web").round_robin().to(&servers)?;
        let client = node.pod("client");
        let client = if kind == Kind::Agent {
            client.captured()
        } else {
            client
        }
        .start()?;
        let proxy = match kind {
            Kind::NoMesh => Proxy::None,
            Kind::Agent => {
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
            _servers: servers,
            _node: node,
        };
        scenario.verify()?;
        Ok(scenario)
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
                .status(&[&self.service.url()])
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
