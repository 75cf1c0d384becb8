//! One connection from the agent to a pod that asks for acceleration: joined with its second request.
//!
//! The application is the server here. Each request is one message to it; what it has read is known when
//! it answers. See `bpf::Outgoing` for the rule, and [`super`] for the other half of the path.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, Request};
use http_body::Body;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::bpf::{Acceleration, Channel, JoinError, Outgoing};
use crate::metrics::traffic::WorkerRecorder;
use crate::proxy::upgrade;

use super::reason;

/// No request begins with the next byte.
const NO_REQUEST: u64 = u64::MAX;
/// One begins, of which nobody knows how long it is.
const UNSIZED: u64 = u64::MAX - 1;

/// The request that is about to be written: whoever sends it says so here, and the socket takes it
/// up. Written and read by one thread; atomic only because hyper asks I/O objects that can be
/// upgraded to be `Send`.
#[derive(Debug)]
pub(in crate::proxy) struct Announced(AtomicU64);

impl Announced {
    pub(in crate::proxy) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NO_REQUEST)))
    }

    /// A request is sent.
    pub(in crate::proxy) fn announce<B: Body>(&self, request: &Request<B>) {
        let chunked = |headers: &HeaderMap| headers.contains_key(TRANSFER_ENCODING);
        let ends = !upgrade::is_asked(request) && !chunked(request.headers());
        let body = request.body().size_hint().exact().filter(|_| ends);
        self.0.store(body.unwrap_or(UNSIZED).min(UNSIZED), Relaxed);
    }

    /// The bytes of body of the request that begins now, if their number is known.
    fn take(&self) -> Option<Option<u64>> {
        match self.0.load(Relaxed) {
            NO_REQUEST => None,
            body => {
                self.0.store(NO_REQUEST, Relaxed);
                Some((body != UNSIZED).then_some(body))
            }
        }
    }
}

/// The agent's end of such a connection.
#[derive(Debug)]
pub(in crate::proxy) struct ToPod {
    acceleration: Arc<Acceleration>,
    recorder: Arc<WorkerRecorder>,
    /// Of the pod that the connection is made for.
    netns_cookie: u64,
    announced: Arc<Announced>,
    channel: Option<Channel>,
    outgoing: Outgoing,
    /// Bytes that were read from the socket.
    read: u64,
    /// Bytes that were written to it.
    written: u64,
}

/// It is not accelerated, for good.
#[derive(Debug)]
pub(in crate::proxy) struct Never;

impl ToPod {
    pub(in crate::proxy) fn new(
        acceleration: &Arc<Acceleration>,
        recorder: &Arc<WorkerRecorder>,
        netns_cookie: u64,
        announced: &Arc<Announced>,
    ) -> Box<Self> {
        Box::new(Self {
            acceleration: Arc::clone(acceleration),
            recorder: Arc::clone(recorder),
            netns_cookie,
            announced: Arc::clone(announced),
            channel: None,
            outgoing: Outgoing::default(),
            read: 0,
            written: 0,
        })
    }

    /// Reads what is there.
    pub(in crate::proxy) fn poll_read(
        &mut self,
        stream: &TcpStream,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        super::poll_read(stream, cx, buf).map_ok(|count| {
            self.read += count as u64;
            if let Some(channel) = &self.channel {
                channel.publish_read(self.read);
            }
        })
    }

    /// A request may begin with the next write, of which `first` bytes are to be written at once.
    pub(in crate::proxy) fn writes(
        &mut self,
        stream: &TcpStream,
        first: usize,
    ) -> Result<(), Never> {
        let Some(body) = self.announced.take() else {
            return Ok(());
        };
        // One request is not worth the calls.
        if self.channel.is_none() && self.written > 0 {
            self.channel = Some(self.join(stream)?);
        }
        if let Some(channel) = &self.channel {
            // What is written at once may hold some of the body: too much is no harm.
            let size = body.and_then(|body| body.checked_add(first as u64));
            self.outgoing.begin(channel, self.written, size);
        }
        Ok(())
    }

    /// Bytes were written.
    pub(in crate::proxy) const fn has_written(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = written {
            self.written += *count as u64;
        }
    }

    fn join(&self, stream: &TcpStream) -> Result<Channel, Never> {
        self.try_join(stream).map_err(|why| {
            self.recorder.unaccelerated(why);
            Never
        })
    }

    fn try_join(&self, stream: &TcpStream) -> Result<Channel, &'static str> {
        let gone = |error: io::Error| {
            tracing::trace!(%error, "a connection is gone before it was accelerated");
            reason::TO_POD_REFUSED
        };
        let local = stream.local_addr().map_err(gone)?;
        let remote = stream.peer_addr().map_err(gone)?;
        let acceleration = &self.acceleration;
        let flow = acceleration.flow_to_pod(self.netns_cookie, local, remote);
        let flow = flow.ok_or(reason::TO_POD_ADDRESS)?;
        let joined = acceleration.join(flow, stream.as_fd(), self.read);
        joined.map_err(|error| {
            tracing::debug!(%error, "a connection to a pod is not accelerated");
            match error {
                JoinError::NoCredit => reason::TO_POD_NO_CREDIT,
                JoinError::Kernel { .. } => reason::TO_POD_REFUSED,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    fn announced(request: http::request::Builder, body: &'static [u8]) -> Option<Option<u64>> {
        let announced = Announced::new();
        announced.announce(&request.body(Full::new(Bytes::from_static(body))).unwrap());
        let taken = announced.take();
        assert_eq!(announced.take(), None, "once");
        taken
    }

    #[test]
    fn only_a_request_whose_end_is_known_has_a_size() {
        let get = || Request::builder().uri("/");
        assert_eq!(announced(get(), b""), Some(Some(0)));
        assert_eq!(announced(get(), b"12345"), Some(Some(5)));
        assert_eq!(announced(get().method("CONNECT"), b""), Some(None));
        let upgrade = get().header("upgrade", "websocket");
        assert_eq!(announced(upgrade, b""), Some(None));
        let chunked = get().header("transfer-encoding", "chunked");
        assert_eq!(announced(chunked, b"12345"), Some(None));
        assert_eq!(Announced::new().take(), None);
    }
}
