//! The two kinds of `linkerd.io/v1`: a virtual host by the Host header, and its weights. Linkerd's
//! own HTTPRoute.

use gateway_api::apis::experimental::httproutes::HttpRoute;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// `linkerd.io/v1 Service`: pods by label, under a host name of their own.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Always `linkerd.io/v1`.
    pub api_version: String,
    /// Always `Service`.
    pub kind: String,
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What the user wrote.
    pub spec: ServiceSpec,
}

/// `spec` of a `linkerd.io/v1 Service`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ServiceSpec {
    /// Port of the pods, or of the Kubernetes Service of the same name.
    pub port: u16,
    /// The virtual host.
    pub host: String,
    /// `key=value[,key=value]` that the pods carry.
    pub label: String,
}

/// `linkerd.io/v1 Route`: a share of one host's requests.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Always `linkerd.io/v1`.
    pub api_version: String,
    /// Always `Route`.
    pub kind: String,
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What the user wrote.
    pub spec: RouteSpec,
}

/// `spec` of a `linkerd.io/v1 Route`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct RouteSpec {
    /// The virtual host.
    pub host: String,
    /// `service`.
    pub kind: Option<String>,
    /// Share among the Routes of the host; 1 if absent.
    pub weight: Option<u32>,
    /// Where to.
    pub service: ServiceReference,
}

/// A Service by name.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ServiceReference {
    /// `Service`.
    pub kind: Option<String>,
    /// Name, in the Route's namespace.
    pub name: String,
}

/// `policy.linkerd.io HTTPRoute`, v1beta1 to v1beta3: of the shape of Gateway API's.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(transparent)]
pub struct PolicyHttpRoute(pub HttpRoute);
