//! Istio's `DestinationRule`. Shape: istio/api `networking/v1alpha3/destination_rule.proto`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::TrafficPolicy;

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
    /// Pods whose connections alone it is for; such a rule is not in effect.
    pub workload_selector: Option<ClientSelector>,
}

/// `spec.workloadSelector`: unlike a ServiceEntry's, Istio's `type/v1beta1` one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClientSelector {
    /// Labels that a pod must carry.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
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
