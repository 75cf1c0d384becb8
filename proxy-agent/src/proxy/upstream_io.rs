//! The upstream socket of an HTTP/1 connection as hyper sees it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::accelerate::{Never, ToPod};
use super::wire::Wire;

/// Bytes of an accelerated connection read at a time.
const READ_BYTES: usize = 16 * 1024;

/// A connected socket, and what accelerates it.
#[derive(Debug)]
pub(super) struct UpstreamIo {
    /// Before the socket, whose place others may have as soon as it is closed.
    accelerated: Option<Box<ToPod>>,
    stream: Wire,
}

impl UpstreamIo {
    pub(super) fn new(stream: TcpStream, accelerated: Option<Box<ToPod>>) -> Self {
        Self {
            accelerated,
            stream: Wire::new(stream),
        }
    }

    /// Bytes are about to be written.
    fn writes(&mut self, bufs: &[IoSlice<'_>]) {
        if let Some(accelerated) = &mut self.accelerated {
            let first = bufs.iter().map(|buf| buf.len()).sum();
            if let Err(Never) = accelerated.writes(self.stream.inner(), first) {
                self.accelerated = None;
            }
        }
    }

    fn sent(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.has_written(&written);
        }
        written
    }
}

impl Read for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(accelerated) = &mut this.accelerated else {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        };
        let mut read = [MaybeUninit::uninit(); READ_BYTES];
        let length = buf.remaining().min(READ_BYTES);
        let mut read = ReadBuf::uninit(&mut read[..length]);
        ready!(accelerated.poll_read(this.stream.inner(), cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for UpstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes(&[IoSlice::new(buf)]);
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.sent(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes(bufs);
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.sent(written)
    }
}
