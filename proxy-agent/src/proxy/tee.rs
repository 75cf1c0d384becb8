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
