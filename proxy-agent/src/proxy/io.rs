//! The downstream socket as hyper sees it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::accelerate::Accelerated;
use super::clock::Clock;
use super::h2_heads::HeadWatch;
use super::wire::Wire;

/// A client that has closed its side may still read, or may be gone: it is taken for gone when
/// nothing could be sent to it for this long.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// How long what a client still sends is read and dropped after the last answer: a close with bytes
/// unread sends RST, and the answer may be lost with it (RFC 9112, section 9.6).
const LINGER_LIMIT: Duration = Duration::from_secs(1);

/// Bytes of an HTTP/2 connection read at a time: one frame of the usual largest size.
const LOOK_BYTES: usize = 16 * 1024;

/// Bytes of an HTTP/1 head read at a time; as many as hyper asks for at first.
const HEAD_BYTES: usize = 8 * 1024;

/// Fields of a head that hyper finds room for on its stack; room for more costs every request two
/// allocations of 8 KiB.
const PLAIN_FIELDS: usize = 100;

/// Bytes dropped at a time.
const LINGER_BYTES: usize = 4 * 1024;

/// An accepted connection: gives back the bytes that detection has read, tells the clock when
/// bytes come in, and closes with RST where the clock says so. While a request is served, the end of
/// the client's stream is held back for [`GONE_LIMIT`].
#[derive(Debug)]
pub(super) struct DownstreamIo {
    prefix: Bytes,
    /// Before the socket, whose place others may have as soon as it is closed.
    accelerated: Option<Box<Accelerated>>,
    stream: Wire,
    clock: Arc<Clock>,
    /// On HTTP/2: what is known of the client's heads.
    heads: Option<HeadWatch>,
    /// On HTTP/1: lines of the head that is being read.
    lines: usize,
    /// Runs since the client has closed its side in the middle of a request.
    gone: Option<Pin<Box<Sleep>>>,
    /// Runs since the agent has closed its side while the client may be sending.
    linger: Option<Pin<Box<Sleep>>>,
}

impl DownstreamIo {
    pub(super) fn new(prefix: Bytes, stream: TcpStream, clock: Arc<Clock>) -> Self {
        Self {
            prefix,
            stream: Wire::new(stream),
            accelerated: None,
            heads: (!clock.is_http1()).then(HeadWatch::new),
            clock,
            lines: 0,
            gone: None,
            linger: None,
        }
    }

    /// The same, of a pod that asks for acceleration.
    pub(super) fn accelerated(mut self, accelerated: Option<Box<Accelerated>>) -> Self {
        self.accelerated = accelerated;
        self
    }

