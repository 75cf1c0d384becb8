//! The socket of a client that speaks HTTP/1.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use crate::proxy::accelerate::{Accelerated, Socket};
use crate::proxy::accept;

/// An accepted connection, and what accelerates it.
pub(super) type ClientIo = Socket<Accelerated>;

impl ClientIo {
    /// Whether what comes from here on is a head.
    pub(in crate::proxy::downstream) fn awaits_head(&mut self, head: bool) {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.awaits_head(head);
        }
    }

    /// An answer begins with the next byte that is written. It has `size` bytes, if that is known.
    pub(in crate::proxy::downstream) fn answers(&mut self, size: Option<u64>) {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.answers(size);
        }
    }

    /// The client has sent a request before the former one was answered.
    pub(in crate::proxy::downstream) fn pipelines(&mut self) {
        if let Some(accelerated) = &mut self.accelerated {
            accelerated.pipelines();
        }
    }

    /// Waits until there is something to read: whether it is more than the end.
    pub(in crate::proxy::downstream) fn poll_has_more(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut byte = [0; 1];
        let mut byte = ReadBuf::new(&mut byte);
        let count = ready!(self.stream.poll_peek(cx, &mut byte))?;
        Poll::Ready(Ok(count > 0))
    }

    /// Closes with RST when dropped.
    pub(in crate::proxy::downstream) fn reset(&self) {
        accept::reset(&self.stream);
    }
}
