//! Where a connection stands in time: idle, receiving a head, or serving requests.
//!
//! hyper's own header timer also runs on idle keep-alive connections, so the agent keeps its own:
//! the I/O object and the request guards write the clock, the connection's driver reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::downstream::HEAD_LIMIT;

/// No HTTP/2 head is unfinished.
const NO_HEAD: u64 = u64::MAX;

/// One connection's clock. Written and read by one thread; atomic only because hyper asks I/O
/// objects that can be upgraded to be `Send`.
#[derive(Debug)]
pub(in crate::proxy::downstream) struct Clock {
    epoch: Instant,
    /// Requests whose response has not ended.
    open: AtomicU32,
    /// Since when there is none, milliseconds after `epoch`.
    since_ms: AtomicU64,
    /// When a head was begun that is unfinished, milliseconds after `epoch`; else none.
    head_ms: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            open: AtomicU32::new(0),
            since_ms: AtomicU64::new(0),
            head_ms: AtomicU64::new(NO_HEAD),
        })
    }

    /// Bytes came in, and whether a head is unfinished after them.
    pub(super) fn received(&self, unfinished: bool) {
        let known = self.head_ms.load(Relaxed);
        if !unfinished {
            self.head_ms.store(NO_HEAD, Relaxed);
        } else if known == NO_HEAD {
            self.head_ms.store(self.elapsed_ms(), Relaxed);
        }
    }

    /// When the connection has to be closed as things stand. An unfinished head counts
    /// also while other requests are open; bytes that are no head, like pings, never do.
    pub(super) fn deadline(&self, idle_limit: Duration) -> Option<Instant> {
        let at = |ms| self.epoch + Duration::from_millis(ms);
        let head_began = self.head_ms.load(Relaxed);
        let head = (head_began != NO_HEAD).then(|| at(head_began) + HEAD_LIMIT);
        if self.open.load(Relaxed) > 0 {
            return head;
        }
        let idle = at(self.since_ms.load(Relaxed)) + idle_limit;
        Some(head.map_or(idle, |head| head.min(idle)))
    }

    /// Counts the time without requests from now.
    pub(super) fn restart(&self) {
        self.since_ms.store(self.elapsed_ms(), Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request that is being served; the connection is not idle while one is there.
#[derive(Debug)]
pub(in crate::proxy) struct OpenRequest(Option<Arc<Clock>>);

impl OpenRequest {
    /// On a connection that has a clock.
    pub(in crate::proxy::downstream) fn new(clock: Option<&Arc<Clock>>) -> Self {
        if let Some(clock) = clock {
            clock.open.store(clock.open.load(Relaxed) + 1, Relaxed);
        }
        Self(clock.map(Arc::clone))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if let Some(clock) = &self.0 {
            let open = clock.open.load(Relaxed).saturating_sub(1);
            clock.open.store(open, Relaxed);
            if open == 0 {
                clock.restart();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::IDLE_LIMIT;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_open_request_has_no_deadline_and_idling_starts_when_it_ends() {
        let clock = Clock::new();
        let request = OpenRequest::new(Some(&clock));
        tokio::time::advance(Duration::from_secs(7_200)).await;
        assert_eq!(clock.deadline(IDLE_LIMIT), None);
        drop(request);
        let left = clock.deadline(IDLE_LIMIT).unwrap() - Instant::now();
        assert_eq!(left, IDLE_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unfinished_head_has_ten_seconds_even_beside_open_requests() {
        let clock = Clock::new();
        let _request = OpenRequest::new(Some(&clock));
        clock.received(true);
        tokio::time::advance(Duration::from_secs(4)).await;
        clock.received(true);
        let left = clock.deadline(IDLE_LIMIT).unwrap() - Instant::now();
        assert_eq!(left, Duration::from_secs(6));
        clock.received(false);
        assert_eq!(clock.deadline(IDLE_LIMIT), None);
    }
}
