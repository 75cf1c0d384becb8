//! What two agents say to each other, and how: JSON in messages that carry open files.
//!
//! Whatever the version: a successor begins with `hello` and its `protocol`, and `refuse` with its
//! `reason` may be the answer to anything. All else belongs to [`PROTOCOL`].

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::net::DescriptorStream;

use super::Error;

/// Version of the order and meaning of the messages.
pub(super) const PROTOCOL: u32 = 1;

/// Who may give and take a node: root, who could do all of it by hand.
const ROOT: u32 = 0;

/// One message.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub(super) enum Message {
    /// Successor: I would like to take over.
    Hello(Hello),
    /// Predecessor: share these maps (they are with it, and the admin address's listener), load
    /// your programs, read your sources; I go on serving.
    Offer(Offer),
    /// Either: no, or no longer; the predecessor serves.
    Refuse {
        /// For the log and for `/readyz`.
        reason: String,
    },
    /// Successor: everything is loaded and read; give me the rest.
    Ready,
    /// Predecessor: the cgroup's lock and the links are with it.
    Estate,
    /// Predecessor: the listeners of these pods are with it, in order.
    Pods {
        /// The pods.
        pods: Vec<PodShare>,
        /// There are no more.
        last: bool,
    },
    /// Successor: the links run my programs.
    Switched {
        /// Also the admin address is now mine.
        address: bool,
    },
    /// Predecessor: the node is yours. Only now may the successor accept.
    Released,
}

/// See [`Message::Hello`].
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Hello {
    /// [`PROTOCOL`] of the successor.
    pub(super) protocol: u32,
    /// Version of the successor, for the log.
    pub(super) agent: String,
    /// [`proxy_ebpf::DESTINATIONS_LAYOUT`] of the successor.
    pub(super) destinations: u32,
    /// Cgroup id of the successor, whose sockets are not to be captured.
    pub(super) cgroup: u64,
}

/// See [`Message::Offer`].
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Offer {
    /// Version of the predecessor, for the log.
    pub(super) agent: String,
    /// Cgroup ids whose sockets are not to be captured.
    pub(super) cgroups: Vec<u64>,
    /// The predecessor's admin address.
    pub(super) address: Option<SocketAddr>,
}

/// One pod of [`Message::Pods`].
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct PodShare {
    /// `metadata.uid`.
    pub(super) uid: String,
    /// How many of the message's files are its.
    pub(super) listeners: usize,
}

/// The agent at the other end.
#[derive(Debug)]
pub(super) struct Peer {
    stream: DescriptorStream,
    pid: i32,
}

impl Peer {
    /// Speaks with whoever is at the other end, if that is root.
    pub(super) fn new(stream: UnixStream) -> Result<Self, Error> {
        let stream = DescriptorStream::new(stream);
        let end = stream.other_end();
        let (user, pid) = end.map_err(Error::io("tell who is at the other end"))?;
        if user != ROOT {
            return Err(Error::NotUnderstood {
                what: format!("user {user} is not root"),
            });
        }
        Ok(Self {
            stream,
            pid: pid.unwrap_or_default(),
        })
    }

    /// How the log calls it.
    pub(super) fn name(&self, version: &str) -> String {
        format!("pid {} (version {version})", self.pid)
    }

    pub(super) async fn say(
        &self,
        message: &Message,
        files: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let bytes = serde_json::to_vec(message).map_err(|error| Error::NotUnderstood {
            what: error.to_string(),
        })?;
        let sent = self.stream.send(&bytes, files).await;
        sent.map_err(Error::io("write to the other agent"))
    }

    pub(super) async fn refuse(&self, reason: String) -> Result<(), Error> {
        self.say(&Message::Refuse { reason }, &[]).await
    }

    /// The next message, which must come within `limit`. A refusal is an error.
    pub(super) async fn hear(&self, limit: Duration) -> Result<(Message, Vec<OwnedFd>), Error> {
        let received = timeout(limit, self.stream.receive()).await;
        let received = received.map_err(|_elapsed| Error::Silent { limit })?;
        let received = received.map_err(Error::io("read from the other agent"))?;
        let (bytes, files) = received.ok_or(Error::Gone)?;
        match serde_json::from_slice(&bytes) {
            Ok(Message::Refuse { reason }) => Err(Error::Refused { reason }),
            Ok(message) => Ok((message, files)),
            Err(error) => Err(Error::NotUnderstood {
                what: error.to_string(),
            }),
        }
    }

    /// Returns when the other agent has ended.
    pub(super) async fn gone(&self) {
        while let Ok(Some(_said)) = self.stream.receive().await {}
    }
}

/// A message that has no place here.
pub(super) fn unexpected(message: &Message) -> Error {
    Error::NotUnderstood {
        what: format!("{message:?}"),
    }
}
