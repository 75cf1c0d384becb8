//! What routes are compiled against: Services and grants, with a note of each that is asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_api::apis::experimental::referencegrants::ReferenceGrant;

use super::by_key::{Key, Name};
use super::index::{At, Index};
use super::istio;
use super::problems::Problems;
use super::service::{Port, Ports};
use crate::model::ObjectId;
use crate::objects::istio::VirtualService;
use crate::objects::smi::HttpRouteGroup;

/// Something that a route was compiled by: when it changes, so may the route.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Asked {
    /// The ports of a Service, or that there is none.
    Service(Name),
    /// The ReferenceGrants of a namespace.
    Grants(Arc<str>),
    /// Which of Istio's Gateways there are.
    Gateways,
    /// What ServiceEntries say of a host.
    Host(Arc<str>),
    /// Which Services there are.
    Services,
    /// A VirtualService, or that there is none.
    VirtualService(Name),
    /// Which VirtualServices others delegate to.
    Delegates,
    /// An HTTPRouteGroup, or that there is none.
    RouteGroup(Name),
}

/// Everything that routes may ask for.
#[derive(Debug)]
pub(super) struct Scope<'s> {
    ports: &'s Ports,
    index: &'s Index,
    asked: RefCell<BTreeSet<Asked>>,
    /// What is wrong with the route.
    pub problems: Problems,
}

impl<'s> Scope<'s> {
    /// For one route.
    pub(super) fn new(ports: &'s Ports, index: &'s Index) -> Self {
        Self {
            ports,
            index,
            asked: RefCell::default(),
            problems: Problems::default(),
        }
    }

    /// A Service and its ports.
    pub(super) fn service(&self, key: Key<'_>) -> Option<(Name, &'s [Port])> {
        let found = self.ports.entry(key);
        let name = match &found {
            Some((name, _)) => name.clone(),
            None => key.into(),
        };
        self.asked.borrow_mut().insert(Asked::Service(name));
        found.map(|(name, ports)| (name, ports.as_slice()))
    }

    /// What a ServiceEntry that clients in `namespace` see says of a host: one of their own, else of
    /// the first namespace.
    pub(super) fn external(&self, host: &str, namespace: &str) -> Option<(Name, &'s [Port])> {
        let host = istio::normal(host);
        if !host.contains('.') {
            return None;
        }
        let asked = Asked::Host(host.as_str().into());
        self.asked.borrow_mut().insert(asked);
        let services = self.index.of_host(&host).filter(|service| {
            let entry = self.index.entry(service.key());
            let clients = entry.and_then(|at| istio::clients_of_entry(&at));
            clients.is_none_or(|all| all.iter().any(|client| **client == *namespace))
        });
        let service =
            services.min_by_key(|service| (*service.namespace != *namespace, *service))?;
        Some((service.clone(), self.ports.get(service.key())?))
    }

    /// A TCP port of a Service by number.
    pub(super) fn tcp_port(&self, service: Key<'_>, number: u16) -> Option<&'s Port> {
        let (_, ports) = self.service(service)?;
        ports.iter().find(|port| port.number == number && port.tcp)
    }

    /// What to say of a Service that lacks a port.
    pub(super) fn no_such_port(&self, service: Key<'_>, number: i64) -> String {
        let ports = self.service(service).map(|(_, ports)| ports);
        let tcp = ports.into_iter().flatten().filter(|port| port.tcp);
        let numbers: Vec<_> = tcp.map(|port| port.number.to_string()).collect();
        let (namespace, service) = service;
        format!(
            "Service {namespace}/{service} has no TCP port {number}; it has: {}",
            numbers.join(", ")
        )
    }

    /// The Services whose full name ends with `suffix`.
    pub(super) fn services_that_end(&self, suffix: &str) -> Vec<Name> {
        self.asked.borrow_mut().insert(Asked::Services);
        let ports = self.ports.iter().map(|(key, _)| key);
        let matching = ports.filter(|key| istio::ends_with(*key, suffix));
        matching.map(Name::from).collect()
    }

    /// A VirtualService.
    pub(super) fn virtual_service(&self, key: Key<'_>) -> Option<At<'s, VirtualService>> {
        let asked = Asked::VirtualService(key.into());
        self.asked.borrow_mut().insert(asked);
        self.index.get(key)
    }

    /// Every VirtualService.
    pub(super) fn virtual_services(&self) -> impl Iterator<Item = At<'s, VirtualService>> {
        self.asked.borrow_mut().insert(Asked::Delegates);
        self.index.all()
    }

    /// An HTTPRouteGroup of the Service Mesh Interface.
    pub(super) fn route_group(&self, key: Key<'_>) -> Option<At<'s, HttpRouteGroup>> {
        let asked = Asked::RouteGroup(key.into());
        self.asked.borrow_mut().insert(asked);
        self.index.get(key)
    }

    /// The ReferenceGrants of a namespace.
    pub(super) fn grants(
        &self,
        namespace: &'s str,
    ) -> impl Iterator<Item = At<'s, ReferenceGrant>> {
        let asked = Asked::Grants(namespace.into());
        self.asked.borrow_mut().insert(asked);
        self.index.of_namespace(namespace)
    }

    /// Whether there is an Istio Gateway of a name. One without a namespace is of `default`.
    pub(super) fn has_gateway(&self, (namespace, name): Key<'_>) -> bool {
        self.asked.borrow_mut().insert(Asked::Gateways);
        let id = |namespace: &str| ObjectId {
            group: ISTIO.into(),
            kind: "Gateway".into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        self.index.unread(&id(namespace)) || namespace == "default" && self.index.unread(&id(""))
    }

    /// What was asked for, and what is wrong.
    pub(super) fn into_parts(self) -> (BTreeSet<Asked>, Problems) {
        (self.asked.into_inner(), self.problems)
    }
}

/// Group of Istio's Gateways.
const ISTIO: &str = "networking.istio.io";

/// Whether an object is one of Istio's Gateways.
pub(super) fn is_gateway(id: &ObjectId) -> bool {
    &*id.kind == "Gateway" && &*id.group == ISTIO
}
