//! What a route of a VirtualService does.

use std::sync::Arc;
use std::time::Duration;

use super::{answer, destination_rule, edits, fault, host, policy};
use crate::compile::attach::{NO_DESTINATION, leads_to, respond};
use crate::compile::by_key::Name;
use crate::compile::faults::{Fault, Faults};
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::compile::service::Port;
use crate::compile::text::{regex_part, substitution};
use crate::model::{
    Action, ClusterId, Destination, Filters, Mirror, PathRewrite, Policies, Timeouts,
    WeightedDestination,
};
use crate::objects::istio::{self, HostDestination, HttpRoute, VirtualService};

/// The action of a route, whatever matched.
#[derive(Debug)]
pub(super) struct Base {
    pub action: Action,
    /// `rewrite.uri`, whose meaning depends on the match.
    pub rewrite_uri: Option<String>,
    pub timeouts: Timeouts,
    pub policies: Option<Arc<Policies>>,
}

/// A VirtualService, a field of it, and the one port that what is there is compiled for, if the port
/// matters.
#[derive(Clone, Copy)]
pub(super) struct Here<'h, 'a> {
    pub at: &'h At<'a, VirtualService>,
    pub field: &'h str,
    pub asked: Option<u16>,
}

/// Compiles what a route does; else everything that is wrong with it.
pub(super) fn compile(
    here: Here<'_, '_>,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
) -> Result<Base, Vec<Fault>> {
    let Here { at, field, .. } = here;
    let mut faults = Faults::default();
    answer::refuse_conflicts(route, &mut faults);
    let policies = policies(here, route, scope, &mut faults);
    let action = action(here, route, scope, &mut faults);
    let request = faults.of(timeout(route));
    for (inner, reason) in [policy::left_out(route), answer::without_effect(route)].concat() {
        let place = format!("{field}.{inner}");
        scope.problems.warning(at.located, place, reason);
    }
    let rewrite = route.rewrite.as_ref();
    let rewrite_uri = rewrite.and_then(|rewrite| rewrite.uri.clone());
    faults.or(Base {
        action,
        rewrite_uri: rewrite_uri.filter(|uri| !uri.is_empty()),
        timeouts: Timeouts {
            request,
            backend_request: None,
        },
        policies: (!policies.is_empty()).then(|| Arc::new(policies)),
    })
}

fn policies(
    here: Here<'_, '_>,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
    faults: &mut Faults,
) -> Policies {
    let injected = route
        .fault
        .as_ref()
        .map(|from| fault::compile(from, faults));
    let (delay, abort) = injected.unwrap_or_default();
    let mut mirrors = Vec::new();
    for (inner, to, share) in policy::mirrors(route, faults) {
        let place = format!("{}.{inner}", here.field);
        let resolved = resolve(here, to, scope);
        let loss = "nothing is mirrored there";
        match led(resolved, loss, &place, here.at, scope) {
            Destination::Invalid => {}
            to @ (Destination::Cluster(_) | Destination::Redirect(_)) => mirrors.push(Mirror {
                to,
                share,
                shadow_host: true,
            }),
        }
    }
    let retry = policy::retry(route.retries.as_ref(), faults);
    let cors = route.cors_policy.as_ref();
    Policies {
        retry: retry.filter(|_| !route.route.is_empty()),
        mirrors,
        delay,
        abort,
        cors: cors.map(|from| policy::cors(from, faults)),
        ..Policies::default()
    }
}

fn action(
    here: Here<'_, '_>,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
    faults: &mut Faults,
) -> Action {
    let mut filters = edits::filters(route.headers.as_ref(), "", faults);
    if let Some(from) = &route.redirect {
        let redirect = answer::redirect(from, faults);
        return Action::Redirect { filters, redirect };
    }
    if let Some(from) = &route.direct_response {
        return answer::direct(from, filters, faults);
    }
    if let Some(rewrite) = &route.rewrite {
        set_rewrite(rewrite, &mut filters, faults);
    }
    let destinations = destinations(here, route, scope, faults);
    if destinations.iter().all(|one| one.weight == 0) {
        let reason = "no destination with a weight; every request is answered 500";
        if faults.0.is_empty() {
            let place = format!("{}.route", here.field);
            scope.problems.error(here.at.located, place, reason);
        }
        return respond(NO_DESTINATION);
    }
    Action::Forward {
        filters,
        destinations,
    }
}

/// What of a rewrite does not depend on the match.
fn set_rewrite(from: &istio::Rewrite, filters: &mut Filters, faults: &mut Faults) {
    if let Some(authority) = &from.authority {
        let value = faults.of(edits::authority(authority, "rewrite.authority").map(Some));
        filters.rewrite_authority = value;
    }
    if let Some(uri) = from.uri.as_deref().filter(|uri| !uri.is_empty()) {
        faults.of(answer::path(uri, "rewrite.uri"));
    }
    if let Some(regex) = &from.uri_regex_rewrite {
        let rewrite = regex_rewrite(from, regex).map(Some);
        filters.rewrite_path = faults.of(rewrite);
    }
}

fn regex_rewrite(from: &istio::Rewrite, regex: &istio::RegexRewrite) -> Result<PathRewrite, Fault> {
    let fault = |name: &str, reason| (format!("rewrite.{name}"), reason);
    if from.uri.is_some() {
        let reason = "found both uri and uriRegexRewrite, accepted: one of them".to_owned();
        return Err(fault("uriRegexRewrite", reason));
    }
    let pattern =
        regex_part(&regex.pattern).map_err(|reason| fault("uriRegexRewrite.match", reason))?;
    let groups = pattern.captures_len() - 1;
    let replacement = substitution(&regex.rewrite, groups)
        .map_err(|reason| fault("uriRegexRewrite.rewrite", reason))?;
    Ok(PathRewrite::Regex {
        pattern,
        replacement,
    })
}

