//! A client's connection: what is read from it, what is written to it, and whether the client is
//! still there.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::{Body, Frame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::proxy::accelerate::Accelerated;
use crate::proxy::http1::{FieldLines, Framing, HeadError, Inbox, Looked, Outbox, Outgoing, Step};

use super::encode::{self, Asked, Begun};
use super::head::{self, Head};
use super::io::ClientIo;
use super::upload::UploadError;

/// A client that has closed its side may still read, or may be gone: it is taken for gone when
/// nothing could be sent to it for this long.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// How long what a client still sends is read and dropped after the last answer: a close with bytes
/// unread sends RST, and the answer may be lost with it (RFC 9112, section 9.6).
const LINGER_LIMIT: Duration = Duration::from_secs(1);

/// Bytes of a body that nobody wanted which are read so that the connection can be used again.
const MAX_DISCARDED_BYTES: usize = 64 * 1024;

/// What to read where the next request is waited for.
pub(super) enum Awaited {
    Head(Head),
    /// What came is none.
    Refused(HeadError),
    /// The client has closed.
    Closed,
}

/// A connection.
pub(in crate::proxy) struct Connection {
    io: ClientIo,
    inbox: Inbox,
    pub(super) outbox: Outbox,
    /// What of the next head was looked at.
    looked: Looked,
    /// The body of the request under way.
    framing: Framing,
    /// The client waits for `100 Continue`.
    expects: bool,
    /// Somebody reads the body.
    uploading: bool,
    /// Frames of bodies that were read.
    frames: u64,
    /// Who reads the body, and does no more when the connection is gone.
    reader: Reader,
    /// Whom its end wakes.
    waiting: Waker,
    /// The client has sent more than the request under way.
    ahead: bool,
    /// Runs since the client has closed its side in the middle of a request.
    gone: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// Of which `read` was read already.
    pub(in crate::proxy::downstream) fn new(
        stream: TcpStream,
        accelerated: Option<Box<Accelerated>>,
        read: BytesMut,
    ) -> Self {
        Self {
            io: ClientIo {
                accelerated,
                stream,
            },
            inbox: Inbox::of(read),
            outbox: Outbox::default(),
            looked: Looked::default(),
            framing: Framing::Ended,
            expects: false,
            uploading: false,
            frames: 0,
            reader: Reader(Waker::noop().clone()),
            waiting: Waker::noop().clone(),
            ahead: false,
            gone: None,
        }
    }

