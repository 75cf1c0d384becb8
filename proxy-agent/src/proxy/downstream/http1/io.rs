//! The socket of a client that speaks HTTP/1.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::proxy::accelerate::Accelerated;
use crate::proxy::accept;

/// An accepted connection, and what accelerates it.
#[derive(Debug)]
pub(super) struct ClientIo {
    /// Before the socket, whose place others may have as soon as it is closed.
    accelerated: Option<Box<Accelerated>>,
    stream: TcpStream,
}

impl ClientIo {
    pub(super) const fn new(stream: TcpStream, accelerated: Option<Box<Accelerated>>) -> Self {
        Self {
            accelerated,
            stream,
        }
    }

    /// Whether what comes from here on is a head.
    pub(super) fn awaits_head(&mut self, head: bool) {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.awaits_head(head);
        }
    }

    /// An answer begins with the next byte that is written. It has `size` bytes, if that is known.
    pub(super) fn answers(&mut self, size: Option<u64>) {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.answers(size);
        }
    }

    /// The client has sent a request before the former one was answered.
    pub(super) fn pipelines(&mut self) {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.pipelines();
        }
    }

    /// Waits until there is something to read: whether it is more than the end.
    pub(super) fn poll_has_more(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut byte = [0; 1];
        let mut byte = ReadBuf::new(&mut byte);
        let count = ready!(self.stream.poll_peek(cx, &mut byte))?;
        Poll::Ready(Ok(count > 0))
    }

    /// Closes with RST when dropped.
    pub(super) fn reset(&self) {
        accept::reset(&self.stream);
    }
}

impl AsyncRead for ClientIo {
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

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.has_written(&written);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.has_written(&written);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
