//! One worker: a thread, a current-thread runtime, and everything that its requests touch.
//!
//! Nothing of a worker is shared with another one on the request path. Commands, snapshots and
//! counters cross the border; locks do not.

mod open;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::balance::Draw;
use crate::bpf::{Acceleration, Heartbeat, OrigDstMap};
use crate::metrics::traffic::{Traffic, WorkerRecorder};
use crate::model::{ClusterId, Snapshot};
use crate::net::Netns;

use super::accept;
use super::downstream::StreamTasks;
use super::load::{ClusterState, PodIndex};
use super::mirror::Mirrors;
use super::pod::PodState;
use super::{LentPod, WorkerPod};

pub(super) use self::open::OpenConnection;

/// Time between heartbeats: a dozen fit into the 3 s after which the hooks pass.
const BEAT: Duration = Duration::from_millis(250);
/// Time between sweeps of idle upstream connections, and of tasks that wait for a stream.
const SWEEP: Duration = Duration::from_secs(10);

/// What a worker is told to do. Each is acknowledged when it has taken effect.
pub(super) enum Command {
    Serve(WorkerPod, oneshot::Sender<()>),
    Release(Arc<str>, oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
    Drain(oneshot::Sender<()>),
    Lend(oneshot::Sender<io::Result<Vec<LentPod>>>),
}

/// What a worker is made of.
pub(super) struct Parts {
    pub(super) index: usize,
    pub(super) seed: u64,
    pub(super) home: Netns,
    pub(super) heartbeat: Heartbeat,
    pub(super) flows: OrigDstMap,
    pub(super) acceleration: Option<Arc<Acceleration>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Cancelled when connections may be accepted.
    pub(super) begin: CancellationToken,
}

/// The state that the tasks of one worker share.
pub(super) struct Worker {
    index: usize,
    home: Netns,
    draw: Draw,
    flows: OrigDstMap,
    acceleration: Option<Arc<Acceleration>>,
    traffic: Arc<Traffic>,
    recorder: Arc<WorkerRecorder>,
    snapshot: RefCell<Rc<Current>>,
    clusters: RefCell<Vec<Option<Rc<ClusterState>>>>,
    pods: RefCell<HashMap<Arc<str>, Served>>,
    next_pod: Cell<PodIndex>,
    mirrors: Mirrors,
    stream_tasks: Rc<StreamTasks>,
    begin: CancellationToken,
    draining: Cell<bool>,
    connections: RefCell<HashMap<u64, Option<Waker>>>,
    next_connection: Cell<u64>,
}

/// The snapshot in force, counted by this worker alone: a request's hold on it is no write to
/// memory that others read.
#[derive(Debug)]
pub(super) struct Current(Arc<Snapshot>);

impl Deref for Current {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

struct Served {
    pod: Rc<PodState>,
    /// Those of the accept loops.
    listeners: Vec<Rc<TcpListener>>,
    accepting: Vec<JoinHandle<()>>,
}

impl Worker {
    fn new(parts: Parts) -> (Rc<Self>, Heartbeat, watch::Receiver<Arc<Snapshot>>) {
        let mut snapshots = parts.snapshots;
        let snapshot = Rc::new(Current(Arc::clone(&snapshots.borrow_and_update())));
        let worker = Rc::new(Self {
            index: parts.index,
            home: parts.home,
            draw: Draw::new(parts.seed),
            flows: parts.flows,
            acceleration: parts.acceleration,
            recorder: parts.traffic.worker_recorder(),
            traffic: parts.traffic,
            snapshot: RefCell::new(snapshot),
            clusters: RefCell::default(),
            pods: RefCell::default(),
            next_pod: Cell::new(0),
            mirrors: Mirrors::default(),
            stream_tasks: Rc::default(),
            begin: parts.begin,
            draining: Cell::new(false),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
        });
        (worker, parts.heartbeat, snapshots)
    }

