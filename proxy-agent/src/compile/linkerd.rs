//! `linkerd.io/v1` Service and Route: virtual hosts by the Host header.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::attach::{NO_DESTINATION, respond, shared_id};
use super::by_key::Key;
use super::endpoints;
use super::gateway_api::Scope;
use super::index::{At, Index};
use super::service::Declared;
use crate::model::{
    Action, BalancePolicy, Cluster, ClusterId, Destination, Filters, Match, RouteTable, Rule,
    Timeouts, UpstreamProtocol, WeightedDestination,
};
use crate::objects::linkerd::{Route, Service};

/// What the two kinds come to.
#[derive(Debug, Default)]
pub(super) struct Compiled<'a> {
    /// Clusters of their own.
    pub clusters: Vec<Cluster>,
    /// Client namespace → host → routes.
    pub virtual_hosts: HashMap<Arc<str>, HashMap<Arc<str>, Arc<RouteTable>>>,
    /// Ports of Kubernetes Services that are HTTP because an object here names them.
    pub http_ports: HashSet<(Key<'a>, u16)>,
}

/// A virtual host: namespace and host, lower case.
type Host<'a> = (&'a str, String);

/// Compiles both kinds.
pub(super) fn compile<'a>(index: &'a Index<'a>, scope: &mut Scope<'a, '_>) -> Compiled<'a> {
    let mut compiled = Compiled::default();
    let mut tables: BTreeMap<Host<'a>, RouteTable> = BTreeMap::new();
    for (key, at) in index.linkerd_services.iter() {
        if let Some(cluster) = cluster(index, key, at, scope) {
            let port = (key, at.object.spec.port);
            if super::attach::tcp_port(scope.ports, key, port.1).is_some() {
                compiled.http_ports.insert(port);
            }
            let host = (key.0, at.object.spec.host.to_ascii_lowercase());
            if let Some(first) = tables.get(&host) {
                let reason = format!(
                    "host `{}` is {}'s already, which keeps it",
                    host.1, first.origin
                );
                scope.problems.error(at.located, "spec.host", reason);
            } else {
                let to = vec![destination(1, Destination::Cluster(cluster.id))];
                tables.insert(host, table(at, to));
            }
            compiled.clusters.push(cluster);
        }
    }
    for (host, routes) in by_host(index, scope) {
        let destinations = routes
            .iter()
            .filter_map(|at| share(at, index, scope, &mut compiled.http_ports))
            .collect::<Vec<_>>();
        if !destinations.is_empty() {
            let mut table = table(routes[0], destinations);
            let names: Vec<_> = routes.iter().map(|at| at.located.id.to_string()).collect();
            table.origin = names.join(", ").into();
            tables.insert(host, table);
        }
    }
    for ((namespace, host), table) in tables {
        let hosts = compiled.virtual_hosts.entry(namespace.into()).or_default();
        hosts.insert(host.into(), Arc::new(table));
    }
    compiled
}

fn by_host<'a>(
    index: &'a Index<'a>,
    scope: &mut Scope<'a, '_>,
) -> BTreeMap<Host<'a>, Vec<&'a At<'a, Route>>> {
    let mut by_host: BTreeMap<Host<'a>, Vec<&At<'a, Route>>> = BTreeMap::new();
    for at in &index.linkerd_routes {
        let spec = &at.object.spec;
        let kinds = [
            ("spec.kind", spec.kind.as_deref(), "service"),
            ("spec.service.kind", spec.service.kind.as_deref(), "Service"),
        ];
        let wrong = kinds.into_iter().find_map(|(field, found, accepted)| {
            Some((field, found?, accepted)).filter(|(_, found, _)| *found != accepted)
        });
        match wrong {
            Some((field, found, accepted)) => {
                let reason = format!("found `{found}`, accepted: {accepted}");
                scope.problems.error(at.located, field, reason);
            }
            None if !is_host(&spec.host) => bad_host(at, &spec.host, scope),
            None => {
                let host = (&*at.located.id.namespace, spec.host.to_ascii_lowercase());
                by_host.entry(host).or_default().push(at);
            }
        }
    }
    by_host
}

fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn bad_host<T>(at: &At<'_, T>, host: &str, scope: &mut Scope<'_, '_>) {
    let reason = format!("found `{host}`, expected a host name without a port");
    scope.problems.error(at.located, "spec.host", reason);
}

