//! `trafficPolicy.loadBalancer` beside the algorithm: hashes, localities, warm-up.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{positive, time};
use crate::compile::faults::{Fault, Faults};
use crate::model::{ConsistentHash, Distribution, HashKey, HashTable, LocalityPolicy, Warmup};
use crate::objects::istio::{self, LoadBalancer, LocalityLbSetting};

/// Points of a ring unless a rule says otherwise, as Istio has it.
const RING_SIZE: u64 = 1_024;
/// Entries of a Maglev table unless a rule says otherwise, as Envoy has it.
const TABLE_SIZE: u64 = 65_537;
/// Entries of a Maglev table at most, as Envoy has it.
const MAX_TABLE_SIZE: u64 = 5_000_011;
/// Points of a ring at most, as Envoy has it.
const MAX_RING_SIZE: u64 = 8 << 20;

/// Compiles `consistentHash`.
pub(super) fn consistent_hash(of: &istio::ConsistentHash) -> Result<ConsistentHash, Vec<Fault>> {
    let mut faults = Faults::default();
    let key = faults.of(hash_key(of).map(Some));
    let table = faults.of(hash_table(of).map(Some));
    match (key, table) {
        (Some(key), Some(table)) => faults.or(ConsistentHash { key, table }),
        _ => Err(faults.0),
    }
}

fn hash_key(of: &istio::ConsistentHash) -> Result<HashKey, Fault> {
    let text = |text: &String| Arc::from(text.as_str());
    let mut keys = Vec::new();
    keys.extend(
        of.http_header_name
            .as_ref()
            .map(|name| HashKey::Header(text(name))),
    );
    if let Some(cookie) = &of.http_cookie {
        if cookie.name.is_empty() {
            let reason = "is missing: the cookie that is hashed".to_owned();
            return Err(("httpCookie.name".to_owned(), reason));
        }
        keys.push(HashKey::Cookie {
            name: text(&cookie.name),
            path: cookie.path.as_ref().map(text),
            ttl: time("httpCookie.ttl", cookie.ttl.as_ref())?,
        });
    }
    keys.extend((of.use_source_ip == Some(true)).then_some(HashKey::SourceIp));
    keys.extend(
        of.http_query_parameter_name
            .as_ref()
            .map(|name| HashKey::Query(text(name))),
    );
    let one = <[HashKey; 1]>::try_from(keys);
    one.map(|[key]| key).map_err(|_keys| {
        let reason = "accepted: one of httpHeaderName, httpCookie, useSourceIp, \
                      httpQueryParameterName";
        (String::new(), reason.to_owned())
    })
}

fn hash_table(of: &istio::ConsistentHash) -> Result<HashTable, Fault> {
    match (&of.ring_hash, &of.maglev) {
        (Some(_), Some(_)) => {
            let reason = "found ringHash too, accepted: one of them".to_owned();
            Err(("maglev".to_owned(), reason))
        }
        (None, Some(maglev)) => table_size(maglev.table_size).map(HashTable::Maglev),
        (ring, None) => {
            let ring = ring.as_ref().and_then(|ring| ring.minimum_ring_size);
            let size = ring.or(of.minimum_ring_size).unwrap_or(RING_SIZE);
            if size > MAX_RING_SIZE {
                let reason = format!("found {size}, accepted: 0 to {MAX_RING_SIZE}");
                return Err(("ringHash.minimumRingSize".to_owned(), reason));
            }
            Ok(HashTable::Ring(size))
        }
    }
}

fn table_size(written: Option<u64>) -> Result<u64, Fault> {
    let size = written.unwrap_or(TABLE_SIZE);
    let prime = size > 1
        && (2..)
            .take_while(|n| n * n <= size)
            .all(|n| !size.is_multiple_of(n));
    if size > MAX_TABLE_SIZE || !prime {
        let reason = format!("found {size}, accepted: a prime number up to {MAX_TABLE_SIZE}");
        return Err(("maglev.tableSize".to_owned(), reason));
    }
    Ok(size)
}

