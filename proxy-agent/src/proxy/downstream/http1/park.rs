//! Idle connections: nothing but a socket, until the client speaks again.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::time::sleep;

use super::{Connection, Downstream, IDLE_LIMIT};

/// Waits until the connection has to be looked after again: the client has sent something or closed,
/// or a drain has begun. `false` when it has been idle for too long.
pub(super) async fn wait(downstream: &Downstream, connection: &RefCell<Connection>) -> bool {
    let mut limit = pin!(sleep(IDLE_LIMIT));
    poll_fn(|cx| {
        // The waker that a drain wakes is this task's: it was left there before.
        let wanted = downstream.open.worker.is_draining()
            || connection.borrow().poll_readable(cx).is_ready();
        if wanted {
            return Poll::Ready(true);
        }
        limit.as_mut().poll(cx).map(|()| false)
    })
    .await
}
