//! Gateway API's HTTPRoute, GRPCRoute, TLSRoute and TCPRoute with Services as parents (GAMMA), and
//! Linkerd's HTTPRoute, which is of the same shape.
//!
//! Routes of Gateways are not the mesh's and are passed over in silence.

mod destination;
mod filter;
mod findings;
mod grant;
mod grpc;
mod linkerd;
mod matches;
mod policy;
mod stream;

use std::sync::Arc;

use gateway_api::apis::experimental::grpcroutes::GrpcRouteRulesMatches;
use gateway_api::apis::experimental::httproutes::{
    HttpRoute, HttpRouteParentRefs, HttpRouteRules, HttpRouteRulesTimeouts,
};

use self::destination::Of;
use self::filter::RuleFilters;
use self::findings::Findings;
use super::attach::{
    Attachment, Dialect, INVALID_ROUTE, NO_DESTINATION, PortRule, Profile, respond, shared_id,
};
use super::by_key::Name;
use super::defaults::{Says, override_with};
use super::duration::gep2257;
use super::index::At;
use super::routes::Compiled;
use super::scope::Scope;
use super::{annotations, switches};
use crate::model::{Action, ConditionReason, Match, Policies, RouteParent, Rule, Timeouts};
use crate::objects::grpc::GrpcRoute;
use crate::objects::linkerd::PolicyHttpRoute;

/// Group of Linkerd's HTTPRoute.
const POLICY: &str = "policy.linkerd.io";

pub(super) use stream::{compile_tcp, compile_tls};

/// Compiles an HTTPRoute if it has a Service as its parent: its rules for each Service, and what
/// became of it there.
pub(super) fn compile(at: &At<'_, HttpRoute>, scope: &mut Scope<'_>) -> Compiled {
    route(at, Matches::Http, Dialect::HttpRoute, scope)
}

/// Compiles an HTTPRoute of Linkerd's likewise.
pub(super) fn compile_policy(at: &At<'_, PolicyHttpRoute>, scope: &mut Scope<'_>) -> Compiled {
    let shared = At {
        located: at.located,
        object: &at.object.0,
        origin: at.origin,
    };
    route(&shared, Matches::Http, Dialect::PolicyHttpRoute, scope)
}

/// Compiles a GRPCRoute likewise.
pub(super) fn compile_grpc(at: &At<'_, GrpcRoute>, scope: &mut Scope<'_>) -> Compiled {
    let shared = At {
        located: at.located,
        object: &at.object.shared,
        origin: at.origin,
    };
    let matches = Matches::Grpc(&at.object.matches);
    route(&shared, matches, Dialect::GrpcRoute, scope)
}

/// Where the matches of a route's rules stand.
#[derive(Clone, Copy, Debug)]
enum Matches<'a> {
    /// In the rules.
    Http,
    /// Beside them, one list for each.
    Grpc(&'a [Vec<GrpcRouteRulesMatches>]),
}

fn route(
    at: &At<'_, HttpRoute>,
    matches: Matches<'_>,
    dialect: Dialect,
    scope: &mut Scope<'_>,
) -> Compiled {
    let mut compiled = Compiled::default();
    let parents = parents(at, scope);
    if parents.is_empty() {
        return compiled;
    }
    let hostnames = at.object.spec.hostnames.as_ref();
    if hostnames.is_some_and(|names| !names.is_empty()) {
        let reason = "ignored: a route of a Service applies whatever the host";
        scope.problems.warning(at.located, "spec.hostnames", reason);
    }
    switches::name_what_is_without_effect(at.located, &mut scope.problems);
    let mut findings = Findings::default();
    let rules = rules(at, matches, dialect, scope, &mut findings);
    (compiled.attachments, compiled.parents) =
        attach_to_parents(at, dialect, parents, &findings, |to| {
            linkerd::to_parent(&rules, to, scope)
        });
    compiled
}

/// Rules for each Service among the parents, and what became of the route at every parent.
fn attach_to_parents<R>(
    at: &At<'_, HttpRoute>,
    dialect: Dialect,
    parents: Vec<Parent<'_>>,
    findings: &Findings,
    mut rules_for: impl FnMut(&To) -> Arc<[R]>,
) -> (Vec<Attachment<R>>, Vec<Arc<RouteParent>>) {
    let (mut attachments, mut results) = (Vec::new(), Vec::new());
    let mut taken = Vec::new();
    for (parent, attached) in parents {
        let refused = match attached {
            Ok(to) => {
                if !taken.contains(&to) {
                    taken.push(to.clone());
                    let rules = rules_for(&to);
                    attachments.push(attachment(at, dialect, to, rules));
                }
                None
            }
            Err(reason) => Some(reason),
        };
        let parent = findings.at_parent(at, parent, refused);
        results.push(Arc::new(parent));
    }
    (attachments, results)
}

fn attachment<R>(
    at: &At<'_, HttpRoute>,
    dialect: Dialect,
    to: To,
    rules: Arc<[R]>,
) -> Attachment<R> {
    let (service, port) = to;
    let own = &at.located.id.namespace;
    let consumer = service.namespace != *own;
    Attachment {
        located: Arc::clone(at.located),
        dialect,
        service,
        port,
        clients: consumer.then(|| Arc::clone(own)),
        exactness: usize::MAX,
        rules,
        profile: Profile::default(),
    }
}

/// A Service, and its port where one is named.
type To = (Name, Option<u16>);

/// A parent, and what the route attaches to there, or why it does not.
type Parent<'a> = (&'a HttpRouteParentRefs, Result<To, String>);

