//! When an endpoint that keeps failing is to be left alone for a while, as Linkerd says it.

use std::time::Duration;

/// Consecutive failures after which an endpoint is passed over, and for how long.
///
/// Part of the model; no balancer goes by it yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailureAccrual {
    /// So many failures in a row.
    pub max_failures: u32,
    /// How long the first time.
    pub min_penalty: Duration,
    /// How long at most: the time doubles.
    pub max_penalty: Duration,
    /// Random part that is added, in percent of the time.
    pub jitter_percent: u32,
}

impl Default for FailureAccrual {
    /// Linkerd's defaults (its reference on circuit breaking).
    fn default() -> Self {
        Self {
            max_failures: 7,
            min_penalty: Duration::from_secs(1),
            max_penalty: Duration::from_secs(60),
            jitter_percent: 50,
        }
    }
}