/// The cluster of a `linkerd.io/v1` Service; `None` when it is malformed, which is named.
fn cluster<'a>(
    index: &Index<'a>,
    key: Key<'_>,
    at: &At<'_, Service>,
    scope: &mut Scope<'a, '_>,
) -> Option<Cluster> {
    let spec = &at.object.spec;
    if !is_host(&spec.host) {
        bad_host(at, &spec.host, scope);
        return None;
    }
    let Some(selector) = labels(&spec.label) else {
        let reason = format!("found `{}`, expected key=value[,key=value]", spec.label);
        scope.problems.error(at.located, "spec.label", reason);
        return None;
    };
    let kubernetes = super::attach::tcp_port(scope.ports, key, spec.port);
    let endpoints = endpoints::of_pods(index, key.0, &selector, |pod| match kubernetes {
        Some(port) => endpoints::pod_port(pod, port.kube),
        None => Some(spec.port),
    });
    let name: Arc<str> = format!("linkerd/{}/{}", key.0, key.1).into();
    Some(Cluster {
        id: scope.ids.id(&name),
        name,
        namespace: key.0.into(),
        service: key.1.into(),
        port: spec.port,
        balance: kubernetes.map_or_else(BalancePolicy::default, |port| port.balance),
        upstream: match kubernetes.map(|port| port.declared) {
            Some(Declared::Http(upstream)) => upstream,
            Some(Declared::Opaque | Declared::Nothing) | None => UpstreamProtocol::AsReceived,
        },
        endpoints,
    })
}

fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    let pairs = text.split(',').map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (key.trim(), value.trim());
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// The share of one Route; `None` when its Service is missing, which is named.
fn share<'a>(
    at: &At<'a, Route>,
    index: &Index<'a>,
    scope: &mut Scope<'a, '_>,
    http_ports: &mut HashSet<(Key<'a>, u16)>,
) -> Option<WeightedDestination> {
    let spec = &at.object.spec;
    let key: Key<'_> = (&at.located.id.namespace, &spec.service.name);
    let weight = spec.weight.unwrap_or(1);
    if let Some(service) = index.linkerd_services.get(key) {
        let usable =
            is_host(&service.object.spec.host) && labels(&service.object.spec.label).is_some();
        let name: Arc<str> = format!("linkerd/{}/{}", key.0, key.1).into();
        let to = if usable {
            Destination::Cluster(scope.ids.id(&name))
        } else {
            Destination::Invalid
        };
        return Some(destination(weight, to));
    }
    let (key, ports) = scope.ports.entry(key).or_else(|| {
        let reason = format!(
            "no Service {}/{}, neither linkerd.io/v1 nor v1",
            key.0, key.1
        );
        scope
            .problems
            .error(at.located, "spec.service.name", reason);
        None
    })?;
    let mut tcp = ports.iter().filter(|port| port.is_tcp());
    let Some(port) = tcp.next() else {
        let reason = format!("Service {}/{} has no TCP port", key.0, key.1);
        scope
            .problems
            .error(at.located, "spec.service.name", reason);
        return None;
    };
    if tcp.next().is_some() {
        let reason = format!(
            "Service {}/{} has several ports: {} is used",
            key.0, key.1, port.number
        );
        scope
            .problems
            .warning(at.located, "spec.service.name", reason);
    }
    http_ports.insert((key, port.number));
    let id: ClusterId = scope.ids.id(&port.cluster);
    Some(destination(weight, Destination::Cluster(id)))
}

fn destination(weight: u32, destination: Destination) -> WeightedDestination {
    WeightedDestination {
        weight,
        destination,
        filters: Filters::default(),
    }
}

fn table<T>(at: &At<'_, T>, destinations: Vec<WeightedDestination>) -> RouteTable {
    let object = shared_id(at.located);
    let action = if destinations.iter().all(|one| one.weight == 0) {
        respond(NO_DESTINATION)
    } else {
        let filters = Filters::default();
        Action::Forward {
            filters,
            destinations,
        }
    };
    RouteTable {
        origin: object.to_string().into(),
        rules: vec![Rule {
            object: Some(object),
            field: "spec".into(),
            conditions: Match::default(),
            action: Arc::new(action),
            timeouts: Timeouts::default(),
            policies: None,
        }],
    }
}
