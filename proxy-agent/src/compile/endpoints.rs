//! Which addresses serve a Service port.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};

use super::by_key::Name;
use super::index::{At, Index};
use super::pod;
use super::problems::Problems;
use super::service::{Port, PortSubset, Target};
use crate::model::{Endpoint, LeftOut, WhyLeftOut};
use crate::objects::{Located, Origin, Slice, SliceAddress, SliceState};

/// What serves a Service's port, and what does not.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Usable endpoints: sorted by address, each once.
    pub usable: Vec<Endpoint>,
    /// The others, sorted.
    pub left_out: Vec<LeftOut>,
}

impl Found {
    fn new(usable: Vec<Endpoint>, mut left_out: Vec<LeftOut>) -> Self {
        // An endpoint that moves from one slice to another may stand in both.
        let is_usable = |one: &LeftOut| {
            one.address.is_some_and(|address| {
                let found = usable.binary_search_by_key(&address, |one| one.address);
                found.is_ok()
            })
        };
        left_out.retain(|one| !is_usable(one));
        left_out.sort_by(|one, other| (one.address, &one.pod).cmp(&(other.address, &other.pod)));
        left_out.dedup_by(|one, other| (one.address, &one.pod) == (other.address, &other.pod));
        Self { usable, left_out }
    }
}

/// The endpoints of a Service's port.
pub(super) fn of_port(
    index: &Index,
    at: &At<'_, Service>,
    port: &Port,
    problems: &mut Problems,
) -> Found {
    let Some(spec) = at.object.spec.as_ref().filter(|_| port.tcp) else {
        return Found::default();
    };
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    if let Some(slices) = index.slices(at.key()) {
        return of_slices(slices, &port.name, unready_too, problems);
    }
    let Some(selector) = selector(at) else {
        return Found::default();
    };
    let (mut usable, mut left_out) = (Vec::new(), Vec::new());
    for at in index.selected(at.key().0, selector) {
        let number = pod_port(at.object, &port.target);
        let endpoint = number.and_then(|number| of_pod(at.located, at.object, number));
        let serves = is_ready(at.object) || unready_too && is_alive(at.object);
        match endpoint {
            Some(endpoint) if serves => usable.push(endpoint),
            endpoint => left_out.push(LeftOut {
                address: endpoint.map(|endpoint| endpoint.address),
                pod: Some(name_of(at.located)),
                why: why_not(at.object, number),
            }),
        }
    }
    Found::new(sorted(usable), left_out)
}

/// Why a pod that is selected serves nothing; `port` is the number of its port, if it has it.
fn why_not(pod: &Pod, port: Option<u16>) -> WhyLeftOut {
    if pod::is_completed(pod) {
        WhyLeftOut::Completed
    } else if pod::ips(pod).is_empty() {
        WhyLeftOut::NoAddress
    } else if port.is_none() {
        WhyLeftOut::NoSuchPort
    } else if pod.metadata.deletion_timestamp.is_some() {
        WhyLeftOut::Terminating
    } else {
        WhyLeftOut::NotReady
    }
}

fn name_of(located: &Located) -> Arc<str> {
    format!("{}/{}", located.id.namespace, located.id.name).into()
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
        pod: Some(name_of(located)),
        node: node.map(Arc::from),
        zone: None,
    })
}

fn of_slices<'a>(
    slices: impl Iterator<Item = At<'a, Slice>>,
    port_name: &str,
    unready_too: bool,
    problems: &mut Problems,
) -> Found {
    let (mut ready, mut leaving, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
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
            match endpoint.state {
                SliceState::Ready => ready.push(model),
                SliceState::Leaving | SliceState::Unready if unready_too => ready.push(model),
                SliceState::Leaving => leaving.push(model),
                SliceState::Unready => left_out.push(left(&model, WhyLeftOut::NotReady)),
            }
        }
    }
    if ready.is_empty() {
        return Found::new(sorted(leaving), left_out);
    }
    let leaving = leaving.iter();
    left_out.extend(leaving.map(|one| left(one, WhyLeftOut::Terminating)));
    Found::new(sorted(ready), left_out)
}

fn left(endpoint: &Endpoint, why: WhyLeftOut) -> LeftOut {
    LeftOut {
        address: Some(endpoint.address),
        pod: endpoint.pod.clone(),
        why,
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
