//! What would happen to a connection that is not taken for HTTP.

use super::describe::{shares, source};
use super::{MAX_NEAR_MISSES, clusters};
use crate::model::{Destination, Filters, ServerName, Snapshot, StreamTable, WeightedDestination};
use crate::model::{Listener, StreamRule};
use crate::route::{Client, Greeting};
use crate::status::Explanation;

/// A rule as one line: its conditions → where to.
pub fn describe(rule: &StreamRule, snapshot: &Snapshot) -> String {
    let to = if rule.destinations.iter().all(|one| one.weight == 0) {
        "reset (no_destination)".to_owned()
    } else {
        shares(&rule.destinations, snapshot)
    };
    format!("{} → {to}", conditions(rule))
}

fn conditions(rule: &StreamRule) -> String {
    let mut words = Vec::new();
    if let Some(names) = &rule.names {
        let names: Vec<_> = names.iter().map(name).collect();
        words.push(format!("TLS to {}", names.join(" or ")));
    }
    words.extend(rule.source.as_deref().map(source));
    if words.is_empty() {
        "every connection".to_owned()
    } else {
        words.join(", ")
    }
}

fn name(name: &ServerName) -> String {
    match name {
        ServerName::Any => "any name".to_owned(),
        ServerName::Exact(name) => name.to_string(),
        ServerName::Below(suffix) => format!("*{suffix}"),
    }
}

/// Says where a connection to `listener` goes, which asks for `greeting`.
pub(super) fn explain(
    snapshot: &Snapshot,
    listener: &Listener,
    greeting: Greeting<'_>,
    client: &Client<'_>,
    answer: &mut Explanation,
) {
    let Some(table) = listener.streams_for(client.namespace) else {
        "none: opaque TCP, TLS among it, is balanced by connection".clone_into(&mut answer.route);
        let whole = WeightedDestination {
            weight: 1,
            destination: Destination::Cluster(listener.cluster),
            filters: Filters::default(),
        };
        answer.clusters = clusters(snapshot, &[whole]);
        return;
    };
    let Some(found) = table.find(greeting, client) else {
        answer.near_misses = misses(table, table.rules.len(), greeting);
        answer.route = format!("no rule of {} matches", table.origin);
        let reason = match greeting {
            Greeting::Tls(_) => "no_route",
            Greeting::Other => "not_tls",
        };
        answer
            .action
            .push(format!("resets the connection ({reason})"));
        return;
    };
    let place = table.rules.iter().position(|one| std::ptr::eq(one, found));
    answer.near_misses = misses(table, place.unwrap_or(0), greeting);
    answer.route = match &found.object {
        None => format!("none of {} matches: the port's own endpoints", table.origin),
        Some(object) => format!("{object} {}", found.field),
    };
    answer.clusters = clusters(snapshot, &found.destinations);
}

/// Why the first rules up to `count` do not match.
fn misses(table: &StreamTable, count: usize, greeting: Greeting<'_>) -> Vec<String> {
    let found = match greeting {
        Greeting::Other => "no TLS".to_owned(),
        Greeting::Tls(None) => "TLS without a name".to_owned(),
        Greeting::Tls(Some(name)) => format!("TLS to {name}"),
    };
    let rules = table.rules.iter().take(count.min(MAX_NEAR_MISSES));
    let line = |rule: &StreamRule| {
        let object = rule
            .object
            .as_ref()
            .map(|id| format!("{id} {}: ", rule.field));
        let object = object.unwrap_or_default();
        format!("{object}needs {}, found {found}", conditions(rule))
    };
    rules.map(line).collect()
}
