//! Where a downstream connection stands in time: idle, receiving a head, or serving requests.
//!
//! hyper's own header timer also runs on idle keep-alive connections, so the agent keeps its own:
//! the I/O object and the request guards write the clock, the connection's driver reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// From a request's first byte to the end of its head.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may stay open without a request.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(3_600);
/// How long it keeps its buffers without a request.
pub(super) const PARK_LIMIT: Duration = Duration::from_secs(2);
/// How long it may stay open without a request while draining: long enough that no request is on its way, in all likelihood.
pub(super) const DRAIN_IDLE_LIMIT: Duration = Duration::from_secs(1);

/// No HTTP/2 head is unfinished.
const NO_HEAD: u64 = u64::MAX;

/// No answer begins with the next byte.
const NO_ANSWER: u64 = u64::MAX;
/// An answer begins, of which nobody knows how long it is.
const UNSIZED: u64 = u64::MAX - 1;

/// An answer that is about to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// With so many bytes of body.
    Sized(u64),
    /// With a body that ends when it ends, or what is no HTTP behind it.
    Unsized,
}

/// One connection's clock. Written and read by one thread; atomic only because hyper asks I/O
/// objects that can be upgraded to be `Send`.
#[derive(Debug)]
pub(super) struct Clock {
    epoch: Instant,
    /// Requests whose response has not ended.
    open: AtomicU32,
    /// Whether bytes of a head have come since the last response ended.
    in_head: AtomicBool,
    /// When the phase began, milliseconds after `epoch`.
    since_ms: AtomicU64,
    /// Close with RST: the upstream was reset, or its body was cut short.
    reset: AtomicBool,
    /// The last request had a body, of which not all need have been read.
    body: AtomicBool,
    /// The connection carries a tunnel, no longer HTTP.
    tunnel: AtomicBool,
    /// The answer that begins with the next byte: its bytes of body, [`UNSIZED`] or [`NO_ANSWER`].
    answer: AtomicU64,
    /// Nothing waits to be written.
    flushed: AtomicBool,
    /// A head has come that may have more fields than hyper looks for at little cost.
    wide: AtomicBool,
    /// When an HTTP/2 head was begun that is unfinished, milliseconds after `epoch`; else none.
    h2_head_ms: AtomicU64,
    http1: bool,
}

impl Clock {
    pub(super) fn new(http1: bool) -> Arc<Self> {
        Arc::new(Self {
            http1,
            epoch: Instant::now(),
            open: AtomicU32::new(0),
            in_head: AtomicBool::new(false),
            since_ms: AtomicU64::new(0),
            reset: AtomicBool::new(false),
            body: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            answer: AtomicU64::new(NO_ANSWER),
            flushed: AtomicBool::new(true),
            wide: AtomicBool::new(false),
            h2_head_ms: AtomicU64::new(NO_HEAD),
        })
    }

    /// Bytes came in. Answers whether they begin a head.
    pub(super) fn received(&self) -> bool {
        let begins = self.open.load(Relaxed) == 0 && !self.in_head.load(Relaxed);
        if begins {
            self.in_head.store(true, Relaxed);
            self.restart();
        }
        begins
    }

    /// Whether no request is open: what comes now is a head.
    pub(super) fn awaits_head(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    /// A head is complete: its request is open until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> OpenRequest {
        self.open.store(self.open.load(Relaxed) + 1, Relaxed);
        self.in_head.store(false, Relaxed);
        OpenRequest(Arc::clone(self))
    }

    /// Bytes came in on HTTP/2, and whether a head is unfinished after them.
    pub(super) fn received_h2(&self, unfinished: bool) {
        let known = self.h2_head_ms.load(Relaxed);
        if !unfinished {
            self.h2_head_ms.store(NO_HEAD, Relaxed);
        } else if known == NO_HEAD {
            self.h2_head_ms.store(self.elapsed_ms(), Relaxed);
        }
    }

    /// When the connection has to be closed as things stand. An unfinished head counts on HTTP/2
    /// also while other requests are open; bytes that are no head, like pings, never do.
    pub(super) fn deadline(&self, idle_limit: Duration) -> Option<Instant> {
        let at = |ms| self.epoch + Duration::from_millis(ms);
        let h2_head = self.h2_head_ms.load(Relaxed);
        let head = (h2_head != NO_HEAD).then(|| at(h2_head) + HEAD_LIMIT);
        if self.open.load(Relaxed) > 0 {
            return head;
        }
        let limit = if self.http1 && self.in_head.load(Relaxed) {
            HEAD_LIMIT
        } else {
            idle_limit
        };
        let idle = at(self.since_ms.load(Relaxed)) + limit;
        Some(head.map_or(idle, |head| head.min(idle)))
    }

    /// Asks for RST instead of FIN when the connection is closed. On HTTP/2 the stream alone is
    /// reset, which hyper does.
    pub(super) fn reset_on_close(&self) {
        self.reset.store(self.http1, Relaxed);
    }

