//! One accelerated connection from a pod: when the agent joins it, and what it tells the kernel.
//!
//! Bytes then go from socket to socket, past TCP, in both directions. That is for HTTP/1 alone,
//! whose answers say how long they are; `bpf::Outgoing` has the rule for what the agent sends.

mod socket;
mod to_pod;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use proxy_ebpf::FlowKey;
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::bpf::{Acceleration, Channel, JoinError, Outgoing};
use crate::metrics::traffic::WorkerRecorder;

pub(super) use self::socket::Socket;
pub(super) use self::to_pod::{Never, ToPod};

use self::socket::Half;

/// Why a connection, or one direction of it, is not accelerated: values of the metric's label.
pub(super) mod reason {
    /// It is no HTTP: nothing says where a message ends.
    pub(in crate::proxy) const OPAQUE: &str = "opaque";
    /// It is HTTP/2.
    pub(in crate::proxy) const HTTP2: &str = "http2";
    /// The client sends requests before it has read the answers to former ones.
    pub(super) const PIPELINED: &str = "pipelined";
    /// As many connections are accelerated as can be.
    pub(super) const NO_CREDIT: &str = "no_credit";
    /// The kernel refused.
    pub(super) const REFUSED: &str = "refused";
    /// The endpoint's pod asks, and the connection to it is no HTTP.
    pub(in crate::proxy) const TO_POD_OPAQUE: &str = "to_pod_opaque";
    /// It is HTTP/2.
    pub(in crate::proxy) const TO_POD_HTTP2: &str = "to_pod_http2";
    /// The client's address is none that is known as its pod's.
    pub(super) const TO_POD_ADDRESS: &str = "to_pod_address";
    /// As many connections are accelerated as can be.
    pub(super) const TO_POD_NO_CREDIT: &str = "to_pod_no_credit";
    /// The kernel refused.
    pub(super) const TO_POD_REFUSED: &str = "to_pod_refused";
}

/// Reads what is there. Not as tokio does, which takes a short read for the last one: behind redirected bytes
/// there may be others that came by TCP, and nothing tells of them again. It is the last one where `half`
/// knows so.
fn poll_read(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
    half: &mut impl Half,
) -> Poll<io::Result<()>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match stream.try_read_buf(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => {
                half.has_read(stream, read?);
                spare_asking(stream, half);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Where there is nothing left to read, has the socket wait for what comes next, without the call that would
/// find nothing. tokio takes the word of the closure for it; what becomes ready once that was asked
/// counts as new.
fn spare_asking(stream: &TcpStream, half: &impl Half) {
    let _ = stream.try_io(Interest::READABLE, || {
        if half.has_read_all() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
}

/// A connection of a pod that asks for acceleration.
#[derive(Debug)]
pub(super) struct Accelerated {
    acceleration: Arc<Acceleration>,
    recorder: Arc<WorkerRecorder>,
    netns_cookie: u64,
    /// What comes is a head.
    awaits_head: bool,
    state: State,
    outgoing: Outgoing,
    /// Bytes that were read from the socket.
    read: u64,
    /// How many of them when the last answer began.
    read_at_answer: u64,
    /// Bytes that were written to it.
    written: u64,
}

#[derive(Debug)]
enum State {
    /// One request is not worth the calls: the second one is.
    Waits,
    Joined(Channel),
    /// The client's bytes come by the channel, the answers go by TCP.
    ReadsOnly(Channel),
    Never,
}

impl Accelerated {
    /// For a connection of which `read` bytes were read already.
    pub(super) fn new(
        acceleration: &Arc<Acceleration>,
        recorder: &Arc<WorkerRecorder>,
        netns_cookie: u64,
        read: usize,
    ) -> Box<Self> {
        Box::new(Self {
            acceleration: Arc::clone(acceleration),
            recorder: Arc::clone(recorder),
            netns_cookie,
            awaits_head: true,
            state: State::Waits,
            outgoing: Outgoing::default(),
            read: read as u64,
            read_at_answer: 0,
            written: 0,
        })
    }

    /// Whether what comes from here on is a head.
    pub(super) const fn awaits_head(&mut self, head: bool) {
        self.awaits_head = head;
    }

    /// An answer of `size` bytes, if that is known, begins with the next write.
    pub(super) fn answers(&mut self, size: Option<u64>) {
        // The request was there already when the former answer was written.
        if self.read == self.read_at_answer {
            self.pipelines();
        }
        self.read_at_answer = self.read;
        if let State::Joined(channel) = &self.state {
            self.outgoing.begin(channel, self.written, size);
        }
    }

    fn join(&mut self, stream: &TcpStream) {
        self.state = match self.try_join(stream) {
            Ok(channel) => State::Joined(channel),
            Err(why) => {
                self.recorder.unaccelerated(why);
                State::Never
            }
        };
    }

    fn try_join(&self, stream: &TcpStream) -> Result<Channel, &'static str> {
        let gone = |error: io::Error| {
            tracing::trace!(%error, "a connection is gone before it was accelerated");
            reason::REFUSED
        };
        let source = stream.peer_addr().map_err(gone)?;
        let listener_port = stream.local_addr().map_err(gone)?.port();
        let flow = FlowKey::from_accepted(self.netns_cookie, source, listener_port);
        let joined = self.acceleration.join(flow, stream.as_fd(), self.read);
        joined.map_err(|error| {
            tracing::debug!(%error, "a connection is not accelerated");
            match error {
                JoinError::NoCredit => reason::NO_CREDIT,
                JoinError::Kernel { .. } => reason::REFUSED,
            }
        })
    }

    /// Such a client may find redirected bytes and bytes by TCP behind them: answers go by TCP for
    /// good.
    pub(super) fn pipelines(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Never) {
            State::Joined(channel) => {
                channel.permit(0);
                self.recorder.unaccelerated(reason::PIPELINED);
                State::ReadsOnly(channel)
            }
            State::Waits => {
                self.recorder.unaccelerated(reason::PIPELINED);
                State::Never
            }
            State::ReadsOnly(channel) => State::ReadsOnly(channel),
            State::Never => State::Never,
        };
    }
}

impl Half for Accelerated {
    fn has_read_all(&self) -> bool {
        match &self.state {
            State::Joined(channel) | State::ReadsOnly(channel) => {
                channel.application_sent_only(self.read)
            }
            State::Waits | State::Never => false,
        }
    }

    fn has_read(&mut self, stream: &TcpStream, count: usize) {
        self.read += count as u64;
        match &self.state {
            State::Joined(channel) | State::ReadsOnly(channel) => channel.publish_read(self.read),
            // Not with the end of the stream.
            State::Waits if count > 0 && self.written > 0 && self.awaits_head => {
                self.join(stream);
            }
            State::Waits | State::Never => {}
        }
    }

    fn has_written(&mut self, count: usize) {
        self.written += count as u64;
    }
}
