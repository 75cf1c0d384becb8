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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Of a stream that is known to have `sent` bytes.
    struct Counts {
        sent: usize,
        read: usize,
    }

    impl Half for Counts {
        fn has_read(&mut self, _: &TcpStream, count: usize) {
            self.read += count;
        }

        fn has_read_all(&self) -> bool {
            self.read == self.sent
        }

        fn has_written(&mut self, _: usize) {}
    }

    /// Two bytes are there, and one of them was read by a half that knows of `sent`.
    async fn reads_one_of_two(sent: usize) -> (Socket<Counts>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, (mut far, _)) = (stream.unwrap(), accepted.unwrap());
        far.write_all(b"ab").await.unwrap();
        while stream.peek(&mut [0; 2]).await.unwrap() < 2 {}
        let accelerated = Some(Box::new(Counts { sent, read: 0 }));
        let mut socket = Socket {
            accelerated,
            stream,
        };
        assert_eq!(socket.read_u8().await.unwrap(), b'a');
        (socket, far)
    }

    fn peek(socket: &Socket<Counts>) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut byte = [0; 1];
        socket
            .stream
            .poll_peek(&mut cx, &mut ReadBuf::new(&mut byte))
    }

    #[tokio::test]
    async fn where_all_was_read_the_system_is_not_asked_until_more_comes() {
        let (mut socket, mut far) = reads_one_of_two(1).await;
        // A byte is there: whoever asked would find it.
        assert!(peek(&socket).is_pending());
        far.write_all(b"c").await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn where_that_is_not_known_the_system_is_asked_at_once() {
        let (socket, _far) = reads_one_of_two(2).await;
        assert!(matches!(peek(&socket), Poll::Ready(Ok(1))));
    }
}
