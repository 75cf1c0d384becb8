//! Idle HTTP/1 connections: nothing but a socket, until the client speaks again.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::time::sleep_until;

use super::clock::IDLE_LIMIT;
use super::downstream::Downstream;
use super::io::DownstreamIo;

/// Waits until the connection has to be looked after again: the client has sent something or closed,
/// or a drain has begun. `false` when it has been idle for too long.
pub(super) async fn wait(downstream: &Downstream, io: &DownstreamIo) -> bool {
    let Some(deadline) = downstream.clock.deadline(IDLE_LIMIT) else {
        return true;
    };
    let mut limit = pin!(sleep_until(deadline));
    poll_fn(|cx| {
        // The waker that a drain wakes is this task's: the driver has left it there.
        let wanted = downstream.open.worker.is_draining() || io.poll_readable(cx).is_ready();
        if wanted {
            return Poll::Ready(true);
        }
        limit.as_mut().poll(cx).map(|()| false)
    })
    .await
}
