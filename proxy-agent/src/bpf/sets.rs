//! Sets of endpoints in the `SLOTS` map: written whole, never changed, removed when nobody reads
//! them any more; and what the programs keep about endpoints and pods beside them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_ebpf::{
    Affinity, AffinityKey, Choice, EndpointKey, EndpointState, MemberKey, Share, Slot, SlotKey, map,
};

use super::frontends::Wanted;
use super::maps::Table;
use super::shares::{DirectGroup, shares};
use super::{Error, now_ns};
use crate::status::MapStatus;

/// How long a set stays after the last frontend has let go of it. A program that has read the
/// frontend before then reads the set within a microsecond, or as soon as it has the processor again.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Endpoints that a direct frontend stands for, all of one address family.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DirectSet {
    /// Where connections may go; none: they are refused.
    pub endpoints: Vec<EndpointKey>,
    /// How one is chosen.
    pub choice: Choice,
    /// How long a pod stays with its endpoint, seconds; 0 for no affinity.
    pub affinity_s: u32,
    /// Groups with a share each, whose endpoints follow one another in `endpoints`; none: all
    /// endpoints are one. Those without a share are left out.
    pub groups: Vec<DirectGroup>,
}

impl DirectSet {
    /// How many endpoints there are.
    pub(super) fn count(&self) -> u32 {
        // The map has no room for more.
        u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX)
    }

    /// How many groups there are; `None` if they are more than a frontend can name.
    pub(super) fn group_count(&self) -> Option<u16> {
        u16::try_from(self.groups.len()).ok()
    }
}

/// What housekeeping removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// Pods whose affinity was over.
    pub affinities: usize,
    /// Endpoints that no set has and that have no connection.
    pub endpoints: usize,
}

/// The maps of direct connections.
#[derive(Debug)]
pub(super) struct DirectMaps {
    pub(super) slots: Table<SlotKey, Slot>,
    pub(super) shares: Table<SlotKey, Share>,
    pub(super) members: Table<MemberKey, u32>,
    pub(super) endpoints: Table<EndpointKey, EndpointState>,
    pub(super) affinity: Table<AffinityKey, Affinity>,
}

impl DirectMaps {
    /// Takes them out of a loaded object.
    pub(super) fn take(object: &mut aya::Ebpf) -> Result<Self, Error> {
        Ok(Self {
            slots: Table::take(object, map::SLOTS)?,
            shares: Table::take(object, map::SHARES)?,
            members: Table::take(object, map::MEMBERS)?,
            endpoints: Table::take(object, map::ENDPOINTS)?,
            affinity: Table::take(object, map::AFFINITY)?,
        })
    }

    /// What each holds.
    pub(super) fn statuses(&self) -> Result<[MapStatus; 5], Error> {
        Ok([
            self.slots.status()?,
            self.shares.status()?,
            self.members.status()?,
            self.endpoints.status()?,
            self.affinity.status()?,
        ])
    }

    /// Removes what is of no use any more; `live`: endpoints that a set has.
    pub(super) fn sweep(&self, live: &HashSet<EndpointKey>) -> Result<Swept, Error> {
        Ok(Swept {
            affinities: self.sweep_affinity()?,
            endpoints: self.sweep_endpoints(live)?,
        })
    }

