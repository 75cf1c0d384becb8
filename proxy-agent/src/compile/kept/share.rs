//! The parts of a snapshot that the next one shares while they stay the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::Service;

use super::Kept;
use crate::compile::by_key::Name;
use crate::compile::dirty::Dirty;
use crate::compile::problems::{Part, Problems};
use crate::model::{
    ByAddress, Cluster, ClusterId, ClusterPart, Clusters, Listener, ListenerVerdict, ObjectId,
    Place, Pod, Snapshot,
};

/// Labels of pods by uid.
type PodLabels = HashMap<Arc<str>, BTreeMap<String, String>>;

/// Made when first asked for after a change.
#[derive(Debug, Default)]
pub(super) struct Shared {
    listeners: Option<Arc<[Arc<Listener>]>>,
    by_address: Option<Arc<ByAddress>>,
    clusters: Option<Clusters>,
    /// Its parts, but for those in which a cluster has changed.
    cluster_parts: Vec<Option<ClusterPart>>,
    unserved: Option<Arc<[Arc<str>]>>,
    pods: Option<Arc<HashMap<Arc<str>, Arc<Pod>>>>,
    pod_labels: Option<Arc<PodLabels>>,
    unread: Option<Arc<[(ObjectId, Place)]>>,
    lookups: Option<Arc<[Arc<str>]>>,
}

impl Shared {
    pub(super) fn forget_listeners(&mut self) {
        (self.listeners, self.by_address) = (None, None);
    }

    /// The cluster of an id is another than before.
    pub(super) fn forget_cluster(&mut self, id: ClusterId) {
        self.clusters = None;
        if let Some(part) = self.cluster_parts.get_mut(id.index() / Clusters::PART) {
            *part = None;
        }
    }

    fn clusters(&mut self, slots: &[Option<Arc<Cluster>>]) -> Clusters {
        let Self {
            clusters,
            cluster_parts: parts,
            ..
        } = self;
        let made = clusters.get_or_insert_with(|| {
            let slots = slots.chunks(Clusters::PART);
            parts.resize(slots.len(), None);
            let parts = parts.iter_mut().zip(slots);
            Clusters::new(parts.map(|(part, slots)| once(part, || slots.into())))
        });
        made.clone()
    }

    pub(super) fn forget_unserved(&mut self) {
        self.unserved = None;
    }

    pub(super) fn forget_pod_labels(&mut self) {
        self.pod_labels = None;
    }

    pub(super) fn forget_pods(&mut self) {
        self.pods = None;
    }
}

impl Kept {
    /// Everything, as a snapshot.
    pub(in crate::compile) fn snapshot(
        &mut self,
        version: u64,
        created: SystemTime,
        dirty: &Dirty,
    ) -> Snapshot {
        if dirty.unread {
            self.shared.unread = None;
        }
        if !dirty.entries.is_empty() {
            self.shared.lookups = None;
        }
        let by_address = self.by_address();
        let Self { shared, slots, .. } = self;
        while slots.last().is_some_and(Option::is_none) {
            slots.pop();
        }
        let (listeners, unserved, index, pods) =
            (&self.listeners, &self.unserved, &self.index, &self.pods);
        let listeners = || listeners.values().flatten().cloned().collect();
        let by_uid = |pod: &Arc<Pod>| (Arc::clone(&pod.uid), Arc::clone(pod));
        let pods = || Arc::new(pods.values().map(by_uid).collect());
        Snapshot {
            version,
            created,
            listeners: once(&mut shared.listeners, listeners),
            by_address,
            clusters: shared.clusters(slots),
            unserved: once(&mut shared.unserved, || unserved.iter().cloned().collect()),
            virtual_hosts: Arc::clone(&self.linkerd.virtual_hosts),
            pods: once(&mut shared.pods, pods),
            pod_labels: once(&mut shared.pod_labels, || {
                Arc::new(self.pod_labels.values().cloned().collect())
            }),
            objects: index.len(),
            unknown_kinds: once(&mut shared.unread, || index.all_unread()),
            route_parents: self.routes.parents(),
            lookups: once(&mut shared.lookups, || index.lookups()),
            problems: self.found.all(),
        }
    }

    /// Addresses that do not pass. Of two Services with one address the first by namespace and name has it.
    fn by_address(&mut self) -> Arc<ByAddress> {
        if let Some(owners) = &self.shared.by_address {
            return Arc::clone(owners);
        }
        let mut lost: BTreeMap<Name, Problems> = BTreeMap::new();
        let mut owners = ByAddress::default();
        let steered = |one: &&Arc<Listener>| !matches!(one.verdict, ListenerVerdict::Pass(_));
        for (key, listeners) in self.listeners.iter() {
            for listener in listeners.iter().filter(steered) {
                for address in &listener.addresses {
                    let Some(owner) = owners.get(address) else {
                        owners.insert(*address, Arc::clone(listener));
                        continue;
                    };
                    let owner = format!("{}/{}", owner.namespace, owner.service);
                    let reason =
                        format!("address {address} is Service {owner}'s already, which keeps it");
                    let service = self.index.get::<Service>(key).map(|at| at.located);
                    let entry = || self.index.entry(key).map(|at| at.located);
                    if let Some(located) = service.or_else(entry) {
                        let problems = lost.entry(key.into()).or_default();
                        problems.error(located, "spec", reason);
                    }
                }
            }
        }
        self.found.replace(Part::Taken, lost);
        let owners = Arc::new(owners);
        self.shared.by_address = Some(Arc::clone(&owners));
        owners
    }
}

fn once<T: ?Sized>(kept: &mut Option<Arc<T>>, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
    Arc::clone(kept.get_or_insert_with(make))
}
