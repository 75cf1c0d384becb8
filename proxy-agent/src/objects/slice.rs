//! EndpointSlices, cut down to what is read of them: there are a hundred thousand endpoints in a
//! large cluster, of some 700 bytes each as the API's own type.

mod served;

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointSlice};

pub use self::served::{ServedSlice, read_served_slice};

/// Group and name of the kind.
pub const SLICE_KIND: (&str, &str) = ("discovery.k8s.io", "EndpointSlice");

/// Label of an EndpointSlice that names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// `discovery.k8s.io/v1 EndpointSlice`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Slice {
    /// The Service that it belongs to, in its own namespace.
    pub service: Option<Arc<str>>,
    /// Its TCP ports.
    pub ports: Box<[SlicePort]>,
    /// Endpoints that have an address; none where the addresses are names (`FQDN`).
    pub endpoints: Box<[SliceEndpoint]>,
    /// Of each of them whom it is meant for; empty if that is said of none.
    pub hints: Box<[SliceHints]>,
}

/// Whom an endpoint is meant for; both are empty where nothing is said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SliceHints {
    /// `hints.forNodes`.
    pub nodes: Box<[Arc<str>]>,
    /// `hints.forZones`.
    pub zones: Box<[Arc<str>]>,
}

/// A TCP port of a slice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlicePort {
    /// Name of the Service's port, empty if it has none.
    pub name: Box<str>,
    /// Number at the endpoints, host byte order.
    pub number: u16,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SliceEndpoint {
    /// Its first address: all of them lead to it.
    pub address: SliceAddress,
    /// What it may be used for.
    pub state: SliceState,
    /// `namespace/name` of the pod behind it, where known.
    pub pod: Option<Arc<str>>,
    /// Node that the pod runs on, where known.
    pub node: Option<Arc<str>>,
    /// Zone of that node, where known.
    pub zone: Option<Arc<str>>,
}

/// The address of an endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SliceAddress {
    /// As it is to be.
    Ip(IpAddr),
    /// No IP address.
    Bad {
        /// What was found.
        found: Box<str>,
        /// Place of the endpoint in its slice.
        place: u32,
    },
}

/// What an endpoint may be used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SliceState {
    /// New connections.
    Ready,
    /// New connections while no other one is ready: it serves, and terminates.
    Leaving,
    /// Nothing, unless the Service wants endpoints that are not ready.
    Unready,
}

impl Slice {
    /// Cuts down a slice of a namespace.
    pub(super) fn new(slice: EndpointSlice, namespace: &str) -> Self {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
        let service = service.map(|service| service.as_str().into());
        Self::of_service(service, slice, namespace)
    }

    /// Cuts down a slice of a Service, whatever its labels say.
    fn of_service(service: Option<Arc<str>>, slice: EndpointSlice, namespace: &str) -> Self {
        let ports = slice.ports.into_iter().flatten().filter_map(|port| {
            let tcp = port.protocol.as_deref().unwrap_or("TCP") == "TCP";
            Some(SlicePort {
                name: port.name.unwrap_or_default().into(),
                number: u16::try_from(port.port.filter(|_| tcp)?).ok()?,
            })
        });
        let named = slice.address_type == "FQDN";
        let endpoints = (0..).zip(slice.endpoints.into_iter().filter(|_| !named));
        // The zone of one is mostly that of the next.
        let mut zone: Option<Arc<str>> = None;
        let endpoints = endpoints.filter_map(|(place, mut endpoint)| {
            let same = zone.as_deref() == endpoint.zone.as_deref();
            if !same {
                zone = endpoint.zone.take().map(Arc::from);
            }
            let hints = SliceHints::new(endpoint.hints.take(), zone.as_ref());
            let endpoint = SliceEndpoint::new(endpoint, place, namespace, zone.clone())?;
            Some((endpoint, hints))
        });
        let (endpoints, mut hints): (Vec<_>, Vec<_>) = endpoints.unzip();
        if hints.iter().all(|hints| *hints == SliceHints::default()) {
            hints.clear();
        }
        Self {
            service,
            ports: ports.collect(),
            endpoints: endpoints.into(),
            hints: hints.into(),
        }
    }
}

impl SliceHints {
    /// Mostly an endpoint is meant for its own `zone`.
    fn new(hints: Option<EndpointHints>, zone: Option<&Arc<str>>) -> Self {
        let Some(hints) = hints else {
            return Self::default();
        };
        let nodes = hints.for_nodes.into_iter().flatten();
        let zones = hints.for_zones.into_iter().flatten();
        Self {
            nodes: nodes.map(|node| node.name.into()).collect(),
            zones: zones
                .map(|of| match zone {
                    Some(zone) if **zone == *of.name => Arc::clone(zone),
                    Some(_) | None => of.name.into(),
                })
                .collect(),
        }
    }
}

impl SliceEndpoint {
    fn new(
        endpoint: Endpoint,
        place: u32,
        namespace: &str,
        zone: Option<Arc<str>>,
    ) -> Option<Self> {
        let address = endpoint.addresses.into_iter().next()?;
        let pod = endpoint
            .target_ref
            .and_then(|target| pod(target, namespace));
        Some(Self {
            address: match address.parse::<IpAddr>() {
                Ok(ip) => SliceAddress::Ip(ip.to_canonical()),
                Err(_) => SliceAddress::Bad {
                    found: address.into(),
                    place,
                },
            },
            state: state(&endpoint.conditions.unwrap_or_default()),
            pod,
            node: endpoint.node_name.map(Arc::from),
            zone,
        })
    }
}

fn pod(target: ObjectReference, namespace: &str) -> Option<Arc<str>> {
    let name = target
        .name
        .filter(|_| target.kind.as_deref() == Some("Pod"))?;
    let namespace = target.namespace.as_deref().unwrap_or(namespace);
    Some(format!("{namespace}/{name}").into())
}

/// With the API's defaults for what is not said.
fn state(conditions: &EndpointConditions) -> SliceState {
    if conditions.ready.unwrap_or(true) {
        SliceState::Ready
    } else if conditions.serving.unwrap_or(true) && conditions.terminating.unwrap_or(false) {
        SliceState::Leaving
    } else {
        SliceState::Unready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_small() {
        // 100,000 of them are kept: 7 MiB without their texts.
        assert!(
            size_of::<SliceEndpoint>() <= 80,
            "{}",
            size_of::<SliceEndpoint>()
        );
    }
}
