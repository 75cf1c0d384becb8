//! The chunked coding (RFC 9112, section 7.1).

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Status;

use crate::proxy::wire::TOGETHER_BYTES;
use crate::proxy::{MAX_HEAD_BYTES, MAX_HEADERS};

use super::fields::Looked;

/// Bytes of the line before a chunk, extensions included.
const MAX_LINE: usize = 4 * 1024;

/// Why chunks are none.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ChunkError {
    #[error("the size of a chunk is no number")]
    Size,
    #[error("the line before a chunk has more than {MAX_LINE} bytes")]
    LongLine,
    #[error("a chunk does not end where it should")]
    End,
    #[error("a line of trailers that does not end in CR and LF")]
    TrailerLine,
    #[error("trailers that are none")]
    Trailers(#[from] httparse::Error),
    #[error("a trailer field that is none")]
    Field(#[from] http::Error),
    #[error("trailers of more than {MAX_HEAD_BYTES} bytes")]
    LongTrailers,
}

/// Where in the coding what comes next is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::proxy) enum Chunks {
    /// Before a size.
    #[default]
    Size,
    /// In a chunk, of which so many bytes are to come.
    Data(u64),
    /// Behind a chunk's last byte.
    End,
    /// Behind the last chunk.
    Trailers(Looked),
}

/// What came.
#[derive(Debug)]
pub(in crate::proxy) enum Piece {
    Data(Bytes),
    /// The end, with what it says.
    End(Option<HeaderMap>),
}

impl Chunks {
    /// Takes the next piece off `inbox`; `None` until more has come.
    pub(in crate::proxy) fn take(
        &mut self,
        inbox: &mut BytesMut,
    ) -> Result<Option<Piece>, ChunkError> {
        loop {
            match self {
                Self::Size => match take_size(inbox)? {
                    None => return Ok(None),
                    Some(0) => *self = Self::Trailers(Looked::default()),
                    Some(size) => *self = Self::Data(size),
                },
                Self::Data(left) => {
                    let Some(data) = take_data(inbox, *left) else {
                        return Ok(None);
                    };
                    *self = match *left - data.len() as u64 {
                        0 => Self::End,
                        left => Self::Data(left),
                    };
                    return Ok(Some(Piece::Data(data)));
                }
                Self::End => match inbox.get(..2) {
                    None => return Ok(None),
                    Some(b"\r\n") => {
                        inbox.advance(2);
                        *self = Self::Size;
                    }
                    Some(_) => return Err(ChunkError::End),
                },
                Self::Trailers(looked) => {
                    return Ok(take_trailers(inbox, looked)?.map(Piece::End));
                }
            }
        }
    }
}

/// At most `left` bytes, at least one.
pub(super) fn take_data(inbox: &mut BytesMut, left: u64) -> Option<Bytes> {
    let count = usize::try_from(left).map_or(inbox.len(), |left| left.min(inbox.len()));
    if count == 0 {
        return None;
    }
    if count == inbox.capacity() && count <= TOGETHER_BYTES {
        // With nothing left behind, nobody has to count who shares it. What is larger is not copied
        // on, and its room serves the next read when it is written.
        return Some(std::mem::take(inbox).freeze());
    }
    Some(inbox.split_to(count).freeze())
}

/// The line before a chunk: hexadecimal digits, and extensions that mean nothing to a proxy.
fn take_size(inbox: &mut BytesMut) -> Result<Option<u64>, ChunkError> {
    let Some(end) = inbox.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return match inbox.len() < MAX_LINE {
            true => Ok(None),
            false => Err(ChunkError::LongLine),
        };
    };
    let line = inbox[..end].strip_suffix(b"\r").ok_or(ChunkError::Size)?;
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    // Bad whitespace before an extension is to be taken (RFC 9112, section 7.1.1).
    let blank = digits
        .iter()
        .rev()
        .take_while(|byte| matches!(byte, b' ' | b'\t'));
    let digits = &digits[..digits.len() - blank.count()];
    // Another end of line within the line might be one to whoever else reads it.
    let plain = digits.iter().all(u8::is_ascii_hexdigit) && !line.contains(&b'\r');
    let text = std::str::from_utf8(digits).ok().filter(|_| plain);
    let size = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    let size = size.ok_or(ChunkError::Size)?;
    inbox.advance(end + 1);
    Ok(Some(size))
}

/// The trailers behind the last chunk, up to the empty line.
fn take_trailers(
    inbox: &mut BytesMut,
    looked: &mut Looked,
) -> Result<Option<Option<HeaderMap>>, ChunkError> {
    if inbox.starts_with(b"\r\n") {
        inbox.advance(2);
        return Ok(Some(None));
    }
    if inbox.starts_with(b"\n") {
        return Err(ChunkError::End);
    }
    if !looked.again(inbox) {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let (length, fields) = match httparse::parse_headers(inbox, &mut fields)? {
        Status::Complete((length, fields)) if length <= MAX_HEAD_BYTES => (length, fields),
        Status::Partial if inbox.len() <= MAX_HEAD_BYTES => return Ok(None),
        Status::Complete(_) | Status::Partial => return Err(ChunkError::LongTrailers),
    };
    // Where lines end in LF alone, readers differ in which empty line is the last.
    let mut lines = inbox[..length].split_inclusive(|byte| *byte == b'\n');
    if !lines.all(|line| line.ends_with(b"\r\n")) {
        return Err(ChunkError::TrailerLine);
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(http::Error::from)?;
        let value = HeaderValue::from_bytes(field.value).map_err(http::Error::from)?;
        trailers.append(name, value);
    }
    inbox.advance(length);
    Ok(Some((!trailers.is_empty()).then_some(trailers)))
}
