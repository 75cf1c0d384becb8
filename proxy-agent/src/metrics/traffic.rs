//! The registry of all workers' recorders, and their sums. Its lock is taken when a recorder is
//! registered and when somebody reads, never for a request.
//!
//! Bounded: a recorder that its worker has dropped is added to a sum and freed, so sums never go
//! back. Endpoints and pods without any recorder left are forgotten; of clusters, the sums of the
//! last `MAX_RETIRED_CLUSTERS` are kept by name, of older ones only in the totals.

mod cluster;
mod counter;
mod histogram;
mod recorder;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::status::TrafficStatus;
use counter::Recorder;

pub use cluster::{ClusterRecorder, ClusterTotals};
pub use histogram::{Histogram, HistogramTotals};
pub use recorder::{EndpointRecorder, EndpointTotals, PodRecorder, PodTotals};
pub use recorder::{WorkerRecorder, WorkerTotals};

/// Clusters that no worker serves any more and whose sums are still known by name. Enough for a
/// Service that is deleted and made again to go on where it was.
const MAX_RETIRED_CLUSTERS: usize = 512;

/// A map is swept when it has grown to twice what the last sweep left, but not below this.
const MIN_SWEEP_SIZE: usize = 64;

/// Everything that the workers count.
#[derive(Debug, Default)]
pub struct Traffic {
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    clusters: Families<Arc<str>, ClusterRecorder>,
    endpoints: Families<(Arc<str>, SocketAddr), EndpointRecorder>,
    pods: Families<Arc<str>, PodRecorder>,
    workers: Family<WorkerRecorder>,
    /// Counts of clusters that are forgotten by name.
    forgotten: ClusterTotals,
}

impl Traffic {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// A recorder for one worker's requests to a cluster; for the worker to keep.
    pub fn cluster_recorder(&self, cluster: &Arc<str>) -> Arc<ClusterRecorder> {
        let mut registry = self.registry();
        if registry.clusters.is_due() {
            registry.sweep_clusters();
        }
        registry.clusters.register(Arc::clone(cluster))
    }

    /// A recorder for one worker's requests to an endpoint of a cluster.
    pub fn endpoint_recorder(
        &self,
        cluster: &Arc<str>,
        address: SocketAddr,
    ) -> Arc<EndpointRecorder> {
        let endpoints = &mut self.registry().endpoints;
        if endpoints.is_due() {
            endpoints.forget_unused();
        }
        endpoints.register((Arc::clone(cluster), address))
    }

    /// A recorder for one worker's connections from a pod.
    pub fn pod_recorder(&self, uid: &Arc<str>) -> Arc<PodRecorder> {
        let pods = &mut self.registry().pods;
        if pods.is_due() {
            pods.forget_unused();
        }
        pods.register(Arc::clone(uid))
    }

    /// A recorder for one worker.
    pub fn worker_recorder(&self) -> Arc<WorkerRecorder> {
        self.registry().workers.register()
    }

    /// What a cluster has done, over all workers.
    pub fn cluster(&self, name: &str) -> TrafficStatus {
        let mut registry = self.registry();
        match registry.clusters.by_key.get_mut(name) {
            Some(family) => family.totals().status(),
            None => ClusterTotals::default().status(),
        }
    }

    /// Every cluster with its counts, by name.
    pub fn clusters(&self) -> BTreeMap<Arc<str>, ClusterTotals> {
        let mut registry = self.registry();
        registry.sweep_clusters();
        let families = registry.clusters.by_key.iter_mut();
        families
            .map(|(name, family)| (Arc::clone(name), family.totals()))
            .collect()
    }

    /// What was sent to an endpoint of a cluster.
    pub fn endpoint(&self, cluster: &str, address: SocketAddr) -> EndpointTotals {
        self.registry().endpoints.totals(&(cluster.into(), address))
    }

