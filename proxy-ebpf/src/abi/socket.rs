//! What a steered socket keeps until it is closed.

use core::net::SocketAddr;

use super::bounds;
use super::endpoint::EndpointKey;
use super::flow::OrigDst;

/// Element of the `SOCKET_CELLS` array: a cell for each socket that is steered, unless it is taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SocketCell {
    /// Cookie of the socket that has it; 0 if none does.
    pub owner: u64,
    /// What that one keeps.
    pub kept: SocketDst,
}

const _: () = assert!(
    size_of::<SocketCell>() == 72,
    "SocketCell must have no padding"
);

impl SocketCell {
    /// Where a socket's cell is. The kernel gives out cookies in turn, so that cells which are used
    /// at one time lie together.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "below SOCKET_CELLS")]
    pub const fn index(cookie: u64) -> u32 {
        (cookie % bounds::SOCKET_CELLS as u64) as u32
    }
}

/// Value of the `SOCKET_DST` map, and of a cell: what the application asked for, and where it goes instead.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SocketDst {
    asked: OrigDst,
    /// [`EndpointKey::NONE`] if it goes to the agent.
    endpoint: EndpointKey,
    /// 1 once a connection is on its way of which the socket will tell the end.
    begun: u32,
    /// `since_ns` of the [`super::endpoint::EndpointState`] that counts it; 0 if none does.
    counted_by_ns: u64,
}

const _: () = assert!(
    size_of::<SocketDst>() == 64,
    "SocketDst must have no padding"
);

impl SocketDst {
    /// A socket that goes to the agent.
    #[inline(always)]
    pub const fn proxied(asked: OrigDst) -> Self {
        Self::direct(asked, EndpointKey::NONE)
    }

    /// A socket that goes to an endpoint.
    #[inline(always)]
    pub const fn direct(asked: OrigDst, endpoint: EndpointKey) -> Self {
        Self {
            asked,
            endpoint,
            begun: 0,
            counted_by_ns: 0,
        }
    }

    /// What connect(2) was called with.
    #[inline(always)]
    pub const fn asked(&self) -> OrigDst {
        self.asked
    }

    /// Where it goes, if that is not the agent.
    #[inline(always)]
    pub const fn endpoint(&self) -> Option<EndpointKey> {
        // A port is never 0: connect(2) would fail.
        match self.endpoint.port_be() {
            [0, 0] => None,
            _ => Some(self.endpoint),
        }
    }

    /// A value from its bytes; `None` if they are not as many.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        // SAFETY: `repr(C)`, size asserted above: every bit pattern is a valid value.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// What a direct socket asked for and where it goes; `None` if that is the agent.
    pub fn steered(&self) -> Option<(SocketAddr, SocketAddr)> {
        let endpoint = self.endpoint()?;
        Some((self.asked.socket_addr(), endpoint.socket_addr()))
    }

    /// Whether the socket has left the hook for a connection, which it tells the end of.
    #[inline(always)]
    pub const fn has_begun(&self) -> bool {
        self.begun != 0
    }

    /// Notes [`Self::has_begun`].
    #[inline(always)]
    pub const fn begin(&mut self) {
        self.begun = 1;
    }

    /// Which state counts it among its open connections; 0 if none does.
    #[inline(always)]
    pub const fn counted_by_ns(&self) -> u64 {
        self.counted_by_ns
    }

    /// Notes that the state that was made at `since_ns` counts it; 0: that none does.
    #[inline(always)]
    pub const fn set_counted_by_ns(&mut self, since_ns: u64) {
        self.counted_by_ns = since_ns;
    }
}

// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SocketDst {}
// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SocketCell {}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn a_value_is_read_from_its_bytes_and_says_where_it_goes() {
        let mut bytes = [0xff; size_of::<SocketDst>()];
        let mut put = |at: usize, text: &str| {
            let key = EndpointKey::from_socket_addr(text.parse().unwrap());
            bytes[at..at + 16].copy_from_slice(&key.addr());
            bytes[at + 16..at + 18].copy_from_slice(&key.port_be());
        };
        put(offset_of!(SocketDst, asked), "10.96.0.1:80");
        put(offset_of!(SocketDst, endpoint), "[fd00::1]:8080");
        let read = SocketDst::read(&bytes).unwrap();
        let steered = read.steered();
        let steered = steered.map(|(one, other)| [one, other].map(|a| a.to_string()));
        let expected = ["10.96.0.1:80", "[fd00::1]:8080"].map(str::to_owned);
        assert_eq!(steered, Some(expected));
        assert_eq!(SocketDst::read(&bytes[1..]), None);
        bytes[offset_of!(SocketDst, endpoint)..][..20].fill(0);
        let read = SocketDst::read(&bytes).unwrap();
        assert_eq!(read.steered(), None, "it goes to the agent");
    }

    #[test]
    fn neighbours_in_time_are_neighbours_and_no_place_lies_outside() {
        assert_eq!(SocketCell::index(1) + 1, SocketCell::index(2));
        let last = u64::from(bounds::SOCKET_CELLS) - 1;
        assert_eq!(SocketCell::index(last), bounds::SOCKET_CELLS - 1);
        assert_eq!(SocketCell::index(last + 1), 0);
        assert_eq!(SocketCell::index(u64::MAX), bounds::SOCKET_CELLS - 1);
    }
}
