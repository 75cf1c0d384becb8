//! A Service address and what the connect hooks do with connections to it.

use core::net::SocketAddr;

use super::flow::octets;

/// Address and port that a pod may connect to, network byte order, IPv4 v4-mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FrontendKey {
    addr: [u8; 16],
    port: [u8; 2],
    reserved: [u8; 2],
}

const _: () = assert!(
    size_of::<FrontendKey>() == 20,
    "FrontendKey must have no padding"
);

impl FrontendKey {
    /// Builds the key from address bytes and a port, both in network byte order.
    #[inline(always)]
    pub const fn new(addr: [u8; 16], port_be: [u8; 2]) -> Self {
        Self {
            addr,
            port: port_be,
            reserved: [0; 2],
        }
    }

    /// Builds the key of a socket address.
    pub const fn from_socket_addr(addr: SocketAddr) -> Self {
        Self::new(octets(addr.ip()), addr.port().to_be_bytes())
    }
}

/// What happens to a connection to a frontend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Untouched: it takes the node's ordinary path.
    Pass,
    /// Handed to the agent's listener in the pod's netns.
    Proxy,
    /// Connected to an endpoint of a set, with nobody in between.
    Direct(Direct),
}

/// The endpoints that a direct frontend stands for, and how one of them is chosen.
///
/// Of a set with `groups` the group is drawn by weight first ([`Share`]), and then one of its
/// slots in the group's own way.
///
/// [`Share`]: super::share::Share
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Direct {
    /// Number of the set: first half of the keys in `SLOTS`. A set is never changed but for its
    /// cursor: a frontend changes to another one, by this one number.
    pub set: u32,
    /// Slots of the set, from 0 on. None: connections are refused.
    pub count: u32,
    /// How the slot is chosen.
    pub choice: Choice,
    /// How long a pod stays with its endpoint, seconds; 0 for no affinity.
    pub affinity_s: u32,
    /// Groups of the set, each with a share of the connections; 0: the set is one.
    pub groups: u16,
}

/// How the endpoint of the next direct connection is chosen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Choice {
    /// The one of two drawn at random that has fewer connections.
    #[default]
    LeastConnections,
    /// Each in turn.
    RoundRobin,
    /// At random.
    Random,
}

impl Choice {
    const ROUND_ROBIN: u8 = 1;
    const RANDOM: u8 = 2;

    /// As it stands in maps.
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::LeastConnections => 0,
            Self::RoundRobin => Self::ROUND_ROBIN,
            Self::Random => Self::RANDOM,
        }
    }

    /// The meaning of [`Self::byte`]; one that this version does not know is the default.
    #[inline(always)]
    pub(super) const fn of_byte(byte: u8) -> Self {
        match byte {
            Self::ROUND_ROBIN => Self::RoundRobin,
            Self::RANDOM => Self::Random,
            _ => Self::LeastConnections,
        }
    }
}

/// Value of the `FRONTENDS` map. An unknown verdict byte passes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frontend {
    verdict: u8,
    choice: u8,
    groups: u16,
    set: u32,
    count: u32,
    affinity_s: u32,
}

const _: () = assert!(size_of::<Frontend>() == 16, "Frontend must have no padding");

impl Frontend {
    const PROXY: u8 = 1;
    const DIRECT: u8 = 2;

    /// Builds the value.
    pub const fn new(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::plain(0),
            Verdict::Proxy => Self::plain(Self::PROXY),
            Verdict::Direct(direct) => Self {
                choice: direct.choice.byte(),
                groups: direct.groups,
                set: direct.set,
                count: direct.count,
                affinity_s: direct.affinity_s,
                ..Self::plain(Self::DIRECT)
            },
        }
    }

    const fn plain(verdict: u8) -> Self {
        Self {
            verdict,
            choice: 0,
            groups: 0,
            set: 0,
            count: 0,
            affinity_s: 0,
        }
    }

    /// The verdict; a byte that this version does not know passes.
    pub const fn verdict(&self) -> Verdict {
        match self.verdict {
            Self::PROXY => Verdict::Proxy,
            Self::DIRECT => Verdict::Direct(Direct {
                set: self.set,
                count: self.count,
                choice: self.choice(),
                affinity_s: self.affinity_s,
                groups: self.groups,
            }),
            _ => Verdict::Pass,
        }
    }

    /// Whether the verdict is [`Verdict::Pass`]. The programs ask bit by bit: a whole verdict in
    /// registers is more than the verifier follows.
    #[inline(always)]
    pub const fn passes(&self) -> bool {
        !matches!(self.verdict, Self::PROXY | Self::DIRECT)
    }

    /// Whether the verdict is [`Verdict::Direct`].
    #[inline(always)]
    pub const fn is_direct(&self) -> bool {
        matches!(self.verdict, Self::DIRECT)
    }

    /// [`Direct::set`]
    #[inline(always)]
    pub const fn set(&self) -> u32 {
        self.set
    }

    /// [`Direct::count`]
    #[inline(always)]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// [`Direct::choice`]
    #[inline(always)]
    pub const fn choice(&self) -> Choice {
        Choice::of_byte(self.choice)
    }

    /// [`Direct::groups`]
    #[inline(always)]
    pub const fn groups(&self) -> u32 {
        self.groups as u32
    }

    /// [`Direct::affinity_s`]
    #[inline(always)]
    pub const fn affinity_s(&self) -> u32 {
        self.affinity_s
    }
}

// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for FrontendKey {}
// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Frontend {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_round_trip_and_unknown_bytes_pass() {
        let direct = |choice| {
            Verdict::Direct(Direct {
                set: 7,
                count: 3,
                choice,
                affinity_s: 10_800,
                groups: 2,
            })
        };
        for verdict in [
            Verdict::Proxy,
            Verdict::Pass,
            direct(Choice::LeastConnections),
            direct(Choice::RoundRobin),
            direct(Choice::Random),
        ] {
            assert_eq!(Frontend::new(verdict).verdict(), verdict);
        }
        let unknown = Frontend::plain(0xff);
        assert_eq!(unknown.verdict(), Verdict::Pass);
    }
}
