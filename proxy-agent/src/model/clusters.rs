//! The clusters of a snapshot, in parts, so that a snapshot shares with the one before what did not
//! change.

use std::sync::Arc;

use super::{Cluster, ClusterId};

/// Some clusters in the order of their ids; `None` for an id that is not in use.
pub type Part = Arc<[Option<Arc<Cluster>>]>;

/// Every cluster at its id.
#[derive(Clone, Debug, Default)]
pub struct Clusters(Arc<[Part]>);

impl Clusters {
    /// Ids of a part: what a change of one cluster copies, and one pointer for each of the parts.
    pub const PART: usize = 128;

    /// Those of these parts, each of [`Self::PART`] ids but the last, which may be shorter.
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        Self(parts.into_iter().collect())
    }

    /// The cluster of an id.
    pub fn get(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        let (part, place) = (id.index() / Self::PART, id.index() % Self::PART);
        self.0.get(part)?.get(place)?.as_ref()
    }

    /// Every cluster, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.0.iter().flat_map(|part| part.iter()).flatten()
    }

    /// The ids at which another cluster stands than in `other`, or one of them has none. Parts that
    /// both share are not looked at.
    pub fn other_than<'s>(&'s self, other: &'s Self) -> impl Iterator<Item = ClusterId> + 's {
        let numbers = 0..self.0.len().max(other.0.len());
        let parts = numbers.map(|number| (number, self.part(number), other.part(number)));
        let parts = parts.filter(|(_, one, other)| !std::ptr::eq(*one, *other));
        parts.flat_map(|(number, one, other)| {
            let cluster = |part: &'s [Option<Arc<Cluster>>], place: usize| {
                part.get(place)?.as_ref().map(Arc::as_ptr)
            };
            let differs = move |place: &usize| cluster(one, *place) != cluster(other, *place);
            let id = move |place| u32::try_from(number * Self::PART + place).ok();
            let places = 0..one.len().max(other.len());
            places.filter(differs).filter_map(id).map(ClusterId)
        })
    }

    fn part(&self, number: usize) -> &[Option<Arc<Cluster>>] {
        self.0.get(number).map_or(&[], |part| part)
    }

    /// Whether they are the same in memory.
    pub fn are(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
impl Cluster {
    /// Of `ns/web:80`, without endpoints and by default in everything.
    pub(crate) fn bare(id: ClusterId) -> Self {
        use super::{BalancePolicy, DirectPolicy, RetryShare, UpstreamProtocol};
        Self {
            id,
            name: "ns/web:80".into(),
            namespace: "ns".into(),
            service: "web".into(),
            port: 80,
            balance: BalancePolicy::default(),
            retry_share: RetryShare::default(),
            own_policies: Vec::new(),
            upstream: UpstreamProtocol::AsReceived,
            direct: DirectPolicy::default(),
            failure_accrual: None,
            policies: None,
            endpoints: Vec::new(),
            left_out: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn cluster(id: usize) -> Arc<Cluster> {
        Arc::new(Cluster::bare(ClusterId(u32::try_from(id).unwrap())))
    }

    fn of(slots: &[Option<Arc<Cluster>>]) -> Clusters {
        Clusters::new(slots.chunks(Clusters::PART).map(Arc::from))
    }

    #[test]
    fn others_are_those_that_are_not_the_same_in_memory_and_those_of_one_alone() {
        let number = 2 * Clusters::PART + 10;
        let slots: Vec<_> = (0..number).map(|id| Some(cluster(id))).collect();
        let before = of(&slots);
        let other_than = |slots: &[_], count: usize| {
            let (now, before) = (of(slots), &before);
            let both = [
                now.other_than(before).collect(),
                before.other_than(&now).collect(),
            ];
            let [one, other]: [Vec<_>; 2] =
                both.map(|ids: Vec<ClusterId>| ids.into_iter().map(ClusterId::index).collect());
            assert_eq!((&one, one.len()), (&other, count));
            one
        };
        assert!(other_than(&slots, 0).is_empty());
        let mut changed = slots.clone();
        changed[Clusters::PART + 1] = Some(cluster(Clusters::PART + 1));
        changed[3] = None;
        assert_eq!(other_than(&changed, 2), [3, Clusters::PART + 1]);
        let fewer = other_than(&slots[..number - 1], 1);
        assert_eq!(fewer, [number - 1]);
        let part = other_than(&slots[..Clusters::PART], Clusters::PART + 10);
        assert_eq!(part.first(), Some(&Clusters::PART));
        assert_eq!(before.other_than(&before).count(), 0);
    }
}
