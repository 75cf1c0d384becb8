//! A TCP socket as hyper sees it: a message in several small parts goes out in one `send`.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// Up to so many bytes a copy costs less than what `writev` costs more than `send`.
pub(super) const TOGETHER_BYTES: usize = 2 * 1024;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Wire(TokioIo<TcpStream>);

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(TokioIo::new(stream))
    }

    pub(super) fn inner_mut(&mut self) -> &mut TcpStream {
        self.0.inner_mut()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
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

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// What arrives of parts of these lengths, and whether they went out at once.
    async fn arrived(lengths: &[usize]) -> (Vec<u8>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut wire = Wire::new(TcpStream::connect(address).await.unwrap());
        let (mut peer, _) = listener.accept().await.unwrap();
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
}
