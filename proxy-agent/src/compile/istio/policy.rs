//! What a route of a VirtualService does beside routing: retries, faults, mirrors, CORS.

use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::{Fault, matches};
use crate::compile::duration::go;
use crate::compile::text::{exact_match, header_value};
use crate::model::{
    Abort, AbortWith, Backoff, Cors, Delay, DelayTime, Listed, Retry, RetryOn, Share, StringMatch,
};
use crate::objects::istio::{self, HttpRoute, Percent, Retries};

/// Retries of a route that says nothing of them.
const DEFAULT_ATTEMPTS: u32 = 2;
/// Causes of a route that does not say which.
const DEFAULT_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";

/// gRPC statuses by name (grpc/doc/statuscodes.md).
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Compiles `retries`; a route without any has Istio's default. `None` where they are turned off.
pub(super) fn retry(from: Option<&Retries>) -> Result<Option<Retry>, Fault> {
    let fault = |name: &str, reason: String| (format!("retries.{name}"), reason);
    let Some(from) = from else {
        return Ok(Some(Retry {
            attempts: DEFAULT_ATTEMPTS,
            on: conditions(DEFAULT_ON).map_err(|reason| fault("retryOn", reason))?,
            per_try: None,
            backoff: Backoff::default(),
            budget: None,
        }));
    };
    let attempts = from.attempts.map(u32::try_from).transpose();
    let attempts = attempts.map_err(|error| fault("attempts", error.to_string()))?;
    let time = |name: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(duration).transpose();
        parsed
            .map(|time| time.filter(|time| !time.is_zero()))
            .map_err(|reason| fault(name, reason))
    };
    let per_try = time("perTryTimeout", &from.per_try_timeout)?;
    let backoff = match time("backoff", &from.backoff)? {
        None => Backoff::default(),
        Some(base) => Backoff {
            floor: Duration::ZERO,
            base,
            cap: base * 10,
        },
    };
    let named = from.retry_on.as_deref().filter(|text| !text.is_empty());
    let on = conditions(named.unwrap_or(DEFAULT_ON)).map_err(|reason| fault("retryOn", reason))?;
    // Where `retries` is there, a number that is left out is protobuf's: 0.
    let attempts = attempts.unwrap_or(0);
    Ok((attempts > 0).then_some(Retry {
        attempts,
        on,
        per_try,
        backoff,
        budget: None,
    }))
}

/// Envoy's conditions (`x-envoy-retry-on` and `x-envoy-retry-grpc-on`), and statuses.
fn conditions(text: &str) -> Result<RetryOn, String> {
    let mut on = RetryOn::default();
    let all_failures = |on: &mut RetryOn, statuses: RangeInclusive<u16>| {
        on.connect_failure = true;
        on.refused_stream = true;
        on.reset = true;
        on.statuses.push(statuses);
    };
    for word in text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        match word {
            "5xx" => all_failures(&mut on, 500..=599),
            "gateway-error" => all_failures(&mut on, 502..=504),
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "reset" => {
                on.connect_failure = true;
                on.refused_stream = true;
                on.reset = true;
            }
            // What was sent may have been seen unless the stream was refused.
            "reset-before-request" => {
                on.connect_failure = true;
                on.refused_stream = true;
            }
            "retriable-4xx" => on.statuses.push(409..=409),
            // The statuses themselves stand beside it.
            "retriable-status-codes" => {}
            "cancelled" => on.grpc.push(1),
            "deadline-exceeded" => on.grpc.push(4),
            "resource-exhausted" => on.grpc.push(8),
            "internal" => on.grpc.push(13),
            "unavailable" => on.grpc.push(14),
            other => match other.parse::<u16>().ok().filter(|n| (100..600).contains(n)) {
                Some(status) => on.statuses.push(status..=status),
                None => {
                    return Err(format!(
                        "found `{other}`, accepted: 5xx, gateway-error, connect-failure, \
                         refused-stream, reset, reset-before-request, retriable-4xx, \
                         retriable-status-codes, cancelled, deadline-exceeded, internal, \
                         resource-exhausted, unavailable, or a status"
                    ));
                }
            },
        }
    }
    Ok(on)
}

/// Compiles `fault`.
pub(super) fn faults(from: &istio::Fault) -> Result<(Option<Delay>, Option<Abort>), Fault> {
    let delay = from.delay.as_ref().map(delay).transpose();
    let abort = from.abort.as_ref().map(abort).transpose();
    let below = |part: &'static str| {
        move |(field, reason): Fault| (format!("fault.{part}.{field}"), reason)
    };
    Ok((
        delay.map_err(below("delay"))?,
        abort.map_err(below("abort"))?,
    ))
}

