//! New connections to endpoints.

use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::net::{self, ConnectError};
use crate::proxy::accelerate::{ToPod, reason};
use crate::proxy::load::EndpointState;
use crate::proxy::pod::PodState;
use crate::proxy::worker::Worker;

use super::io::UpstreamIo;
use super::{CONNECT_LIMIT, Protocol, Sender, checkout, http1, http2};

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum OpenError {
    #[error("no connection")]
    Connect(#[source] ConnectError),
    #[error("no HTTP handshake")]
    Handshake(#[source] h2::Error),
}

/// Opens a connection to `endpoint` in the netns of `pod`.
///
/// Requests that come while an HTTP/2 connection is being opened wait for it, once: a burst of
/// streams makes one connection, and a connect that fails holds nobody up twice.
pub(in crate::proxy) async fn open(
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
            let cookie = pod.netns.cookie();
            let accelerated = acceleration.map(|of| ToPod::new(of, worker.recorder(), cookie));
            let io = UpstreamIo {
                accelerated,
                stream,
            };
            Ok(Sender::Http1(http1::Connection::new(io)))
        }
        Protocol::Http2 => {
            if acceleration.is_some() {
                worker.recorder().unaccelerated(reason::TO_POD_HTTP2);
            }
            connect_http2(pod, endpoint, stream).await
        }
    }
}

async fn connect_http2(
    pod: &PodState,
    endpoint: &EndpointState,
    stream: TcpStream,
) -> Result<Sender, OpenError> {
    let begun = http2::Connection::begin(stream).await;
    let connection = begun.map_err(OpenError::Handshake)?;
    if !pod.is_released() {
        let mut pools = endpoint.pools.borrow_mut();
        let pool = pools.entry(pod.index).or_default();
        pool.share(Rc::clone(&connection));
    }
    Ok(Sender::Http2(http2::Stream::of(connection)))
}
