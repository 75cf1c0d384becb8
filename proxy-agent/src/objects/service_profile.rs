//! Linkerd's ServiceProfile: what is known of the requests to one Service.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use super::quantity::Quantity;

/// `linkerd.io ServiceProfile`, v1alpha2 or v1alpha1.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ServiceProfile {
    /// Namespace, and the Service's full name.
    pub metadata: ObjectMeta,
    /// What the user wrote.
    #[serde(default)]
    pub spec: ServiceProfileSpec,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceProfileSpec {
    /// Routes; the first that matches counts.
    #[serde(default)]
    pub routes: Vec<ProfileRoute>,
    /// How many retries there may be.
    pub retry_budget: Option<Budget>,
    /// Where the requests go instead of the Service's own endpoints.
    #[serde(default)]
    pub dst_overrides: Vec<WeightedDst>,
    /// Ports that are opaque: `4222` or `4222-4230`.
    #[serde(default)]
    pub opaque_ports: Vec<IntOrString>,
}

/// `spec.routes[]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProfileRoute {
    /// Its name, for people.
    pub name: String,
    /// Which requests.
    pub condition: RequestMatch,
    /// What counts as a failure; the first that matches counts.
    #[serde(default)]
    pub response_classes: Vec<ResponseClass>,
    /// Whether a request that failed may be sent again.
    #[serde(default)]
    pub is_retryable: bool,
    /// Limit on a request, all of its tries included.
    pub timeout: Option<String>,
}

/// A condition on a request; what is there must hold, all of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RequestMatch {
    /// An expression for the whole path.
    pub path_regex: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// Every one holds.
    pub all: Option<Vec<RequestMatch>>,
    /// One of them holds.
    pub any: Option<Vec<RequestMatch>>,
    /// It does not hold.
    pub not: Option<Box<RequestMatch>>,
}

/// `responseClasses[]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResponseClass {
    /// Which responses.
    pub condition: ResponseMatch,
    /// Whether they are failures.
    #[serde(default)]
    pub is_failure: bool,
}

/// A condition on a response; what is there must hold, all of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct ResponseMatch {
    /// On the status.
    pub status: Option<StatusRange>,
    /// Every one holds.
    pub all: Option<Vec<ResponseMatch>>,
    /// One of them holds.
    pub any: Option<Vec<ResponseMatch>>,
    /// It does not hold.
    pub not: Option<Box<ResponseMatch>>,
}

/// Statuses; an end that is missing is open.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct StatusRange {
    /// The first.
    pub min: Option<u16>,
    /// The last.
    pub max: Option<u16>,
}

/// `spec.retryBudget`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Retries for each request.
    pub retry_ratio: f64,
    /// Retries in each second that are allowed beside.
    pub min_retries_per_second: u32,
    /// For how long a request counts.
    pub ttl: String,
}

/// `spec.dstOverrides[]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct WeightedDst {
    /// `host:port`; without a port, the one that was asked for.
    pub authority: String,
    /// Share.
    pub weight: Quantity,
}