/// The parents of a route that are Services, each once.
fn parents<'a>(at: &At<'a, HttpRoute>, scope: &mut Scope<'_>) -> Vec<Parent<'a>> {
    let mut parents: Vec<Parent<'a>> = Vec::new();
    for (index, parent) in at.object.spec.parent_refs.iter().flatten().enumerate() {
        if !is_service(parent) || parents.iter().any(|(known, _)| *known == parent) {
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

/// Whether a parent is a Service. Linkerd's documents call the core group by its name, too.
fn is_service(parent: &HttpRouteParentRefs) -> bool {
    let core = matches!(parent.group.as_deref(), Some("" | "core"));
    core && parent.kind.as_deref() == Some("Service")
}

fn attach(
    at: &At<'_, HttpRoute>,
    parent: &HttpRouteParentRefs,
    scope: &Scope<'_>,
) -> Result<To, (&'static str, String)> {
    let namespace = parent
        .namespace
        .as_deref()
        .unwrap_or(&at.located.id.namespace);
    let key = (namespace, parent.name.as_str());
    let Some((service, ports)) = scope.service(key) else {
        return Err(("name", format!("no Service {namespace}/{}", parent.name)));
    };
    let numbered = parent.port.map(|number| {
        let port = u16::try_from(number)
            .ok()
            .and_then(|port| scope.tcp_port(key, port));
        port.ok_or_else(|| ("port", scope.no_such_port(key, number.into())))
    });
    // ParentReference of the v1 reference: a section of a Service is a port, by name.
    let named = parent.section_name.as_deref().map(|name| {
        let port = ports.iter().find(|port| &*port.name == name && port.tcp);
        port.ok_or_else(|| {
            let reason = format!(
                "Service {namespace}/{} has no TCP port `{name}`",
                parent.name
            );
            ("sectionName", reason)
        })
    });
    match (numbered.transpose()?, named.transpose()?) {
        (Some(one), Some(other)) if one.number != other.number => {
            let reason = format!("found `{}`, which is port {}", other.name, other.number);
            Err(("sectionName", reason))
        }
        (one, other) => Ok((service, one.or(other).map(|port| port.number))),
    }
}

fn rules(
    at: &At<'_, HttpRoute>,
    matches: Matches<'_>,
    dialect: Dialect,
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Arc<[PortRule]> {
    let object = shared_id(at.located);
    let annotated = annotations::read(at.located, &mut scope.problems);
    let mut compiled = Vec::new();
    for (index, rule) in at.object.spec.rules.iter().flatten().enumerate() {
        let field = format!("spec.rules[{index}]");
        let named = rule.name.as_ref().map(|name| format!("{field} ({name})"));
        let shown: Arc<str> = named.unwrap_or_else(|| field.clone()).into();
        let alternatives = match matches {
            Matches::Http => matches::of_http(rule),
            Matches::Grpc(all) => matches::of_grpc(all.get(index).map(Vec::as_slice)),
        };
        let alternatives = matches::named(at, &field, alternatives, &mut scope.problems, findings);
        let conditions: Vec<&Match> = alternatives.iter().map(|(one, _)| one).collect();
        let unknown = (dialect == Dialect::PolicyHttpRoute).then(|| linkerd::unknown(rule));
        let outcome = match filter::incompatible(rule.filters.as_deref()) {
            Some(fault) => Err((ConditionReason::IncompatibleFilters, fault)),
            None => unknown
                .flatten()
                .map_or_else(|| Ok(()), Err)
                .and_then(|()| carried_out(at, index, rule, &conditions, scope, findings))
                .map_err(|fault| (ConditionReason::UnsupportedValue, fault)),
        };
        let carried_out = outcome.unwrap_or_else(|(why, (inner, reason))| {
            let field = [&*field, inner.as_str()].join(".");
            let reason = format!("{reason}; the rule answers 500");
            findings.unaccepted(why, &field, &reason);
            scope.problems.error(at.located, field, reason);
            CarriedOut::alone(respond(INVALID_ROUTE))
        });
        compiled.extend(alternatives.into_iter().map(|(conditions, named)| {
            let mut rule = Rule {
                object: Some(Arc::clone(&object)),
                field: Arc::clone(&shown),
                conditions,
                action: Arc::clone(&carried_out.action),
                timeouts: carried_out.timeouts,
                policies: carried_out.policies.clone(),
            };
            let says = override_with(&mut rule, &annotated).or(carried_out.says);
            PortRule {
                rule,
                port: None,
                named,
                says,
            }
        }));
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
    says: Says,
}

impl CarriedOut {
    fn alone(action: Action) -> Self {
        Self {
            action: Arc::new(action),
            timeouts: Timeouts::default(),
            policies: None,
            says: Says::default(),
        }
    }
}

fn carried_out(
    at: &At<'_, HttpRoute>,
    position: usize,
    rule: &HttpRouteRules,
    conditions: &[&Match],
    scope: &mut Scope<'_>,
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
    let action = action(at, (&field, conditions), rule, filters, scope, findings)?;
    Ok(CarriedOut {
        action: Arc::new(action),
        timeouts: timeouts.unwrap_or_default(),
        policies: (!policies.is_empty()).then(|| Arc::new(policies)),
        says: Says {
            retry: rule.retry.is_some(),
            limits: rule.timeouts.is_some(),
        },
    })
}

fn action(
    at: &At<'_, HttpRoute>,
    (field, conditions): (&str, &[&Match]),
    rule: &HttpRouteRules,
    filters: RuleFilters<'_>,
    scope: &mut Scope<'_>,
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
    let of = Of {
        field,
        conditions,
        filters: &filters,
    };
    let destinations = destination::compile(at, of, references, scope, findings)?;
    if references.is_empty() && &*at.located.id.group == POLICY {
        // Completed for each parent.
        return Ok(Action::Forward {
            filters,
            destinations,
        });
    }
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
