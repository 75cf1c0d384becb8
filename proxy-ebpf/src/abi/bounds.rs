//! How large each map is, and why.

/// Pods of one node: kubelet's default is 110, the largest clusters run 500 or so; the rest is
/// room for netns that come and go faster than they are swept.
pub const PODS: u32 = 4_096;
/// Service addresses times ports. Kubernetes names 10,000 Services as its limit, dual stack and
/// several ports each.
pub const FRONTENDS: u32 = 131_072;
/// Connections between connect and accept. The ephemeral ports of two busy pods at once, which
/// only happens when the workers stand still.
pub const ORIG_DST: u32 = 65_536;
/// Cgroups of agents: this one's and, during a handover, its successor's.
pub const AGENTS: u32 = 8;
/// Log lines a second and CPU; the rest is counted in [`crate::Stat::LogDropped`].
pub const LOG_LINES_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FlowKey, Frontend, FrontendKey, OrigDst, PodEntry};

    /// `struct htab_elem` in kernel/bpf/hashtab.c, 48 bytes, plus a bucket of 16.
    const OVERHEAD_BYTES: usize = 64;

    const fn hash_bytes<K, V>(max_entries: u32) -> usize {
        let key = size_of::<K>().next_multiple_of(8);
        let value = size_of::<V>().next_multiple_of(8);
        (key + value + OVERHEAD_BYTES) * max_entries as usize
    }

    #[test]
    fn hash_maps_filled_to_the_brim_stay_below_24_mib() {
        let total = hash_bytes::<u64, PodEntry>(PODS)
            + hash_bytes::<FrontendKey, Frontend>(FRONTENDS)
            + hash_bytes::<FlowKey, OrigDst>(ORIG_DST)
            + hash_bytes::<u64, u8>(AGENTS);
        assert!(total < 24 << 20, "{total} bytes");
    }
}
