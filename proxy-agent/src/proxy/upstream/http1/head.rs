//! The head of a response, and what it says of the body (RFC 9112, sections 4 and 6.3).

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;
use smallvec::SmallVec;

use crate::proxy::{MAX_HEAD_BYTES, MAX_HEADERS, headers, upgrade};

use super::chunked::Chunks;
use super::framing::Framing;

/// Fields of a head whose places are noted without an allocation.
const USUAL_FIELDS: usize = 24;

/// Why a head is none.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum HeadError {
    #[error("no HTTP/1 response")]
    Syntax(#[from] httparse::Error),
    #[error("a field that is none")]
    Field(#[from] http::Error),
    #[error("a head of more than {MAX_HEAD_BYTES} bytes")]
    TooLong,
    #[error("Content-Length is not one number")]
    Length,
    #[error("a transfer coding that is not `chunked`, or in HTTP/1.0")]
    Coding,
    #[error("a switch of protocols that nobody asked for")]
    Switch,
    #[error("more than {MAX_PROGRESS} responses that tell of progress")]
    Progress,
}

/// Responses before the last one, such as `100 Continue`.
const MAX_PROGRESS: u32 = 100;

/// What of a request decides how its response is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    head: bool,
    connect: bool,
    switch: bool,
}

impl Asked {
    pub(super) fn by<B>(request: &Request<B>) -> Self {
        Self {
            head: request.method() == Method::HEAD,
            connect: request.method() == Method::CONNECT,
            switch: upgrade::is_asked(request),
        }
    }
}

/// A response's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// The connection may serve another request afterwards.
    pub(super) keeps_alive: bool,
}

/// Bytes at the front of an inbox that were looked at already, and do not hold the end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Looked(usize);

impl Looked {
    /// Whether it is worth to look at `inbox` again: an empty line may have come, or too much. Else
    /// lines that come byte by byte would be parsed as many times.
    pub(super) fn again(&mut self, inbox: &[u8]) -> bool {
        let first = self.0 == 0 && !inbox.is_empty();
        let new = &inbox[self.0.saturating_sub(3).min(inbox.len())..];
        self.0 = inbox.len();
        let ends = |part: &[u8]| part.ends_with(b"\n\n") || part == b"\n\r\n";
        first || inbox.len() > MAX_HEAD_BYTES || new.windows(3).any(ends)
    }
}

impl Head {
    /// Whether another one follows.
    pub(super) fn is_progress(&self) -> bool {
        self.response.status().is_informational() && self.framing != Framing::Switched
    }
}

/// The heads of the responses to one request.
#[derive(Debug, Default)]
pub(super) struct Heads {
    looked: Looked,
    /// How many were taken.
    taken: u32,
}

impl Heads {
    /// Takes the head that `inbox` begins with; `None` while it is not whole.
    pub(super) fn take(
        &mut self,
        inbox: &mut BytesMut,
        asked: Asked,
    ) -> Result<Option<Head>, HeadError> {
        if !self.looked.again(inbox) {
            return Ok(None);
        }
        let head = take(inbox, asked)?;
        if head.is_some() {
            self.looked = Looked::default();
            self.taken += 1;
        }
        match self.taken > MAX_PROGRESS {
            true => Err(HeadError::Progress),
            false => Ok(head),
        }
    }

    /// Whether the upstream has said nothing yet.
    pub(super) const fn are_none(&self) -> bool {
        self.taken == 0
    }
}

