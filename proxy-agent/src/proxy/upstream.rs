//! Upstream connections: made in the client pod's netns, kept per pod, endpoint and protocol.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioTimer;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::net::{self, ConnectError};

use super::accelerate::{Announced, ToPod, reason};
use super::body::RequestBody;
use super::exec::LocalExec;
use super::load::EndpointState;
use super::pod::PodState;
use super::upstream_io::UpstreamIo;
use super::wire::Wire;
use super::worker::Worker;
use super::{H2_CONNECTION_WINDOW, H2_STREAM_WINDOW, MAX_HEAD_LIST};

/// How long a connect may take; Envoy's default.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Endpoints that are tried for one request, or one opaque connection, while nothing of it has been
/// sent.
pub(super) const MAX_TRIES: usize = 3;

/// How long a connection may lie idle; below the 75 s after which nginx closes from its side.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Idle HTTP/1 connections kept per pod, endpoint and worker; one more is closed.
const MAX_IDLE: usize = 128;

/// Streams per HTTP/2 connection before a second one is opened (RFC 9113, section 6.5.2 asks
/// servers to allow no fewer).
const MAX_STREAMS: usize = 100;

/// The protocol of an upstream connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// The connections of one pod to one endpoint.
#[derive(Debug, Default)]
pub(super) struct Pool {
    http1: Vec<IdleHttp1>,
    http2: Vec<SharedHttp2>,
    /// Set while an HTTP/2 connection is being opened: others wait for it and share it.
    opening: Option<Rc<Notify>>,
}

#[derive(Debug)]
struct IdleHttp1 {
    sender: Http1,
    since: Instant,
}

/// The side of an HTTP/1 connection that requests are sent on.
#[derive(Debug)]
pub(super) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    /// Where each is announced, if the endpoint's pod asks for acceleration.
    announced: Option<Arc<Announced>>,
}

#[derive(Debug)]
struct SharedHttp2 {
    sender: http2::SendRequest<RequestBody>,
    /// Cloned into every stream: the count beyond one is that of open streams.
    streams: Rc<Streams>,
    last_used: Instant,
}

/// What an HTTP/2 connection has room for.
#[derive(Debug)]
pub(super) struct Streams {
    /// Most streams that the upstream allows now.
    limit: Cell<usize>,
}

impl Pool {
    /// A connection that can take a request now.
    fn take(&mut self, protocol: Protocol) -> Option<Sender> {
        match protocol {
            Protocol::Http1 => self.take_http1().map(Sender::Http1),
            Protocol::Http2 => self.take_http2(),
        }
    }

    /// The one that was used last: the oldest run into the idle limit and the pool shrinks.
    fn take_http1(&mut self) -> Option<Http1> {
        self.http1.retain(|idle| !idle.sender.sender.is_closed());
        let ready = |idle: &IdleHttp1| idle.sender.sender.is_ready();
        let index = self.http1.iter().rposition(ready)?;
        Some(self.http1.remove(index).sender)
    }

    fn take_http2(&mut self) -> Option<Sender> {
        self.http2.retain(|shared| !shared.sender.is_closed());
        let shared = self.http2.iter_mut().find(|shared| {
            // The pool itself holds one of the counted references.
            Rc::strong_count(&shared.streams) <= shared.streams.limit.get()
        })?;
        shared.last_used = Instant::now();
        Some(Sender::Http2(
            shared.sender.clone(),
            Rc::clone(&shared.streams),
        ))
    }

    /// Closes what lies idle too long. Returns whether nothing is left.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let fresh = |since: Instant| now.duration_since(since) < IDLE_LIMIT;
        self.http1
            .retain(|idle| !idle.sender.sender.is_closed() && fresh(idle.since));
        self.http2.retain(|shared| {
            let busy = Rc::strong_count(&shared.streams) > 1;
            !shared.sender.is_closed() && (busy || fresh(shared.last_used))
        });
        self.http1.is_empty() && self.http2.is_empty() && self.opening.is_none()
    }
}

/// A connection that takes a request.
pub(super) enum Sender {
    /// This request's alone until its response has ended.
    Http1(Http1),
    /// Shared; the reference counts the stream.
    Http2(http2::SendRequest<RequestBody>, Rc<Streams>),
}

impl Sender {
    /// Sends `request` and waits for the response's head. An error holds the request if nothing
    /// of it has been sent.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match self {
            Self::Http1(http1) => {
                if let Some(announced) = &http1.announced {
                    announced.announce(&request);
                }
                http1.sender.try_send_request(request).await
            }
            Self::Http2(sender, _) => sender.try_send_request(request).await,
        }
    }

    /// What has to be kept until the response has ended.
    pub(super) fn lease(self, endpoint: &Rc<EndpointState>, pod: &Rc<PodState>) -> Lease {
        match self {
            Self::Http1(sender) => Lease::Http1 {
                sender,
                endpoint: Rc::clone(endpoint),
                pod: Rc::clone(pod),
            },
            Self::Http2(_, stream) => Lease::Http2 { _stream: stream },
        }
    }
}

/// A connection in use by one response.
pub(super) enum Lease {
    /// Goes back to the pool if the response ends whole, else is closed.
    Http1 {
        sender: Http1,
        endpoint: Rc<EndpointState>,
        pod: Rc<PodState>,
    },
    /// Counts the stream.
    Http2 { _stream: Rc<Streams> },
}

