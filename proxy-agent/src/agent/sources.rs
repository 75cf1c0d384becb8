//! From the sources' objects to the snapshot in force: compiles on every change, publishes to the
//! workers, and brings the kernel's Service addresses in line.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bpf::{Kernel, ReconcileReport};
use crate::cli::{Capture, RunArgs, SourceArg};
use crate::compile::{Acceleration, Compiler, Options};
use crate::model::Snapshot;
use crate::objects::ObjectSet;
use crate::report::Cluster;
use crate::source::dns::{self, DnsSource};
use crate::source::file::{self, FileSource};
use crate::source::kubernetes::{self, KubernetesSource, Timing};

use super::problem_log::ProblemLog;
use super::steering::{Ejections, Gone, Steering};

/// Time between two snapshots at least while changes keep coming. The first change after a pause takes
/// effect at once. Short: what is gathered is worked off in one go, and whoever is woken on this
/// processor meanwhile waits.
const GAP: Duration = Duration::from_millis(10);

/// The same as a multiple of what the last snapshot took: never more than a fifth of a core, for those
/// that take up to an eighth of a second.
const GAP_FACTOR: u32 = 4;

/// The longest: a snapshot also takes long when somebody else has the processor.
const LONGEST_GAP: Duration = Duration::from_millis(500);

/// Time between two looks at connections that have failed.
const LOOK: Duration = Duration::from_millis(500);

/// Pause before the kernel's maps are written again after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Why a source could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory cannot be watched.
    #[error(transparent)]
    File(#[from] file::Error),
    /// The API server cannot be asked.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::Error),
}

/// The running sources and the compiler that turns what they hold into snapshots.
#[derive(Debug)]
pub(super) struct Sources {
    sets: Vec<watch::Receiver<Arc<ObjectSet>>>,
    cluster: Option<Cluster>,
    /// Where the names go that are to be resolved.
    lookups: watch::Sender<dns::Names>,
    compiler: Compiler,
    options: Options,
    log: ProblemLog,
    steering: Steering,
    /// Cancelled when a snapshot of sources that were all read is in force.
    all_read: CancellationToken,
    /// Snapshots that a worker or a request may still hold: the last to let go of one frees much,
    /// and that is to be this thread.
    retired: Vec<Arc<Snapshot>>,
}

impl Sources {
    /// Starts every source on the current runtime. Endpoints that go are told to `gone`.
    pub(super) async fn start(
        args: &RunArgs,
        acceleration: Acceleration,
        gone: Gone,
    ) -> Result<Self, Error> {
        let (mut sets, mut cluster) = (Vec::new(), None);
        for source in &args.sources {
            match source {
                SourceArg::File(directory) => {
                    let source = file::watch(directory.clone())?;
                    sets.push(source.sets());
                    tokio::spawn(run_file(source));
                }
                SourceArg::Kubernetes => {
                    let client = kubernetes::client(kubernetes::config().await?)?;
                    let source = KubernetesSource::new(client, &args.node_name, Timing::default());
                    sets.push(source.sets());
                    cluster = Some(Cluster {
                        client: source.client(),
                        objects: source.sets(),
                    });
                    tokio::spawn(run_kubernetes(source));
                }
            }
        }
        let (lookups, names) = watch::channel(dns::Names::default());
        let dns = DnsSource::new(args.dns_server, names);
        sets.push(dns.sets());
        tokio::spawn(dns.run());
        Ok(Self {
            sets,
            cluster,
            lookups,
            compiler: Compiler::default(),
            options: Options {
                service_cidr: args.service_cidr,
                capture_all: args.capture == Capture::All,
                acceleration,
                agent_namespace: std::env::var("POD_NAMESPACE").ok(),
                node_name: Some(args.node_name.clone()),
            },
            log: ProblemLog::default(),
            steering: Steering::new(gone),
            all_read: CancellationToken::new(),
            retired: Vec::new(),
        })
    }

    /// What each source holds, for `status`.
    pub(super) fn statuses(&self) -> Vec<watch::Receiver<Arc<ObjectSet>>> {
        self.sets.clone()
    }

    /// Direct endpoints that are left out, for `status`.
    pub(super) fn ejections(&self) -> Ejections {
        self.steering.ejections()
    }

