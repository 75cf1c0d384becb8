//! Endpoints of direct connections: where they are, which set they belong to, how they fare.

use core::net::{Ipv6Addr, SocketAddr};

use super::flow::octets;
use super::frontend::FrontendKey;

/// Address and port of an endpoint, network byte order, IPv4 v4-mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EndpointKey {
    addr: [u8; 16],
    port: [u8; 2],
    reserved: [u8; 2],
}

const _: () = assert!(
    size_of::<EndpointKey>() == 20,
    "EndpointKey must have no padding"
);

impl EndpointKey {
    /// No endpoint: port 0 of the unspecified address.
    pub const NONE: Self = Self::new([0; 16], [0; 2]);

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

    /// The address bytes, v4-mapped for IPv4.
    #[inline(always)]
    pub const fn addr(&self) -> [u8; 16] {
        self.addr
    }

    /// The port in network byte order.
    #[inline(always)]
    pub const fn port_be(&self) -> [u8; 2] {
        self.port
    }

    /// The address; v4-mapped addresses come back as IPv4.
    pub const fn socket_addr(&self) -> SocketAddr {
        let ip = Ipv6Addr::from_octets(self.addr).to_canonical();
        SocketAddr::new(ip, u16::from_be_bytes(self.port))
    }
}

/// Key of the `SLOTS` map: one place in a set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SlotKey {
    set: u32,
    index: u32,
}

impl SlotKey {
    /// Place number `index`, counted from 0, of a set.
    #[inline(always)]
    pub const fn new(set: u32, index: u32) -> Self {
        Self { set, index }
    }
}

/// Value of the `SLOTS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot {
    endpoint: EndpointKey,
    reserved: u32,
    /// Used in the first slot of a set or group: how often that was asked for the next in turn.
    cursor: u64,
}

const _: () = assert!(size_of::<Slot>() == 32, "Slot must have no padding");

impl Slot {
    /// Builds the value; `cursor` is where the turn begins.
    pub const fn new(endpoint: EndpointKey, cursor: u64) -> Self {
        Self {
            endpoint,
            reserved: 0,
            cursor,
        }
    }

    /// Who has the place.
    #[inline(always)]
    pub const fn endpoint(&self) -> &EndpointKey {
        &self.endpoint
    }

    /// Where the turn is kept.
    #[inline(always)]
    pub const fn cursor_mut(&mut self) -> &mut u64 {
        &mut self.cursor
    }
}

/// Key of the `MEMBERS` map: whether a set has an endpoint, for sets with affinity.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct MemberKey {
    set: u32,
    endpoint: EndpointKey,
}

const _: () = assert!(
    size_of::<MemberKey>() == 24,
    "MemberKey must have no padding"
);

impl MemberKey {
    /// `endpoint` in `set`.
    #[inline(always)]
    pub const fn new(set: u32, endpoint: EndpointKey) -> Self {
        Self { set, endpoint }
    }
}

/// Key of the `AFFINITY` map: a pod, by its netns, and the Service address that it connects to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AffinityKey {
    netns_cookie: u64,
    frontend: FrontendKey,
    reserved: u32,
}

const _: () = assert!(
    size_of::<AffinityKey>() == 32,
    "AffinityKey must have no padding"
);

impl AffinityKey {
    /// A pod at a frontend.
    #[inline(always)]
    pub const fn new(netns_cookie: u64, frontend: FrontendKey) -> Self {
        Self {
            netns_cookie,
            frontend,
            reserved: 0,
        }
    }

    /// Cookie of the pod's netns.
    pub const fn netns_cookie(&self) -> u64 {
        self.netns_cookie
    }
}

/// Value of the `AFFINITY` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Affinity {
    endpoint: EndpointKey,
    timeout_s: u32,
    seen_ns: u64,
}

const _: () = assert!(size_of::<Affinity>() == 32, "Affinity must have no padding");

impl Affinity {
    /// Builds the value; `seen_ns` is `CLOCK_MONOTONIC` at the last connection.
    #[inline(always)]
    pub const fn new(endpoint: EndpointKey, timeout_s: u32, seen_ns: u64) -> Self {
        Self {
            endpoint,
            timeout_s,
            seen_ns,
        }
    }

    /// Where the pod's connections go.
    #[inline(always)]
    pub const fn endpoint(&self) -> &EndpointKey {
        &self.endpoint
    }

    /// Notes another connection; a Service's timeout may have changed since the last.
    #[inline(always)]
    pub const fn renew(&mut self, timeout_s: u32, now_ns: u64) {
        (self.timeout_s, self.seen_ns) = (timeout_s, now_ns);
    }

    /// Whether the last connection was longer ago than the timeout.
    #[inline(always)]
    pub const fn is_over(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.seen_ns) > self.timeout_s as u64 * 1_000_000_000
    }
}

/// Value of the `ENDPOINTS` map: what direct connections of this node make of an endpoint.
///
/// The programs make it at the first connection, and add to it atomically.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EndpointState {
    /// When the element was made, `CLOCK_MONOTONIC`: tells it from a later one of the same key.
    pub since_ns: u64,
    /// Connections that are open or being made.
    pub open: u64,
    /// Connections that were established.
    pub connected: u64,
    /// Time from connect(2) to establishment, summed over `connected`.
    pub connect_ns: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections that failed otherwise: no answer, no way there.
    pub unreachable: u64,
    /// Failures since the last established connection.
    pub streak: u64,
}

const _: () = assert!(
    size_of::<EndpointState>() == 56,
    "EndpointState must have no padding"
);

#[cfg(feature = "user")]
mod user {
    use super::{Affinity, AffinityKey, EndpointKey, EndpointState, MemberKey, Slot, SlotKey};

    // SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
    unsafe impl aya::Pod for EndpointKey {}
    // SAFETY: two `u32`: no padding, and every bit pattern is a valid value.
    unsafe impl aya::Pod for SlotKey {}
    // SAFETY: as for `EndpointKey`.
    unsafe impl aya::Pod for Slot {}
    // SAFETY: as for `EndpointKey`.
    unsafe impl aya::Pod for MemberKey {}
    // SAFETY: as for `EndpointKey`.
    unsafe impl aya::Pod for AffinityKey {}
    // SAFETY: as for `EndpointKey`.
    unsafe impl aya::Pod for Affinity {}
    // SAFETY: as for `EndpointKey`.
    unsafe impl aya::Pod for EndpointState {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_round_trips() {
        for text in ["10.244.0.5:8080", "[fd00::a]:53"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(EndpointKey::from_socket_addr(addr).socket_addr(), addr);
        }
    }

    #[test]
    fn affinity_ends_after_its_timeout_and_not_before() {
        let mut affinity = Affinity::new(EndpointKey::NONE, 10, 1_000);
        assert!(!affinity.is_over(1_000 + 10_000_000_000));
        assert!(affinity.is_over(1_001 + 10_000_000_000));
        affinity.renew(20, 5_000);
        assert!(!affinity.is_over(1_001 + 10_000_000_000));
    }
}
