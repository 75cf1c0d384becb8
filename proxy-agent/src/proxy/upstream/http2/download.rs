//! The body of a response, with the stream that it comes on.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::proxy::body::RequestBody;
use crate::proxy::http2::{Duplex, Inbound, Outbound};

use super::Stream;

/// For how long a request may stand still behind a response that has ended.
const UPLOAD_LIMIT: Duration = Duration::from_secs(10);

/// The body of a response. Dropped before its end, it resets the stream.
pub(in crate::proxy) struct Download {
    body: Content,
    /// The task that sends the rest of the request. It goes on whether the response is read or not:
    /// a client may read nothing before it has sent all.
    upload: Option<Upload>,
}

struct Upload {
    task: JoinHandle<()>,
    /// How often it went on.
    moved: Rc<Cell<u64>>,
}

enum Content {
    /// It has ended with its head.
    None,
    Body(Inbound),
    Tunnel(Duplex),
}

impl Download {
    /// Of a response with this head, and the rest of its request.
    pub(super) fn new(
        head: &HeaderMap,
        body: RecvStream,
        upload: Option<Outbound<RequestBody>>,
        stream: &Rc<Stream>,
    ) -> Self {
        let upload = upload.map(|mut upload| {
            let counted = Rc::clone(stream);
            let moved = Rc::new(Cell::new(0));
            let moves = Rc::clone(&moved);
            let task = tokio::task::spawn_local(async move {
                let sent = poll_fn(|cx| {
                    moves.set(moves.get() + 1);
                    upload.poll(cx)
                });
                // What broke it off breaks the response off too.
                if let Err(error) = sent.await {
                    tracing::trace!(%error, "a request was not sent to its end");
                }
                drop(counted);
            });
            Upload { task, moved }
        });
        Self {
            body: Inbound::of(head, body).map_or(Content::None, Content::Body),
            upload,
        }
    }

    /// In place of a body.
    pub(super) const fn tunnel(tunnel: Duplex) -> Self {
        Self {
            body: Content::Tunnel(tunnel),
            upload: None,
        }
    }

    /// The stream as a tunnel, if it is one.
    pub(in crate::proxy) fn into_tunnel(mut self) -> Option<Duplex> {
        match std::mem::replace(&mut self.body, Content::None) {
            Content::Tunnel(tunnel) => Some(tunnel),
            Content::None | Content::Body(_) => None,
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take().filter(|one| !one.task.is_finished()) else {
            return;
        };
        if !self.is_end_stream() {
            return upload.task.abort();
        }
        // A response that came whole may be all that the upstream has to say; it still gets all of
        // the request, unless it takes no more of it.
        tokio::task::spawn_local(upload.finish());
    }
}

impl Upload {
    /// Waits for its end, as long as it goes on.
    async fn finish(mut self) {
        loop {
            let before = self.moved.get();
            let ended = timeout(UPLOAD_LIMIT, &mut self.task).await.is_ok();
            if ended {
                return;
            }
            if self.moved.get() == before {
                return self.task.abort();
            }
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match &mut self.body {
            Content::Body(body) => Pin::new(body).poll_frame(cx),
            Content::None | Content::Tunnel(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Content::Body(body) => body.is_end_stream(),
            Content::None | Content::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Content::Body(body) => body.size_hint(),
            Content::None | Content::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}
