//! What a Service says about connections that go straight to its endpoints.

use std::time::Duration;

/// What becomes of open connections whose endpoint is gone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StaleConnections {
    /// They are ended.
    #[default]
    Close,
    /// They are left to the application's own time-outs.
    Keep,
}

impl StaleConnections {
    /// Stable name, as in the `proxy-agent.io/stale-connections` annotation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Keep => "keep",
        }
    }
}

/// How direct connections of a cluster are treated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DirectPolicy {
    /// How long a client pod stays with its endpoint after its last connection to it.
    pub affinity: Option<Duration>,
    /// What becomes of connections to an endpoint that is gone.
    pub stale: StaleConnections,
}
