//! `linkerd.io/v1` Service and Route: virtual hosts by the Host header.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::attach::{self, NO_DESTINATION, respond, shared_id};
use super::by_key::{Key, Name};
use super::cluster_ids::ClusterIds;
use super::endpoints;
use super::index::{At, Index, created};
use super::problems::Problems;
use super::scope::Scope;
use super::service::{Declared, Ports};
use crate::model::{
    Action, BalancePolicy, Cluster, ClusterId, Destination, DirectPolicy, Filters, Hosts, Match,
    RouteTable, Rule, Timeouts, UpstreamProtocol, WeightedDestination,
};
use crate::objects::linkerd::{Route, Service};

/// What the two kinds come to.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// Clusters of their own.
    pub clusters: Vec<Arc<Cluster>>,
    /// Client namespace → host → routes.
    pub virtual_hosts: Arc<HashMap<Arc<str>, Hosts>>,
    /// Ports of Kubernetes Services that are HTTP because an object here names them.
    pub http_ports: BTreeSet<(Name, u16)>,
    /// What is wrong.
    pub problems: Problems,
}

/// A virtual host: namespace and host, lower case.
type Host = (Arc<str>, String);

/// Whether there is an object of either kind.
pub(super) fn is_used(index: &Index) -> bool {
    index.has::<Service>() || index.has::<Route>()
}

/// Compiles both kinds, all of them: their hosts are shared, and they are few.
pub(super) fn compile(index: &Index, ports: &Ports, ids: &mut ClusterIds) -> Compiled {
    let mut scope = Scope::new(ports, index);
    let mut compiled = Compiled::default();
    let mut tables: BTreeMap<Host, RouteTable> = BTreeMap::new();
    for at in index.all::<Service>() {
        let Some(cluster) = cluster(index, &at, &mut scope, ids) else {
            continue;
        };
        let spec = &at.object.spec;
        if let Some(port) = scope.tcp_port(at.key(), spec.port) {
            let named = (port.service.clone(), port.number);
            compiled.http_ports.insert(named);
        }
        let host = (
            Arc::clone(&at.located.id.namespace),
            spec.host.to_ascii_lowercase(),
        );
        if let Some(first) = tables.get(&host) {
            let reason = format!(
                "host `{}` is {}'s already, which keeps it",
                host.1, first.origin
            );
            scope.problems.error(at.located, "spec.host", reason);
        } else {
            let to = vec![WeightedDestination::plain(
                1,
                Destination::Cluster(cluster.id),
            )];
            tables.insert(host, table(&at, to));
        }
        compiled.clusters.push(Arc::new(cluster));
    }
    for (host, routes) in by_host(index, &mut scope) {
        let http_ports = &mut compiled.http_ports;
        let shares = routes.iter();
        let shares = shares.map(|at| share(at, index, &mut scope, ids, http_ports));
        let mut table = table(&routes[0], shares.collect());
        let names: Vec<_> = routes.iter().map(|at| at.located.id.to_string()).collect();
        table.origin = names.join(", ").into();
        tables.insert(host, table);
    }
    let mut virtual_hosts: HashMap<Arc<str>, Hosts> = HashMap::new();
    for ((namespace, host), table) in tables {
        let hosts = virtual_hosts.entry(namespace).or_default();
        hosts.insert(host.into(), Arc::new(table));
    }
    compiled.virtual_hosts = Arc::new(virtual_hosts);
    compiled.problems = scope.into_parts().1;
    compiled
}

