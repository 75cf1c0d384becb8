//! Gateway API's HTTPRoute and GRPCRoute with Services as parents (GAMMA).
//!
//! Routes of Gateways are not the mesh's and are passed over in silence.

mod destination;
mod filter;
mod findings;
mod grant;
mod grpc;
mod matches;
mod policy;

use std::collections::HashMap;
use std::sync::Arc;

use gateway_api::apis::experimental::grpcroutes::GrpcRouteRulesMatches;
use gateway_api::apis::experimental::httproutes::{
    HttpRoute, HttpRouteParentRefs, HttpRouteRules, HttpRouteRulesTimeouts,
};
use gateway_api::apis::experimental::referencegrants::ReferenceGrant;

use self::filter::RuleFilters;
use self::findings::Findings;
use super::attach::{
    Attachment, Dialect, INVALID_ROUTE, NO_DESTINATION, PortRule, no_such_port, respond, shared_id,
    tcp_port,
};
use super::by_key::Key;
use super::cluster_ids::ClusterIds;
use super::duration::gep2257;
use super::index::{At, Index};
use super::problems::Problems;
use super::service::Ports;
use crate::model::{Action, ConditionReason, Match, Policies, RouteParent, Rule, Timeouts};

/// What rules are compiled against.
pub(super) struct Scope<'a, 's> {
    pub ports: &'s Ports<'a>,
    pub grants: &'s HashMap<&'a str, Vec<&'a ReferenceGrant>>,
    pub ids: &'s mut ClusterIds,
    pub problems: &'s mut Problems,
}

/// Compiles every HTTPRoute and GRPCRoute that has a Service as its parent: its rules for each
/// Service, and what became of it there.
pub(super) fn compile<'a>(
    index: &'a Index<'a>,
    scope: &mut Scope<'a, '_>,
) -> (Vec<Attachment<'a>>, Vec<RouteParent>) {
    let mut compiled = (Vec::new(), Vec::new());
    for (at, matches) in &index.grpc_routes {
        route(at, Matches::Grpc(matches), scope, &mut compiled);
    }
    for at in &index.http_routes {
        route(at, Matches::Http, scope, &mut compiled);
    }
    compiled
}

/// Where the matches of a route's rules stand.
#[derive(Clone, Copy, Debug)]
enum Matches<'a> {
    /// In the rules.
    Http,
    /// Beside them, one list for each.
    Grpc(&'a [Vec<GrpcRouteRulesMatches>]),
}

fn route<'a>(
    at: &'a At<'a, HttpRoute>,
    matches: Matches<'a>,
    scope: &mut Scope<'a, '_>,
    (attachments, route_parents): &mut (Vec<Attachment<'a>>, Vec<RouteParent>),
) {
    let parents = parents(at, scope);
    if parents.is_empty() {
        return;
    }
    let hostnames = at.object.spec.hostnames.as_deref().unwrap_or_default();
    if !hostnames.is_empty() {
        let reason = "ignored: a route of a Service applies whatever the host";
        scope.problems.warning(at.located, "spec.hostnames", reason);
    }
    let mut findings = Findings::default();
    let rules = rules(at, matches, scope, &mut findings);
    let mut taken = Vec::new();
    for (parent, attached) in parents {
        if let Ok((service, port)) = attached
            && !taken.contains(&(service, port))
        {
            taken.push((service, port));
            attachments.push(Attachment {
                located: at.located,
                dialect: match matches {
                    Matches::Http => Dialect::HttpRoute,
                    Matches::Grpc(_) => Dialect::GrpcRoute,
                },
                service,
                port,
                clients: (service.0 != &*at.located.id.namespace)
                    .then(|| Arc::clone(&at.located.id.namespace)),
                rules: Arc::clone(&rules),
            });
        }
        route_parents.push(findings.at_parent(at, parent, attached.err()));
    }
}

