//! Numbers that one worker writes while others read.
//!
//! A recorder belongs to one worker, and a worker is one thread, so an increment is a relaxed load
//! and a relaxed store: no locked instruction and no cache line that two writers share. Writing to
//! one recorder from two threads loses counts (it is no data race). What is open now is told by
//! two counters that only grow, so a reader never sees a number between two writes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Reasons of local replies that are told apart; what comes beyond counts as `other`.
const REASON_SLOTS: usize = 32;

/// A number that only its own worker adds to.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts by reason: slots are taken in the order in which the reasons first occur.
#[derive(Debug, Default)]
pub(super) struct Reasons([(OnceLock<&'static str>, Counter); REASON_SLOTS]);

impl Reasons {
    pub(super) fn count(&self, reason: &'static str) {
        let (last, slots) = match self.0.split_last() {
            Some((last, slots)) => (last, slots),
            None => return,
        };
        for (name, counter) in slots {
            if *name.get_or_init(|| reason) == reason {
                return counter.add(1);
            }
        }
        last.0.get_or_init(|| "other");
        last.1.add(1);
    }

    pub(super) fn add_to(&self, totals: &mut BTreeMap<&'static str, u64>) {
        for (name, counter) in &self.0 {
            if let Some(name) = name.get() {
                *totals.entry(name).or_default() += counter.value();
            }
        }
    }
}

/// What one recorder, or several of one name, have counted.
pub(super) trait Recorder: Debug + Default {
    /// The sum of recorders.
    type Totals: Clone + Debug + Default;

    /// Adds this recorder's counts.
    fn add_to(&self, totals: &mut Self::Totals);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let counted = Reasons::default();
        for n in 0..100 {
            counted.count(Box::leak(format!("reason_{n}").into_boxed_str()));
        }
        counted.count("reason_0");
        let mut reasons = BTreeMap::new();
        counted.add_to(&mut reasons);
        assert_eq!(reasons.len(), REASON_SLOTS);
        assert_eq!(reasons["reason_0"], 2);
        assert_eq!(reasons["other"], 100 - (REASON_SLOTS as u64 - 1));
    }
}
