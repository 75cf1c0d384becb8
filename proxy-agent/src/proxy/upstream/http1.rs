//! An HTTP/1.1 connection to an endpoint: one request after the other, each in the task of the
//! request itself. There is no task of the connection's own to hand anything to, so that a request
//! costs its system calls, two passes over bytes, and little else.

mod download;
mod encode;
mod head;
#[cfg(test)]
mod tests;
mod whole;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use tokio_util::sync::CancellationToken;

use crate::proxy::body::{BodyError, RequestBody};
use crate::proxy::http1::{
    ChunkError, FieldLines, Framing, Inbox, Mismatch, Outbox, Outgoing, Step, Trailers,
};
use crate::proxy::reply::Reason;

use super::io::UpstreamIo;
use super::{Received, ResponseFields};
pub(super) use download::Download;
use head::{Asked, Head, Heads, ResponseError};

pub use whole::{WholeResponse, read_response};

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum Error {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the upstream closed before the end of its response")]
    Closed,
    #[error("no head of a response")]
    Head(#[from] ResponseError),
    #[error("no chunks")]
    Chunks(#[from] ChunkError),
    #[error("the request's body broke off")]
    Body(#[from] BodyError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

impl Error {
    /// What a client is told that gets no response.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Head(_) | Self::Chunks(_) => Reason::UpstreamProtocol,
            Self::Io(_) | Self::Closed => Reason::UpstreamReset,
            // The client's own body.
            Self::Body(_) | Self::Mismatch(_) => Reason::BadRequest,
        }
    }

    /// Whether the connection is gone, whoever ended it.
    const fn is_loss(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Closed)
    }
}

/// In a request's extensions: what to cancel when the upstream says `100 Continue`.
#[derive(Clone)]
pub(in crate::proxy) struct OnContinue(pub(in crate::proxy) CancellationToken);

/// A request that did not get an answer.
pub(super) struct Unanswered {
    pub(super) error: Error,
    /// The request, if all of it is still there and the upstream has said nothing of it.
    pub(super) request: Option<Box<Request<RequestBody>>>,
    /// Some of it was sent.
    pub(super) sent: bool,
}

/// A connection.
pub(in crate::proxy) struct Connection {
    io: UpstreamIo,
    /// What was read and not used.
    inbox: Inbox,
    /// What is to be written.
    outbox: Outbox,
    /// The body of the request under way, until all of it is in the outbox.
    upload: Option<Upload>,
    /// The body of the response under way.
    framing: Framing,
    /// It may serve another request after this one.
    keeps_alive: bool,
    /// What became of the heads of its responses.
    heads: Heads,
    /// Bytes of the request under way were written.
    has_sent: bool,
    /// Fields of the last response's head that nobody has read.
    lines: FieldLines,
}

struct Upload {
    body: RequestBody,
    outgoing: Outgoing,
    trailers: Trailers,
}

impl Upload {
    /// Whether the upstream gets all that it was told of, even if the body has not said that it
    /// has ended.
    fn is_complete(&self) -> bool {
        matches!(self.outgoing, Outgoing::Length(0) | Outgoing::Ended)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("io", &self.io)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(io: UpstreamIo) -> Box<Self> {
        Box::new(Self {
            io,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            upload: None,
            framing: Framing::Ended,
            keeps_alive: true,
            heads: Heads::default(),
            has_sent: false,
            lines: FieldLines::default(),
        })
    }

    /// Whether a request can be sent: nobody has closed it or said what nobody asked for.
    pub(super) fn is_ready(&self) -> bool {
        self.io.is_quiet()
    }

    /// Sends `request` and waits for the head of its response, whose body may begin before that of
    /// the request has ended. Dropping the future or the response closes the connection.
    pub(super) async fn send(
        mut self: Box<Self>,
        mut request: Box<Request<RequestBody>>,
        fields: ResponseFields,
    ) -> Result<Box<Response<Received>>, Unanswered> {
        let asked = Asked::by(&*request, fields);
        let whole = request.body().is_end_stream();
        self.begin(&mut request, asked, whole);
        let head = poll_fn(|cx| self.poll_head(cx, asked, &request)).await;
        match head {
            Ok(Head {
                mut response,
                lines,
                framing,
                keeps_alive,
            }) => {
                self.lines = lines;
                self.framing = framing;
                self.keeps_alive &= keeps_alive;
                *response.body_mut() = Received::Http1(Download::new(self));
                Ok(response)
            }
            Err(error) => {
                let silent = self.heads.are_none() && self.inbox.is_empty();
                Err(Unanswered {
                    request: Some(request).filter(|_| whole && silent && error.is_loss()),
                    sent: self.has_sent,
                    error,
                })
            }
        }
    }

    fn begin(&mut self, request: &mut Request<RequestBody>, asked: Asked, whole: bool) {
        let outgoing = encode::head(request, &mut self.outbox);
        let size = match outgoing {
            Outgoing::Length(body) if !asked.switch => body.checked_add(self.outbox.len() as u64),
            Outgoing::Length(_) | Outgoing::Chunked | Outgoing::UntilClose | Outgoing::Ended => {
                None
            }
        };
        self.io.begins(size);
        self.has_sent = false;
        self.heads = Heads::default();
        if !whole {
            let body = std::mem::replace(request.body_mut(), RequestBody::Empty);
            self.upload = Some(Upload {
                body,
                outgoing,
                trailers: Trailers::of(request.headers()),
            });
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        asked: Asked,
        request: &Request<RequestBody>,
    ) -> Poll<Result<Head, Error>> {
        self.poll_send(cx)?;
        loop {
            while let Some(head) = self.take_head(asked)? {
                if !head.is_progress() {
                    return Poll::Ready(Ok(head));
                }
                if head.response.status() == StatusCode::CONTINUE
                    && let Some(OnContinue(token)) = request.extensions().get()
                {
                    token.cancel();
                }
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Error::Closed));
            }
        }
    }

    fn take_head(&mut self, asked: Asked) -> Result<Option<Head>, ResponseError> {
        let head = self.heads.take(&mut self.inbox, asked)?;
        let switches = head
            .as_ref()
            .is_some_and(|one| one.framing == Framing::Switched);
        if switches && !self.is_sent() {
            return Err(ResponseError::Switch);
        }
        Ok(head)
    }

    /// Sends what there is to send, as far as that goes. An upstream that takes no more may still
    /// have said why: that its side is broken shows when there is nothing left to read.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        while self.outbox.len() > 0 || self.upload.is_some() {
            self.fill(cx)?;
            let waiting = self.outbox.len();
            if waiting == 0 {
                break;
            }
            let written = self.outbox.poll_write(&mut self.io, cx);
            self.has_sent |= self.outbox.len() < waiting;
            match written {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if !is_closed(&error) => return Err(error.into()),
                Poll::Ready(Err(error)) => {
                    tracing::trace!(%error, "an upstream takes no more of a request");
                    self.outbox.clear();
                    self.upload = None;
                    self.keeps_alive = false;
                }
            }
        }
        Ok(())
    }

    /// Fills the outbox with what there is of the body.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        while self.outbox.has_room()
            && let Some(upload) = &mut self.upload
        {
            let ended = match Pin::new(&mut upload.body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(frame)) => {
                    upload
                        .outgoing
                        .put(frame?, &upload.trailers, &mut self.outbox)?;
                    upload.body.is_end_stream() && self.outbox.has_room()
                }
                Poll::Ready(None) => true,
            };
            if ended {
                upload.outgoing.end(&mut self.outbox)?;
                self.upload = None;
            }
        }
        Ok(())
    }

    /// Reads into the inbox; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let expected = self.framing.expected();
        self.inbox.poll_read(&mut self.io, cx, expected)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match self.framing.take(&mut self.inbox)? {
                Step::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                Step::End => return Poll::Ready(None),
                Step::Read => {}
            }
            if ready!(self.poll_read(cx))? == 0 && !self.framing.close() {
                return Poll::Ready(Some(Err(Error::Closed)));
            }
        }
    }

    /// Whether the upstream has got all of the request.
    fn is_sent(&self) -> bool {
        self.outbox.len() == 0 && self.upload.as_ref().is_none_or(Upload::is_complete)
    }

    /// The connection for the next request, if this one is over and both sides are willing.
    fn into_idle(mut self: Box<Self>) -> Option<Box<Self>> {
        let over = self.framing == Framing::Ended && self.inbox.is_empty() && self.is_sent();
        self.inbox.trim();
        self.lines = FieldLines::default();
        self.upload = None;
        Some(self).filter(|this| over && this.keeps_alive)
    }
}

/// Whether an upstream that cannot be written to has closed, and may have said why.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
    )
}
