//! Route tables as `status routes` shows them.

use crate::explain;
use crate::model::{Listener, ListenerVerdict, RouteTable, Snapshot, StreamScope, StreamTable};
use crate::status::RouteStatus;

/// Every table, by what it is for.
pub(super) fn routes(snapshot: &Snapshot) -> Vec<RouteStatus> {
    let mut routes = Vec::new();
    for listener in snapshot.listeners.iter() {
        match listener.verdict {
            ListenerVerdict::Proxy(_) => routes.extend(of_listener(snapshot, listener)),
            ListenerVerdict::Direct => routes.extend(of_direct(snapshot, listener)),
            ListenerVerdict::Pass(_) => {}
        }
    }
    for (namespace, hosts) in snapshot.virtual_hosts.iter() {
        for (host, routes_of) in hosts {
            let parent = format!("host {host}");
            routes.push(requests(snapshot, &parent, namespace, routes_of));
        }
    }
    routes.sort_by(|a, b| (&a.parent, &a.clients).cmp(&(&b.parent, &b.clients)));
    routes
}

/// What the kernel shares connections out by, if a route says so.
fn of_direct(snapshot: &Snapshot, listener: &Listener) -> Option<RouteStatus> {
    let table = listener.streams.as_ref()?;
    listener.direct_destinations()?;
    Some(connections(snapshot, &parent(listener), "all", table))
}

fn parent(listener: &Listener) -> String {
    let (namespace, service) = (&listener.namespace, &listener.service);
    format!("{namespace}/{service}:{}", listener.port)
}

fn of_listener(snapshot: &Snapshot, listener: &Listener) -> Vec<RouteStatus> {
    let parent = parent(listener);
    let consumers = listener.consumer_routes.iter();
    let consumers = consumers.map(|(namespace, table)| (&**namespace, table));
    let mut tables = Vec::new();
    for (clients, table) in [("all", &listener.routes)].into_iter().chain(consumers) {
        let streams = match clients {
            "all" => listener.streams.as_ref(),
            namespace => listener.consumer_streams.get(namespace),
        };
        // Where no connection is taken for HTTP, rules for requests are none.
        if streams.is_none_or(|streams| streams.scope != StreamScope::Every) {
            tables.push(RouteStatus {
                shadowed: shadowed(listener, clients),
                ..requests(snapshot, &parent, clients, table)
            });
        }
        tables.extend(streams.map(|table| connections(snapshot, &parent, clients, table)));
    }
    tables
}

fn requests(snapshot: &Snapshot, parent: &str, clients: &str, table: &RouteTable) -> RouteStatus {
    let rules = table.rules.iter();
    let rules = rules.map(|rule| explain::describe(rule, snapshot));
    shown(parent, clients, &table.origin, rules.collect())
}

fn connections(
    snapshot: &Snapshot,
    parent: &str,
    clients: &str,
    table: &StreamTable,
) -> RouteStatus {
    let rules = table.rules.iter();
    let rules = rules.map(|rule| explain::describe_stream(rule, snapshot));
    shown(parent, clients, &table.origin, rules.collect())
}

fn shown(parent: &str, clients: &str, origin: &str, rules: Vec<String>) -> RouteStatus {
    RouteStatus {
        parent: parent.to_owned(),
        clients: clients.to_owned(),
        origin: origin.to_owned(),
        rules,
        shadowed: Vec::new(),
    }
}

/// What is shadowed for the clients of a namespace, or for `all` others. Where a namespace has no
/// table of its own, the common one shows it.
fn shadowed(listener: &Listener, clients: &str) -> Vec<String> {
    let here = listener.shadowed.iter().filter(|one| match &one.clients {
        Some(of) if listener.consumer_routes.contains_key(of) => &**of == clients,
        Some(_) | None => clients == "all",
    });
    here.map(|one| match &one.clients {
        Some(namespace) => format!(
            "{} for clients in {namespace}: {} decides",
            one.object, one.by
        ),
        None => format!("{}: {} decides", one.object, one.by),
    })
    .collect()
}
