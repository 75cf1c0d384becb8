//! A way to the API server that can be cut, and that can swallow bytes in silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Relays connections until it is dropped.
pub(crate) struct Wire {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    connections: AtomicU64,
    /// Connections with a smaller number carry nothing more.
    deaf_below: AtomicU64,
    cut: watch::Sender<bool>,
}

impl Wire {
    /// Relays to a port of loopback.
    pub(crate) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            connections: AtomicU64::new(0),
            deaf_below: AtomicU64::new(0),
            cut: watch::Sender::new(false),
        });
        let task = tokio::spawn(relay(listener, target, Arc::clone(&state)));
        Self { port, state, task }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection, and accepts none until [`Self::mend`].
    pub(crate) fn cut(&self) {
        self.state.cut.send_replace(true);
    }

    /// Relays again.
    pub(crate) fn mend(&self) {
        self.state.cut.send_replace(false);
    }

    /// The connections that are open stay open and carry nothing more; new ones are relayed.
    pub(crate) fn deafen(&self) {
        let now = self.state.connections.load(Ordering::SeqCst);
        self.state.deaf_below.store(now, Ordering::SeqCst);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(listener: TcpListener, target: u16, state: Arc<State>) {
    loop {
        let (near, _from) = listener.accept().await.unwrap();
        if *state.cut.borrow() {
            continue;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else {
            continue;
        };
        let number = state.connections.fetch_add(1, Ordering::SeqCst);
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        for (from, to) in [(near_read, far_write), (far_read, near_write)] {
            tokio::spawn(copy(from, to, number, Arc::clone(&state)));
        }
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, number: u64, state: Arc<State>) {
    let mut cut = state.cut.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = cut.wait_for(|cut| *cut) => return,
        };
        let Ok(length @ 1..) = read else {
            return;
        };
        let deaf = number < state.deaf_below.load(Ordering::SeqCst);
        if !deaf && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
