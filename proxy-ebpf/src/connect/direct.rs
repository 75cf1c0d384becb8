//! The endpoint of a direct connection: which of a set, and whether the pod has one already.
//!
//! Everything here costs the connecting application its time: a few lookups, no loop.

use core::num::NonZeroU32;
use core::ptr::NonNull;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use proxy_ebpf::{
    Affinity, AffinityKey, Choice, EndpointKey, Frontend, Group, MemberKey, SlotKey, Stat,
};

use super::check::Asked;
use super::skip::Skip;
use crate::maps::{AFFINITY, ENDPOINTS, MEMBERS, SHARES, SLOTS};
use crate::{atomic, stats};

/// The endpoint of a new connection of the pod. It is answered as it stands in a map: a copy of each
/// that is looked at would be too much for the stack.
#[inline(always)]
pub(super) fn choose(
    netns_cookie: u64,
    asked: &Asked,
    frontend: &Frontend,
    now_ns: u64,
) -> Result<&'static EndpointKey, Skip> {
    if frontend.affinity_s() == 0 {
        return draw(frontend);
    }
    let key = AffinityKey::new(netns_cookie, asked.frontend());
    if let Some(kept) = kept(&key, frontend, now_ns) {
        return Ok(kept);
    }
    let endpoint = draw(frontend)?;
    let affinity = Affinity::new(*endpoint, frontend.affinity_s(), now_ns);
    if AFFINITY.insert(key, affinity, BPF_ANY.into()).is_err() {
        stats::count(Stat::AffinityFull);
    }
    Ok(endpoint)
}

/// The endpoint that the pod is to stay with, as long as the set has it.
#[inline(always)]
fn kept(key: &AffinityKey, frontend: &Frontend, now_ns: u64) -> Option<&'static EndpointKey> {
    let affinity = AFFINITY.get_ptr_mut(key)?;
    // SAFETY: its fields are integers, of which the last writer's stays. It may become another key's
    // while this runs: an endpoint that the set does not have is not taken, and to renew another
    // pod's affinity does no harm.
    let affinity = unsafe { affinity.as_mut() }?;
    if affinity.is_over(now_ns) {
        return None;
    }
    let member = MemberKey::new(frontend.set(), *affinity.endpoint());
    // SAFETY: as for slots, below.
    let index = unsafe { MEMBERS.get(member) }?;
    affinity.renew(frontend.affinity_s(), now_ns);
    slot(frontend.set(), *index).ok()
}

#[inline(always)]
fn draw(frontend: &Frontend) -> Result<&'static EndpointKey, Skip> {
    let set = frontend.set();
    let whole = Group::new(0, frontend.count(), frontend.choice());
    let group = match NonZeroU32::new(frontend.groups()) {
        None => &whole,
        Some(groups) => group(set, groups)?,
    };
    let (begin, choice) = (group.begin(), group.choice());
    let count = NonZeroU32::new(group.count()).ok_or(Skip::NoEndpoint)?;
    match choice {
        Choice::LeastConnections => less_busy(set, begin, count),
        Choice::RoundRobin => next(set, begin, count),
        Choice::Random => slot(set, begin + random_below(count.get())),
    }
}

/// A group of the set, each as often as its weight says.
#[inline(always)]
fn group(set: u32, groups: NonZeroU32) -> Result<&'static Group, Skip> {
    let place = SlotKey::new(set, random_below(groups.get()));
    // SAFETY: as for slots, below.
    let share = unsafe { SHARES.get(place) }.ok_or(Skip::SetGone)?;
    // SAFETY: the helper takes no argument.
    Ok(share.drawn(unsafe { bpf_get_prandom_u32() }))
}

/// The one of two that has fewer connections (Mitzenmacher, "The Power of Two Choices in
/// Randomized Load Balancing", 2001); of equals the one that was drawn first.
#[inline(always)]
fn less_busy(set: u32, begin: u32, count: NonZeroU32) -> Result<&'static EndpointKey, Skip> {
    let first = random_below(count.get());
    let one = slot(set, begin + first)?;
    if count.get() == 1 {
        return Ok(one);
    }
    // One of the others.
    let mut second = random_below(count.get() - 1);
    if second >= first {
        second += 1;
    }
    let other = slot(set, begin + second)?;
    Ok(if open(other) < open(one) { other } else { one })
}

/// Connections that are open; 0 of an endpoint that has had none yet.
#[inline(always)]
fn open(endpoint: &EndpointKey) -> u64 {
    // SAFETY: an aligned integer, which others add to atomically; another endpoint's is a worse choice
    // and no fault.
    unsafe { ENDPOINTS.get(endpoint) }.map_or(0, |state| state.open)
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "as many turns as fit: the upper half of the cursor is never looked at"
)]
fn next(set: u32, begin: u32, count: NonZeroU32) -> Result<&'static EndpointKey, Skip> {
    let first = SLOTS.get_ptr_mut(SlotKey::new(set, begin));
    // SAFETY: as for slots, below; the cursor is added to atomically.
    let first = unsafe { first.ok_or(Skip::SetGone)?.as_mut() }.ok_or(Skip::SetGone)?;
    let turn = atomic::fetch_add(NonNull::from(first.cursor_mut()), 1);
    slot(set, begin + turn as u32 % count)
}

#[inline(always)]
fn slot(set: u32, index: u32) -> Result<&'static EndpointKey, Skip> {
    // SAFETY: what a set has never changes, and is removed a second after the last frontend that
    // names it: nobody reads it any more.
    let slot = unsafe { SLOTS.get(SlotKey::new(set, index)) };
    Ok(slot.ok_or(Skip::SetGone)?.endpoint())
}

/// A random number below `bound` (Lemire, "Fast Random Integer Generation in an Interval", 2019,
/// without its rejection: the bias is below `bound` / 2³²).
#[inline(always)]
fn random_below(bound: u32) -> u32 {
    // SAFETY: the helper takes no argument.
    let random = unsafe { bpf_get_prandom_u32() };
    let scaled = u64::from(random) * u64::from(bound);
    (scaled >> 32) as u32
}
