//! `retry` and `sessionPersistence` of a rule, and its filters `RequestMirror` and `CORS`.

use std::sync::Arc;
use std::time::Duration;

use gateway_api::apis::experimental::httproutes::{
    HttpRoute, HttpRouteRulesBackendRefs, HttpRouteRulesFiltersCors,
    HttpRouteRulesFiltersRequestMirror, HttpRouteRulesRetry, HttpRouteRulesSessionPersistence,
    HttpRouteRulesSessionPersistenceCookieConfigLifetimeType as Lifetime,
    HttpRouteRulesSessionPersistenceType as Carrier,
};
use http::HeaderValue;

use super::findings::Findings;
use super::{Fault, destination};
use crate::compile::duration::gep2257;
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::compile::text::{exact_match, header_name, header_value, wildcard_match};
use crate::model::{
    Backoff, Cors, Destination, Listed, Mirror, Retry, RetryOn, Session, SessionCarrier, Share,
    StringMatch,
};

/// Retries of a rule that does not say how many; Istio's default.
const DEFAULT_ATTEMPTS: u32 = 2;

/// Compiles `retry`. Failures of the connection and of a try's time are always among the causes, as
/// GEP-1731 asks.
pub(super) fn retry(from: &HttpRouteRulesRetry) -> Result<Retry, Fault> {
    let fault = |name: &str, reason: String| (format!("retry.{name}"), reason);
    let attempts = from.attempts.map(u32::try_from).transpose();
    let attempts = attempts.map_err(|error| fault("attempts", error.to_string()))?;
    let codes = from
        .codes
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, code)| {
            let status = u16::try_from(*code)
                .ok()
                .filter(|code| (400..600).contains(code));
            status.map(|code| code..=code).ok_or_else(|| {
                let reason = format!("found {code}, accepted: 400 to 599");
                fault(&format!("codes[{index}]"), reason)
            })
        });
    let backoff = match &from.backoff {
        None => Backoff::default(),
        Some(text) => {
            let floor = duration(text).map_err(|reason| fault("backoff", reason))?;
            Backoff {
                floor,
                base: floor * 2,
                cap: floor * 10,
            }
        }
    };
    Ok(Retry {
        attempts: attempts.unwrap_or(DEFAULT_ATTEMPTS),
        on: RetryOn {
            connect_failure: true,
            refused_stream: true,
            reset: true,
            statuses: codes.collect::<Result<_, _>>()?,
            grpc: Vec::new(),
        },
        per_try: None,
        backoff,
        budget: None,
    })
}

/// Compiles `sessionPersistence`.
pub(super) fn session(
    at: &At<'_, HttpRoute>,
    position: usize,
    from: &HttpRouteRulesSessionPersistence,
) -> Result<Session, Fault> {
    let fault = |name: &str, reason: String| (format!("sessionPersistence.{name}"), reason);
    let limit = |name: &str, text: &Option<String>| {
        let limit = text.as_deref().map(duration).transpose();
        let limit = limit.map_err(|reason| fault(name, reason))?;
        Ok::<_, Fault>(limit.filter(|limit| !limit.is_zero()))
    };
    let absolute_timeout = limit("absoluteTimeout", &from.absolute_timeout)?;
    let idle_timeout = limit("idleTimeout", &from.idle_timeout)?;
    let (namespace, route) = at.key();
    let own = format!("{namespace}.{route}.{position}");
    let name = from.session_name.as_deref().unwrap_or(&own);
    // A cookie's name is a token too (RFC 6265, section 4.1.1).
    let header = header_name(name).map_err(|reason| fault("sessionName", reason))?;
    if from.r#type == Some(Carrier::Header) && from.cookie_config.is_some() {
        let reason = "is of type Cookie, and the session is by Header".to_owned();
        return Err(fault("cookieConfig", reason));
    }
    let lifetime = from.cookie_config.as_ref();
    let lifetime = lifetime.and_then(|config| config.lifetime_type.as_ref());
    let permanent = matches!(lifetime, Some(Lifetime::Permanent));
    let carrier = match &from.r#type {
        Some(Carrier::Header) => SessionCarrier::Header(header),
        Some(Carrier::Cookie) | None if permanent && absolute_timeout.is_none() => {
            let reason = "is missing: a permanent cookie needs it".to_owned();
            return Err(fault("absoluteTimeout", reason));
        }
        Some(Carrier::Cookie) | None => SessionCarrier::Cookie {
            name: name.into(),
            permanent,
        },
    };
    let uid = at.object.metadata.uid.as_deref();
    Ok(Session {
        carrier,
        absolute_timeout,
        idle_timeout,
        // Nobody outside of the cluster's API knows the uid; manifests from files have none.
        key: uid.map_or_else(|| own.as_str().into(), Arc::from),
    })
}