/// Takes the head that `inbox` begins with; `None` while it is not whole.
fn take(inbox: &mut BytesMut, asked: Asked) -> Result<Option<Head>, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, inbox, &mut fields)?;
    let length = match status {
        Status::Complete(length) if length <= MAX_HEAD_BYTES => length,
        Status::Partial if inbox.len() <= MAX_HEAD_BYTES => return Ok(None),
        Status::Complete(_) | Status::Partial => return Err(HeadError::TooLong),
    };
    let place = |part: &[u8]| {
        let start = part.as_ptr().addr() - inbox.as_ptr().addr();
        start..start + part.len()
    };
    let places: SmallVec<[_; USUAL_FIELDS]> = parsed
        .headers
        .iter()
        .map(|field| (place(field.name.as_bytes()), place(field.value)))
        .collect();
    let code = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(http::Error::from)?;
    let version = match parsed.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let unusual = |reason: &&str| Some(*reason) != code.canonical_reason();
    let reason = parsed.reason.filter(unusual);
    // An empty one lies nowhere: httparse has it for none, and for one of other than ASCII.
    let reason = reason.map(|reason| match reason {
        "" => 0..0,
        reason => place(reason.as_bytes()),
    });
    let head = inbox.split_to(length).freeze();
    let mut response = Response::new(());
    *response.status_mut() = code;
    *response.version_mut() = version;
    *response.headers_mut() = fields_at(&head, &places)?;
    // hyper's server writes it; one that cannot be written is left out.
    if let Some(place) = reason
        && let Ok(reason) = ReasonPhrase::try_from(head.slice(place))
    {
        response.extensions_mut().insert(reason);
    }
    framed(response, asked).map(Some)
}

/// The fields at these places, without copies of their values.
fn fields_at(
    head: &Bytes,
    places: &[(Range<usize>, Range<usize>)],
) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::with_capacity(places.len());
    for (name, value) in places {
        let name = HeaderName::from_bytes(&head[name.clone()])?;
        let value = HeaderValue::from_maybe_shared(head.slice(value.clone()))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn framed(mut response: Response<()>, asked: Asked) -> Result<Head, HeadError> {
    let framing = framing(&mut response, asked)?;
    let ends_itself = !matches!(framing, Framing::UntilClose | Framing::Switched);
    let keeps_alive = ends_itself && keeps_alive(&response);
    Ok(Head {
        response,
        framing,
        keeps_alive,
    })
}

fn framing(response: &mut Response<()>, asked: Asked) -> Result<Framing, HeadError> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return match asked.switch {
            true => Ok(Framing::Switched),
            false => Err(HeadError::Switch),
        };
    }
    if asked.connect && status.is_success() {
        return Ok(Framing::Switched);
    }
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if asked.head || bodiless || status.is_informational() {
        return Ok(Framing::Ended);
    }
    if response.headers().contains_key(TRANSFER_ENCODING) {
        return coded(response);
    }
    match content_length(response.headers_mut())? {
        Some(0) => Ok(Framing::Ended),
        Some(length) => Ok(Framing::Length(length)),
        None => Ok(Framing::UntilClose),
    }
}

/// A coding overrides a length. Others than `chunked` are refused: the field goes with this hop, so
/// that nobody behind it could undo them.
fn coded(response: &Response<()>) -> Result<Framing, HeadError> {
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    let only = (codings.next(), codings.next());
    let (Some(coding), None) = only else {
        return Err(HeadError::Coding);
    };
    let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !is_chunked || response.version() == Version::HTTP_10 {
        return Err(HeadError::Coding);
    }
    Ok(Framing::Chunked(Chunks::default()))
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
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let plain = digits.iter().all(u8::is_ascii_digit);
    text.parse().ok().filter(|_| plain)
}

/// RFC 9112, section 9.3. A length beside a coding may have been read otherwise on the way here:
/// what follows on such a connection is not to be trusted (section 6.1).
fn keeps_alive(response: &Response<()>) -> bool {
    let headers = response.headers();
    let says = |token: &[u8]| {
        let mut options = headers::members(headers, CONNECTION);
        options.any(|option| option.eq_ignore_ascii_case(token))
    };
    let ambiguous = headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH);
    let open = match response.version() {
        Version::HTTP_10 => says(b"keep-alive"),
        _ => true,
    };
    open && !ambiguous && !says(b"close")
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
