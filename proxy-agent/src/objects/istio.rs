//! Istio's `VirtualService`, `DestinationRule` and `ServiceEntry`, the fields that the API has.
//!
//! Fields whose meaning the agent does not implement are kept as [`Value`], so that `compile` can
//! name them instead of a reader that silently drops them. Shape: istio/api
//! `networking/v1alpha3/virtual_service.proto`, in its JSON form; v1, v1beta1 and v1alpha3 agree.

mod destination_rule;
mod policy;
mod service_entry;
mod stream;
mod traffic_policy;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

pub use destination_rule::{ClientSelector, DestinationRule, DestinationRuleSpec, Subset};
pub use policy::{
    Abort, Cors, Delay, DirectResponse, Fault, Mirror, Percent, RegexRewrite, ResponseBody, Retries,
};
pub use service_entry::{
    EntryEndpoint, EntryPort, ServiceEntry, ServiceEntrySpec, WorkloadSelector,
};
pub use stream::{StreamDestination, StreamMatch, TcpRoute, TlsMatch, TlsRoute};
pub use traffic_policy::{
    ClientTls, ConnectionPool, ConsistentHash, Distribute, Failover, HttpCookie, HttpSettings,
    LoadBalancer, LocalityLbSetting, Maglev, OutlierDetection, PortPolicy, ProxyProtocol,
    RetryBudget, RingHash, TcpKeepalive, TcpSettings, TrafficPolicy, Tunnel, Warmup,
};

/// `networking.istio.io VirtualService`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VirtualService {
    /// Group and version.
    pub api_version: String,
    /// Always `VirtualService`.
    pub kind: String,
    /// Name, namespace, creation time.
    pub metadata: ObjectMeta,
    /// What the user wrote.
    pub spec: VirtualServiceSpec,
    /// Istio's own; not read.
    pub status: Option<Value>,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VirtualServiceSpec {
    /// Hosts that the routes are for.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Gateways that they apply to; none stands for `mesh`.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// HTTP routes; the first match wins.
    #[serde(default)]
    pub http: Vec<HttpRoute>,
    /// Routes by server name, of TLS that is passed through.
    #[serde(default)]
    pub tls: Vec<TlsRoute>,
    /// Routes of what is neither HTTP nor TLS.
    #[serde(default)]
    pub tcp: Vec<TcpRoute>,
    /// Namespaces whose clients see it; none stands for `*`.
    #[serde(default)]
    pub export_to: Vec<String>,
}

/// `spec.http[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    /// A name for logs.
    pub name: Option<String>,
    /// Alternatives; none matches everything.
    #[serde(default, rename = "match")]
    pub matches: Vec<HttpMatch>,
    /// Destinations with their shares.
    #[serde(default)]
    pub route: Vec<RouteDestination>,
    /// Answered instead of `route`.
    pub redirect: Option<Redirect>,
    /// Change of path and authority.
    pub rewrite: Option<Rewrite>,
    /// Limit on the whole request.
    pub timeout: Option<String>,
    /// Header edits whatever the destination.
    pub headers: Option<Headers>,
    /// Answered instead of `route`.
    pub direct_response: Option<DirectResponse>,
    /// Routes of another VirtualService instead of `route`.
    pub delegate: Option<Delegate>,
    /// When a request is sent again; absent stands for Istio's default.
    pub retries: Option<Retries>,
    /// Failures made on purpose.
    pub fault: Option<Fault>,
    /// Who gets a copy.
    pub mirror: Option<HostDestination>,
    /// Who get a copy.
    pub mirrors: Option<Vec<Mirror>>,
    /// Share of `mirror`, in whole percents; older than `mirrorPercentage`.
    pub mirror_percent: Option<u32>,
    /// Share of `mirror`.
    pub mirror_percentage: Option<Percent>,
    /// What scripts of other origins may do.
    pub cors_policy: Option<Cors>,
}

