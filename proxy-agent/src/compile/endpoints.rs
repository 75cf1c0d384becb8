//! Which addresses serve a Service port.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServiceSpec};

use super::by_key::Name;
use super::index::{At, Index};
use super::pod;
use super::problems::Problems;
use super::service::{Port, PortSubset, Target};
use crate::model::Endpoint;
use crate::objects::{Located, Origin, Slice, SliceAddress, SliceState};

/// What is known to serve a port: sorted by address, each once.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Where connections may go.
    pub usable: Vec<Endpoint>,
    /// The rest.
    pub lingering: Vec<SocketAddr>,
}

impl Known {
    /// Of `all`, the `usable` ones are used, as far as `near` does.
    fn new(
        all: impl IntoIterator<Item = Endpoint>,
        usable: impl IntoIterator<Item = Endpoint>,
        near: Near<'_>,
    ) -> Self {
        let usable = near.choose(sorted(usable));
        let is_used = |address: &SocketAddr| {
            let found = usable.binary_search_by_key(address, |endpoint| endpoint.address);
            found.is_ok()
        };
        let all = all.into_iter().map(|endpoint| endpoint.address);
        let lingering: BTreeSet<_> = all.filter(|address| !is_used(address)).collect();
        Self {
            lingering: lingering.into_iter().collect(),
            usable,
        }
    }
}

/// Which endpoints a Service wants its clients on one node to use.
#[derive(Clone, Copy, Debug)]
enum Near<'a> {
    /// All of them.
    Everywhere,
    /// Those of the node, even if there are none (`internalTrafficPolicy: Local`).
    Only(&'a str),
    /// Those of the node, if there are any (`trafficDistribution: PreferSameNode`).
    First(&'a str),
}

impl<'a> Near<'a> {
    fn of(spec: &ServiceSpec, node: Option<&'a str>) -> Self {
        let local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let first = spec.traffic_distribution.as_deref() == Some("PreferSameNode");
        match node {
            Some(node) if local => Self::Only(node),
            Some(node) if first => Self::First(node),
            Some(_) | None => Self::Everywhere,
        }
    }

    fn choose(self, mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
        let (node, must) = match self {
            Self::Everywhere => return endpoints,
            Self::Only(node) => (node, true),
            Self::First(node) => (node, false),
        };
        let is_near = |one: &Endpoint| one.node.as_deref() == Some(node);
        if must || endpoints.iter().any(is_near) {
            endpoints.retain(is_near);
        }
        endpoints
    }
}

/// The endpoints of a Service's port, as clients on `node` are to use them.
pub(super) fn of_port(
    index: &Index,
    at: &At<'_, Service>,
    port: &Port,
    node: Option<&str>,
    problems: &mut Problems,
) -> Known {
    let Some(spec) = at.object.spec.as_ref().filter(|_| port.tcp) else {
        return Known::default();
    };
    let (near, unready_too) = (
        Near::of(spec, node),
        spec.publish_not_ready_addresses == Some(true),
    );
    if let Some(slices) = index.slices(at.key()) {
        return of_slices(slices, &port.name, unready_too, near, problems);
    }
    let Some(selector) = selector(at) else {
        return Known::default();
    };
    let selected = index.selected(at.key().0, selector);
    let (mut all, mut usable) = (Vec::new(), Vec::new());
    for at in selected.filter(|at| !pod::is_completed(at.object)) {
        let number = pod_port(at.object, &port.target);
        let Some(endpoint) = number.and_then(|number| of_pod(at.located, at.object, number)) else {
            continue;
        };
        if is_ready(at.object) || unready_too && is_alive(at.object) {
            usable.push(endpoint.clone());
        }
        all.push(endpoint);
    }
    Known::new(all, usable, near)
}

/// The selector by which endpoints are found: in a cluster they are EndpointSlices.
pub(super) fn selector<'a>(at: &At<'a, Service>) -> Option<&'a BTreeMap<String, String>> {
    let selector = at.object.spec.as_ref()?.selector.as_ref();
    selector.filter(|_| at.origin == Origin::Files)
}

