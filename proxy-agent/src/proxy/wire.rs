//! A TCP socket as h2 sees it: a message in several small parts goes out in one `send`.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Up to so many bytes a copy costs less than what `writev` costs more than `send`.
pub(super) const TOGETHER_BYTES: usize = 2 * 1024;

/// Who looks at what is read.
pub(super) trait Watch {
    /// These bytes came, in order.
    fn has_read(&mut self, bytes: &[u8]);
}

impl Watch for () {
    fn has_read(&mut self, _: &[u8]) {}
}

/// A connected socket.
#[derive(Debug)]
pub(super) struct Wire<W> {
    /// Read already, and to be read again.
    prefix: Bytes,
    stream: TcpStream,
    watch: W,
}

impl Wire<()> {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self::watched(Bytes::new(), stream, ())
    }
}

impl<W: Watch> Wire<W> {
    /// With `prefix` still to be read, and somebody who looks at all that is.
    pub(super) const fn watched(prefix: Bytes, stream: TcpStream, watch: W) -> Self {
        Self {
            prefix,
            stream,
            watch,
        }
    }
}

impl<W: Watch + Unpin> AsyncRead for Wire<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.prefix.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let count = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix.split_to(count));
        }
        this.watch
            .has_read(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<W: Unpin> AsyncWrite for Wire<W> {
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
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        if let [only] = bufs {
            return stream.poll_write(cx, only);
        }
        if bufs.iter().map(|buf| buf.len()).sum::<usize>() > TOGETHER_BYTES {
            return stream.poll_write_vectored(cx, bufs);
        }
        let mut together = [MaybeUninit::uninit(); TOGETHER_BYTES];
        let mut together = ReadBuf::uninit(&mut together);
        for buf in bufs {
            together.put_slice(buf);
        }
        stream.poll_write(cx, together.filled())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let near = TcpStream::connect(address).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// What arrives of parts of these lengths, and whether they went out at once.
    async fn arrived(lengths: &[usize]) -> (Vec<u8>, bool) {
        let (near, mut peer) = pair().await;
        let mut wire = Wire::new(near);
        let parts: Vec<Vec<u8>> = lengths
            .iter()
            .zip(b'a'..)
            .map(|(n, x)| vec![x; *n])
            .collect();
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let writing = poll_fn(|cx| Pin::new(&mut wire).poll_write_vectored(cx, &slices));
        let written = writing.await.unwrap();
        drop(wire);
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.unwrap();
        assert_eq!(read.len(), written);
        assert!(parts.concat().starts_with(&read), "in order");
        (read, written == lengths.iter().sum::<usize>())
    }

    #[tokio::test]
    async fn parts_go_out_in_order_whether_they_are_put_together_or_not() {
        for lengths in [
            &[200, 36][..],
            &[TOGETHER_BYTES - 1, 1],
            &[TOGETHER_BYTES, 1],
            &[5, 0, 20_000],
            &[70],
            &[0, 1],
        ] {
            let (read, whole) = arrived(lengths).await;
            assert!(whole, "{lengths:?}: {}", read.len());
        }
    }

    #[derive(Default)]
    struct Seen(Vec<u8>);

    impl Watch for Seen {
        fn has_read(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first_and_all_is_looked_at_once() {
        let (near, mut peer) = pair().await;
        peer.write_all(b"behind").await.unwrap();
        drop(peer);
        let mut wire = Wire::watched(Bytes::from_static(b"before "), near, Seen::default());
        let mut read = Vec::new();
        let mut buffer = [0; 5];
        loop {
            let count = wire.read(&mut buffer).await.unwrap();
            read.extend_from_slice(&buffer[..count]);
            assert_eq!(wire.watch.0, read);
            if count == 0 {
                break;
            }
        }
        assert_eq!(read, b"before behind");
    }
}
