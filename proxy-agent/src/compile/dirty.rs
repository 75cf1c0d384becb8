//! What has to be compiled again.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};

use super::annotations::of_namespace;
use super::attach::Dialect;
use super::by_key::Name;
use super::index::{Change, Held, service_of};
use super::kept::Kept;
use super::kind::Kind;
use super::routes::RouteKey;
use super::scope::{Asked, is_gateway};
use super::{endpoints, istio, linkerd};
use crate::objects::Slice;
use crate::objects::istio::ServiceEntry;

/// Parts to be compiled again.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub namespaces: BTreeSet<Arc<str>>,
    pub pods: BTreeSet<Name>,
    /// Services whose object is another, or whose given address is.
    pub services: BTreeSet<Name>,
    /// Services whose endpoints may be others.
    pub endpoints: BTreeSet<Name>,
    pub routes: BTreeSet<RouteKey>,
    /// DestinationRules to be judged again.
    pub rules: BTreeSet<Name>,
    /// HTTPRouteGroups to be judged again.
    pub groups: BTreeSet<Name>,
    /// ServiceEntries to be judged again.
    pub entries: BTreeSet<Name>,
    /// Services whose listeners may be others.
    pub tables: BTreeSet<Name>,
    pub linkerd: bool,
    /// Objects of kinds that are not read came or went.
    pub unread: bool,
}

impl Dirty {
    /// Notes what depends on an object.
    pub(super) fn note(&mut self, change: &Change, kept: &mut Kept) {
        let held: Vec<&Held> = [&change.former, &change.present]
            .into_iter()
            .flatten()
            .collect();
        let Some(any) = held.first() else {
            return;
        };
        let name = any.name();
        match Kind::of(&any.located.object) {
            Some(Kind::Namespace) => {
                self.note_opaque_ports(change, &name.name, kept);
                self.namespaces.insert(name.name);
            }
            // Its zone is that of its pods, and may be the agent's own.
            Some(Kind::Node) => {
                let services = kept.index().all::<Service>();
                self.endpoints
                    .extend(services.map(|at| Name::from(at.key())));
                self.linkerd |= linkerd::is_used(kept.index());
            }
            Some(Kind::Pod) => self.note_pod(&held, name, kept),
            Some(Kind::Service) => self.note_service(change, name, kept),
            Some(Kind::EndpointSlice) => {
                let slices = held.iter().filter_map(|held| held.at::<Slice>());
                self.endpoints
                    .extend(slices.filter_map(|at| service_of(&at)));
            }
            Some(Kind::TlsRoute) => self.note_route(Dialect::TlsRoute, name),
            Some(Kind::TcpRoute) => self.note_route(Dialect::TcpRoute, name),
            Some(Kind::VirtualService) => {
                self.note_asked(&Asked::VirtualService(name.clone()), kept);
                self.note_asked(&Asked::Delegates, kept);
                self.note_route(Dialect::VirtualService, name);
            }
            Some(Kind::DestinationRule) => self.note_rule(&held, name, kept),
            Some(Kind::ServiceEntry) => self.note_entry(change, name, kept),
            Some(Kind::Resolution) => {
                self.services
                    .extend(kept.index().needing(&name.name).cloned());
            }
            Some(Kind::ReferenceGrant) => self.note_asked(&Asked::Grants(name.namespace), kept),
            Some(Kind::LinkerdService | Kind::LinkerdRoute) => self.linkerd = true,
            Some(Kind::HttpRoute) => self.note_route(Dialect::HttpRoute, name),
            Some(Kind::GrpcRoute) => self.note_route(Dialect::GrpcRoute, name),
            Some(Kind::PolicyHttpRoute) => self.note_route(Dialect::PolicyHttpRoute, name),
            Some(Kind::ServiceProfile) => self.note_route(Dialect::ServiceProfile, name),
            Some(Kind::TrafficSplit) => self.note_route(Dialect::TrafficSplit, name),
            Some(Kind::HttpRouteGroup) => {
                self.note_asked(&Asked::RouteGroup(name.clone()), kept);
                self.groups.insert(name);
            }
            None => {
                self.unread = true;
                if is_gateway(&any.located.id) {
                    self.note_asked(&Asked::Gateways, kept);
                }
            }
        }
    }

