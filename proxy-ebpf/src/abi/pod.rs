//! What the agent decided about the pod that owns a network namespace.

/// Properties of a [`PodEntry`], one bit each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PodFlags(u8);

impl PodFlags {
    /// The pod's connections are captured. Without it the entry only says "known, leave alone".
    pub const CAPTURED: Self = Self(1);
    /// A listener stands on 127.0.0.1 of the pod's netns.
    pub const LISTENS_V4: Self = Self(2);
    /// A listener stands on ::1 of the pod's netns.
    pub const LISTENS_V6: Self = Self(4);
    /// A stale heartbeat refuses the pod's Service connections instead of passing them.
    pub const FAIL_CLOSED: Self = Self(8);
    /// The pod's proxied connections are accelerated where they can be.
    pub const ACCELERATES: Self = Self(16);
    /// As above, and its direct connections with pods that ask for the same.
    pub const ACCELERATES_DIRECT: Self = Self(16 | 32);

    /// The union of two sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every flag of `other` is set.
    #[inline(always)]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Value of the `PODS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PodEntry {
    listener_port: [u8; 2],
    flags: u8,
    reserved: u8,
}

const _: () = assert!(size_of::<PodEntry>() == 4, "PodEntry must have no padding");

impl PodEntry {
    /// Builds the value; `listener_port` is in host byte order.
    pub const fn new(listener_port: u16, flags: PodFlags) -> Self {
        Self {
            listener_port: listener_port.to_be_bytes(),
            flags: flags.0,
            reserved: 0,
        }
    }

    /// Port of the agent's listener in the pod's netns, host byte order.
    #[inline(always)]
    pub const fn listener_port(&self) -> u16 {
        u16::from_be_bytes(self.listener_port)
    }

    /// The same with other flags.
    #[must_use]
    pub const fn with_flags(self, flags: PodFlags) -> Self {
        Self {
            flags: flags.0,
            ..self
        }
    }

    /// The flags; bits that this version does not know are kept and ignored.
    #[inline(always)]
    pub const fn flags(&self) -> PodFlags {
        PodFlags(self.flags)
    }
}

/// Value of the `ADDRESSES` map: whose an address is. The agent alone writes it, by what the API server
/// says; what a pod says of itself is not asked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PodAddress {
    netns_cookie: u64,
    /// [`PodFlags`], of which acceleration's count.
    flags: u8,
    reserved: [u8; 7],
}

const _: () = assert!(
    size_of::<PodAddress>() == 16,
    "PodAddress must have no padding"
);

impl PodAddress {
    /// Of a captured pod.
    pub const fn new(netns_cookie: u64, flags: PodFlags) -> Self {
        Self {
            netns_cookie,
            flags: flags.0,
            reserved: [0; 7],
        }
    }

    /// Cookie of the pod's network namespace.
    #[inline(always)]
    pub const fn netns_cookie(&self) -> u64 {
        self.netns_cookie
    }

    /// Whether what the pod accepts is to be accelerated.
    #[inline(always)]
    pub const fn accelerates(&self) -> bool {
        PodFlags(self.flags).contains(PodFlags::ACCELERATES)
    }

    /// Whether that holds without the agent, too.
    #[inline(always)]
    pub const fn accelerates_direct(&self) -> bool {
        PodFlags(self.flags).contains(PodFlags::ACCELERATES_DIRECT)
    }
}

// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PodAddress {}
// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PodEntry {}
