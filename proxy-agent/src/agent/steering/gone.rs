//! Endpoints that are gone: connections that still go to them are ended, where the Service has not
//! asked for the opposite.
//!
//! An endpoint is gone when no EndpointSlice of its Service names it any more, or no selected pod
//! has its address: in a cluster that is when the pod is deleted, after its termination grace. One
//! that is only not ready, or terminating, keeps its connections.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::made::Parts;
use crate::agent::adapters::PodNetns;
use crate::bpf::Kernel;
use crate::model::{Cluster, Listener, Snapshot, StaleConnections, WhyLeftOut};
use crate::net::end_sockets;

/// How long an endpoint is gone before its connections are ended: one that moves from a slice to
/// another may be in neither for a moment.
const SETTLE: Duration = Duration::from_secs(1);

/// A Service's address, and an endpoint that connections to it went to.
pub(in crate::agent) type Pair = (SocketAddr, SocketAddr);

/// What was told of endpoints that went.
pub(in crate::agent) type Told = mpsc::UnboundedReceiver<Pair>;

/// Where endpoints that go are told.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Gone(mpsc::UnboundedSender<Pair>);

impl Gone {
    /// The two ends.
    pub(in crate::agent) fn channel() -> (Self, Told) {
        let (tell, told) = mpsc::unbounded_channel();
        (Self(tell), told)
    }

    /// Tells of the endpoints that are gone from the clusters of `former`. One that only gets no
    /// share of the connections any more is not gone.
    pub(super) fn compare(
        &self,
        listener: &Listener,
        former: &Parts,
        present: &Parts,
        snapshot: &Snapshot,
    ) {
        if present.policy().stale != StaleConnections::Close {
            return;
        }
        let same = former.clusters().filter_map(|one| snapshot.cluster(one.id));
        let all = present.clusters().chain(same);
        let present: HashSet<SocketAddr> = all.flat_map(|one| known(one)).collect();
        let former = former.clusters().flat_map(|one| known(one));
        for endpoint in former.filter(|one| !present.contains(one)) {
            for frontend in &listener.addresses {
                // Nobody hears it once the agent stops, and nobody has to.
                let _ = self.0.send((*frontend, endpoint));
            }
        }
    }
}

/// Every endpoint of a cluster, usable or not: connections to one that is not ready, on its way out,
/// or not for this node are its own to end.
fn known(cluster: &Cluster) -> impl Iterator<Item = SocketAddr> {
    let usable = cluster.endpoints.iter().map(|endpoint| endpoint.address);
    let left_out = cluster.left_out.iter();
    let alive = left_out.filter(|one| one.why != WhyLeftOut::Completed);
    usable.chain(alive.filter_map(|one| one.address))
}

/// Ends the connections to endpoints that are gone, until `stop`.
pub(in crate::agent) async fn close_stale(
    mut told: Told,
    kernel: Arc<Kernel>,
    pods: PodNetns,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: CancellationToken,
) {
    loop {
        let first = stop.run_until_cancelled(told.recv()).await;
        let Some(Some(first)) = first else {
            return;
        };
        if stop.run_until_cancelled(sleep(SETTLE)).await.is_none() {
            return;
        }
        let mut gone = HashSet::from([first]);
        while let Ok(pair) = told.try_recv() {
            gone.insert(pair);
        }
        let snapshot = Arc::clone(&snapshots.borrow());
        gone.retain(|pair| !is_back(&snapshot, pair));
        drop(snapshot);
        let (kernel, pods) = (Arc::clone(&kernel), pods.clone());
        let ended = spawn_blocking(move || end(&kernel, &pods, gone)).await;
        if let Err(error) = ended {
            tracing::error!(%error, "connections to endpoints that are gone stay open");
        }
    }
}

fn is_back(snapshot: &Snapshot, (frontend, endpoint): &Pair) -> bool {
    let listener = snapshot.by_address.get(frontend);
    let parts = listener.and_then(|listener| Parts::of(listener, snapshot));
    let mut clusters = parts.iter().flat_map(Parts::clusters);
    clusters.any(|cluster| known(cluster).any(|one| one == *endpoint))
}

fn end(kernel: &Kernel, pods: &PodNetns, mut gone: HashSet<Pair>) {
    match kernel.endpoints() {
        Ok(states) => gone.retain(|(_, endpoint)| {
            let state = states.get(endpoint);
            state.is_some_and(|state| state.open > 0)
        }),
        Err(error) => tracing::warn!(%error, "looking at every pod's connections"),
    }
    if gone.is_empty() {
        return;
    }
    let mut ended = 0;
    for netns in pods.all() {
        let in_pod = netns.run(|| {
            end_sockets(kernel.socket_storage(), |cookie, storage| {
                let steered = kernel.steered(cookie, storage).map_err(io::Error::other)?;
                Ok(steered.is_some_and(|pair| gone.contains(&pair)))
            })
        });
        match in_pod {
            Ok(count) => ended += count,
            Err(error) => {
                let netns = netns.inode();
                tracing::warn!(%error, netns, "connections to endpoints that are gone stay open");
            }
        }
    }
    if ended > 0 {
        tracing::info!(connections = ended, "ended: their endpoints are gone");
    }
}
