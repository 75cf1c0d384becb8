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

    /// Whether they are the same in memory.
    pub fn are(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
