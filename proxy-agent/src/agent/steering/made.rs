//! What a direct frontend's set of endpoints is made of: the clusters that share its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use proxy_ebpf::{Choice, EndpointKey};

use super::health::Health;
use crate::bpf::{DirectGroup, DirectSet};
use crate::model::{
    BalancePolicy, Cluster, Destination, DirectPolicy, Listener, Snapshot, WeightedDestination,
};

/// A connection keeps to the address family that the application asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn of(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

/// A set, and what it was made of.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) parts: Parts,
    pub(super) set: Arc<DirectSet>,
}

/// Where a listener's direct connections go.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// The listener's own cluster: all of them, where nothing is split.
    own: Arc<Cluster>,
    split: Option<Vec<Part>>,
}

/// A share of a listener's connections.
#[derive(Clone, Debug)]
struct Part {
    weight: u32,
    /// `None`: it leads nowhere, and is refused.
    cluster: Option<Arc<Cluster>>,
}

impl Part {
    fn of(one: &WeightedDestination, snapshot: &Snapshot) -> Self {
        let cluster = match one.destination {
            Destination::Cluster(id) => snapshot.cluster(id).cloned(),
            Destination::Redirect(_) | Destination::Invalid => None,
        };
        Self {
            weight: one.weight,
            cluster,
        }
    }

    fn is(&self, other: &Self) -> bool {
        let same = match (&self.cluster, &other.cluster) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && self.weight == other.weight
    }
}

impl Parts {
    /// Of a direct listener; `None` of one without a cluster.
    pub(super) fn of(listener: &Listener, snapshot: &Snapshot) -> Option<Self> {
        let own = Arc::clone(snapshot.cluster(listener.cluster)?);
        let split = listener.direct_destinations().map(|destinations| {
            let shares = destinations.iter().filter(|one| one.weight > 0);
            shares.map(|one| Part::of(one, snapshot)).collect()
        });
        Some(Self { own, split })
    }

    /// Whether nothing that a set is made of differs.
    pub(super) fn are(&self, others: &Self) -> bool {
        let same = match (&self.split, &others.split) {
            (None, None) => true,
            (Some(split), Some(other)) => {
                let mut pairs = split.iter().zip(other);
                split.len() == other.len() && pairs.all(|(one, other)| one.is(other))
            }
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && Arc::ptr_eq(&self.own, &others.own)
    }

    /// The clusters that connections go to.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        let whole = self.split.is_none().then_some(&self.own);
        let parts = self.split.iter().flatten();
        whole
            .into_iter()
            .chain(parts.filter_map(|part| part.cluster.as_ref()))
    }

    /// What the Service itself says of its direct connections.
    pub(super) fn policy(&self) -> &DirectPolicy {
        &self.own.direct
    }

    /// The set of the endpoints of one address family that may be used.
    pub(super) fn set(&self, family: Family, health: &Health, now: Instant) -> DirectSet {
        let affinity_s = self.policy().affinity.map_or(0, |affinity| {
            u32::try_from(affinity.as_secs()).unwrap_or(u32::MAX)
        });
        let usable = |cluster: &Cluster| {
            let usable = health.usable(cluster, now);
            let of_family = usable.iter().filter(|one| Family::of(one) == family);
            let keys = of_family.map(|address| EndpointKey::from_socket_addr(*address));
            keys.collect::<Vec<_>>()
        };
        let Some(split) = &self.split else {
            return DirectSet {
                endpoints: usable(&self.own),
                choice: choice(&self.own),
                affinity_s,
                groups: Vec::new(),
            };
        };
        let mut set = DirectSet {
            affinity_s,
            ..DirectSet::default()
        };
        for part in split {
            let endpoints = part.cluster.as_deref().map(usable).unwrap_or_default();
            set.groups.push(DirectGroup {
                weight: part.weight.into(),
                count: u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
                choice: part.cluster.as_deref().map(choice).unwrap_or_default(),
            });
            set.endpoints.extend(endpoints);
        }
        set
    }
}

const fn choice(cluster: &Cluster) -> Choice {
    match cluster.balance {
        // A client of a Service that a route leads to such a host chose none of its addresses.
        BalancePolicy::LeastRequest | BalancePolicy::AsAsked => Choice::LeastConnections,
        BalancePolicy::RoundRobin => Choice::RoundRobin,
        BalancePolicy::Random => Choice::Random,
    }
}
