//! A request's body that is kept while it is sent, so that it can be sent again.
//!
//! The tries of one request share the client's body. What one of them has read is kept up to a
//! bound, and the next one begins with it; beyond the bound there is no next one.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::body::{BodyError, RequestBody};

/// Bytes of a body that are kept for another try at most.
pub(super) const MAX_KEPT_BYTES: usize = 64 * 1024;

/// The body of a request that may be sent several times.
pub(super) struct Original(Rc<RefCell<State>>);

struct State {
    /// The client's.
    body: RequestBody,
    /// What was read of it so far, copied: a slice of a read buffer would hold all of it.
    kept: BytesMut,
    trailers: Option<HeaderMap>,
    /// Everything that was read is kept.
    whole: bool,
    ended: bool,
    /// Number of the try that may read.
    current: u32,
    waiting: Option<Waker>,
}

impl Original {
    pub(super) fn new(body: RequestBody) -> Self {
        let too_long = body.size_hint().lower() > MAX_KEPT_BYTES as u64;
        Self(Rc::new(RefCell::new(State {
            ended: body.is_end_stream(),
            body,
            kept: BytesMut::new(),
            trailers: None,
            whole: !too_long,
            current: 0,
            waiting: None,
        })))
    }

    /// The body for the first try.
    pub(super) fn first(&self) -> RequestBody {
        self.try_number(0)
    }

    /// The body for the next try; the one before reads no more. `None` if it was not kept.
    pub(super) fn again(&self) -> Option<RequestBody> {
        let mut state = self.0.borrow_mut();
        if !state.whole {
            return None;
        }
        state.current += 1;
        let number = state.current;
        // The try before learns that it is over.
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        Some(self.try_number(number))
    }

    fn try_number(&self, number: u32) -> RequestBody {
        let state = self.0.borrow();
        if state.ended && state.kept.is_empty() && state.trailers.is_none() {
            return RequestBody::Empty;
        }
        drop(state);
        RequestBody::Replayed(Replay {
            state: Rc::clone(&self.0),
            number,
            sent_bytes: 0,
            sent_trailers: false,
        })
    }
}

/// One try's view of the body.
pub(super) struct Replay {
    state: Rc<RefCell<State>>,
    number: u32,
    sent_bytes: usize,
    sent_trailers: bool,
}

impl Replay {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.state.borrow_mut();
        if state.current != self.number {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(unsent) = state.kept.get(self.sent_bytes..).filter(|b| !b.is_empty()) {
            self.sent_bytes += unsent.len();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(unsent)))));
        }
        if state.ended {
            let trailers = state.trailers.as_ref().filter(|_| !self.sent_trailers);
            self.sent_trailers = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers.clone()))));
        }
        let polled = Pin::new(&mut state.body).poll_frame(cx);
        if polled.is_pending() {
            state.waiting = Some(cx.waker().clone());
        }
        let frame = ready!(polled);
        match &frame {
            None => state.ended = true,
            Some(Err(_)) => state.whole = false,
            Some(Ok(frame)) => {
                state.keep(frame);
                self.sent_bytes = state.kept.len();
                self.sent_trailers = state.trailers.is_some();
            }
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let state = self.state.borrow();
        let all_sent = self.sent_bytes >= state.kept.len();
        let trailers_sent = self.sent_trailers || state.trailers.is_none();
        all_sent && trailers_sent && (state.ended || state.body.is_end_stream())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let state = self.state.borrow();
        let unsent = state.kept.len().saturating_sub(self.sent_bytes) as u64;
        let rest = state.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + unsent);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + unsent);
        }
        hint
    }
}

impl State {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.ended = true;
        }
        let Some(data) = frame.data_ref().filter(|_| self.whole) else {
            return;
        };
        if self.kept.len() + data.len() > MAX_KEPT_BYTES {
            self.whole = false;
            self.kept = BytesMut::new();
        } else {
            self.kept.extend_from_slice(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tee::{Feed, next};
    use super::*;

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn the_next_try_begins_with_what_the_one_before_has_read() {
        let (feed, body) = Feed::new();
        let original = Original::new(body);
        let mut first = original.first();
        feed.push(data("one "));
        assert_eq!(next(&mut first), "one ");
        feed.push(data("two "));
        assert_eq!(next(&mut first), "two ");
        let mut second = original.again().expect("another try");
        assert_eq!(next(&mut second), "one two ");
        assert_eq!(next(&mut second), "…");
        feed.push(data("three"));
        feed.push(Frame::trailers(HeaderMap::new()));
        feed.end();
        assert_eq!(next(&mut second), "three");
        assert_eq!(next(&mut second), "TRAILERS");
        let mut third = original.again().expect("another try");
        assert_eq!(next(&mut third), "one two three");
        assert!(!third.is_end_stream());
        assert_eq!(next(&mut third), "TRAILERS");
        assert_eq!(next(&mut third), "END");
        assert!(third.is_end_stream());
    }

    #[test]
    fn a_try_that_is_over_takes_nothing_from_the_next_one() {
        let (feed, body) = Feed::new();
        let original = Original::new(body);
        let mut first = original.first();
        assert_eq!(next(&mut first), "…");
        let mut second = original.again().expect("another try");
        feed.push(data("one"));
        assert_eq!(next(&mut first), "ERROR");
        assert_eq!(next(&mut second), "one");
    }

    #[test]
    fn what_was_not_kept_is_not_sent_again() {
        let (feed, body) = Feed::new();
        let original = Original::new(body);
        let mut first = original.first();
        let half = Bytes::from(vec![b'x'; MAX_KEPT_BYTES / 2 + 1]);
        feed.push(Frame::data(half.clone()));
        assert_eq!(next(&mut first).len(), half.len());
        assert!(original.again().is_some());
        let mut second = original.again().expect("another try");
        assert_eq!(next(&mut second).len(), half.len());
        feed.push(Frame::data(half.clone()));
        assert_eq!(next(&mut second).len(), half.len(), "the try goes on");
        assert!(original.again().is_none());
    }

    #[test]
    fn no_body_is_sent_again_as_none() {
        let original = Original::new(RequestBody::Empty);
        assert!(matches!(original.first(), RequestBody::Empty));
        assert!(matches!(original.again(), Some(RequestBody::Empty)));
    }

    #[test]
    fn a_length_that_is_known_stays_known() {
        let (feed, body) = Feed::new();
        let original = Original::new(body);
        let mut first = original.first();
        feed.push(data("one"));
        assert_eq!(next(&mut first), "one");
        let second = original.again().expect("another try");
        assert_eq!(second.size_hint().lower(), 3);
        feed.end();
    }
}
