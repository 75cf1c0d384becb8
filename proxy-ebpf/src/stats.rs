//! Counting outcomes.

use proxy_ebpf::Stat;

use crate::maps::STATS;

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(stat: Stat) {
    add(stat, 1);
}

/// Adds to a counter of this CPU.
#[inline(always)]
pub(crate) fn add(stat: Stat, amount: u64) {
    if let Some(counter) = STATS.get_ptr_mut(stat as u32) {
        // SAFETY: the map lookup returned this CPU's slot, which lives as long as the map, and
        // these programs do not migrate while they run.
        unsafe { *counter += amount };
    }
}
