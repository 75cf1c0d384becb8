//! What the API server is known to hold, kind by kind, and the set of objects that it comes to.
//!
//! An object that is as it was keeps its `Arc` from one set to the next: compilation goes by that.

mod entries;

use std::sync::Arc;
use std::time::SystemTime;

use self::entries::{Entries, Entry};
use super::item::{Item, Key};
use super::kinds::{Follow, KINDS, Kind, may_select_pods, selects_pods};
use super::served::Lost;
use crate::model::Place;
use crate::objects::{KindPhase, KindState, ObjectSet, Objects, Origin};

/// Name of the source, and of every object's place.
const SOURCE: &str = "kubernetes";

/// Failures after which a kind that need not be there is no longer waited for at the start: its
/// definition may name a conversion that does not work.
const WAITED_FOR: u32 = 3;

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Store {
    place: Place,
    kinds: Vec<Held>,
    lost: Option<Lost>,
    synced: bool,
    changed: SystemTime,
}

/// What is held of one kind.
#[derive(Debug)]
struct Held {
    kind: &'static Kind,
    group: Arc<str>,
    name: Arc<str>,
    state: KindState,
    /// Whether it has been listed in full: before, its objects are not in force.
    listed: bool,
    failures: u32,
    /// What a list is another attempt after, and since when that was so.
    attempt_after: Option<(KindPhase, SystemTime)>,
    /// Counts lists: what the last one did not name is gone.
    round: u32,
    entries: Entries,
}

impl Store {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        let held = |kind: &'static Kind| Held {
            kind,
            group: kind.group.into(),
            name: kind.kind.into(),
            state: KindState {
                kind: kind.title().into(),
                phase: KindPhase::Syncing,
                version: "",
                objects: 0,
                since: SystemTime::now(),
                detail: String::new(),
            },
            listed: false,
            failures: 0,
            attempt_after: None,
            round: 0,
            entries: Entries::new(),
        };
        Self {
            place: Place {
                source: SOURCE.into(),
                line: 0,
            },
            kinds: KINDS.iter().map(held).collect(),
            lost: None,
            synced: false,
            changed: SystemTime::now(),
        }
    }

    /// Where its objects are said to be from.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// What is known of the server. Returns whether that is news.
    pub(super) fn set_contact(&mut self, lost: Option<Lost>) -> bool {
        let news = self.lost != lost;
        self.lost = lost;
        news
    }

    /// What is known of a kind. Returns whether that is news.
    pub(super) fn set_phase(
        &mut self,
        place: usize,
        phase: KindPhase,
        version: &'static str,
        detail: String,
    ) -> bool {
        let Some(held) = self.kinds.get_mut(place) else {
            return false;
        };
        if phase == KindPhase::Lost {
            held.failures += 1;
        }
        let state = &mut held.state;
        let news = state.phase != phase || state.version != version || state.detail != detail;
        if state.phase != phase {
            let before = (state.phase, state.since);
            // An attempt that ends where it began has changed nothing.
            let same = held.attempt_after.take().filter(|(of, _)| *of == phase);
            state.since = same.map_or_else(SystemTime::now, |(_, since)| since);
            if phase == KindPhase::Syncing {
                held.attempt_after = Some(before);
            }
            tracing::debug!(kind = &*state.kind, version, detail, "now {}", phase.name());
        }
        (state.phase, state.version, state.detail) = (phase, version, detail);
        self.settle();
        news
    }

    /// A list begins.
    pub(super) fn begin_list(&mut self, place: usize) {
        if let Some(held) = self.kinds.get_mut(place) {
            held.round += 1;
        }
    }

    /// The list is complete. Returns whether objects are gone or come into force.
    pub(super) fn end_list(&mut self, place: usize) -> bool {
        let Some(held) = self.kinds.get_mut(place) else {
            return false;
        };
        let (before, round) = (held.entries.len(), held.round);
        held.entries.keep_round(round);
        held.failures = 0;
        let first = !std::mem::replace(&mut held.listed, true);
        // Changes of a list are not told one by one.
        let news = first || before != held.entries.len();
        self.stamp();
        self.settle();
        news
    }

    /// An object as the server has it. Returns whether anything in force changes.
    pub(super) fn put(&mut self, place: usize, item: Item) -> bool {
        let Some(held) = self.kinds.get_mut(place) else {
            return false;
        };
        let news = held.put(item);
        if news {
            self.stamp();
        }
        news
    }

    /// An object is gone. Returns whether it was known.
    pub(super) fn remove(&mut self, place: usize, key: &Key) -> bool {
        let held = self.kinds.get_mut(place);
        let removed = held.and_then(|held| held.entries.shard(key).remove(key));
        let known = removed.is_some();
        if known {
            self.stamp();
        }
        known
    }

    /// The kind is gone with all of its objects. Returns whether there were any.
    pub(super) fn clear(&mut self, place: usize) -> bool {
        let Some(held) = self.kinds.get_mut(place) else {
            return false;
        };
        let any = held.entries.len() > 0;
        held.entries.clear();
        held.listed = false;
        if any {
            self.stamp();
        }
        any
    }

    /// Whether there are objects that select pods of the whole cluster.
    pub(super) fn selects_pods(&self) -> bool {
        let kinds = self.kinds.iter().filter(|held| may_select_pods(held.kind));
        let entries = kinds.flat_map(|held| held.entries.values());
        let mut located = entries.filter_map(|entry| entry.located.as_ref());
        located.any(|located| selects_pods(&located.object))
    }

    /// The set of everything in force.
    pub(super) fn set(&self) -> ObjectSet {
        let mut set = ObjectSet::unsynced(Arc::clone(&self.place.source), Origin::Cluster);
        set.synced = self.synced;
        set.trouble = self.trouble();
        set.changed = self.changed;
        set.kinds = self.kinds.iter().filter_map(Held::state).collect();
        if !self.synced {
            return set;
        }
        let mut parts = Vec::new();
        for held in self.kinds.iter().filter(|held| held.listed) {
            for shard in held.entries.made() {
                parts.push(Arc::clone(&shard.objects));
                set.problems.extend(shard.problems.iter().cloned());
            }
        }
        set.objects = Objects::new(parts);
        set
    }

    fn stamp(&mut self) {
        self.changed = SystemTime::now();
    }

    /// Once everything that is there has been listed, the store counts as synced for ever.
    fn settle(&mut self) {
        let selects_pods = self.selects_pods();
        self.synced = self.synced || self.kinds.iter().all(|held| held.is_settled(selects_pods));
    }

    fn trouble(&self) -> String {
        if let Some(lost) = &self.lost {
            return format!("{lost}; what was read last stays in force");
        }
        let needed = |held: &&Held| {
            held.kind.follow == Follow::Always && held.state.phase == KindPhase::Forbidden
        };
        let forbidden: Vec<_> = self
            .kinds
            .iter()
            .filter(needed)
            .map(|held| &*held.state.detail)
            .collect();
        forbidden.join("; ")
    }
}