fn delay(from: &istio::Delay) -> Result<Delay, Fault> {
    let time = match (&from.fixed_delay, &from.exponential_delay) {
        (Some(time), None) => duration(time)
            .map(DelayTime::Fixed)
            .map_err(|reason| ("fixedDelay".to_owned(), reason))?,
        (None, Some(mean)) => duration(mean)
            .map(DelayTime::Exponential)
            .map_err(|reason| ("exponentialDelay".to_owned(), reason))?,
        (None, None) | (Some(_), Some(_)) => {
            let reason = "accepted: one of fixedDelay, exponentialDelay".to_owned();
            return Err(("fixedDelay".to_owned(), reason));
        }
    };
    let older = from.percent.map(f64::from).map(|value| Percent { value });
    Ok(Delay {
        time,
        share: share_of_fault(from.percentage.or(older))
            .map_err(|reason| ("percentage".to_owned(), reason))?,
    })
}

fn abort(from: &istio::Abort) -> Result<Abort, Fault> {
    if from.http2_error.is_some() {
        let reason = "is not supported, nor by Istio; accepted: one of httpStatus, grpcStatus";
        return Err(("http2Error".to_owned(), reason.to_owned()));
    }
    let with = match (from.http_status, &from.grpc_status) {
        (Some(status), None) => status_of(status)
            .map(AbortWith::Http)
            .map_err(|reason| ("httpStatus".to_owned(), reason))?,
        (None, Some(name)) => grpc_status(name)
            .map(AbortWith::Grpc)
            .map_err(|reason| ("grpcStatus".to_owned(), reason))?,
        (None, None) | (Some(_), Some(_)) => {
            let reason = "accepted: one of httpStatus, grpcStatus".to_owned();
            return Err(("httpStatus".to_owned(), reason));
        }
    };
    let share = share_of_fault(from.percentage);
    let share = share.map_err(|reason| ("percentage".to_owned(), reason))?;
    Ok(Abort { with, share })
}

/// Bytes of a body at most, as Istio has it: one route's must not eat the node's memory.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The body of a direct response; else a suffix of its field and what is wrong.
pub(super) fn body(from: &istio::ResponseBody) -> Result<Bytes, Fault> {
    let body = match (&from.string, &from.bytes) {
        (text, None) => Bytes::from(text.clone().unwrap_or_default()),
        (None, Some(encoded)) => BASE64
            .decode(encoded)
            .map(Bytes::from)
            .map_err(|error| (".bytes".to_owned(), format!("is no base64: {error}")))?,
        (Some(_), Some(_)) => {
            let reason = "found both string and bytes, accepted: one of them".to_owned();
            return Err((".bytes".to_owned(), reason));
        }
    };
    if body.len() > MAX_BODY_BYTES {
        let reason = format!("found {} bytes, accepted: {MAX_BODY_BYTES}", body.len());
        return Err((String::new(), reason));
    }
    Ok(body)
}

/// A status that an answer may have.
pub(super) fn status_of(status: u16) -> Result<StatusCode, String> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|_| (200..600).contains(&status))
        .ok_or_else(|| format!("found {status}, accepted: 200 to 599"))
}

fn grpc_status(name: &str) -> Result<u16, String> {
    let number = name.parse().ok().filter(|code| *code < 17);
    let named = || GRPC_STATUSES.iter().position(|known| *known == name);
    let named = || named().and_then(|code| u16::try_from(code).ok());
    number
        .or_else(named)
        .ok_or_else(|| format!("found `{name}`, accepted: {}", GRPC_STATUSES.join(", ")))
}

/// A share in percent, of which Istio takes note up to the fourth decimal place.
pub(super) fn share(percent: Option<Percent>) -> Result<Share, String> {
    const DENOMINATOR: u32 = 1_000_000;
    let Some(Percent { value }) = percent else {
        return Ok(Share::ALL);
    };
    if !(0.0..=100.0).contains(&value) {
        return Err(format!("found {value}, accepted: 0 to 100"));
    }
    let millionths = Duration::from_secs_f64(value * 10_000.0).as_secs();
    Ok(Share {
        numerator: u32::try_from(millionths).unwrap_or(DENOMINATOR),
        denominator: DENOMINATOR,
    })
}

