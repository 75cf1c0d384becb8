//! Shared types, one file a subject, and the names under which kernel objects are found.

pub mod bounds;
pub(crate) mod channel;
pub(crate) mod endpoint;
pub(crate) mod flow;
pub(crate) mod frontend;
pub(crate) mod pair;
pub(crate) mod pod;
pub(crate) mod settings;
pub(crate) mod share;
pub(crate) mod socket;
pub(crate) mod stat;

/// Names of the maps in the object file.
pub mod map {
    /// `HashMap<u64, PodEntry>`: netns cookie → what the agent decided about the pod.
    pub const PODS: &str = "PODS";
    /// `HashMap<[u8; 16], PodAddress>`: addresses of captured pods.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// `HashMap<FrontendKey, Frontend>`: Service addresses.
    pub const FRONTENDS: &str = "FRONTENDS";
    /// `HashMap<FlowKey, OrigDst>`: redirected connections that were not yet accepted.
    pub const ORIG_DST: &str = "ORIG_DST";
    /// `HashMap<u64, u8>`: cgroup ids whose sockets are the agent's own.
    pub const AGENTS: &str = "AGENTS";
    /// `Array<u64>`: one beat a worker, nanoseconds of `CLOCK_MONOTONIC`.
    pub const HEARTBEATS: &str = "HEARTBEATS";
    /// `Array<Settings>` of one element.
    pub const SETTINGS: &str = "SETTINGS";
    /// `PerCpuArray<u64>` indexed by [`crate::Stat`].
    pub const STATS: &str = "STATS";
    /// `Array<SocketCell>`: what a steered socket asked for, until it is closed.
    pub const SOCKET_CELLS: &str = "SOCKET_CELLS";
    /// `SkStorage<SocketDst>`: the same of sockets whose cell another one has.
    pub const SOCKET_DST: &str = "SOCKET_DST";
    /// `HashMap<SlotKey, Slot>`: the endpoints of direct frontends, set by set.
    pub const SLOTS: &str = "SLOTS";
    /// `HashMap<SlotKey, Share>`: how connections are shared out among the groups of a set.
    pub const SHARES: &str = "SHARES";
    /// `HashMap<MemberKey, u32>`: the same the other way round, for sets with affinity.
    pub const MEMBERS: &str = "MEMBERS";
    /// `HashMap<EndpointKey, EndpointState>`: endpoints that direct connections were made to.
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// `HashMap<AffinityKey, Affinity>`: pods that are to stay with an endpoint.
    pub const AFFINITY: &str = "AFFINITY";
    /// `SockHash<EndKey>`: the sockets between which bytes are redirected.
    pub const SOCKETS: &str = "SOCKETS";
    /// `SkStorage<Channel>`: what each of them keeps.
    pub const CHANNELS: &str = "CHANNELS";
    /// `HashMap<FlowKey, CreditId>`: connections that the agent has joined.
    pub const JOINED: &str = "JOINED";
    /// `Array<Credit>`, mapped by the agent.
    pub const CREDITS: &str = "CREDITS";
    /// `HashMap<FlowKey, Pair>`: connections between two pods that are accelerated without the agent.
    pub const PAIRS: &str = "PAIRS";
}

/// Names of the constants that the loader sets.
pub mod global {
    /// `u8`: 1 where the kernel has `bpf_set_retval` for connect hooks (6.1), so that a refusal is
    /// ECONNREFUSED; else it is EPERM.
    pub const REFUSE_WITH_ERRNO: &str = "REFUSE_WITH_ERRNO";
    /// `u32`: offset of `sk_err` in this kernel's `struct sock`; 0 where it is not known.
    pub const SK_ERR_OFFSET: &str = "SK_ERR_OFFSET";
    /// `u32`: where `sk_kern_sock` stands in this kernel's `struct sock`, in bits; 0 where it is not known.
    pub const SK_KERN_SOCK_BIT: &str = "SK_KERN_SOCK_BIT";
    /// `u32`: offset of `write_seq` in this kernel's `struct tcp_sock`; 0 where it is not known.
    pub const WRITE_SEQ_OFFSET: &str = "WRITE_SEQ_OFFSET";
    /// `u32`: the same of `copied_seq`.
    pub const COPIED_SEQ_OFFSET: &str = "COPIED_SEQ_OFFSET";
}

/// Names of the programs in the object file.
pub mod program {
    /// cgroup/connect4.
    pub const CONNECT4: &str = "connect4";
    /// cgroup/connect6.
    pub const CONNECT6: &str = "connect6";
    /// cgroup/getpeername4.
    pub const GETPEERNAME4: &str = "getpeername4";
    /// cgroup/getpeername6.
    pub const GETPEERNAME6: &str = "getpeername6";
    /// cgroup/sock_release.
    pub const SOCK_RELEASE: &str = "sock_release";
    /// sockops; not named like its section, for symbols of one name would collide.
    pub const SOCKOPS: &str = "sock_ops";
    /// sk_msg, attached to `SOCKETS`.
    pub const ACCELERATE: &str = "accelerate";
}

/// Writes an IPv4 address in its v4-mapped form (RFC 4291, section 2.5.5.2).
#[inline(always)]
pub const fn v4_mapped(octets: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = octets;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
