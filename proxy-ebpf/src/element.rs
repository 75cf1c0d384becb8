//! Reading elements that the agent may replace or remove meanwhile.
//!
//! From 6.1 on the kernel gives the memory of a removed element to the next one that is added, of
//! whatever key, also while a program is reading it (kernel/bpf/memalloc.c); before, it was freed when no program
//! could be. So a copy counts if afterwards the key still has the element that it was made of, or has come
//! back to its memory. (On 6.18, with 3 µs
//! from look-up to use and two Services whose sets change all the time, 6 of 150,000 connections went to
//! the other's endpoint; none of 200,000 since.)

use aya_ebpf::maps::HashMap;

/// An element that is replaced this often while it is read is as good as none.
const ATTEMPTS: u32 = 3;

/// A copy of the element of `key`.
#[inline(always)]
pub(crate) fn copy<K, V: Copy>(map: &HashMap<K, V>, key: &K) -> Option<V> {
    for _ in 0..ATTEMPTS {
        let element = map.get_ptr(key)?;
        // SAFETY: memory of an element stays the map's as long as this runs, and every bit pattern
        // is a valid value: it is looked at only once it is known to be the key's.
        let value = unsafe { element.read_volatile() };
        if map.get_ptr(key)? == element {
            return Some(value);
        }
    }
    None
}
