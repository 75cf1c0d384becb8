//! Where the body of a message ends.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
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

/// What was read of a body.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Whole {
    /// Its data.
    pub data: Vec<u8>,
    /// What came behind it.
    pub trailers: Option<HeaderMap>,
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

    /// Takes all of the body, of which `more` gives what is not in `inbox` yet: for what is read
    /// from memory. `None` where there is no more of what the body needs.
    pub(in crate::proxy) fn take_all<'a>(
        &mut self,
        inbox: &mut BytesMut,
        mut more: impl FnMut() -> Option<&'a [u8]>,
    ) -> Result<Option<Whole>, ChunkError> {
        let mut whole = Whole::default();
        loop {
            match self.take(inbox)? {
                Step::End => return Ok(Some(whole)),
                Step::Frame(frame) => match frame.into_data() {
                    Ok(data) => whole.data.extend_from_slice(&data),
                    Err(frame) => whole.trailers = frame.into_trailers().ok(),
                },
                Step::Read => match more() {
                    Some(piece) => inbox.extend_from_slice(piece),
                    None if self.close() => {}
                    None => return Ok(None),
                },
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