    /// Runs until `commands` is closed.
    pub(super) async fn run(parts: Parts, mut commands: mpsc::Receiver<Command>) {
        let (worker, heartbeat, mut snapshots) = Self::new(parts);
        let mut beat = interval(BEAT);
        let mut sweep = interval(SWEEP);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    if let Err(error) = heartbeat.beat() {
                        tracing::error!(%error, "no heartbeat: the hooks will pass connections");
                    }
                }
                _ = sweep.tick() => worker.sweep(),
                Ok(()) = snapshots.changed() => {
                    let snapshot = Arc::clone(&snapshots.borrow_and_update());
                    worker.renew(snapshot);
                }
                command = commands.recv() => match command {
                    Some(command) => worker.obey(command),
                    None => return,
                },
            }
        }
    }

    fn obey(self: &Rc<Self>, command: Command) {
        // A sender that no longer waits for the acknowledgement has given up; that is its choice.
        match command {
            Command::Serve(pod, done) => {
                self.serve(pod);
                let _ = done.send(());
            }
            Command::Release(uid, done) => {
                let served = self.pods.borrow_mut().remove(&uid);
                let worker = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    if let Some(served) = served {
                        worker.release(served).await;
                    }
                    let _ = done.send(());
                });
            }
            Command::Lend(lent) => {
                let _ = lent.send(self.lend());
            }
            Command::Close(done) => {
                let worker = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    worker.close().await;
                    let _ = done.send(());
                });
            }
            Command::Drain(done) => {
                let worker = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    worker.drain().await;
                    let _ = done.send(());
                });
            }
        }
    }

    fn serve(self: &Rc<Self>, served: WorkerPod) {
        let WorkerPod { pod, listeners } = served;
        let recorder = self.traffic.pod_recorder(&pod.uid);
        let index = self.next_pod.get();
        self.next_pod.set(index + 1);
        let state = Rc::new(PodState::new(index, &pod, recorder));
        let listeners: Vec<_> = listeners.into_iter().filter_map(registered).collect();
        let accepting = listeners
            .iter()
            .map(|listener| {
                let (worker, listener) = (Rc::clone(self), Rc::clone(listener));
                tokio::task::spawn_local(accept::run(worker, Rc::clone(&state), listener))
            })
            .collect();
        let served = Served {
            pod: state,
            listeners,
            accepting,
        };
        let former = self.pods.borrow_mut().insert(Arc::clone(&pod.uid), served);
        if let Some(former) = former {
            let worker = Rc::clone(self);
            tokio::task::spawn_local(async move { worker.release(former).await });
        }
    }

    /// Further descriptors of every pod's listeners.
    fn lend(&self) -> io::Result<Vec<LentPod>> {
        let pods = self.pods.borrow();
        let lend = |(uid, served): (&Arc<str>, &Served)| {
            let listeners = served.listeners.iter();
            let listeners = listeners.map(|listener| listener.as_fd().try_clone_to_owned());
            Ok(LentPod {
                uid: Arc::clone(uid),
                listeners: listeners.collect::<io::Result<_>>()?,
            })
        };
        pods.iter().map(lend).collect()
    }

    /// Empties the accept queues, closes the listeners and the pod's idle connections. What is
    /// open goes on.
    async fn release(&self, served: Served) {
        served.pod.release();
        for accepting in served.accepting {
            if let Err(error) = accepting.await {
                tracing::error!(%error, pod = %served.pod.name, "accept loop failed");
            }
        }
        for cluster in self.clusters.borrow().iter().flatten() {
            for endpoint in cluster.endpoints() {
                endpoint.pools.borrow_mut().remove(&served.pod.index);
            }
        }
    }

    /// Releases every pod.
    async fn close(&self) {
        let pods: Vec<Served> = self.pods.borrow_mut().drain().map(|(_, pod)| pod).collect();
        // All at once: each takes its time over the last arrivals.
        for served in &pods {
            served.pod.release();
        }
        for served in pods {
            self.release(served).await;
        }
    }

    /// Stops accepting, tells every connection, and waits until all are closed.
    async fn drain(&self) {
        self.close().await;
        self.draining.set(true);
        for waker in self.connections.borrow_mut().values_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
        let mut look = interval(Duration::from_millis(20));
        while !self.connections.borrow().is_empty() {
            look.tick().await;
        }
    }

    /// Takes over a new snapshot. Clusters keep what their remaining endpoints have going.
    fn renew(&self, snapshot: Arc<Snapshot>) {
        for slot in self.clusters.borrow_mut().iter_mut() {
            let Some(state) = slot else { continue };
            let cluster = snapshot.cluster(state.cluster.id);
            *slot = match cluster.filter(|cluster| cluster.name == state.cluster.name) {
                Some(cluster) if Arc::ptr_eq(cluster, &state.cluster) => continue,
                Some(cluster) => Some(Rc::new(ClusterState::new(
                    cluster,
                    Some(state),
                    &self.traffic,
                    self.index,
                ))),
                None => None,
            };
        }
        self.snapshot.replace(Rc::new(Current(snapshot)));
    }

    fn sweep(&self) {
        let now = Instant::now();
        for cluster in self.clusters.borrow().iter().flatten() {
            for endpoint in cluster.endpoints() {
                let mut pools = endpoint.pools.borrow_mut();
                pools.retain(|_, pool| !pool.expire(now));
            }
        }
        self.stream_tasks.sweep();
    }

    /// The snapshot in force.
    pub(super) fn snapshot(&self) -> Rc<Current> {
        Rc::clone(&self.snapshot.borrow())
    }

    /// This worker's state of a cluster of the snapshot in force.
    pub(super) fn cluster(&self, id: ClusterId) -> Option<Rc<ClusterState>> {
        let mut clusters = self.clusters.borrow_mut();
        if let Some(Some(state)) = clusters.get(id.index()) {
            return Some(Rc::clone(state));
        }
        let snapshot = self.snapshot();
        let cluster = snapshot.cluster(id)?;
        let state = Rc::new(ClusterState::new(cluster, None, &self.traffic, self.index));
        if clusters.len() <= id.index() {
            clusters.resize_with(id.index() + 1, || None);
        }
        clusters[id.index()] = Some(Rc::clone(&state));
        Some(state)
    }

    pub(super) const fn home(&self) -> &Netns {
        &self.home
    }

    pub(super) const fn draw(&self) -> &Draw {
        &self.draw
    }

    pub(super) const fn mirrors(&self) -> &Mirrors {
        &self.mirrors
    }

    /// What serves streams of HTTP/2.
    pub(super) const fn stream_tasks(&self) -> &Rc<StreamTasks> {
        &self.stream_tasks
    }

    pub(super) const fn flows(&self) -> &OrigDstMap {
        &self.flows
    }

    pub(super) const fn recorder(&self) -> &Arc<WorkerRecorder> {
        &self.recorder
    }

    /// What connections are accelerated by, where and as soon as they can be.
    pub(super) fn acceleration(&self) -> Option<&Arc<Acceleration>> {
        self.acceleration.as_ref().filter(|of| of.is_admitted())
    }

    /// Returns when connections may be accepted.
    pub(super) async fn begun(&self) {
        self.begin.cancelled().await;
    }

    pub(super) const fn is_draining(&self) -> bool {
        self.draining.get()
    }
}

/// The listener as this worker's runtime knows it.
fn registered(listener: std::net::TcpListener) -> Option<Rc<TcpListener>> {
    match TcpListener::from_std(listener) {
        Ok(listener) => Some(Rc::new(listener)),
        Err(error) => {
            tracing::error!(%error, "listener lost");
            None
        }
    }
}
