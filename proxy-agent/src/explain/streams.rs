//! What would happen to a connection that is not taken for HTTP.

use std::net::IpAddr;

use super::describe::{shares, source};
use super::{MAX_NEAR_MISSES, clusters};
use crate::model::{
    Destination, Listener, ServerName, Snapshot, StreamRule, StreamScope, StreamTable,
    WeightedDestination,
};
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

/// Whether no connection of a client in `namespace` is taken for HTTP.
pub(super) fn take_all(listener: &Listener, namespace: &str) -> bool {
    let streams = listener.streams_for(namespace);
    streams.is_some_and(|table| table.scope == StreamScope::Every)
}

/// How a connection begins: with TLS to a host, or otherwise.
pub(super) fn greeting(host: Option<&str>) -> Greeting<'_> {
    // RFC 6066, section 3: an address is no server name.
    host.map_or(Greeting::Other, |host| {
        Greeting::Tls(host.parse::<IpAddr>().is_err().then_some(host))
    })
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
        let whole = WeightedDestination::plain(1, Destination::Cluster(listener.cluster));
        answer.clusters = clusters(snapshot, &[whole], client.namespace);
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
    answer.clusters = clusters(snapshot, &found.destinations, client.namespace);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, Method};

    use crate::compile::{Compiler, Options};
    use crate::explain::{Query, describe_stream, explain};
    use crate::model::Snapshot;
    use crate::objects::{Format, ObjectSet, Origin, parse};
    use crate::status::Explanation;

    const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{port: 443, name: https}, {port: 5432, name: tcp-db}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: r, namespace: shop}
spec:
  hostnames: [a.example, '*.b.example']
  parentRefs: [{group: '', kind: Service, name: web, port: 443}]
  rules: [{backendRefs: [{name: web, port: 5432, weight: 3}, {name: web, port: 443}]}]
";

    fn snapshot() -> Snapshot {
        let parsed = parse(OBJECTS, &Arc::from("t.yaml"), Format::Yaml);
        let mut set = ObjectSet::unsynced("test".into(), Origin::Files);
        set.objects = parsed.objects.into_iter().map(Arc::new).collect();
        let snapshot = Compiler::default().compile(&[Arc::new(set)], &Options::default());
        assert_eq!(*snapshot.problems, []);
        snapshot
    }

    fn ask(url: &str) -> Explanation {
        let query = Query {
            namespace: "shop".to_owned(),
            pod: "c".to_owned(),
            method: Method::GET,
            url: url.to_owned(),
            headers: HeaderMap::new(),
        };
        explain(&snapshot(), &query).expect("an explanation")
    }

    #[test]
    fn tls_is_explained_by_its_server_name() {
        let answer = ask("https://web/");
        let route = "TLSRoute.gateway.networking.k8s.io shop/r";
        assert_eq!(answer.route, format!("no rule of {route} matches"));
        assert_eq!(answer.action, ["resets the connection (no_route)"]);
        assert_eq!(
            answer.near_misses,
            [
                format!("{route} spec.rules[0]: needs TLS to a.example, found TLS to web"),
                format!("{route} spec.rules[0]: needs TLS to *.b.example, found TLS to web"),
            ]
        );
        let answer = ask("http://web:443/");
        assert_eq!(answer.action, ["resets the connection (not_tls)"]);
        let answer = ask("https://web:5432/");
        assert!(
            answer.route.starts_with("none: opaque TCP"),
            "{}",
            answer.route
        );
    }

    #[test]
    fn a_rule_is_one_line() {
        let snapshot = snapshot();
        let table = snapshot.listeners[0].streams.as_ref().expect("a table");
        let lines = table
            .rules
            .iter()
            .map(|rule| describe_stream(rule, &snapshot));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "TLS to a.example → shop/web:5432 3/4, shop/web:443 1/4",
                "TLS to *.b.example → shop/web:5432 3/4, shop/web:443 1/4",
            ]
        );
    }
}
