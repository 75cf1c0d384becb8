//! What `explain` shows of one request.

use serde::{Deserialize, Serialize};

/// Answer of `GET /explain`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Explanation {
    /// `namespace/pod` and whether it is captured, with the reason if not.
    pub from: String,
    /// What the connect hook would do: `proxy`, `pass` with the reason.
    pub verdict: String,
    /// The listener, `namespace/service:port`.
    pub listener: String,
    /// Address that the host stands for.
    pub address: String,
    /// The path in its normal form, as rules are matched against it, where the URL has another one.
    pub path: String,
    /// The objects whose rules decide, or `implicit`.
    pub origin: String,
    /// The object and the rule that matched.
    pub route: String,
    /// Rules that come before it, each with the condition that failed: those whose path holds
    /// first.
    pub near_misses: Vec<String>,
    /// How many more of them there are.
    pub more_misses: usize,
    /// Routes that would apply if the ones of `origin` did not stand before them.
    pub shadowed: Vec<String>,
    /// What the rule does, filters in order.
    pub action: Vec<String>,
    /// Clusters with their share, and their endpoints.
    pub clusters: Vec<ExplainedCluster>,
}

/// A cluster that a request may go to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ExplainedCluster {
    /// Name.
    pub name: String,
    /// Its weight in the rule.
    pub weight: u32,
    /// Share of the requests, in percent.
    pub share_percent: f64,
    /// Balance policy.
    pub balance: String,
    /// What is done for this destination alone, in order.
    pub action: Vec<String>,
    /// Endpoints: the usable ones first.
    pub endpoints: Vec<ExplainedEndpoint>,
}

/// An endpoint that a request may go to, or that it cannot.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ExplainedEndpoint {
    /// Address with port; empty if it has none.
    pub address: String,
    /// `namespace/name` of its pod, where known.
    pub pod: String,
    /// Node, where known.
    pub node: String,
    /// Zone, where known.
    pub zone: String,
    /// Its share beside the others that are usable; 1 where a ServiceEntry says nothing else.
    #[serde(default)]
    pub weight: u32,
    /// Whether requests go there.
    pub usable: bool,
    /// Why not; empty if they do.
    pub reason: String,
    /// Connects to it that failed since the agent's start.
    pub connect_failures_total: u64,
    /// Requests in flight now, over all workers.
    pub in_flight: u64,
}
