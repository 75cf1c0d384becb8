//! A request read from memory: the same decisions as on a connection, for tests and fuzzing.

use bytes::BytesMut;
use http::Request;

use crate::proxy::http1::{Looked, Whole};

use super::head;

/// A request's body, and what else there is to say of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WholeRequest {
    /// Its body.
    pub body: Whole,
    /// The connection may serve another request.
    pub keeps_alive: bool,
    /// Bytes behind the request.
    pub rest: Vec<u8>,
}

/// Reads `bytes`, which come `piece` at a time and are followed by the end of the connection, as a
/// request.
///
/// # Errors
///
/// What came is no request, or ends early: in words.
pub fn read_request(bytes: &[u8], piece: usize) -> Result<Request<WholeRequest>, String> {
    let early = || "it ends early".to_owned();
    let mut pieces = bytes.chunks(piece.max(1));
    let mut inbox = BytesMut::new();
    let mut looked = Looked::default();
    let mut head = loop {
        match head::take(&mut inbox, &mut looked).map_err(|error| error.to_string())? {
            Some(head) => break head,
            None => inbox.extend_from_slice(pieces.next().ok_or_else(early)?),
        }
    };
    let body = head.framing.take_all(&mut inbox, || pieces.next());
    let body = body.map_err(|error| error.to_string())?.ok_or_else(early)?;
    let behind: Vec<&[u8]> = pieces.collect();
    let whole = WholeRequest {
        body,
        keeps_alive: head.keeps_alive,
        rest: [&inbox[..], &behind.concat()].concat(),
    };
    Ok(head.request.map(|_| whole))
}
