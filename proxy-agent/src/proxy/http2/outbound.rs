//! A body as it goes out on a stream.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};

use crate::proxy::headers;

/// Why a body was not sent to its end. The stream was reset, by one side or the other.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum Unsent<E> {
    #[error("the body broke off")]
    Body(#[source] E),
    #[error("the stream takes no more")]
    Stream(#[source] h2::Error),
}

/// Sends a body, a frame at a time: after the first, the next one is not asked for before there is
/// room for some of the one at hand. Dropped before its end, it resets the stream.
pub(in crate::proxy) struct Outbound<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// Data without room, and whether it is the last.
    waiting: Option<(Bytes, bool)>,
    /// The next data asks for room. The first does not: a new stream has none before its head is on
    /// its way, and the data would need a write of its own. h2 keeps it until there is room.
    reserves: bool,
}

impl<B> Outbound<B>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    pub(in crate::proxy) const fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            waiting: None,
            reserves: false,
        }
    }

    /// Sends what there is. Ready when all of it was handed to the connection, or nothing more can
    /// be.
    pub(in crate::proxy) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent<B::Error>>> {
        let polled = self.poll_send(cx);
        if polled.is_pending() {
            // Last: what is there to be sent is worth more than a look at a stream that goes on.
            let reset = ready!(self.stream.poll_reset(cx));
            let reset = reset.map_or_else(|error| error, h2::Error::from);
            return Poll::Ready(Err(Unsent::Stream(reset)));
        }
        polled
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent<B::Error>>> {
        loop {
            if let Some((data, last)) = self.waiting.take() {
                let must_wait = self.reserves && self.stream.capacity() == 0;
                if must_wait && self.poll_room(cx).is_pending() {
                    self.waiting = Some((data, last));
                    return Poll::Pending;
                }
                self.send(data, last)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
                self.reserves = true;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if self.take(frame)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Some(Err(error)) => {
                    self.stream.send_reset(reason_of(&error));
                    return Poll::Ready(Err(Unsent::Body(error)));
                }
                None => return Poll::Ready(self.send(Bytes::new(), true)),
            }
        }
    }

    /// Takes a frame of the body: whether it was the last, and is sent.
    fn take(&mut self, frame: Frame<Bytes>) -> Result<bool, Unsent<B::Error>> {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                if self.reserves {
                    // One byte, not all of them: what is reserved is taken from the other streams of
                    // the connection while it waits, and h2 asks for the rest by itself. And not
                    // before there is something to send, or streams that have nothing hold up those
                    // that do.
                    self.stream.reserve_capacity(1);
                }
                self.waiting = Some((data, self.body.is_end_stream()));
            }
            Err(frame) => {
                if let Ok(mut trailers) = frame.into_trailers() {
                    // Of HTTP/1, where they mean something.
                    headers::strip_hop_by_hop(&mut trailers);
                    if self.reserves {
                        self.stream.reserve_capacity(0);
                    }
                    let sent = self.stream.send_trailers(trailers);
                    return self.result(sent).map(|()| true);
                }
            }
        }
        Ok(false)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                // What else is the matter shows when the data is sent.
                Some(_) | None => return Poll::Ready(()),
            }
        }
    }

    fn send(&mut self, data: Bytes, last: bool) -> Result<(), Unsent<B::Error>> {
        let sent = self.stream.send_data(data, last);
        self.result(sent)
    }

    /// A stream that takes something not is never left as it is, neither ended nor reset.
    fn result(&mut self, sent: Result<(), h2::Error>) -> Result<(), Unsent<B::Error>> {
        sent.map_err(|error| {
            self.stream.send_reset(Reason::INTERNAL_ERROR);
            Unsent::Stream(error)
        })
    }
}

/// The reason that the other side is told: that of the stream which broke off, if it was one. Not
/// NO_ERROR, which some take for the end of a body.
fn reason_of(error: &(dyn Error + 'static)) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let reason = error.downcast_ref().and_then(h2::Error::reason);
        if let Some(reason) = reason.filter(|reason| *reason != Reason::NO_ERROR) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}
