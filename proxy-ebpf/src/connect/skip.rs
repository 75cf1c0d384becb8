//! Why a connection is left alone, and what that means.

use proxy_ebpf::Stat;

/// Why a connection does not go to the agent.
#[derive(Clone, Copy)]
pub(crate) enum Skip {
    NotTcp,
    Agent,
    NotServing,
    Node,
    UnknownPod,
    UnknownPodRefused,
    NotCaptured,
    NoFrontend,
    FrontendPasses,
    BoundToDevice,
    NoListener,
    Stale,
    StaleRefused,
    StorageFull,
    NoEndpoint,
    SetGone,
}

/// What the application gets to see.
pub(crate) enum Verdict {
    /// The connection takes the node's ordinary path.
    Pass,
    /// connect(2) fails.
    Refuse,
}

impl Skip {
    /// The counter of this reason.
    #[inline(always)]
    pub(crate) const fn stat(self) -> Stat {
        match self {
            Self::NotTcp => Stat::PassedNotTcp,
            Self::Agent => Stat::PassedAgent,
            Self::NotServing => Stat::PassedNotServing,
            Self::Node => Stat::PassedNode,
            Self::UnknownPod => Stat::PassedUnknownPod,
            Self::UnknownPodRefused => Stat::RefusedUnknownPod,
            Self::NotCaptured => Stat::PassedNotCaptured,
            Self::NoFrontend => Stat::PassedNoFrontend,
            Self::FrontendPasses => Stat::PassedFrontend,
            Self::BoundToDevice => Stat::PassedBoundToDevice,
            Self::NoListener => Stat::PassedNoListener,
            Self::Stale => Stat::PassedStale,
            Self::StaleRefused => Stat::RefusedStale,
            Self::StorageFull => Stat::PassedStorageFull,
            Self::NoEndpoint => Stat::RefusedNoEndpoint,
            Self::SetGone => Stat::PassedSetGone,
        }
    }

    /// Everything passes but what the user asked to be refused, and what nobody could answer.
    #[inline(always)]
    pub(crate) const fn verdict(self) -> Verdict {
        match self {
            Self::UnknownPodRefused | Self::StaleRefused | Self::NoEndpoint => Verdict::Refuse,
            Self::NotTcp
            | Self::Agent
            | Self::NotServing
            | Self::Node
            | Self::UnknownPod
            | Self::NotCaptured
            | Self::NoFrontend
            | Self::FrontendPasses
            | Self::BoundToDevice
            | Self::NoListener
            | Self::Stale
            | Self::StorageFull
            | Self::SetGone => Verdict::Pass,
        }
    }
}
