//! Where a connection stands in time: idle, receiving a head, or serving requests.
//!
//! h2 has no limits on either: what looks at the bytes and the request guards write the clock, the
//! connection's driver reads it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::downstream::HEAD_LIMIT;

/// One connection's clock.
#[derive(Debug)]
pub(in crate::proxy::downstream) struct Clock {
    /// Requests whose response has not ended.
    open: Cell<u32>,
    /// Since when there is none.
    since: Cell<Instant>,
    /// When a head was begun that is unfinished.
    head: Cell<Option<Instant>>,
}

impl Clock {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            open: Cell::new(0),
            since: Cell::new(Instant::now()),
            head: Cell::new(None),
        })
    }

    /// Bytes came in, and whether a head is unfinished after them.
    pub(super) fn received(&self, unfinished: bool) {
        let known = self.head.get();
        self.head
            .set(unfinished.then(|| known.unwrap_or_else(Instant::now)));
    }

    /// When the connection has to be closed as things stand. An unfinished head counts
    /// also while other requests are open; bytes that are no head, like pings, never do.
    pub(super) fn deadline(&self, idle_limit: Duration) -> Option<Instant> {
        let head = self.head.get().map(|begun| begun + HEAD_LIMIT);
        if self.open.get() > 0 {
            return head;
        }
        let idle = self.since.get() + idle_limit;
        Some(head.map_or(idle, |head| head.min(idle)))
    }

    /// Counts the time without requests from now.
    pub(super) fn restart(&self) {
        self.since.set(Instant::now());
    }
}

/// A request that is being served; the connection is not idle while one is there.
#[derive(Debug, Default)]
pub(in crate::proxy) struct OpenRequest(Option<Rc<Clock>>);

impl OpenRequest {
    /// On a connection that has a clock.
    pub(in crate::proxy::downstream) fn new(clock: Option<&Rc<Clock>>) -> Self {
        if let Some(clock) = clock {
            clock.open.set(clock.open.get() + 1);
        }
        Self(clock.map(Rc::clone))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if let Some(clock) = &self.0 {
            let open = clock.open.get().saturating_sub(1);
            clock.open.set(open);
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
