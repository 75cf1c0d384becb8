//! One connection from a pod: what it speaks, and its life from the first byte to the close.

mod http1;
mod http2;

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout_at};

use crate::model::{ListenerProtocol, ListenerVerdict, StreamScope, StreamTable};

use super::accelerate::{Accelerated, reason};
use super::detect::{Detected, detect};
use super::tcp::{self, Target};
use super::worker::OpenConnection;
use super::{accept, stream};

pub(super) use http1::{Upload, UploadError};
pub use http1::{WholeRequest, read_request};
pub(super) use http2::{OpenRequest, StreamTasks};

use http2::Clock;

/// From a request's first byte to the end of its head.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may stay open without a request.
const IDLE_LIMIT: Duration = Duration::from_secs(3_600);
/// How long it may stay open without a request while draining: long enough that no request is on its way, in all likelihood.
const DRAIN_IDLE_LIMIT: Duration = Duration::from_secs(1);

/// Silence after which a connection to an HTTP port is taken for a protocol whose server speaks
/// first.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// Bytes looked at; more than any undecided beginning can have.
const LOOK_BYTES: usize = 64;

/// What the requests of one connection have in common.
pub(super) struct Downstream {
    pub(super) open: OpenConnection,
    /// The address that the pod connected to.
    pub(super) destination: SocketAddr,
    /// Of HTTP/2.
    clock: Option<Rc<Clock>>,
}

impl Downstream {
    /// Whether the connection speaks HTTP/1.
    pub(super) const fn is_http1(&self) -> bool {
        self.clock.is_none()
    }

    /// A request is open until the guard is dropped.
    pub(super) fn request(&self) -> OpenRequest {
        OpenRequest::new(self.clock.as_ref())
    }
}

/// Serves a connection until it is closed.
pub(super) async fn serve(open: OpenConnection, stream: TcpStream, destination: SocketAddr) {
    let snapshot = open.worker.snapshot();
    let Some(listener) = snapshot.by_address.get(&destination) else {
        // The Service went while the connection was on its way: the node's ordinary path.
        return astray(open, stream, destination).await;
    };
    if !listener.is_for(&open.pod.namespace) {
        drop(snapshot);
        return astray(open, stream, destination).await;
    }
    let target = Target::Cluster(listener.cluster);
    let protocol = match listener.verdict {
        ListenerVerdict::Proxy(protocol) => protocol,
        // Under way while the verdict changed, or without room in the kernel.
        ListenerVerdict::Direct | ListenerVerdict::Pass(_) => ListenerProtocol::Tcp,
    };
    let streams = listener.streams_for(&open.pod.namespace).cloned();
    drop(snapshot);
    let otherwise = Otherwise { target, streams };
    let every = |table: &Arc<StreamTable>| table.scope == StreamScope::Every;
    let opaque = otherwise.streams.as_ref().is_some_and(every);
    match protocol {
        ListenerProtocol::Http if !opaque => detected(open, stream, destination, otherwise).await,
        ListenerProtocol::Http | ListenerProtocol::Tcp => {
            Box::pin(otherwise.relay(open, stream, BytesMut::new())).await;
        }
    }
}

/// The node's ordinary path, for a connection of no Service that this pod may ask for. Boxed, as
/// all is that few connections come to: what an idle one holds is as large as the largest of them.
fn astray(
    open: OpenConnection,
    stream: TcpStream,
    destination: SocketAddr,
) -> Pin<Box<impl Future<Output = ()>>> {
    let target = Target::Address(destination);
    Box::pin(tcp::relay(open, stream, Bytes::new(), target))
}

/// Where a connection goes that is not taken for HTTP.
struct Otherwise {
    target: Target,
    /// Counts before the target.
    streams: Option<Arc<StreamTable>>,
}

impl Otherwise {
    async fn relay(self, open: OpenConnection, stream: TcpStream, prefix: BytesMut) {
        open.goes_by_tcp(reason::OPAQUE);
        match self.streams {
            Some(table) => stream::serve(open, stream, prefix, &table).await,
            None => tcp::relay(open, stream, prefix.freeze(), self.target).await,
        }
    }
}

async fn detected(
    open: OpenConnection,
    mut stream: TcpStream,
    destination: SocketAddr,
    otherwise: Otherwise,
) {
    let mut prefix = BytesMut::with_capacity(LOOK_BYTES);
    let detected = look(&mut stream, &mut prefix).await;
    match detected {
        Ok(Detected::Http1) => http1(open, stream, prefix, destination).await,
        Ok(Detected::Http2) => {
            open.goes_by_tcp(reason::HTTP2);
            Box::pin(http2::serve(open, stream, prefix.freeze(), destination)).await;
        }
        Ok(Detected::Opaque | Detected::Undecided) => {
            if let Target::Cluster(id) = otherwise.target
                && let Some(cluster) = open.worker.cluster(id)
            {
                cluster.recorder.turned_opaque();
            }
            Box::pin(otherwise.relay(open, stream, prefix)).await;
        }
        Err(error) => {
            tracing::trace!(%error, "client went before it said anything");
            accept::reset(&stream);
        }
    }
}

/// Reads until the protocol is clear, the client stays silent, or it will say no more.
async fn look(stream: &mut TcpStream, prefix: &mut BytesMut) -> std::io::Result<Detected> {
    let silence = Instant::now() + SILENCE;
    loop {
        let limit = if prefix.is_empty() {
            silence
        } else {
            silence + HEAD_LIMIT
        };
        // Silence, or a beginning that is never finished.
        let Ok(read) = timeout_at(limit, stream.read_buf(prefix)).await else {
            return Ok(Detected::Opaque);
        };
        let read = read?;
        let detected = detect(prefix);
        if detected != Detected::Undecided || read == 0 || prefix.len() >= LOOK_BYTES {
            return Ok(detected);
        }
    }
}

/// A connection of HTTP/1.
fn http1(
    open: OpenConnection,
    stream: TcpStream,
    read: BytesMut,
    destination: SocketAddr,
) -> impl Future<Output = ()> {
    let worker = &open.worker;
    let acceleration = worker.acceleration().filter(|_| open.accelerates);
    let accelerated = acceleration.map(|acceleration| {
        let cookie = open.pod.netns.cookie();
        Accelerated::new(acceleration, worker.recorder(), cookie, read.len())
    });
    let connection = http1::Connection::new(stream, accelerated, read);
    let downstream = Rc::new(Downstream {
        open,
        destination,
        clock: None,
    });
    http1::serve(downstream, connection)
}

/// Waits for `deadline`. The timer is only touched when that comes before the one it is set to, so a
/// request that comes at once costs nothing.
fn poll_until(deadline: Instant, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        timer.as_mut().reset(deadline);
    }
}
