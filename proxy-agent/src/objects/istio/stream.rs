//! `tls` and `tcp` of a VirtualService.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::HostDestination;

/// `spec.tls[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct TlsRoute {
    /// Alternatives; at least one.
    #[serde(default, rename = "match")]
    pub matches: Vec<TlsMatch>,
    /// Destinations with their shares.
    #[serde(default)]
    pub route: Vec<StreamDestination>,
}

/// `spec.tls[].match[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TlsMatch {
    /// Server names, as in `a.example.org` or `*.example.org`; at least one.
    #[serde(default)]
    pub sni_hosts: Vec<String>,
    /// Not implemented.
    #[serde(default)]
    pub destination_subnets: Vec<String>,
    /// On the port of the Service.
    pub port: Option<u16>,
    /// On the client pod's labels.
    #[serde(default)]
    pub source_labels: BTreeMap<String, String>,
    /// On the client pod's namespace.
    pub source_namespace: Option<String>,
    /// Gateways that the match is for.
    #[serde(default)]
    pub gateways: Vec<String>,
}

/// `spec.tcp[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct TcpRoute {
    /// Alternatives; none matches everything.
    #[serde(default, rename = "match")]
    pub matches: Vec<StreamMatch>,
    /// Destinations with their shares.
    #[serde(default)]
    pub route: Vec<StreamDestination>,
}

/// `spec.tcp[].match[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StreamMatch {
    /// Not implemented.
    #[serde(default)]
    pub destination_subnets: Vec<String>,
    /// On the port of the Service.
    pub port: Option<u16>,
    /// Not implemented, nor by Istio.
    pub source_subnet: Option<String>,
    /// On the client pod's labels.
    #[serde(default)]
    pub source_labels: BTreeMap<String, String>,
    /// On the client pod's namespace.
    pub source_namespace: Option<String>,
    /// Gateways that the match is for.
    #[serde(default)]
    pub gateways: Vec<String>,
}

/// `route[]` of either.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct StreamDestination {
    /// Where to.
    pub destination: HostDestination,
    /// Share; of no effect when there is one destination.
    pub weight: Option<i32>,
}

impl From<&TlsMatch> for StreamMatch {
    /// All but the server names.
    fn from(from: &TlsMatch) -> Self {
        Self {
            destination_subnets: from.destination_subnets.clone(),
            port: from.port,
            source_subnet: None,
            source_labels: from.source_labels.clone(),
            source_namespace: from.source_namespace.clone(),
            gateways: from.gateways.clone(),
        }
    }
}
