//! From the sources' objects to the snapshot in force: compiles on every change, publishes to the
//! workers, and brings the kernel's Service addresses in line.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proxy_ebpf::{Frontend, FrontendKey, Verdict};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bpf::Kernel;
use crate::cli::{Capture, RunArgs, SourceArg};
use crate::compile::{Compiler, Options};
use crate::model::{ListenerVerdict, Severity, Snapshot};
use crate::objects::ObjectSet;
use crate::report::Cluster;
use crate::source::file::{self, FileSource};
use crate::source::kubernetes::{self, KubernetesSource, Timing};

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
    compiler: Compiler,
    options: Options,
    /// What was logged before, so that each problem is one line however often it is compiled.
    logged: HashSet<String>,
}

impl Sources {
    /// Starts every source on the current runtime.
    pub(super) async fn start(args: &RunArgs) -> Result<Self, Error> {
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
        Ok(Self {
            sets,
            cluster,
            compiler: Compiler::default(),
            options: Options {
                service_cidr: args.service_cidr,
                capture_all: args.capture == Capture::All,
                agent_namespace: std::env::var("POD_NAMESPACE").ok(),
                node_name: Some(args.node_name.clone()),
            },
            logged: HashSet::new(),
        })
    }

    /// What each source holds, for `status`.
    pub(super) fn statuses(&self) -> Vec<watch::Receiver<Arc<ObjectSet>>> {
        self.sets.clone()
    }

    /// The API server, if it is among the sources.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        self.cluster.clone()
    }

    /// Waits up to `patience` for every source's first read, and puts the first snapshot in force.
    /// Answers whether all were read; `status` says what is missing.
    pub(super) async fn first_sync(
        &mut self,
        publish: &watch::Sender<Arc<Snapshot>>,
        kernel: &Kernel,
        patience: Duration,
    ) -> bool {
        let limit = Instant::now() + patience;
        let mut all_read = true;
        for set in &mut self.sets {
            let synced = set.wait_for(|set| set.synced);
            if tokio::time::timeout_at(limit, synced).await.is_err() {
                tracing::warn!("a source is not read yet; going on with what is there");
                all_read = false;
            }
        }
        if !self.apply(publish, kernel) {
            tracing::warn!("not every Service address is in the kernel; trying again");
        }
        all_read
    }

    /// Follows every change until `stop`.
    pub(super) async fn follow(
        mut self,
        publish: watch::Sender<Arc<Snapshot>>,
        kernel: Arc<Kernel>,
        stop: CancellationToken,
    ) {
        let mut retry = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed(&mut self.sets) => {}
                () = until(retry) => {}
            }
            let applied = self.apply(&publish, &kernel);
            retry = (!applied).then(|| Instant::now() + RETRY);
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
        self.log(&snapshot);
        let wanted = frontends(&snapshot);
        // Workers first: a connection that the hook sends them is for a listener that they know.
        publish.send_replace(Arc::clone(&snapshot));
        match kernel.reconcile_frontends(&wanted) {
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

    /// Writes one line for what is newly wrong, and one for what no longer is.
    fn log(&mut self, snapshot: &Snapshot) {
        let problems = snapshot.problems.iter().map(|problem| {
            let line = problem.to_string();
            (line, problem.severity)
        });
        let now: BTreeMap<String, Severity> = problems.chain(unserved(snapshot)).collect();
        for (line, severity) in &now {
            if !self.logged.contains(line) {
                match severity {
                    Severity::Error => tracing::error!("{line}"),
                    Severity::Warning => tracing::warn!("{line}"),
                }
            }
        }
        for line in self.logged.iter().filter(|line| !now.contains_key(*line)) {
            tracing::info!("no longer: {line}");
        }
        self.logged = now.into_keys().collect();
    }
}

/// Service ports whose requests can only fail.
fn unserved(snapshot: &Snapshot) -> impl Iterator<Item = (String, Severity)> {
    let proxied = snapshot
        .listeners
        .iter()
        .filter(|listener| matches!(listener.verdict, ListenerVerdict::Proxy(_)));
    proxied.filter_map(|listener| {
        let cluster = snapshot.cluster(listener.cluster)?;
        let line = format!("{}: no usable endpoint", cluster.name);
        cluster
            .endpoints
            .is_empty()
            .then_some((line, Severity::Warning))
    })
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

/// Every address of every listener, with the hook's verdict on it.
fn frontends(snapshot: &Snapshot) -> HashMap<FrontendKey, Frontend> {
    let verdicts = snapshot.listeners.iter().flat_map(|listener| {
        let verdict = match listener.verdict {
            ListenerVerdict::Proxy(_) => Verdict::Proxy,
            ListenerVerdict::Pass(_) => Verdict::Pass,
        };
        let addresses = listener.addresses.iter();
        addresses.map(move |address| (address, verdict))
    });
    let mut wanted: HashMap<FrontendKey, Frontend> = verdicts
        .map(|(address, verdict)| {
            let key = FrontendKey::from_socket_addr(*address);
            (key, Frontend::new(verdict))
        })
        .collect();
    // Where two Services claim one address, what the workers go by decides.
    for address in snapshot.by_address.keys() {
        let key = FrontendKey::from_socket_addr(*address);
        wanted.insert(key, Frontend::new(Verdict::Proxy));
    }
    wanted
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
