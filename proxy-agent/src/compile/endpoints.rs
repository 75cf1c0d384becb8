//! Which addresses serve a Service port.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};

use super::by_key::Name;
use super::index::{At, Index};
use super::nearby::{self, Candidate, Here, Hints};
use super::pod;
use super::problems::Problems;
use super::service::{Port, PortSubset, Target};
use crate::model::Endpoint;
use crate::objects::{Located, Origin, Slice, SliceAddress, SliceState};

/// The usable endpoints of a Service's port for those who are `here`: sorted by address, each once.
pub(super) fn of_port(
    index: &Index,
    here: Here<'_>,
    at: &At<'_, Service>,
    port: &Port,
    problems: &mut Problems,
) -> Vec<Endpoint> {
    let Some(spec) = at.object.spec.as_ref().filter(|_| port.tcp) else {
        return Vec::new();
    };
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    if let Some(slices) = index.slices(at.key()) {
        let (ready, leaving) = of_slices(slices, &port.name, unready_too, problems);
        return sorted(here.choose(spec, at.origin, ready, leaving));
    }
    let Some(selector) = selector(at) else {
        return Vec::new();
    };
    let ready = index.selected(at.key().0, selector).filter_map(|at| {
        if !(is_ready(at.object) || unready_too && is_alive(at.object)) {
            return None;
        }
        let number = pod_port(at.object, &port.target)?;
        Some(Candidate {
            endpoint: of_pod(index, at.located, at.object, number)?,
            hints: Hints::of_distribution(spec),
        })
    });
    sorted(here.choose(spec, at.origin, ready.collect(), Vec::new()))
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
    sorted(ready.filter_map(|at| of_pod(index, at.located, at.object, port(at.object)?)))
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

fn of_pod(index: &Index, located: &Located, pod: &Pod, port: u16) -> Option<Endpoint> {
    let ip = *pod::ips(pod).first()?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    Some(Endpoint {
        address: SocketAddr::new(ip, port),
        pod: Some(format!("{}/{}", located.id.namespace, located.id.name).into()),
        node: node.map(Arc::from),
        zone: node
            .and_then(|node| nearby::zone(index, node))
            .map(Arc::from),
    })
}

/// The endpoints that are ready, and those that serve and terminate.
fn of_slices<'a>(
    slices: impl Iterator<Item = At<'a, Slice>>,
    port_name: &str,
    unready_too: bool,
    problems: &mut Problems,
) -> (Vec<Candidate<'a>>, Vec<Endpoint>) {
    let (mut ready, mut leaving) = (Vec::new(), Vec::new());
    for at in slices {
        // By name, both being empty where there is one port.
        let mut ports = at.object.ports.iter();
        let Some(port) = ports.find(|port| *port.name == *port_name) else {
            continue;
        };
        for (place, endpoint) in at.object.endpoints.iter().enumerate() {
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
            match endpoint.state {
                SliceState::Leaving if !unready_too => leaving.push(model),
                SliceState::Unready if !unready_too => {}
                SliceState::Ready | SliceState::Leaving | SliceState::Unready => {
                    let hints = at.object.hints.get(place);
                    ready.push(Candidate {
                        endpoint: model,
                        hints: hints.map_or(Hints::None, Hints::Given),
                    });
                }
            }
        }
    }
    (ready, leaving)
}

/// Those of endpoints with labels that carry all of `labels`, sorted, each address once.
pub(super) fn carrying(
    labelled: &[(Endpoint, BTreeMap<String, String>)],
    labels: &BTreeMap<String, String>,
) -> Vec<Endpoint> {
    let carries = |own: &BTreeMap<String, String>| {
        let mut labels = labels.iter();
        labels.all(|(label, value)| own.get(label) == Some(value))
    };
    let here = labelled.iter().filter(|(_, own)| carries(own));
    sorted(here.map(|(endpoint, _)| endpoint.clone()))
}

/// Each address once. An endpoint stands in two slices while it moves between them.
pub(super) fn sorted(endpoints: impl IntoIterator<Item = Endpoint>) -> Vec<Endpoint> {
    let mut by_address = BTreeMap::new();
    for endpoint in endpoints {
        by_address.entry(endpoint.address).or_insert(endpoint);
    }
    by_address.into_values().collect()
}
