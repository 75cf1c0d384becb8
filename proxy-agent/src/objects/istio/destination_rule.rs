//! Istio's `DestinationRule`. Shape: istio/api `networking/v1alpha3/destination_rule.proto`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::PortSelector;

/// `networking.istio.io DestinationRule`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRule {
    /// Group and version.
    pub api_version: String,
    /// Always `DestinationRule`.
    pub kind: String,
    /// Name, namespace, creation time.
    pub metadata: ObjectMeta,
    /// What the user wrote.
    pub spec: DestinationRuleSpec,
    /// Istio's own; not read.
    pub status: Option<Value>,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRuleSpec {
    /// The Service that it is for.
    pub host: String,
    /// How its endpoints are used.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Parts of its endpoints.
    #[serde(default)]
    pub subsets: Vec<Subset>,
    /// Namespaces whose clients see it; none stands for `*`.
    #[serde(default)]
    pub export_to: Vec<String>,
    /// Not implemented.
    pub workload_selector: Option<Value>,
}

/// `spec.subsets[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    /// What routes call it.
    pub name: String,
    /// Labels of its pods; none stands for all of them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whole sections of it replace those of the rule.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// `trafficPolicy`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Not enforced.
    pub connection_pool: Option<Value>,
    /// Not enforced.
    pub outlier_detection: Option<Value>,
    /// Not enforced.
    pub tls: Option<Value>,
    /// Whole sections of these replace those of the policy, for one port.
    #[serde(default)]
    pub port_level_settings: Vec<PortPolicy>,
    /// Not enforced.
    pub tunnel: Option<Value>,
    /// Not enforced.
    pub proxy_protocol: Option<Value>,
    /// Not enforced.
    pub retry_budget: Option<Value>,
}

/// `trafficPolicy.portLevelSettings[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PortPolicy {
    /// The port of the Service.
    pub port: Option<PortSelector>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Not enforced.
    pub connection_pool: Option<Value>,
    /// Not enforced.
    pub outlier_detection: Option<Value>,
    /// Not enforced.
    pub tls: Option<Value>,
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// Name of the algorithm.
    pub simple: Option<String>,
    /// Not enforced.
    pub consistent_hash: Option<Value>,
    /// Not enforced.
    pub locality_lb_setting: Option<Value>,
    /// Not enforced.
    pub warmup_duration_secs: Option<Value>,
    /// Not enforced.
    pub warmup: Option<Value>,
}
