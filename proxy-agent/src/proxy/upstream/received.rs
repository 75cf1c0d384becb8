//! What comes of a response's body, by either protocol.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::http1::FieldLines;

use super::{http1, http2};

/// The body of an upstream's response.
pub(in crate::proxy) enum Received {
    Http1(http1::Download),
    Http2(http2::Download),
    /// It was handed on to somebody else.
    Taken,
}

/// Why it ended early.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ReceiveError {
    #[error(transparent)]
    Http1(#[from] http1::Error),
    #[error("the stream broke off")]
    Http2(#[from] h2::Error),
}

impl Received {
    /// The body, in whose place none is left.
    pub(in crate::proxy) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Taken)
    }

    /// The fields of the response's head that nobody has read, in whose place nothing is left.
    pub(in crate::proxy) fn take_lines(&mut self) -> FieldLines {
        match self {
            Self::Http1(body) => body.take_lines(),
            Self::Http2(_) | Self::Taken => FieldLines::default(),
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(ReceiveError::from),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(ReceiveError::from),
            Self::Taken => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Taken => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Taken => SizeHint::with_exact(0),
        }
    }
}
