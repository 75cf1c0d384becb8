//! The Service Mesh Interface's TrafficSplit, and the HTTPRouteGroup that it may name.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::quantity::Quantity;

/// `split.smi-spec.io TrafficSplit`, v1alpha1 to v1alpha4.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSplit {
    /// Its version says how weights are written, and whether there are matches.
    pub api_version: String,
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What the user wrote.
    pub spec: TrafficSplitSpec,
}

/// `spec` of a TrafficSplit.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct TrafficSplitSpec {
    /// The Service that clients ask for.
    pub service: String,
    /// Where its requests go.
    pub backends: Vec<Backend>,
    /// The requests that are split; all of them if there is none.
    #[serde(default)]
    pub matches: Vec<GroupReference>,
}

/// `spec.backends[]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Backend {
    /// A Service of the same namespace.
    pub service: String,
    /// Its share; none if absent.
    pub weight: Option<Quantity>,
}

/// `spec.matches[]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GroupReference {
    /// `specs.smi-spec.io`.
    pub api_group: Option<String>,
    /// `HTTPRouteGroup`.
    pub kind: String,
    /// Name, in the same namespace.
    pub name: String,
}

/// `specs.smi-spec.io HTTPRouteGroup`, v1alpha1 to v1alpha4.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct HttpRouteGroup {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// From v1alpha3 on.
    #[serde(default)]
    pub spec: GroupSpec,
    /// Before v1alpha3.
    #[serde(default)]
    pub matches: Vec<HttpMatch>,
}

/// `spec` of an HTTPRouteGroup.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct GroupSpec {
    /// One of them must hold.
    #[serde(default)]
    pub matches: Vec<HttpMatch>,
}

/// Conditions, all of which must hold.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// Its name, for people and for TrafficTargets.
    pub name: String,
    /// Methods; `*` is any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// An expression for the beginning of the path.
    pub path_regex: Option<String>,
    /// Header and expression.
    #[serde(default)]
    pub headers: Headers,
}

/// Headers and expressions for their values, as one map or as a list of them.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Headers {
    /// As v1alpha4 has it.
    Map(BTreeMap<String, String>),
    /// As the versions before have it.
    List(Vec<BTreeMap<String, String>>),
}

impl Default for Headers {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Headers {
    /// Each header with its expression.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        let maps = match self {
            Self::Map(map) => std::slice::from_ref(map),
            Self::List(maps) => maps,
        };
        maps.iter().flatten()
    }
}