/// `delegate`: a VirtualService without hosts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; the VirtualService's own if absent.
    pub namespace: Option<String>,
}

/// `spec.http[].match[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// A name for logs.
    pub name: Option<String>,
    /// On the path.
    pub uri: Option<StringMatch>,
    /// On the method.
    pub method: Option<StringMatch>,
    /// On the authority.
    pub authority: Option<StringMatch>,
    /// On headers.
    #[serde(default)]
    pub headers: BTreeMap<String, StringMatch>,
    /// On query parameters.
    #[serde(default)]
    pub query_params: BTreeMap<String, StringMatch>,
    /// On the port of the Service.
    pub port: Option<u16>,
    /// Gateways that the match is for.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// On the scheme; captured requests have `http`.
    pub scheme: Option<StringMatch>,
    /// On headers that must not match.
    #[serde(default)]
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Whether exact paths and prefixes are compared without regard to letter case.
    pub ignore_uri_case: Option<bool>,
    /// On the client pod's labels.
    #[serde(default)]
    pub source_labels: BTreeMap<String, String>,
    /// On the client pod's namespace.
    pub source_namespace: Option<String>,
    /// A name for metrics; of no effect.
    pub stat_prefix: Option<String>,
}

/// One of three conditions; none of them means that the value is there at all.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct StringMatch {
    /// Equal.
    pub exact: Option<String>,
    /// Begins with.
    pub prefix: Option<String>,
    /// RE2, all of it.
    pub regex: Option<String>,
}

/// `spec.http[].route[]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct RouteDestination {
    /// Where to.
    pub destination: HostDestination,
    /// Share; of no effect when there is one destination.
    pub weight: Option<i32>,
    /// Header edits for this destination alone.
    pub headers: Option<Headers>,
}

/// A Service by host name.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct HostDestination {
    /// Short names are of the VirtualService's own namespace.
    pub host: String,
    /// A subset of a DestinationRule.
    pub subset: Option<String>,
    /// Needed when the Service has several ports.
    pub port: Option<PortSelector>,
}

/// A port of a Service.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct PortSelector {
    /// Its number.
    pub number: u16,
}

/// `redirect`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// New path.
    pub uri: Option<String>,
    /// New host, with a port if need be.
    pub authority: Option<String>,
    /// New port.
    pub port: Option<u16>,
    /// Where the port comes from when it is not named.
    pub derive_port: Option<String>,
    /// New scheme.
    pub scheme: Option<String>,
    /// 301 if absent.
    pub redirect_code: Option<u16>,
}

/// `rewrite`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    /// New path, or prefix where the match is one.
    pub uri: Option<String>,
    /// New authority.
    pub authority: Option<String>,
    /// New path by a regular expression.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// Header edits both ways.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Headers {
    /// On the request.
    pub request: Option<HeaderOperations>,
    /// On the response.
    pub response: Option<HeaderOperations>,
}

/// Header edits one way.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct HeaderOperations {
    /// Replaces every value.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Adds a value.
    #[serde(default)]
    pub add: BTreeMap<String, String>,
    /// Removes every value.
    #[serde(default)]
    pub remove: Vec<String>,
}

impl Headers {
    /// These edits, and those of `roots` for the headers that these leave alone.
    #[must_use]
    pub fn over(self, roots: Self) -> Self {
        let both = |own: Option<HeaderOperations>, root: Option<HeaderOperations>| match (own, root)
        {
            (Some(own), Some(root)) => Some(own.over(root)),
            (own, root) => own.or(root),
        };
        Self {
            request: both(self.request, roots.request),
            response: both(self.response, roots.response),
        }
    }
}

impl HeaderOperations {
    fn over(mut self, root: Self) -> Self {
        for (own, root) in [(&mut self.set, root.set), (&mut self.add, root.add)] {
            for (name, value) in root {
                own.entry(name).or_insert(value);
            }
        }
        self.remove.extend(root.remove);
        self
    }
}
