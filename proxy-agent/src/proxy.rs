//! The data path: connections from captured pods to endpoints.
//!
//! One worker is one thread with one current-thread runtime. Each has its own listener in every
//! captured pod (`SO_REUSEPORT`), unless they were bound by another agent, its own connection pools and its own balancer state.

mod accelerate;
mod accept;
mod body;
mod budgets;
mod client_hello;
mod detect;
mod downstream;
mod failure;
mod forward;
mod headers;
mod http;
mod http1;
mod http2;
mod load;
mod lookup;
mod mirror;
mod plan;
mod pod;
mod replay;
mod reply;
mod retrying;
mod session;
mod share;
mod stream;
mod stream_limit;
mod target;
mod tcp;
mod tee;
mod traffic;
mod upgrade;
mod upstream;
mod wire;
mod worker;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::bpf::{Acceleration, Heartbeat, OrigDstMap};
use crate::metrics::traffic::Traffic;
use crate::model::Snapshot;
use crate::net::{self, Netns};

use worker::{Command, Parts, Worker};

pub use client_hello::{Hello, client_hello};
pub use detect::{Detected, detect};
pub use downstream::{WholeRequest, read_request};
pub(crate) use headers::is_grpc;
pub use http1::Whole;
pub use upstream::{ResponseFields, WholeResponse, read_response};

/// Headers in one head; more is 431.
const MAX_HEADERS: usize = 256;
/// Bytes in one head; more is 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Commands that may wait for a worker.
const COMMAND_QUEUE: usize = 256;

/// A captured pod with its listeners, usually one of each address family for each worker.
#[derive(Debug)]
pub struct ServedPod {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Where its upstream connections are made.
    pub netns: Arc<Netns>,
    listeners: Mutex<Vec<Vec<TcpListener>>>,
}

impl ServedPod {
    /// Builds the value; `families` holds one list of listeners for each address family.
    pub fn new(
        uid: Arc<str>,
        namespace: Arc<str>,
        name: Arc<str>,
        netns: Arc<Netns>,
        families: Vec<Vec<TcpListener>>,
    ) -> Self {
        Self {
            uid,
            namespace,
            name,
            netns,
            listeners: Mutex::new(families),
        }
    }

    fn take_listeners(&self) -> Vec<Vec<TcpListener>> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *listeners)
    }
}

/// Further descriptors of a pod's listeners, of both families.
#[derive(Debug)]
pub struct LentPod {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// The listeners.
    pub listeners: Vec<OwnedFd>,
}

/// One worker's share of a [`ServedPod`].
struct WorkerPod {
    pod: Arc<ServedPod>,
    listeners: Vec<TcpListener>,
}

/// What the workers are made of.
#[derive(Debug)]
pub struct Options {
    /// One heartbeat a worker: their number is that of the workers.
    pub heartbeats: Vec<Heartbeat>,
    /// Original destinations of accepted connections.
    pub flows: OrigDstMap,
    /// What connections of pods that ask for it are accelerated by; `None`: by nothing.
    pub acceleration: Option<Arc<Acceleration>>,
    /// Counters.
    pub traffic: Arc<Traffic>,
    /// Seed of the balancers' random words; each worker derives its own from it.
    pub seed: u64,
}

