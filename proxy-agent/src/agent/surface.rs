//! The admin server's two halves, each from when it may answer to when it no longer may.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Server, SocketFile, Views};

/// The halves that answer. Nothing does when the value is new.
#[derive(Debug)]
pub(super) struct Surface {
    address: TcpListener,
    views: Arc<Views>,
    stop: CancellationToken,
    stop_address: CancellationToken,
    stop_socket: CancellationToken,
    running: TaskTracker,
    /// Those of `running` that answer on the admin socket.
    on_socket: TaskTracker,
}

impl Surface {
    /// With the admin address's listener.
    pub(super) fn new(address: TcpListener, views: Views) -> Self {
        let stop = CancellationToken::new();
        Self {
            address,
            views: Arc::new(views),
            stop_address: stop.child_token(),
            stop_socket: stop.child_token(),
            stop,
            running: TaskTracker::new(),
            on_socket: TaskTracker::new(),
        }
    }

    /// Answers on the admin address from now on.
    pub(super) fn answer_on_address(&self) -> Result<(), admin::Error> {
        let address = self.address.local_addr();
        let listener = self
            .lend_address()
            .map_err(|source| admin::Error::Address {
                address: address.unwrap_or_else(|_unknown| ([0; 4], 0).into()),
                source,
            })?;
        self.spawn(Server::on_address(listener)?, &self.stop_address);
        Ok(())
    }

    /// Answers on the admin socket from now on.
    pub(super) fn answer_on_socket(&self, listener: UnixListener, file: SocketFile) {
        let server = Server::on_socket(listener, file);
        let run = server.run(Arc::clone(&self.views), self.stop_socket.clone());
        self.running.spawn(self.on_socket.track_future(run));
    }

    fn spawn(&self, server: Server, stop: &CancellationToken) {
        let run = server.run(Arc::clone(&self.views), stop.clone());
        self.running.spawn(run);
    }

    /// A further descriptor of the admin address's listener.
    pub(super) fn lend_address(&self) -> io::Result<TcpListener> {
        self.address.try_clone()
    }

    /// Leaves the admin address to the process that it was lent to.
    pub(super) fn give_address_up(&self) {
        self.stop_address.cancel();
    }

    /// Leaves the admin socket's path to the next agent.
    pub(super) async fn give_socket_up(&self) {
        self.stop_socket.cancel();
        self.on_socket.close();
        self.on_socket.wait().await;
    }

    /// Gives the answers under way a moment, and ends.
    pub(super) async fn close(self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
    }
}
