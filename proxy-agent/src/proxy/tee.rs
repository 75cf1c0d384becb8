//! A request's body on its way to two places: what the first reads is queued for the second, up to
//! a bound. The first never waits for the second.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::{BodyError, RequestBody};

/// Bytes that may wait for a copy's reader; one more and the copy is cut off.
const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// What a frame costs at least: a slice of a byte is not for free.
const MIN_FRAME_BYTES: usize = 256;

type Shared = Rc<RefCell<Queue>>;

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame<Bytes>>,
    queued_bytes: usize,
    end: Option<End>,
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    /// Every frame was queued.
    Whole,
    /// The reader did not keep up, or the body broke off.
    Cut,
}

/// The body, and who gets a copy of it.
pub(super) struct Teed {
    body: RequestBody,
    copies: Vec<Shared>,
}

impl Teed {
    /// Makes `count` copies of `body`.
    pub(super) fn new(body: RequestBody, count: usize) -> (Self, Vec<RequestBody>) {
        let copies: Vec<Shared> = (0..count).map(|_| Shared::default()).collect();
        let readers = copies.iter().map(|queue| {
            RequestBody::Copied(Copied {
                queue: Rc::clone(queue),
            })
        });
        let readers = readers.collect();
        (Self { body, copies }, readers)
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.end(End::Whole),
            Some(Err(_)) => self.end(End::Cut),
            Some(Ok(frame)) => {
                for copy in &self.copies {
                    // The queue's reader may be gone already.
                    if Rc::strong_count(copy) > 1 {
                        copy.borrow_mut().push(frame);
                    }
                }
                if self.body.is_end_stream() {
                    self.end(End::Whole);
                }
            }
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn end(&self, end: End) {
        for copy in &self.copies {
            copy.borrow_mut().end(end);
        }
    }
}

impl Drop for Teed {
    fn drop(&mut self) {
        self.end(if self.body.is_end_stream() {
            End::Whole
        } else {
            End::Cut
        });
    }
}

impl Queue {
    fn push(&mut self, frame: &Frame<Bytes>) {
        if self.end.is_some() {
            return;
        }
        let copy = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Frame::data(data.clone()),
            (None, Some(trailers)) => Frame::trailers(trailers.clone()),
            (None, None) => return,
        };
        self.queued_bytes += cost(&copy);
        if self.queued_bytes > MAX_QUEUED_BYTES {
            return self.end(End::Cut);
        }
        self.frames.push_back(copy);
        self.wake();
    }

    fn end(&mut self, end: End) {
        if self.end.is_none() {
            self.end = Some(end);
            self.wake();
        }
        if self.end == Some(End::Cut) {
            self.frames.clear();
        }
    }

    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

fn cost(frame: &Frame<Bytes>) -> usize {
    frame
        .data_ref()
        .map_or(MIN_FRAME_BYTES, |data| data.len().max(MIN_FRAME_BYTES))
}

/// The copy.
pub(super) struct Copied {
    queue: Shared,
}

impl Copied {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut queue = self.queue.borrow_mut();
        if let Some(frame) = queue.frames.pop_front() {
            queue.queued_bytes = queue.queued_bytes.saturating_sub(cost(&frame));
            return Poll::Ready(Some(Ok(frame)));
        }
        match queue.end {
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Cut) => Poll::Ready(Some(Err(BodyError::CutOff))),
            None => {
                queue.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let queue = self.queue.borrow();
        queue.frames.is_empty() && queue.end == Some(End::Whole)
    }
}

/// A body that a test feeds frame by frame.
#[cfg(test)]
pub(super) struct Feed(Shared);

#[cfg(test)]
impl Feed {
    pub(super) fn new() -> (Self, RequestBody) {
        let queue = Shared::default();
        let body = RequestBody::Copied(Copied {
            queue: Rc::clone(&queue),
        });
        (Self(queue), body)
    }

    pub(super) fn push(&self, frame: Frame<Bytes>) {
        let mut queue = self.0.borrow_mut();
        queue.queued_bytes = 0; // a test's client is not bounded
        queue.push(&frame);
    }

    /// A frame beyond the bound.
    pub(super) fn push_large(&self, data: Bytes) {
        let mut queue = self.0.borrow_mut();
        queue.frames.push_back(Frame::data(data));
        queue.wake();
    }

    /// Whether there are frames that were not taken.
    pub(super) fn has_frames(&self) -> bool {
        !self.0.borrow().frames.is_empty()
    }

    pub(super) fn end(&self) {
        self.0.borrow_mut().end(End::Whole);
    }

    pub(super) fn break_off(&self) {
        self.0.borrow_mut().end(End::Cut);
    }
}

/// What a body yields now, as text: `…` for nothing yet, `END`, `ERROR`, `TRAILERS`.
#[cfg(test)]
pub(super) fn next(body: &mut RequestBody) -> String {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(body).poll_frame(&mut cx) {
        Poll::Pending => "…".to_owned(),
        Poll::Ready(None) => "END".to_owned(),
        Poll::Ready(Some(Err(_))) => "ERROR".to_owned(),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => String::from_utf8_lossy(&data).into_owned(),
            Err(_trailers) => "TRAILERS".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn teed() -> (Feed, RequestBody, RequestBody) {
        let (feed, body) = Feed::new();
        let (teed, mut copies) = Teed::new(body, 1);
        let copy = copies.remove(0);
        (feed, RequestBody::Teed(Box::new(teed)), copy)
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_copy_is_what_the_first_has_read() {
        let (feed, mut first, mut copy) = teed();
        assert_eq!(next(&mut copy), "…");
        feed.push(data("one"));
        assert_eq!(next(&mut copy), "…", "the first has not read it");
        assert_eq!(next(&mut first), "one");
        assert_eq!(next(&mut copy), "one");
        feed.push(Frame::trailers(HeaderMap::new()));
        feed.end();
        assert_eq!(next(&mut first), "TRAILERS");
        assert_eq!(next(&mut copy), "TRAILERS");
        assert_eq!(next(&mut copy), "END");
    }

    #[test]
    fn a_copy_that_lags_behind_is_cut_off_and_the_first_is_not() {
        let (feed, mut first, mut copy) = teed();
        let frames = MAX_QUEUED_BYTES / MIN_FRAME_BYTES + 1;
        for _ in 0..frames {
            feed.push(data("x"));
            assert_eq!(next(&mut first), "x");
        }
        assert_eq!(next(&mut copy), "ERROR");
        feed.end();
        assert_eq!(next(&mut first), "END");
    }

    #[test]
    fn a_copy_of_what_breaks_off_or_is_given_up_breaks_off_too() {
        let (feed, mut first, mut copy) = teed();
        feed.break_off();
        assert_eq!(next(&mut first), "ERROR");
        assert_eq!(next(&mut copy), "ERROR");
        let (feed, first, mut copy) = teed();
        feed.push(data("one"));
        drop(first);
        assert_eq!(next(&mut copy), "ERROR");
    }
}
