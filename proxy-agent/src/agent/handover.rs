//! From one agent to the next without a refused connection: the one that starts takes the node
//! over from the one that serves it.
//!
//! Open files cross a Unix socket beside the admin socket: the cgroup's lock, the links, the
//! maps that hold original destinations, and every pod's listeners. The predecessor accepts until
//! the successor owns the hooks, and takes them back if that never happens. `docs/handover.md` has
//! the order, and what becomes of each failure.

mod enter;
mod give;
mod take;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bpf::{InheritError, LoadError};
use crate::capture::cgroup::RootError;

pub(super) use enter::{Entrance, enter};
pub(super) use give::{Giver, Successor};
pub(super) use take::{Claim, Estate, Offered, Predecessor};

/// Why a handover came to nothing. Who served the node goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens on the handover socket.
    #[error("no agent answers on {}", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
    },
    /// The other agent said no.
    #[error("the other agent refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// The other agent ended, or closed the connection.
    #[error("the other agent is gone")]
    Gone,
    /// The other agent did not answer.
    #[error("the other agent did not answer within {}", humantime::format_duration(*limit))]
    Silent {
        /// Time that it had.
        limit: Duration,
    },
    /// The other agent said something that has no place there.
    #[error("not understood: {what}")]
    NotUnderstood {
        /// What was wrong with it.
        what: String,
    },
    /// The kernel side, or what came of it, is of no use.
    #[error(transparent)]
    Kernel(#[from] LoadError),
    /// A source could not be read in time.
    #[error("a source was not read in time; the other agent goes on")]
    Unread,
    /// The connection, or the limit on open files.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    const fn io(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

impl From<InheritError> for Error {
    fn from(error: InheritError) -> Self {
        Self::Kernel(error.into())
    }
}

impl From<crate::bpf::Error> for Error {
    fn from(error: crate::bpf::Error) -> Self {
        Self::Kernel(error.into())
    }
}

impl From<RootError> for Error {
    fn from(error: RootError) -> Self {
        Self::NotUnderstood {
            what: error.to_string(),
        }
    }
}

/// Where agents meet: `agent.handover.sock` beside `agent.sock`. Agents with admin sockets of
/// different names do not.
pub(super) fn path(admin_socket: &Path) -> PathBuf {
    admin_socket.with_extension("handover.sock")
}
