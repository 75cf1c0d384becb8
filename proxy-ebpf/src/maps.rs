//! Every map, and nothing else. Sizes and their reasons: `abi/bounds.rs`.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, SockHash};
use proxy_ebpf::{
    Affinity, AffinityKey, Channel, Credit, CreditId, EndKey, EndpointKey, EndpointState, FlowKey,
    Frontend, FrontendKey, MemberKey, OrigDst, Pair, PodAddress, PodEntry, Settings, Share, Slot,
    SlotKey, SocketCell, SocketDst, Stat, bounds,
};

use crate::log::Window;

/// Netns cookie → what the agent decided about the pod.
#[map]
pub(crate) static PODS: HashMap<u64, PodEntry> =
    HashMap::with_max_entries(bounds::PODS, BPF_F_NO_PREALLOC);

/// Addresses of captured pods → whose they are.
#[map]
pub(crate) static ADDRESSES: HashMap<[u8; 16], PodAddress> =
    HashMap::with_max_entries(bounds::ADDRESSES, BPF_F_NO_PREALLOC);

/// Service addresses.
#[map]
pub(crate) static FRONTENDS: HashMap<FrontendKey, Frontend> =
    HashMap::with_max_entries(bounds::FRONTENDS, BPF_F_NO_PREALLOC);

/// Redirected connections that were not yet accepted. Never LRU: what the agent has not yet
/// looked up must not be evicted.
#[map]
pub(crate) static ORIG_DST: HashMap<FlowKey, OrigDst> =
    HashMap::with_max_entries(bounds::ORIG_DST, BPF_F_NO_PREALLOC);

/// Cgroup ids whose sockets are the agent's own.
#[map]
pub(crate) static AGENTS: HashMap<u64, u8> = HashMap::with_max_entries(bounds::AGENTS, 0);

/// One beat a worker, nanoseconds of `CLOCK_MONOTONIC`.
#[map]
pub(crate) static HEARTBEATS: Array<u64> = Array::with_max_entries(Settings::MAX_WORKERS, 0);

/// What userspace tells the programs about itself.
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Counters, indexed by [`Stat`].
#[map]
pub(crate) static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Stat::COUNT, 0);

/// The rate bound of the log.
#[map]
pub(crate) static LOG_WINDOW: PerCpuArray<Window> = PerCpuArray::with_max_entries(1, 0);

/// What steered sockets asked for, by their cookies: see `kept.rs`.
#[map]
pub(crate) static SOCKET_CELLS: Array<SocketCell> =
    Array::with_max_entries(bounds::SOCKET_CELLS, 0);

/// The same of those whose cell another socket has.
#[btf_map]
pub(crate) static SOCKET_DST: SkStorage<SocketDst> = SkStorage::new();

/// The endpoints of direct frontends, set by set.
#[map]
pub(crate) static SLOTS: HashMap<SlotKey, Slot> =
    HashMap::with_max_entries(bounds::SLOTS, BPF_F_NO_PREALLOC);

/// Groups of sets that are split by weight.
#[map]
pub(crate) static SHARES: HashMap<SlotKey, Share> =
    HashMap::with_max_entries(bounds::SHARES, BPF_F_NO_PREALLOC);

/// Which endpoints a set with affinity has, and in which slot.
#[map]
pub(crate) static MEMBERS: HashMap<MemberKey, u32> =
    HashMap::with_max_entries(bounds::MEMBERS, BPF_F_NO_PREALLOC);

/// Endpoints that direct connections were made to.
#[map]
pub(crate) static ENDPOINTS: HashMap<EndpointKey, EndpointState> =
    HashMap::with_max_entries(bounds::ENDPOINTS, BPF_F_NO_PREALLOC);

/// Pods that are to stay with an endpoint. Never LRU: it would take memory for all of its entries
/// from the start, and one noisy pod could make the others' be forgotten.
#[map]
pub(crate) static AFFINITY: HashMap<AffinityKey, Affinity> =
    HashMap::with_max_entries(bounds::AFFINITY, BPF_F_NO_PREALLOC);

/// The sockets between which bytes are redirected. Never handed on. The agent's ends die with the agent;
/// the two ends of a connection between pods keep it, by the program that they hold, until they are closed.
#[map]
pub(crate) static SOCKETS: SockHash<EndKey> = SockHash::with_max_entries(bounds::SOCKETS, 0);

/// What each of them keeps.
#[btf_map]
pub(crate) static CHANNELS: SkStorage<Channel> = SkStorage::new();

/// Connections that the agent has joined.
#[map]
pub(crate) static JOINED: HashMap<FlowKey, CreditId> =
    HashMap::with_max_entries(bounds::CREDITS, BPF_F_NO_PREALLOC);

/// Connections between two pods that both ask.
#[map]
pub(crate) static PAIRS: HashMap<FlowKey, Pair> =
    HashMap::with_max_entries(bounds::PAIRS, BPF_F_NO_PREALLOC);

/// What the two ends of a connection tell each other.
#[map]
pub(crate) static CREDITS: Array<Credit> = Array::with_max_entries(bounds::CREDITS, BPF_F_MMAPABLE);

/// See [`proxy_ebpf::global::REFUSE_WITH_ERRNO`].
#[unsafe(no_mangle)]
pub(crate) static REFUSE_WITH_ERRNO: Global<u8> = Global::new(0);

/// See [`proxy_ebpf::global::SK_ERR_OFFSET`].
#[unsafe(no_mangle)]
pub(crate) static SK_ERR_OFFSET: Global<u32> = Global::new(0);

/// See [`proxy_ebpf::global::SK_KERN_SOCK_BIT`].
#[unsafe(no_mangle)]
pub(crate) static SK_KERN_SOCK_BIT: Global<u32> = Global::new(0);

/// See [`proxy_ebpf::global::WRITE_SEQ_OFFSET`].
#[unsafe(no_mangle)]
pub(crate) static WRITE_SEQ_OFFSET: Global<u32> = Global::new(0);

/// See [`proxy_ebpf::global::COPIED_SEQ_OFFSET`].
#[unsafe(no_mangle)]
pub(crate) static COPIED_SEQ_OFFSET: Global<u32> = Global::new(0);
