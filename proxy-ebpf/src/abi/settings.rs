//! What userspace tells the programs about itself.

/// The one element of the `SETTINGS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    node_netns_cookie: u64,
    stale_after_ns: u64,
    workers: u32,
    refuse_unknown: u32,
}

const _: () = assert!(size_of::<Settings>() == 24, "Settings must have no padding");

impl Settings {
    /// Most workers that the `HEARTBEATS` map has room for; also the bound of the hook's loop.
    pub const MAX_WORKERS: u32 = 64;

    /// Builds the value. `workers` above [`Self::MAX_WORKERS`] is cut to it.
    pub const fn new(
        node_netns_cookie: u64,
        workers: u32,
        stale_after_ns: u64,
        refuse_unknown: bool,
    ) -> Self {
        let workers = if workers > Self::MAX_WORKERS {
            Self::MAX_WORKERS
        } else {
            workers
        };
        Self {
            node_netns_cookie,
            stale_after_ns,
            workers,
            refuse_unknown: refuse_unknown as u32,
        }
    }

    /// Cookie of the node's own netns, whose sockets are never touched.
    #[inline(always)]
    pub const fn node_netns_cookie(&self) -> u64 {
        self.node_netns_cookie
    }

    /// Age in nanoseconds from which the oldest heartbeat counts as stale.
    #[inline(always)]
    pub const fn stale_after_ns(&self) -> u64 {
        self.stale_after_ns
    }

    /// How many elements of `HEARTBEATS` are in use. 0 = the agent is not serving: pass.
    #[inline(always)]
    pub const fn workers(&self) -> u32 {
        self.workers
    }

    /// Whether connects of pods that are not in `PODS` are refused (`--unknown-pods refuse`).
    #[inline(always)]
    pub const fn refuse_unknown(&self) -> bool {
        self.refuse_unknown != 0
    }
}

// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Settings {}
