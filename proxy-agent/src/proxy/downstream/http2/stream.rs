//! One stream of a client: a request, and its response as long as the client wants it.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use http_body::Body as _;

use crate::proxy::body::RequestBody;
use crate::proxy::downstream::Downstream;
use crate::proxy::headers;
use crate::proxy::http::answer;
use crate::proxy::http2::{Duplex, Inbound, Outbound};
use crate::proxy::reply::Reply;
use crate::proxy::upgrade::Tunnel;

use super::tasks::Work;

/// A request as it was accepted, and the way back.
pub(in crate::proxy) struct Stream {
    pub(super) downstream: Rc<Downstream>,
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
}

impl Work for Stream {
    async fn run(self) {
        serve(self.downstream, self.request, self.respond).await;
    }
}

/// Serves a request to the end of its response.
async fn serve(
    downstream: Rc<Downstream>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let to_head = *request.method() == Method::HEAD;
    let (request, tunnel) = received(request);
    let Some(response) = answered(downstream, request, &mut respond).await else {
        return;
    };
    let (mut head, mut body) = response.into_parts();
    let carried = body.take_tunnel().zip(tunnel);
    if carried.is_some() {
        // Where none can be (RFC 9110, section 9.3.6).
        head.headers.remove(CONTENT_LENGTH);
    }
    let whole = carried.is_none()
        && (body.is_end_stream() || !headers::may_have_content(to_head, head.status));
    let sent = respond.send_response(Response::from_parts(head, ()), whole);
    let stream = match sent {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "response cannot be sent");
            return respond.send_reset(Reason::INTERNAL_ERROR);
        }
    };
    if let Some((tunnel, receive)) = carried {
        return Box::pin(carry(*tunnel, Duplex::new(stream, receive))).await;
    }
    if whole {
        return;
    }
    let mut outbound = Outbound::new(body, stream);
    if let Err(cut) = poll_fn(|cx| outbound.poll(cx)).await {
        tracing::trace!(%cut, "a response was cut short");
    }
}

/// The request, and what comes from the client if it asks for a tunnel.
fn received(request: Request<RecvStream>) -> (Box<Request<RequestBody>>, Option<RecvStream>) {
    let (head, stream) = request.into_parts();
    let (body, tunnel) = if head.method == Method::CONNECT {
        (RequestBody::Empty, Some(stream))
    } else {
        let body = Inbound::of(&head.headers, stream);
        (body.map_or(RequestBody::Empty, RequestBody::Http2), None)
    };
    (Box::new(Request::from_parts(head, body)), tunnel)
}

/// The answer, unless the client resets the stream before.
async fn answered(
    downstream: Rc<Downstream>,
    request: Box<Request<RequestBody>>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Reply> {
    let mut answer = pin!(answer(downstream, request));
    poll_fn(|cx| {
        // Before anything is done for it: a request that comes with its reset goes to nobody.
        if let Poll::Ready(reason) = respond.poll_reset(cx) {
            tracing::trace!(?reason, "a client takes no answer");
            return Poll::Ready(None);
        }
        answer.as_mut().poll(cx).map(Some)
    })
    .await
}

async fn carry(tunnel: Tunnel, mut client: Duplex) {
    if let Err(error) = tunnel.carry(BytesMut::new(), &mut client).await {
        tracing::trace!(%error, "tunnel cut");
    }
}
