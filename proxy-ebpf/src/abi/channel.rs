//! Acceleration: the two ends of a connection between an application and the agent, whichever of them
//! made it, and what each side must know of the other so that bytes may go from socket to socket.
//!
//! Bytes that are redirected are read before bytes that came by TCP, and nothing bounds how many
//! of them lie unread. Hence the two rules: none is redirected before everything that went by TCP
//! has been read, and never more than [`WINDOW_BYTES`] beyond what is known to be read.

use super::flow::FlowKey;

/// Redirected bytes that lie unread at most, in each direction of a connection.
pub const WINDOW_BYTES: u64 = 64 * 1024;

/// Which end of a connection a socket is: the application's or the agent's.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The pod's own socket.
    Application = 1,
    /// The agent's: accepted from a pod, or connected to one.
    Agent = 2,
    /// A pod's that has connected to another pod, without the agent ([`super::pair`]).
    Client = 3,
    /// That other pod's.
    Server = 4,
}

/// Key of `SOCKETS`. It carries the netns cookie: no pod can name a socket of another one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EndKey {
    /// In words, so that programs need not move it byte by byte.
    flow: [u64; 4],
    end: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<EndKey>() == 40, "EndKey must have no padding");

impl EndKey {
    /// Names one end of a connection.
    #[inline(always)]
    pub const fn new(flow: FlowKey, end: End) -> Self {
        Self {
            flow: flow.words(),
            end: end as u32,
            reserved: 0,
        }
    }
}

/// What a socket in `SOCKETS` keeps of itself, as long as it lives (`CHANNELS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Channel {
    flow: [u64; 4],
    /// An [`End`].
    pub end: u32,
    /// 1 since the sequence numbers are set: when the connection is established, by sockops. Those of a socket that
    /// the agent itself has entered, for its self-test, at its first message.
    pub started: u32,
    /// The connection's credit; 0 in `generation` before the agent has joined.
    pub credit: CreditId,
    /// Sequence numbers of the application's socket when it last sent.
    pub write_seq: u32,
    /// As above: up to where it has read.
    pub copied_seq: u32,
    /// Bytes that were redirected.
    pub redirected: u64,
    /// Bytes that went by TCP.
    pub by_tcp: u64,
    /// Offset in the stream behind the last byte that went by TCP.
    pub last_by_tcp: u64,
    /// Bytes that the application has read of those that came by TCP.
    pub read_by_tcp: u64,
    /// `since_ns` of the connection's [`super::pair::Pair`]; 0 where the agent is one end.
    pub pair_since_ns: u64,
}

const _: () = assert!(size_of::<Channel>() == 96, "Channel must have no padding");

impl Channel {
    /// One end of the connection `flow`.
    #[inline(always)]
    pub const fn new(flow: FlowKey, end: End, credit: CreditId) -> Self {
        Self {
            flow: flow.words(),
            end: end as u32,
            started: 0,
            credit,
            write_seq: 0,
            copied_seq: 0,
            redirected: 0,
            by_tcp: 0,
            last_by_tcp: 0,
            read_by_tcp: 0,
            pair_since_ns: 0,
        }
    }

    /// The same, of a connection between two pods.
    #[inline(always)]
    pub const fn of_pair(self, since_ns: u64) -> Self {
        Self {
            pair_since_ns: since_ns,
            ..self
        }
    }

    /// The same, of a socket that has just been connected or accepted: it has sent and read what these sequence numbers say,
    /// and nothing of it counts.
    #[inline(always)]
    pub const fn begun(self, write_seq: u32, copied_seq: u32) -> Self {
        Self {
            started: 1,
            write_seq,
            copied_seq,
            ..self
        }
    }

    /// Key of this end.
    #[inline(always)]
    pub const fn key(&self) -> EndKey {
        EndKey {
            flow: self.flow,
            end: self.end,
            reserved: 0,
        }
    }

    /// Key of the other end.
    #[inline(always)]
    pub const fn far_end(&self) -> EndKey {
        const AGENT: u32 = End::Agent as u32;
        const CLIENT: u32 = End::Client as u32;
        const SERVER: u32 = End::Server as u32;
        let end = match self.end {
            AGENT => End::Application,
            CLIENT => End::Server,
            SERVER => End::Client,
            _ => End::Agent,
        };
        EndKey {
            flow: self.flow,
            end: end as u32,
            reserved: 0,
        }
    }

    /// The connection.
    #[inline(always)]
    pub const fn flow(&self) -> FlowKey {
        FlowKey::from_words(self.flow)
    }
}

/// Which credit is a connection's. Credits are used again, by the next generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CreditId {
    /// Index in `CREDITS`.
    pub index: u32,
    /// Never 0.
    pub generation: u32,
}

const _: () = assert!(size_of::<CreditId>() == 8, "CreditId must have no padding");

/// What the two sides of a connection tell each other, in memory that both can write (`CREDITS`).
/// Each of its halves, a cache line, is written by one side.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Credit {
    /// Whose it is; raised when a connection leaves it.
    pub generation: u64,
    /// Bytes of the application's stream that the agent has read.
    pub read: u64,
    /// Bytes that the agent may still redirect.
    pub permit: u64,
    /// Bytes that the agent has redirected.
    pub redirected: u64,
    reserved: [u64; 4],
    /// What the application has read by TCP when it last sent: see [`Credit::stamp`].
    pub application_read: u64,
    /// Offset in the application's stream behind what it last sent, if that was redirected: a stamp.
    /// Written before any of it can be read; 0 from the next message by TCP on, of which the programs
    /// do not see all.
    pub application_sent: u64,
    reserved_end: [u64; 6],
}

const _: () = assert!(size_of::<Credit>() == 128, "Credit must be two cache lines");

impl Credit {
    /// Bits of the count in a stamp; the generation is above them.
    const COUNT_BITS: u32 = 48;

    /// A count with the generation that it is of: whoever writes a credit late, when it is another
    /// connection's, writes nothing that is believed.
    #[inline(always)]
    pub const fn stamp(generation: u32, bytes: u64) -> u64 {
        (generation as u64) << Self::COUNT_BITS | bytes & ((1 << Self::COUNT_BITS) - 1)
    }
}

// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for EndKey {}
// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Channel {}
// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for CreditId {}
// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Credit {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_keeps_its_flow() {
        let source = "10.1.2.3:4000".parse().unwrap();
        let flow = FlowKey::from_accepted(7, source, 15001);
        let channel = Channel::new(flow, End::Agent, CreditId::default());
        assert_eq!(channel.flow(), flow);
        let ends = [End::Agent, End::Application].map(|end| EndKey::new(flow, end));
        assert_ne!(ends[0], ends[1]);
        assert_eq!(channel.far_end(), ends[1]);
    }

    #[test]
    fn the_ends_of_a_connection_between_pods_are_each_others_and_nobody_elses() {
        let source = "10.1.2.3:4000".parse().unwrap();
        let flow = FlowKey::to_pod_from(7, source, 8080);
        let channel = |end| Channel::new(flow, end, CreditId::default());
        for (end, far) in [
            (End::Client, End::Server),
            (End::Server, End::Client),
            (End::Agent, End::Application),
            (End::Application, End::Agent),
        ] {
            assert_eq!(channel(end).far_end(), EndKey::new(flow, far));
        }
    }

    #[test]
    fn stamps_of_two_generations_differ() {
        assert_ne!(Credit::stamp(1, 5), Credit::stamp(2, 5));
        assert_ne!(Credit::stamp(1, 5), Credit::stamp(1, 6));
        assert_eq!(Credit::stamp(0, u64::MAX), (1 << 48) - 1);
    }
}
