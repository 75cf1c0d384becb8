//! One connection from the agent to a pod that asks for acceleration: joined with its second request.
//!
//! The application is the server here. Each request is one message to it; what it has read is known when
//! it answers. See `bpf::Outgoing` for the rule, and [`super`] for the other half of the path.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::bpf::{Acceleration, Channel, JoinError, Outgoing};
use crate::metrics::traffic::WorkerRecorder;

use super::reason;
use super::socket::Half;

/// The agent's end of such a connection.
#[derive(Debug)]
pub(in crate::proxy) struct ToPod {
    acceleration: Arc<Acceleration>,
    recorder: Arc<WorkerRecorder>,
    /// Of the pod that the connection is made for.
    netns_cookie: u64,
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
    ) -> Box<Self> {
        Box::new(Self {
            acceleration: Arc::clone(acceleration),
            recorder: Arc::clone(recorder),
            netns_cookie,
            channel: None,
            outgoing: Outgoing::default(),
            read: 0,
            written: 0,
        })
    }

    /// A request of `size` bytes, if that is known, begins with the next write.
    pub(in crate::proxy) fn begins(
        &mut self,
        stream: &TcpStream,
        size: Option<u64>,
    ) -> Result<(), Never> {
        // One request is not worth the calls.
        if self.channel.is_none() && self.written > 0 {
            self.channel = Some(self.join(stream)?);
        }
        if let Some(channel) = &self.channel {
            self.outgoing.begin(channel, self.written, size);
        }
        Ok(())
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

impl Half for ToPod {
    fn has_read_all(&self) -> bool {
        let channel = self.channel.as_ref();
        channel.is_some_and(|channel| channel.application_sent_only(self.read))
    }

    fn has_read(&mut self, _: &TcpStream, count: usize) {
        self.read += count as u64;
        if let Some(channel) = &self.channel {
            channel.publish_read(self.read);
        }
    }

    fn has_written(&mut self, count: usize) {
        self.written += count as u64;
    }
}