    /// Notes a Service whose ports are others than before.
    pub(super) fn note_ports(&mut self, service: &Name, kept: &Kept) {
        self.tables.insert(service.clone());
        self.note_asked(&Asked::Service(service.clone()), kept);
        self.note_asked(&Asked::Host(Arc::clone(&service.name)), kept);
        self.note_asked(&Asked::Services, kept);
        self.rules
            .extend(kept.index().rules_of(service.key()).cloned());
        self.linkerd |= linkerd::is_used(kept.index());
    }

    /// Notes a Service, and by which labels it selects its pods.
    fn note_service(&mut self, change: &Change, name: Name, kept: &mut Kept) {
        let selector = |held: &Option<Held>| {
            let at = held.as_ref()?.at::<Service>()?;
            endpoints::selector(&at).cloned()
        };
        kept.selects(&name, selector(&change.former), selector(&change.present));
        self.services.insert(name);
    }

    /// Notes the Services that a rule was or is for.
    fn note_rule(&mut self, held: &[&Held], name: Name, kept: &Kept) {
        let rules: Vec<_> = held.iter().filter_map(|held| held.at()).collect();
        for suffix in rules.iter().filter_map(istio::wildcard_of) {
            self.services.extend(kept.index().that_end(&suffix));
        }
        for service in rules.iter().flat_map(istio::services_of) {
            // What is said of the others of its host depends on which of them counts.
            let others = kept.index().rules_of(service.key());
            self.rules.extend(others.cloned());
            if service.namespace.is_empty() {
                let of_host = kept.index().of_host(&service.name);
                self.services.extend(of_host.cloned());
            } else {
                self.services.insert(service);
            }
        }
        self.rules.insert(name);
    }

    /// Notes the services that an entry stood or stands for.
    fn note_entry(&mut self, change: &Change, name: Name, kept: &mut Kept) {
        let selector = |held: &Option<Held>| {
            let at = held.as_ref()?.at::<ServiceEntry>()?;
            istio::selector(&at).cloned()
        };
        let labels = (selector(&change.former), selector(&change.present));
        kept.entry_selects(&name, labels.0, labels.1);
        let held = [&change.former, &change.present].into_iter().flatten();
        for at in held.filter_map(Held::at::<ServiceEntry>) {
            for service in istio::services_of_entry(&at) {
                let entries = kept.index().entries(service.key());
                self.entries.extend(entries.cloned());
                self.services.insert(service);
            }
        }
        self.entries.insert(name);
    }

    fn note_pod(&mut self, held: &[&Held], name: Name, kept: &Kept) {
        for held in held {
            self.note_selecting(held, kept);
        }
        self.endpoints.extend(kept.index().ruled(&name.namespace));
        self.linkerd |= linkerd::is_used(kept.index());
        self.pods.insert(name);
    }

    fn note_route(&mut self, dialect: Dialect, name: Name) {
        self.routes.insert(RouteKey { dialect, name });
    }

    /// Notes the Services of a namespace whose opaque ports are others than before.
    fn note_opaque_ports(&mut self, change: &Change, namespace: &str, kept: &Kept) {
        let ports = |held: &Option<Held>| held.as_ref()?.at().and_then(|at| of_namespace(&at));
        if ports(&change.former) != ports(&change.present) {
            let services = kept.index().of_namespace::<Service>(namespace);
            self.services
                .extend(services.map(|at| Name::from(at.key())));
        }
    }

    fn note_asked(&mut self, asked: &Asked, kept: &Kept) {
        self.routes.extend(kept.asking(asked));
    }

    /// Notes the Services whose selector the pod fits.
    fn note_selecting(&mut self, held: &Held, kept: &Kept) {
        if let Some(at) = held.at::<Pod>() {
            let labels = at.object.metadata.labels.as_ref();
            let services = kept.selecting(&at.located.id.namespace, labels);
            self.endpoints.extend(services);
        }
    }
}
