//! How the endpoints of a cluster are to be used, beside which of them is chosen for a request.
//! Plain data: nothing of it is enforced yet, and `status` says so of each part that is set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The policies of a cluster. Most have none, and then there is no such value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterPolicies {
    /// When an endpoint is left out for a while.
    pub outlier: Option<OutlierDetection>,
    /// Limits on connections.
    pub connections: Option<ConnectionLimits>,
    /// Limits on requests.
    pub requests: Option<RequestLimits>,
    /// What of a request decides on its endpoint.
    pub hash: Option<ConsistentHash>,
    /// Which localities' endpoints are used.
    pub locality: Option<LocalityPolicy>,
    /// How slowly a new endpoint gets its share.
    pub warmup: Option<Warmup>,
}

impl ClusterPolicies {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// When an endpoint is left out for a while; defaults are Envoy's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutlierDetection {
    /// Failures in a row of any status of 500 and above; 0 = not looked at.
    pub consecutive_5xx: u32,
    /// Failures in a row of status 502, 503 or 504; 0 = not looked at.
    pub consecutive_gateway_errors: u32,
    /// Failures in a row to reach the endpoint, if these are told apart; 0 = not looked at.
    pub consecutive_local_failures: u32,
    /// Whether failures to reach the endpoint are told apart from its answers.
    pub split_local_failures: bool,
    /// Time between looks.
    pub interval: Duration,
    /// Time that an endpoint is left out, times how often it was.
    pub base_ejection: Duration,
    /// Share of the endpoints that may be left out.
    pub max_ejection_percent: u8,
    /// Share of healthy endpoints below which none is left out.
    pub min_health_percent: u8,
}

/// Limits on connections to a cluster's endpoints; `None` = the agent's own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConnectionLimits {
    /// Connections at a time.
    pub max_connections: Option<u32>,
    /// Time to establish one.
    pub connect_timeout: Option<Duration>,
    /// Age at which one is closed.
    pub max_duration: Option<Duration>,
    /// Time without a byte after which one is closed.
    pub idle_timeout: Option<Duration>,
    /// Probes of an idle one.
    pub keepalive: Option<Keepalive>,
}

/// TCP keepalive; `None` = the system's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Keepalive {
    /// Probes without an answer before the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first.
    pub time: Option<Duration>,
    /// Time between two.
    pub interval: Option<Duration>,
}

/// Limits on requests to a cluster; `None` = the agent's own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RequestLimits {
    /// Requests that wait for a connection.
    pub max_pending: Option<u32>,
    /// Requests at a time.
    pub max_requests: Option<u32>,
    /// Requests before a connection is closed.
    pub max_per_connection: Option<u32>,
    /// Retries at a time.
    pub max_retries: Option<u32>,
    /// Requests at a time on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// Time without a request after which a connection is closed.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1 requests are sent on over HTTP/2.
    pub upgrade_to_http2: Option<bool>,
    /// Whether the client's protocol decides on the upstream's.
    pub use_client_protocol: bool,
}

/// What of a request decides on its endpoint, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsistentHash {
    /// What is hashed.
    pub key: HashKey,
    /// How endpoints are looked up by the hash.
    pub table: HashTable,
}

/// What of a request is hashed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashKey {
    /// A header.
    Header(Arc<str>),
    /// A cookie, which is set where it is missing and has a lifetime.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Its path.
        path: Option<Arc<str>>,
        /// Its lifetime; zero for that of the browser's session, `None` to set none.
        ttl: Option<Duration>,
    },
    /// The client's address.
    SourceIp,
    /// A query parameter.
    Query(Arc<str>),
}

/// How endpoints are looked up by a hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HashTable {
    /// Ketama ring of at least so many points.
    Ring(u64),
    /// Maglev table of so many entries, a prime number.
    Maglev(u64),
}

/// Which localities' endpoints are used; localities are `region/zone/subzone`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LocalityPolicy {
    /// Whether any of it is asked for.
    pub enabled: bool,
    /// Shares by the client's locality.
    pub distribute: Vec<Distribution>,
    /// Region that takes over from another one.
    pub failover: Vec<(Arc<str>, Arc<str>)>,
    /// Labels that endpoints share with the client, the most important first.
    pub failover_priority: Vec<Arc<str>>,
}

/// For clients of a locality, the share of each other one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Distribution {
    /// Where the clients are.
    pub from: Arc<str>,
    /// Shares in percent, 100 together.
    pub to: BTreeMap<Arc<str>, u8>,
}

/// How slowly a new endpoint gets its share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Warmup {
    /// Time until it has all of it.
    pub duration: Duration,
    /// Share that it begins with, in thousandths of a percent.
    pub minimum_millipercent: u32,
    /// Exponent of the way in between, in thousandths.
    pub aggression_milli: u32,
}