    /// What was accepted from a pod.
    pub fn pod(&self, uid: &str) -> PodTotals {
        self.registry().pods.totals(&uid.into())
    }

    /// Connections, whatever the pod and the cluster.
    pub fn workers(&self) -> WorkerTotals {
        self.registry().workers.totals()
    }

    /// All clusters together, with those that are gone.
    pub fn totals(&self) -> TrafficStatus {
        self.registry().all_clusters().status()
    }

    /// Local replies by their `x-proxy-agent-reason`.
    pub fn reasons(&self) -> BTreeMap<&'static str, u64> {
        self.workers().reasons
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Sums stay usable whatever a thread was doing when it panicked.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn all_clusters(&mut self) -> ClusterTotals {
        let mut sum = self.forgotten.clone();
        for family in self.clusters.by_key.values_mut() {
            sum.merge(&family.totals());
        }
        sum
    }

    /// Folds dropped recorders, and forgets the names of the clusters that retired first.
    fn sweep_clusters(&mut self) {
        let clusters = &mut self.clusters;
        clusters.fold_all();
        let retired = clusters.by_key.iter().filter(|(_, f)| f.live.is_empty());
        let mut retired: Vec<_> = retired.map(|(k, f)| (f.age, Arc::clone(k))).collect();
        retired.sort_unstable();
        let surplus = retired.len().saturating_sub(MAX_RETIRED_CLUSTERS);
        for (_, name) in retired.into_iter().take(surplus) {
            if let Some(family) = clusters.by_key.remove(&name) {
                self.forgotten.merge(&family.retired);
            }
        }
        clusters.set_due();
    }
}

/// Recorders of one name: those that a worker still holds, and the sum of the others.
#[derive(Debug)]
struct Family<R: Recorder> {
    live: Vec<Arc<R>>,
    retired: R::Totals,
    /// Number of the last registration: the higher, the later it was used.
    age: u64,
}

impl<R: Recorder> Default for Family<R> {
    fn default() -> Self {
        Self {
            live: Vec::new(),
            retired: R::Totals::default(),
            age: 0,
        }
    }
}

impl<R: Recorder> Family<R> {
    fn register(&mut self) -> Arc<R> {
        self.fold();
        let recorder = Arc::new(R::default());
        self.live.push(Arc::clone(&recorder));
        recorder
    }

    /// Moves the counts of dropped recorders into the sum. `get_mut` orders their last writes
    /// before this read, and nobody can take a new reference meanwhile: only this list has one.
    fn fold(&mut self) {
        let retired = &mut self.retired;
        self.live
            .retain_mut(|recorder| match Arc::get_mut(recorder) {
                Some(dropped) => {
                    dropped.add_to(retired);
                    false
                }
                None => true,
            });
    }

    fn totals(&mut self) -> R::Totals {
        self.fold();
        let mut totals = self.retired.clone();
        for recorder in &self.live {
            recorder.add_to(&mut totals);
        }
        totals
    }
}

/// Families by name.
#[derive(Debug)]
struct Families<K, R: Recorder> {
    by_key: HashMap<K, Family<R>>,
    registrations: u64,
    /// Size from which the next registration sweeps.
    due: usize,
}

impl<K, R: Recorder> Default for Families<K, R> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            registrations: 0,
            due: MIN_SWEEP_SIZE,
        }
    }
}

impl<K: Eq + Hash, R: Recorder> Families<K, R> {
    fn register(&mut self, key: K) -> Arc<R> {
        self.registrations += 1;
        let family = self.by_key.entry(key).or_default();
        family.age = self.registrations;
        family.register()
    }

    fn totals(&mut self, key: &K) -> R::Totals {
        match self.by_key.get_mut(key) {
            Some(family) => family.totals(),
            None => R::Totals::default(),
        }
    }

    /// Whether it has grown enough for a sweep, whose cost is then spread over the growth.
    fn is_due(&self) -> bool {
        self.by_key.len() >= self.due
    }