fn timeout(route: &HttpRoute) -> Result<Option<Duration>, Fault> {
    let parsed = route.timeout.as_deref().map(policy::duration).transpose();
    parsed
        .map(|limit| limit.filter(|limit| !limit.is_zero()))
        .map_err(|reason| ("timeout".to_owned(), reason))
}

fn destinations(
    here: Here<'_, '_>,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
    faults: &mut Faults,
) -> Vec<WeightedDestination> {
    let alone = route.route.len() == 1;
    let mut destinations = Vec::new();
    for (index, from) in route.route.iter().enumerate() {
        let inner = format!("route[{index}]");
        let weight = weight(from.weight, alone);
        let weight = weight.map_err(|reason| (format!("{inner}.weight"), reason));
        let place = format!("{}.{inner}.destination", here.field);
        let resolved = resolve(here, &from.destination, scope);
        let loss = "its share of requests is answered 500";
        destinations.push(WeightedDestination {
            weight: faults.of(weight),
            destination: led(resolved, loss, &place, here.at, scope),
            filters: edits::filters(from.headers.as_ref(), &inner, faults),
            policies: None,
        });
    }
    destinations
}

/// The weight of a destination, which counts unless it is `alone`.
pub(super) fn weight(written: Option<i32>, alone: bool) -> Result<u32, String> {
    let written = written.unwrap_or(0);
    let weight = u32::try_from(written);
    let weight = weight.map_err(|_negative| format!("found {written}, accepted: 0 and above"))?;
    Ok(if alone { 1 } else { weight })
}

/// Why a destination leads nowhere.
#[derive(Debug)]
pub(super) struct Nowhere {
    /// The field below the destination.
    field: &'static str,
    /// A reason for the user.
    reason: String,
    /// It leads somewhere for requests on other ports.
    elsewhere: bool,
}

/// The destination that a reference at `field` leads to; one that leads nowhere is named with
/// `loss`, which tells what becomes of its share.
pub(super) fn led(
    resolved: Result<ClusterId, Nowhere>,
    loss: &str,
    field: &str,
    at: &At<'_, VirtualService>,
    scope: &mut Scope<'_>,
) -> Destination {
    let problems = &mut scope.problems;
    match resolved {
        Err(nowhere) if nowhere.elsewhere => {
            let reason = format!("{}; {loss}", nowhere.reason);
            problems.warning(at.located, format!("{field}.{}", nowhere.field), reason);
            Destination::Invalid
        }
        other => {
            let other = other.map_err(|nowhere| (nowhere.field, nowhere.reason));
            leads_to(other, loss, field, at.located, problems)
        }
    }
}

/// Whether where something goes depends on the port that was asked for: a destination that names
/// none has it where its Service has several (Destination.port of Istio's reference).
pub(super) fn goes_by_port<'d>(
    at: &At<'_, VirtualService>,
    mut destinations: impl Iterator<Item = &'d HostDestination>,
    scope: &Scope<'_>,
) -> bool {
    let namespace = &at.located.id.namespace;
    destinations.any(|one| {
        let found = host::service(&one.host, namespace, scope).ok();
        let ports = found.map(|(_, ports)| ports).unwrap_or_default();
        one.port.is_none() && ports.iter().filter(|port| port.tcp).count() > 1
    })
}

/// The cluster that a destination leads to.
pub(super) fn resolve(
    here: Here<'_, '_>,
    from: &HostDestination,
    scope: &Scope<'_>,
) -> Result<ClusterId, Nowhere> {
    let nowhere = |field, reason| Nowhere {
        field,
        reason,
        elsewhere: false,
    };
    let namespace = &here.at.located.id.namespace;
    let (service, ports) =
        host::service(&from.host, namespace, scope).map_err(|reason| nowhere("host", reason))?;
    let port = match &from.port {
        Some(port) => scope.tcp_port(service.key(), port.number).ok_or_else(|| {
            let reason = scope.no_such_port(service.key(), port.number.into());
            nowhere("port.number", reason)
        })?,
        None => {
            let mut tcp = ports.iter().filter(|port| port.tcp);
            match (tcp.next(), tcp.next(), here.asked) {
                (None, ..) => return Err(nowhere("host", "has no TCP port".to_owned())),
                (Some(port), None, _) => port,
                (Some(_), Some(_), asked) => of_asked(&service, asked, scope)?,
            }
        }
    };
    let Some(name) = &from.subset else {
        return Ok(port.id);
    };
    let found = destination_rule::subset(port, name, namespace);
    found.map(|subset| subset.id).ok_or_else(|| {
        let (of, service) = service.key();
        let reason = format!("no DestinationRule of Service {of}/{service} has a subset `{name}`");
        nowhere("subset", reason)
    })
}

/// The port of a Service with several that a request is for.
fn of_asked<'s>(
    service: &Name,
    asked: Option<u16>,
    scope: &Scope<'s>,
) -> Result<&'s Port, Nowhere> {
    let found = asked.and_then(|number| scope.tcp_port(service.key(), number));
    found.ok_or_else(|| {
        let numbered = asked.map(|number| {
            let lacking = scope.no_such_port(service.key(), number.into());
            format!("is missing, and {lacking}")
        });
        Nowhere {
            field: "port",
            reason: numbered.unwrap_or_else(|| "is missing: the Service has several ports".into()),
            elsewhere: asked.is_some(),
        }
    })
}