    /// Reads from the socket.
    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.accelerated {
            Some(accelerated) => accelerated.poll_read(self.stream.inner(), cx, buf),
            None => Pin::new(self.stream.inner_mut()).poll_read(cx, buf),
        }
    }

    /// Reads what is no head from a socket of an accelerated connection.
    fn poll_read_accelerated(
        &mut self,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut read = [MaybeUninit::uninit(); LOOK_BYTES];
        let length = buf.remaining().min(LOOK_BYTES);
        let mut read = ReadBuf::uninit(&mut read[..length]);
        ready!(self.poll_socket(cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }

    /// Bytes are about to be written.
    fn writes(&mut self, bufs: &[io::IoSlice<'_>]) {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.writes(bufs.iter().map(|buf| buf.len()).sum());
        }
    }

    /// Gives back bytes that were read and not used: they come before those that wait here.
    pub(super) fn unread(mut self, bytes: Bytes) -> Self {
        self.prefix = if self.prefix.is_empty() {
            bytes
        } else {
            [&bytes[..], &self.prefix].concat().into()
        };
        self
    }

    /// Waits until there is something to read, if only the end.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.prefix.is_empty() {
            return Poll::Ready(());
        }
        // An error is told by the read that follows.
        self.stream.inner().poll_read_ready(cx).map(drop)
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
        if let Some(heads) = &mut self.heads {
            self.clock.received_h2(heads.feed(read.filled()));
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what begins a head, or goes on with it, by way of a buffer that can be looked at.
    fn poll_read_head(
        &mut self,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut read = [MaybeUninit::uninit(); HEAD_BYTES];
        let length = buf.remaining().min(HEAD_BYTES);
        let mut read = ReadBuf::uninit(&mut read[..length]);
        ready!(self.poll_socket(cx, &mut read))?;
        if self.widens(read.filled()) {
            self.prefix = Bytes::copy_from_slice(read.filled());
            // The driver sees what the clock says, and takes the connection apart.
            return Poll::Pending;
        }
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }

    /// Whether with these bytes the head becomes one of many fields, and is the first such.
    fn widens(&mut self, bytes: &[u8]) -> bool {
        if self.clock.received() {
            self.lines = 0;
        }
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        // The request line is no field. A body in the same read may count: it costs, no more.
        let widens = self.lines > PLAIN_FIELDS && !self.clock.is_wide();
        if widens {
            self.clock.widen();
        }
        widens
    }

    /// Gives out bytes that were read before.
    fn poll_prefix(&mut self, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let count = self.prefix.len().min(buf.remaining());
        if let Some(heads) = &mut self.heads {
            self.clock.received_h2(heads.feed(&self.prefix[..count]));
        } else {
            let prefix = self.prefix.slice(..count);
            if self.clock.awaits_head() && self.widens(&prefix) {
                return Poll::Pending;
            }
        }
        buf.put_slice(&self.prefix.split_to(count));
        Poll::Ready(Ok(()))
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
            let read = ready!(self.poll_socket(cx, &mut dropped));
            if read.is_err() || dropped.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// Bytes went out: the client is still there.
    fn sent(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.has_written(&written);
        }
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
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            return self.poll_prefix(buf);
        }
        if self.clock.is_serving_http1() {
            ready!(self.poll_client(cx))?;
        }
        if self.heads.is_some() {
            return self.poll_read_h2(cx, buf);
        }
        if self.clock.awaits_head() {
            return self.poll_read_head(cx, buf);
        }
        if self.accelerated.is_some() {
            return self.poll_read_accelerated(cx, buf);
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for DownstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.clock.flushed(false);
        self.writes(&[io::IoSlice::new(buf)]);
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.sent(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper gets here when it has written all that it holds.
        self.clock.flushed(true);
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
        self.clock.flushed(false);
        self.writes(bufs);
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

    /// Whether a head of so many fields, of which some were read before, reaches hyper as it is.
    async fn passes(fields: usize, before: usize) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let head = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
        let (prefix, rest) = head.split_at(before);
        client.write_all(rest.as_bytes()).await.unwrap();
        let clock = Clock::new(true);
        let prefix = Bytes::copy_from_slice(prefix.as_bytes());
        let mut io = DownstreamIo::new(prefix, stream, Arc::clone(&clock));
        let mut read = Vec::new();
        let all = poll_fn(|cx| {
            loop {
                let mut space = [0; 4_096];
                let mut space = hyper::rt::ReadBuf::new(&mut space);
                let polled = Pin::new(&mut io).poll_read(cx, space.unfilled());
                read.extend_from_slice(space.filled());
                if clock.is_wide() || read.len() == head.len() {
                    return Poll::Ready(read.len() == head.len());
                }
                ready!(polled).unwrap();
            }
        });
        let all = all.await;
        if !all {
            let io = io.unread(Bytes::from(read));
            assert!(head.as_bytes().starts_with(&io.prefix), "bytes in order");
        }
        all
    }

    #[tokio::test]
    async fn a_head_of_many_fields_is_held_back_until_there_is_room_for_it() {
        for before in [0, 40] {
            assert!(passes(PLAIN_FIELDS - 2, before).await, "{before}");
            assert!(!passes(PLAIN_FIELDS + 1, before).await, "{before}");
        }
    }

    #[tokio::test]
    async fn a_finished_http2_head_is_not() {
        let clock = clock_after(PREFACE, b"\0\0\x01\x01\x04\0\0\0\x01\x82").await;
        let left = clock.deadline(IDLE_LIMIT).unwrap() - Instant::now();
        assert!(left > HEAD_LIMIT, "{left:?}");
    }
}
