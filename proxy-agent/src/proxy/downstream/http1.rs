//! HTTP/1.1 of a client: one request after the other, in the task of the connection. Nothing but a
//! socket is kept while no request comes; only a body that is still on its way when its response
//! begins is read by another task.

mod connection;
mod encode;
mod exchange;
mod head;
mod io;
#[cfg(test)]
mod tests;
mod upload;
mod whole;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep};

use crate::proxy::http1::HeadError;
use crate::proxy::reply::Reason;
use crate::proxy::upgrade::Tunnel;

use super::{DRAIN_IDLE_LIMIT, Downstream, HEAD_LIMIT, IDLE_LIMIT, poll_until};
use connection::Awaited;
use encode::Asked;
use exchange::After;

pub(in crate::proxy) use connection::Connection;
pub(in crate::proxy) use upload::{Upload, UploadError};
pub use whole::{WholeRequest, read_request};

/// How a connection ends.
enum Leave {
    /// It is closed.
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
    // This task's alone: what reads a body has it only while it does so.
    let connection = Rc::new(RefCell::new(connection));
    match serve_requests(&downstream, &connection).await {
        Leave::Close if !connection.borrow().may_leave_unread() => {}
        Leave::Close | Leave::Linger => Box::pin(linger(connection)).await,
        Leave::Reset => connection.borrow().reset(),
        Leave::Tunnel(tunnel) => Box::pin(carry(connection, tunnel)).await,
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
    let mut timer = pin!(sleep(IDLE_LIMIT));
    loop {
        let mut waiting = Waiting::new(downstream);
        let awaited = poll_fn(|cx| waiting.poll(connection, timer.as_mut(), cx)).await;
        let head = match awaited {
            Awaited::Head(head) => head,
            Awaited::Refused(error) => {
                return Box::pin(refuse(downstream, connection, &error)).await;
            }
            Awaited::Closed => return Leave::Close,
        };
        // Boxed: there is room for a request for as long as there is one. Most connections of a node
        // are idle most of the time.
        match Box::pin(exchange::serve(downstream, connection, head)).await {
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
    if let Some(connection) = Rc::into_inner(connection) {
        connection.into_inner().linger().await;
    }
}

async fn carry(connection: Rc<RefCell<Connection>>, tunnel: Box<Tunnel>) {
    let Some(connection) = Rc::into_inner(connection) else {
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

    fn poll(
        &mut self,
        connection: &RefCell<Connection>,
        timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Awaited> {
        let mut connection = connection.borrow_mut();
        if let Poll::Ready(awaited) = connection.poll_head(cx) {
            return Poll::Ready(awaited);
        }
        if connection.has_begun() && !self.begun {
            self.begun = true;
            self.since = None;
        }
        let limit = match (self.begun, self.downstream.open.worker.is_draining()) {
            (true, _) => HEAD_LIMIT,
            (false, true) => DRAIN_IDLE_LIMIT,
            (false, false) => IDLE_LIMIT,
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        poll_until(since + limit, timer, cx).map(|()| Awaited::Closed)
    }
}
