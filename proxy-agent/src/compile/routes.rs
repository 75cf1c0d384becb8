//! Compiled routes, kept until something that they were compiled by changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::gateway_api::apis::experimental::httproutes::HttpRoute;

use super::attach::{Attachment, Dialect};
use super::by_key::{ByKey, Name};
use super::index::{Index, created};
use super::problems::{Found, Part};
use super::scope::{Asked, Scope};
use super::service::Ports;
use super::streams::{PortStream, StreamAttachment};
use super::{gateway_api, istio, service_profile, smi};
use crate::model::RouteParent;
use crate::objects::grpc::GrpcRoute;
use crate::objects::istio::VirtualService;
use crate::objects::linkerd::PolicyHttpRoute;
use crate::objects::service_profile::ServiceProfile;
use crate::objects::smi::TrafficSplit;
use crate::objects::stream::{TcpRoute, TlsRoute};

/// What one route comes to.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// Its rules, for each Service that it attaches to.
    pub attachments: Vec<Attachment>,
    /// Its rules for connections that are not HTTP, likewise.
    pub streams: Vec<StreamAttachment>,
    /// What became of it at each parent.
    pub parents: Vec<Arc<RouteParent>>,
}

/// Which route.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct RouteKey {
    pub dialect: Dialect,
    pub name: Name,
}

#[derive(Debug)]
struct Kept {
    compiled: Compiled,
    asked: BTreeSet<Asked>,
}

/// Every route that comes to anything or was compiled by anything.
#[derive(Debug, Default)]
pub(super) struct Routes {
    kept: BTreeMap<RouteKey, Kept>,
    asking: BTreeMap<Asked, BTreeSet<RouteKey>>,
    attached: ByKey<BTreeSet<RouteKey>>,
    parents: Option<Arc<[Arc<RouteParent>]>>,
}

impl Routes {
    /// The routes that were compiled by `asked`.
    pub(super) fn asking(&self, asked: &Asked) -> impl Iterator<Item = RouteKey> {
        self.asking.get(asked).into_iter().flatten().cloned()
    }

    /// Compiles a route anew, or forgets it if it is gone. Returns the Services whose rules may be
    /// others than before.
    pub(super) fn update(
        &mut self,
        key: &RouteKey,
        index: &Index,
        ports: &Ports,
        found: &mut Found,
    ) -> BTreeSet<Name> {
        let mut scope = Scope::new(ports, index);
        let (part, mut compiled) = compile(key, index, &mut scope);
        let (asked, problems) = scope.into_parts();
        found.set(part, &key.name, problems);
        let mut services = BTreeSet::new();
        if let Some(former) = self.forget(key) {
            services.extend(services_of(&former));
            same_parents_stay(&mut compiled.parents, &former.parents);
        }
        if compiled.parents.is_empty() && asked.is_empty() {
            return services;
        }
        services.extend(services_of(&compiled));
        for service in services_of(&compiled) {
            self.attached.or_default(&service).insert(key.clone());
        }
        for one in &asked {
            let asking = self.asking.entry(one.clone()).or_default();
            asking.insert(key.clone());
        }
        if !compiled.parents.is_empty() {
            self.parents = None;
        }
        self.kept.insert(key.clone(), Kept { compiled, asked });
        services
    }

    fn forget(&mut self, key: &RouteKey) -> Option<Compiled> {
        let Kept { compiled, asked } = self.kept.remove(key)?;
        for service in services_of(&compiled) {
            let routes = self.attached.or_default(&service);
            routes.remove(key);
            if routes.is_empty() {
                self.attached.remove(service.key());
            }
        }
        for one in asked {
            if let Some(asking) = self.asking.get_mut(&one) {
                asking.remove(key);
                if asking.is_empty() {
                    self.asking.remove(&one);
                }
            }
        }
        if !compiled.parents.is_empty() {
            self.parents = None;
        }
        Some(compiled)
    }

    /// What is attached to a Service: by dialect, then by how exactly it is named, age and name.
    pub(super) fn attached(&self, service: &Name) -> Vec<&Attachment> {
        in_order(self.of(service).flat_map(|one| &one.attachments), service)
    }

