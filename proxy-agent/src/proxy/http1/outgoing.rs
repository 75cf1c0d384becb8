//! How a body is framed as it is written (RFC 9112, sections 6 and 7.1).

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame};

use crate::proxy::headers;

use super::fields::number;
use super::outbox::{CHUNK_END, Outbox};

/// How a message tells where its body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::proxy) enum Outgoing {
    /// So many bytes are to come.
    Length(u64),
    Chunked,
    /// All that comes until the connection is closed.
    UntilClose,
    /// Its end is put already, or there is none.
    Ended,
}

/// The body is not as long as the head says.
#[derive(Debug, thiserror::Error)]
#[error("a body is not as long as its head says")]
pub(in crate::proxy) struct Mismatch;

impl Outgoing {
    /// By what is known of the body; else by the word of the head that came with it.
    pub(in crate::proxy) fn of(body: &impl Body, headers: &HeaderMap) -> Self {
        if body.is_end_stream() {
            return Self::Length(0);
        }
        let told = || {
            let mut told = headers.get_all(CONTENT_LENGTH).iter();
            let only = (told.next(), told.next());
            match only {
                (Some(length), None) => number(length.as_bytes()),
                _ => None,
            }
        };
        let length = body.size_hint().exact().or_else(told);
        length.map_or(Self::Chunked, Self::Length)
    }

    /// Puts a frame into `outbox`.
    pub(in crate::proxy) fn put(
        &mut self,
        frame: Frame<Bytes>,
        trailers: &Trailers,
        outbox: &mut Outbox,
    ) -> Result<(), Mismatch> {
        match (&mut *self, frame.into_data()) {
            (_, Ok(data)) if data.is_empty() => {}
            (Self::Ended, Ok(_)) => return Err(Mismatch),
            (Self::Length(left), Ok(data)) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Mismatch)?;
                outbox.put(data, &[]);
            }
            (Self::Chunked, Ok(data)) => {
                outbox.line(format_args!("{:x}\r\n", data.len()));
                outbox.put(data, CHUNK_END);
            }
            (Self::UntilClose, Ok(data)) => outbox.put(data, &[]),
            // Only the last chunk has a place for them.
            (Self::Length(_) | Self::UntilClose | Self::Ended, Err(_)) => {}
            (Self::Chunked, Err(frame)) => {
                let fields = frame.into_trailers().unwrap_or_default();
                outbox.last_chunk(fields.iter().filter(|(name, _)| trailers.has(name)));
                *self = Self::Ended;
            }
        }
        Ok(())
    }

    /// Puts the body's end into `outbox`.
    pub(in crate::proxy) fn end(self, outbox: &mut Outbox) -> Result<(), Mismatch> {
        match self {
            Self::Length(0) | Self::UntilClose | Self::Ended => {}
            Self::Length(_) => return Err(Mismatch),
            Self::Chunked => outbox.last_chunk(std::iter::empty()),
        }
        Ok(())
    }
}

/// Fields that a body may be followed by: those that its head names, and none that frames
/// or routes a message or says who sends it (RFC 9110, section 6.5.1).
#[derive(Debug, Default)]
pub(in crate::proxy) struct Trailers(Vec<HeaderName>);

const NO_TRAILERS: [HeaderName; 13] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

impl Trailers {
    pub(in crate::proxy) fn of(headers: &HeaderMap) -> Self {
        let named = headers::members(headers, TRAILER);
        let named = named.filter_map(|name| HeaderName::from_bytes(name).ok());
        Self(named.filter(|name| !NO_TRAILERS.contains(name)).collect())
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.0.contains(name)
    }
}
