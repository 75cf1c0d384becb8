//! The downstream socket as hyper sees it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::clock::Clock;

/// An accepted connection: gives back the bytes that detection has read, tells the clock when
/// bytes come in, and closes with RST where the clock says so.
#[derive(Debug)]
pub(super) struct DownstreamIo {
    prefix: Bytes,
    stream: TokioIo<TcpStream>,
    clock: Arc<Clock>,
}

impl DownstreamIo {
    pub(super) fn new(prefix: Bytes, stream: TcpStream, clock: Arc<Clock>) -> Self {
        Self {
            prefix,
            stream: TokioIo::new(stream),
            clock,
        }
    }
}

impl Read for DownstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
            self.clock.received();
            return Poll::Ready(result);
        }
        let count = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..count]);
        self.prefix.advance(count);
        self.clock.received();
        Poll::Ready(Ok(()))
    }
}

impl Write for DownstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.clock.wants_reset() {
            // A FIN now would make a cut body look complete; dropping the socket sends RST.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

impl Drop for DownstreamIo {
    fn drop(&mut self) {
        if self.clock.wants_reset()
            && let Err(error) = self.stream.inner().set_zero_linger()
        {
            tracing::debug!(%error, "a cut connection could not be closed with RST");
        }
    }
}
