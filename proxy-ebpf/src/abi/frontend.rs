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
}

/// Value of the `FRONTENDS` map. An unknown verdict byte passes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frontend {
    verdict: u8,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<Frontend>() == 4, "Frontend must have no padding");

impl Frontend {
    const PROXY: u8 = 1;

    /// Builds the value.
    pub const fn new(verdict: Verdict) -> Self {
        let verdict = match verdict {
            Verdict::Pass => 0,
            Verdict::Proxy => Self::PROXY,
        };
        Self {
            verdict,
            reserved: [0; 3],
        }
    }

    /// The verdict; a byte that this version does not know passes.
    #[inline(always)]
    pub const fn verdict(&self) -> Verdict {
        match self.verdict {
            Self::PROXY => Verdict::Proxy,
            _ => Verdict::Pass,
        }
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
        assert_eq!(Frontend::new(Verdict::Proxy).verdict(), Verdict::Proxy);
        assert_eq!(Frontend::new(Verdict::Pass).verdict(), Verdict::Pass);
        let unknown = Frontend {
            verdict: 0xff,
            reserved: [0; 3],
        };
        assert_eq!(unknown.verdict(), Verdict::Pass);
    }
}
