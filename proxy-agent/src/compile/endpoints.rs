//! Which addresses serve a Service port.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServiceSpec};

use super::by_key::Name;
use super::index::{At, Index};
use super::nearby::{self, Candidate, Here, Hints};
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
        left_out.shrink_to_fit();
        Self { usable, left_out }
    }
}

/// Endpoints that may come into question, and those that do not.
#[derive(Default)]
struct Gathered<'a> {
    ready: Vec<Candidate<'a>>,
    /// They serve and terminate.
    leaving: Vec<Endpoint>,
    left_out: Vec<LeftOut>,
}

impl Gathered<'_> {
    /// What those who are `here` use of it.
    fn chosen(self, here: Here<'_>, spec: &ServiceSpec, origin: Origin) -> Found {
        let Self {
            ready,
            leaving,
            mut left_out,
        } = self;
        let others = ready
            .iter()
            .map(|one| left(&one.endpoint, WhyLeftOut::Elsewhere))
            .chain(leaving.iter().map(|one| left(one, WhyLeftOut::Terminating)))
            .collect::<Vec<_>>();
        let usable = sorted(here.choose(spec, origin, ready, leaving));
        if usable.len() < others.len() {
            left_out.extend(others);
        }
        Found::new(usable, left_out)
    }
}

/// The endpoints of a Service's port for those who are `here`.
pub(super) fn of_port(
    index: &Index,
    here: Here<'_>,
    at: &At<'_, Service>,
    port: &Port,
    problems: &mut Problems,
) -> Found {
    let Some(spec) = at.object.spec.as_ref().filter(|_| port.tcp) else {
        return Found::default();
    };
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    if let Some(slices) = index.slices(at.key()) {
        let gathered = of_slices(slices, &port.name, unready_too, problems);
        return gathered.chosen(here, spec, at.origin);
    }
    let Some(selector) = selector(at) else {
        return Found::default();
    };
    let mut gathered = Gathered::default();
    for at in index.selected(at.key().0, selector) {
        let number = pod_port(at.object, &port.target);
        let endpoint = number.and_then(|number| of_pod(index, at.located, at.object, number));
        let serves = is_ready(at.object) || unready_too && is_alive(at.object);
        match endpoint {
            Some(endpoint) if serves => gathered.ready.push(Candidate {
                endpoint,
                hints: Hints::of_distribution(spec),
            }),
            endpoint => gathered.left_out.push(LeftOut {
                address: endpoint.map(|endpoint| endpoint.address),
                pod: Some(name_of(at.located)),
                why: why_not(at.object, number),
            }),
        }
    }
    gathered.chosen(here, spec, at.origin)
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
        pod: Some(name_of(located)),
        node: node.map(Arc::from),
        zone: node
            .and_then(|node| nearby::zone(index, node))
            .map(Arc::from),
        weight: 1,
    })
}

/// The endpoints of a port, as its slices have them.
fn of_slices<'a>(
    slices: impl Iterator<Item = At<'a, Slice>>,
    port_name: &str,
    unready_too: bool,
    problems: &mut Problems,
) -> Gathered<'a> {
    let mut gathered = Gathered::default();
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
                weight: 1,
            };
            match endpoint.state {
                SliceState::Leaving if !unready_too => gathered.leaving.push(model),
                SliceState::Unready if !unready_too => {
                    gathered.left_out.push(left(&model, WhyLeftOut::NotReady));
                }
                SliceState::Ready | SliceState::Leaving | SliceState::Unready => {
                    let hints = at.object.hints.get(place);
                    gathered.ready.push(Candidate {
                        endpoint: model,
                        hints: hints.map_or(Hints::None, Hints::Given),
                    });
                }
            }
        }
    }
    gathered
}

fn left(endpoint: &Endpoint, why: WhyLeftOut) -> LeftOut {
    LeftOut {
        address: Some(endpoint.address),
        pod: endpoint.pod.clone(),
        why,
    }
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
