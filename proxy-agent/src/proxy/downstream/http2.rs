//! HTTP/2 of a client, by hyper, within the limits on heads and idling, and through a drain.

mod clock;
mod heads;
mod io;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::proxy::body::RequestBody;
use crate::proxy::exec::LocalExec;
use crate::proxy::http::answer;
use crate::proxy::worker::OpenConnection;
use crate::proxy::{H2_CONNECTION_WINDOW, H2_MAX_STREAMS, H2_STREAM_WINDOW, MAX_HEAD_LIST};

use super::{DRAIN_IDLE_LIMIT, Downstream, IDLE_LIMIT, poll_until};
use io::DownstreamIo;

pub(in crate::proxy::downstream) use clock::Clock;
pub(in crate::proxy) use clock::OpenRequest;

/// Serves a connection, of which `prefix` was already read, until it is closed.
pub(super) async fn serve(
    open: OpenConnection,
    stream: TcpStream,
    prefix: Bytes,
    destination: SocketAddr,
) {
    let clock = Clock::new();
    let io = DownstreamIo::new(prefix, stream, Rc::clone(&clock));
    let downstream = Rc::new(Downstream {
        open,
        destination,
        clock: Some(Rc::clone(&clock)),
    });
    let service = {
        let downstream = Rc::clone(&downstream);
        service_fn(move |request: http::Request<_>| {
            let request = Box::new(request.map(RequestBody::Http2));
            let answer = answer(Rc::clone(&downstream), request);
            async { Ok::<_, Infallible>(answer.await) }
        })
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
    drive(&downstream, &clock, connection, |connection| {
        connection.graceful_shutdown();
    })
    .await;
}

/// Runs `connection` until it ends.
async fn drive<C>(
    downstream: &Downstream,
    clock: &Clock,
    mut connection: Pin<&mut C>,
    shut_down: fn(Pin<&mut C>),
) where
    C: Future<Output = hyper::Result<()>>,
{
    let mut driver = Driver {
        downstream,
        clock,
        shut_down,
        told: false,
        known: false,
    };
    let mut timer = pin!(sleep(IDLE_LIMIT));
    poll_fn(|cx| driver.poll(connection.as_mut(), timer.as_mut(), cx)).await;
}

struct Driver<'a, C> {
    downstream: &'a Downstream,
    clock: &'a Clock,
    shut_down: fn(Pin<&mut C>),
    /// The connection was told to shut down.
    told: bool,
    /// The worker knows whom to wake when the drain begins.
    known: bool,
}

impl<C: Future<Output = hyper::Result<()>>> Driver<'_, C> {
    fn poll(
        &mut self,
        mut connection: Pin<&mut C>,
        timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if !self.known {
            self.known = true;
            self.downstream.open.wake_on_drain(cx.waker());
        }
        let mut polled = connection.as_mut().poll(cx);
        let draining = self.downstream.open.worker.is_draining();
        if polled.is_pending() && draining && !self.told {
            // GOAWAY: open streams end in peace, new ones go to a new connection.
            // Its idle time counts from here, for a request may be crossing the GOAWAY.
            self.told = true;
            (self.shut_down)(connection.as_mut());
            self.clock.restart();
            polled = connection.poll(cx);
        }
        if let Poll::Ready(ended) = polled {
            if let Err(error) = ended {
                tracing::trace!(%error, "downstream connection ended");
            }
            return Poll::Ready(());
        }
        let limit = match draining {
            true => DRAIN_IDLE_LIMIT,
            false => IDLE_LIMIT,
        };
        match self.clock.deadline(limit) {
            Some(deadline) => poll_until(deadline, timer, cx),
            None => Poll::Pending,
        }
    }
}
