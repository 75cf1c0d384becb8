//! What the echo server answers: which pod answered, and what it saw of the request.
//!
//! Shared by the server (`e2e-http`) and the tests, so that both mean the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Response header with the name of the pod that answered.
pub const ENDPOINT_HEADER: &str = "x-endpoint";
/// Response header with the IP address that the server saw as its client.
pub const PEER_HEADER: &str = "x-peer";

/// Body of the echo server's answer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Answer {
    /// `--name` of the server: its pod.
    pub endpoint: String,
    /// Address and port that the connection came from.
    pub peer: String,
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// `Host` or `:authority`.
    pub authority: String,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2.0`.
    pub version: String,
    /// Headers, lower case; several values of one name are joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// FNV-1a hash of the body, to compare what was sent with what came.
    pub body_hash: u64,
    /// Trailers of the request.
    pub trailers: BTreeMap<String, String>,
}

impl Answer {
    /// The IP address that the server saw.
    pub fn peer_ip(&self) -> &str {
        self.peer
            .rsplit_once(':')
            .map_or("", |(ip, _)| ip.trim_matches(['[', ']']))
    }

    /// A header's value; empty if it was not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// FNV-1a, 64 bit: a checksum that both ends compute as bytes pass.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The hash so far.
    pub const fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_address_loses_its_port() {
        let of = |peer: &str| Answer {
            peer: peer.to_owned(),
            ..Answer::default()
        };
        assert_eq!(of("10.244.0.2:4711").peer_ip(), "10.244.0.2");
        assert_eq!(of("[fd00::2]:4711").peer_ip(), "fd00::2");
    }
}
