//! An HTTP/2 connection to an endpoint, shared by the requests of one pod. Each sends and receives
//! on its stream from its own task; the connection's moves bytes between streams and socket.

mod download;
mod kept;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;
use tokio::net::TcpStream;

use crate::proxy::body::{BodyError, RequestBody};
use crate::proxy::headers;
use crate::proxy::http2::{
    CONNECTION_WINDOW, Duplex, MAX_HEAD_LIST, Outbound, STREAM_WINDOW, Unsent,
};
use crate::proxy::reply::Reason;
use crate::proxy::wire::Wire;

use super::SendError;
pub(super) use download::Download;
use kept::Kept;

/// Streams per connection before a second one is opened (RFC 9113, section 6.5.2 asks servers to
/// allow no fewer).
const MAX_STREAMS: usize = 100;

/// A connection.
#[derive(Debug)]
pub(in crate::proxy) struct Connection {
    /// When it is gone and all streams have ended, h2 closes the connection.
    sender: RefCell<SendRequest<Bytes>>,
    /// Streams that are open, or about to be.
    streams: Cell<usize>,
}

/// Counts a stream of a connection for as long as a reference to it is there.
#[derive(Debug)]
pub(in crate::proxy) struct Stream {
    connection: Rc<Connection>,
}

impl Stream {
    pub(super) fn of(connection: Rc<Connection>) -> Rc<Self> {
        connection.streams.set(connection.streams.get() + 1);
        Rc::new(Self { connection })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let streams = &self.connection.streams;
        streams.set(streams.get().saturating_sub(1));
    }
}

impl Connection {
    /// Begins HTTP/2 on a new connection, and runs it.
    pub(super) async fn begin(stream: TcpStream) -> Result<Rc<Self>, h2::Error> {
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_LIST)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(Wire::new(stream))
            .await?;
        tokio::task::spawn_local(async move {
            // Requests on it see its errors themselves.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "upstream connection ended");
            }
        });
        Ok(Rc::new(Self {
            sender: RefCell::new(sender),
            streams: Cell::new(0),
        }))
    }

    /// Whether it takes no more requests: it is broken, or told to go away.
    pub(super) fn is_closed(&self) -> bool {
        let mut sender = self.sender.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        match sender.poll_ready(&mut cx) {
            Poll::Ready(ready) => ready.is_err(),
            Poll::Pending => {
                // The last stream waits until the upstream allows it; the next may wait behind it,
                // for a handle that has none yet.
                let next = sender.clone();
                *sender = next;
                false
            }
        }
    }

    /// Opens a stream.
    fn open(
        &self,
        head: http::request::Parts,
        whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut sender = self.sender.borrow_mut();
        sender.send_request(Request::from_parts(head, ()), whole)
    }

    /// Whether the upstream allows one stream more.
    pub(super) fn has_room(&self) -> bool {
        let allowed = self.sender.borrow().current_max_send_streams();
        self.streams.get() < allowed.clamp(1, MAX_STREAMS)
    }

    /// Whether a stream is open.
    pub(super) const fn is_busy(&self) -> bool {
        self.streams.get() > 0
    }
}

impl Stream {
    /// Sends `request` and waits for the response's head. A copy is kept of one that `may_repeat`
    /// and has no body.
    pub(super) async fn send(
        self: &Rc<Self>,
        request: Box<Request<RequestBody>>,
        may_repeat: bool,
    ) -> Result<Response<Download>, SendError> {
        if self.connection.is_closed() {
            return Err(SendError::Unsent(request));
        }
        let whole = request.body().is_end_stream();
        let tunnel = *request.method() == Method::CONNECT;
        let kept = (may_repeat && whole).then(|| Kept::of(&request));
        let (mut head, body) = request.into_parts();
        if whole && headers::has_body_by_nature(&head.method) {
            head.headers
                .entry(CONTENT_LENGTH)
                .or_insert(HeaderValue::from_static("0"));
        }
        let sent = self.connection.open(head, whole && !tunnel);
        let (response, stream) = sent.map_err(|error| {
            tracing::debug!(%error, "request cannot be sent");
            SendError::Failed(Reason::BadRequest)
        })?;
        let mut exchange = Exchange {
            response,
            upload: None,
        };
        let mut both_ways = None;
        if tunnel {
            both_ways = Some(stream);
        } else if !whole {
            exchange.upload = Some(Outbound::new(body, stream));
        }
        let response = poll_fn(|cx| exchange.poll(cx)).await;
        let response = response.map_err(|failed| failed.into_error(kept))?;
        let (head, body) = response.into_parts();
        let download = match both_ways.filter(|_| head.status.is_success()) {
            Some(send) => Download::tunnel(Duplex::new(send, body)),
            None => Download::new(&head.headers, body, exchange.upload, self),
        };
        Ok(Response::from_parts(head, download))
    }
}

/// A request under way, and the wait for its response's head.
struct Exchange {
    response: ResponseFuture,
    /// Until all of it is sent.
    upload: Option<Outbound<RequestBody>>,
}

enum Failed {
    /// The client's body broke off.
    Body(BodyError),
    Stream(h2::Error),
}

impl Exchange {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<h2::RecvStream>, Failed>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(cx)
        {
            self.upload = None;
            match sent {
                Err(Unsent::Body(error)) => return Poll::Ready(Err(Failed::Body(error))),
                // The response says more of why, or is one all the same.
                Err(Unsent::Stream(_)) | Ok(()) => {}
            }
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx));
        Poll::Ready(response.map_err(Failed::Stream))
    }
}

impl Failed {
    fn into_error(self, kept: Option<Kept>) -> SendError {
        let repeats = matches!(&self, Self::Stream(error) if died_unanswered(error));
        let request = kept.filter(|_| repeats).and_then(Kept::restore);
        match (self, request) {
            (Self::Body(error), _) => {
                tracing::debug!(%error, "the client's body broke off");
                SendError::Failed(Reason::BadRequest)
            }
            (Self::Stream(_), Some(request)) => SendError::Unanswered(request),
            (Self::Stream(error), None) => {
                tracing::debug!(%error, "request failed after it was sent");
                SendError::Failed(reason(&error))
            }
        }
    }
}

fn reason(error: &h2::Error) -> Reason {
    if is_refusal(error) {
        Reason::UpstreamRefused
    } else if error.is_library() {
        Reason::UpstreamProtocol
    } else {
        Reason::UpstreamReset
    }
}

/// Whether the connection died, or refused the stream unseen. A stream that was reset for any other
/// reason is an answer, if a bad one.
fn died_unanswered(error: &h2::Error) -> bool {
    !error.is_reset() || is_refusal(error)
}

/// Whether the endpoint refused the stream unseen (RFC 9113, section 8.7): by a reset, or by a GOAWAY
/// that does not reach up to it.
fn is_refusal(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    refused || (error.is_go_away() && error.is_remote())
}
