//! TLSRoute and TCPRoute: connections by server name and by weight.

use std::sync::Arc;

use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteRules};

use super::findings::Findings;
use super::{attach_to_parents, destination, hostnames};
use crate::compile::attach::{Dialect, shared_id};
use crate::compile::index::At;
use crate::compile::routes::Compiled;
use crate::compile::scope::Scope;
use crate::compile::streams::{self, PortStream};
use crate::compile::switches;
use crate::model::{ConditionReason, ServerName, StreamRule, WeightedDestination};
use crate::objects::stream::{TcpRoute, TlsRoute};

/// Compiles a TLSRoute if it has a Service as its parent.
pub(in crate::compile) fn compile_tls(at: &At<'_, TlsRoute>, scope: &mut Scope<'_>) -> Compiled {
    let shared = At {
        located: at.located,
        object: &at.object.shared,
        origin: at.origin,
    };
    route(&shared, Dialect::TlsRoute, scope)
}

/// Compiles a TCPRoute likewise.
pub(in crate::compile) fn compile_tcp(at: &At<'_, TcpRoute>, scope: &mut Scope<'_>) -> Compiled {
    let shared = At {
        located: at.located,
        object: &at.object.shared,
        origin: at.origin,
    };
    route(&shared, Dialect::TcpRoute, scope)
}

fn route(at: &At<'_, HttpRoute>, dialect: Dialect, scope: &mut Scope<'_>) -> Compiled {
    let parents = super::parents(at, scope);
    if parents.is_empty() {
        return Compiled::default();
    }
    switches::name_what_is_without_effect(at.located, &mut scope.problems);
    if dialect == Dialect::TcpRoute {
        name_unreachable(at, scope);
    }
    let mut findings = Findings::default();
    let names = (dialect == Dialect::TlsRoute).then(|| names(at, scope, &mut findings));
    let object = shared_id(at.located);
    let mut rules = Vec::new();
    for (index, rule) in at.object.spec.rules.iter().flatten().enumerate() {
        let field = format!("spec.rules[{index}]");
        let destinations = if at.located.is_unread(&field) {
            findings.unread(&field);
            Arc::default()
        } else {
            destinations(at, &field, rule, scope, &mut findings)
        };
        rules.push(PortStream {
            rule: StreamRule {
                object: Some(Arc::clone(&object)),
                field: field.into(),
                names: names.clone(),
                source: None,
                destinations,
            },
            port: None,
        });
    }
    let mut compiled = Compiled::default();
    let rules: Arc<[PortStream]> = rules.into();
    let (streams, parents) =
        attach_to_parents(at, dialect, parents, &findings, |_| Arc::clone(&rules));
    (compiled.streams, compiled.parents) = (streams, parents);
    compiled
}

/// Names the rules of a TCPRoute behind its first, which takes every connection.
fn name_unreachable(at: &At<'_, HttpRoute>, scope: &mut Scope<'_>) {
    let rules = at.object.spec.rules.as_deref().unwrap_or_default();
    for index in 1..rules.len() {
        let reason = "of no effect: spec.rules[0] takes every connection";
        let field = format!("spec.rules[{index}]");
        scope.problems.warning(at.located, field, reason);
    }
}

/// The server names of a TLSRoute; none of them stands for any.
fn names(
    at: &At<'_, HttpRoute>,
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Arc<[ServerName]> {
    let written = at.object.spec.hostnames.as_deref().unwrap_or_default();
    if written.is_empty() {
        return [ServerName::Any].into();
    }
    hostnames::names(at, written, scope, findings).into()
}

fn destinations(
    at: &At<'_, HttpRoute>,
    field: &str,
    rule: &HttpRouteRules,
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Arc<[WeightedDestination]> {
    let mut destinations = Vec::new();
    for (index, reference) in rule.backend_refs.iter().flatten().enumerate() {
        let place = format!("{field}.backendRefs[{index}]");
        let weight = destination::weight(reference).unwrap_or_else(|reason| {
            let (field, reason) = (format!("{place}.weight"), format!("{reason}; 0 is taken"));
            findings.unaccepted(ConditionReason::UnsupportedValue, &field, &reason);
            scope.problems.error(at.located, field, reason);
            0
        });
        let resolved = destination::resolve(at, reference, scope);
        let resolved = resolved.map_err(|(why, below, reason)| {
            findings.unresolved(why, &format!("{place}.{below}"), &reason);
            (below, reason)
        });
        let destination = streams::destination(resolved, &place, at.located, &mut scope.problems);
        destinations.push(WeightedDestination::plain(weight, destination));
    }
    if destinations.iter().all(|one| one.weight == 0) {
        let reason = "no destination with a weight; every connection is reset";
        let field = format!("{field}.backendRefs");
        scope.problems.warning(at.located, field, reason);
    }
    destinations.into()
}
