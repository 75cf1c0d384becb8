//! The socket of an HTTP/2 client as hyper sees it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use crate::proxy::wire::Wire;

use super::clock::Clock;
use super::heads::HeadWatch;

/// Bytes read at a time: one frame of the usual largest size.
const LOOK_BYTES: usize = 16 * 1024;

/// An accepted connection: gives back the bytes that detection has read, and tells the clock of
/// heads that are unfinished.
#[derive(Debug)]
pub(super) struct DownstreamIo {
    prefix: Bytes,
    stream: Wire,
    clock: Rc<Clock>,
    heads: HeadWatch,
}

impl DownstreamIo {
    pub(super) fn new(prefix: Bytes, stream: TcpStream, clock: Rc<Clock>) -> Self {
        Self {
            prefix,
            stream: Wire::new(stream),
            clock,
            heads: HeadWatch::new(),
        }
    }

    fn received(&mut self, bytes: &[u8], mut buf: ReadBufCursor<'_>) {
        buf.put_slice(bytes);
        self.clock.received(self.heads.feed(bytes));
    }
}

impl Read for DownstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let count = self.prefix.len().min(buf.remaining());
            let prefix = self.prefix.split_to(count);
            self.received(&prefix, buf);
            return Poll::Ready(Ok(()));
        }
        // By way of a buffer that can be looked at.
        let mut read = [MaybeUninit::uninit(); LOOK_BYTES];
        let length = buf.remaining().min(LOOK_BYTES);
        let mut read = ReadBuf::uninit(&mut read[..length]);
        ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut read))?;
        self.received(read.filled(), buf);
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::proxy::downstream::{HEAD_LIMIT, IDLE_LIMIT};

    /// Sends `bytes` after `prefix` was already read, and returns the clock after all was read.
    async fn clock_after(prefix: &'static [u8], bytes: &[u8]) -> Rc<Clock> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(bytes).await.unwrap();
        let clock = Clock::new();
        let prefix = Bytes::from_static(prefix);
        let mut left = prefix.len() + bytes.len();
        let mut io = DownstreamIo::new(prefix, stream, Rc::clone(&clock));
        while left > 0 {
            let mut space = [0; 64];
            let mut space = hyper::rt::ReadBuf::new(&mut space);
            poll_fn(|cx| Pin::new(&mut io).poll_read(cx, space.unfilled()))
                .await
                .unwrap();
            left -= space.filled().len();
        }
        clock
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[tokio::test]
    async fn an_http2_head_without_its_end_is_on_the_clock() {
        let clock = clock_after(PREFACE, b"\0\0\x01\x01\0\0\0\0\x01\x82").await;
        let left = clock.deadline(IDLE_LIMIT).unwrap() - Instant::now();
        assert!(left <= HEAD_LIMIT, "{left:?}");
    }

    #[tokio::test]
    async fn a_finished_http2_head_is_not() {
        let clock = clock_after(PREFACE, b"\0\0\x01\x01\x04\0\0\0\x01\x82").await;
        let left = clock.deadline(IDLE_LIMIT).unwrap() - Instant::now();
        assert!(left > HEAD_LIMIT, "{left:?}");
    }
}
