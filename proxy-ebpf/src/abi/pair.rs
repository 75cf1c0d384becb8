//! Acceleration between two pods without the agent: what the two ends of a connection tell each other.
//!
//! Neither end's reader says what it has read of redirected bytes, so there is no window: once
//! everything that went by TCP in a direction is known to be read, all that follows is redirected. A
//! message never goes by TCP behind redirected ones, so a reader never has to look in two places.

/// Value of the `PAIRS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pair {
    /// Which connection it is, of all that have these addresses and ports one after the other: when it
    /// was established, nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// `since_ns` since the server's socket is in `SOCKETS`. Until then a former connection's may still be
    /// there: one that was reset stays until its application closes it.
    pub server_here: u64,
    /// Bytes that came by TCP and that the client had read when it last sent: see [`Pair::stamp`].
    pub client_read: u64,
    /// The same of the server.
    pub server_read: u64,
}

const _: () = assert!(size_of::<Pair>() == 32, "Pair must have no padding");

impl Pair {
    /// Bits of the count in a stamp; of the time, those above a microsecond or so are above them.
    const COUNT_BITS: u32 = 48;
    const TIME_SHIFT: u32 = 10;

    /// A count with the connection that it is of: the memory of a pair that is removed may be another one's at
    /// once, and who writes late writes nothing that is believed.
    #[inline(always)]
    pub const fn stamp(since_ns: u64, bytes: u64) -> u64 {
        since_ns >> Self::TIME_SHIFT << Self::COUNT_BITS | bytes & ((1 << Self::COUNT_BITS) - 1)
    }

    /// The count of a stamp; 0 if it is of another connection.
    #[inline(always)]
    pub const fn count(since_ns: u64, stamp: u64) -> u64 {
        if stamp >> Self::COUNT_BITS == Self::stamp(since_ns, 0) >> Self::COUNT_BITS {
            stamp & ((1 << Self::COUNT_BITS) - 1)
        } else {
            0
        }
    }
}

// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Pair {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_believed_of_its_own_connection_alone() {
        let (one, next) = (7_000_000_000_000, 7_000_000_002_000);
        let stamp = Pair::stamp(one, 1 << 40);
        assert_eq!(Pair::count(one, stamp), 1 << 40);
        assert_eq!(Pair::count(next, stamp), 0);
        assert_eq!(Pair::count(one, 0), 0, "nobody has written yet");
    }
}