/// The ready pods of a namespace that carry every label of `selector`, on `port`.
pub(super) fn of_pods(
    index: &Index,
    namespace: &str,
    selector: &BTreeMap<String, String>,
    port: impl Fn(&Pod) -> Option<u16>,
) -> Vec<Endpoint> {
    let selected = index.selected(namespace, selector);
    let ready = selected.filter(|at| is_ready(at.object));
    sorted(ready.filter_map(|at| of_pod(at.located, at.object, port(at.object)?)))
}

/// Those of `endpoints` whose pods carry the labels of a subset of `service`.
pub(super) fn of_subset(
    endpoints: &[Endpoint],
    subset: &PortSubset,
    service: &Name,
    index: &Index,
) -> Vec<Endpoint> {
    let pods = index.selected(&service.namespace, &subset.labels);
    let pods: HashSet<String> = pods
        .map(|at| format!("{}/{}", at.located.id.namespace, at.located.id.name))
        .collect();
    let is_part = |one: &&Endpoint| {
        subset.labels.is_empty() || one.pod.as_ref().is_some_and(|pod| pods.contains(&**pod))
    };
    endpoints.iter().filter(is_part).cloned().collect()
}

/// The number of the pod's port that `spec.ports[].targetPort` means.
pub(super) fn pod_port(pod: &Pod, target: &Target) -> Option<u16> {
    match target {
        Target::Number(number) => Some(*number),
        Target::Named(name) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten();
            let containers = spec.containers.iter().chain(sidecars);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let port = ports.find(|port| {
                port.name.as_deref() == Some(name)
                    && port.protocol.as_deref().unwrap_or("TCP") == "TCP"
            })?;
            u16::try_from(port.container_port).ok()
        }
        Target::Nothing => None,
    }
}

fn is_alive(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !pod::is_completed(pod)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    is_alive(pod)
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn of_pod(located: &Located, pod: &Pod, port: u16) -> Option<Endpoint> {
    let ip = *pod::ips(pod).first()?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    Some(Endpoint {
        address: SocketAddr::new(ip, port),
        pod: Some(format!("{}/{}", located.id.namespace, located.id.name).into()),
        node: node.map(Arc::from),
        zone: None,
    })
}

fn of_slices<'a>(
    slices: impl Iterator<Item = At<'a, Slice>>,
    port_name: &str,
    unready_too: bool,
    near: Near<'_>,
    problems: &mut Problems,
) -> Known {
    let (mut all, mut ready, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
    for at in slices {
        // By name, both being empty where there is one port.
        let mut ports = at.object.ports.iter();
        let Some(port) = ports.find(|port| *port.name == *port_name) else {
            continue;
        };
        for endpoint in &at.object.endpoints {
            let ip = match &endpoint.address {
                SliceAddress::Ip(ip) => *ip,
                SliceAddress::Bad { found, place } => {
                    let field = format!("endpoints[{place}].addresses[0]");
                    let reason = format!("found `{found}`, expected an IP address");
                    problems.once(at.located, field, reason);
                    continue;
                }
            };
            let model = Endpoint {
                address: SocketAddr::new(ip, port.number),
                pod: endpoint.pod.clone(),
                node: endpoint.node.clone(),
                zone: endpoint.zone.clone(),
            };
            all.push(model.clone());
            match endpoint.state {
                SliceState::Ready => ready.push(model),
                SliceState::Leaving | SliceState::Unready if unready_too => ready.push(model),
                SliceState::Leaving => leaving.push(model),
                SliceState::Unready => {}
            }
        }
    }
    let usable = if ready.is_empty() { leaving } else { ready };
    Known::new(all, usable, near)
}

/// Each address once. An endpoint stands in two slices while it moves between them.
fn sorted(endpoints: impl IntoIterator<Item = Endpoint>) -> Vec<Endpoint> {
    let mut by_address = BTreeMap::new();
    for endpoint in endpoints {
        by_address.entry(endpoint.address).or_insert(endpoint);
    }
    by_address.into_values().collect()
}
