//! Passive health of direct endpoints: who is left out of the sets, and until when.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::model::{Cluster, ClusterId};
use crate::outlier::Detector;

/// Endpoints that are left out, for whoever shows them. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Ejections(Arc<Mutex<HashMap<(ClusterId, SocketAddr), Instant>>>);

impl Ejections {
    /// Every endpoint that is left out, and until when.
    pub(in crate::agent) fn all(&self) -> HashMap<(ClusterId, SocketAddr), Instant> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    fn publish(&self, all: HashMap<(ClusterId, SocketAddr), Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

/// The detectors of all direct clusters that have had failures.
#[derive(Debug, Default)]
pub(super) struct Health {
    detectors: HashMap<ClusterId, Detector>,
    pub(super) ejections: Ejections,
}

impl Health {
    /// The addresses of a cluster's endpoints that connections may go to.
    pub(super) fn usable(&self, cluster: &Cluster, now: Instant) -> Vec<SocketAddr> {
        let all = cluster.endpoints.iter().map(|endpoint| endpoint.address);
        let all: Vec<_> = all.collect();
        match self.detectors.get(&cluster.id) {
            None => all,
            Some(detector) => detector.usable(&all, now).copied().collect(),
        }
    }

    /// Takes note of rows of failures at the endpoints of `clusters`. Returns whether one is
    /// ejected for them.
    pub(super) fn observe<'c>(
        &mut self,
        failing: &HashMap<SocketAddr, u64>,
        clusters: impl Iterator<Item = &'c Arc<Cluster>>,
        now: Instant,
    ) -> bool {
        let mut any = false;
        for cluster in clusters {
            for endpoint in &cluster.endpoints {
                let Some(streak) = failing.get(&endpoint.address) else {
                    continue;
                };
                let detector = self.detectors.entry(cluster.id).or_default();
                let (address, count) = (endpoint.address, cluster.endpoints.len());
                if detector.observe(address, *streak, count, now) {
                    tracing::info!(
                        cluster = %cluster.name,
                        endpoint = %address,
                        failures = streak,
                        "endpoint ejected: connections to it fail"
                    );
                    any = true;
                }
            }
        }
        any
    }

    /// Whether an endpoint that was left out at `since` may be used again at `now`.
    pub(super) fn returned(&self, since: Instant, now: Instant) -> bool {
        let before = self.detectors.values().flat_map(|one| one.ejected(since));
        before.into_iter().any(|(_, until)| until <= now)
    }

    /// The clusters that have had failures.
    pub(super) fn clusters(&self) -> impl Iterator<Item = ClusterId> {
        self.detectors.keys().copied()
    }

    /// Forgets what is not among the clusters that are known, and publishes the rest.
    pub(super) fn settle<'c>(
        &mut self,
        known: impl Fn(ClusterId) -> Option<&'c Arc<Cluster>>,
        now: Instant,
    ) {
        if self.detectors.is_empty() {
            return;
        }
        self.detectors.retain(|id, detector| {
            let Some(cluster) = known(*id) else {
                return false;
            };
            let endpoints = &cluster.endpoints;
            detector.retain(|address| endpoints.iter().any(|one| one.address == *address));
            true
        });
        let all = self.detectors.iter().flat_map(|(id, detector)| {
            let ejected = detector.ejected(now);
            ejected.map(|(address, until)| ((*id, address), until))
        });
        self.ejections.publish(all.collect());
    }
}