impl Held {
    fn put(&mut self, item: Item) -> bool {
        let Item { key, problems, .. } = item;
        let found = item.located.map(|mut located| {
            located.id.group = Arc::clone(&self.group);
            located.id.kind = Arc::clone(&self.name);
            located
        });
        let round = self.round;
        let shard = self.entries.shard(&key);
        let Some(entry) = shard.get_mut(&key) else {
            let located = found.map(|mut located| {
                if !key.0.is_empty() {
                    located.id.namespace = Arc::clone(&key.0);
                }
                located.id.name = Arc::clone(&key.1);
                Arc::new(located)
            });
            shard.insert(
                key,
                Entry {
                    located,
                    problems,
                    round,
                },
            );
            return true;
        };
        entry.round = round;
        let mut news = entry.problems != problems;
        entry.problems = problems;
        if let Some(mut found) = found
            && entry.located.as_deref() != Some(&found)
        {
            if let Some(before) = &entry.located {
                found.id = before.id.clone();
            }
            entry.located = Some(Arc::new(found));
            news = true;
        }
        if news {
            shard.changed();
        }
        news
    }

    /// Whether the first sync need not wait for it.
    fn is_settled(&self, pods_are_selected: bool) -> bool {
        self.listed
            || match self.kind.follow {
                Follow::Always => false,
                Follow::WhenPodsAreSelected => !pods_are_selected,
                Follow::WhenAllowed | Follow::WhenServed => {
                    matches!(self.state.phase, KindPhase::Absent | KindPhase::Forbidden)
                        || self.failures >= WAITED_FOR
                }
            }
    }

    /// `None` for what nobody asks for.
    fn state(&self) -> Option<KindState> {
        let unasked = self.kind.follow == Follow::WhenPodsAreSelected
            && self.state.phase == KindPhase::Absent;
        let objects = if self.listed { self.entries.len() } else { 0 };
        (!unasked).then(|| KindState {
            objects,
            ..self.state.clone()
        })
    }
}

#[cfg(test)]
mod tests;
