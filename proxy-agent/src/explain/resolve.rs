//! A URL's host to a listener, as cluster DNS and the connect hook would.

use std::net::{IpAddr, SocketAddr};

use crate::model::{Listener, Snapshot};

/// What a host and a port stand for.
pub(super) enum Resolved<'a> {
    /// A Service port.
    Listener(&'a Listener),
    /// Nothing that the agent takes, and why.
    Passes(String),
}

/// Resolves an address, or a name in the search path of `namespace`.
pub(super) fn resolve<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    host: &str,
    port: u16,
) -> Resolved<'a> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return of_address(snapshot, SocketAddr::new(ip.to_canonical(), port));
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let mut labels = name.split('.');
    let service = labels.next().unwrap_or_default();
    let of = labels.next().unwrap_or(namespace);
    let rest: Vec<_> = labels.collect();
    let in_cluster = matches!(
        rest[..],
        [] | ["svc"] | ["svc", "cluster"] | ["svc", "cluster", "local"]
    );
    let listeners = snapshot.listeners.iter().map(AsRef::as_ref);
    let own: Vec<&Listener> = listeners
        .filter(|one| {
            // No Service has a dot in its name: this is a host of a ServiceEntry.
            let external = name.contains('.') && *one.service == *name && one.is_for(namespace);
            external || in_cluster && *one.namespace == *of && *one.service == *service
        })
        .collect();
    if own.is_empty() {
        return Resolved::Passes(format!("`{host}` is no Service that is known"));
    }
    match own.iter().find(|one| one.port == port) {
        Some(listener) => Resolved::Listener(listener),
        None => {
            let ports: Vec<_> = own.iter().map(|one| one.port.to_string()).collect();
            let ports = ports.join(", ");
            Resolved::Passes(format!(
                "Service {of}/{service} has no port {port}; it has: {ports}"
            ))
        }
    }
}

fn of_address(snapshot: &Snapshot, address: SocketAddr) -> Resolved<'_> {
    if let Some(listener) = snapshot.by_address.get(&address) {
        return Resolved::Listener(listener);
    }
    let mut listeners = snapshot.listeners.iter();
    if let Some(listener) = listeners.find(|one| one.addresses.contains(&address)) {
        return Resolved::Listener(listener);
    }
    let mut pods = snapshot.pods.values();
    Resolved::Passes(match pods.find(|pod| pod.ips.contains(&address.ip())) {
        Some(pod) => format!(
            "{address} is pod {}/{}: pod addresses are not routed",
            pod.namespace, pod.name
        ),
        None => format!("{address} is no Service's address"),
    })
}
