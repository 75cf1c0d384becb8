//! `retry.linkerd.io/…`.

use std::ops::RangeInclusive;

use super::{Reader, duration};
use crate::model::{Backoff, Retry, RetryOn};

/// Retries of an object that does not say how many (Linkerd's reference on retries).
const DEFAULT_LIMIT: u32 = 1;

/// gRPC statuses that may be named (the same reference), with their numbers.
const GRPC: [(&str, u16); 5] = [
    ("cancelled", 1),
    ("deadline-exceeded", 4),
    ("resource-exhausted", 8),
    ("internal", 13),
    ("unavailable", 14),
];

/// What an object says of retries; nothing unless it says which failures are retried.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Retry> {
    let statuses = reader.read("retry.linkerd.io/http", statuses);
    let grpc = reader.read("retry.linkerd.io/grpc", grpc);
    let limit = reader.read("retry.linkerd.io/limit", limit);
    let each = reader.read("retry.linkerd.io/timeout", duration);
    if statuses.is_none() && grpc.is_none() {
        for name in ["retry.linkerd.io/limit", "retry.linkerd.io/timeout"] {
            if reader.text(name).is_some() {
                let reason = "has no effect: neither retry.linkerd.io/http nor grpc says what is \
                              retried";
                reader.warn(name, reason);
            }
        }
        return None;
    }
    let statuses = statuses.unwrap_or_default();
    let per_try = each.filter(|each| !each.is_zero());
    // The agent answers 502 for a connection that ends before its response.
    let reset = per_try.is_some() || statuses.iter().any(|range| range.contains(&502));
    Some(Retry {
        attempts: limit.unwrap_or(DEFAULT_LIMIT),
        on: RetryOn {
            connect_failure: true,
            refused_stream: true,
            reset,
            statuses,
            grpc: grpc.unwrap_or_default(),
        },
        per_try,
        backoff: Backoff::default(),
        budget: None,
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn statuses(text: &str) -> Result<Vec<RangeInclusive<u16>>, String> {
    let one = |word: &str| match word {
        "5xx" => Ok(500..=599),
        "gateway-error" => Ok(502..=504),
        range => {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let status = |text: &str| text.parse::<u16>().ok();
            match (status(first), status(last)) {
                (Some(first), Some(last)) if 100 <= first && first <= last && last < 600 => {
                    Ok(first..=last)
                }
                _ => Err(format!(
                    "found `{word}`, accepted: a status, a range as in 500-504, gateway-error, 5xx"
                )),
            }
        }
    };
    words(text).map(one).collect()
}

fn grpc(text: &str) -> Result<Vec<u16>, String> {
    let one = |word: &str| {
        let known = GRPC.iter().find(|(name, _)| *name == word);
        known.map(|(_, code)| *code).ok_or_else(|| {
            let names: Vec<_> = GRPC.iter().map(|(name, _)| *name).collect();
            format!("found `{word}`, accepted: {}", names.join(", "))
        })
    };
    words(text).map(one).collect()
}

fn limit(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok();
    number.ok_or_else(|| format!("found `{text}`, expected a number"))
}
