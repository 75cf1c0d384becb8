//! One connection from a pod: what it speaks, and its life from the first byte to the close.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::model::{ListenerProtocol, ListenerVerdict, StreamScope, StreamTable};

use super::accelerate::{Accelerated, reason};
use super::clock::{Clock, DRAIN_IDLE_LIMIT, HEAD_LIMIT, IDLE_LIMIT, PARK_LIMIT};
use super::detect::{Detected, detect};
use super::exec::LocalExec;
use super::io::DownstreamIo;
use super::tcp::{self, Target};
use super::worker::OpenConnection;
use super::{
    H2_CONNECTION_WINDOW, H2_MAX_STREAMS, H2_STREAM_WINDOW, MAX_HEAD_BYTES, MAX_HEAD_LIST,
    MAX_HEADERS,
};
use super::{accept, http, park, stream};

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
    pub(super) clock: Arc<Clock>,
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
        Ok(Detected::Http1) => serve_http1(open, stream, prefix.freeze(), destination).await,
        Ok(Detected::Http2) => {
            Box::pin(serve_http2(open, stream, prefix.freeze(), destination)).await;
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

async fn serve_http1(
    open: OpenConnection,
    stream: TcpStream,
    prefix: Bytes,
    destination: SocketAddr,
) {
    let (downstream, mut io) = downstream(open, stream, prefix, destination, Clock::new(true));
    // hyper's state and buffers are there for as long as requests come: most connections of a node
    // are idle most of the time.
    while let Some(idle) = Box::pin(serve_requests(&downstream, io)).await {
        io = idle;
        if !park::wait(&downstream, &io).await {
            return;
        }
    }
}

/// Serves the requests of a connection until it is closed, or idle, or a head has more fields than
/// hyper was set up for; it is returned then.
async fn serve_requests(downstream: &Rc<Downstream>, io: DownstreamIo) -> Option<DownstreamIo> {
    let service = {
        let downstream = Rc::clone(downstream);
        service_fn(move |request| http::answer(Rc::clone(&downstream), request))
    };
    let mut builder = http1::Builder::new();
    if downstream.clock.is_wide() {
        builder.max_headers(MAX_HEADERS);
    }
    let mut connection = builder
        .max_header_size(MAX_HEAD_BYTES)
        .auto_date_header(false)
        .serve_connection(io, service)
        .with_upgrades();
    let ended = drive(downstream, Pin::new(&mut connection), |connection| {
        connection.graceful_shutdown();
    });
    match ended.await {
        Ended::Closed => None,
        Ended::Apart => {
            let parts = connection.into_parts()?;
            Some(parts.io.unread(parts.read_buf))
        }
    }
}

async fn serve_http2(
    open: OpenConnection,
    stream: TcpStream,
    prefix: Bytes,
    destination: SocketAddr,
) {
    open.goes_by_tcp(reason::HTTP2);
    let (downstream, io) = downstream(open, stream, prefix, destination, Clock::new(false));
    let service = {
        let downstream = Rc::clone(&downstream);
        service_fn(move |request| http::answer(Rc::clone(&downstream), request))
    };
    let connection = pin!(
        http2::Builder::new(LocalExec)
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEAD_LIST)
            .max_concurrent_streams(H2_MAX_STREAMS)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .auto_date_header(false)
            .serve_connection(io, service)
    );
    drive(&downstream, connection, |connection| {
        connection.graceful_shutdown();
    })
    .await;
}

fn downstream(
    open: OpenConnection,
    stream: TcpStream,
    prefix: Bytes,
    destination: SocketAddr,
    clock: Arc<Clock>,
) -> (Rc<Downstream>, DownstreamIo) {
    let worker = &open.worker;
    let accelerated = worker
        .acceleration()
        .filter(|_| open.accelerates && clock.is_http1());
    let accelerated = accelerated.map(|acceleration| {
        let cookie = open.pod.netns.cookie();
        Accelerated::new(
            acceleration,
            worker.recorder(),
            cookie,
            &clock,
            prefix.len(),
        )
    });
    let io = DownstreamIo::new(prefix, stream, Arc::clone(&clock)).accelerated(accelerated);
    let downstream = Rc::new(Downstream {
        open,
        destination,
        clock,
    });
    (downstream, io)
}

/// How a connection was left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    Closed,
    /// It is to be taken apart: nothing is under way on it, or it is to be set up otherwise.
    Apart,
}

/// Runs `connection` until it ends or is idle, within the limits on heads and idling, and through a
/// drain.
async fn drive<C>(
    downstream: &Downstream,
    mut connection: Pin<&mut C>,
    shut_down: fn(Pin<&mut C>),
) -> Ended
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut driver = Driver {
        downstream,
        shut_down,
        told: false,
        known: false,
        wide: downstream.clock.is_wide(),
    };
    let mut timer = pin!(sleep(IDLE_LIMIT));
    poll_fn(|cx| driver.poll(connection.as_mut(), timer.as_mut(), cx)).await
}

struct Driver<'a, C> {
    downstream: &'a Downstream,
    shut_down: fn(Pin<&mut C>),
    /// The connection was told to shut down.
    told: bool,
    /// The worker knows whom to wake when the drain begins.
    known: bool,
    /// hyper is set up for heads of many fields.
    wide: bool,
}

impl<C: Future<Output = hyper::Result<()>>> Driver<'_, C> {
    fn poll(
        &mut self,
        mut connection: Pin<&mut C>,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        if !self.known {
            self.known = true;
            self.downstream.open.wake_on_drain(cx.waker());
        }
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    tracing::trace!(%error, "downstream connection ended");
                }
                return Poll::Ready(Ended::Closed);
            }
            if self.downstream.clock.is_wide() && !self.wide {
                return Poll::Ready(Ended::Apart);
            }
            let draining = self.downstream.open.worker.is_draining();
            if draining && !self.told && !self.downstream.clock.is_http1() {
                // GOAWAY: open streams end in peace, new ones go to a new connection.
                // Its idle time counts from here, for a request may be crossing the GOAWAY.
                self.tell(connection.as_mut());
                self.downstream.clock.restart();
                continue;
            }
            let can_park = self.downstream.clock.can_park();
            let limit = match (draining, can_park) {
                (true, _) => DRAIN_IDLE_LIMIT,
                (false, true) => PARK_LIMIT,
                (false, false) => IDLE_LIMIT,
            };
            if !self.expired(limit, timer.as_mut(), cx) {
                return Poll::Pending;
            }
            if !draining && can_park {
                return Poll::Ready(Ended::Apart);
            }
            if self.told || !draining {
                return Poll::Ready(Ended::Closed);
            }
            self.tell(connection.as_mut());
        }
    }

    fn tell(&mut self, connection: Pin<&mut C>) {
        self.told = true;
        (self.shut_down)(connection);
    }

    /// Whether the connection's deadline has passed. The timer is only touched when a deadline
    /// comes before the one it is set to, so a request that is served at once costs nothing.
    fn expired(&self, limit: Duration, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> bool {
        loop {
            let Some(deadline) = self.downstream.clock.deadline(limit) else {
                return false;
            };
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            if deadline <= Instant::now() {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
    }
}
