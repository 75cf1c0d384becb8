//! Gateway API's TLSRoute and TCPRoute: what they share with an HTTPRoute, and read as one.
//!
//! Versions differ in what they require alone, so nothing is required here that an older one leaves
//! out.

use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteSpec};
use gateway_api::apis::experimental::tcproutes::{
    TcpRouteParentRefs, TcpRouteRules, TcpRouteUseDefaultGateways,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::json;

/// `gateway.networking.k8s.io TLSRoute`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "Written<TlsSpec>")]
pub struct TlsRoute {
    /// All of it.
    pub shared: HttpRoute,
}

/// `gateway.networking.k8s.io TCPRoute`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "Written<TcpSpec>")]
pub struct TcpRoute {
    /// All of it.
    pub shared: HttpRoute,
}

#[derive(Deserialize)]
struct Written<S> {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: S,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TlsSpec {
    #[serde(default)]
    hostnames: Vec<String>,
    parent_refs: Option<Vec<TcpRouteParentRefs>>,
    rules: Vec<TcpRouteRules>,
    use_default_gateways: Option<TcpRouteUseDefaultGateways>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcpSpec {
    parent_refs: Option<Vec<TcpRouteParentRefs>>,
    rules: Vec<TcpRouteRules>,
    use_default_gateways: Option<TcpRouteUseDefaultGateways>,
}

impl TryFrom<Written<TlsSpec>> for TlsRoute {
    type Error = serde_json::Error;

    fn try_from(written: Written<TlsSpec>) -> Result<Self, serde_json::Error> {
        let TlsSpec {
            hostnames,
            parent_refs,
            rules,
            use_default_gateways,
        } = written.spec;
        let spec = TcpSpec {
            parent_refs,
            rules,
            use_default_gateways,
        };
        let mut shared = shared(written.metadata, spec)?;
        shared.spec.hostnames = Some(hostnames);
        Ok(Self { shared })
    }
}

impl TryFrom<Written<TcpSpec>> for TcpRoute {
    type Error = serde_json::Error;

    fn try_from(written: Written<TcpSpec>) -> Result<Self, serde_json::Error> {
        let shared = shared(written.metadata, written.spec)?;
        Ok(Self { shared })
    }
}

/// The bindings have a type of its own for every part that the kinds share, field by field.
fn shared(metadata: ObjectMeta, spec: TcpSpec) -> Result<HttpRoute, serde_json::Error> {
    let spec = json!({
        "parentRefs": spec.parent_refs,
        "rules": spec.rules,
        "useDefaultGateways": spec.use_default_gateways,
    });
    let spec: HttpRouteSpec = serde_json::from_value(spec)?;
    Ok(HttpRoute {
        metadata,
        spec,
        status: None,
    })
}
