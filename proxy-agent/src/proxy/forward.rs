//! One request on its way to an endpoint: pick, connect or reuse, send, and try again where that
//! cannot do harm.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use smallvec::SmallVec;

use super::body::RequestBody;
use super::headers;
use super::load::{Client, ClusterState, EndpointState, OpenOnEndpoint};
use super::pod::PodState;
use super::reply::Reason;
use super::traffic::Ticket;
use super::upstream::{self, Lease, MAX_TRIES, OpenError, Protocol, Sender};
use super::worker::Worker;

/// Where a request comes from and goes to.
pub(super) struct Forward<'a> {
    pub(super) worker: &'a Worker,
    pub(super) pod: &'a Rc<PodState>,
    pub(super) cluster: &'a ClusterState,
    pub(super) protocol: Protocol,
    /// The address that the client chose.
    pub(super) asked: IpAddr,
    /// The endpoint to try first: that of the request's session.
    pub(super) preferred: Option<&'a Rc<EndpointState>>,
}

/// A response's head, and what has to be kept until its body has ended.
pub(super) type Answered = (Response<Incoming>, Lease);

/// Endpoints that a request was sent to, or that did not take its connection.
pub(super) type Tried = SmallVec<[SocketAddr; MAX_TRIES]>;

enum Failed {
    /// Nothing was sent: any other endpoint may have the request.
    Unsent(Box<Request<RequestBody>>),
    /// The request may have been seen.
    Sent(Reason),
}

impl Forward<'_> {
    /// Sends `request` to an endpoint of the cluster and waits for the response's head. Endpoints
    /// in `tried` are avoided; those that had a part in this are added.
    pub(super) async fn send(
        &self,
        mut request: Box<Request<RequestBody>>,
        ticket: &mut Ticket,
        tried: &mut Tried,
    ) -> Result<Answered, Reason> {
        let before = tried.len();
        while tried.len() < before + MAX_TRIES {
            let Some(endpoint) = self.pick(tried, before) else {
                break;
            };
            ticket.on_endpoint(OpenOnEndpoint::new(Rc::clone(&endpoint)));
            tried.push(endpoint.address);
            match self.send_to(&endpoint, request).await {
                Ok(answered) => return Ok(answered),
                Err(Failed::Sent(reason)) => return Err(reason),
                Err(Failed::Unsent(returned)) => request = returned,
            }
        }
        Err(Reason::unreached(&tried[before..]))
    }

    /// The next endpoint: those before `before` are avoided where there are others, those after
    /// it did not take the connection just now.
    fn pick(&self, tried: &[SocketAddr], before: usize) -> Option<Rc<EndpointState>> {
        if let Some(endpoint) = self.preferred.filter(|_| tried.is_empty()) {
            return Some(Rc::clone(endpoint));
        }
        let draw = self.worker.draw();
        let client = Client {
            asked: self.asked,
            namespace: &self.pod.namespace,
        };
        let fresh = self.cluster.pick(draw, client, tried);
        fresh.or_else(|| self.cluster.pick(draw, client, &tried[before..]))
    }

    async fn send_to(
        &self,
        endpoint: &Rc<EndpointState>,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Answered, Failed> {
        let mut reused = upstream::checkout(endpoint, self.pod, self.protocol);
        loop {
            let copy = reused.as_ref().and_then(|_| replayable(&request));
            let fresh = reused.is_none();
            let mut sender = match reused.take() {
                Some(sender) => sender,
                None => match self.open(endpoint).await {
                    Ok(sender) => sender,
                    Err(OpenError::Connect(_)) => return Err(Failed::Unsent(request)),
                    Err(OpenError::Handshake(_)) => {
                        return Err(Failed::Sent(Reason::UpstreamProtocol));
                    }
                },
            };
            match sender.send(*request).await {
                Ok(response) => return Ok((response, sender.lease(endpoint, self.pod))),
                Err(error) => request = returned(error, copy)?,
            }
            if fresh {
                return Err(Failed::Unsent(request));
            }
        }
    }

    /// Boxed: a connect is rare, and its state would make every request's larger.
    fn open(
        &self,
        endpoint: &Rc<EndpointState>,
    ) -> Pin<Box<impl Future<Output = Result<Sender, OpenError>>>> {
        Box::pin(upstream::open(
            self.worker,
            self.pod,
            endpoint,
            self.protocol,
        ))
    }
}

/// The request to send again after a reused connection has failed it.
fn returned(
    mut error: TrySendError<Request<RequestBody>>,
    copy: Option<Box<Request<RequestBody>>>,
) -> Result<Box<Request<RequestBody>>, Failed> {
    if let Some(request) = error.take_message() {
        return Ok(Box::new(request));
    }
    let error = error.into_error();
    let answered = error.is_parse();
    match copy {
        Some(copy) if !answered && died_unanswered(&error) => Ok(copy),
        _ => {
            tracing::debug!(%error, "request failed after it was sent");
            Err(Failed::Sent(if answered {
                Reason::UpstreamProtocol
            } else if refused(&error) {
                Reason::UpstreamRefused
            } else {
                Reason::UpstreamReset
            }))
        }
    }
}

/// Whether the connection died, or refused the stream unseen. A stream that was reset for any other
/// reason is an answer, if a bad one.
fn died_unanswered(error: &hyper::Error) -> bool {
    h2_cause(error).is_none_or(|h2| !h2.is_reset() || is_refusal(h2))
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

/// A copy of a request that may be sent twice: idempotent and without a body.
fn replayable(request: &Request<RequestBody>) -> Option<Box<Request<RequestBody>>> {
    if !headers::is_idempotent(request.method()) || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Box::new(Request::new(RequestBody::Empty));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
