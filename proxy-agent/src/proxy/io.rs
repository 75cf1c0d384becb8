//! The downstream socket as hyper sees it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::clock::Clock;
use super::h2_heads::HeadWatch;

/// A client that has closed its side may still read, or may be gone: it is taken for gone when
/// nothing could be sent to it for this long.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// How long what a client still sends is read and dropped after the last answer: a close with bytes
/// unread sends RST, and the answer may be lost with it (RFC 9112, section 9.6).
const LINGER_LIMIT: Duration = Duration::from_secs(1);

/// Bytes of an HTTP/2 connection read at a time: one frame of the usual largest size.
const LOOK_BYTES: usize = 16 * 1024;

/// Bytes dropped at a time.
const LINGER_BYTES: usize = 4 * 1024;

/// An accepted connection: gives back the bytes that detection has read, tells the clock when
/// bytes come in, and closes with RST where the clock says so. While a request is served, the end of
/// the client's stream is held back for [`GONE_LIMIT`].
#[derive(Debug)]
pub(super) struct DownstreamIo {
    prefix: Bytes,
    stream: TokioIo<TcpStream>,
    clock: Arc<Clock>,
    /// On HTTP/2: what is known of the client's heads.
    heads: Option<HeadWatch>,
    /// Runs since the client has closed its side in the middle of a request.
    gone: Option<Pin<Box<Sleep>>>,
    /// Runs since the agent has closed its side while the client may be sending.
    linger: Option<Pin<Box<Sleep>>>,
}

impl DownstreamIo {
    pub(super) fn new(prefix: Bytes, stream: TcpStream, clock: Arc<Clock>) -> Self {
        Self {
            prefix,
            stream: TokioIo::new(stream),
            heads: (!clock.is_http1()).then(HeadWatch::new),
            clock,
            gone: None,
            linger: None,
        }
    }

    /// Waits while the client's end of stream is all that there is to read and it may still wait
    /// for its answer.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gone = match &mut self.gone {
            Some(gone) => gone,
            None => {
                let mut byte = [0; 1];
                let mut byte = ReadBuf::new(&mut byte);
                if ready!(self.stream.inner().poll_peek(cx, &mut byte))? > 0 {
                    return Poll::Ready(Ok(()));
                }
                self.gone.insert(Box::pin(sleep(GONE_LIMIT)))
            }
        };
        gone.as_mut().poll(cx).map(Ok)
    }

    /// Reads by way of a buffer that can be looked at.
    fn poll_read_h2(
        &mut self,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut read = [MaybeUninit::uninit(); LOOK_BYTES];
        let length = buf.remaining().min(LOOK_BYTES);
        let mut read = ReadBuf::uninit(&mut read[..length]);
        ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut read))?;
        buf.put_slice(read.filled());
        self.received(read.filled());
        Poll::Ready(Ok(()))
    }

    /// Tells the clock what came in.
    fn received(&mut self, bytes: &[u8]) {
        match &mut self.heads {
            Some(heads) => self.clock.received_h2(heads.feed(bytes)),
            None => self.clock.received(),
        }
    }

    /// Reads and drops until the client has closed its side too, or has had its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self
            .linger
            .get_or_insert_with(|| Box::pin(sleep(LINGER_LIMIT)));
        if limit.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let mut dropped = [MaybeUninit::uninit(); LINGER_BYTES];
            let mut dropped = ReadBuf::uninit(&mut dropped);
            let read = ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut dropped));
            if read.is_err() || dropped.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// Bytes went out: the client is still there.
    fn sent(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(gone), Poll::Ready(Ok(_))) = (&mut self.gone, &written) {
            gone.as_mut().reset(Instant::now() + GONE_LIMIT);
        }
        written
    }
}

impl Read for DownstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            if self.clock.is_serving_http1() {
                ready!(self.poll_client(cx))?;
            }
            if self.heads.is_some() {
                return self.poll_read_h2(cx, buf);
            }
            let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
            self.clock.received();
            return Poll::Ready(result);
        }
        let count = self.prefix.len().min(buf.remaining());
        let prefix = self.prefix.split_to(count);
        buf.put_slice(&prefix);
        self.received(&prefix);
        Poll::Ready(Ok(()))
    }
}

impl Write for DownstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.sent(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.clock.is_serving_http1() && self.gone.take().is_some() {
            // The answer is out: what the client's end of stream means is read now, not when the
            // wait for it would have ended.
            cx.waker().wake_by_ref();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.clock.wants_reset() {
            // A FIN now would make a cut body look complete; dropping the socket sends RST.
            return Poll::Ready(Ok(()));
        }
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if self.clock.may_leave_unread() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.sent(written)
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::task::{Wake, Waker};

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::super::clock::{HEAD_LIMIT, IDLE_LIMIT};
    use super::*;

    /// Sends `bytes` after `prefix` was already read, and returns the clock after all was read.
    async fn clock_after(prefix: &'static [u8], bytes: &[u8]) -> Arc<Clock> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(bytes).await.unwrap();
        let clock = Clock::new(false);
        let prefix = Bytes::from_static(prefix);
        let mut left = prefix.len() + bytes.len();
        let mut io = DownstreamIo::new(prefix, stream, Arc::clone(&clock));
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

    #[tokio::test]
    async fn the_end_of_a_clients_stream_is_read_as_soon_as_its_answer_is_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.shutdown().await.unwrap();
        stream.readable().await.unwrap();
        let clock = Clock::new(true);
        let request = clock.request();
        let mut io = DownstreamIo::new(Bytes::new(), stream, Arc::clone(&clock));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let read = |io: &mut DownstreamIo, cx: &mut Context<'_>| {
            let mut space = [0; 64];
            let mut space = hyper::rt::ReadBuf::new(&mut space);
            Pin::new(io).poll_read(cx, space.unfilled()).is_ready()
        };
        assert!(!read(&mut io, &mut cx), "the request is still open");
        assert!(Pin::new(&mut io).poll_flush(&mut cx).is_ready());
        assert!(!woken.0.load(Relaxed), "nothing has ended yet");
        drop(request);
        assert!(Pin::new(&mut io).poll_flush(&mut cx).is_ready());
        assert!(woken.0.load(Relaxed));
        assert!(read(&mut io, &mut cx));
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
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
