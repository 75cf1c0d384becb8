//! What a route of a VirtualService does.

use std::sync::Arc;

use http::StatusCode;

use super::{Fault, destination_rule, host, policy};
use crate::compile::attach::{NO_DESTINATION, destination, respond};
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::compile::text::{
    authority_value, header_edits, host_as_authority, regex_part, substitution,
};
use crate::model::{
    Action, ClusterId, Destination, Filters, HeaderEdits, Mirror, PathRewrite, Policies, Redirect,
    RedirectPort, Timeouts, WeightedDestination,
};
use crate::objects::istio::{
    self, HeaderOperations, Headers, HostDestination, HttpRoute, VirtualService,
};

/// The action of a route, whatever matched.
#[derive(Debug)]
pub(super) struct Base {
    pub action: Action,
    /// `rewrite.uri`, whose meaning depends on the match.
    pub rewrite_uri: Option<String>,
    pub timeouts: Timeouts,
    pub policies: Option<Arc<Policies>>,
}

/// Compiles what a route does.
pub(super) fn compile(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
) -> Result<Base, Fault> {
    refuse_two_answers(route)?;
    let policies = policies(at, field, route, scope)?;
    let action = action(at, field, route, scope)?;
    for (inner, reason) in policy::left_out(route) {
        let place = format!("{field}.{inner}");
        scope.problems.warning(at.located, place, reason);
    }
    let rewrite = route.rewrite.as_ref();
    Ok(Base {
        action,
        rewrite_uri: rewrite.and_then(|rewrite| rewrite.uri.clone()),
        timeouts: Timeouts {
            request: timeout(route)?,
            backend_request: None,
        },
        policies: (!policies.is_empty()).then(|| Arc::new(policies)),
    })
}

fn refuse_two_answers(route: &HttpRoute) -> Result<(), Fault> {
    let answers = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
    ];
    let mut named = answers.iter().filter(|(_, there)| *there);
    match (named.next(), named.next()) {
        (Some((first, _)), Some((second, _))) => {
            let reason = format!("found both {first} and {second}, accepted: one of them");
            Err(((*second).to_owned(), reason))
        }
        _ => Ok(()),
    }
}

fn policies(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
) -> Result<Policies, Fault> {
    let faults = route.fault.as_ref().map(policy::faults).transpose()?;
    let (delay, abort) = faults.unwrap_or_default();
    let mut mirrors = Vec::new();
    for (inner, to, share) in policy::mirrors(route)? {
        match resolve(at, to, scope) {
            Ok(cluster) => mirrors.push(Mirror {
                to: Destination::Cluster(cluster),
                share,
                shadow_host: true,
            }),
            Err((below, reason)) => {
                let reason = format!("{reason}; nothing is mirrored there");
                let place = format!("{field}.{inner}.{below}");
                scope.problems.error(at.located, place, reason);
            }
        }
    }
    let forwards = !route.route.is_empty();
    let retry = policy::retry(route.retries.as_ref())?;
    Ok(Policies {
        retry: retry.filter(|_| forwards),
        mirrors,
        delay,
        abort,
        cors: route.cors_policy.as_ref().map(policy::cors).transpose()?,
        ..Policies::default()
    })
}

fn action(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
) -> Result<Action, Fault> {
    let mut filters = filters(route.headers.as_ref())?;
    if let Some(from) = &route.redirect {
        let redirect = redirect(from)?;
        return Ok(Action::Redirect { filters, redirect });
    }
    if let Some(from) = &route.direct_response {
        return direct(from, filters);
    }
    if let Some(rewrite) = &route.rewrite {
        set_rewrite(rewrite, &mut filters)?;
    }
    let destinations = destinations(at, field, route, scope)?;
    if destinations.iter().all(|one| one.weight == 0) {
        let reason = "no destination with a weight; every request is answered 500";
        let problems = &mut scope.problems;
        problems.error(at.located, format!("{field}.route"), reason);
        return Ok(respond(NO_DESTINATION));
    }
    Ok(Action::Forward {
        filters,
        destinations,
    })
}

fn direct(from: &istio::DirectResponse, filters: Filters) -> Result<Action, Fault> {
    let fault = |name: &str, reason| (format!("directResponse.{name}"), reason);
    let status = policy::status_of(from.status).map_err(|reason| fault("status", reason))?;
    let body = from.body.as_ref().map(policy::body).transpose();
    let body = body.map_err(|(below, reason)| fault(&format!("body{below}"), reason))?;
    Ok(Action::Direct {
        filters,
        status,
        body: body.unwrap_or_default(),
    })
}

/// What of a rewrite does not depend on the match.
fn set_rewrite(from: &istio::Rewrite, filters: &mut Filters) -> Result<(), Fault> {
    if let Some(authority) = &from.authority {
        let value = authority_value(authority);
        let value = value.map_err(|reason| ("rewrite.authority".to_owned(), reason))?;
        filters.rewrite_authority = Some(value);
    }
    let Some(regex) = &from.uri_regex_rewrite else {
        return Ok(());
    };
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
    filters.rewrite_path = Some(PathRewrite::Regex {
        pattern,
        replacement,
    });
    Ok(())
}

