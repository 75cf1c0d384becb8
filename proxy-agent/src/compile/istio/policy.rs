//! What a route of a VirtualService does beside routing: retries, mirrors, CORS.

use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::matches;
use crate::compile::duration::go;
use crate::compile::faults::{Fault, Faults};
use crate::compile::text::{exact_match, header_value};
use crate::model::{Backoff, Cors, Listed, Retry, RetryOn, Share, StringMatch};
use crate::objects::istio::{self, HttpRoute, Percent, Retries};

/// Retries of a route that says nothing of them.
const DEFAULT_ATTEMPTS: u32 = 2;
/// Causes of a route that does not say which.
const DEFAULT_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";

/// Compiles `retries`; a route without any has Istio's default. `None` where they are turned off.
pub(super) fn retry(from: Option<&Retries>, faults: &mut Faults) -> Option<Retry> {
    let fault = |name: &str, reason: String| (format!("retries.{name}"), reason);
    let named = from.and_then(|from| from.retry_on.as_deref());
    let named = named.filter(|text| !text.is_empty());
    let on = conditions(named.unwrap_or(DEFAULT_ON)).map_err(|reason| fault("retryOn", reason));
    let on = faults.of(on);
    let Some(from) = from else {
        return Some(Retry {
            attempts: DEFAULT_ATTEMPTS,
            on,
            per_try: None,
            backoff: Backoff::default(),
            budget: None,
        });
    };
    // Where `retries` is there, a number that is left out is protobuf's: 0.
    let written = from.attempts.unwrap_or(0);
    let attempts = u32::try_from(written).map_err(|_negative| {
        let reason = format!("found {written}, accepted: 0 and above");
        fault("attempts", reason)
    });
    let mut time = |name: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(duration).transpose();
        let parsed = parsed.map_err(|reason| fault(name, reason));
        faults.of(parsed).filter(|time| !time.is_zero())
    };
    let per_try = time("perTryTimeout", &from.per_try_timeout);
    let backoff = match time("backoff", &from.backoff) {
        None => Backoff::default(),
        Some(base) => Backoff {
            floor: Duration::ZERO,
            base,
            cap: base.saturating_mul(10),
        },
    };
    let attempts = faults.of(attempts);
    (attempts > 0).then_some(Retry {
        attempts,
        on,
        per_try,
        backoff,
        budget: None,
    })
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
pub(super) fn mirrors<'r>(
    route: &'r HttpRoute,
    faults: &mut Faults,
) -> Vec<(String, &'r istio::HostDestination, Share)> {
    let (name, percentage) = match (route.mirror_percentage, route.mirror_percent) {
        (None, Some(older)) => {
            let value = older.into();
            ("mirrorPercent", Some(Percent { value }))
        }
        (percentage, _) => ("mirrorPercentage", percentage),
    };
    let mut mirrors = Vec::new();
    if let Some(to) = &route.mirror {
        let share = share(percentage).map_err(|reason| (name.to_owned(), reason));
        let share = faults.of(share.map(Some));
        mirrors.extend(share.map(|share| ("mirror".to_owned(), to, share)));
    }
    for (index, mirror) in route.mirrors.iter().flatten().enumerate() {
        let field = format!("mirrors[{index}]");
        let share = share(mirror.percentage);
        let share = share.map_err(|reason| (format!("{field}.percentage"), reason));
        let share = faults.of(share.map(Some));
        let to = &mirror.destination;
        mirrors.extend(share.map(|share| (format!("{field}.destination"), to, share)));
    }
    mirrors
}

/// Compiles `corsPolicy`.
pub(super) fn cors(from: &istio::Cors, faults: &mut Faults) -> Cors {
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
        let condition = faults.of(matches::text(origin, &field).map(Some));
        origins.extend(condition.map(|condition| {
            let any = matches!(&condition, StringMatch::Exact(all) if &**all == "*");
            if any { StringMatch::Present } else { condition }
        }));
    }
    let max_age = from.max_age.as_deref().map(duration).transpose();
    let max_age = faults.of(max_age.map_err(fault("maxAge")));
    let forward_unmatched = match from.unmatched_preflights.as_deref() {
        None | Some("UNSPECIFIED" | "FORWARD") => true,
        Some("IGNORE") => false,
        Some(other) => {
            let reason = format!("found `{other}`, accepted: FORWARD, IGNORE");
            faults.0.push(fault("unmatchedPreflights")(reason));
            false
        }
    };
    let mut listed = |name, names: &[String]| {
        let listed = listed(names).map(Some).map_err(fault(name));
        faults.of(listed).unwrap_or(Listed::Nothing)
    };
    let methods = listed("allowMethods", &from.allow_methods);
    let headers = listed("allowHeaders", &from.allow_headers);
    let expose = joined(&from.expose_headers).map_err(fault("exposeHeaders"));
    Cors {
        origins,
        methods,
        headers,
        expose: faults.of(expose),
        max_age: max_age.map(|age| HeaderValue::from(age.as_secs())),
        credentials: from.allow_credentials.unwrap_or(false),
        forward_unmatched,
    }
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
