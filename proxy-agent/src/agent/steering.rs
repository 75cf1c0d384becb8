//! From the snapshot to what the connect hooks are to do with each Service address, and which
//! endpoints a direct one stands for.
//!
//! What did not change from one snapshot to the next is not looked at again, nor written: where
//! endpoints alone change, that costs as much as the sets that they are in.

mod gone;
mod health;
mod made;
mod sets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use proxy_ebpf::{FrontendKey, Stat};

use crate::bpf::{Error, Kernel, ReconcileReport, Wanted};
use crate::model::{Listener, ListenerVerdict, Snapshot};
use crate::outlier;

use self::health::Health;
use self::made::{Family, Made, Parts};
use self::sets::{Key, Sets, is_direct};

pub(super) use self::gone::{Gone, Told, close_stale};
pub(super) use self::health::Ejections;

/// Who is told what is to become of connections to Service addresses.
pub(super) trait Frontends {
    /// Takes all of them.
    ///
    /// # Errors
    ///
    /// Not all of it was taken: call again.
    fn reconcile(&self, all: &HashMap<FrontendKey, Wanted>) -> Result<ReconcileReport, Error>;

    /// Takes some, and leaves the others as they are.
    ///
    /// # Errors
    ///
    /// Not all of it was taken: reconcile.
    fn renew(&self, some: &HashMap<FrontendKey, Wanted>) -> Result<ReconcileReport, Error>;
}

impl Frontends for Kernel {
    fn reconcile(&self, all: &HashMap<FrontendKey, Wanted>) -> Result<ReconcileReport, Error> {
        self.reconcile_frontends(all)
    }

    fn renew(&self, some: &HashMap<FrontendKey, Wanted>) -> Result<ReconcileReport, Error> {
        self.renew_frontends(some)
    }
}

/// What the kernel was told last.
#[derive(Debug)]
pub(super) struct Steering {
    snapshot: Arc<Snapshot>,
    sets: Sets,
    health: Health,
    /// When health was looked at last.
    looked: Instant,
    /// Failed connections up to then.
    failed_total: u64,
    /// The kernel took all of it.
    settled: bool,
    gone: Gone,
}

impl Steering {
    /// Nothing yet. Endpoints that go are told to `gone`.
    pub(super) fn new(gone: Gone) -> Self {
        Self {
            snapshot: Arc::new(Snapshot::empty()),
            sets: Sets::default(),
            health: Health::default(),
            looked: Instant::now(),
            failed_total: 0,
            settled: false,
            gone,
        }
    }

    /// Whether the kernel took all of what it was told.
    pub(super) const fn is_settled(&self) -> bool {
        self.settled
    }

    /// Endpoints that are left out.
    pub(super) fn ejections(&self) -> Ejections {
        self.health.ejections.clone()
    }

    /// Brings the kernel in line with a snapshot.
    ///
    /// # Errors
    ///
    /// The kernel did not take all of it: call again.
    pub(super) fn apply(
        &mut self,
        snapshot: &Arc<Snapshot>,
        kernel: &impl Frontends,
    ) -> Result<ReconcileReport, Error> {
        let known = same_frontends(&self.snapshot.listeners, &snapshot.listeners);
        let touched = self.take_over(snapshot);
        let changed = self.make_sets(touched, Instant::now(), false);
        if known {
            return self.renew(&changed, kernel);
        }
        self.reconcile(kernel)
    }

    /// Looks at the connections that have failed since the last time, and at endpoints whose
    /// ejection is over.
    ///
    /// # Errors
    ///
    /// As [`Self::apply`].
    pub(super) fn look(&mut self, kernel: &Kernel) -> Result<ReconcileReport, Error> {
        let now = Instant::now();
        let failed_total = kernel.stat(Stat::DirectFailed)?;
        let failing = match failed_total == self.failed_total {
            true => HashMap::new(),
            false => kernel.failing(outlier::CONSECUTIVE)?,
        };
        // The kernel has said all: another look begins here.
        self.failed_total = failed_total;
        let since = std::mem::replace(&mut self.looked, now);
        let mut changed = self.health.returned(since, now);
        if !failing.is_empty() {
            // One cluster may be a part of several sets, and is looked at once.
            let clusters = self.sets.clusters().map(|cluster| (cluster.id, cluster));
            let clusters: HashMap<_, _> = clusters.collect();
            changed |= self.health.observe(&failing, clusters.into_values(), now);
        }
        if !changed {
            return Ok(ReconcileReport::default());
        }
        let touched = self.sets.touched(self.health.clusters());
        let changed = self.make_sets(touched, now, true);
        self.renew(&changed, kernel)
    }

    /// Tells the kernel of the sets that are others than it was told, and of all else only if it has
    /// not taken that.
    fn renew(
        &mut self,
        changed: &[Key],
        kernel: &impl Frontends,
    ) -> Result<ReconcileReport, Error> {
        if !self.settled {
            return self.reconcile(kernel);
        }
        if changed.is_empty() {
            return Ok(ReconcileReport::default());
        }
        self.settled = false;
        let report = kernel.renew(&self.wanted_of(changed))?;
        self.settled = true;
        Ok(report)
    }

