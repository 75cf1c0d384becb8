//! An HTTP/2 connection to an endpoint: hyper's, shared by the requests of one pod.

use std::cell::Cell;
use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;

use crate::proxy::body::RequestBody;
use crate::proxy::exec::LocalExec;
use crate::proxy::reply::Reason;
use crate::proxy::wire::Wire;
use crate::proxy::{H2_CONNECTION_WINDOW, H2_STREAM_WINDOW, MAX_HEAD_LIST};

use super::SendError;

/// Streams per HTTP/2 connection before a second one is opened (RFC 9113, section 6.5.2 asks
/// servers to allow no fewer).
const MAX_STREAMS: usize = 100;

/// What an HTTP/2 connection has room for.
#[derive(Debug)]
pub(in crate::proxy) struct Streams {
    /// Most streams that the upstream allows now.
    limit: Cell<usize>,
}

impl Streams {
    /// Most streams that the upstream allows now.
    pub(super) const fn limit(&self) -> usize {
        self.limit.get()
    }
}

/// Begins HTTP/2 on a new connection, and runs it.
pub(super) async fn begin(
    stream: TcpStream,
) -> hyper::Result<(SendRequest<RequestBody>, Rc<Streams>)> {
    let (sender, connection) = Builder::new(LocalExec)
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD_LIST)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .handshake(Wire::new(stream))
        .await?;
    let streams = Rc::new(Streams {
        limit: Cell::new(MAX_STREAMS),
    });
    let connection = following_limit(connection, Rc::downgrade(&streams));
    tokio::task::spawn_local(async move {
        // Requests on it see its errors themselves.
        if let Err(error) = connection.await {
            tracing::trace!(%error, "upstream connection ended");
        }
    });
    Ok((sender, streams))
}

/// Runs an HTTP/2 connection and takes down how many streams its upstream allows.
async fn following_limit<T>(
    connection: Connection<T, RequestBody, LocalExec>,
    streams: Weak<Streams>,
) -> hyper::Result<()>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        let ended = connection.as_mut().poll(cx);
        if let Some(streams) = streams.upgrade() {
            let allowed = connection.current_max_send_streams();
            streams.limit.set(allowed.clamp(1, MAX_STREAMS));
        }
        ended
    })
    .await
}

/// Sends `request` and waits for the response's head. A copy is kept of one that `may_repeat` and
/// has no body.
pub(super) async fn send(
    mut sender: SendRequest<RequestBody>,
    request: Box<Request<RequestBody>>,
    may_repeat: bool,
) -> Result<Response<Incoming>, SendError> {
    let copy = (may_repeat && request.body().is_end_stream()).then(|| copy(&request));
    let mut error = match sender.try_send_request(*request).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    if let Some(request) = error.take_message() {
        return Err(SendError::Unsent(Box::new(request)));
    }
    let error = error.into_error();
    match copy {
        Some(copy) if died_unanswered(&error) => Err(SendError::Unanswered(copy)),
        _ => {
            tracing::debug!(%error, "request failed after it was sent");
            Err(SendError::Failed(if error.is_parse() {
                Reason::UpstreamProtocol
            } else if refused(&error) {
                Reason::UpstreamRefused
            } else {
                Reason::UpstreamReset
            }))
        }
    }
}

fn copy(request: &Request<RequestBody>) -> Box<Request<RequestBody>> {
    let mut copy = Box::new(Request::new(RequestBody::Empty));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Whether the connection died, or refused the stream unseen. A stream that was reset for any other
/// reason is an answer, if a bad one.
fn died_unanswered(error: &hyper::Error) -> bool {
    !error.is_parse() && h2_cause(error).is_none_or(|h2| !h2.is_reset() || is_refusal(h2))
}

/// Whether the endpoint refused the stream unseen (RFC 9113, section 8.7).
fn refused(error: &hyper::Error) -> bool {
    h2_cause(error).is_some_and(is_refusal)
}

fn is_refusal(error: &h2::Error) -> bool {
    error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

fn h2_cause(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(h2) = source.downcast_ref() {
            return Some(h2);
        }
        cause = source.source();
    }
    None
}
