//! HTTP/1.1 of a client: one request after the other, all in the task of the connection. Nothing is
//! handed to other tasks, and nothing but a socket is kept while no request comes.

mod connection;
mod encode;
mod exchange;
mod head;
mod io;
mod park;
#[cfg(test)]
mod tests;
mod upload;
mod whole;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::proxy::http1::HeadError;
use crate::proxy::reply::Reason;
use crate::proxy::upgrade::Tunnel;

use super::{DRAIN_IDLE_LIMIT, Downstream, HEAD_LIMIT, IDLE_LIMIT};
use connection::Awaited;
use encode::Asked;
use exchange::After;

pub(in crate::proxy) use connection::Connection;
pub(in crate::proxy) use upload::{Upload, UploadError};
pub use whole::{WholeRequest, read_request};

/// How long a connection keeps the room for a request without one.
const PARK_LIMIT: Duration = Duration::from_secs(2);

/// How the requests of a connection ended.
enum Leave {
    /// None comes for the time being.
    Idle,
    /// The connection is closed.
    Close,
    /// It is closed; the client may be sending still.
    Linger,
    /// It is closed so that nobody takes what came for all.
    Reset,
    /// It carries a tunnel.
    Tunnel(Box<Tunnel>),
}

/// Serves a connection until it is closed.
pub(super) async fn serve(downstream: Rc<Downstream>, connection: Connection) {
    let connection = Rc::new(RefCell::new(connection));
    // Room for a request is there for as long as requests come: most connections of a node are idle
    // most of the time.
    loop {
        match Box::pin(serve_requests(&downstream, &connection)).await {
            Leave::Idle => {
                if !park::wait(&downstream, &connection).await {
                    return;
                }
            }
            Leave::Close if !connection.borrow().may_leave_unread() => return,
            Leave::Close | Leave::Linger => return Box::pin(linger(connection)).await,
            Leave::Reset => return connection.borrow().reset(),
            Leave::Tunnel(tunnel) => return Box::pin(carry(connection, tunnel)).await,
        }
    }
}

async fn serve_requests(
    downstream: &Rc<Downstream>,
    connection: &Rc<RefCell<Connection>>,
) -> Leave {
    poll_fn(|cx| {
        downstream.open.wake_on_drain(cx.waker());
        Poll::Ready(())
    })
    .await;
    let mut timer = pin!(sleep(PARK_LIMIT));
    loop {
        let mut waiting = Waiting::new(downstream);
        let awaited = poll_fn(|cx| waiting.poll(connection, timer.as_mut(), cx)).await;
        let head = match awaited {
            Some(Awaited::Head(head)) => head,
            Some(Awaited::Refused(error)) => return refuse(downstream, connection, &error).await,
            Some(Awaited::Closed) => return Leave::Close,
            None => return Leave::Idle,
        };
        match exchange::serve(downstream, connection, head).await {
            Ok(After::Next) => {}
            Ok(After::Close) => return Leave::Close,
            Ok(After::Tunnel(tunnel)) => return Leave::Tunnel(tunnel),
            Err(cut) => {
                tracing::trace!(%cut, "a response was cut short");
                return Leave::Reset;
            }
        }
    }
}

/// Answers what is no request.
async fn refuse(
    downstream: &Downstream,
    connection: &RefCell<Connection>,
    error: &HeadError,
) -> Leave {
    tracing::debug!(%error, "what a client says is no request");
    let reason = match error.is_size() {
        true => Reason::HeadTooLarge,
        false => Reason::BadRequest,
    };
    downstream.open.worker.recorder().reason(reason.name());
    let asked = Asked::by(&http::Request::new(()));
    match exchange::send(connection, reason.response(false), &asked, false).await {
        Ok(_) => Leave::Linger,
        Err(_) => Leave::Reset,
    }
}

async fn linger(connection: Rc<RefCell<Connection>>) {
    if let Ok(connection) = Rc::try_unwrap(connection) {
        connection.into_inner().linger().await;
    }
}

async fn carry(connection: Rc<RefCell<Connection>>, tunnel: Box<Tunnel>) {
    // Nobody has the request any more: the upstream switches behind its end.
    let Ok(connection) = Rc::try_unwrap(connection) else {
        return;
    };
    let (read, mut client) = connection.into_inner().into_tunnel();
    if let Err(error) = tunnel.carry(read, &mut client).await {
        tracing::trace!(%error, "tunnel cut");
        client.reset();
    }
}

/// The wait for a request.
struct Waiting<'a> {
    downstream: &'a Downstream,
    /// Since when nothing has come, or a head that has not ended.
    since: Option<Instant>,
    begun: bool,
}

impl<'a> Waiting<'a> {
    const fn new(downstream: &'a Downstream) -> Self {
        Self {
            downstream,
            since: None,
            begun: false,
        }
    }

    /// `None` when there is none for the time being.
    fn poll(
        &mut self,
        connection: &RefCell<Connection>,
        timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Awaited>> {
        let mut connection = connection.borrow_mut();
        if let Poll::Ready(awaited) = connection.poll_head(cx) {
            return Poll::Ready(Some(awaited));
        }
        if connection.has_begun() && !self.begun {
            self.begun = true;
            self.since = None;
        }
        let draining = self.downstream.open.worker.is_draining();
        let limit = match (self.begun, draining) {
            (true, _) => HEAD_LIMIT,
            (false, true) => DRAIN_IDLE_LIMIT,
            (false, false) => PARK_LIMIT,
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        ready!(poll_until(since + limit, timer, cx));
        Poll::Ready((self.begun || draining).then_some(Awaited::Closed))
    }
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
