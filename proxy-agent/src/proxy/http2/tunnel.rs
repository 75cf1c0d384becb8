//! A stream that carries a tunnel (RFC 9113, section 8.5), as a socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both ways of a stream. Dropped before their ends, it resets the stream.
pub(in crate::proxy) struct Duplex {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// Received, and not read yet.
    read: Bytes,
}

impl Duplex {
    pub(in crate::proxy) const fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self {
            send,
            receive,
            read: Bytes::new(),
        }
    }

    /// Whether what cannot be sent is an error: a stream that was reset with NO_ERROR has ended well,
    /// its other side wants no more, and what that has sent is to be read still.
    fn poll_unwanted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match ready!(self.send.poll_reset(cx)) {
            Ok(Reason::NO_ERROR) => Ok(()),
            Ok(reason) => Err(to_io(reason.into())),
            Err(error) => Err(to_io(error)),
        })
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(data) => self.read = data.map_err(to_io)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read.split_to(count));
        let given_back = self.receive.flow_control().release_capacity(count);
        Poll::Ready(given_back.map_err(to_io))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(buf.len());
        let mut room = self.send.capacity();
        while room == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(more)) => room = more,
                Some(Err(_)) | None => {
                    return self.poll_unwanted(cx).map_ok(|()| buf.len());
                }
            }
        }
        let data = &buf[..buf.len().min(room)];
        match self.send.send_data(Bytes::copy_from_slice(data), false) {
            Ok(()) => Poll::Ready(Ok(data.len())),
            Err(_) => self.poll_unwanted(cx).map_ok(|()| data.len()),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection sends by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.send.send_data(Bytes::new(), true) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(_) => self.poll_unwanted(cx),
        }
    }
}

fn to_io(error: h2::Error) -> io::Error {
    match error.reason() {
        Some(Reason::CANCEL | Reason::STREAM_CLOSED | Reason::NO_ERROR) => {
            io::Error::new(io::ErrorKind::BrokenPipe, error)
        }
        Some(_) => io::Error::other(error),
        None => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::Other.into()),
    }
}
