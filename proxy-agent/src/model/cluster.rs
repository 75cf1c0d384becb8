//! A set of endpoints that are interchangeable for a request.

use std::sync::Arc;

use super::{ClusterPolicies, DirectPolicy, Endpoint, FailureAccrual, LeftOut};

/// Index of a cluster in [`super::Snapshot::clusters`]. The id of a name stays the same from one
/// snapshot to the next as long as the name is in use, so that workers can keep state by id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClusterId(pub u32);

impl ClusterId {
    /// The id as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How the endpoint of the next request is chosen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BalancePolicy {
    /// Power of two choices by requests in flight; ties go round.
    #[default]
    LeastRequest,
    /// Each endpoint in turn.
    RoundRobin,
    /// At random.
    Random,
    /// The one whose address the client chose (a ServiceEntry's resolution NONE); clients that
    /// chose none of them, since a route led them here, are balanced by requests in flight.
    AsAsked,
}

impl BalancePolicy {
    /// Stable name, as in the `proxy-agent.io/balance` annotation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeastRequest => "least-request",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::AsAsked => "as-asked",
        }
    }
}

/// How many of a cluster's requests under way may be retries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryShare {
    /// Retries for each 10,000 requests.
    pub per_ten_thousand: u32,
    /// Retries that are always allowed.
    pub min_concurrent: u32,
}

impl Default for RetryShare {
    /// Envoy's: a fifth, and three.
    fn default() -> Self {
        Self {
            per_ten_thousand: 2_000,
            min_concurrent: 3,
        }
    }
}

/// How the clients of a namespace use a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientPolicy {
    /// How an endpoint is chosen.
    pub balance: BalancePolicy,
    /// How many retries there may be at once.
    pub retry_share: RetryShare,
}

/// What the agent speaks to the endpoints of an HTTP cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UpstreamProtocol {
    /// The version that the request came in.
    AsReceived,
    /// HTTP/2 by prior knowledge (appProtocol `kubernetes.io/h2c`, `grpc`).
    Http2,
}

/// Endpoints of one port of a Service or of a ServiceEntry's host (or of one `linkerd.io/v1`
/// Service).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cluster {
    /// Its place in the snapshot.
    pub id: ClusterId,
    /// Unique name, `namespace/service:port`; `linkerd/namespace/service` for linkerd.io/v1.
    pub name: Arc<str>,
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub service: Arc<str>,
    /// Port of the Service, host byte order.
    pub port: u16,
    /// How an endpoint is chosen.
    pub balance: BalancePolicy,
    /// How many retries there may be at once.
    pub retry_share: RetryShare,
    /// Namespaces for whose clients these two are others.
    pub own_policies: Vec<(Arc<str>, ClientPolicy)>,
    /// What is spoken to endpoints.
    pub upstream: UpstreamProtocol,
    /// What is done with connections that go straight to the endpoints.
    pub direct: DirectPolicy,
    /// When an endpoint that fails is to be passed over; accepted, not enforced.
    pub failure_accrual: Option<FailureAccrual>,
    /// What else is asked for, none of which is enforced yet; `None` for most clusters.
    pub policies: Option<Arc<ClusterPolicies>>,
    /// The usable endpoints, sorted by address, without duplicates.
    pub endpoints: Vec<Endpoint>,
    /// What is named beside them and gets no requests, sorted; for those who ask why.
    pub left_out: Vec<LeftOut>,
}

impl Cluster {
    /// How it is used by the clients of a namespace.
    pub fn policy_for(&self, client: &str) -> ClientPolicy {
        let mut own = self.own_policies.iter();
        let own = own.find(|(namespace, _)| **namespace == *client);
        let everybodys = ClientPolicy {
            balance: self.balance,
            retry_share: self.retry_share,
        };
        own.map_or(everybodys, |(_, own)| *own)
    }
}
