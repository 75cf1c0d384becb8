//! The admin server: state over a Unix socket, health and metrics over TCP. It runs on the control
//! runtime, asks for state through [`Views`], and changes nothing.
//!
//! One connection carries one request. Connections, their time and the size of a request's head
//! are bounded, so that no client can hold the agent's memory or file descriptors.

mod answer;
mod query;
mod socket;

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::status::{Explanation, Status};
use answer::Scope;
pub(crate) use socket::{SocketFile, bind as bind_socket, prepare as prepare_socket};

pub use query::{ExplainQuery, QueryError};

/// Connections at a time on each of the two listeners; what comes beyond waits in the backlog.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a connection in all; a client that does not read its answer is cut then.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept, e.g. when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time that answers under way get at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Where the admin server listens.
#[derive(Clone, Debug)]
pub struct Options {
    /// Unix socket: everything.
    pub socket: PathBuf,
    /// TCP address: `/metrics`, `/healthz`, `/readyz`.
    pub address: SocketAddr,
}

/// What the admin server asks the agent. The functions may block for a moment (they read maps).
pub struct Views {
    /// The state now.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// What would happen to a request; the error says why that cannot be told.
    pub explain: Box<dyn Fn(ExplainQuery) -> Result<Explanation, String> + Send + Sync>,
    /// The metrics as OpenMetrics text.
    pub metrics: Box<dyn Fn() -> Result<String, fmt::Error> + Send + Sync>,
    /// Why the agent is not ready, one reason a line; empty if it is.
    pub ready: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").finish_non_exhaustive()
    }
}

/// Why the admin server could not start. Each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody answers on the socket.
    #[error("admin socket {} is served by another process; stop it, or give another --admin-socket", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The path is taken by something that is no socket.
    #[error("{} is there and no socket; remove it, or give another --admin-socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("cannot {step} admin socket {}; give a path in a directory that this user may write to with --admin-socket", path.display())]
    Socket {
        /// What failed.
        step: &'static str,
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The TCP address could not be bound.
    #[error("cannot listen on {address}; free it, or give another --admin-address")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
}

/// The bound admin server, or one of its two halves, not yet answering.
#[derive(Debug)]
pub struct Server {
    unix: Option<UnixListener>,
    tcp: Option<TcpListener>,
    /// Removes the socket's file when the server ends.
    _file: Option<SocketFile>,
}

impl Server {
    /// Binds both listeners.
    ///
    /// # Errors
    ///
    /// When one of them cannot be bound; neither is then.
    pub async fn bind(options: Options) -> Result<Self, Error> {
        let mut server = Self::on_address(bind_address(options.address).await?)?;
        let (unix, file) = socket::bind(&options.socket).await?;
        (server.unix, server._file) = (Some(unix), Some(file));
        Ok(server)
    }

    /// On the TCP address alone, with the listener from [`bind_address`].
    ///
    /// # Errors
    ///
    /// The runtime does not take the listener.
    pub fn on_address(listener: std::net::TcpListener) -> Result<Self, Error> {
        let address = listener.local_addr();
        let tcp = TcpListener::from_std(listener);
        let tcp = tcp.map_err(|source| Error::Address {
            address: address.unwrap_or_else(|_unknown| ([0, 0, 0, 0], 0).into()),
            source,
        })?;
        Ok(Self {
            unix: None,
            tcp: Some(tcp),
            _file: None,
        })
    }

    /// On the Unix socket alone, with what [`socket::prepare`] or [`socket::bind`] made.
    pub(crate) const fn on_socket(listener: UnixListener, file: SocketFile) -> Self {
        Self {
            unix: Some(listener),
            tcp: None,
            _file: Some(file),
        }
    }

    /// Answers until `shutdown`, then gives the answers under way a moment.
    pub async fn run(self, views: Arc<Views>, shutdown: CancellationToken) {
        let tracker = TaskTracker::new();
        let unix = accept_loop(Scope::Everything, &views, &tracker, || async {
            let Some(unix) = &self.unix else {
                return pending().await;
            };
            unix.accept().await.map(|(stream, _)| stream)
        });
        let tcp = accept_loop(Scope::Health, &views, &tracker, || async {
            let Some(tcp) = &self.tcp else {
                return pending().await;
            };
            tcp.accept().await.map(|(stream, _)| stream)
        });
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = unix => {}
            () = tcp => {}
        }
        tracker.close();
        if tokio::time::timeout(SHUTDOWN_GRACE, tracker.wait())
            .await
            .is_err()
        {
            tracing::debug!("admin connections were cut at shutdown");
        }
    }
}

/// Binds the TCP address.
///
/// # Errors
///
/// [`Error::Address`].
pub async fn bind_address(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    let bound = bound.and_then(TcpListener::into_std);
    bound.map_err(|source| Error::Address { address, source })
}

/// Accepts for ever; each connection is a task of `tracker`.
async fn accept_loop<S, F>(
    scope: Scope,
    views: &Arc<Views>,
    tracker: &TaskTracker,
    accept: impl Fn() -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match accept().await {
            Ok(stream) => {
                tracker.spawn(connection(stream, scope, Arc::clone(views), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request. `permit` is given back at the end.
async fn connection<S>(stream: S, scope: Scope, views: Arc<Views>, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer::answer(request, scope, Arc::clone(&views)));
    let served = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection failed"),
        Err(_elapsed) => tracing::debug!("admin connection took too long"),
    }
    drop(permit);
}

#[cfg(test)]
mod tests;
