//! Many objects in parts, so that a reading shares with the one before what did not change: what a
//! change of one object costs does not grow with the number of the others.

use std::sync::Arc;

use super::Located;

/// A part of the objects.
pub type Part = Arc<[Arc<Located>]>;

/// The objects of one reading, in parts. A part without a change is the same in memory from one
/// reading to the next, and stands at the same place.
#[derive(Clone, Debug, Default)]
pub struct Objects(Vec<Part>);

impl Objects {
    /// The objects of these parts.
    pub const fn new(parts: Vec<Part>) -> Self {
        Self(parts)
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Located>> {
        self.0.iter().flat_map(|part| part.iter())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|part| part.is_empty())
    }

    /// The objects of the parts that are not the same in `other`.
    pub fn not_shared_with<'s>(&'s self, other: &Self) -> Vec<&'s Arc<Located>> {
        let shared = |place: usize, part: &Part| {
            let same = |other: &Part| Arc::ptr_eq(part, other);
            other.0.get(place).is_some_and(same)
        };
        let parts = self.0.iter().enumerate();
        let parts = parts.filter(|(place, part)| !shared(*place, part));
        parts.flat_map(|(_, part)| part.iter()).collect()
    }
}

impl FromIterator<Arc<Located>> for Objects {
    /// All of them as one part.
    fn from_iter<I: IntoIterator<Item = Arc<Located>>>(objects: I) -> Self {
        Self(vec![objects.into_iter().collect()])
    }
}
