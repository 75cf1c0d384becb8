//! Bodies on their way through: streamed frame by frame, never collected.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::downstream::{OpenRequest, Upload, UploadError};
use super::http1::FieldLines;
use super::http2::Inbound;
use super::replay::Replay;
use super::stream_limit::StreamLimit;
use super::tee::{Copied, Teed};
use super::traffic::Ticket;
use super::upgrade::Tunnel;
use super::upstream::{Lease, ReceiveError, Received};

/// How long the body of a request with `Expect: 100-continue` is held back when the upstream says
/// nothing (RFC 9110, section 10.1.1: do not wait indefinitely).
const CONTINUE_LIMIT: Duration = Duration::from_secs(1);

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the client's body broke off")]
    Http1(#[from] UploadError),
    #[error("the client's stream broke off")]
    Http2(#[from] h2::Error),
    #[error("another try carries the body now")]
    Superseded,
    #[error("the copy of the body was cut off")]
    CutOff,
}

/// Why a response's body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutShort {
    #[error("the upstream's body broke off")]
    Upstream(#[from] ReceiveError),
    #[error("the response took longer than its rule allows")]
    TooLong,
}

/// A request's body on its way up.
pub(super) enum RequestBody {
    /// None.
    Empty,
    /// As it comes.
    Http1(Upload),
    /// As it comes.
    Http2(Inbound),
    /// As it comes, but not before the upstream has asked for it: polling it is what sends
    /// `100 Continue` to the client.
    Gated(Upload, Pin<Box<dyn Future<Output = ()>>>),
    /// Kept, so that it can be sent again.
    Replayed(Replay),
    /// Copied as it goes.
    Teed(Box<Teed>),
    /// The copy.
    Copied(Copied),
}

impl RequestBody {
    /// Holds a body that comes from the client back until `opened` is cancelled or a second has
    /// passed.
    pub(super) fn gate(&mut self, opened: CancellationToken) {
        let gate = async move {
            // Both ends of the wait mean the same: go on.
            let _ = tokio::time::timeout(CONTINUE_LIMIT, opened.cancelled()).await;
        };
        *self = match std::mem::replace(self, Self::Empty) {
            Self::Http1(body) => Self::Gated(body, Box::pin(gate)),
            kept @ (Self::Empty
            | Self::Http2(_)
            | Self::Gated(..)
            | Self::Replayed(_)
            | Self::Teed(_)
            | Self::Copied(_)) => kept,
        };
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Self::Gated(_, gate) = this {
            ready!(gate.as_mut().poll(cx));
            if let Self::Gated(body, _) = std::mem::replace(this, Self::Empty) {
                *this = Self::Http1(body);
            }
        }
        match this {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Empty | Self::Gated(..) => Poll::Ready(None),
            Self::Replayed(replay) => replay.poll_frame(cx),
            Self::Teed(teed) => teed.poll_frame(cx),
            Self::Copied(copied) => copied.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) | Self::Gated(body, _) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Replayed(replay) => replay.is_end_stream(),
            Self::Teed(teed) => teed.is_end_stream(),
            Self::Copied(copied) => copied.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) | Self::Gated(body, _) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Replayed(replay) => replay.size_hint(),
            Self::Teed(teed) => teed.size_hint(),
            Self::Copied(_) => SizeHint::default(),
        }
    }
}

/// A response's body on its way down.
pub(super) enum ResponseBody {
    /// None: the agent's own answers.
    Empty,
    /// What the rule says.
    Direct(Option<Bytes>),
    /// The upstream's.
    Upstream(UpstreamBody),
    /// None: behind the head the connection carries a tunnel.
    Tunnel(Box<Tunnel>),
}

/// The upstream's body, and what has to end with it.
pub(super) struct UpstreamBody {
    body: Received,
    ended: bool,
    /// The HTTP/1 connection it comes on, to go back to its pool.
    lease: Option<Lease>,
    _request: OpenRequest,
    limit: Option<Box<StreamLimit>>,
    _ticket: Ticket,
}

impl UpstreamBody {
    pub(super) fn new(
        body: Received,
        lease: Option<Lease>,
        request: OpenRequest,
        ticket: Ticket,
        limit: Option<StreamLimit>,
    ) -> Self {
        Self {
            body,
            ended: false,
            lease,
            _request: request,
            limit: limit.map(Box::new),
            _ticket: ticket,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let frame = ready!(self.poll_within(cx));
        self.ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn poll_within(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Some(limit) = &mut self.limit else {
            return polled.map_err(CutShort::from);
        };
        if polled.is_ready() {
            limit.moved();
            return polled.map_err(CutShort::from);
        }
        limit
            .poll_reached(cx)
            .map(|()| Some(Err(CutShort::TooLong)))
    }
}

impl ResponseBody {
    /// The fields of the head that nobody has read, in whose place nothing is left.
    pub(super) fn take_lines(&mut self) -> FieldLines {
        match self {
            Self::Upstream(upstream) => upstream.body.take_lines(),
            Self::Empty | Self::Direct(_) | Self::Tunnel(_) => FieldLines::default(),
        }
    }

    /// The tunnel, in whose place nothing is left.
    pub(super) fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        if !matches!(self, Self::Tunnel(_)) {
            return None;
        }
        match std::mem::replace(self, Self::Empty) {
            Self::Tunnel(tunnel) => Some(tunnel),
            Self::Empty | Self::Direct(_) | Self::Upstream(_) => None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match self.get_mut() {
            Self::Empty | Self::Tunnel(_) => Poll::Ready(None),
            Self::Direct(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Upstream(upstream) => upstream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Tunnel(_) => true,
            Self::Direct(body) => body.is_none(),
            Self::Upstream(upstream) => upstream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Tunnel(_) => SizeHint::with_exact(0),
            Self::Direct(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
            Self::Upstream(upstream) => upstream.body.size_hint(),
        }
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        let whole = self.ended || self.body.is_end_stream();
        if whole && let Some(lease) = self.lease.take() {
            lease.give_back(self.body.take());
        }
    }
}
