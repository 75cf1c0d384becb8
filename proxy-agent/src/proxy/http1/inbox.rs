//! What was read and not used.

use std::io;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// Bytes that are read at a time where nothing is known of what comes: by way of the stack, so that
/// what is kept is as large as what came.
const LOOK_BYTES: usize = 8 * 1024;

/// Bytes that room is made for where more is known to come.
const BULK_BYTES: usize = 64 * 1024;

/// What was read from a connection and not used.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Inbox(BytesMut);

impl Inbox {
    /// With what was read before.
    pub(in crate::proxy) fn of(read: BytesMut) -> Self {
        Self(read)
    }

    /// Reads more, of which `expected` bytes are known to come; 0 is the end.
    pub(in crate::proxy) fn poll_read(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        expected: u64,
    ) -> Poll<io::Result<usize>> {
        if expected > LOOK_BYTES as u64 {
            return self.poll_read_bulk(io, cx, expected);
        }
        let mut read = [MaybeUninit::uninit(); LOOK_BYTES];
        let mut read = ReadBuf::uninit(&mut read);
        ready!(Pin::new(io).poll_read(cx, &mut read))?;
        if self.0.is_empty() {
            // Not into what is left of a large buffer: whoever reads slowly would keep all of it.
            self.0 = BytesMut::new();
        }
        self.0.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// The same, without a copy.
    fn poll_read_bulk(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        expected: u64,
    ) -> Poll<io::Result<usize>> {
        if self.0.capacity() - self.0.len() < LOOK_BYTES {
            let expected = usize::try_from(expected).unwrap_or(BULK_BYTES);
            self.0.reserve(expected.min(BULK_BYTES));
        }
        pin!(io.read_buf(&mut self.0)).poll(cx)
    }

    /// Keeps no room where nothing waits.
    pub(in crate::proxy) fn trim(&mut self) {
        if self.0.is_empty() {
            self.0 = BytesMut::new();
        }
    }

    /// All of it.
    pub(in crate::proxy) fn into_inner(self) -> BytesMut {
        self.0
    }
}

impl Deref for Inbox {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.0
    }
}

impl DerefMut for Inbox {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.0
    }
}
