//! What waits to be written.

use std::fmt;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{HeaderName, HeaderValue};
use tokio::io::AsyncWrite;

use crate::proxy::wire::TOGETHER_BYTES;

/// Room that is made for a head.
const USUAL_HEAD_BYTES: usize = 512;

pub(super) const CHUNK_END: &[u8] = b"\r\n";

pub(in crate::proxy) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What waits to be written, in this order.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Outbox {
    before: Vec<u8>,
    /// Bytes of it that are written.
    written: usize,
    data: Bytes,
    after: &'static [u8],
}

impl Outbox {
    /// Whether another frame can be put before this one is written.
    pub(in crate::proxy) fn has_room(&self) -> bool {
        self.data.is_empty() && self.after.is_empty() && self.before.len() < TOGETHER_BYTES
    }

    /// Bytes that wait.
    pub(in crate::proxy) fn len(&self) -> usize {
        self.before.len() - self.written + self.data.len() + self.after.len()
    }

    /// Keeps no room where nothing waits.
    pub(in crate::proxy) fn trim(&mut self) {
        if self.len() == 0 {
            *self = Self::default();
        }
    }

    /// Drops what waits, and more room than a usual head needs.
    pub(in crate::proxy) fn clear(&mut self) {
        let mut before = std::mem::take(&mut self.before);
        if before.capacity() <= TOGETHER_BYTES {
            before.clear();
            self.before = before;
        }
        (self.written, self.data, self.after) = (0, Bytes::new(), &[]);
    }

    /// Room for the next frame must have been asked for.
    pub(super) fn put(&mut self, data: Bytes, after: &'static [u8]) {
        if self.before.len() + data.len() + after.len() <= TOGETHER_BYTES {
            self.before.extend_from_slice(&data);
            self.before.extend_from_slice(after);
        } else {
            (self.data, self.after) = (data, after);
        }
    }

    /// Where a head begins, with room for a usual one.
    pub(in crate::proxy) fn head(&mut self) -> &mut Vec<u8> {
        self.before.reserve(USUAL_HEAD_BYTES);
        &mut self.before
    }

    /// Where it goes on: no room is made.
    pub(in crate::proxy) const fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.before
    }

    pub(in crate::proxy) fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.before.write_fmt(line);
    }

    /// The field that tells a body's length.
    pub(in crate::proxy) fn length(&mut self, mut length: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (length % 10) as u8;
            length /= 10;
            if length == 0 {
                break;
            }
        }
        self.before.extend_from_slice(b"content-length: ");
        self.before.extend_from_slice(&digits[at..]);
        self.before.extend_from_slice(CHUNK_END);
    }

    /// A response before the last one.
    pub(in crate::proxy) fn interim(&mut self, response: &[u8]) {
        self.before.extend_from_slice(response);
    }

    /// The end of a chunked body.
    pub(super) fn last_chunk<'a>(
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
    pub(in crate::proxy) fn poll_write(
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