/// A parent, and the Service and the port, where one is named, that the route attaches to there;
/// or why it does not.
type Parent<'a> = (
    &'a HttpRouteParentRefs,
    Result<(Key<'a>, Option<u16>), String>,
);

/// The parents of a route that are Services, each once.
fn parents<'a>(at: &'a At<'a, HttpRoute>, scope: &mut Scope<'a, '_>) -> Vec<Parent<'a>> {
    let mut parents: Vec<Parent<'a>> = Vec::new();
    for (index, parent) in at.object.spec.parent_refs.iter().flatten().enumerate() {
        let is_service =
            parent.group.as_deref() == Some("") && parent.kind.as_deref() == Some("Service");
        if !is_service || parents.iter().any(|(known, _)| *known == parent) {
            continue;
        }
        let attached = attach(at, parent, scope).map_err(|(field, reason)| {
            let field = format!("spec.parentRefs[{index}].{field}");
            let message = format!("{field}: {reason}");
            scope.problems.error(at.located, field, reason);
            message
        });
        parents.push((parent, attached));
    }
    parents
}

fn attach<'a>(
    at: &'a At<'a, HttpRoute>,
    parent: &'a HttpRouteParentRefs,
    scope: &Scope<'a, '_>,
) -> Result<(Key<'a>, Option<u16>), (&'static str, String)> {
    if parent.section_name.is_some() {
        let reason = "is not read of a Service: name the port by `port`".to_owned();
        return Err(("sectionName", reason));
    }
    let namespace = parent
        .namespace
        .as_deref()
        .unwrap_or(&at.located.id.namespace);
    let service = (namespace, parent.name.as_str());
    if scope.ports.get(service).is_none() {
        return Err(("name", format!("no Service {namespace}/{}", parent.name)));
    }
    let Some(number) = parent.port else {
        return Ok((service, None));
    };
    let port = u16::try_from(number)
        .ok()
        .filter(|port| tcp_port(scope.ports, service, *port).is_some());
    match port {
        Some(port) => Ok((service, Some(port))),
        None => Err(("port", no_such_port(service, number.into(), scope.ports))),
    }
}

fn rules<'a>(
    at: &At<'a, HttpRoute>,
    matches: Matches<'_>,
    scope: &mut Scope<'a, '_>,
    findings: &mut Findings,
) -> Arc<[PortRule]> {
    let object = shared_id(at.located);
    let mut compiled = Vec::new();
    for (index, rule) in at.object.spec.rules.iter().flatten().enumerate() {
        let field: Arc<str> = format!("spec.rules[{index}]").into();
        let alternatives = match matches {
            Matches::Http => matches::of_http(rule),
            Matches::Grpc(all) => matches::of_grpc(all.get(index).map(Vec::as_slice)),
        };
        let alternatives = matches::named(at, &field, alternatives, scope.problems, findings);
        let conditions: Vec<&Match> = alternatives.iter().map(|(one, _)| one).collect();
        let outcome = match filter::incompatible(rule.filters.as_deref()) {
            Some(fault) => Err((ConditionReason::IncompatibleFilters, fault)),
            None => carried_out(at, index, rule, &conditions, scope, findings)
                .map_err(|fault| (ConditionReason::UnsupportedValue, fault)),
        };
        let carried_out = outcome.unwrap_or_else(|(why, (inner, reason))| {
            let field = [&field, inner.as_str()].join(".");
            let reason = format!("{reason}; the rule answers 500");
            findings.unaccepted(why, &field, &reason);
            scope.problems.error(at.located, field, reason);
            CarriedOut::alone(respond(INVALID_ROUTE))
        });
        compiled.extend(
            alternatives
                .into_iter()
                .map(|(conditions, named)| PortRule {
                    rule: Rule {
                        object: Some(Arc::clone(&object)),
                        field: Arc::clone(&field),
                        conditions,
                        action: Arc::clone(&carried_out.action),
                        timeouts: carried_out.timeouts,
                        policies: carried_out.policies.clone(),
                    },
                    port: None,
                    named,
                }),
        );
    }
    compiled.into()
}

