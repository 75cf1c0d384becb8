//! A body as it comes in on a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

/// The body of a request or of a response. Dropped before its end, it resets the stream. A reset by
/// the other side before END_STREAM is an error, for whatever reason it says: less than all of a
/// body is never taken for all.
pub(in crate::proxy) struct Inbound {
    stream: RecvStream,
    /// Bytes to come, if the head has told how many. That there are neither more nor fewer is what
    /// h2 sees to.
    left: Option<u64>,
    /// What comes next can only be trailers.
    data_over: bool,
    over: bool,
}

impl Inbound {
    /// Of a message with this head, unless it has ended with it.
    pub(in crate::proxy) fn of(headers: &HeaderMap, stream: RecvStream) -> Option<Self> {
        if stream.is_end_stream() {
            return None;
        }
        let length = headers.get(CONTENT_LENGTH);
        Some(Self {
            stream,
            left: length.and_then(|length| length.to_str().ok()?.parse().ok()),
            data_over: false,
            over: false,
        })
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let data = ready!(self.stream.poll_data(cx));
        if let Some(Ok(data)) = &data {
            let length = data.len();
            // Whoever asked for it holds it; the next may come.
            self.stream.flow_control().release_capacity(length)?;
            self.left = self.left.map(|left| left.saturating_sub(length as u64));
        }
        Poll::Ready(data)
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if !this.data_over {
            if let Some(data) = ready!(this.poll_data(cx)) {
                this.over = data.is_err();
                return Poll::Ready(Some(data.map(Frame::data)));
            }
            this.data_over = true;
        }
        let trailers = ready!(this.stream.poll_trailers(cx));
        this.over = true;
        Poll::Ready(trailers.map(|found| found.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = if self.over { Some(0) } else { self.left };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
