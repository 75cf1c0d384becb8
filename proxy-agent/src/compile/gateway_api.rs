//! Gateway API's HTTPRoute, GRPCRoute, TLSRoute and TCPRoute with Services as parents (GAMMA), and
//! Linkerd's HTTPRoute, which is of the same shape.
//!
//! Routes of Gateways are not the mesh's and are passed over in silence.

mod destination;
mod filter;
mod findings;
mod grant;
mod grpc;
mod hostnames;
mod linkerd;
mod matches;
mod policy;
mod rule;
mod stream;

use std::sync::Arc;

use gateway_api::apis::experimental::grpcroutes::GrpcRouteRulesMatches;
use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteParentRefs};

use self::findings::Findings;
use self::rule::{CarriedOut, Fault, Faults, carried_out};
use super::attach::{Attachment, Dialect, INVALID_ROUTE, PortRule, Profile, respond, shared_id};
use super::by_key::Name;
use super::defaults::override_with;
use super::index::At;
use super::routes::Compiled;
use super::scope::Scope;
use super::{annotations, switches};
use crate::model::{ConditionReason, Match, RouteParent, Rule};
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
        if parent.group.is_none() && parent.kind.as_deref() == Some("Service") {
            let reason = "is missing: for a Service write `group: \"\"`; without it, this names \
                          no kind that there is";
            let field = format!("spec.parentRefs[{index}].group");
            scope.problems.warning(at.located, field, reason);
        }
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
    let hosts = hostnames::of_requests(at, dialect, scope, findings);
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
        let alternatives = hostnames::with_hosts(alternatives, hosts.as_deref());
        let conditions: Vec<&Match> = alternatives.iter().map(|(one, _)| one).collect();
        let unknown = (dialect == Dialect::PolicyHttpRoute).then(|| linkerd::unknown(rule));
        let outcome = match filter::incompatible(rule.filters.as_deref()) {
            Some(fault) => Err((ConditionReason::IncompatibleFilters, vec![fault])),
            None => unknown
                .flatten()
                .map_or_else(|| Ok(()), |fault| Err(vec![fault]))
                .and_then(|()| carried_out(at, index, rule, &conditions, scope, findings))
                .map_err(|faults| (ConditionReason::UnsupportedValue, faults)),
        };
        let carried_out = outcome.unwrap_or_else(|(why, faults)| {
            for (inner, reason) in faults {
                let field = [&*field, inner.as_str()].join(".");
                let reason = format!("{reason}; the rule answers 500");
                findings.unaccepted(why, &field, &reason);
                scope.problems.error(at.located, field, reason);
            }
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
