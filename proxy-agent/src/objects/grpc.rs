//! Gateway API's GRPCRoute: an HTTPRoute but for its matches, and read as one.
//!
//! The bindings have a type of its own for every part of it that both kinds share, field by field.

use gateway_api::apis::experimental::grpcroutes::{GrpcRoute as Bound, GrpcRouteRulesMatches};
use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteSpec};
use serde::Deserialize;
use serde_json::{Value, json};

/// `gateway.networking.k8s.io GRPCRoute`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "Bound")]
pub struct GrpcRoute {
    /// Everything but the matches.
    pub shared: HttpRoute,
    /// The matches of each rule.
    pub matches: Vec<Vec<GrpcRouteRulesMatches>>,
}

impl TryFrom<Bound> for GrpcRoute {
    type Error = serde_json::Error;

    fn try_from(bound: Bound) -> Result<Self, serde_json::Error> {
        let rules = bound.spec.rules.iter().flatten();
        let matches = rules.map(|rule| rule.matches.clone().unwrap_or_default());
        let matches = matches.collect();
        let mut spec = serde_json::to_value(&bound.spec)?;
        let rules = spec.get_mut("rules").and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten() {
            rule["matches"] = json!([]);
        }
        let spec: HttpRouteSpec = serde_json::from_value(spec)?;
        let shared = HttpRoute {
            metadata: bound.metadata,
            spec,
            status: None,
        };
        Ok(Self { shared, matches })
    }
}