    /// The same of rules for connections that are not HTTP.
    pub(super) fn streams(&self, service: &Name) -> Vec<&Attachment<PortStream>> {
        in_order(self.of(service).flat_map(|one| &one.streams), service)
    }

    fn of(&self, service: &Name) -> impl Iterator<Item = &Compiled> {
        let keys = self.attached.get(service.key()).into_iter().flatten();
        let kept = keys.filter_map(|key| self.kept.get(key));
        kept.map(|kept| &kept.compiled)
    }

    /// What became of every route at every parent: the same in memory as long as nothing changes.
    pub(super) fn parents(&mut self) -> Arc<[Arc<RouteParent>]> {
        let kept = &self.kept;
        let parents = self.parents.get_or_insert_with(|| {
            let parents = kept.values().flat_map(|kept| &kept.compiled.parents);
            parents.cloned().collect()
        });
        Arc::clone(parents)
    }
}

/// What a route comes to, and the part that its problems are; nothing if it is gone.
fn compile(key: &RouteKey, index: &Index, scope: &mut Scope<'_>) -> (Part, Compiled) {
    let name = key.name.key();
    match key.dialect {
        Dialect::GrpcRoute => {
            let at = index.get::<GrpcRoute>(name);
            let compiled = at.map(|at| gateway_api::compile_grpc(&at, scope));
            (Part::GrpcRoute, compiled.unwrap_or_default())
        }
        Dialect::HttpRoute => {
            let at = index.get::<HttpRoute>(name);
            let compiled = at.map(|at| gateway_api::compile(&at, scope));
            (Part::HttpRoute, compiled.unwrap_or_default())
        }
        Dialect::TlsRoute => {
            let at = index.get::<TlsRoute>(name);
            let compiled = at.map(|at| gateway_api::compile_tls(&at, scope));
            (Part::TlsRoute, compiled.unwrap_or_default())
        }
        Dialect::TcpRoute => {
            let at = index.get::<TcpRoute>(name);
            let compiled = at.map(|at| gateway_api::compile_tcp(&at, scope));
            (Part::TcpRoute, compiled.unwrap_or_default())
        }
        Dialect::VirtualService => {
            let at = index.get::<VirtualService>(name);
            let compiled = at.map(|at| istio::compile(&at, scope));
            (Part::VirtualService, compiled.unwrap_or_default())
        }
        Dialect::PolicyHttpRoute => {
            let at = index.get::<PolicyHttpRoute>(name);
            let compiled = at.map(|at| gateway_api::compile_policy(&at, scope));
            (Part::PolicyHttpRoute, compiled.unwrap_or_default())
        }
        Dialect::ServiceProfile => {
            let at = index.get::<ServiceProfile>(name);
            let compiled = at.map(|at| service_profile::compile(&at, scope));
            (Part::ServiceProfile, compiled.unwrap_or_default())
        }
        Dialect::TrafficSplit => {
            let at = index.get::<TrafficSplit>(name);
            let compiled = at.map(|at| smi::compile(&at, scope));
            (Part::TrafficSplit, compiled.unwrap_or_default())
        }
    }
}

fn services_of(compiled: &Compiled) -> BTreeSet<Name> {
    let services = compiled.attachments.iter().map(|one| &one.service);
    let of_streams = compiled.streams.iter().map(|one| &one.service);
    services.chain(of_streams).cloned().collect()
}

fn in_order<'k, R>(
    attachments: impl Iterator<Item = &'k Attachment<R>>,
    service: &Name,
) -> Vec<&'k Attachment<R>> {
    let mut here: Vec<_> = attachments.filter(|one| one.service == *service).collect();
    here.sort_by_cached_key(|one| {
        let located = &one.located;
        let exactness = Reverse(one.exactness);
        (one.dialect, exactness, created(located), located.id.clone())
    });
    here
}

fn same_parents_stay(present: &mut [Arc<RouteParent>], former: &[Arc<RouteParent>]) {
    for parent in present {
        if let Some(same) = former.iter().find(|one| *one == parent) {
            *parent = Arc::clone(same);
        }
    }
}
