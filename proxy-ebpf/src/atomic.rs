//! Changing what other CPUs change. The one place with instructions of the target's own: its
//! `core` has no atomic operations beyond loads and stores.

use core::ptr::NonNull;

/// Adds to an integer in a map; `u64::MAX` takes one away. Wraps.
///
/// The verifier checks at load that `field` lies within a live element, and is aligned.
#[inline(always)]
pub(crate) fn add(field: NonNull<u64>, amount: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: BPF_ATOMIC | BPF_ADD (Documentation/bpf/standardization/instruction-set.rst) writes
    // the one integer that `field` points to, and no register.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({field} + 0) += {amount}",
            field = in(reg) field.as_ptr(),
            amount = in(reg) amount,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = fetch_add(field, amount);
}

/// As [`add`]; returns what was there before. Minimum kernel version: 5.12.
#[inline(always)]
pub(crate) fn fetch_add(field: NonNull<u64>, amount: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let former;
        // SAFETY: as above, with BPF_FETCH: the register that held the amount has the former value.
        unsafe {
            core::arch::asm!(
                "{amount} = atomic_fetch_add((u64 *)({field} + 0), {amount})",
                field = in(reg) field.as_ptr(),
                amount = inout(reg) amount => former,
            );
        }
        former
    }
    // Only ever linted.
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: as promised by the caller.
        let field = unsafe { AtomicU64::from_ptr(field.as_ptr()) };
        field.fetch_add(amount, Ordering::Relaxed)
    }
}

/// Writes `new` if `old` is there; returns what was there. Minimum kernel version: 5.12.
#[inline(always)]
pub(crate) fn replace(field: NonNull<u64>, old: u64, new: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let former;
        // SAFETY: as above; BPF_CMPXCHG compares with r0, and leaves there what it found.
        unsafe {
            core::arch::asm!(
                "r0 = cmpxchg_64({field} + 0, r0, {new})",
                field = in(reg) field.as_ptr(),
                new = in(reg) new,
                inout("r0") old => former,
            );
        }
        former
    }
    // Only ever linted.
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: as promised by the caller.
        let field = unsafe { AtomicU64::from_ptr(field.as_ptr()) };
        let replaced = field.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        replaced.unwrap_or_else(|found| found)
    }
}
