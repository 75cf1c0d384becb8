//! What a route of a VirtualService does.

use http::StatusCode;

use super::{Fault, host};
use crate::compile::attach::{NO_DESTINATION, destination, respond};
use crate::compile::duration::go;
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::compile::text::{header_edits, header_value, host_as_authority};
use crate::model::{
    Action, ClusterId, Filters, HeaderEdits, PathRewrite, Redirect, Timeouts, WeightedDestination,
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
}

/// Compiles the action of a route.
pub(super) fn compile(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
) -> Result<Base, Fault> {
    refuse_unsupported(route)?;
    let mut filters = filters(route.headers.as_ref())?;
    let timeouts = Timeouts {
        request: timeout(route)?,
        backend_request: None,
    };
    if let Some(from) = &route.redirect {
        if !route.route.is_empty() {
            let reason = "found both redirect and route, accepted: one of them".to_owned();
            return Err(("redirect".to_owned(), reason));
        }
        let redirect = redirect(from)?;
        return Ok(Base {
            action: Action::Redirect { filters, redirect },
            rewrite_uri: None,
            timeouts,
        });
    }
    let rewrite = route.rewrite.as_ref();
    if let Some(authority) = rewrite.and_then(|rewrite| rewrite.authority.as_ref()) {
        let value = header_value(authority);
        let value = value.map_err(|reason| ("rewrite.authority".to_owned(), reason))?;
        filters.rewrite_authority = Some(value);
    }
    let destinations = destinations(at, field, route, scope)?;
    let action = if destinations.iter().all(|one| one.weight == 0) {
        let reason = "no destination with a weight; every request is answered 500";
        scope
            .problems
            .error(at.located, format!("{field}.route"), reason);
        respond(NO_DESTINATION)
    } else {
        Action::Forward {
            filters,
            destinations,
        }
    };
    Ok(Base {
        action,
        rewrite_uri: rewrite.and_then(|rewrite| rewrite.uri.clone()),
        timeouts,
    })
}

fn refuse_unsupported(route: &HttpRoute) -> Result<(), Fault> {
    let rewrite = route.rewrite.as_ref();
    let redirect = route.redirect.as_ref();
    let fields = [
        ("directResponse", route.direct_response.is_some()),
        ("delegate", route.delegate.is_some()),
        ("retries", route.retries.is_some()),
        ("fault", route.fault.is_some()),
        ("mirror", route.mirror.is_some()),
        ("mirrors", route.mirrors.is_some()),
        ("mirrorPercent", route.mirror_percent.is_some()),
        ("mirrorPercentage", route.mirror_percentage.is_some()),
        ("corsPolicy", route.cors_policy.is_some()),
        (
            "rewrite.uriRegexRewrite",
            rewrite.is_some_and(|from| from.uri_regex_rewrite.is_some()),
        ),
        (
            "redirect.derivePort",
            redirect.is_some_and(|from| from.derive_port.is_some()),
        ),
    ];
    match fields.into_iter().find(|(_, there)| *there) {
        Some((name, _)) => Err((
            name.to_owned(),
            "is not supported by this version".to_owned(),
        )),
        None => Ok(()),
    }
}

fn timeout(route: &HttpRoute) -> Result<Option<std::time::Duration>, Fault> {
    let Some(text) = &route.timeout else {
        return Ok(None);
    };
    match go(text) {
        Some(duration) => Ok(Some(duration).filter(|duration| !duration.is_zero())),
        None => {
            let reason = format!("found `{text}`, expected a duration as in 5s or 1m30s");
            Err(("timeout".to_owned(), reason))
        }
    }
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
    Ok(Redirect {
        scheme: scheme.map(Into::into),
        hostname: hostname.map(Into::into),
        port: from.port.or(port),
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
        let destination = destination(resolved, &place, at.located, &mut scope.problems);
        destinations.push(WeightedDestination {
            weight,
            destination,
            filters,
        });
    }
    Ok(destinations)
}

fn resolve(
    at: &At<'_, VirtualService>,
    from: &HostDestination,
    scope: &Scope<'_>,
) -> Result<ClusterId, (&'static str, String)> {
    if from.subset.is_some() {
        return Err(("subset", "is not supported by this version".to_owned()));
    }
    let (service, ports) = host::service(&from.host, &at.located.id.namespace, scope)
        .map_err(|reason| ("host", reason))?;
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
    Ok(port.id)
}
