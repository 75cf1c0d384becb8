//! A request as it is written (RFC 9112, sections 3, 6 and 7.1).

use std::fmt;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::proxy::headers;
use crate::proxy::wire::TOGETHER_BYTES;

use super::head::number;

/// Room that is made for a head.
const USUAL_HEAD_BYTES: usize = 512;

const CHUNK_END: &[u8] = b"\r\n";

/// How a request tells where its body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outgoing {
    /// So many bytes are to come.
    Length(u64),
    Chunked,
    /// Its end is put already.
    Ended,
}

/// The body is not as long as the head says.
#[derive(Debug, thiserror::Error)]
#[error("a request's body is not as long as its head says")]
pub(in crate::proxy) struct Mismatch;

impl Outgoing {
    /// By what is known of the body; else by the request's own word.
    fn of<B: Body>(request: &Request<B>) -> Self {
        let body = request.body();
        if body.is_end_stream() {
            return Self::Length(0);
        }
        let told = || {
            let mut told = request.headers().get_all(CONTENT_LENGTH).iter();
            let only = (told.next(), told.next());
            match only {
                (Some(length), None) => number(length.as_bytes()),
                _ => None,
            }
        };
        let length = body.size_hint().exact().or_else(told);
        length.map_or(Self::Chunked, Self::Length)
    }

    /// Puts a frame into `outbox`.
    pub(super) fn put(
        &mut self,
        frame: Frame<Bytes>,
        trailers: &Trailers,
        outbox: &mut Outbox,
    ) -> Result<(), Mismatch> {
        match (&mut *self, frame.into_data()) {
            (_, Ok(data)) if data.is_empty() => {}
            (Self::Ended, Ok(_)) => return Err(Mismatch),
            (Self::Length(left), Ok(data)) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Mismatch)?;
                outbox.put(data, &[]);
            }
            (Self::Chunked, Ok(data)) => {
                outbox.line(format_args!("{:x}\r\n", data.len()));
                outbox.put(data, CHUNK_END);
            }
            // There is no place for them behind a body whose length is told.
            (Self::Length(_) | Self::Ended, Err(_)) => {}
            (Self::Chunked, Err(frame)) => {
                let fields = frame.into_trailers().unwrap_or_default();
                outbox.last_chunk(fields.iter().filter(|(name, _)| trailers.has(name)));
                *self = Self::Ended;
            }
        }
        Ok(())
    }

    /// Puts the body's end into `outbox`.
    pub(super) fn end(self, outbox: &mut Outbox) -> Result<(), Mismatch> {
        match self {
            Self::Length(0) | Self::Ended => {}
            Self::Length(_) => return Err(Mismatch),
            Self::Chunked => outbox.last_chunk(std::iter::empty()),
        }
        Ok(())
    }
}

/// Fields that a request's body may be followed by: those that its head names, and none that frames
/// or routes a message or says who sends it (RFC 9110, section 6.5.1).
#[derive(Debug, Default)]
pub(super) struct Trailers(Vec<HeaderName>);

const NO_TRAILERS: [HeaderName; 13] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

impl Trailers {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let named = headers::members(headers, TRAILER);
        let named = named.filter_map(|name| HeaderName::from_bytes(name).ok());
        Self(named.filter(|name| !NO_TRAILERS.contains(name)).collect())
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.0.contains(name)
    }
}

/// Writes the head of `request` into `outbox`. Returns how its body ends.
pub(super) fn head<B: Body>(request: &Request<B>, outbox: &mut Outbox) -> Outgoing {
    let outgoing = Outgoing::of(request);
    let out = &mut outbox.before;
    out.reserve(USUAL_HEAD_BYTES);
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let target = target(request);
    if target.starts_with('?') {
        // Of a URI without a path.
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut told = false;
    for (name, value) in request.headers() {
        if name == CONTENT_LENGTH {
            told = true;
        } else if name != TRANSFER_ENCODING {
            field(out, name, value.as_bytes());
        }
    }
    // RFC 9110, section 8.6: servers may wait for a length of requests that have bodies by nature.
    let by_nature = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    match outgoing {
        Outgoing::Length(0) if !told && !by_nature => {}
        Outgoing::Length(length) => outbox.line(format_args!("content-length: {length}\r\n")),
        Outgoing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Outgoing::Ended => {}
    }
    outbox.before.extend_from_slice(b"\r\n");
    outgoing
}

fn target<B>(request: &Request<B>) -> &str {
    let uri = request.uri();
    match uri.authority() {
        Some(authority) if request.method() == Method::CONNECT => authority.as_str(),
        _ => uri.path_and_query().map_or("/", |target| target.as_str()),
    }
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What waits to be written, in this order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    before: Vec<u8>,
    /// Bytes of it that are written.
    written: usize,
    data: Bytes,
    after: &'static [u8],
}

impl Outbox {
    /// Whether another frame can be put before this one is written.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.after.is_empty() && self.before.len() < TOGETHER_BYTES
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.before.len() - self.written + self.data.len() + self.after.len()
    }

    /// Drops what waits, and more room than a usual head needs.
    pub(super) fn clear(&mut self) {
        let mut before = std::mem::take(&mut self.before);
        if before.capacity() <= TOGETHER_BYTES {
            before.clear();
            self.before = before;
        }
        (self.written, self.data, self.after) = (0, Bytes::new(), &[]);
    }

    /// Room for the next frame must have been asked for.
    fn put(&mut self, data: Bytes, after: &'static [u8]) {
        if self.before.len() + data.len() + after.len() <= TOGETHER_BYTES {
            self.before.extend_from_slice(&data);
            self.before.extend_from_slice(after);
        } else {
            (self.data, self.after) = (data, after);
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.before.write_fmt(line);
    }

    /// The end of a chunked body.
    fn last_chunk<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    ) {
        self.before.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            field(&mut self.before, name, value.as_bytes());
        }
        self.before.extend_from_slice(CHUNK_END);
    }

    /// Writes until nothing waits.
    pub(super) fn poll_write(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.len() > 0 {
            let before = &self.before[self.written..];
            let written = if self.data.is_empty() && self.after.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, before))?
            } else {
                let parts = [before, &self.data[..], self.after].map(IoSlice::new);
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let before = written.min(self.before.len() - self.written);
        let data = (written - before).min(self.data.len());
        self.written += before;
        self.data.advance(data);
        self.after = &self.after[written - before - data..];
        if self.len() == 0 {
            self.clear();
        }
    }
}
