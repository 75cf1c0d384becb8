//! Ids of clusters that stay with their name.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::model::ClusterId;

/// Freed ids that wait before the first of them is given to another name: a worker that skips
/// snapshots must not take a new cluster for the old one. A bound on churn between two looks.
const QUARANTINE: usize = 1_024;

/// Gives ids by name.
#[derive(Debug, Default)]
pub(super) struct ClusterIds {
    by_name: HashMap<Arc<str>, ClusterId>,
    freed: VecDeque<ClusterId>,
    next: u32,
}

impl ClusterIds {
    /// The id of `name`, the same as before if it has one.
    pub(super) fn id(&mut self, name: &Arc<str>) -> ClusterId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let reused = if self.freed.len() > QUARANTINE {
            self.freed.pop_front()
        } else {
            None
        };
        let id = reused.unwrap_or_else(|| {
            let id = ClusterId(self.next);
            self.next += 1;
            id
        });
        self.by_name.insert(Arc::clone(name), id);
        id
    }

    /// Frees the ids of names that are gone.
    pub(super) fn free<'n>(&mut self, names: impl IntoIterator<Item = &'n Arc<str>>) {
        let freed = names
            .into_iter()
            .filter_map(|name| self.by_name.remove(name));
        self.freed.extend(freed);
    }

    /// Every name that has an id.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_with_its_name_and_is_not_reused_at_once() {
        let mut ids = ClusterIds::default();
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let (first, second) = (ids.id(&a), ids.id(&b));
        assert_ne!(first, second);
        ids.free([&a]);
        assert_eq!(ids.id(&b), second);
        assert_ne!(ids.id(&a), first, "freed a moment ago");
    }

    #[test]
    fn churn_does_not_grow_the_table_without_end() {
        let mut ids = ClusterIds::default();
        let highest = (0..10_000).map(|n| {
            let name = Arc::from(format!("{n}"));
            let id = ids.id(&name);
            ids.free([&name]);
            id.index()
        });
        assert!(highest.max() < Some(2 * QUARANTINE));
    }
}
