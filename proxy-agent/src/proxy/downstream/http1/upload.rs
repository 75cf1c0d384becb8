//! The body of a request, as it is read from the client's connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
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
    #[error("the connection was closed before the end of the request")]
    Closed,
    #[error("no chunks")]
    Chunks(#[from] ChunkError),
}

/// The body of the request under way. Whoever has it reads from the connection, which is another's;
/// its first reading asks a client that waits for that to go on.
pub(in crate::proxy) struct Upload {
    connection: Weak<RefCell<Connection>>,
    /// All of it was read, and what comes on the connection is of other requests.
    over: bool,
}

impl Upload {
    /// Of the request whose head was taken last.
    pub(super) fn of(connection: &Rc<RefCell<Connection>>) -> Self {
        Self {
            connection: Rc::downgrade(connection),
            over: false,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let Some(connection) = self.connection.upgrade() else {
            return Poll::Ready(Some(Err(UploadError::Closed)));
        };
        let mut connection = connection.borrow_mut();
        let frame = connection.poll_upload(cx);
        if connection.framing() == Framing::Ended {
            self.over = true;
            connection.upload_ended();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        match self.connection.upgrade() {
            Some(connection) if !self.over => connection.borrow().framing().size_hint(),
            _ => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.over
            && let Some(connection) = self.connection.upgrade()
        {
            connection.borrow_mut().upload_ended();
        }
    }
}
