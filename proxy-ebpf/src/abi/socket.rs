//! What a steered socket keeps for as long as it lives.

use core::mem::offset_of;
use core::net::SocketAddr;

use super::endpoint::EndpointKey;
use super::flow::OrigDst;

/// Value of the `SOCKET_DST` map: what the application asked for, and where it goes instead.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SocketDst {
    asked: OrigDst,
    /// [`EndpointKey::NONE`] if it goes to the agent.
    endpoint: EndpointKey,
    reserved: u32,
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
            reserved: 0,
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

    /// What a direct socket asked for and where it goes, from the bytes of a value; `None` if it goes
    /// to the agent, or the bytes are no such value.
    pub fn read(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let (asked, endpoint) = bytes.split_at(offset_of!(Self, endpoint));
        let read = |bytes: &[u8]| {
            let (addr, rest) = bytes.split_first_chunk::<16>()?;
            Some(EndpointKey::new(*addr, *rest.first_chunk::<2>()?))
        };
        // Both begin with the address and the port.
        let (asked, endpoint) = (read(asked)?, read(endpoint)?);
        let is_direct = endpoint.port_be() != [0, 0];
        is_direct.then(|| (asked.socket_addr(), endpoint.socket_addr()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_addresses_are_read_from_where_they_stand() {
        let mut bytes = [0xff; size_of::<SocketDst>()];
        let mut put = |at: usize, text: &str| {
            let key = EndpointKey::from_socket_addr(text.parse().unwrap());
            bytes[at..at + 16].copy_from_slice(&key.addr());
            bytes[at + 16..at + 18].copy_from_slice(&key.port_be());
        };
        put(offset_of!(SocketDst, asked), "10.96.0.1:80");
        put(offset_of!(SocketDst, endpoint), "[fd00::1]:8080");
        let read = SocketDst::read(&bytes).map(|(one, other)| [one, other].map(|a| a.to_string()));
        let expected = ["10.96.0.1:80", "[fd00::1]:8080"].map(str::to_owned);
        assert_eq!(read, Some(expected));
        assert_eq!(SocketDst::read(&bytes[1..]), None);
        bytes[offset_of!(SocketDst, endpoint)..][..20].fill(0);
        assert_eq!(SocketDst::read(&bytes), None, "it goes to the agent");
    }
}
