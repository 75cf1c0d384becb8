//! Limits on a response that go on after its head: when it must have ended, and how long it may
//! say nothing.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::model::StreamLimits;

/// The limits of one response. Only responses whose rule has any carry one.
pub(super) struct StreamLimit {
    end: Option<Pin<Box<Sleep>>>,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl StreamLimit {
    /// For a request whose head came at `started`, and whose response's head is there now.
    pub(super) fn new(limits: StreamLimits, started: Instant) -> Self {
        let end = limits.whole.map(|whole| started + whole);
        let idle = limits.idle;
        Self {
            end: end.map(|end| Box::pin(sleep_until(end))),
            idle: idle.map(|idle| (idle, Box::pin(sleep_until(Instant::now() + idle)))),
        }
    }

    /// Ready when a limit is reached.
    pub(super) fn poll_reached(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ends = self.end.iter_mut();
        let idles = self.idle.iter_mut().map(|(_, idle)| idle);
        for sleep in ends.chain(idles) {
            if sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// A part of the response came.
    pub(super) fn moved(&mut self) {
        if let Some((idle, sleep)) = &mut self.idle {
            sleep.as_mut().reset(Instant::now() + *idle);
        }
    }
}
