//! HTTP/2 of a client, within the limits on heads and idling, and through a drain. The connection's
//! task moves bytes between streams and socket; each request is served by one of its worker's.

mod clock;
mod heads;
mod stream;
mod tasks;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{Builder, Connection};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

use crate::proxy::http2::{CONNECTION_WINDOW, MAX_HEAD_LIST, STREAM_WINDOW};
use crate::proxy::wire::Wire;
use crate::proxy::worker::OpenConnection;

use super::{DRAIN_IDLE_LIMIT, Downstream, HEAD_LIMIT, IDLE_LIMIT, poll_until};
use heads::HeadWatch;
use stream::Stream;
use tasks::Tasks;

pub(in crate::proxy::downstream) use clock::Clock;
pub(in crate::proxy) use clock::OpenRequest;

/// Requests at a time on one connection.
const MAX_STREAMS: u32 = 256;
/// Streams that this side may reset for what the client does wrong; with more it is a nuisance, and
/// the connection ends.
const MAX_ERROR_RESETS: usize = 1_024;

type ClientIo = Wire<HeadWatch>;

/// The tasks of a worker that serve its clients' streams.
pub(in crate::proxy) type StreamTasks = Tasks<Stream>;

/// Serves a connection, of which `prefix` was already read, until it is closed.
pub(super) async fn serve(
    open: OpenConnection,
    stream: TcpStream,
    prefix: Bytes,
    destination: SocketAddr,
) {
    let clock = Clock::new();
    let io = Wire::watched(prefix, stream, HeadWatch::new(Rc::clone(&clock)));
    let handshake = Builder::new()
        .max_header_list_size(MAX_HEAD_LIST)
        .max_concurrent_streams(MAX_STREAMS)
        .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(io);
    // It waits for the rest of the preface.
    let connection = match timeout(HEAD_LIMIT, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::trace!(%error, "no HTTP/2"),
        Err(_elapsed) => return tracing::trace!("no HTTP/2 in time"),
    };
    let mut driver = Driver {
        downstream: Rc::new(Downstream {
            open,
            destination,
            clock: Some(Rc::clone(&clock)),
        }),
        clock,
        connection,
        had_streams: false,
        told: false,
        known: false,
    };
    let mut timer = pin!(sleep(IDLE_LIMIT));
    poll_fn(|cx| driver.poll(timer.as_mut(), cx)).await;
}

struct Driver {
    downstream: Rc<Downstream>,
    clock: Rc<Clock>,
    connection: Connection<ClientIo, Bytes>,
    /// There were streams when it was last looked at.
    had_streams: bool,
    /// The client was told to go to another connection.
    told: bool,
    /// The worker knows whom to wake when the drain begins.
    known: bool,
}

impl Driver {
    /// Ready when the connection has ended, or must.
    fn poll(&mut self, timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.known {
            self.known = true;
            self.downstream.open.wake_on_drain(cx.waker());
        }
        let mut polled = self.poll_streams(cx);
        let draining = self.downstream.open.worker.is_draining();
        if polled.is_pending() && draining && !self.told {
            // GOAWAY: open streams end in peace, new ones go to a new connection.
            // Its idle time counts from here, for a request may be crossing the GOAWAY.
            self.told = true;
            self.connection.graceful_shutdown();
            self.clock.restart();
            polled = self.poll_streams(cx);
        }
        if let Poll::Ready(ended) = polled {
            if let Err(error) = ended {
                tracing::trace!(%error, "downstream connection ended");
            }
            return Poll::Ready(());
        }
        // Of what was answered some may not have been read yet. The last of it may still wait for the
        // socket when its stream is none any more.
        let has_streams = self.connection.has_streams();
        if draining && (has_streams || self.had_streams) {
            self.clock.restart();
        }
        self.had_streams = has_streams;
        let limit = match draining {
            true => DRAIN_IDLE_LIMIT,
            false => IDLE_LIMIT,
        };
        match self.clock.deadline(limit) {
            Some(deadline) => poll_until(deadline, timer, cx),
            None => Poll::Pending,
        }
    }

    /// Takes requests and moves bytes, until the connection has ended.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while let Some(accepted) = ready!(self.connection.poll_accept(cx)) {
            let (request, respond) = accepted?;
            let worker = &self.downstream.open.worker;
            worker.stream_tasks().spawn(Stream {
                downstream: Rc::clone(&self.downstream),
                request,
                respond,
            });
        }
        Poll::Ready(Ok(()))
    }
}
