//! The upstream socket of an HTTP/1 connection.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;

use crate::proxy::accelerate::{Never, ToPod};

/// A connected socket, and what accelerates it.
#[derive(Debug)]
pub(in crate::proxy) struct UpstreamIo {
    /// Before the socket, whose place others may have as soon as it is closed.
    accelerated: Option<Box<ToPod>>,
    stream: TcpStream,
}

impl UpstreamIo {
    pub(super) fn new(stream: TcpStream, accelerated: Option<Box<ToPod>>) -> Self {
        Self {
            accelerated,
            stream,
        }
    }

    /// A request begins with the next byte that is written. It has `size` bytes, if that is known.
    pub(super) fn begins(&mut self, size: Option<u64>) {
        if let Some(accelerated) = &mut self.accelerated
            && let Err(Never) = accelerated.begins(&self.stream, size)
        {
            self.accelerated = None;
        }
    }

    /// Whether the upstream has neither sent anything nor closed its side. Asks the system only if
    /// something has happened on the socket since it was last read.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0; 1];
        let mut byte = ReadBuf::new(&mut byte);
        let peek = poll_fn(|cx| self.stream.poll_peek(cx, &mut byte));
        // Where a task has used up its share, tokio calls everything pending.
        let mut peek = pin!(unconstrained(peek));
        let mut cx = Context::from_waker(Waker::noop());
        peek.as_mut().poll(&mut cx).is_pending()
    }

    fn sent(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.has_written(&written);
        }
        written
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.accelerated {
            Some(accelerated) => accelerated.poll_read(&this.stream, cx, buf),
            None => Pin::new(&mut this.stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.sent(written)
    }
}
