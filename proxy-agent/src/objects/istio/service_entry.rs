//! Istio's `ServiceEntry`. Shape: istio/api `networking/v1alpha3/service_entry.proto` and
//! `workload_entry.proto`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

/// `networking.istio.io ServiceEntry`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntry {
    /// Group and version.
    pub api_version: String,
    /// Always `ServiceEntry`.
    pub kind: String,
    /// Name, namespace, creation time.
    pub metadata: ObjectMeta,
    /// What the user wrote.
    pub spec: ServiceEntrySpec,
    /// Istio's own; not read.
    pub status: Option<Value>,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntrySpec {
    /// Names of the service.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Addresses that clients connect to; those of the hosts if there are none.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Ports.
    #[serde(default)]
    pub ports: Vec<EntryPort>,
    /// `MESH_EXTERNAL` or `MESH_INTERNAL`; makes no difference here.
    pub location: Option<String>,
    /// Where endpoints come from; `NONE` if absent.
    pub resolution: Option<String>,
    /// Endpoints, by address or name.
    #[serde(default)]
    pub endpoints: Vec<EntryEndpoint>,
    /// Pods that are endpoints.
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces whose clients see it; none stands for `*`.
    #[serde(default)]
    pub export_to: Vec<String>,
    /// Names that an endpoint's certificate must have: there is no TLS of the agent's own.
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
}

/// `spec.ports[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EntryPort {
    /// Its number.
    pub number: u32,
    /// `HTTP`, `HTTP2`, `GRPC`, `GRPC-WEB`, `HTTPS`, `TLS`, `TCP`, `MONGO`, …
    pub protocol: Option<String>,
    /// Its name.
    pub name: String,
    /// Where endpoints listen; its number if absent.
    pub target_port: Option<u32>,
}

/// `spec.endpoints[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EntryEndpoint {
    /// An address, or a name to be resolved.
    pub address: Option<String>,
    /// Where it listens, by the name of the port.
    #[serde(default)]
    pub ports: BTreeMap<String, u32>,
    /// Labels that subsets go by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Not implemented: there is one network.
    pub network: Option<String>,
    /// `region/zone/subzone`.
    pub locality: Option<String>,
    /// Share of the load; not enforced.
    pub weight: Option<u32>,
    /// Who it is: there is no TLS of the agent's own.
    pub service_account: Option<String>,
}

/// `spec.workloadSelector`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct WorkloadSelector {
    /// Labels that a pod must carry.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}
