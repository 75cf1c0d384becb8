//! One request and its response.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use tokio::time::timeout;

use crate::proxy::body::{CutShort, RequestBody};
use crate::proxy::downstream::Downstream;
use crate::proxy::http::answer;
use crate::proxy::http1::{Framing, Mismatch, Outbox, Outgoing, Trailers};
use crate::proxy::reply::Reply;
use crate::proxy::upgrade::Tunnel;

use super::connection::Connection;
use super::encode::Asked;
use super::head::Head;
use super::upload::Upload;

/// How long the body of a request may stand still after its response has ended.
const UPLOAD_LIMIT: Duration = Duration::from_secs(10);

/// What becomes of the connection after an exchange.
pub(super) enum After {
    /// It may serve another request.
    Next,
    /// It is closed.
    Close,
    /// It carries a tunnel.
    Tunnel(Box<Tunnel>),
}

/// Why a response was not sent whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("the client is gone")]
    Gone,
    #[error(transparent)]
    Body(#[from] CutShort),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// Serves one request.
pub(super) async fn serve(
    downstream: &Rc<Downstream>,
    connection: &Rc<RefCell<Connection>>,
    head: Head,
) -> Result<After, Cut> {
    let asked = Asked::by(&head.request);
    connection.borrow_mut().opens(&head);
    let mut request = head.request;
    if head.framing != Framing::Ended {
        *request.body_mut() = RequestBody::Http1(Upload::of(connection));
    }
    let response = {
        // Dropped before the response is sent: there is room for one of both.
        let mut answer = pin!(answer(Rc::clone(downstream), request));
        let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending => connection
                .borrow_mut()
                .poll_gone(cx)
                .map(|()| Err(Cut::Gone)),
        });
        answered.await?
    };
    let after = send(connection, response, &asked, head.keeps_alive).await?;
    connection.borrow_mut().closes();
    Ok(after)
}

/// Sends a response, and sees to it that all of its request is read.
pub(super) async fn send(
    connection: &RefCell<Connection>,
    mut response: Reply,
    asked: &Asked,
    keeps_alive: bool,
) -> Result<After, Cut> {
    let status = response.status();
    let tunnel = response.body_mut().take_tunnel();
    let begun = {
        // Not for as long as the body takes.
        let lines = response.body_mut().take_lines();
        let mut connection = connection.borrow_mut();
        connection.begin(&response, &lines, asked, keeps_alive)
    };
    let mut sending = Sending::new(*response, asked, begun.outgoing);
    poll_fn(|cx| sending.poll(connection, cx)).await?;
    if let Some(tunnel) = tunnel {
        return Ok(After::Tunnel(tunnel));
    }
    let whole = uploaded(connection).await && connection.borrow_mut().discard();
    let goes_on = whole && begun.keeps_alive && !asked.switches(status);
    Ok(if goes_on { After::Next } else { After::Close })
}

/// Waits until the request's body was read or given up, for as long as it moves.
async fn uploaded(connection: &RefCell<Connection>) -> bool {
    while connection.borrow().is_uploading() {
        let frames = connection.borrow().frames();
        let uploaded = poll_fn(|cx| connection.borrow_mut().poll_uploaded(cx));
        if timeout(UPLOAD_LIMIT, uploaded).await.is_err() && connection.borrow().frames() == frames
        {
            return false;
        }
    }
    true
}

/// A response on its way to the client.
pub(super) struct Sending<B> {
    /// `None` when all of it is in the outbox: an upstream's connection goes back to its pool before
    /// the client can ask again.
    body: Option<B>,
    outgoing: Outgoing,
    trailers: Trailers,
    /// Why no more of it comes.
    broken: Option<Cut>,
}

impl<B: Body<Data = Bytes, Error = CutShort> + Unpin> Sending<B> {
    pub(super) fn new(response: Response<B>, asked: &Asked, outgoing: Outgoing) -> Self {
        let chunked = outgoing == Outgoing::Chunked && asked.takes_trailers();
        let trailers = match chunked {
            true => Trailers::of(response.headers()),
            false => Trailers::default(),
        };
        Self {
            body: Some(response.into_body()),
            outgoing,
            trailers,
            broken: None,
        }
    }

    pub(super) fn poll(
        &mut self,
        connection: &RefCell<Connection>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        loop {
            // Polled without a borrow: what is dropped with a body may have one of the request.
            let waits = self.poll_fill(connection, cx).is_pending();
            let mut connection = connection.borrow_mut();
            match connection.poll_write(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    tracing::trace!(%error, "a client takes no more of a response");
                    return Poll::Ready(Err(Cut::Gone));
                }
                Poll::Pending => return connection.poll_gone(cx).map(|()| Err(Cut::Gone)),
            }
            if let Some(broken) = self.broken.take() {
                return Poll::Ready(Err(broken));
            }
            if self.body.is_none() {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return connection.poll_gone(cx).map(|()| Err(Cut::Gone));
            }
        }
    }

    /// Fills the outbox, as far as it has room.
    fn poll_fill(&mut self, connection: &RefCell<Connection>, cx: &mut Context<'_>) -> Poll<()> {
        while self.broken.is_none()
            && connection.borrow().outbox.has_room()
            && let Some(body) = &mut self.body
        {
            let frame = match self.outgoing == Outgoing::Ended || body.is_end_stream() {
                true => None,
                false => ready!(Pin::new(body).poll_frame(cx)),
            };
            if frame.is_none() {
                self.body = None;
            }
            if let Err(cut) = self.put(frame, &mut connection.borrow_mut().outbox) {
                self.broken = Some(cut);
            }
        }
        Poll::Ready(())
    }

    fn put(
        &mut self,
        frame: Option<Result<Frame<Bytes>, CutShort>>,
        outbox: &mut Outbox,
    ) -> Result<(), Cut> {
        match frame {
            Some(frame) => self.outgoing.put(frame?, &self.trailers, outbox)?,
            None => self.outgoing.end(outbox)?,
        }
        Ok(())
    }
}
