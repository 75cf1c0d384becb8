//! HTTP/2 on both sides, by the h2 library: how bodies come in and go out on a stream, and streams
//! that carry a tunnel. A stream is served by the task of its request; there is none between.

mod inbound;
mod outbound;
#[cfg(test)]
mod tests;
mod tunnel;

pub(super) use inbound::Inbound;
pub(super) use outbound::{Outbound, Unsent};
pub(super) use tunnel::Duplex;

/// Bytes of a head, counted as RFC 9113, section 6.5.2 says; more is refused.
pub(super) const MAX_HEAD_LIST: u32 = 64 * 1024;
/// Bytes in flight on one stream: a gRPC stream fills a 1 Gbit/s link at 8 ms round trip.
pub(super) const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes in flight on one connection; also the bound on what it can make the agent hold.
pub(super) const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
