//! Where the body of a message ends.

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::chunked::{ChunkError, Chunks, Piece, take_data};

/// How what comes of a body tells its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::proxy) enum Framing {
    /// Nothing more comes.
    Ended,
    /// So many bytes come; never none.
    Length(u64),
    /// In chunks.
    Chunked(Chunks),
    /// All until the sender closes.
    UntilClose,
    /// What comes is no HTTP any more.
    Switched,
}

/// What can be done with the bytes at hand.
#[derive(Debug)]
pub(in crate::proxy) enum Step {
    /// Hand this on.
    Frame(Frame<Bytes>),
    /// The body has ended.
    End,
    /// Read more.
    Read,
}

impl Framing {
    /// Takes the next frame off `inbox`.
    pub(in crate::proxy) fn take(&mut self, inbox: &mut BytesMut) -> Result<Step, ChunkError> {
        match self {
            Self::Ended | Self::Switched => Ok(Step::End),
            Self::Length(left) => {
                let Some(data) = take_data(inbox, *left) else {
                    return Ok(Step::Read);
                };
                *left -= data.len() as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Step::Frame(Frame::data(data)))
            }
            Self::Chunked(chunks) => Ok(match chunks.take(inbox)? {
                None => Step::Read,
                Some(Piece::Data(data)) => Step::Frame(Frame::data(data)),
                Some(Piece::End(trailers)) => {
                    *self = Self::Ended;
                    trailers.map_or(Step::End, |trailers| Step::Frame(Frame::trailers(trailers)))
                }
            }),
            Self::UntilClose => {
                let all = take_data(inbox, u64::MAX);
                Ok(all.map_or(Step::Read, |data| Step::Frame(Frame::data(data))))
            }
        }
    }

    /// The sender has closed its side. Returns whether the body ends with it.
    pub(in crate::proxy) fn close(&mut self) -> bool {
        if *self == Self::UntilClose {
            *self = Self::Ended;
        }
        *self == Self::Ended
    }

    /// Bytes that are known to come.
    pub(in crate::proxy) const fn expected(&self) -> u64 {
        match self {
            Self::Length(left) | Self::Chunked(Chunks::Data(left)) => *left,
            Self::UntilClose => u64::MAX,
            Self::Ended | Self::Switched | Self::Chunked(_) => 0,
        }
    }

    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ended | Self::Switched => SizeHint::with_exact(0),
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::UntilClose => SizeHint::default(),
        }
    }
}
