//! The body of a request, as it is read from the client's connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::http1::{ChunkError, Framing};

use super::connection::Connection;

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum UploadError {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the client closed before the end of its request")]
    Closed,
    #[error("no chunks")]
    Chunks(#[from] ChunkError),
}

/// The body of the request under way. Whoever has it reads from the connection; its first reading
/// asks a client that waits for that to go on.
pub(in crate::proxy) struct Upload(Rc<RefCell<Connection>>);

impl Upload {
    /// Of the request whose head was taken last.
    pub(super) fn of(connection: &Rc<RefCell<Connection>>) -> Self {
        Self(Rc::clone(connection))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.0.borrow_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.borrow().framing() == Framing::Ended
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().framing().size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.borrow_mut().upload_ended();
    }
}
