//! What came of the objects at the last compilation, by part, and how each part is made anew.

mod services;
mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod as KubePod, Service};

use self::share::Shared;
use super::by_key::{ByKey, Name};
use super::cluster_ids::ClusterIds;
use super::dirty::Dirty;
use super::index::{Change, Index};
use super::labels::Labelled;
use super::problems::{Found, Part, Problems};
use super::routes::{RouteKey, Routes};
use super::scope::Asked;
use super::service::{Addresses, Ports};
use super::tables::{self, NamedByLinkerd};
use super::{Options, endpoints, istio, linkerd, pod, streams, switches};
use crate::model::{Cluster, Listener, Pod};
use crate::objects::ObjectSet;
use crate::objects::istio::ServiceEntry;

/// Everything that is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    options: Options,
    /// What the sources held: keeps the objects' addresses in memory from being used again.
    sets: Vec<Arc<ObjectSet>>,
    index: Index,
    found: Found,
    addresses: ByKey<Addresses>,
    given: BTreeMap<String, Ipv4Addr>,
    /// Services whose endpoints are found by pods' labels, under each label of their selector.
    selecting: Labelled,
    /// ServiceEntries whose endpoints are pods, likewise.
    entries_selecting: Labelled,
    ports: Ports,
    clusters: ByKey<Vec<Arc<Cluster>>>,
    /// Every cluster at its id.
    slots: Vec<Option<Arc<Cluster>>>,
    /// Names of proxied clusters that have no endpoint.
    unserved: BTreeSet<Arc<str>>,
    routes: Routes,
    linkerd: linkerd::Compiled,
    listeners: ByKey<Vec<Arc<Listener>>>,
    pods: ByKey<Arc<Pod>>,
    /// Labels of those, with their uid.
    pod_labels: ByKey<(Arc<str>, BTreeMap<String, String>)>,
    shared: Shared,
}

impl Kept {
    /// Nothing yet.
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Whether what is kept came of these sources and options.
    pub(super) fn is_of(&self, sets: &[Arc<ObjectSet>], options: &Options) -> bool {
        let same = |(one, other): (&Arc<ObjectSet>, &Arc<ObjectSet>)| {
            (&one.source, one.origin) == (&other.source, other.origin)
        };
        self.options == *options
            && self.sets.len() == sets.len()
            && self.sets.iter().zip(sets).all(same)
    }

    /// Takes over what the sources hold, and tells what changed.
    pub(super) fn take_over(&mut self, sets: &[Arc<ObjectSet>]) -> Vec<Change> {
        for (number, set) in sets.iter().enumerate() {
            let former = self.sets.get(number);
            if former.is_some_and(|former| Arc::ptr_eq(former, set)) {
                continue;
            }
            let troubles = set.problems.iter().cloned();
            let problems = Problems(troubles.chain(set.trouble_as_problem()).collect());
            let name = Name::from(("", &*format!("{number:05}")));
            self.found.set(Part::Source, &name, problems);
        }
        let changes = self.index.update(&self.sets, sets, &mut self.found);
        self.sets = sets.to_vec();
        changes
    }

    /// The objects.
    pub(super) const fn index(&self) -> &Index {
        &self.index
    }

    /// The routes that were compiled by `asked`.
    pub(super) fn asking(&self, asked: &Asked) -> impl Iterator<Item = RouteKey> {
        self.routes.asking(asked)
    }

    /// Notes by which labels a Service selects its pods.
    pub(super) fn selects(
        &mut self,
        service: &Name,
        former: Option<BTreeMap<String, String>>,
        present: Option<BTreeMap<String, String>>,
    ) {
        self.selecting.remove(service, former.as_ref());
        self.selecting.add(service, present.as_ref());
    }

    /// Notes by which labels a ServiceEntry selects its pods.
    pub(super) fn entry_selects(
        &mut self,
        entry: &Name,
        former: Option<BTreeMap<String, String>>,
        present: Option<BTreeMap<String, String>>,
    ) {
        self.entries_selecting.remove(entry, former.as_ref());
        self.entries_selecting.add(entry, present.as_ref());
    }

    /// The services of ServiceEntries one of whose labels a pod carries.
    fn entries_selecting(
        &self,
        namespace: &Arc<str>,
        labels: &BTreeMap<String, String>,
    ) -> BTreeSet<Name> {
        let names = labels.iter();
        let names =
            names.filter_map(|(label, value)| self.entries_selecting.get(namespace, label, value));
        let entries = names
            .flatten()
            .filter_map(|name| self.index.get::<ServiceEntry>((namespace, name)));
        let services = entries.flat_map(|at| istio::services_of_entry(&at).collect::<Vec<_>>());
        services.collect()
    }

    /// The Services whose selector fits the labels of a pod.
    pub(super) fn selecting(
        &self,
        namespace: &Arc<str>,
        labels: Option<&BTreeMap<String, String>>,
    ) -> BTreeSet<Name> {
        let Some(labels) = labels else {
            return BTreeSet::new();
        };
        let names = labels
            .iter()
            .filter_map(|(label, value)| self.selecting.get(namespace, label, value));
        let fits = |name: &&Arc<str>| {
            let at = self.index.get::<Service>((namespace, name));
            at.as_ref()
                .and_then(endpoints::selector)
                .is_some_and(|selector| {
                    selector
                        .iter()
                        .all(|(label, value)| labels.get(label) == Some(value))
                })
        };
        let services = names.flatten().filter(fits).map(|name| Name {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
        });
        let mut services: BTreeSet<Name> = services.collect();
        services.extend(self.entries_selecting(namespace, labels));
        services
    }

