//! The body of a response, with the stream that it comes on.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use crate::proxy::body::RequestBody;
use crate::proxy::http2::{Duplex, Inbound, Outbound};

use super::Connection;

/// The body of a response. Dropped before its end, it resets the stream.
pub(in crate::proxy) struct Download {
    /// `None`: it has ended with its head.
    body: Option<Inbound>,
    /// The other way, of a stream that may become a tunnel.
    tunnel: Option<SendStream<Bytes>>,
    /// The task that sends the rest of the request. It goes on whether the response is read or not:
    /// a client may read nothing before it has sent all.
    upload: Option<AbortHandle>,
}

impl Download {
    pub(super) fn new(
        head: &HeaderMap,
        stream: RecvStream,
        tunnel: Option<SendStream<Bytes>>,
        upload: Option<Outbound<RequestBody>>,
        connection: &Rc<Connection>,
    ) -> Self {
        let upload = upload.map(|mut upload| {
            // It is a stream of the connection's for as long as it goes on.
            let counted = Rc::clone(connection);
            let sending = async move {
                // What broke it off breaks the response off too.
                if let Err(error) = poll_fn(|cx| upload.poll(cx)).await {
                    tracing::trace!(%error, "a request was not sent to its end");
                }
                drop(counted);
            };
            tokio::task::spawn_local(sending).abort_handle()
        });
        Self {
            body: Inbound::of(head, stream),
            tunnel,
            upload,
        }
    }

    /// The stream as a tunnel, if it was asked to be one and has not ended.
    pub(in crate::proxy) fn into_tunnel(mut self) -> Option<Duplex> {
        let (send, body) = (self.tunnel.take()?, self.body.take()?);
        Some(Duplex::new(send, body.into_stream()))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // A response that came whole may be all that the upstream has to say; it still gets all of
        // the request.
        if let Some(upload) = &self.upload
            && !self.is_end_stream()
        {
            upload.abort();
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
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let ended = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(ended, Body::size_hint)
    }
}
