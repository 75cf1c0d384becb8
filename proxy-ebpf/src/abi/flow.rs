//! A redirected connection and the address it was meant for.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::pod::PodFlags;
use super::v4_mapped;

/// Number of the meaning of everything in the maps that one agent hands to the next: raised with
/// every change of it. Agents of different numbers cannot share these maps.
pub const DESTINATIONS_LAYOUT: u32 = 3;

/// Names one redirected connection from connect to accept, or one from the agent to a pod.
///
/// Addresses and ports are in network byte order; IPv4 is stored v4-mapped. The listener port is
/// part of the key: with two listener ports on 127.0.0.1 one ephemeral port serves both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FlowKey {
    netns_cookie: u64,
    source: [u8; 16],
    source_port: [u8; 2],
    listener_port: [u8; 2],
    /// 1 on the way to a pod, 0 on the way from one.
    to_pod: u8,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<FlowKey>() == 32, "FlowKey must have no padding");

impl FlowKey {
    /// Builds the key from raw parts; ports are in host byte order, `source` is v4-mapped or IPv6.
    #[inline(always)]
    pub const fn new(
        netns_cookie: u64,
        source: [u8; 16],
        source_port: u16,
        listener_port: u16,
    ) -> Self {
        Self {
            netns_cookie,
            source,
            source_port: source_port.to_be_bytes(),
            listener_port: listener_port.to_be_bytes(),
            to_pod: 0,
            reserved: [0; 3],
        }
    }

    /// The key of a connection that the pod `netns_cookie` has accepted on `port`, as its own socket
    /// sees it: `source` is where it came from. No connection from a pod has such a key.
    #[inline(always)]
    pub const fn to_pod(netns_cookie: u64, source: [u8; 16], source_port: u16, port: u16) -> Self {
        Self {
            to_pod: 1,
            ..Self::new(netns_cookie, source, source_port, port)
        }
    }

    /// The same from the other end: `local` is the address of the socket that connected.
    pub const fn to_pod_from(netns_cookie: u64, local: SocketAddr, port: u16) -> Self {
        Self::to_pod(netns_cookie, octets(local.ip()), local.port(), port)
    }

    /// Whether it is one to a pod.
    pub const fn is_to_pod(&self) -> bool {
        self.to_pod != 0
    }

    /// Builds the key that the agent looks up at accept.
    pub const fn from_accepted(netns_cookie: u64, source: SocketAddr, listener_port: u16) -> Self {
        Self::new(
            netns_cookie,
            octets(source.ip()),
            source.port(),
            listener_port,
        )
    }

    /// The key as words, for places that the BTF of the programs describes.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 4] {
        let s = &self.source;
        [
            self.netns_cookie,
            u64::from_ne_bytes([s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]]),
            u64::from_ne_bytes([s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]]),
            u64::from_ne_bytes([
                self.source_port[0],
                self.source_port[1],
                self.listener_port[0],
                self.listener_port[1],
                self.to_pod,
                0,
                0,
                0,
            ]),
        ]
    }

    /// The key that [`Self::words`] was called on.
    #[inline(always)]
    pub const fn from_words([netns_cookie, high, low, ports]: [u64; 4]) -> Self {
        let [a, b, c, d, e, f, g, h] = high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = low.to_ne_bytes();
        let [s0, s1, l0, l1, to_pod, ..] = ports.to_ne_bytes();
        Self {
            netns_cookie,
            source: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p],
            source_port: [s0, s1],
            listener_port: [l0, l1],
            to_pod,
            reserved: [0; 3],
        }
    }

    /// Cookie of the network namespace that the connection was made in.
    pub const fn netns_cookie(&self) -> u64 {
        self.netns_cookie
    }
}

/// Address the application asked for, kept while its connection is redirected.
///
/// Network byte order; IPv4 is stored v4-mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OrigDst {
    addr: [u8; 16],
    port: [u8; 2],
    /// 1: the pod asks for acceleration; 2: also without the agent.
    accelerates: u8,
    reserved: [u8; 5],
    since_ns: u64,
}

const _: () = assert!(size_of::<OrigDst>() == 32, "OrigDst must have no padding");

impl OrigDst {
    /// Builds the value; `port` is in host byte order, `since_ns` is `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub const fn new(addr: [u8; 16], port: u16, since_ns: u64) -> Self {
        Self {
            addr,
            port: port.to_be_bytes(),
            accelerates: 0,
            reserved: [0; 5],
            since_ns,
        }
    }

    /// The same, of a pod that asks for acceleration, or does not.
    #[inline(always)]
    #[must_use]
    pub const fn of_pod(self, flags: PodFlags) -> Self {
        Self {
            accelerates: flags.contains(PodFlags::ACCELERATES) as u8
                | (flags.contains(PodFlags::ACCELERATES_DIRECT) as u8) << 1,
            ..self
        }
    }

    /// Whether the pod asked for acceleration when the connection was made.
    #[inline(always)]
    pub const fn accelerates(&self) -> bool {
        self.accelerates != 0
    }

    /// Whether it asked for it without the agent, too.
    #[inline(always)]
    pub const fn accelerates_direct(&self) -> bool {
        self.accelerates & 2 != 0
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

    /// When connect was called, nanoseconds of `CLOCK_MONOTONIC`.
    pub const fn since_ns(&self) -> u64 {
        self.since_ns
    }

    /// The address as the application meant it: v4-mapped addresses come back as IPv4.
    pub const fn socket_addr(&self) -> SocketAddr {
        let ip = Ipv6Addr::from_octets(self.addr).to_canonical();
        SocketAddr::new(ip, u16::from_be_bytes(self.port))
    }
}

/// The address in the form that all keys use: 16 bytes, IPv4 v4-mapped.
pub const fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => mapped(v4),
        IpAddr::V6(v6) => v6.octets(),
    }
}

const fn mapped(v4: Ipv4Addr) -> [u8; 16] {
    v4_mapped(v4.octets())
}

// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for FlowKey {}
// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for OrigDst {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_and_v4_mapped_sources_make_the_same_key() {
        let v4: SocketAddr = "10.1.2.3:4000".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.1.2.3]:4000".parse().unwrap();
        assert_eq!(
            FlowKey::from_accepted(7, v4, 15001),
            FlowKey::from_accepted(7, mapped, 15001)
        );
    }

    #[test]
    fn the_listener_port_is_part_of_the_key() {
        let source: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        assert_ne!(
            FlowKey::from_accepted(7, source, 15001),
            FlowKey::from_accepted(7, source, 15101)
        );
    }

    #[test]
    fn a_connection_to_a_pod_is_never_one_from_it() {
        let source: SocketAddr = "10.1.2.3:4000".parse().unwrap();
        let to = FlowKey::to_pod_from(7, source, 15001);
        assert!(to.is_to_pod());
        assert_ne!(to, FlowKey::from_accepted(7, source, 15001));
        assert_eq!(FlowKey::from_words(to.words()), to);
    }

    #[test]
    fn original_destination_round_trips() {
        for text in ["10.96.0.10:80", "[fd00::a]:8080"] {
            let addr: SocketAddr = text.parse().unwrap();
            let dst = OrigDst::new(octets(addr.ip()), addr.port(), 1);
            assert_eq!(dst.socket_addr(), addr);
        }
    }
}