    fn set_due(&mut self) {
        self.due = MIN_SWEEP_SIZE.max(2 * self.by_key.len());
    }

    fn fold_all(&mut self) {
        self.by_key.values_mut().for_each(Family::fold);
    }

    /// Drops the names that no worker holds a recorder of.
    fn forget_unused(&mut self) {
        self.fold_all();
        self.by_key.retain(|_, family| !family.live.is_empty());
        self.set_due();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    fn address(n: u32) -> SocketAddr {
        SocketAddr::from((n.to_be_bytes(), 80))
    }

    fn request(recorder: &ClusterRecorder) {
        recorder.request_started();
        recorder.request_ended(200, Duration::from_millis(1));
        recorder.in_flight_ended();
    }

    #[test]
    fn workers_add_up() {
        let traffic = Traffic::new();
        let cluster = name("shop/cart:80");
        let workers = [0, 1].map(|_| traffic.cluster_recorder(&cluster));
        workers.iter().for_each(|worker| request(worker));
        assert_eq!(traffic.cluster("shop/cart:80").requests_total, 2);
        assert_eq!(traffic.cluster("shop/other:80").requests_total, 0);
        assert_eq!(traffic.totals().requests_total, 2);
    }

    #[test]
    fn a_dropped_recorder_leaves_its_counts() {
        let traffic = Traffic::new();
        let cluster = name("shop/cart:80");
        for _ in 0..1_000 {
            request(&traffic.cluster_recorder(&cluster));
        }
        assert_eq!(traffic.cluster("shop/cart:80").requests_total, 1_000);
        assert!(traffic.registry().clusters.by_key[&cluster].live.is_empty());
    }

    #[test]
    fn churn_of_endpoints_and_pods_does_not_grow_the_registry() {
        let traffic = Traffic::new();
        let kept = traffic.endpoint_recorder(&name("c"), address(0));
        for n in 1..10_000 {
            traffic.endpoint_recorder(&name("c"), address(n)).sent();
            traffic.pod_recorder(&name(&n.to_string())).accepted();
        }
        kept.sent();
        assert_eq!(traffic.endpoint("c", address(0)).sent_total, 1);
        assert!(traffic.registry().endpoints.by_key.len() <= MIN_SWEEP_SIZE);
        assert!(traffic.registry().pods.by_key.len() <= MIN_SWEEP_SIZE);
    }

    #[test]
    fn churn_of_clusters_is_bounded_and_totals_never_go_back() {
        let traffic = Traffic::new();
        let clusters = 4 * MAX_RETIRED_CLUSTERS;
        for n in 0..clusters {
            let recorder = traffic.cluster_recorder(&name(&n.to_string()));
            request(&recorder);
        }
        assert_eq!(traffic.totals().requests_total, clusters as u64);
        assert_eq!(traffic.clusters().len(), MAX_RETIRED_CLUSTERS);
        let last = traffic.cluster(&(clusters - 1).to_string());
        assert_eq!(last.requests_total, 1);
    }

    #[test]
    fn reasons_of_all_workers_add_up() {
        let traffic = Traffic::new();
        for _ in 0..2 {
            let worker = traffic.worker_recorder();
            worker.reason("no_route");
        }
        assert_eq!(traffic.reasons()["no_route"], 2);
    }

    #[test]
    fn counts_written_by_another_thread_are_all_seen_once_it_has_dropped_them() {
        let traffic = Traffic::new();
        let recorder = traffic.pod_recorder(&name("uid"));
        let writer = std::thread::spawn(move || (0..50_000).for_each(|_| recorder.accepted()));
        let mut last = 0;
        while !writer.is_finished() {
            let now = traffic.pod("uid").accepted_total;
            assert!(now >= last, "went back from {last} to {now}");
            last = now;
        }
        writer.join().unwrap();
        assert_eq!(traffic.pod("uid").accepted_total, 50_000);
    }
}