/// Compiles the filters `RequestMirror` of a rule, each with its place among the filters. One that
/// leads nowhere is named and sends nothing.
pub(super) fn mirrors(
    at: &At<'_, HttpRoute>,
    field: &str,
    from: &[(usize, &HttpRouteRulesFiltersRequestMirror)],
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Result<Vec<Mirror>, Fault> {
    let mut mirrors = Vec::new();
    for (position, mirror) in from {
        let inner = format!("filters[{position}].requestMirror");
        let share =
            share(mirror).map_err(|(below, reason)| (format!("{inner}.{below}"), reason))?;
        let target = &mirror.backend_ref;
        let reference = HttpRouteRulesBackendRefs {
            group: target.group.clone(),
            kind: target.kind.clone(),
            name: target.name.clone(),
            namespace: target.namespace.clone(),
            port: target.port,
            ..HttpRouteRulesBackendRefs::default()
        };
        match destination::resolve(at, &reference, scope) {
            Ok(cluster) => mirrors.push(Mirror {
                to: Destination::Cluster(cluster),
                share,
                shadow_host: false,
            }),
            Err((why, below, reason)) => {
                let place = format!("{field}.{inner}.backendRef.{below}");
                let reason = format!("{reason}; nothing is mirrored there");
                findings.unresolved(why, &place, &reason);
                scope.problems.error(at.located, place, reason);
            }
        }
    }
    Ok(mirrors)
}

fn share(from: &HttpRouteRulesFiltersRequestMirror) -> Result<Share, Fault> {
    let (numerator, denominator, field) = match (from.percent, &from.fraction) {
        (None, None) => return Ok(Share::ALL),
        (Some(percent), None) => (percent, 100, "percent"),
        (None, Some(of)) => (of.numerator, of.denominator.unwrap_or(100), "fraction"),
        (Some(_), Some(_)) => {
            let reason = "found both percent and fraction, accepted: one of them";
            return Err(("percent".to_owned(), reason.to_owned()));
        }
    };
    match (u32::try_from(numerator), u32::try_from(denominator)) {
        (Ok(numerator), Ok(denominator)) if denominator > 0 && numerator <= denominator => {
            Ok(Share {
                numerator,
                denominator,
            })
        }
        _ => {
            let reason = format!("found {numerator} of {denominator}, accepted: 0 to all of them");
            Err((field.to_owned(), reason))
        }
    }
}

/// Compiles the filter `CORS`.
pub(super) fn cors(from: &HttpRouteRulesFiltersCors) -> Result<Cors, Fault> {
    let fault = |name: &str| {
        let field = format!("cors.{name}");
        move |reason| (field, reason)
    };
    let credentials = from.allow_credentials.unwrap_or(false);
    let expose = from.expose_headers.as_deref().unwrap_or_default();
    // To browsers, `*` beside credentials is a header of that name.
    let expose: Vec<_> = expose
        .iter()
        .filter(|name| *name != "*" || !credentials)
        .collect();
    let age = from.max_age.unwrap_or(5);
    Ok(Cors {
        origins: origins(from.allow_origins.as_deref().unwrap_or_default())
            .map_err(fault("allowOrigins"))?,
        methods: listed(from.allow_methods.as_deref()).map_err(fault("allowMethods"))?,
        headers: listed(from.allow_headers.as_deref()).map_err(fault("allowHeaders"))?,
        expose: joined(expose).map_err(fault("exposeHeaders"))?,
        max_age: Some(HeaderValue::from(age)),
        credentials,
        forward_unmatched: false,
    })
}

fn origins(from: &[String]) -> Result<Vec<StringMatch>, String> {
    let one = |origin: &String| match origin.as_str() {
        "*" => Ok(StringMatch::Present),
        text if text.contains('*') => wildcard_match(text),
        text => Ok(exact_match(text)),
    };
    from.iter().map(one).collect()
}

fn listed(names: Option<&[String]>) -> Result<Listed, String> {
    let names = names.unwrap_or_default();
    if names.iter().any(|name| name == "*") {
        return Ok(Listed::Asked);
    }
    Ok(joined(names)?.map_or(Listed::Nothing, Listed::Names))
}

fn joined<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<Option<HeaderValue>, String> {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    (!names.is_empty())
        .then(|| header_value(&names.join(", ")))
        .transpose()
}

fn duration(text: &str) -> Result<Duration, String> {
    gep2257(text)
        .ok_or_else(|| format!("found `{text}`, expected a duration as in 10s or 1m30s (GEP-2257)"))
}
