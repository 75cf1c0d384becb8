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
            Some(Kind::Pod) => {
                for held in held {
                    self.note_selecting(held, kept);
                }
                self.endpoints.extend(kept.index().ruled(&name.namespace));
                self.linkerd |= linkerd::is_used(kept.index());
                self.pods.insert(name);
            }
            Some(Kind::Service) => {
                let selector = |held: &Option<Held>| {
                    let at = held.as_ref()?.at::<Service>()?;
                    endpoints::selector(&at).cloned()
                };
                kept.selects(&name, selector(&change.former), selector(&change.present));
                self.services.insert(name);
            }
            Some(Kind::EndpointSlice) => {
                let slices = held.iter().filter_map(|held| held.at::<Slice>());
                self.endpoints
                    .extend(slices.filter_map(|at| service_of(&at)));
            }
            Some(Kind::HttpRoute) => self.note_route(Dialect::HttpRoute, name),
            Some(Kind::GrpcRoute) => self.note_route(Dialect::GrpcRoute, name),
            Some(Kind::VirtualService) => {
                self.note_asked(&Asked::VirtualService(name.clone()), kept);
                self.note_asked(&Asked::Delegates, kept);
                self.note_route(Dialect::VirtualService, name);
            }
            Some(Kind::DestinationRule) => {
                let rules = held.iter().filter_map(|held| held.at());
                let services = rules.filter_map(|at| istio::service_of(&at));
                self.services.extend(services);
                self.rules.insert(name);
            }
            Some(Kind::ReferenceGrant) => self.note_asked(&Asked::Grants(name.namespace), kept),
            Some(Kind::LinkerdService | Kind::LinkerdRoute) => self.linkerd = true,
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
        self.note_asked(&Asked::Services, kept);
        self.rules
            .extend(kept.index().rules_of(service.key()).cloned());
        self.linkerd |= linkerd::is_used(kept.index());
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
