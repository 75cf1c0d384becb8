//! Which sets of endpoints direct frontends need, and which of them a change touches.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::made::{Family, Made};
use crate::model::{Cluster, ClusterId, Destination, Listener, ListenerVerdict, Snapshot};

/// The addresses of one family of a cluster's listener.
pub(super) type Key = (ClusterId, Family);

/// A set that is needed.
#[derive(Debug)]
pub(super) struct Needed {
    /// Whose connections it is for.
    pub(super) listener: Arc<Listener>,
    /// Where they are made to.
    addresses: Vec<SocketAddr>,
    /// `None` until it is made, and where it cannot be.
    pub(super) made: Option<Made>,
}

/// Every set that is needed.
#[derive(Debug, Default)]
pub(super) struct Sets {
    needed: HashMap<Key, Needed>,
    /// Sets that a cluster has a share of, by routes.
    shared_out: HashMap<ClusterId, Vec<Key>>,
}

impl Sets {
    /// Takes over listeners that are others than before. Of those with one cluster the first counts.
    pub(super) fn need(&mut self, snapshot: &Snapshot) {
        let mut former = std::mem::take(self).needed;
        for listener in snapshot.listeners.iter().filter(|one| is_direct(one)) {
            for family in listener.addresses.iter().map(Family::of) {
                let key = (listener.cluster, family);
                let Entry::Vacant(vacant) = self.needed.entry(key) else {
                    continue;
                };
                vacant.insert(Needed {
                    listener: Arc::clone(listener),
                    addresses: Vec::new(),
                    made: former.remove(&key).and_then(|former| former.made),
                });
                for id in shared_by(listener) {
                    self.shared_out.entry(id).or_default().push(key);
                }
            }
        }
        self.address(snapshot);
    }

    /// Notes which addresses have which set. Of two Services with one address one has it.
    fn address(&mut self, snapshot: &Snapshot) {
        let owners = snapshot.by_address.iter();
        for (address, owner) in owners.filter(|(_, owner)| is_direct(owner)) {
            let key = (owner.cluster, Family::of(address));
            if let Some(needed) = self.needed.get_mut(&key) {
                needed.addresses.push(*address);
            }
        }
    }

    /// The addresses that a set is for.
    pub(super) fn addresses(&self, key: Key) -> &[SocketAddr] {
        let needed = self.needed.get(&key);
        needed.map_or(&[], |needed| &needed.addresses)
    }

    /// All of them.
    pub(super) fn all(&self) -> BTreeSet<Key> {
        self.needed.keys().copied().collect()
    }

    /// Those that are made of one of these clusters.
    pub(super) fn touched(&self, clusters: impl Iterator<Item = ClusterId>) -> BTreeSet<Key> {
        clusters.flat_map(|id| self.of(id)).collect()
    }

    /// Those that may be made of a cluster.
    fn of(&self, id: ClusterId) -> impl Iterator<Item = Key> {
        let own = [Family::V4, Family::V6].map(|family| (id, family));
        let own = own.into_iter().filter(|key| self.needed.contains_key(key));
        let shared_out = self.shared_out.get(&id);
        own.chain(shared_out.into_iter().flatten().copied())
    }

    /// A cluster that one of them is made of.
    pub(super) fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        let made = self.of(id).filter_map(|key| self.made(key));
        let mut clusters = made.flat_map(|made| made.parts.clusters());
        clusters.find(|cluster| cluster.id == id)
    }

    /// The set of a key, if it is needed.
    pub(super) fn needed(&mut self, key: Key) -> Option<&mut Needed> {
        self.needed.get_mut(&key)
    }

    /// The set of a key, if it is made.
    pub(super) fn made(&self, key: Key) -> Option<&Made> {
        self.needed.get(&key)?.made.as_ref()
    }

    /// The clusters that they are made of, some of them more than once.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        let made = self.needed.values().filter_map(|one| one.made.as_ref());
        made.flat_map(|made| made.parts.clusters())
    }
}

/// The clusters that a listener's connections are shared out to, if they are.
fn shared_by(listener: &Listener) -> impl Iterator<Item = ClusterId> {
    let destinations = listener.direct_destinations().into_iter();
    let destinations = destinations.flat_map(|all| all.iter());
    destinations.filter_map(|one| match one.destination {
        Destination::Cluster(id) => Some(id),
        Destination::Redirect(_) | Destination::Invalid => None,
    })
}

pub(super) fn is_direct(listener: &Listener) -> bool {
    listener.verdict == ListenerVerdict::Direct
}
