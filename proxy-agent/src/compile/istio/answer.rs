//! What a route of a VirtualService answers itself: redirects and direct responses.

use http::StatusCode;
use http::uri::PathAndQuery;

use super::{edits, policy};
use crate::compile::faults::{Fault, Faults};
use crate::model::{Action, Filters, PathRewrite, Redirect, RedirectPort};
use crate::objects::istio::{self, HttpRoute};

/// Names what cannot stand together, as Istio's validation has it.
pub(super) fn refuse_conflicts(route: &HttpRoute, faults: &mut Faults) {
    let answers = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
    ];
    let mut named = answers.iter().filter(|(_, there)| *there);
    if let (Some((first, _)), Some((second, _))) = (named.next(), named.next()) {
        let reason = format!("found both {first} and {second}, accepted: one of them");
        faults.0.push(((*second).to_owned(), reason));
    }
    let Some(answer) = answers_itself(route) else {
        return;
    };
    for (field, there) in [
        ("rewrite", route.rewrite.is_some()),
        ("fault", route.fault.is_some()),
    ] {
        if there {
            let reason = format!("found beside {answer}, accepted: one of them");
            faults.0.push((field.to_owned(), reason));
        }
    }
}

/// Fields that have no effect beside others, each with why.
pub(super) fn without_effect(route: &HttpRoute) -> Vec<(&'static str, &'static str)> {
    let itself = answers_itself(route).is_some();
    let nobody = "has no effect: the route answers itself, and sends nothing on";
    let unmirrored = "has no effect without `mirror`";
    let parts = [
        ("timeout", nobody, itself && route.timeout.is_some()),
        ("retries", nobody, itself && route.retries.is_some()),
        ("mirror", nobody, itself && route.mirror.is_some()),
        ("mirrors", nobody, itself && route.mirrors.is_some()),
        (
            "mirrorPercentage",
            unmirrored,
            route.mirror.is_none() && route.mirror_percentage.is_some(),
        ),
        (
            "mirrorPercent",
            unmirrored,
            route.mirror.is_none() && route.mirror_percent.is_some(),
        ),
    ];
    let there = parts.into_iter().filter(|(.., there)| *there);
    there.map(|(field, reason, _)| (field, reason)).collect()
}

fn answers_itself(route: &HttpRoute) -> Option<&'static str> {
    if route.redirect.is_some() {
        return Some("redirect");
    }
    route.direct_response.is_some().then_some("directResponse")
}

/// Compiles `directResponse`.
pub(super) fn direct(
    from: &istio::DirectResponse,
    filters: Filters,
    faults: &mut Faults,
) -> Action {
    let fault = |name: &str, reason| (format!("directResponse.{name}"), reason);
    let status = policy::status_of(from.status).map_err(|reason| fault("status", reason));
    let body = from.body.as_ref().map(policy::body).transpose();
    let body = body.map_err(|(below, reason)| fault(&format!("body{below}"), reason));
    Action::Direct {
        filters,
        status: faults.of(status),
        body: faults.of(body).unwrap_or_default(),
    }
}

/// Compiles `redirect`.
pub(super) fn redirect(from: &istio::Redirect, faults: &mut Faults) -> Redirect {
    let fault = |name: &str, reason: String| (format!("redirect.{name}"), reason);
    let code = from.redirect_code.unwrap_or(301);
    let status = StatusCode::from_u16(code)
        .ok()
        .filter(|_| [301, 302, 303, 307, 308].contains(&code))
        .ok_or_else(|| {
            let reason = format!("found {code}, accepted: 301, 302, 303, 307, 308");
            fault("redirectCode", reason)
        });
    let scheme = from.scheme.as_deref();
    if let Some(other) = scheme.filter(|scheme| !matches!(*scheme, "http" | "https")) {
        let reason = format!("found `{other}`, accepted: http, https");
        faults.0.push(fault("scheme", reason));
    }
    let (hostname, of_authority) = faults.of(authority(from));
    let derived = faults.of(derived(from));
    if from.port == Some(0) {
        let reason = "found 0, accepted: 1 to 65535".to_owned();
        faults.0.push(fault("port", reason));
    }
    let path = from.uri.as_deref().filter(|uri| !uri.is_empty());
    if let Some(uri) = path {
        faults.of(self::path(uri, "redirect.uri"));
    }
    let port = match from.port.or(of_authority) {
        Some(port) => Some(RedirectPort::Number(port)),
        // Another host's port is not the one that was asked for: Envoy's `host_redirect` has none
        // unless it is written. The same host keeps a port that is not plain HTTP's own (Envoy's
        // `processRequestHost`).
        None => derived.or_else(|| match (hostname, scheme) {
            (Some(_), _) => Some(well_known(scheme)),
            (None, Some(_)) => Some(RedirectPort::AskedUnlessDefault),
            (None, None) => None,
        }),
    };
    Redirect {
        scheme: scheme.map(Into::into),
        hostname: hostname.map(Into::into),
        port: port.unwrap_or(RedirectPort::Unsaid),
        path: path.map(|uri| PathRewrite::Full(uri.into())),
        status: faults.of(status),
    }
}

/// The host and the port of `redirect.authority`.
fn authority(from: &istio::Redirect) -> Result<(Option<&str>, Option<u16>), Fault> {
    const FIELD: &str = "redirect.authority";
    let Some(authority) = from.authority.as_deref().filter(|text| !text.is_empty()) else {
        return Ok((None, None));
    };
    edits::authority(authority, FIELD)?;
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            let port = port.ok_or_else(|| {
                let reason = format!("found `{authority}`, accepted: a port of 1 to 65535");
                (FIELD.to_owned(), reason)
            })?;
            Ok((Some(host), Some(port)))
        }
        Some(_) | None => Ok((Some(authority), None)),
    }
}

fn derived(from: &istio::Redirect) -> Result<Option<RedirectPort>, Fault> {
    match from.derive_port.as_deref() {
        None => Ok(None),
        Some("FROM_PROTOCOL_DEFAULT") => Ok(Some(well_known(from.scheme.as_deref()))),
        Some("FROM_REQUEST_PORT") => Ok(Some(RedirectPort::Asked)),
        Some(other) => {
            let reason =
                format!("found `{other}`, accepted: FROM_PROTOCOL_DEFAULT, FROM_REQUEST_PORT");
            Err(("redirect.derivePort".to_owned(), reason))
        }
    }
}

fn well_known(scheme: Option<&str>) -> RedirectPort {
    RedirectPort::Number(if scheme == Some("https") { 443 } else { 80 })
}

/// Judges what stands for a path or begins one.
pub(super) fn path(text: &str, field: &str) -> Result<(), Fault> {
    let whole = if text.starts_with('/') {
        text.to_owned()
    } else {
        format!("/{text}")
    };
    let parsed = whole.parse::<PathAndQuery>();
    parsed.map(|_| ()).map_err(|error| {
        let reason = format!("found `{text}`: {error}");
        (field.to_owned(), reason)
    })
}