/// The share of a fault: Istio's hit no request unless they say how many.
fn share_of_fault(percent: Option<Percent>) -> Result<Share, String> {
    share(percent.or(Some(Percent { value: 0.0 })))
}

/// Fields that a route leaves out, and that what it does say is without effect for, each with why.
pub(super) fn left_out(route: &HttpRoute) -> Vec<(&'static str, &'static str)> {
    let fault = route.fault.as_ref();
    let delay = fault.and_then(|fault| fault.delay.as_ref());
    let abort = fault.and_then(|fault| fault.abort.as_ref());
    let retries = route.retries.as_ref();
    let nobody = "is missing, which stands for 0: no request is hit";
    let parts = [
        (
            "fault.delay.percentage",
            nobody,
            delay.is_some_and(|delay| delay.percentage.is_none() && delay.percent.is_none()),
        ),
        (
            "fault.abort.percentage",
            nobody,
            abort.is_some_and(|abort| abort.percentage.is_none()),
        ),
        (
            "retries.attempts",
            "is missing, which stands for 0: nothing is sent again",
            retries.is_some_and(|retries| retries.attempts.is_none()),
        ),
    ];
    let there = parts.into_iter().filter(|(.., missing)| *missing);
    there.map(|(field, reason, _)| (field, reason)).collect()
}

/// The mirrors of a route, each with its field.
pub(super) fn mirrors(
    route: &HttpRoute,
) -> Result<Vec<(String, &istio::HostDestination, Share)>, Fault> {
    let older = route.mirror_percent.map(f64::from);
    let percentage = route
        .mirror_percentage
        .or(older.map(|value| Percent { value }));
    let mut mirrors = Vec::new();
    if let Some(to) = &route.mirror {
        let share = share(percentage).map_err(|reason| ("mirrorPercentage".to_owned(), reason))?;
        mirrors.push(("mirror".to_owned(), to, share));
    }
    for (index, mirror) in route.mirrors.iter().flatten().enumerate() {
        let field = format!("mirrors[{index}]");
        let share =
            share(mirror.percentage).map_err(|reason| (format!("{field}.percentage"), reason))?;
        mirrors.push((format!("{field}.destination"), &mirror.destination, share));
    }
    Ok(mirrors)
}

/// Compiles `corsPolicy`.
pub(super) fn cors(from: &istio::Cors) -> Result<Cors, Fault> {
    let fault = |name: &str| {
        let field = format!("corsPolicy.{name}");
        move |reason| (field, reason)
    };
    let older = from
        .allow_origin
        .iter()
        .map(|origin| match origin.as_str() {
            "*" => StringMatch::Present,
            origin => exact_match(origin),
        });
    let mut origins: Vec<StringMatch> = older.collect();
    for (index, origin) in from.allow_origins.iter().enumerate() {
        let field = format!("corsPolicy.allowOrigins[{index}]");
        let condition = matches::text(origin, &field)?;
        let any = matches!(&condition, StringMatch::Exact(all) if &**all == "*");
        origins.push(if any { StringMatch::Present } else { condition });
    }
    let max_age = from.max_age.as_deref().map(duration).transpose();
    let max_age = max_age.map_err(fault("maxAge"))?;
    let forward_unmatched = match from.unmatched_preflights.as_deref() {
        None | Some("UNSPECIFIED" | "FORWARD") => true,
        Some("IGNORE") => false,
        Some(other) => {
            let reason = format!("found `{other}`, accepted: FORWARD, IGNORE");
            return Err(fault("unmatchedPreflights")(reason));
        }
    };
    Ok(Cors {
        origins,
        methods: listed(&from.allow_methods).map_err(fault("allowMethods"))?,
        headers: listed(&from.allow_headers).map_err(fault("allowHeaders"))?,
        expose: joined(&from.expose_headers).map_err(fault("exposeHeaders"))?,
        max_age: max_age.map(|age| HeaderValue::from(age.as_secs())),
        credentials: from.allow_credentials.unwrap_or(false),
        forward_unmatched,
    })
}

fn listed(names: &[String]) -> Result<Listed, String> {
    if names.iter().any(|name| name == "*") {
        return Ok(Listed::Asked);
    }
    Ok(joined(names)?.map_or(Listed::Nothing, Listed::Names))
}

fn joined(names: &[String]) -> Result<Option<HeaderValue>, String> {
    (!names.is_empty())
        .then(|| header_value(&names.join(",")))
        .transpose()
}

/// Parses a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    go(text).ok_or_else(|| format!("found `{text}`, expected a duration as in 5s or 1m30s"))
}