/// Compiles `localityLbSetting`.
pub(super) fn locality(of: &LocalityLbSetting) -> Result<LocalityPolicy, Vec<Fault>> {
    let mut faults = Faults::default();
    let ways = [
        !of.distribute.is_empty(),
        !of.failover.is_empty(),
        !of.failover_priority.is_empty(),
    ];
    // Failover and its priority may stand together.
    if ways[0] && (ways[1] || ways[2]) {
        let reason = "accepted: without failover and failoverPriority".to_owned();
        faults.0.push(("distribute".to_owned(), reason));
    }
    let mut distribute = Vec::new();
    for (index, one) in of.distribute.iter().enumerate() {
        let sum: u64 = one.to.values().map(|share| u64::from(*share)).sum();
        if sum != 100 {
            let reason = format!("shares of {sum} together, accepted: 100");
            faults.0.push((format!("distribute[{index}].to"), reason));
        }
        let share = |(to, share): (&String, &u32)| {
            // At most 100, which the sum has where nothing is wrong.
            (Arc::from(to.as_str()), u8::try_from(*share).unwrap_or(100))
        };
        let to: BTreeMap<Arc<str>, u8> = one.to.iter().map(share).collect();
        let from = Arc::from(one.from.as_str());
        distribute.push(Distribution { from, to });
    }
    for (index, one) in of.failover.iter().enumerate() {
        if one.from.is_empty() || one.to.is_empty() || one.from == one.to {
            let reason = "accepted: from and to, which are different regions".to_owned();
            faults.0.push((format!("failover[{index}]"), reason));
        }
    }
    let pair = |one: &istio::Failover| (one.from.as_str().into(), one.to.as_str().into());
    let labels = of
        .failover_priority
        .iter()
        .map(|label| label.as_str().into());
    faults.or(LocalityPolicy {
        enabled: of.enabled.unwrap_or(true),
        distribute,
        failover: of.failover.iter().map(pair).collect(),
        failover_priority: labels.collect(),
    })
}

/// Compiles `warmup`, or its older form; `None` where neither is there.
pub(super) fn warmup(of: &LoadBalancer) -> Result<Option<Warmup>, Vec<Fault>> {
    let (field, written) = match &of.warmup {
        Some(warmup) => ("warmup.duration", warmup.duration.as_ref()),
        None => ("warmupDurationSecs", of.warmup_duration_secs.as_ref()),
    };
    if of.warmup.is_none() && written.is_none() {
        return Ok(None);
    }
    let mut faults = Faults::default();
    let missing = || {
        let reason = "is missing: time until all of the share".to_owned();
        (field.to_owned(), reason)
    };
    let duration = positive(field, written).and_then(|time| time.ok_or_else(missing));
    let duration = faults.of(duration);
    let (minimum, aggression) = match &of.warmup {
        Some(warmup) => (warmup.minimum_percent, warmup.aggression),
        None => (None, None),
    };
    let minimum = thousandths("minimumPercent", minimum, 10.0, 0.0..=100.0);
    let aggression = thousandths("aggression", aggression, 1.0, 1.0..=1_000.0);
    let warmup = Warmup {
        duration,
        minimum_millipercent: faults.of(minimum),
        aggression_milli: faults.of(aggression),
    };
    faults.or(Some(warmup))
}

/// A number with three decimal places.
fn thousandths(
    field: &str,
    written: Option<f64>,
    default: f64,
    accepted: RangeInclusive<f64>,
) -> Result<u32, Fault> {
    let value = written.unwrap_or(default);
    if !accepted.contains(&value) {
        let (from, to) = (accepted.start(), accepted.end());
        let reason = format!("found {value}, accepted: {from} to {to}");
        return Err((format!("warmup.{field}"), reason));
    }
    let whole = Duration::from_secs_f64(value).as_millis();
    Ok(u32::try_from(whole).unwrap_or(u32::MAX))
}
