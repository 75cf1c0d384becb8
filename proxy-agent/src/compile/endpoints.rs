//! Which addresses serve a Service port.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint as KubeEndpoint, EndpointSlice};

use super::by_key::Name;
use super::index::{At, Index};
use super::pod;
use super::problems::Problems;
use super::service::{Port, PortSubset, Target};
use crate::model::Endpoint;
use crate::objects::{Located, Origin};

/// The usable endpoints of a Service's port: sorted by address, each once.
pub(super) fn of_port(
    index: &Index,
    at: &At<'_, Service>,
    port: &Port,
    problems: &mut Problems,
) -> Vec<Endpoint> {
    let Some(spec) = at.object.spec.as_ref().filter(|_| port.tcp) else {
        return Vec::new();
    };
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    if let Some(slices) = index.slices(at.key()) {
        return of_slices(slices, &port.name, unready_too, problems);
    }
    let Some(selector) = selector(at) else {
        return Vec::new();
    };
    sorted(index.selected(at.key().0, selector).filter_map(|at| {
        if !(is_ready(at.object) || unready_too && is_alive(at.object)) {
            return None;
        }
        let number = pod_port(at.object, &port.target)?;
        of_pod(at.located, at.object, number)
    }))
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
    slices: impl Iterator<Item = At<'a, EndpointSlice>>,
    port_name: &str,
    unready_too: bool,
    problems: &mut Problems,
) -> Vec<Endpoint> {
    let (mut ready, mut leaving) = (Vec::new(), Vec::new());
    for at in slices.filter(|at| at.object.address_type != "FQDN") {
        let Some(number) = slice_port(at.object, port_name) else {
            continue;
        };
        for (place, endpoint) in at.object.endpoints.iter().enumerate() {
            let Some(address) = endpoint.addresses.first() else {
                continue;
            };
            let Ok(ip) = address.parse::<IpAddr>() else {
                let field = format!("endpoints[{place}].addresses[0]");
                problems.once(
                    at.located,
                    field,
                    format!("found `{address}`, expected an IP address"),
                );
                continue;
            };
            let conditions = endpoint.conditions.as_ref();
            let holds = |value: fn(&_) -> Option<bool>, default: bool| {
                conditions.and_then(value).unwrap_or(default)
            };
            type Conditions = k8s_openapi::api::discovery::v1::EndpointConditions;
            let model = of_slice(
                at.located,
                endpoint,
                SocketAddr::new(ip.to_canonical(), number),
            );
            if unready_too || holds(|c: &Conditions| c.ready, true) {
                ready.push(model);
            } else if holds(|c| c.serving, true) && holds(|c| c.terminating, false) {
                leaving.push(model);
            }
        }
    }
    sorted(if ready.is_empty() { leaving } else { ready })
}

/// The slice's number for a Service port: by name, both being empty where there is one port.
fn slice_port(slice: &EndpointSlice, name: &str) -> Option<u16> {
    let found = slice.ports.iter().flatten().find(|candidate| {
        candidate.name.as_deref().unwrap_or_default() == name
            && candidate.protocol.as_deref().unwrap_or("TCP") == "TCP"
    })?;
    u16::try_from(found.port?).ok()
}

fn of_slice(located: &Located, endpoint: &KubeEndpoint, address: SocketAddr) -> Endpoint {
    let pod = endpoint
        .target_ref
        .as_ref()
        .filter(|target| target.kind.as_deref() == Some("Pod"));
    let pod = pod.and_then(|target| {
        let namespace = target.namespace.as_deref().unwrap_or(&located.id.namespace);
        Some(format!("{namespace}/{}", target.name.as_deref()?))
    });
    Endpoint {
        address,
        pod: pod.map(Arc::from),
        node: endpoint.node_name.as_deref().map(Arc::from),
        zone: endpoint.zone.as_deref().map(Arc::from),
    }
}

/// Each address once. An endpoint stands in two slices while it moves between them.
fn sorted(endpoints: impl IntoIterator<Item = Endpoint>) -> Vec<Endpoint> {
    let mut by_address = BTreeMap::new();
    for endpoint in endpoints {
        by_address.entry(endpoint.address).or_insert(endpoint);
    }
    by_address.into_values().collect()
}