    /// Forgets pods whose affinity is over.
    fn sweep_affinity(&self) -> Result<usize, Error> {
        let now_ns = now_ns();
        let mut swept = 0;
        for (key, affinity) in self.affinity.scan()? {
            // A connection of this moment may have renewed it; the pod then draws once more.
            if affinity.is_over(now_ns) && self.affinity.remove(&key)? {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Forgets endpoints that have no connection and are not in `live`.
    fn sweep_endpoints(&self, live: &HashSet<EndpointKey>) -> Result<usize, Error> {
        let mut swept = 0;
        for (key, state) in self.endpoints.scan()? {
            if state.open == 0 && !live.contains(&key) && self.endpoints.remove(&key)? {
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// Where sets are written.
pub(super) trait SetMaps {
    /// Writes a whole set under a number that nothing names yet.
    fn write(&self, number: u32, set: &DirectSet) -> Result<(), Error>;

    /// Removes a set, or what of it was written.
    fn erase(&self, number: u32, set: &DirectSet) -> Result<(), Error>;
}

impl SetMaps for DirectMaps {
    fn write(&self, number: u32, set: &DirectSet) -> Result<(), Error> {
        // Where the turn begins is another place each time: else every change would favour the
        // first endpoint.
        let begin = u64::from(number.wrapping_mul(2_654_435_761) % set.count().max(1));
        let slots: Vec<_> = (0..)
            .zip(&set.endpoints)
            .map(|(index, endpoint)| (SlotKey::new(number, index), Slot::new(*endpoint, begin)))
            .collect();
        self.slots.set_all(&slots)?;
        if !set.groups.is_empty() {
            let shares = (0..).zip(shares(&set.groups));
            let shares: Vec<_> = shares
                .map(|(index, share)| (SlotKey::new(number, index), share))
                .collect();
            self.shares.set_all(&shares)?;
        }
        if set.affinity_s > 0 {
            let members: Vec<_> = (0..)
                .zip(&set.endpoints)
                .map(|(index, endpoint)| (MemberKey::new(number, *endpoint), index))
                .collect();
            self.members.set_all(&members)?;
        }
        Ok(())
    }

    fn erase(&self, number: u32, set: &DirectSet) -> Result<(), Error> {
        for (index, endpoint) in (0..).zip(&set.endpoints) {
            self.slots.remove(&SlotKey::new(number, index))?;
            if set.affinity_s > 0 {
                self.members.remove(&MemberKey::new(number, *endpoint))?;
            }
        }
        for (index, _) in (0..).zip(&set.groups) {
            self.shares.remove(&SlotKey::new(number, index))?;
        }
        Ok(())
    }
}

/// A set that is in the map.
#[derive(Debug)]
struct Written {
    number: u32,
    /// Keeps its address in memory from being used again.
    set: Arc<DirectSet>,
    /// Frontends that name it.
    frontends: usize,
}

/// The sets that are in the map.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// By the address of the set in memory.
    written: HashMap<usize, Written>,
    /// Sets that no frontend names, and since when.
    retired: Vec<(Instant, u32, Arc<DirectSet>)>,
    last: u32,
}

impl Sets {
    /// The number of a set, and whether it was written just now.
    pub(super) fn number(
        &mut self,
        maps: &impl SetMaps,
        set: &Arc<DirectSet>,
    ) -> Result<(u32, bool), Error> {
        if let Some(written) = self.written.get(&address(set)) {
            return Ok((written.number, false));
        }
        self.last = self.last.wrapping_add(1);
        let number = self.last;
        if let Err(error) = maps.write(number, set) {
            maps.erase(number, set)?;
            return Err(error);
        }
        let written = Written {
            number,
            set: Arc::clone(set),
            frontends: 0,
        };
        self.written.insert(address(set), written);
        Ok((number, true))
    }

    /// One more frontend names a set.
    pub(super) fn name(&mut self, set: &Arc<DirectSet>) {
        if let Some(written) = self.written.get_mut(&address(set)) {
            written.frontends += 1;
        }
    }

    /// One frontend less names a set; the last one retires it.
    pub(super) fn let_go(&mut self, set: &Arc<DirectSet>) {
        let Entry::Occupied(mut written) = self.written.entry(address(set)) else {
            return;
        };
        let frontends = &mut written.get_mut().frontends;
        *frontends = frontends.saturating_sub(1);
        if *frontends == 0 {
            let written = written.remove();
            let retired = (Instant::now(), written.number, written.set);
            self.retired.push(retired);
        }
    }

    /// Retires sets that no frontend came to name, since it could not be written, unless they are
    /// among `wanted`: it is tried again.
    pub(super) fn retire_unwanted<'w>(&mut self, wanted: impl Iterator<Item = &'w Wanted>) {
        if self.written.values().all(|one| one.frontends > 0) {
            return;
        }
        let wanted = wanted.filter_map(|one| match one {
            Wanted::Direct(set) => Some(address(set)),
            Wanted::Pass | Wanted::Proxy => None,
        });
        let wanted: HashSet<usize> = wanted.collect();
        let unwanted = self
            .written
            .extract_if(|address, one| one.frontends == 0 && !wanted.contains(address));
        let now = Instant::now();
        let retired = unwanted.map(|(_, one)| (now, one.number, one.set));
        self.retired.extend(retired);
    }

    /// Removes the sets whose grace is over.
    pub(super) fn erase_retired(&mut self, maps: &impl SetMaps, now: Instant) {
        self.retired.retain(|(since, number, set)| {
            if now.saturating_duration_since(*since) < GRACE {
                return true;
            }
            let erased = maps.erase(*number, set);
            if let Err(error) = &erased {
                tracing::warn!(%error, "a former set of endpoints stays for now");
            }
            erased.is_err()
        });
    }

    /// The endpoints of all sets, also of those that a connection of this moment may still be choosing
    /// from.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = EndpointKey> {
        let sets = self.written.values().map(|one| &one.set);
        let sets = sets.chain(self.retired.iter().map(|(.., set)| set));
        sets.flat_map(|set| set.endpoints.iter().copied())
    }
}

fn address(set: &Arc<DirectSet>) -> usize {
    Arc::as_ptr(set).addr()
}