    /// Whether the connection speaks HTTP/1.
    pub(super) const fn is_http1(&self) -> bool {
        self.http1
    }

    /// Notes whether the request that was just received has a body.
    pub(super) fn has_body(&self, body: bool) {
        self.body.store(body, Relaxed);
    }

    /// Whether the open request has one.
    pub(super) fn expects_body(&self) -> bool {
        self.body.load(Relaxed)
    }

    /// Notes that an answer begins.
    pub(super) fn answers(&self, answer: Answer) {
        let body = match answer {
            Answer::Sized(body) => body.min(UNSIZED),
            Answer::Unsized => UNSIZED,
        };
        self.answer.store(body, Relaxed);
    }

    /// The answer that begins with the next byte, once.
    pub(super) fn take_answer(&self) -> Option<Answer> {
        match self.answer.load(Relaxed) {
            NO_ANSWER => None,
            body => {
                self.answer.store(NO_ANSWER, Relaxed);
                let unsized_body = body == UNSIZED || self.tunnel.load(Relaxed);
                Some(if unsized_body {
                    Answer::Unsized
                } else {
                    Answer::Sized(body)
                })
            }
        }
    }

    /// Whether bytes of the client may be unread when its HTTP/1 connection is closed: those of a
    /// body that nobody wanted, or of a head that was refused.
    pub(super) fn may_leave_unread(&self) -> bool {
        let unread = self.body.load(Relaxed) || self.in_head.load(Relaxed);
        self.http1 && unread && !self.tunnel.load(Relaxed)
    }

    /// What is open is a tunnel from now on: its ends are its users' affair.
    pub(super) fn becomes_tunnel(&self) {
        self.tunnel.store(true, Relaxed);
    }

    /// Whether an HTTP/1 request is open.
    pub(super) fn is_serving_http1(&self) -> bool {
        self.http1 && self.open.load(Relaxed) > 0 && !self.tunnel.load(Relaxed)
    }

    /// Asks for hyper to be set up for heads of many fields, from now on.
    pub(super) fn widen(&self) {
        self.wide.store(true, Relaxed);
    }

    /// Whether that was asked for.
    pub(super) fn is_wide(&self) -> bool {
        self.wide.load(Relaxed)
    }

    /// Bytes are being written, or all of them have been.
    pub(super) fn flushed(&self, flushed: bool) {
        self.flushed.store(flushed, Relaxed);
    }

    /// Whether nothing is under way on an HTTP/1 connection: no request, no part of a head, and
    /// nothing of an answer.
    pub(super) fn can_park(&self) -> bool {
        let busy = self.open.load(Relaxed) > 0 || self.in_head.load(Relaxed);
        self.http1 && !busy && self.flushed.load(Relaxed) && !self.tunnel.load(Relaxed)
    }

    pub(super) fn wants_reset(&self) -> bool {
        self.reset.load(Relaxed)
    }

    /// Counts the time of the phase from now.
    pub(super) fn restart(&self) {
        self.since_ms.store(self.elapsed_ms(), Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request that is being served; the connection is not idle while one is there.
#[derive(Debug)]
pub(super) struct OpenRequest(Arc<Clock>);

impl OpenRequest {
    /// The connection's clock.
    pub(super) fn clock(&self) -> &Clock {
        &self.0
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let open = self.0.open.load(Relaxed).saturating_sub(1);
        self.0.open.store(open, Relaxed);
        if open == 0 {
            self.0.restart();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_has_ten_seconds_from_its_first_byte() {
        let clock = Clock::new(true);
        tokio::time::advance(Duration::from_secs(100)).await;
        clock.received();
        tokio::time::advance(Duration::from_secs(4)).await;
        clock.received();
        let left = clock.deadline(IDLE_LIMIT).unwrap() - Instant::now();
        assert_eq!(left, Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_request_has_no_deadline_and_idling_starts_when_it_ends() {
        let clock = Clock::new(true);
        clock.received();
        let request = clock.request();
        tokio::time::advance(Duration::from_secs(7_200)).await;
        clock.received();
        assert_eq!(clock.deadline(IDLE_LIMIT), None);
        drop(request);
        let left = clock.deadline(IDLE_LIMIT).unwrap() - Instant::now();
        assert_eq!(left, IDLE_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_on_an_idle_http2_connection_are_no_head() {
        let clock = Clock::new(false);
        clock.received();
        let left = clock.deadline(IDLE_LIMIT).unwrap() - Instant::now();
        assert_eq!(left, IDLE_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unfinished_http2_head_has_ten_seconds_even_beside_open_requests() {
        let clock = Clock::new(false);
        let _request = clock.request();
        clock.received_h2(true);
        tokio::time::advance(Duration::from_secs(4)).await;
        clock.received_h2(true);
        let left = clock.deadline(IDLE_LIMIT).unwrap() - Instant::now();
        assert_eq!(left, Duration::from_secs(6));
        clock.received_h2(false);
        assert_eq!(clock.deadline(IDLE_LIMIT), None);
    }
}
