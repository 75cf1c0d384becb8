//! A connected socket of HTTP/1, and what accelerates it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What accelerates a connection: it counts the bytes that go each way.
pub(in crate::proxy) trait Half {
    /// So many bytes were read; none at the end.
    fn has_read(&mut self, stream: &TcpStream, count: usize);

    /// Whether what was read is known to be all that the other end has sent, or begun to send.
    fn has_read_all(&self) -> bool;

    /// So many bytes were written.
    fn has_written(&mut self, count: usize);
}

/// A connected socket.
#[derive(Debug)]
pub(in crate::proxy) struct Socket<H> {
    /// Before the socket, whose place others may have as soon as it is closed.
    pub(in crate::proxy) accelerated: Option<Box<H>>,
    pub(in crate::proxy) stream: TcpStream,
}

impl<H: Half> Socket<H> {
    fn sent(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(accelerated), Poll::Ready(Ok(count))) = (&mut self.accelerated, &written) {
            accelerated.has_written(*count);
        }
        written
    }
}

impl<H: Half> AsyncRead for Socket<H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match &mut this.accelerated {
            Some(accelerated) => super::poll_read(&this.stream, cx, buf, &mut **accelerated),
            None => Pin::new(&mut this.stream).poll_read(cx, buf),
        }
    }
}

impl<H: Half> AsyncWrite for Socket<H> {
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
