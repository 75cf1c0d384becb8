//! Gateway API's HTTPRoute, GRPCRoute, TLSRoute and TCPRoute with Services as parents (GAMMA), and
//! Linkerd's HTTPRoute, which is of the same shape.
//!
//! Routes of Gateways are not the mesh's and are passed over in silence; any other parent is named.

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

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_api::apis::experimental::grpcroutes::GrpcRouteRulesMatches;
use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteParentRefs, HttpRouteRules};

use self::findings::Findings;
use self::rule::{CarriedOut, carried_out};
use super::attach::{Attachment, Dialect, INVALID_ROUTE, PortRule, Profile, respond, shared_id};
use super::by_key::Name;
use super::defaults::override_with;
use super::faults::{Fault, Faults};
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
    name_rules_of_one_name(at, scope);
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
    let written = at.object.spec.parent_refs.as_deref().unwrap_or_default();
    if written.is_empty() && at.object.spec.use_default_gateways.is_none() {
        let reason = "is missing: the route is of no effect without a parent";
        scope
            .problems
            .warning(at.located, "spec.parentRefs", reason);
    }
    for (index, parent) in written.iter().enumerate() {
        if !is_service(parent) {
            name_another_parent(at, index, parent, scope);
            continue;
        }
        if parents.iter().any(|(known, _)| *known == parent) {
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

/// Names a parent that the mesh does not know. Gateways, and what adds listeners to them, are
/// another controller's.
fn name_another_parent(
    at: &At<'_, HttpRoute>,
    index: usize,
    parent: &HttpRouteParentRefs,
    scope: &mut Scope<'_>,
) {
    let group = parent.group.as_deref();
    let group = group.unwrap_or("gateway.networking.k8s.io");
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    let field = |name: &str| format!("spec.parentRefs[{index}].{name}");
    match (group, kind) {
        ("gateway.networking.k8s.io", "Gateway" | "ListenerSet")
        | ("gateway.networking.x-k8s.io", "XListenerSet") => {}
        (POLICY, "Server") => {
            let reason = "found a Server of policy.linkerd.io: inbound policy is not enforced";
            scope.problems.warning(at.located, field("kind"), reason);
        }
        (_, "Service") if parent.group.is_none() => {
            let reason = "is missing: for a Service write `group: \"\"`; without it, this names \
                          no kind that there is";
            scope.problems.error(at.located, field("group"), reason);
        }
        _ => {
            let reason = format!(
                "found `{kind}` of group `{group}`, accepted: Service (group \"\"), \
                 Gateway (group gateway.networking.k8s.io)"
            );
            scope.problems.error(at.located, field("kind"), reason);
        }
    }
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
        let carried_out = if at.located.is_unread(&field) {
            findings.unread(&field);
            CarriedOut::alone(respond(INVALID_ROUTE))
        } else {
            outcome(at, (index, rule), dialect, &conditions, scope, findings)
        };
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

/// Names rules that have the name of one before them: HTTPRouteRule.name is unique in its route.
fn name_rules_of_one_name(at: &At<'_, HttpRoute>, scope: &mut Scope<'_>) {
    let rules = at.object.spec.rules.as_deref().unwrap_or_default();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let Some(name) = rule.name.as_deref() else {
            continue;
        };
        if let Some(first) = known.get(name) {
            let reason = format!("found `{name}`, which spec.rules[{first}] is named, too");
            let field = format!("spec.rules[{index}].name");
            scope.problems.warning(at.located, field, reason);
        } else {
            known.insert(name, index);
        }
    }
}

/// What a rule does; what cannot be carried out is named and answers 500.
fn outcome(
    at: &At<'_, HttpRoute>,
    (index, rule): (usize, &HttpRouteRules),
    dialect: Dialect,
    conditions: &[&Match],
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> CarriedOut {
    let unknown = (dialect == Dialect::PolicyHttpRoute).then(|| linkerd::unknown(rule));
    let outcome = match filter::incompatible(rule.filters.as_deref()) {
        Some(fault) => Err((ConditionReason::IncompatibleFilters, vec![fault])),
        None => unknown
            .flatten()
            .map_or_else(|| Ok(()), |fault| Err(vec![fault]))
            .and_then(|()| carried_out(at, index, rule, conditions, scope, findings))
            .map_err(|faults| (ConditionReason::UnsupportedValue, faults)),
    };
    outcome.unwrap_or_else(|(why, faults)| {
        for (inner, reason) in faults {
            let field = format!("spec.rules[{index}].{inner}");
            let reason = format!("{reason}; the rule answers 500");
            findings.unaccepted(why, &field, &reason);
            scope.problems.error(at.located, field, reason);
        }
        CarriedOut::alone(respond(INVALID_ROUTE))
    })
}
