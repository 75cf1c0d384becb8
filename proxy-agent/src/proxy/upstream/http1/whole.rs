//! A response read from memory: the same decisions as on a connection, for tests and fuzzing.

use bytes::BytesMut;
use http::{HeaderMap, Request, Response};

use crate::proxy::http1::Step;

use super::Error;
use super::head::{Asked, Heads};

/// What was read of a body.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Whole {
    /// Its data.
    pub data: Vec<u8>,
    /// What came behind it.
    pub trailers: Option<HeaderMap>,
    /// The connection could serve another request, if nothing more came.
    pub keeps_alive: bool,
}

/// Reads `bytes`, which come `piece` at a time and are followed by the end of the connection, as the
/// response to `request`. Responses before it that tell of its progress are passed over.
///
/// # Errors
///
/// What came is no response, or ends early: in words.
pub fn read_response<B>(
    request: &Request<B>,
    bytes: &[u8],
    piece: usize,
) -> Result<Response<Whole>, String> {
    read(Asked::by(request), bytes.chunks(piece.max(1))).map_err(|error| error.to_string())
}

fn read<'a>(
    asked: Asked,
    mut pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<Response<Whole>, Error> {
    let mut inbox = BytesMut::new();
    let mut heads = Heads::default();
    let mut head = loop {
        match heads.take(&mut inbox, asked)? {
            Some(head) if head.is_progress() => {}
            Some(head) => break head,
            None => inbox.extend_from_slice(pieces.next().ok_or(Error::Closed)?),
        }
    };
    let mut whole = Whole {
        keeps_alive: head.keeps_alive,
        ..Whole::default()
    };
    loop {
        match head.framing.take(&mut inbox)? {
            Step::End => return Ok(head.response.map(|()| whole)),
            Step::Frame(frame) => match frame.into_data() {
                Ok(data) => whole.data.extend_from_slice(&data),
                Err(frame) => whole.trailers = frame.into_trailers().ok(),
            },
            Step::Read => match pieces.next() {
                Some(piece) => inbox.extend_from_slice(piece),
                None if head.framing.close() => {}
                None => return Err(Error::Closed),
            },
        }
    }
}
