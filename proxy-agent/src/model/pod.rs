//! A pod as capture sees it.

use std::net::IpAddr;
use std::sync::Arc;

/// Why a pod is not captured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotCaptured {
    /// Neither its namespace nor its annotation asks for it.
    NotEnabled,
    /// Its annotation or its namespace's label says `disabled`.
    Disabled,
    /// It shares the node's network.
    HostNetwork,
    /// It still has a sidecar.
    Sidecar,
    /// It has run to completion.
    Completed,
    /// `--capture all` leaves out kube-system and the agent's own namespace.
    SystemNamespace,
}

impl NotCaptured {
    /// Stable text for `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotEnabled => "not-enabled",
            Self::Disabled => "disabled",
            Self::HostNetwork => "host-network",
            Self::Sidecar => "sidecar",
            Self::Completed => "completed",
            Self::SystemNamespace => "system-namespace",
        }
    }
}

/// Which connections of a pod are accelerated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Accelerates {
    /// None.
    #[default]
    Nothing,
    /// Those with the agent.
    Proxied,
    /// Direct ones, too, with pods that ask for the same.
    DirectToo,
}

/// Whether a pod is to be captured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CaptureDecision {
    /// Its outbound connections are captured.
    Capture {
        /// Refuse rather than pass when the heartbeat is stale (`on-failure: closed`).
        fail_closed: bool,
        /// The pod has a sidecar, so the listener avoids the sidecar's ports.
        avoid_sidecar_ports: bool,
        /// Which of its connections are accelerated where they can be.
        accelerates: Accelerates,
    },
    /// They are left alone.
    LeaveAlone(NotCaptured),
}

/// A pod that may run on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    /// `metadata.uid`, as it stands in cgroup names (with `-`).
    pub uid: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// What capture does with it.
    pub capture: CaptureDecision,
}
