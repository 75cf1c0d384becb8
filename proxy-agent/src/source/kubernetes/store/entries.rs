//! What is held of one kind, object by object, in shards that a set of objects shares with the one
//! before.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use crate::model::Problem;
use crate::objects::{Located, Part};
use crate::source::kubernetes::item::Key;

/// Shards of a kind. Of 10,000 objects one has 78: a change costs a look at these, and one at the
/// number of all shards.
const SHARDS: usize = 128;

/// One object.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its last good version.
    pub(super) located: Option<Arc<Located>>,
    /// What is wrong with the version that the server has.
    pub(super) problems: Vec<Problem>,
    /// The list that named it last.
    pub(super) round: u32,
}

/// Every object of a kind.
#[derive(Debug)]
pub(super) struct Entries(Vec<Shard>);

/// Those whose names come to one number.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: BTreeMap<Key, Entry>,
    made: OnceLock<Made>,
}

/// What a shard is in a set.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// The objects that have a good version.
    pub(super) objects: Part,
    /// What is wrong with any of them.
    pub(super) problems: Arc<[Problem]>,
}

impl Entries {
    /// None.
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Shard::default()).collect())
    }

    /// The shard that an object is in, or would be.
    pub(super) fn shard(&mut self, key: &Key) -> &mut Shard {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let number = hasher.finish() as usize % SHARDS;
        &mut self.0[number]
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.entries.len()).sum()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().flat_map(|shard| shard.entries.values())
    }

    /// Drops those that the list of a round did not name.
    pub(super) fn keep_round(&mut self, round: u32) {
        for shard in &mut self.0 {
            let before = shard.entries.len();
            shard.entries.retain(|_key, entry| entry.round == round);
            if shard.entries.len() != before {
                shard.changed();
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// What the shards are in a set, in an order that stays the same.
    pub(super) fn made(&self) -> impl Iterator<Item = &Made> {
        self.0.iter().map(Shard::made)
    }
}

impl Shard {
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    pub(super) fn insert(&mut self, key: Key, entry: Entry) {
        self.entries.insert(key, entry);
        self.changed();
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let removed = self.entries.remove(key);
        self.changed();
        removed
    }

    /// An entry is another than before.
    pub(super) fn changed(&mut self) {
        self.made.take();
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let entries = || self.entries.values();
            let problems = entries().flat_map(|entry| &entry.problems);
            Made {
                objects: entries()
                    .filter_map(|entry| entry.located.clone())
                    .collect(),
                problems: problems.cloned().collect(),
            }
        })
    }
}
