//! Who of the workers has which listener of a pod, and all of a pod's listeners together again.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::{LentPod, ServedPod, WorkerPod};

/// Splits a pod's listeners among `workers`, so that each has one of each address family and every
/// listener is somebody's.
///
/// Where an agent with another number of workers bound them, several workers accept from one
/// listener, or one from several. None is bound in addition: the kernel would give a new member of
/// the group connections at once, and none is closed, for connections may wait there.
pub(super) fn split(pod: &Arc<ServedPod>, workers: usize) -> Vec<WorkerPod> {
    let mut shares: Vec<WorkerPod> = (0..workers)
        .map(|_| WorkerPod {
            pod: Arc::clone(pod),
            listeners: Vec::new(),
        })
        .collect();
    for family in pod.take_listeners() {
        let bound = family.len();
        let second: Vec<_> = (bound..workers)
            .filter_map(|worker| again(family.get(worker.checked_rem(bound)?)?))
            .collect();
        let turns = (0..workers).cycle();
        for (worker, listener) in turns.zip(family.into_iter().chain(second)) {
            shares[worker].listeners.push(listener);
        }
    }
    shares
}

fn again(listener: &TcpListener) -> Option<TcpListener> {
    match listener.try_clone() {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::error!(%error, "a worker goes without a listener");
            None
        }
    }
}

/// Puts together what the workers lent of each pod; a listener that several of them have is in it
/// once.
pub(super) fn by_pod(lent: impl Iterator<Item = LentPod>) -> Vec<LentPod> {
    let mut pods: HashMap<Arc<str>, LentPod> = HashMap::new();
    let mut known = HashSet::new();
    for mut pod in lent {
        let listeners = pod.listeners.into_iter().map(File::from);
        let listeners = listeners.filter(|socket| {
            let inode = socket.metadata().map(|found| found.ino());
            inode.is_ok_and(|inode| known.insert(inode))
        });
        pod.listeners = listeners.map(OwnedFd::from).collect();
        match pods.get_mut(&pod.uid) {
            Some(known) => known.listeners.extend(pod.listeners),
            None => {
                pods.insert(Arc::clone(&pod.uid), pod);
            }
        }
    }
    pods.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::net::Netns;

    fn listeners(count: usize) -> Vec<TcpListener> {
        let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
        (0..count).map(bind).collect()
    }

    /// Addresses that each of `workers` listens on, when `bound` listeners were bound.
    fn shares(bound: usize, workers: usize) -> (Vec<Vec<SocketAddr>>, HashSet<SocketAddr>) {
        let family = listeners(bound);
        let all = family.iter().map(|one| one.local_addr().unwrap()).collect();
        let netns = Arc::new(Netns::current().unwrap());
        let families = vec![family, Vec::new()];
        let pod = ServedPod::new("u".into(), "ns".into(), "n".into(), netns, families);
        let addresses = |share: WorkerPod| {
            let listeners = share.listeners.iter();
            listeners.map(|one| one.local_addr().unwrap()).collect()
        };
        let shares = split(&Arc::new(pod), workers);
        (shares.into_iter().map(addresses).collect(), all)
    }

    #[test]
    fn every_worker_has_a_listener_and_every_listener_a_worker() {
        for (bound, workers) in [(1, 1), (2, 2), (1, 3), (2, 5), (5, 2), (64, 3)] {
            let (shares, all) = shares(bound, workers);
            assert_eq!(shares.len(), workers);
            let served: HashSet<_> = shares.iter().flatten().copied().collect();
            assert_eq!(served, all, "{bound} bound, {workers} workers");
            let most = bound.div_ceil(workers);
            for share in shares {
                assert!((1..=most).contains(&share.len()), "{share:?}");
            }
        }
        assert_eq!(shares(0, 2).0, [[], []], "a family without listeners");
    }

    #[test]
    fn what_the_workers_lend_of_a_pod_is_put_together() {
        let lent = |uid: &str, count| LentPod {
            uid: uid.into(),
            listeners: listeners(count).into_iter().map(Into::into).collect(),
        };
        let shared = lent("b", 1);
        let again = LentPod {
            uid: "b".into(),
            listeners: vec![shared.listeners[0].try_clone().unwrap()],
        };
        let pods = by_pod([lent("a", 2), shared, lent("a", 2), again].into_iter());
        let mut counts: Vec<_> = pods
            .iter()
            .map(|pod| (&*pod.uid, pod.listeners.len()))
            .collect();
        counts.sort_unstable();
        assert_eq!(counts, [("a", 4), ("b", 1)]);
    }
}