impl Lease {
    /// The response has ended whole: the connection may serve the next request of its pod.
    pub(super) fn give_back(self) {
        let Self::Http1 {
            sender,
            endpoint,
            pod,
        } = self
        else {
            return;
        };
        if sender.sender.is_closed() || pod.is_released() {
            return;
        }
        let mut pools = endpoint.pools.borrow_mut();
        let idle = &mut pools.entry(pod.index).or_default().http1;
        if idle.len() < MAX_IDLE {
            let since = Instant::now();
            idle.push(IdleHttp1 { sender, since });
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

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("no connection")]
    Connect(#[source] ConnectError),
    #[error("no HTTP handshake")]
    Handshake(#[source] hyper::Error),
}

/// Opens a connection to `endpoint` in the netns of `pod`.
///
/// Requests that come while an HTTP/2 connection is being opened wait for it, once: a burst of
/// streams makes one connection, and a connect that fails holds nobody up twice.
pub(super) async fn open(
    worker: &Worker,
    pod: &PodState,
    endpoint: &EndpointState,
    protocol: Protocol,
) -> Result<Sender, OpenError> {
    if protocol == Protocol::Http1 {
        return connect(worker, pod, endpoint, protocol).await;
    }
    let opening = opening(endpoint, pod);
    if let Some(opening) = opening {
        opening.notified().await;
        if let Some(sender) = checkout(endpoint, pod, protocol) {
            return Ok(sender);
        }
    }
    let _opening = Opening::begin(endpoint, pod);
    connect(worker, pod, endpoint, protocol).await
}

fn opening(endpoint: &EndpointState, pod: &PodState) -> Option<Rc<Notify>> {
    let pools = endpoint.pools.borrow();
    pools.get(&pod.index)?.opening.clone()
}

/// An HTTP/2 connection in the making; when dropped, those who wait for it go on.
struct Opening<'a> {
    endpoint: &'a EndpointState,
    pod: &'a PodState,
    done: Rc<Notify>,
}

impl<'a> Opening<'a> {
    fn begin(endpoint: &'a EndpointState, pod: &'a PodState) -> Self {
        let done = Rc::new(Notify::new());
        let mut pools = endpoint.pools.borrow_mut();
        pools.entry(pod.index).or_default().opening = Some(Rc::clone(&done));
        Self {
            endpoint,
            pod,
            done,
        }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.endpoint.pools.borrow_mut().get_mut(&self.pod.index) {
            // Another may have begun since; it is that one's to end.
            pool.opening
                .take_if(|opening| Rc::ptr_eq(opening, &self.done));
        }
        self.done.notify_waiters();
    }
}

async fn connect(
    worker: &Worker,
    pod: &PodState,
    endpoint: &EndpointState,
    protocol: Protocol,
) -> Result<Sender, OpenError> {
    let connecting = net::connect(&pod.netns, worker.home(), endpoint.address, CONNECT_LIMIT);
    let stream = connecting.await.map_err(|error| {
        if error.blames_endpoint() {
            endpoint.recorder.connect_failed();
        }
        tracing::debug!(endpoint = %endpoint.address, reason = error.reason(), "connect failed");
        OpenError::Connect(error)
    })?;
    if let Err(error) = net::keep_alive(&stream) {
        tracing::debug!(%error, "no TCP keepalive on an upstream connection");
    }
    let acceleration = worker.acceleration();
    let acceleration = acceleration.filter(|of| of.is_asked_at(endpoint.address));
    match protocol {
        Protocol::Http1 => {
            let announced = acceleration.map(|_| Announced::new());
            let accelerated = acceleration.zip(announced.as_ref()).map(|(of, announced)| {
                ToPod::new(of, worker.recorder(), pod.netns.cookie(), announced)
            });
            let io = UpstreamIo::new(stream, accelerated);
            // hyper's own limit of 100 headers in a response stays: a higher one costs every response.
            let (sender, connection) = http1::handshake(io).await.map_err(OpenError::Handshake)?;
            drive(connection.with_upgrades());
            Ok(Sender::Http1(Http1 { sender, announced }))
        }
        Protocol::Http2 => {
            if acceleration.is_some() {
                worker.recorder().unaccelerated(reason::TO_POD_HTTP2);
            }
            let io = Wire::new(stream);
            let (sender, connection) = http2::Builder::new(LocalExec)
                .timer(TokioTimer::new())
                .max_header_list_size(MAX_HEAD_LIST)
                .initial_stream_window_size(H2_STREAM_WINDOW)
                .initial_connection_window_size(H2_CONNECTION_WINDOW)
                .handshake(io)
                .await
                .map_err(OpenError::Handshake)?;
            let streams = Rc::new(Streams {
                limit: Cell::new(MAX_STREAMS),
            });
            drive(following_limit(connection, Rc::downgrade(&streams)));
            Ok(share(endpoint, pod, sender, streams))
        }
    }
}

fn share(
    endpoint: &EndpointState,
    pod: &PodState,
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Streams>,
) -> Sender {
    if !pod.is_released() {
        let mut pools = endpoint.pools.borrow_mut();
        pools.entry(pod.index).or_default().http2.push(SharedHttp2 {
            sender: sender.clone(),
            streams: Rc::clone(&streams),
            last_used: Instant::now(),
        });
    }
    Sender::Http2(sender, streams)
}

/// Runs an HTTP/2 connection and takes down how many streams its upstream allows.
async fn following_limit<T>(
    connection: http2::Connection<T, RequestBody, LocalExec>,
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

/// Runs an upstream connection until it ends; requests on it see its errors themselves.
fn drive(connection: impl Future<Output = hyper::Result<()>> + 'static) {
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "upstream connection ended");
        }
    });
}
