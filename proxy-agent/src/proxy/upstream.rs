//! Upstream connections: made in the client pod's netns, kept per pod, endpoint and protocol.

mod http1;
mod http2;
mod io;
mod open;
mod pool;
mod received;

use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};

use super::body::RequestBody;
use super::load::EndpointState;
use super::pod::PodState;
use super::reply::Reason;

pub(super) use http1::OnContinue;
pub use http1::{WholeResponse, read_response};
pub(super) use io::UpstreamIo;
pub(super) use open::{OpenError, open};
pub(super) use pool::Pool;
pub(super) use received::{ReceiveError, Received};

/// How long a connect may take; Envoy's default.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Endpoints that are tried for one request, or one opaque connection, while nothing of it has been
/// sent.
pub(super) const MAX_TRIES: usize = 3;

/// The protocol of an upstream connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection that takes a request.
pub(super) enum Sender {
    /// This request's alone until its response has ended.
    Http1(Box<http1::Connection>),
    /// A stream of one that is shared.
    Http2(Rc<http2::Stream>),
}

/// Whether somebody here reads, or changes, the fields of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseFields {
    /// They are in the response's map.
    Read,
    /// They may be with the response's body, as lines, and missing in the map.
    Unread,
}

/// Why a request has no response.
pub(super) enum SendError {
    /// Nothing of it was sent.
    Unsent(Box<Request<RequestBody>>),
    /// The connection died, or the stream was refused unseen; the upstream may have begun to act on
    /// the request.
    Unanswered(Box<Request<RequestBody>>),
    /// Neither is certain, or the request is gone.
    Failed(Reason),
}

/// What has been answered, and what has to be kept until the body has ended.
pub(super) type Answered = (Box<Response<Received>>, Lease);

impl Sender {
    /// Sends `request` and waits for the response's head. An HTTP/2 request is returned from a
    /// connection that dies under it only if it was copied, which is for one that `may_repeat`.
    pub(super) async fn send(
        self,
        request: Box<Request<RequestBody>>,
        may_repeat: bool,
        fields: ResponseFields,
        endpoint: &Rc<EndpointState>,
        pod: &Rc<PodState>,
    ) -> Result<Answered, SendError> {
        match self {
            Self::Http1(connection) => {
                let response = connection.send(request, fields).await?;
                let lease = Lease::Http1 {
                    endpoint: Rc::clone(endpoint),
                    pod: Rc::clone(pod),
                };
                Ok((response, lease))
            }
            Self::Http2(stream) => {
                let response = stream.send(request, may_repeat).await?;
                let lease = Lease::Http2 { _stream: stream };
                Ok((Box::new(response.map(Received::Http2)), lease))
            }
        }
    }
}

impl From<http1::Unanswered> for SendError {
    fn from(unanswered: http1::Unanswered) -> Self {
        let error = unanswered.error;
        match unanswered.request {
            Some(request) if unanswered.sent => Self::Unanswered(request),
            Some(request) => Self::Unsent(request),
            None => {
                tracing::debug!(%error, "request failed after it was sent");
                Self::Failed(error.reason())
            }
        }
    }
}

/// A connection in use by one response.
pub(super) enum Lease {
    /// Goes back to the pool if the response ends whole, else is closed.
    Http1 {
        endpoint: Rc<EndpointState>,
        pod: Rc<PodState>,
    },
    /// Counts the stream.
    Http2 { _stream: Rc<http2::Stream> },
}

impl Lease {
    /// The response has ended: the connection may serve the next request of its pod.
    pub(super) fn give_back(self, body: Received) {
        if let (Self::Http1 { endpoint, pod }, Received::Http1(body)) = (self, body)
            && let Some(connection) = body.into_idle()
            && !pod.is_released()
        {
            let mut pools = endpoint.pools.borrow_mut();
            pools.entry(pod.index).or_default().keep(connection);
        }
    }
}

/// A connection from the pool, if one can take a request now.
pub(super) fn checkout(
    endpoint: &EndpointState,
    pod: &PodState,
    protocol: Protocol,
) -> Option<Sender> {
    endpoint
        .pools
        .borrow_mut()
        .get_mut(&pod.index)?
        .take(protocol)
}