    /// The API server, if it is among the sources.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        self.cluster.clone()
    }

    /// Cancelled when a snapshot of sources that were all read is in force.
    pub(super) fn all_read(&self) -> CancellationToken {
        self.all_read.clone()
    }

    /// Waits for every source's first read, but only as long as `patience` lasts, and puts the first
    /// snapshot in force; `status` says what is missing.
    ///
    /// # Errors
    ///
    /// That of `patience`: not all was read, and it is not to go on without.
    pub(super) async fn first_sync(
        &mut self,
        publish: &watch::Sender<Arc<Snapshot>>,
        kernel: &Kernel,
        patience: impl Future<Output = Result<(), super::Error>>,
    ) -> Result<(), super::Error> {
        let synced = async {
            for set in &mut self.sets {
                // A source that has ended holds what it held.
                let _ended = set.wait_for(|set| set.synced).await;
            }
        };
        tokio::select! {
            () = synced => {}
            over = patience => {
                over?;
                tracing::warn!("a source is not read yet; going on with what is there");
            }
        }
        if !self.apply(publish, kernel) {
            tracing::warn!("not every Service address is in the kernel; trying again");
        }
        Ok(())
    }

    /// Follows every change until `stop`.
    pub(super) async fn follow(
        mut self,
        publish: watch::Sender<Arc<Snapshot>>,
        kernel: Arc<Kernel>,
        stop: CancellationToken,
    ) {
        // The first sync may have left something to do.
        let again = || Some(Instant::now() + RETRY);
        let mut retry = (!self.steering.is_settled()).then(again).flatten();
        let mut next = Instant::now();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed(&mut self.sets) => {}
                () = until(retry) => {}
                _ = look.tick() => {
                    if !self.look(&kernel) {
                        retry = retry.or_else(again);
                    }
                    continue;
                }
            }
            if stop.run_until_cancelled(sleep_until(next)).await.is_none() {
                return;
            }
            let begun = Instant::now();
            let applied = self.apply(&publish, &kernel);
            let gap = (begun.elapsed() * GAP_FACTOR).clamp(GAP, LONGEST_GAP);
            next = Instant::now() + gap;
            retry = (!applied).then(again).flatten();
        }
    }

    /// Takes endpoints out of use that connections fail to reach, and back in. Returns whether the
    /// kernel took all of it.
    fn look(&mut self, kernel: &Kernel) -> bool {
        match self.steering.look(kernel) {
            Ok(report) if report == ReconcileReport::default() => true,
            Ok(report) => {
                tracing::debug!(?report, "health of endpoints in force");
                true
            }
            Err(error) => {
                tracing::error!(%error, "health of endpoints is not in force");
                false
            }
        }
    }

    /// Compiles what the sources hold now. Returns whether the kernel took all of it.
    fn apply(&mut self, publish: &watch::Sender<Arc<Snapshot>>, kernel: &Kernel) -> bool {
        let sets: Vec<Arc<ObjectSet>> = self
            .sets
            .iter_mut()
            .map(|set| Arc::clone(&set.borrow_and_update()))
            .collect();
        let snapshot = Arc::new(self.compiler.compile(&sets, &self.options));
        self.log.tell(&snapshot.problems, &snapshot.unserved);
        self.lookups.send_if_modified(|known| {
            let changed = !Arc::ptr_eq(known, &snapshot.lookups) && *known != snapshot.lookups;
            known.clone_from(&snapshot.lookups);
            changed
        });
        // Workers first: a connection that the hook sends them is for a listener that they know.
        self.retired
            .push(publish.send_replace(Arc::clone(&snapshot)));
        let applied = self.steering.apply(&snapshot, kernel);
        if sets.iter().all(|set| set.synced) {
            self.all_read.cancel();
        }
        self.retired.retain(|former| Arc::strong_count(former) > 1);
        match applied {
            Ok(report) => {
                tracing::debug!(version = snapshot.version, ?report, "snapshot in force");
                true
            }
            Err(error) => {
                tracing::error!(%error, "Service addresses are missing in the kernel; they pass");
                false
            }
        }
    }
}

/// Follows a source for as long as the agent runs.
async fn run_file(source: FileSource) {
    let error = source.run().await;
    tracing::error!(%error, "a source has ended; its last objects stay in force");
}

/// Follows the API server for as long as the agent runs.
async fn run_kubernetes(source: KubernetesSource) {
    let error = source.run().await;
    tracing::error!(%error, "a source has ended; its last objects stay in force");
}

/// Returns when any of the sets has changed; never, if all sources have ended.
async fn changed(sets: &mut [watch::Receiver<Arc<ObjectSet>>]) {
    let mut waits = tokio::task::JoinSet::new();
    for set in sets.iter() {
        let mut set = set.clone();
        waits.spawn(async move { set.changed().await });
    }
    while let Some(ended) = waits.join_next().await {
        if matches!(ended, Ok(Ok(()))) {
            return;
        }
    }
    std::future::pending().await
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => sleep(Duration::MAX).await,
    }
}
