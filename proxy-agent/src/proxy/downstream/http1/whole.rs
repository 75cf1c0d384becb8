//! A request read from memory: the same decisions as on a connection, for tests and fuzzing.

use bytes::BytesMut;
use http::{HeaderMap, Request};

use crate::proxy::http1::{Looked, Step};

use super::head;

/// What was read of a body, and what else there is to say of the request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WholeRequest {
    /// Its data.
    pub data: Vec<u8>,
    /// What came behind it.
    pub trailers: Option<HeaderMap>,
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
    let mut pieces = bytes.chunks(piece.max(1));
    let mut more = || pieces.next().ok_or_else(|| "it ends early".to_owned());
    let mut inbox = BytesMut::new();
    let mut looked = Looked::default();
    let head = loop {
        match head::take(&mut inbox, &mut looked).map_err(|error| error.to_string())? {
            Some(head) => break head,
            None => inbox.extend_from_slice(more()?),
        }
    };
    let mut framing = head.framing;
    let mut whole = WholeRequest {
        keeps_alive: head.keeps_alive,
        ..WholeRequest::default()
    };
    loop {
        let step = framing.take(&mut inbox);
        match step.map_err(|error| error.to_string())? {
            Step::End => break,
            Step::Frame(frame) => match frame.into_data() {
                Ok(data) => whole.data.extend_from_slice(&data),
                Err(frame) => whole.trailers = frame.into_trailers().ok(),
            },
            Step::Read => inbox.extend_from_slice(more()?),
        }
    }
    whole.rest = [&inbox[..], &pieces.flatten().copied().collect::<Vec<u8>>()].concat();
    Ok(head.request.map(|_| whole))
}
