//! Bringing the `FRONTENDS` map to what the snapshot wants, with as few writes as there are
//! differences, and with a look at those frontends alone that may differ.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use proxy_ebpf::{Direct, Frontend, FrontendKey, Verdict, bounds, map};

use super::Error;
use super::sets::{DirectSet, SetMaps, Sets};

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

/// Where frontends and their sets are written.
pub(super) trait FrontendMaps: SetMaps {
    /// Writes a frontend whole.
    fn set_frontend(&self, key: &FrontendKey, value: &Frontend) -> Result<(), Error>;

    /// Removes a frontend, if it is there.
    fn remove_frontend(&self, key: &FrontendKey) -> Result<(), Error>;
}

/// What `FRONTENDS` holds at an address.
#[derive(Debug)]
struct Written {
    value: Frontend,
    /// The set that it names.
    set: Option<Arc<DirectSet>>,
}

impl Written {
    const fn plain(verdict: Verdict) -> Self {
        Self {
            value: Frontend::new(verdict),
            set: None,
        }
    }
}

/// What this process has written.
#[derive(Debug, Default)]
pub(super) struct Frontends {
    current: HashMap<FrontendKey, Written>,
    pub(super) sets: Sets,
}

impl Frontends {
    /// Makes the map equal to `wanted`.
    ///
    /// A set stands whole before the first frontend names it, and stays until no frontend does and
    /// no program can be reading it: each frontend changes in one write. Removals come first, for
    /// room. When a map is full the rest is applied all the same and the error is returned at the
    /// end; a frontend whose set does not fit is proxied.
    pub(super) fn reconcile(
        &mut self,
        maps: &impl FrontendMaps,
        wanted: &HashMap<FrontendKey, Wanted>,
    ) -> Result<ReconcileReport, Error> {
        let mut report = ReconcileReport::default();
        let gone = self.remove_gone(maps, wanted, &mut report);
        self.sets.erase_retired(maps, Instant::now());
        let written = self.write(maps, wanted, &mut report);
        self.sets.retire_unwanted(wanted.values());
        written.or(gone).map_or(Ok(report), Err)
    }

    /// Makes the frontends of `wanted` equal to it, as [`Self::reconcile`] does, and looks at no
    /// other.
    pub(super) fn renew(
        &mut self,
        maps: &impl FrontendMaps,
        wanted: &HashMap<FrontendKey, Wanted>,
    ) -> Result<ReconcileReport, Error> {
        let mut report = ReconcileReport::default();
        self.sets.erase_retired(maps, Instant::now());
        let trouble = self.write(maps, wanted, &mut report);
        trouble.map_or(Ok(report), Err)
    }

    /// Writes what differs. Returns the last error met.
    fn write(
        &mut self,
        maps: &impl FrontendMaps,
        wanted: &HashMap<FrontendKey, Wanted>,
        report: &mut ReconcileReport,
    ) -> Option<Error> {
        let mut trouble = None;
        for (key, wanted) in wanted {
            let written = match wanted {
                Wanted::Pass => Written::plain(Verdict::Pass),
                Wanted::Proxy => Written::plain(Verdict::Proxy),
                Wanted::Direct(set) => match self.direct(maps, set, report) {
                    Ok(written) => written,
                    Err(error) => {
                        trouble = Some(error);
                        Written::plain(Verdict::Proxy)
                    }
                },
            };
            if let Err(error) = self.put(maps, key, written, report) {
                trouble = Some(error);
            }
        }
        trouble
    }

    /// Writes a frontend if it differs. One that cannot be written still names its former set.
    fn put(
        &mut self,
        maps: &impl FrontendMaps,
        key: &FrontendKey,
        written: Written,
        report: &mut ReconcileReport,
    ) -> Result<(), Error> {
        let before = self.current.get(key);
        if before.is_some_and(|before| before.value == written.value) {
            return Ok(());
        }
        maps.set_frontend(key, &written.value)?;
        if let Some(set) = &written.set {
            self.sets.name(set);
        }
        match self.current.insert(*key, written) {
            None => report.inserted += 1,
            Some(before) => {
                report.updated += 1;
                self.let_go(before);
            }
        }
        Ok(())
    }

    /// Removes what is not wanted. Returns the last error met.
    fn remove_gone(
        &mut self,
        maps: &impl FrontendMaps,
        wanted: &HashMap<FrontendKey, Wanted>,
        report: &mut ReconcileReport,
    ) -> Option<Error> {
        let mut trouble = None;
        let gone = self.current.keys().filter(|key| !wanted.contains_key(*key));
        for key in gone.copied().collect::<Vec<_>>() {
            if let Err(error) = maps.remove_frontend(&key) {
                trouble = Some(error);
                continue;
            }
            if let Some(before) = self.current.remove(&key) {
                self.let_go(before);
            }
            report.removed += 1;
        }
        trouble
    }

    fn let_go(&mut self, before: Written) {
        if let Some(set) = before.set {
            self.sets.let_go(&set);
        }
    }

    fn direct(
        &mut self,
        maps: &impl SetMaps,
        set: &Arc<DirectSet>,
        report: &mut ReconcileReport,
    ) -> Result<Written, Error> {
        let groups = set.group_count().ok_or(Error::MapFull {
            name: map::SHARES,
            max_entries: bounds::SHARES,
        })?;
        let (number, is_new) = self.sets.number(maps, set)?;
        report.sets += usize::from(is_new);
        let direct = Direct {
            set: number,
            count: set.count(),
            choice: set.choice,
            affinity_s: set.affinity_s,
            groups,
        };
        Ok(Written {
            value: Frontend::new(Verdict::Direct(direct)),
            set: Some(Arc::clone(set)),
        })
    }
}