/// A field below the rule and what is wrong with it.
type Fault = (String, String);

/// What a rule does, whichever of its alternatives matched.
struct CarriedOut {
    action: Arc<Action>,
    timeouts: Timeouts,
    policies: Option<Arc<Policies>>,
}

impl CarriedOut {
    fn alone(action: Action) -> Self {
        Self {
            action: Arc::new(action),
            timeouts: Timeouts::default(),
            policies: None,
        }
    }
}

fn carried_out<'a>(
    at: &At<'a, HttpRoute>,
    position: usize,
    rule: &HttpRouteRules,
    conditions: &[&Match],
    scope: &mut Scope<'a, '_>,
    findings: &mut Findings,
) -> Result<CarriedOut, Fault> {
    let field = format!("spec.rules[{position}]");
    let timeouts = rule.timeouts.as_ref().map(timeouts).transpose()?;
    let retry = rule.retry.as_ref().map(policy::retry).transpose()?;
    let session = rule.session_persistence.as_ref();
    let session = session
        .map(|from| policy::session(at, position, from))
        .transpose()?;
    let filters = filter::compile(rule.filters.as_deref(), conditions)?;
    let policies = Policies {
        retry: retry.filter(|retry| retry.attempts > 0),
        mirrors: policy::mirrors(at, &field, &filters.mirrors, scope, findings)?,
        cors: filters.cors.clone(),
        session,
        ..Policies::default()
    };
    let action = action(at, &field, rule, filters, scope, findings)?;
    Ok(CarriedOut {
        action: Arc::new(action),
        timeouts: timeouts.unwrap_or_default(),
        policies: (!policies.is_empty()).then(|| Arc::new(policies)),
    })
}

fn action<'a>(
    at: &At<'a, HttpRoute>,
    field: &str,
    rule: &HttpRouteRules,
    filters: RuleFilters<'_>,
    scope: &mut Scope<'a, '_>,
    findings: &mut Findings,
) -> Result<Action, Fault> {
    let RuleFilters {
        filters, redirect, ..
    } = filters;
    let references = rule.backend_refs.as_deref().unwrap_or_default();
    if let Some(redirect) = redirect {
        if !references.is_empty() {
            let reason = "a rule with a RequestRedirect has no destinations".to_owned();
            return Err(("backendRefs".to_owned(), reason));
        }
        return Ok(Action::Redirect { filters, redirect });
    }
    let destinations = destination::compile(at, field, references, scope, findings)?;
    if destinations
        .iter()
        .all(|destination| destination.weight == 0)
    {
        let reason = "no destination with a weight; every request is answered 500";
        scope
            .problems
            .warning(at.located, format!("{field}.backendRefs"), reason);
        return Ok(respond(NO_DESTINATION));
    }
    Ok(Action::Forward {
        filters,
        destinations,
    })
}

fn timeouts(timeouts: &HttpRouteRulesTimeouts) -> Result<Timeouts, Fault> {
    let parse = |name: &str, text: &Option<String>| match text.as_deref() {
        None => Ok(None),
        Some(text) => gep2257(text)
            .map(|duration| Some(duration).filter(|duration| !duration.is_zero()))
            .ok_or_else(|| {
                let reason =
                    format!("found `{text}`, expected a duration as in 10s or 1m30s (GEP-2257)");
                (format!("timeouts.{name}"), reason)
            }),
    };
    let parsed = Timeouts {
        request: parse("request", &timeouts.request)?,
        backend_request: parse("backendRequest", &timeouts.backend_request)?,
    };
    match (parsed.request, parsed.backend_request) {
        (Some(whole), Some(one)) if one > whole => {
            let reason = format!("found {one:?}, which is more than timeouts.request ({whole:?})");
            Err(("timeouts.backendRequest".to_owned(), reason))
        }
        _ => Ok(parsed),
    }
}