/// Why the workers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent's own netns could not be opened.
    #[error("cannot open the agent's own network namespace")]
    Home(#[source] std::io::Error),
    /// No thread or no runtime.
    #[error("cannot start worker {index}")]
    Worker {
        /// Which.
        index: usize,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The running workers. When the value is dropped they end and cut what is still open.
#[derive(Debug)]
pub struct Proxy {
    commands: Vec<mpsc::Sender<Command>>,
    begin: CancellationToken,
}

impl Proxy {
    /// Starts the workers; they serve no pod yet, and accept nothing before [`Proxy::begin`].
    ///
    /// # Errors
    ///
    /// A thread, a runtime or the netns could not be had; workers that run already end.
    pub fn start(
        options: Options,
        snapshots: &watch::Receiver<Arc<Snapshot>>,
    ) -> Result<Self, Error> {
        let mut proxy = Self {
            commands: Vec::new(),
            begin: CancellationToken::new(),
        };
        for (index, heartbeat) in options.heartbeats.into_iter().enumerate() {
            let parts = Parts {
                index,
                seed: options.seed.wrapping_add(index as u64),
                home: Netns::current().map_err(Error::Home)?,
                heartbeat,
                flows: options.flows.clone(),
                acceleration: options.acceleration.clone(),
                traffic: Arc::clone(&options.traffic),
                snapshots: snapshots.clone(),
                begin: proxy.begin.clone(),
            };
            let (sender, receiver) = mpsc::channel(COMMAND_QUEUE);
            spawn(parts, receiver).map_err(|source| Error::Worker { index, source })?;
            proxy.commands.push(sender);
        }
        Ok(proxy)
    }

    /// Accepts connections from now on, also those that are waiting.
    pub fn begin(&self) {
        self.begin.cancel();
    }

    /// Serves a pod; returns when every worker accepts from it, or will once it may.
    pub async fn serve(&self, pod: ServedPod) {
        let pod = Arc::new(pod);
        let shares = share::split(&pod, self.commands.len());
        let mut waiting = Vec::new();
        for (commands, share) in self.commands.iter().zip(shares) {
            waiting.push(send(commands, |done| Command::Serve(share, done)).await);
        }
        acknowledged(waiting).await;
    }

    /// Stops accepting from a pod, whose map entry must be gone; returns when its accept queues are
    /// empty and its listeners closed. Open connections go on.
    pub async fn release(&self, uid: &Arc<str>) {
        let mut waiting = Vec::new();
        for commands in &self.commands {
            let release = |done| Command::Release(Arc::clone(uid), done);
            waiting.push(send(commands, release).await);
        }
        acknowledged(waiting).await;
    }

    /// Stops accepting from all pods, whose map entries must be gone; returns when every accept
    /// queue is empty and every listener closed. Open connections go on.
    pub async fn close(&self) {
        let mut waiting = Vec::new();
        for commands in &self.commands {
            waiting.push(send(commands, Command::Close).await);
        }
        acknowledged(waiting).await;
    }

    /// Stops accepting and returns when the last connection is closed. Bound it with a timeout.
    pub async fn drain(&self) {
        let mut waiting = Vec::new();
        for commands in &self.commands {
            waiting.push(send(commands, Command::Drain).await);
        }
        acknowledged(waiting).await;
    }

    /// Further descriptors of every listener, by pod.
    ///
    /// # Errors
    ///
    /// The limit on open files, or a worker is gone.
    pub async fn lend(&self) -> std::io::Result<Vec<LentPod>> {
        let mut lent = Vec::new();
        for commands in &self.commands {
            let (sender, receiver) = oneshot::channel();
            let sent = commands.send(Command::Lend(sender)).await;
            sent.map_err(|_gone| std::io::Error::other("a worker is gone"))?;
            lent.push(receiver.await.map_err(std::io::Error::other)??);
        }
        Ok(share::by_pod(lent.into_iter().flatten()))
    }

    /// Number of workers.
    pub const fn workers(&self) -> usize {
        self.commands.len()
    }
}

async fn send(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<()>) -> Command,
) -> oneshot::Receiver<()> {
    let (done, waiting) = oneshot::channel();
    // A worker that is gone drops the command and with it `done`: the wait ends at once.
    if commands.send(command(done)).await.is_err() {
        tracing::error!("a worker is gone");
    }
    waiting
}

async fn acknowledged(waiting: Vec<oneshot::Receiver<()>>) {
    for done in waiting {
        // An error means that the worker has ended, and its listeners with it.
        let _ = done.await;
    }
}

fn spawn(parts: Parts, commands: mpsc::Receiver<Command>) -> std::io::Result<()> {
    let name = format!("worker-{}", parts.index);
    // The thread ends when its command channel is closed; nobody has to join it.
    std::thread::Builder::new().name(name).spawn(move || {
        net::run_in_short_turns();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(Worker::run(parts, commands)),
            Err(error) => tracing::error!(%error, "no runtime for a worker"),
        }
    })?;
    Ok(())
}
