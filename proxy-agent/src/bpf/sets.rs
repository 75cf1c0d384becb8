//! Sets of endpoints in the `SLOTS` map: written whole, never changed, removed when nobody reads
//! them any more; and what the programs keep about endpoints and pods beside them.

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
/// frontend before then takes a microsecond to read the set; it is not preempted meanwhile.
const GRACE: Duration = Duration::from_secs(1);

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

    /// Writes a whole set under a number that nothing names yet.
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
            let member = |endpoint: &EndpointKey| (MemberKey::new(number, *endpoint), 1);
            let members: Vec<_> = set.endpoints.iter().map(member).collect();
            self.members.set_all(&members)?;
        }
        Ok(())
    }

    /// Removes a set, or what of it was written.
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

/// The sets that are in the map.
#[derive(Debug)]
pub(super) struct Sets {
    maps: Arc<DirectMaps>,
    /// By the address of the set in memory, which the `Arc` here keeps from being used again.
    written: HashMap<usize, (u32, Arc<DirectSet>)>,
    /// Sets that no frontend names, and since when.
    retired: Vec<(Instant, u32, Arc<DirectSet>)>,
    last: u32,
}

impl Sets {
    pub(super) fn new(maps: Arc<DirectMaps>) -> Self {
        Self {
            maps,
            written: HashMap::new(),
            retired: Vec::new(),
            last: 0,
        }
    }

    /// The number of a set, and whether it was written just now.
    pub(super) fn number(&mut self, set: &Arc<DirectSet>) -> Result<(u32, bool), Error> {
        let address = Arc::as_ptr(set).addr();
        if let Some((number, _)) = self.written.get(&address) {
            return Ok((*number, false));
        }
        self.last = self.last.wrapping_add(1);
        let number = self.last;
        if let Err(error) = self.maps.write(number, set) {
            self.maps.erase(number, set)?;
            return Err(error);
        }
        self.written.insert(address, (number, Arc::clone(set)));
        Ok((number, true))
    }

    /// Retires the sets that none of `wanted` names, and removes those that were long enough.
    pub(super) fn retire_unused<'w>(&mut self, wanted: impl Iterator<Item = &'w Wanted>) {
        let used = wanted.filter_map(|one| match one {
            Wanted::Direct(set) => Some(Arc::as_ptr(set).addr()),
            Wanted::Pass | Wanted::Proxy => None,
        });
        let used: HashSet<usize> = used.collect();
        let now = Instant::now();
        let unused = self
            .written
            .extract_if(|address, _| !used.contains(address));
        let unused = unused.map(|(_, (number, set))| (now, number, set));
        self.retired.extend(unused);
        self.erase_retired();
    }

    /// Removes the sets whose grace is over.
    fn erase_retired(&mut self) {
        let maps = &self.maps;
        self.retired.retain(|(since, number, set)| {
            if since.elapsed() < GRACE {
                return true;
            }
            let erased = maps.erase(*number, set);
            if let Err(error) = &erased {
                tracing::warn!(%error, "a former set of endpoints stays for now");
            }
            erased.is_err()
        });
    }

    /// Removes what is of no use any more.
    pub(super) fn sweep(&mut self) -> Result<Swept, Error> {
        self.erase_retired();
        let sets = self.written.values();
        let live = sets.flat_map(|(_, set)| set.endpoints.iter().copied());
        Ok(Swept {
            affinities: self.maps.sweep_affinity()?,
            endpoints: self.maps.sweep_endpoints(&live.collect())?,
        })
    }
}
