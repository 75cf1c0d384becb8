//! Bringing the `FRONTENDS` map to what the snapshot wants, with as few writes as there are
//! differences.

use std::collections::HashMap;
use std::sync::Arc;

use proxy_ebpf::{Direct, Frontend, FrontendKey, Verdict, bounds, map};

use super::Error;
use super::maps::Table;
use super::sets::{DirectMaps, DirectSet, Sets};

/// What is to become of connections to an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// Left alone.
    Pass,
    /// To the agent's listener.
    Proxy,
    /// To an endpoint of the set. Frontends that share a set share the `Arc`, and what did not
    /// change since the last time is the same `Arc` as then.
    Direct(Arc<DirectSet>),
}

/// What a reconciliation did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReconcileReport {
    /// New addresses.
    pub inserted: usize,
    /// Addresses with another verdict or another set than before.
    pub updated: usize,
    /// Addresses that are gone.
    pub removed: usize,
    /// Sets of endpoints that were written.
    pub sets: usize,
}

/// What this process has written.
#[derive(Debug)]
pub(super) struct Frontends {
    /// What `FRONTENDS` holds.
    current: HashMap<FrontendKey, Frontend>,
    pub(super) sets: Sets,
}

impl Frontends {
    /// Nothing yet.
    pub(super) fn new(maps: Arc<DirectMaps>) -> Self {
        Self {
            current: HashMap::new(),
            sets: Sets::new(maps),
        }
    }

    /// Makes the map equal to `wanted`.
    ///
    /// A set stands whole before the first frontend names it, and stays until no frontend does and
    /// no program can be reading it: each frontend changes in one write. Removals come first, for
    /// room. When a map is full the rest is applied all the same and the error is returned at the
    /// end; a frontend whose set does not fit is proxied.
    pub(super) fn reconcile(
        &mut self,
        map: &Table<FrontendKey, Frontend>,
        wanted: &HashMap<FrontendKey, Wanted>,
    ) -> Result<ReconcileReport, Error> {
        let mut report = ReconcileReport::default();
        let mut trouble = self.remove_gone(map, wanted, &mut report);
        for (key, wanted) in wanted {
            let value = match wanted {
                Wanted::Pass => Frontend::new(Verdict::Pass),
                Wanted::Proxy => Frontend::new(Verdict::Proxy),
                Wanted::Direct(set) => match self.direct(set, &mut report) {
                    Ok(value) => value,
                    Err(error) => {
                        trouble = Some(error);
                        Frontend::new(Verdict::Proxy)
                    }
                },
            };
            let before = self.current.get(key);
            if before == Some(&value) {
                continue;
            }
            let is_new = before.is_none();
            match map.set(key, &value) {
                Ok(()) if is_new => report.inserted += 1,
                Ok(()) => report.updated += 1,
                Err(error) => {
                    trouble = Some(error);
                    continue;
                }
            }
            self.current.insert(*key, value);
        }
        // A frontend that could not be written still names its former set.
        if trouble.is_none() {
            self.sets.retire_unused(wanted.values());
        }
        trouble.map_or(Ok(report), Err)
    }

    fn remove_gone(
        &mut self,
        map: &Table<FrontendKey, Frontend>,
        wanted: &HashMap<FrontendKey, Wanted>,
        report: &mut ReconcileReport,
    ) -> Option<Error> {
        let mut trouble = None;
        let gone = self.current.keys().filter(|key| !wanted.contains_key(*key));
        for key in gone.copied().collect::<Vec<_>>() {
            match map.remove(&key) {
                Ok(_) => {
                    self.current.remove(&key);
                    report.removed += 1;
                }
                Err(error) => trouble = Some(error),
            }
        }
        trouble
    }

    fn direct(
        &mut self,
        set: &Arc<DirectSet>,
        report: &mut ReconcileReport,
    ) -> Result<Frontend, Error> {
        let groups = set.group_count().ok_or(Error::MapFull {
            name: map::SHARES,
            max_entries: bounds::SHARES,
        })?;
        let (number, is_new) = self.sets.number(set)?;
        report.sets += usize::from(is_new);
        Ok(Frontend::new(Verdict::Direct(Direct {
            set: number,
            count: set.count(),
            choice: set.choice,
            affinity_s: set.affinity_s,
            groups,
        })))
    }
}
