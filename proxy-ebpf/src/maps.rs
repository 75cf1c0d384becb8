//! Every map, and nothing else. Sizes and their reasons: `abi/bounds.rs`.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use proxy_ebpf::{FlowKey, Frontend, FrontendKey, OrigDst, PodEntry, Settings, Stat, bounds};

use crate::log::Window;

/// Netns cookie → what the agent decided about the pod.
#[map]
pub(crate) static PODS: HashMap<u64, PodEntry> =
    HashMap::with_max_entries(bounds::PODS, BPF_F_NO_PREALLOC);

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

/// What a redirected socket asked for, as long as the socket lives.
#[btf_map]
pub(crate) static SOCKET_DST: SkStorage<OrigDst> = SkStorage::new();

/// See [`proxy_ebpf::global::REFUSE_WITH_ERRNO`].
#[unsafe(no_mangle)]
pub(crate) static REFUSE_WITH_ERRNO: Global<u8> = Global::new(0);