    fn reconcile(&mut self, kernel: &impl Frontends) -> Result<ReconcileReport, Error> {
        self.settled = false;
        let report = kernel.reconcile(&self.wanted())?;
        self.settled = true;
        Ok(report)
    }

    /// Takes over a snapshot. Returns the sets that may be others than with the one before.
    fn take_over(&mut self, snapshot: &Arc<Snapshot>) -> BTreeSet<Key> {
        let former = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        if !Arc::ptr_eq(&former.listeners, &snapshot.listeners) {
            self.sets.need(snapshot);
            return self.sets.all();
        }
        let clusters = snapshot.clusters.other_than(&former.clusters);
        self.sets.touched(clusters)
    }

    /// Makes those of `sets` that are others than before; `health`: endpoints are used again, or are
    /// not. Returns those that are another set now, or none.
    fn make_sets(&mut self, sets: BTreeSet<Key>, now: Instant, health: bool) -> Vec<Key> {
        let mut changed = Vec::new();
        for key in sets {
            if !self.make_set(key, now, health) {
                changed.push(key);
            }
        }
        self.health.settle(|id| self.sets.cluster(id), now);
        changed
    }

    /// Returns whether the set is as it was.
    fn make_set(&mut self, key: Key, now: Instant, health: bool) -> bool {
        let Some(needed) = self.sets.needed(key) else {
            return true;
        };
        let listener = &needed.listener;
        let Some(parts) = Parts::of(listener, &self.snapshot) else {
            return needed.made.take().is_none();
        };
        let Some(former) = &mut needed.made else {
            let set = Arc::new(parts.set(key.1, &self.health, now));
            needed.made = Some(Made { parts, set });
            return false;
        };
        if former.parts.are(&parts) && !health {
            return true;
        }
        self.gone
            .compare(listener, &former.parts, &parts, &self.snapshot);
        let set = parts.set(key.1, &self.health, now);
        former.parts = parts;
        let same = *former.set == set;
        if !same {
            former.set = Arc::new(set);
        }
        same
    }

    /// Every address, with what is to become of connections to it.
    fn wanted(&self) -> HashMap<FrontendKey, Wanted> {
        let all = self.snapshot.listeners.iter();
        let passed = all.filter(|one| matches!(one.verdict, ListenerVerdict::Pass(_)));
        let passed = passed.flat_map(|one| &one.addresses);
        let passed = passed.map(|address| (address, Wanted::Pass));
        // Of two Services with one address one has it, for the workers and here.
        let steered = self.snapshot.by_address.iter();
        let steered = steered.map(|(address, owner)| (address, self.steered(address, owner)));
        let key = FrontendKey::from_socket_addr;
        passed
            .chain(steered)
            .map(|(address, wanted)| (key(*address), wanted))
            .collect()
    }

    /// The addresses whose sets these are, with what is to become of connections to them.
    fn wanted_of(&self, sets: &[Key]) -> HashMap<FrontendKey, Wanted> {
        let addresses = sets.iter().flat_map(|key| {
            let wanted = self.direct(*key);
            let addresses = self.sets.addresses(*key).iter();
            addresses.map(move |address| (address, wanted.clone()))
        });
        let key = FrontendKey::from_socket_addr;
        addresses
            .map(|(address, wanted)| (key(*address), wanted))
            .collect()
    }

    fn steered(&self, address: &SocketAddr, owner: &Listener) -> Wanted {
        if !is_direct(owner) {
            return Wanted::Proxy;
        }
        self.direct((owner.cluster, Family::of(address)))
    }

    fn direct(&self, key: Key) -> Wanted {
        let made = self.sets.made(key);
        made.map_or(Wanted::Proxy, |made| Wanted::Direct(Arc::clone(&made.set)))
    }
}

/// Whether the hooks have the same to do for both: routes alone make no difference to them.
fn same_frontends(known: &Arc<[Arc<Listener>]>, wanted: &Arc<[Arc<Listener>]>) -> bool {
    let essence = |one: &Listener| (kind(one), one.cluster);
    let same = |(one, other): (&Arc<Listener>, &Arc<Listener>)| {
        Arc::ptr_eq(one, other)
            || (essence(one), &one.addresses) == (essence(other), &other.addresses)
    };
    let all_same = || known.len() == wanted.len() && known.iter().zip(&**wanted).all(same);
    Arc::ptr_eq(known, wanted) || all_same()
}

/// What the hooks make of a verdict.
const fn kind(listener: &Listener) -> u8 {
    match listener.verdict {
        ListenerVerdict::Pass(_) => 0,
        ListenerVerdict::Proxy(_) => 1,
        ListenerVerdict::Direct => 2,
    }
}