    /// Waits for the head of the next request.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Awaited> {
        loop {
            match head::take(&mut self.inbox, &mut self.looked) {
                Ok(None) => {}
                Ok(Some(head)) => return Poll::Ready(Awaited::Head(head)),
                Err(error) => return Poll::Ready(Awaited::Refused(error)),
            }
            match ready!(self.inbox.poll_read(&mut self.io, cx, 0)) {
                Ok(0) => return Poll::Ready(Awaited::Closed),
                Ok(_) => {}
                Err(error) => {
                    tracing::trace!(%error, "a client's connection broke");
                    return Poll::Ready(Awaited::Closed);
                }
            }
        }
    }

    /// Whether a part of a head has come.
    pub(super) fn has_begun(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// A request is open from here on.
    pub(super) fn opens(&mut self, head: &Head) {
        self.framing = head.framing;
        self.expects = head.expects;
        self.uploading = head.framing != Framing::Ended;
        self.ahead = false;
        self.io.awaits_head(false);
    }

    /// The request is over. No room is kept for another one.
    pub(super) fn closes(&mut self) {
        self.gone = None;
        self.inbox.trim();
        self.outbox.trim();
        self.io.awaits_head(true);
    }

    /// How the body of the request ends.
    pub(super) const fn framing(&self) -> Framing {
        self.framing
    }

    /// Takes the next frame of the request's body for whoever has it.
    pub(super) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        // A client that was answered instead of being asked for it may send another request there.
        let frame = match self.uploading {
            true => self.poll_frame(cx),
            false => Poll::Pending,
        };
        match frame.is_ready() {
            true => self.frames += 1,
            false => self.reader.0.clone_from(cx.waker()),
        }
        frame
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if std::mem::take(&mut self.expects) {
            self.outbox.interim(b"HTTP/1.1 100 Continue\r\n\r\n");
            // What does not go out now goes before the answer.
            if let Poll::Ready(Err(error)) = self.outbox.poll_write(&mut self.io, cx) {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        loop {
            match self.framing.take(&mut self.inbox)? {
                Step::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                Step::End => return Poll::Ready(None),
                Step::Read => {}
            }
            let expected = self.framing.expected();
            if ready!(self.inbox.poll_read(&mut self.io, cx, expected))? == 0 {
                return Poll::Ready(Some(Err(UploadError::Closed)));
            }
        }
    }

    /// Nobody reads the body any more.
    pub(super) fn upload_ended(&mut self) {
        self.uploading = false;
        std::mem::replace(&mut self.waiting, Waker::noop().clone()).wake();
    }

    /// Whether somebody reads the body.
    pub(super) const fn is_uploading(&self) -> bool {
        self.uploading
    }

    /// Frames of bodies that were read.
    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }

    /// Waits until whoever reads the body has read it or given it up.
    pub(super) fn poll_uploaded(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.uploading {
            return Poll::Ready(());
        }
        self.waiting.clone_from(cx.waker());
        Poll::Pending
    }

    /// Whether all of the request was read. What is there of a body that nobody wanted is read now.
    pub(super) fn discard(&mut self) -> bool {
        // What is not there yet is not waited for.
        let cx = &mut Context::from_waker(Waker::noop());
        let mut discarded = 0;
        while self.framing != Framing::Ended && discarded < MAX_DISCARDED_BYTES {
            // Where a task has used up its share, tokio calls everything pending.
            let frame = pin!(unconstrained(poll_fn(|cx| self.poll_frame(cx)))).poll(cx);
            let Poll::Ready(Some(Ok(frame))) = frame else {
                break;
            };
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
        self.framing == Framing::Ended
    }

    /// Waits until the client of an open request is gone. Nobody else may read meanwhile.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The body's reader learns of it.
        ready!(self.poll_uploaded(cx));
        if self.ahead {
            return Poll::Pending;
        }
        let gone = match &mut self.gone {
            Some(gone) => gone,
            None => {
                if self.has_begun() {
                    return self.is_ahead();
                }
                match ready!(self.io.poll_has_more(cx)) {
                    Ok(true) => return self.is_ahead(),
                    Ok(false) => self.gone.insert(Box::pin(sleep(GONE_LIMIT))),
                    Err(error) => {
                        tracing::trace!(%error, "a client's connection broke");
                        return Poll::Ready(());
                    }
                }
            }
        };
        gone.as_mut().poll(cx)
    }

    /// The client has sent more: what it does behind that shows when that is read.
    fn is_ahead(&mut self) -> Poll<()> {
        self.ahead = true;
        if self.framing == Framing::Ended {
            self.io.pipelines();
        }
        Poll::Pending
    }

    /// Puts the head of `response`, with these lines besides, into the outbox.
    pub(super) fn begin<B: Body>(
        &mut self,
        response: &Response<B>,
        lines: &FieldLines,
        asked: &Asked,
        keeps_alive: bool,
    ) -> Begun {
        // Nobody reads what the client was not asked for.
        let withheld = std::mem::take(&mut self.expects);
        self.uploading &= !withheld;
        let reads_all = self.uploading || (!withheld && self.discard());
        let begun = encode::head(
            response,
            lines,
            asked,
            keeps_alive && reads_all,
            &mut self.outbox,
        );
        let goes_on = begun.keeps_alive && !asked.switches(response.status());
        if goes_on && self.framing == Framing::Ended && self.has_begun() {
            self.io.pipelines();
        }
        let waiting = self.outbox.len() as u64;
        self.io.answers(match begun.outgoing {
            // The last bytes before a close go by TCP.
            _ if !goes_on => None,
            Outgoing::Length(body) => waiting.checked_add(body),
            Outgoing::Ended => Some(waiting),
            Outgoing::Chunked | Outgoing::UntilClose => None,
        });
        begun
    }

    /// Writes until nothing waits.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = self.outbox.len();
        if waiting == 0 {
            return Poll::Ready(Ok(()));
        }
        let written = self.outbox.poll_write(&mut self.io, cx);
        if let Some(gone) = &mut self.gone
            && self.outbox.len() < waiting
        {
            // The client is still there.
            gone.as_mut().reset(Instant::now() + GONE_LIMIT);
        }
        written
    }

    /// Closes with RST when dropped: a FIN would make a cut body look complete.
    pub(super) fn reset(&self) {
        self.io.reset();
    }

    /// Whether bytes of the client may be unread: those of a body that nobody wanted, or of another
    /// request.
    pub(super) fn may_leave_unread(&self) -> bool {
        self.framing != Framing::Ended || self.has_begun() || self.ahead
    }

    /// Closes this side, then reads and drops until the client has closed its side too, or has had
    /// its time.
    pub(super) async fn linger(mut self) {
        self.io.awaits_head(false);
        let closing = async {
            self.io.shutdown().await?;
            loop {
                self.inbox.clear();
                let read = poll_fn(|cx| self.inbox.poll_read(&mut self.io, cx, 0));
                if read.await? == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        match timeout(LINGER_LIMIT, closing).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::trace!(%error, "a client's connection broke"),
        }
    }

    /// The socket after a switch of protocols, and what came behind the request.
    pub(super) fn into_tunnel(self) -> (BytesMut, ClientIo) {
        (self.inbox.into_inner(), self.io)
    }
}

/// Is woken when it is dropped.
struct Reader(Waker);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}
