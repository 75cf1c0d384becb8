//! The upstream socket of an HTTP/1 connection.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Waker};

use tokio::io::ReadBuf;
use tokio::task::coop::unconstrained;

use crate::proxy::accelerate::{Never, Socket, ToPod};

/// A connected socket, and what accelerates it.
pub(in crate::proxy) type UpstreamIo = Socket<ToPod>;

impl UpstreamIo {
    /// A request begins with the next byte that is written. It has `size` bytes, if that is known.
    pub(super) fn begins(&mut self, size: Option<u64>) {
        if let Some(accelerated) = &mut self.accelerated
            && let Err(Never) = accelerated.begins(&self.stream, size)
        {
            self.accelerated = None;
        }
    }

    /// Whether the upstream has neither sent anything nor closed its side. Asks the system only if
    /// something has happened on the socket since it was last read.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0; 1];
        let mut byte = ReadBuf::new(&mut byte);
        let peek = poll_fn(|cx| self.stream.poll_peek(cx, &mut byte));
        // Where a task has used up its share, tokio calls everything pending.
        let mut peek = pin!(unconstrained(peek));
        let mut cx = Context::from_waker(Waker::noop());
        peek.as_mut().poll(&mut cx).is_pending()
    }
}