    /// Compiles routes anew.
    pub(super) fn routes(&mut self, dirty: &mut Dirty) {
        for key in &dirty.routes {
            let services = self
                .routes
                .update(key, &self.index, &self.ports, &mut self.found);
            dirty.tables.extend(services);
        }
    }

    /// Compiles everything of `linkerd.io` anew.
    pub(super) fn linkerd(
        &mut self,
        dirty: &mut Dirty,
        ids: &mut ClusterIds,
        free: &mut BTreeSet<Arc<str>>,
    ) {
        if !dirty.linkerd {
            return;
        }
        let mut compiled = linkerd::compile(&self.index, &self.ports, ids);
        let problems = std::mem::take(&mut compiled.problems);
        self.found
            .set(Part::Linkerd, &Name::from(("", "")), problems);
        let changed = compiled
            .http_ports
            .symmetric_difference(&self.linkerd.http_ports);
        dirty
            .tables
            .extend(changed.map(|(service, _)| service.clone()));
        let former = std::mem::take(&mut self.linkerd.clusters);
        free.extend(former.iter().map(|cluster| Arc::clone(&cluster.name)));
        for cluster in &compiled.clusters {
            free.remove(&cluster.name);
        }
        compiled.clusters = self.replace_clusters(&former, compiled.clusters);
        self.linkerd = compiled;
    }

    /// Makes the listeners of Services anew.
    pub(super) fn tables(&mut self, dirty: &Dirty) {
        for name in &dirty.tables {
            let attached = self.routes.attached(name);
            let streamed = self.routes.streams(name);
            let ports = self.ports.get(name.key());
            let mut problems = Problems::default();
            let of_service = ports.map(|ports| tables::opaque(ports, &attached));
            let of_service = of_service.as_deref().unwrap_or_default();
            tables::name_what_is_without_effect(name, &attached, of_service, &mut problems);
            if let Some(at) = self.index.get::<Service>(name.key()) {
                let at = at.located;
                tables::name_idle_annotations(at, &attached, of_service, &mut problems);
            }
            streams::name_what_is_without_effect(&attached, &streamed, of_service, &mut problems);
            self.found.set(Part::Effect, name, problems);
            let listeners = of_service.iter().flat_map(|port| {
                let named = (name.clone(), port.number);
                let named = if self.linkerd.http_ports.contains(&named) {
                    NamedByLinkerd::Yes
                } else {
                    NamedByLinkerd::No
                };
                tables::listeners(port, &attached, &streamed, named)
            });
            let listeners: Vec<_> = listeners.map(Arc::new).collect();
            if ports.is_some() {
                self.listeners.insert(name, listeners);
            } else {
                self.listeners.remove(name.key());
            }
        }
        if !dirty.tables.is_empty() {
            self.shared.forget_listeners();
        }
    }

    /// Compiles pods anew, and those of namespaces that are others than before.
    pub(super) fn pods(&mut self, dirty: &Dirty) {
        let mut names = dirty.pods.clone();
        for namespace in &dirty.namespaces {
            let mut problems = Problems::default();
            if let Some(at) = self.index.get::<Namespace>(("", namespace)) {
                pod::judge_namespace(&at, &mut problems);
                switches::name_what_is_without_effect(at.located, &mut problems);
            }
            let name = Name::from(("", &**namespace));
            self.found.set(Part::Namespace, &name, problems);
            let pods = self.index.of_namespace::<KubePod>(namespace);
            names.extend(pods.map(|at| Name::from(at.key())));
        }
        for name in &names {
            self.pod(name);
        }
    }

    fn pod(&mut self, name: &Name) {
        let mut problems = Problems::default();
        let at = self.index.get::<KubePod>(name.key());
        let compiled = at.and_then(|at| {
            let namespace = self.index.get::<Namespace>(("", &name.namespace));
            switches::name_what_is_without_effect(at.located, &mut problems);
            pod::compile(&at, namespace.as_ref(), &self.options, &mut problems)
        });
        self.found.set(Part::Pod, name, problems);
        self.keep_labels(name, compiled.as_ref().map(|pod| &pod.uid));
        let former = self.pods.get(name.key()).map(AsRef::as_ref);
        if former == compiled.as_ref() {
            return;
        }
        self.shared.forget_pods();
        match compiled {
            Some(pod) => self.pods.insert(name, Arc::new(pod)),
            None => self.pods.remove(name.key()),
        };
    }

    fn keep_labels(&mut self, name: &Name, uid: Option<&Arc<str>>) {
        let at = self.index.get::<KubePod>(name.key());
        let labels = at.and_then(|at| at.object.metadata.labels.clone());
        let present = uid
            .zip(labels)
            .map(|(uid, labels)| (Arc::clone(uid), labels));
        if self.pod_labels.get(name.key()) == present.as_ref() {
            return;
        }
        self.shared.forget_pod_labels();
        match present {
            Some(present) => {
                self.pod_labels.insert(name, present);
            }
            None => {
                self.pod_labels.remove(name.key());
            }
        }
    }
}
