//! A response read from memory: the same decisions as on a connection, for tests and fuzzing.

use bytes::BytesMut;
use http::{Request, Response};

use crate::proxy::http1::Whole;
use crate::proxy::upstream::ResponseFields;

use super::Error;
use super::head::{Asked, Heads};

/// A response's body, and what else there is to say of it.
#[derive(Debug, Eq, PartialEq)]
pub struct WholeResponse {
    /// Its body.
    pub body: Whole,
    /// The connection could serve another request, if nothing more came.
    pub keeps_alive: bool,
    /// Its fields as they go on, instead of in the map, where nobody reads them.
    pub lines: Vec<u8>,
}

/// Reads `bytes`, which come `piece` at a time and are followed by the end of the connection, as the
/// response to `request`, whose fields somebody reads or not. Responses before it that tell of its
/// progress are passed over.
///
/// # Errors
///
/// What came is no response, or ends early: in words.
pub fn read_response<B>(
    request: &Request<B>,
    bytes: &[u8],
    piece: usize,
    fields: ResponseFields,
) -> Result<Response<WholeResponse>, String> {
    let read = read(Asked::by(request, fields), bytes.chunks(piece.max(1)));
    read.map_err(|error| error.to_string())
}

fn read<'a>(
    asked: Asked,
    mut pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<Response<WholeResponse>, Error> {
    let mut inbox = BytesMut::new();
    let mut heads = Heads::default();
    let mut head = loop {
        match heads.take(&mut inbox, asked)? {
            Some(head) if head.is_progress() => {}
            Some(head) => break head,
            None => inbox.extend_from_slice(pieces.next().ok_or(Error::Closed)?),
        }
    };
    let body = head.framing.take_all(&mut inbox, || pieces.next())?;
    let whole = WholeResponse {
        body: body.ok_or(Error::Closed)?,
        keeps_alive: head.keeps_alive,
        lines: head.lines.as_bytes().to_vec(),
    };
    Ok(head.response.map(|_| whole))
}
