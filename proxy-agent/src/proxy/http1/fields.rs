//! What the heads of requests and responses have in common: their fields, and what these say of the
//! body and of the connection (RFC 9112, sections 5, 6.3 and 9.3).

use std::ops::Range;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use httparse::{Header, Status};
use smallvec::SmallVec;

use crate::proxy::{MAX_HEAD_BYTES, headers};

use super::chunked::Chunks;
use super::framing::Framing;

/// Fields of a head whose places are noted without an allocation.
const USUAL_FIELDS: usize = 24;

/// Why a head is none.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum HeadError {
    #[error("no HTTP/1")]
    Syntax(#[from] httparse::Error),
    #[error("a field that is none")]
    Field(#[from] http::Error),
    #[error("a head of more than {MAX_HEAD_BYTES} bytes")]
    TooLong,
    #[error("Content-Length is not one number")]
    Length,
    #[error("a transfer coding that is not `chunked`, or in HTTP/1.0")]
    Coding,
}

impl HeadError {
    /// Whether it has more bytes or fields than are taken.
    pub(in crate::proxy) const fn is_size(&self) -> bool {
        matches!(
            self,
            Self::TooLong | Self::Syntax(httparse::Error::TooManyHeaders)
        )
    }
}

/// Bytes at the front of an inbox that were looked at already, and do not hold the end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::proxy) struct Looked(usize);

impl Looked {
    /// Whether it is worth to look at `inbox` again: an empty line may have come, or too much. Else
    /// lines that come byte by byte would be parsed as many times.
    pub(in crate::proxy) fn again(&mut self, inbox: &[u8]) -> bool {
        let first = self.0 == 0 && !inbox.is_empty();
        let new = &inbox[self.0.saturating_sub(3).min(inbox.len())..];
        self.0 = inbox.len();
        let ends = |part: &[u8]| part.ends_with(b"\n\n") || part == b"\n\r\n";
        first || inbox.len() > MAX_HEAD_BYTES || new.windows(3).any(ends)
    }
}

/// The length of a head that was looked for in `inbox`; `None` while it is not whole.
pub(in crate::proxy) fn length(
    status: Status<usize>,
    inbox: &[u8],
) -> Result<Option<usize>, HeadError> {
    match status {
        Status::Complete(length) if length <= MAX_HEAD_BYTES => Ok(Some(length)),
        Status::Partial if inbox.len() <= MAX_HEAD_BYTES => Ok(None),
        Status::Complete(_) | Status::Partial => Err(HeadError::TooLong),
    }
}

/// HTTP/1.0 or 1.1, as httparse says.
pub(in crate::proxy) const fn version(minor: Option<u8>) -> Version {
    match minor {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    }
}

/// Where in `inbox` a part of it is.
pub(in crate::proxy) fn place(inbox: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - inbox.as_ptr().addr();
    start..start + part.len()
}

/// Where the names and values of fields are.
pub(in crate::proxy) type Places = SmallVec<[(Range<usize>, Range<usize>); USUAL_FIELDS]>;

/// Where in `inbox` these fields are.
pub(in crate::proxy) fn places(inbox: &[u8], fields: &[Header<'_>]) -> Places {
    let at = |part| place(inbox, part);
    let fields = fields.iter();
    fields
        .map(|field| (at(field.name.as_bytes()), at(field.value)))
        .collect()
}

/// The fields at these places, without copies of their values.
pub(in crate::proxy) fn fields_at(head: &Bytes, places: &Places) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::with_capacity(places.len());
    for (name, value) in places {
        let name = HeaderName::from_bytes(&head[name.clone()])?;
        let value = HeaderValue::from_maybe_shared(head.slice(value.clone()))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// What the fields of a head say of the connection and of the body, told by one look at each.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Said {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    /// How many fields tell a transfer coding.
    codings: u32,
    /// The last of them tells `chunked` alone.
    chunked: bool,
    /// How many lengths there are.
    lengths: u32,
    /// The last of them, if it is one number.
    length: Option<u64>,
}

impl Said {
    pub(in crate::proxy) fn by(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            if name == CONNECTION {
                said.close |= headers::lists(value, b"close");
                said.keep_alive |= headers::lists(value, b"keep-alive");
            } else if name == CONTENT_LENGTH {
                said.length(value.as_bytes());
            } else if name == TRANSFER_ENCODING {
                said.coding(value.as_bytes());
            }
        }
        said
    }

    /// There is a `Content-Length` of this value.
    pub(super) fn length(&mut self, value: &[u8]) {
        self.lengths += 1;
        self.length = number(value);
    }

    /// There is a `Transfer-Encoding` of this value.
    pub(super) fn coding(&mut self, value: &[u8]) {
        self.codings += 1;
        self.chunked = value.eq_ignore_ascii_case(b"chunked");
    }

    /// Whether there is no length, or one that is a number.
    pub(super) const fn tells_one_length_at_most(&self) -> bool {
        matches!((self.lengths, self.length), (0, _) | (1, Some(_)))
    }

    /// Whether another message may follow. A length beside a coding may have been read otherwise on
    /// the way here: what follows on such a connection is not to be trusted (section 6.1).
    pub(in crate::proxy) const fn keeps_alive(&self, version: Version) -> bool {
        let open = matches!(version, Version::HTTP_11) || self.keep_alive;
        open && !self.close && !(self.codings > 0 && self.lengths > 0)
    }

    /// What frames the body. `headers` are looked at where there are several lengths, or none that is
    /// a number; of several equal ones one is left.
    pub(in crate::proxy) fn framing(
        &self,
        headers: &mut HeaderMap,
        version: Version,
    ) -> Result<Option<Framing>, HeadError> {
        let length = match (self.codings, self.lengths, self.length) {
            (1.., ..) => return self.coded(version).map(Some),
            (0, 0, _) => return Ok(None),
            (0, 1, Some(length)) => Some(length),
            (0, ..) => content_length(headers)?,
        };
        Ok(length.map(|length| match length {
            0 => Framing::Ended,
            length => Framing::Length(length),
        }))
    }

    /// A coding overrides a length. Others than `chunked` are refused: the field goes with this hop,
    /// so that nobody behind it could undo them.
    fn coded(&self, version: Version) -> Result<Framing, HeadError> {
        match self.codings == 1 && self.chunked && version != Version::HTTP_10 {
            true => Ok(Framing::Chunked(Chunks::default())),
            false => Err(HeadError::Coding),
        }
    }
}

/// The length that the head tells, once or several times the same (RFC 9110, section 8.6).
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, HeadError> {
    let mut told = None;
    let mut times = 0;
    for member in headers::members(headers, CONTENT_LENGTH) {
        let length = number(member).ok_or(HeadError::Length)?;
        if told.is_some_and(|told| told != length) {
            return Err(HeadError::Length);
        }
        told = Some(length);
        times += 1;
    }
    if let Some(length) = told.filter(|_| times > 1) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(told)
}

/// A number of decimal digits alone: `u64::from_str` takes a sign, too.
pub(in crate::proxy) fn number(digits: &[u8]) -> Option<u64> {
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    });
    number.filter(|_| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a head of so many lines, which comes byte by byte, is worth a look.
    fn looks(lines: usize) -> usize {
        let head = "x: y\r\n".repeat(lines) + "\r\n";
        let mut looked = Looked::default();
        let parts = 1..=head.len();
        parts
            .filter(|part| looked.again(&head.as_bytes()[..*part]))
            .count()
    }

    #[test]
    fn what_comes_byte_by_byte_is_looked_at_when_it_begins_and_when_it_may_have_ended() {
        assert_eq!((looks(1), looks(1_000)), (2, 2));
        assert!(!Looked::default().again(b""));
        // Beyond the bound every byte is: it is refused then.
        let mut looked = Looked(1);
        assert!(looked.again(&vec![b'x'; MAX_HEAD_BYTES + 1]));
    }
}
