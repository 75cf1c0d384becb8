//! How large each map is, and why.

/// Pods of one node: kubelet's default is 110, the largest clusters run 500 or so; the rest is
/// room for netns that come and go faster than they are swept.
pub const PODS: u32 = 4_096;
/// Addresses of captured pods, one of each family.
pub const ADDRESSES: u32 = 2 * PODS;
/// Service addresses times ports. Kubernetes names 10,000 Services as its limit, dual stack and
/// several ports each.
pub const FRONTENDS: u32 = 131_072;
/// Connections between connect and accept. The ephemeral ports of two busy pods at once, which
/// only happens when the workers stand still.
pub const ORIG_DST: u32 = 65_536;
/// Steered sockets that are open and have a cell, 1.1 MiB, there from the start: as many as a busy node
/// has connections at a time. One that finds its cell taken has storage of its own instead.
pub const SOCKET_CELLS: u32 = 16_384;
const _: () = assert!(SOCKET_CELLS.is_power_of_two(), "places are masked");
/// Endpoints in the sets of direct frontends. 100,000, and room for the largest of the sets that
/// are being replaced: the former stays until nobody can be reading it. What does not fit is
/// proxied.
pub const SLOTS: u32 = 131_072;
/// Groups of sets that are split by weight: 4,000 weighted routes of connections with two backends
/// each, all changed at once. What does not fit is proxied.
pub const SHARES: u32 = 16_384;
/// [`SLOTS`] of Services with ClientIP affinity, which few have. An endpoint that does not fit
/// keeps nobody.
pub const MEMBERS: u32 = 32_768;
/// Endpoints that pods of this node have connected to and that still are, or have connections.
/// Connections to what does not fit are not counted: it is chosen as if it had none.
pub const ENDPOINTS: u32 = 131_072;
/// Pods of one node times the Services with ClientIP affinity that each has connected to within
/// the timeout: 500 pods and 130 Services. Who does not fit is balanced without affinity, until
/// the agent has swept what is over.
pub const AFFINITY: u32 = 65_536;
/// Connections between pods that ask for acceleration and the agent, two sockets each. What does not
/// fit goes by TCP. The map's memory is bounded by use; its buckets are not.
pub const SOCKETS: u32 = 65_536;
/// Accelerated connections at a time: 1 MiB, there from the start. Others go by TCP.
pub const CREDITS: u32 = 8_192;
/// Connections between pods that both ask for acceleration without the agent: as many as `SOCKETS` has room
/// for. Others go by TCP. The map's memory is bounded by use; its buckets are not.
pub const PAIRS: u32 = SOCKETS / 2;
/// Cgroups of agents: this one's and, during a handover, its successor's.
pub const AGENTS: u32 = 8;
/// Log lines a second and CPU; the rest is counted in [`crate::Stat::LogDropped`].
pub const LOG_LINES_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Affinity, AffinityKey, EndpointKey, EndpointState, FlowKey, Frontend, FrontendKey,
        MemberKey, OrigDst, Pair, PodAddress, PodEntry, Share, Slot, SlotKey, SocketCell,
    };

    /// `struct htab_elem` in kernel/bpf/hashtab.c, and the list node that the allocator adds from
    /// 6.1 on.
    const OVERHEAD_BYTES: usize = 48 + 8;
    /// `struct bucket` of the same file; as many as the next power of two of `max_entries`.
    const BUCKET_BYTES: usize = 16;

    const CELLS_BYTES: usize = SOCKET_CELLS as usize * size_of::<SocketCell>();

    const fn element_bytes<K, V>() -> usize {
        let key = size_of::<K>().next_multiple_of(8);
        let value = size_of::<V>().next_multiple_of(8);
        let bytes = key + value + OVERHEAD_BYTES;
        // Size classes of the allocator (kernel/bpf/memalloc.c).
        match bytes {
            0..=96 => 96,
            97..=128 => 128,
            _ => 192,
        }
    }

    const fn buckets_bytes(max_entries: u32) -> usize {
        max_entries.next_power_of_two() as usize * BUCKET_BYTES
    }

    #[test]
    fn empty_maps_take_less_than_11_mib() {
        let maps = [
            PODS, ADDRESSES, FRONTENDS, ORIG_DST, SLOTS, SHARES, MEMBERS, ENDPOINTS, AFFINITY,
            AGENTS, PAIRS,
        ];
        let total = CELLS_BYTES + maps.into_iter().map(buckets_bytes).sum::<usize>();
        assert!(total < 11 << 20, "{total} bytes");
    }

    #[test]
    fn ten_thousand_services_with_a_hundred_thousand_endpoints_take_less_than_35_mib() {
        let total = 10_000 * element_bytes::<FrontendKey, Frontend>()
            + 100_000 * element_bytes::<SlotKey, Slot>()
            + 100_000 * element_bytes::<EndpointKey, EndpointState>()
            + [FRONTENDS, SLOTS, ENDPOINTS]
                .map(buckets_bytes)
                .iter()
                .sum::<usize>();
        assert!(total < 35 << 20, "{total} bytes");
    }

    #[test]
    fn maps_filled_to_the_brim_stay_below_85_mib() {
        let bytes = |element: usize, max_entries: u32| {
            element * max_entries as usize + buckets_bytes(max_entries)
        };
        let total = CELLS_BYTES
            + bytes(element_bytes::<u64, PodEntry>(), PODS)
            + bytes(element_bytes::<[u8; 16], PodAddress>(), ADDRESSES)
            + bytes(element_bytes::<FrontendKey, Frontend>(), FRONTENDS)
            + bytes(element_bytes::<FlowKey, OrigDst>(), ORIG_DST)
            + bytes(element_bytes::<SlotKey, Slot>(), SLOTS)
            + bytes(element_bytes::<SlotKey, Share>(), SHARES)
            + bytes(element_bytes::<MemberKey, u32>(), MEMBERS)
            + bytes(element_bytes::<EndpointKey, EndpointState>(), ENDPOINTS)
            + bytes(element_bytes::<AffinityKey, Affinity>(), AFFINITY)
            + bytes(element_bytes::<u64, u8>(), AGENTS)
            + bytes(element_bytes::<FlowKey, Pair>(), PAIRS);
        assert!(total < 85 << 20, "{total} bytes");
    }
}