fn timeout(route: &HttpRoute) -> Result<Option<std::time::Duration>, Fault> {
    let parsed = route.timeout.as_deref().map(policy::duration).transpose();
    parsed
        .map(|limit| limit.filter(|limit| !limit.is_zero()))
        .map_err(|reason| ("timeout".to_owned(), reason))
}

fn filters(headers: Option<&Headers>) -> Result<Filters, Fault> {
    let Some(headers) = headers else {
        return Ok(Filters::default());
    };
    let mut filters = Filters {
        request_headers: edits(headers.request.as_ref(), "headers.request")?,
        response_headers: edits(headers.response.as_ref(), "headers.response")?,
        ..Filters::default()
    };
    host_as_authority(&mut filters);
    Ok(filters)
}

fn edits(operations: Option<&HeaderOperations>, field: &str) -> Result<HeaderEdits, Fault> {
    let Some(from) = operations else {
        return Ok(HeaderEdits::default());
    };
    header_edits(&from.set, &from.add, &from.remove)
        .map_err(|(inner, reason)| (format!("{field}.{inner}"), reason))
}

fn redirect(from: &istio::Redirect) -> Result<Redirect, Fault> {
    let fault = |name: &str, reason: String| (format!("redirect.{name}"), reason);
    let code = from.redirect_code.unwrap_or(301);
    let status = StatusCode::from_u16(code)
        .ok()
        .filter(|_| [301, 302, 303, 307, 308].contains(&code))
        .ok_or_else(|| {
            let reason = format!("found {code}, accepted: 301, 302, 303, 307, 308");
            fault("redirectCode", reason)
        })?;
    let (hostname, port) = match from.authority.as_deref() {
        None => (None, None),
        Some(authority) => match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse::<u16>();
                let port = port.map_err(|error| fault("authority", error.to_string()))?;
                (Some(host), Some(port))
            }
            Some(_) | None => (Some(authority), None),
        },
    };
    let scheme = from.scheme.as_deref();
    if let Some(other) = scheme.filter(|scheme| !matches!(*scheme, "http" | "https")) {
        let reason = format!("found `{other}`, accepted: http, https");
        return Err(fault("scheme", reason));
    }
    let derived = match from.derive_port.as_deref() {
        None => None,
        Some("FROM_PROTOCOL_DEFAULT") => {
            let https = scheme == Some("https");
            Some(RedirectPort::Number(if https { 443 } else { 80 }))
        }
        Some("FROM_REQUEST_PORT") => Some(RedirectPort::Asked),
        Some(other) => {
            let reason =
                format!("found `{other}`, accepted: FROM_PROTOCOL_DEFAULT, FROM_REQUEST_PORT");
            return Err(fault("derivePort", reason));
        }
    };
    Ok(Redirect {
        scheme: scheme.map(Into::into),
        hostname: hostname.map(Into::into),
        port: match from.port.or(port) {
            Some(port) => RedirectPort::Number(port),
            None => derived.unwrap_or(RedirectPort::Unsaid),
        },
        path: from.uri.as_deref().map(|uri| PathRewrite::Full(uri.into())),
        status,
    })
}

fn destinations(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
) -> Result<Vec<WeightedDestination>, Fault> {
    let alone = route.route.len() == 1;
    let mut destinations = Vec::new();
    for (index, from) in route.route.iter().enumerate() {
        let inner = format!("route[{index}]");
        let weight = if alone { 1 } else { from.weight.unwrap_or(0) };
        let weight = u32::try_from(weight)
            .map_err(|error| (format!("{inner}.weight"), error.to_string()))?;
        let filters = filters(from.headers.as_ref())
            .map_err(|(below, reason)| (format!("{inner}.{below}"), reason))?;
        let resolved = resolve(at, &from.destination, scope);
        let place = format!("{field}.{inner}.destination");
        let problems = &mut scope.problems;
        let destination = destination(resolved, &place, at.located, problems);
        destinations.push(WeightedDestination {
            weight,
            destination,
            filters,
            policies: None,
        });
    }
    Ok(destinations)
}

/// The cluster that a destination leads to; else the field below it and a reason for the user.
pub(super) fn resolve(
    at: &At<'_, VirtualService>,
    from: &HostDestination,
    scope: &Scope<'_>,
) -> Result<ClusterId, (&'static str, String)> {
    let namespace = &at.located.id.namespace;
    let (service, ports) =
        host::service(&from.host, namespace, scope).map_err(|reason| ("host", reason))?;
    let port = match &from.port {
        Some(port) => scope.tcp_port(service.key(), port.number).ok_or_else(|| {
            let reason = scope.no_such_port(service.key(), port.number.into());
            ("port.number", reason)
        })?,
        None => {
            let mut tcp = ports.iter().filter(|port| port.tcp);
            match (tcp.next(), tcp.next()) {
                (Some(port), None) => port,
                (None, _) => return Err(("host", "has no TCP port".to_owned())),
                (Some(_), Some(_)) => {
                    let reason = "is missing: the Service has several ports".to_owned();
                    return Err(("port", reason));
                }
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
        ("subset", reason)
    })
}
