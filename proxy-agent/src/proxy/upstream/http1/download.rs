//! The body of a response, with the connection that it comes on.

use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use crate::proxy::http1::{FieldLines, Framing};

use super::{Connection, Error, UpstreamIo};

/// The body of a response. Dropped before its end, it closes the connection.
pub(in crate::proxy) struct Download(Flow);

enum Flow {
    /// The request has been sent.
    Alone(Box<Connection>),
    /// The request's body is still on its way up. It goes on whether the response is read or not: a
    /// client may read nothing before it has sent all.
    Both(Both),
    /// The connection was taken.
    Over,
}

struct Both {
    shared: Rc<Shared>,
    upload: AbortHandle,
}

struct Shared {
    connection: RefCell<Box<Connection>>,
    /// Why the upload failed.
    failed: RefCell<Option<Error>>,
    /// Who reads.
    reader: RefCell<Waker>,
}

impl Download {
    pub(super) fn new(connection: Box<Connection>) -> Self {
        if connection.is_sent() {
            return Self(Flow::Alone(connection));
        }
        let shared = Rc::new(Shared {
            connection: RefCell::new(connection),
            failed: RefCell::new(None),
            reader: RefCell::new(Waker::noop().clone()),
        });
        let upload = tokio::task::spawn_local(upload(Rc::clone(&shared))).abort_handle();
        Self(Flow::Both(Both { shared, upload }))
    }

    /// The connection for the next request, if this one is over and both sides are willing.
    pub(in crate::proxy::upstream) fn into_idle(mut self) -> Option<Box<Connection>> {
        match std::mem::replace(&mut self.0, Flow::Over) {
            Flow::Alone(connection) => connection.into_idle(),
            // A response that came whole may be all that the upstream has to say; it still gets all
            // of the request. Others are read no more.
            Flow::Both(both) => {
                both.leave();
                let shared = Rc::try_unwrap(both.shared).ok()?;
                shared.connection.into_inner().into_idle()
            }
            Flow::Over => None,
        }
    }

    /// The socket after a switch of protocols, which there is none of before a request has been sent;
    /// and what came behind the head.
    pub(in crate::proxy) fn into_tunnel(mut self) -> Option<(BytesMut, UpstreamIo)> {
        match std::mem::replace(&mut self.0, Flow::Over) {
            Flow::Alone(connection) => Some((connection.inbox.into_inner(), connection.io)),
            Flow::Both(_) | Flow::Over => None,
        }
    }

    pub(in crate::proxy::upstream) fn take_lines(&mut self) -> FieldLines {
        match &mut self.0 {
            Flow::Alone(connection) => std::mem::take(&mut connection.lines),
            Flow::Both(both) => std::mem::take(&mut both.shared.connection.borrow_mut().lines),
            Flow::Over => FieldLines::default(),
        }
    }

    fn framing(&self) -> Framing {
        match &self.0 {
            Flow::Alone(connection) => connection.framing,
            Flow::Both(both) => both.connection().framing,
            Flow::Over => Framing::Ended,
        }
    }
}

impl Both {
    fn connection(&self) -> Ref<'_, Box<Connection>> {
        self.shared.connection.borrow()
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(error) = self.shared.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        self.shared.reader.borrow_mut().clone_from(cx.waker());
        self.shared.connection.borrow_mut().poll_frame(cx)
    }

    fn leave(&self) {
        if self.connection().framing != Framing::Ended {
            self.upload.abort();
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Flow::Both(both) = &self.0 {
            both.leave();
        }
    }
}

async fn upload(shared: Rc<Shared>) {
    let sent = poll_fn(|cx| {
        let mut connection = shared.connection.borrow_mut();
        let sent = connection.poll_send(cx);
        match sent {
            Ok(()) if !connection.is_sent() => Poll::Pending,
            sent => Poll::Ready(sent),
        }
    });
    if let Err(error) = sent.await {
        shared.connection.borrow_mut().keeps_alive = false;
        shared.failed.replace(Some(error));
        shared.reader.borrow().wake_by_ref();
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Flow::Alone(connection) => connection.poll_frame(cx),
            Flow::Both(both) => both.poll_frame(cx),
            Flow::Over => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.framing(), Framing::Ended | Framing::Switched)
    }

    fn size_hint(&self) -> SizeHint {
        self.framing().size_hint()
    }
}
