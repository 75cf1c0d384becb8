//! `trafficPolicy` of a DestinationRule, section by section.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::PortSelector;

/// `trafficPolicy`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits on connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// Encryption.
    pub tls: Option<ClientTls>,
    /// For one port, these instead of all of the policy.
    #[serde(default)]
    pub port_level_settings: Vec<PortPolicy>,
    /// CONNECT through another proxy; not enforced.
    pub tunnel: Option<Tunnel>,
    /// PROXY protocol; not enforced.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Share of requests that may be retries.
    pub retry_budget: Option<RetryBudget>,
}

/// `trafficPolicy.portLevelSettings[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PortPolicy {
    /// The port of the Service.
    pub port: Option<PortSelector>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits on connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// Encryption.
    pub tls: Option<ClientTls>,
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// Name of the algorithm.
    pub simple: Option<String>,
    /// By a hash.
    pub consistent_hash: Option<ConsistentHash>,
    /// By locality.
    pub locality_lb_setting: Option<LocalityLbSetting>,
    /// Duration; older than `warmup`.
    pub warmup_duration_secs: Option<String>,
    /// How slowly new endpoints get their share.
    pub warmup: Option<Warmup>,
}

/// `loadBalancer.consistentHash`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConsistentHash {
    /// By a header.
    pub http_header_name: Option<String>,
    /// By a cookie.
    pub http_cookie: Option<HttpCookie>,
    /// By the client's address.
    pub use_source_ip: Option<bool>,
    /// By a query parameter.
    pub http_query_parameter_name: Option<String>,
    /// Ketama.
    pub ring_hash: Option<RingHash>,
    /// Maglev.
    pub maglev: Option<Maglev>,
    /// Older than `ringHash`.
    pub minimum_ring_size: Option<u64>,
}

/// `consistentHash.httpCookie`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct HttpCookie {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its path.
    pub path: Option<String>,
    /// Its lifetime.
    pub ttl: Option<String>,
}

/// `consistentHash.ringHash`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RingHash {
    /// Points at least.
    pub minimum_ring_size: Option<u64>,
}

/// `consistentHash.maglev`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Maglev {
    /// Entries.
    pub table_size: Option<u64>,
}

/// `loadBalancer.localityLbSetting`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LocalityLbSetting {
    /// Shares.
    #[serde(default)]
    pub distribute: Vec<Distribute>,
    /// Regions.
    #[serde(default)]
    pub failover: Vec<Failover>,
    /// Labels.
    #[serde(default)]
    pub failover_priority: Vec<String>,
    /// On unless it says no.
    pub enabled: Option<bool>,
}

/// `localityLbSetting.distribute[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Distribute {
    /// Locality of the client.
    #[serde(default)]
    pub from: String,
    /// Share of each locality in percent.
    #[serde(default)]
    pub to: BTreeMap<String, u32>,
}

/// `localityLbSetting.failover[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Failover {
    /// Region.
    #[serde(default)]
    pub from: String,
    /// Region that takes over.
    #[serde(default)]
    pub to: String,
}

/// `loadBalancer.warmup`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Warmup {
    /// Time until all of the share.
    pub duration: Option<String>,
    /// Share to begin with, in percent.
    pub minimum_percent: Option<f64>,
    /// Exponent.
    pub aggression: Option<f64>,
}

/// `connectionPool`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct ConnectionPool {
    /// Of connections.
    pub tcp: Option<TcpSettings>,
    /// Of requests.
    pub http: Option<HttpSettings>,
}

/// `connectionPool.tcp`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TcpSettings {
    /// Connections at a time.
    pub max_connections: Option<i64>,
    /// Time to establish one.
    pub connect_timeout: Option<String>,
    /// Probes of an idle one.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Age at which one is closed.
    pub max_connection_duration: Option<String>,
    /// Idle time after which one is closed.
    pub idle_timeout: Option<String>,
}

/// `connectionPool.tcp.tcpKeepalive`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct TcpKeepalive {
    /// Probes without an answer.
    pub probes: Option<i64>,
    /// Idle time before the first.
    pub time: Option<String>,
    /// Time between two.
    pub interval: Option<String>,
}

/// `connectionPool.http`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpSettings {
    /// Requests that wait for a connection.
    pub http1_max_pending_requests: Option<i64>,
    /// Requests at a time.
    pub http2_max_requests: Option<i64>,
    /// Requests before a connection is closed.
    pub max_requests_per_connection: Option<i64>,
    /// Retries at a time.
    pub max_retries: Option<i64>,
    /// Time without a request after which a connection is closed.
    pub idle_timeout: Option<String>,
    /// `DEFAULT`, `DO_NOT_UPGRADE` or `UPGRADE`.
    pub h2_upgrade_policy: Option<String>,
    /// Whether the client's protocol decides.
    pub use_client_protocol: Option<bool>,
    /// Requests at a time on one HTTP/2 connection.
    pub max_concurrent_streams: Option<i64>,
}

/// `outlierDetection`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Older than `consecutive5xxErrors` and `consecutiveGatewayErrors`; 502 to 504.
    pub consecutive_errors: Option<i64>,
    /// Whether failures to reach the endpoint are told apart.
    pub split_external_local_origin_errors: Option<bool>,
    /// Failures to reach the endpoint.
    pub consecutive_local_origin_failures: Option<i64>,
    /// 502 to 504.
    pub consecutive_gateway_errors: Option<i64>,
    /// 500 and above.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<i64>,
    /// Time between looks.
    pub interval: Option<String>,
    /// Time that an endpoint is left out.
    pub base_ejection_time: Option<String>,
    /// Share that may be left out.
    pub max_ejection_percent: Option<i64>,
    /// Share of healthy ones below which none is.
    pub min_health_percent: Option<i64>,
}

/// `tls`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// `DISABLE`, `SIMPLE`, `MUTUAL` or `ISTIO_MUTUAL`.
    pub mode: Option<String>,
    /// File.
    pub client_certificate: Option<String>,
    /// File.
    pub private_key: Option<String>,
    /// File.
    pub ca_certificates: Option<String>,
    /// Secret.
    pub credential_name: Option<String>,
    /// Names that the certificate must have.
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
    /// Server name to ask for.
    pub sni: Option<String>,
    /// Whether the certificate is not looked at.
    pub insecure_skip_verify: Option<bool>,
    /// File.
    pub ca_crl: Option<String>,
}

/// `tunnel`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// `CONNECT` or `POST`.
    pub protocol: Option<String>,
    /// Host.
    pub target_host: Option<String>,
    /// Port.
    pub target_port: Option<u32>,
}

/// `proxyProtocol`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct ProxyProtocol {
    /// `V1` or `V2`.
    pub version: Option<String>,
}

/// `retryBudget`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Share of requests.
    pub percent: Option<f64>,
    /// Retries that are always allowed.
    pub min_retry_concurrency: Option<u32>,
}
