//! What a direct frontend's set of endpoints is made of: the clusters that share its connections.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use proxy_ebpf::{Choice, EndpointKey};

use super::health::Health;
use crate::bpf::{DirectGroup, DirectSet};
use crate::model::{
    BalancePolicy, Cluster, Destination, DirectPolicy, Endpoint, Listener, Snapshot,
    WeightedDestination,
};

/// A connection keeps to the address family that the application asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
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

/// What a weight of a route is in groups' weights: endpoints may have fractions of it.
const UNIT: u64 = 1 << 32;

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
            let all = part
                .cluster
                .as_deref()
                .map(|cluster| &cluster.endpoints[..]);
            for (weight, endpoints) in shares(part.weight, all.unwrap_or_default(), endpoints) {
                set.groups.push(DirectGroup {
                    weight,
                    count: u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
                    choice: part.cluster.as_deref().map(choice).unwrap_or_default(),
                });
                set.endpoints.extend(endpoints);
            }
        }
        set
    }
}

/// The usable endpoints of a part by their own weights, which share that of the part; most often all
/// in one. `all` are its cluster's.
fn shares(weight: u32, all: &[Endpoint], usable: Vec<EndpointKey>) -> Vec<(u64, Vec<EndpointKey>)> {
    let whole = u64::from(weight) * UNIT;
    if all.iter().all(|one| one.weight == all[0].weight) {
        return vec![(whole, usable)];
    }
    let key = |one: &Endpoint| EndpointKey::from_socket_addr(one.address);
    let weights: HashMap<_, _> = all.iter().map(|one| (key(one), one.weight)).collect();
    let mut by_weight = BTreeMap::<u32, Vec<EndpointKey>>::new();
    for endpoint in usable {
        let weight = weights.get(&endpoint).copied().unwrap_or(1);
        by_weight.entry(weight).or_default().push(endpoint);
    }
    let sum = |(weight, some): (&u32, &Vec<EndpointKey>)| u128::from(*weight) * some.len() as u128;
    let total: u128 = by_weight.iter().map(sum).sum();
    if total == 0 {
        return vec![(whole, Vec::new())];
    }
    let shares = by_weight.iter().map(|group| {
        let share = u128::from(whole) * sum(group) / total;
        (u64::try_from(share).unwrap_or(u64::MAX), group.1.clone())
    });
    shares.collect()
}

const fn choice(cluster: &Cluster) -> Choice {
    match cluster.balance {
        // A client of a Service that a route leads to such a host chose none of its addresses.
        BalancePolicy::LeastRequest | BalancePolicy::AsAsked => Choice::LeastConnections,
        BalancePolicy::RoundRobin => Choice::RoundRobin,
        BalancePolicy::Random => Choice::Random,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(last: u8) -> EndpointKey {
        EndpointKey::from_socket_addr(SocketAddr::from(([10, 0, 0, last], 80)))
    }

    /// Endpoints of these last bytes and weights.
    fn endpoints(all: &[(u8, u32)]) -> Vec<Endpoint> {
        let endpoint = |(last, weight): &(u8, u32)| Endpoint {
            address: SocketAddr::from(([10, 0, 0, *last], 80)),
            pod: None,
            node: None,
            zone: None,
            weight: *weight,
        };
        all.iter().map(endpoint).collect()
    }

    #[test]
    fn endpoints_of_one_weight_are_one_group() {
        let all = endpoints(&[(1, 1), (2, 1)]);
        let expected = [(3 * UNIT, vec![key(1), key(2)])];
        assert_eq!(shares(3, &all, vec![key(1), key(2)]), expected);
        assert_eq!(shares(3, &[], Vec::new()), [(3 * UNIT, Vec::new())]);
    }

    #[test]
    fn endpoints_share_the_weight_of_their_part_by_their_own() {
        let all = endpoints(&[(1, 1), (2, 5), (3, 1), (4, 2)]);
        let expected = [
            (3 * UNIT * 2 / 9, vec![key(1), key(3)]),
            (3 * UNIT * 2 / 9, vec![key(4)]),
            (3 * UNIT * 5 / 9, vec![key(2)]),
        ];
        let usable = vec![key(1), key(2), key(3), key(4)];
        assert_eq!(shares(3, &all, usable), expected);
        // One is not usable: the others have its share too.
        let expected = [(UNIT, vec![key(1)]), (2 * UNIT, vec![key(4)])];
        assert_eq!(shares(3, &all, vec![key(1), key(4)]), expected);
        assert_eq!(shares(3, &all, Vec::new()), [(3 * UNIT, Vec::new())]);
    }
}
