//! Gateway API's HTTPRoute with Services as parents (GAMMA).
//!
//! Routes of Gateways are not the mesh's and are passed over in silence.

mod destination;
mod filter;
mod findings;
mod grant;
mod matches;

use std::sync::Arc;

use gateway_api::apis::experimental::httproutes::{
    HttpRoute, HttpRouteParentRefs, HttpRouteRules, HttpRouteRulesTimeouts,
};

use self::filter::RuleFilters;
use self::findings::Findings;
use super::attach::{
    Attachment, Dialect, INVALID_ROUTE, NO_DESTINATION, PortRule, respond, shared_id,
};
use super::by_key::Name;
use super::duration::gep2257;
use super::index::At;
use super::routes::Compiled;
use super::scope::Scope;
use crate::model::{Action, ConditionReason, Match, Rule, Timeouts};

/// Compiles an HTTPRoute if it has a Service as its parent: its rules for each Service, and what
/// became of it there.
pub(super) fn compile(at: &At<'_, HttpRoute>, scope: &mut Scope<'_>) -> Compiled {
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
    let mut findings = Findings::default();
    let rules = rules(at, scope, &mut findings);
    let mut taken = Vec::new();
    for (parent, attached) in parents {
        let refused = match attached {
            Ok(to) => {
                if !taken.contains(&to) {
                    taken.push(to.clone());
                    compiled.attachments.push(attachment(at, to, &rules));
                }
                None
            }
            Err(reason) => Some(reason),
        };
        let parent = findings.at_parent(at, parent, refused);
        compiled.parents.push(Arc::new(parent));
    }
    compiled
}

fn attachment(at: &At<'_, HttpRoute>, to: To, rules: &Arc<[PortRule]>) -> Attachment {
    let (service, port) = to;
    let own = &at.located.id.namespace;
    let consumer = service.namespace != *own;
    Attachment {
        located: Arc::clone(at.located),
        dialect: Dialect::GatewayApi,
        service,
        port,
        clients: consumer.then(|| Arc::clone(own)),
        rules: Arc::clone(rules),
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

fn attach(
    at: &At<'_, HttpRoute>,
    parent: &HttpRouteParentRefs,
    scope: &Scope<'_>,
) -> Result<To, (&'static str, String)> {
    if parent.section_name.is_some() {
        let reason = "is not read of a Service: name the port by `port`".to_owned();
        return Err(("sectionName", reason));
    }
    let namespace = parent
        .namespace
        .as_deref()
        .unwrap_or(&at.located.id.namespace);
    let key = (namespace, parent.name.as_str());
    let Some((service, _)) = scope.service(key) else {
        return Err(("name", format!("no Service {namespace}/{}", parent.name)));
    };
    let Some(number) = parent.port else {
        return Ok((service, None));
    };
    let port = u16::try_from(number)
        .ok()
        .filter(|port| scope.tcp_port(key, *port).is_some());
    match port {
        Some(port) => Ok((service, Some(port))),
        None => Err(("port", scope.no_such_port(key, number.into()))),
    }
}

fn rules(
    at: &At<'_, HttpRoute>,
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Arc<[PortRule]> {
    let object = shared_id(at.located);
    let mut compiled = Vec::new();
    for (index, rule) in at.object.spec.rules.iter().flatten().enumerate() {
        let field: Arc<str> = format!("spec.rules[{index}]").into();
        let conditions = matches::compile(at, &field, rule, &mut scope.problems, findings);
        let outcome = match filter::incompatible(rule.filters.as_deref()) {
            Some(fault) => Err((ConditionReason::IncompatibleFilters, fault)),
            None => action(at, &field, rule, &conditions, scope, findings)
                .map_err(|fault| (ConditionReason::UnsupportedValue, fault)),
        };
        let (action, timeouts) = outcome.unwrap_or_else(|(why, (inner, reason))| {
            let field = [&field, inner.as_str()].join(".");
            let reason = format!("{reason}; the rule answers 500");
            findings.unaccepted(why, &field, &reason);
            scope.problems.error(at.located, field, reason);
            (respond(INVALID_ROUTE), Timeouts::default())
        });
        let action = Arc::new(action);
        compiled.extend(conditions.into_iter().map(|conditions| PortRule {
            rule: Rule {
                object: Some(Arc::clone(&object)),
                field: Arc::clone(&field),
                conditions,
                action: Arc::clone(&action),
                timeouts,
            },
            port: None,
        }));
    }
    compiled.into()
}

/// A field below the rule and what is wrong with it.
type Fault = (String, String);

fn action(
    at: &At<'_, HttpRoute>,
    field: &str,
    rule: &HttpRouteRules,
    conditions: &[Match],
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Result<(Action, Timeouts), Fault> {
    for (name, there) in [
        ("retry", rule.retry.is_some()),
        ("sessionPersistence", rule.session_persistence.is_some()),
    ] {
        if there {
            return Err((
                name.to_owned(),
                "is not supported by this version".to_owned(),
            ));
        }
    }
    let timeouts = rule
        .timeouts
        .as_ref()
        .map_or(Ok(Timeouts::default()), timeouts)?;
    let RuleFilters { filters, redirect } = filter::compile(rule.filters.as_deref(), conditions)?;
    let references = rule.backend_refs.as_deref().unwrap_or_default();
    if let Some(redirect) = redirect {
        if !references.is_empty() {
            let reason = "a rule with a RequestRedirect has no destinations".to_owned();
            return Err(("backendRefs".to_owned(), reason));
        }
        return Ok((Action::Redirect { filters, redirect }, timeouts));
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
        return Ok((respond(NO_DESTINATION), timeouts));
    }
    Ok((
        Action::Forward {
            filters,
            destinations,
        },
        timeouts,
    ))
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
