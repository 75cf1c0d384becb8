//! What stands between a client and the endpoints, and what each of them can carry.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use super::work::Work;

/// What stands between the client and the endpoints.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Nothing: the client knows the endpoints' own addresses.
    NoMesh,
    /// kube-proxy's DNAT alone.
    Dnat,
    /// A bare TCP copy in the client's pod, addressed at its listener on 127.0.0.1.
    TcpCopy,
    /// A bare HTTP/2 copy of the h2 library's parts, likewise.
    Http2Copy,
    /// This project's agent on the node.
    Agent,
    /// The same, the Services in direct mode.
    AgentDirect,
    /// The same with `--acceleration on`, the endpoints' pods captured too: both halves of the path.
    AgentAccelerated,
    /// Direct mode, and `acceleration: direct` on all pods.
    AgentDirectAccelerated,
    /// Another build of the agent (`--before`).
    AgentBefore,
    /// Envoy in the client's pod, behind an nftables redirect.
    Envoy,
    /// Envoy in the client's and in the servers' pods, as a sidecar mesh runs it.
    EnvoyTwice,
    /// HAProxy in the client's pod, behind an nftables redirect.
    Haproxy,
}

impl Kind {
    /// Whether the agent stands between.
    pub(super) const fn is_agent(self) -> bool {
        matches!(self, Self::Agent | Self::AgentBefore) || self.is_direct() || self.accelerates()
    }

    /// Whether connections are direct.
    pub(super) const fn is_direct(self) -> bool {
        matches!(self, Self::AgentDirect | Self::AgentDirectAccelerated)
    }

    /// Whether each connection of the client's is one with a server.
    pub(super) const fn has_no_proxy(self) -> bool {
        matches!(self, Self::NoMesh | Self::Dnat) || self.is_direct()
    }

    /// Whether they are accelerated.
    pub(super) const fn accelerates(self) -> bool {
        matches!(self, Self::AgentAccelerated | Self::AgentDirectAccelerated)
    }

    /// Whether this work is measured on this path.
    pub(super) const fn does(self, work: Work) -> bool {
        if matches!(self, Self::AgentDirectAccelerated) {
            return matches!(work, Work::DirectKeepAlive);
        }
        if matches!(self, Self::Http2Copy) {
            return matches!(work, Work::Http2 | Work::Grpc);
        }
        let whole_agent = matches!(self, Self::Agent | Self::AgentBefore);
        match work {
            Work::DirectKeepAlive | Work::DirectNewConnections => {
                matches!(self, Self::NoMesh | Self::Dnat | Self::AgentDirect)
            }
            Work::KeepAlive => true,
            Work::NewConnections => !matches!(self, Self::TcpCopy),
            Work::LargeBodies => !matches!(self, Self::TcpCopy | Self::EnvoyTwice | Self::NoMesh),
            Work::Http2 | Work::Grpc => {
                whole_agent || matches!(self, Self::Dnat | Self::Envoy | Self::Haproxy)
            }
            Work::ConstantRate => {
                matches!(
                    self,
                    // What the wake-ups of any proxy cost: the floor.
                    Self::NoMesh
                        | Self::TcpCopy
                        | Self::Agent
                        | Self::AgentBefore
                        | Self::Envoy
                        | Self::EnvoyTwice
                )
            }
            Work::Idle | Work::IdleConnections => {
                whole_agent || matches!(self, Self::Envoy | Self::Haproxy)
            }
            Work::Hook => whole_agent || matches!(self, Self::AgentDirect),
            Work::Restart | Work::Scale => matches!(self, Self::Agent),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMesh => "no mesh",
            Self::Dnat => "kube-proxy's DNAT",
            Self::TcpCopy => "bare TCP copy",
            Self::Http2Copy => "bare HTTP/2 copy",
            Self::Agent => "agent",
            Self::AgentDirect => "agent, direct mode",
            Self::AgentAccelerated => "agent, accelerated",
            Self::AgentDirectAccelerated => "agent, direct mode, accelerated",
            Self::AgentBefore => "agent, before",
            Self::Envoy => "Envoy sidecar",
            Self::EnvoyTwice => "two Envoy sidecars",
            Self::Haproxy => "HAProxy sidecar",
        })
    }
}
