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
    /// 1 since the server's socket is in `SOCKETS`. Until then a former connection's may still be there: one
    /// that was reset stays until its application closes it.
    pub server_here: u64,
    /// Bytes that came by TCP and that the client had read when it last sent.
    pub client_read: u64,
    /// The same of the server.
    pub server_read: u64,
}

const _: () = assert!(size_of::<Pair>() == 32, "Pair must have no padding");

// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Pair {}