/// The usable Routes of each host, the oldest first.
fn by_host<'s>(index: &'s Index, scope: &mut Scope<'_>) -> BTreeMap<Host, Vec<At<'s, Route>>> {
    let mut by_host: BTreeMap<Host, Vec<At<'s, Route>>> = BTreeMap::new();
    let mut routes: Vec<_> = index.all::<Route>().collect();
    routes.sort_by_key(|at| created(at.located));
    for at in routes {
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
            None if !is_host(&spec.host) => bad_host(&at, &spec.host, scope),
            None => {
                let namespace = Arc::clone(&at.located.id.namespace);
                let host = (namespace, spec.host.to_ascii_lowercase());
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

fn bad_host<T>(at: &At<'_, T>, host: &str, scope: &mut Scope<'_>) {
    let reason = format!("found `{host}`, expected a host name without a port");
    scope.problems.error(at.located, "spec.host", reason);
}

/// The cluster of a `linkerd.io/v1` Service; `None` when it is malformed, which is named.
fn cluster(
    index: &Index,
    at: &At<'_, Service>,
    scope: &mut Scope<'_>,
    ids: &mut ClusterIds,
) -> Option<Cluster> {
    let key = at.key();
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
    let kubernetes = scope.tcp_port(key, spec.port);
    let endpoints = endpoints::of_pods(index, key.0, &selector, |pod| match kubernetes {
        Some(port) => endpoints::pod_port(pod, &port.target),
        None => Some(spec.port),
    });
    let name: Arc<str> = format!("linkerd/{}/{}", key.0, key.1).into();
    Some(Cluster {
        id: ids.id(&name),
        name,
        namespace: Arc::clone(&at.located.id.namespace),
        service: Arc::clone(&at.located.id.name),
        port: spec.port,
        balance: kubernetes.map_or_else(BalancePolicy::default, |port| port.balance),
        retry_share: kubernetes.map(|port| port.retry_share).unwrap_or_default(),
        own_policies: kubernetes.map_or_else(Vec::new, |port| port.own_policies.clone()),
        upstream: match kubernetes.map(|port| port.declared) {
            Some(Declared::Http(upstream)) => upstream,
            Some(Declared::Opaque | Declared::Tls | Declared::Nothing) | None => {
                UpstreamProtocol::AsReceived
            }
        },
        direct: DirectPolicy::default(),
        failure_accrual: kubernetes.and_then(|port| port.failure_accrual),
        policies: None,
        endpoints,
        left_out: Vec::new(),
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

/// The share of one Route. One whose Service is missing keeps it, answers 500 for it, and is named.
fn share(
    at: &At<'_, Route>,
    index: &Index,
    scope: &mut Scope<'_>,
    ids: &mut ClusterIds,
    http_ports: &mut BTreeSet<(Name, u16)>,
) -> WeightedDestination {
    let spec = &at.object.spec;
    let weight = spec.weight.unwrap_or(1);
    let key: Key<'_> = (&at.located.id.namespace, &spec.service.name);
    if let Some(service) = index.get::<Service>(key) {
        let usable =
            is_host(&service.object.spec.host) && labels(&service.object.spec.label).is_some();
        let name: Arc<str> = format!("linkerd/{}/{}", key.0, key.1).into();
        let to = if usable {
            Destination::Cluster(ids.id(&name))
        } else {
            Destination::Invalid
        };
        return WeightedDestination::plain(weight, to);
    }
    let resolved = kubernetes(at, key, scope).map(|(service, port, id)| {
        http_ports.insert((service, port));
        id
    });
    let resolved = resolved.map_err(|reason| ("name", reason));
    let problems = &mut scope.problems;
    let to = attach::destination(resolved, "spec.service", at.located, problems);
    WeightedDestination::plain(weight, to)
}

/// A Kubernetes Service and the first of its TCP ports.
fn kubernetes(
    at: &At<'_, Route>,
    key: Key<'_>,
    scope: &mut Scope<'_>,
) -> Result<(Name, u16, ClusterId), String> {
    let found = scope.service(key);
    let (service, ports) = found.ok_or_else(|| {
        format!(
            "no Service {}/{}, neither linkerd.io/v1 nor v1",
            key.0, key.1
        )
    })?;
    let mut tcp = ports.iter().filter(|port| port.tcp);
    let port = tcp.next();
    let port = port.ok_or_else(|| format!("Service {}/{} has no TCP port", key.0, key.1))?;
    if tcp.next().is_some() {
        let reason = format!(
            "Service {}/{} has several ports: {} is used",
            key.0, key.1, port.number
        );
        let problems = &mut scope.problems;
        problems.warning(at.located, "spec.service.name", reason);
    }
    Ok((service, port.number, port.id))
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
    let origin = object.to_string().into();
    let rule = Rule {
        object: Some(object),
        field: "spec".into(),
        conditions: Match::default(),
        action: Arc::new(action),
        timeouts: Timeouts::default(),
        policies: None,
    };
    RouteTable::new(origin, vec![rule])
}
