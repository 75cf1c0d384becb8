//! What the agent is built of: the kernel side, the workers, and the tasks that watch over them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_ebpf::{Settings, bounds};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;

use crate::bpf::{Acceleration as Accelerates, Kernel, LoadOptions};
use crate::capture::cgroup::own_id;
use crate::capture::{FirstLook, Surroundings};
use crate::cli::{Acceleration, RunArgs, UnknownPods};
use crate::metrics::traffic::Traffic;
use crate::model::Snapshot;
use crate::net;
use crate::proxy::{self, Proxy};
use crate::report::{Cluster, Identity, Report};

use super::adapters::PodNetns;
use super::assemble::Parts;
use super::handover::{self, Claim};
use super::steering::{self, Told};
use super::{Error, STALE_AFTER, readiness};

/// Age at which a destination that nobody accepted is swept.
const FLOW_LIMIT: Duration = Duration::from_secs(60);
/// Time between sweeps.
const SWEEP: Duration = Duration::from_secs(15);

/// From when the agent serves until what its start has touched is forgotten: the pods that were there
/// are enrolled by then.
const START_OVER: Duration = Duration::from_secs(2);

/// Between two looks at whether the process has grown.
const HEAP_LOOKS: Duration = Duration::from_secs(1);

/// How long the programs are timed, and then not: what timing costs is paid one second in thirty.
const TIMED: Duration = Duration::from_secs(1);
const UNTIMED: Duration = Duration::from_secs(29);

/// Time for the pods that were there at the start, from when the sources are read on.
const DECIDE_LIMIT: Duration = Duration::from_secs(30);

/// Finds out which network namespaces are no pod's.
pub(super) fn look_around(root: &Path) -> Result<Surroundings, Error> {
    Surroundings::look(root).map_err(|source| Error::System {
        action: "open the agent's own network namespace",
        source,
    })
}

/// Loads the programs, on the predecessor's maps if there is one, and tells them about the agent.
pub(super) fn load_kernel(
    args: &RunArgs,
    around: &Surroundings,
    claim: &Claim,
) -> Result<Arc<Kernel>, Error> {
    let options = LoadOptions {
        object: args.bpf_object.clone(),
        log_level: LevelFilter::current(),
        accelerated: match args.acceleration {
            Acceleration::Off => 0,
            Acceleration::OptIn | Acceleration::On => bounds::CREDITS,
        },
    };
    let kernel = match claim {
        Claim::Free(_) => Kernel::load(&options)?,
        Claim::Offered(offered) => {
            let kernel = Kernel::load_sharing(&options, &offered.maps);
            let kernel = kernel.map_err(handover::Error::from)?;
            // The predecessor's connections to endpoints go on while it drains.
            for id in &offered.cgroups {
                kernel.add_agent_cgroup(*id)?;
            }
            kernel
        }
    };
    // Unknown to the map is at first every pod.
    kernel.configure(settings(args, around.node().cookie(), false))?;
    kernel.add_agent_cgroup(own_id()?)?;
    Ok(Arc::new(kernel))
}

fn settings(args: &RunArgs, node_netns_cookie: u64, refuse_unknown: bool) -> Settings {
    let stale_after_ns = u64::try_from(STALE_AFTER.as_nanos()).unwrap_or(u64::MAX);
    Settings::new(
        node_netns_cookie,
        args.workers,
        stale_after_ns,
        refuse_unknown,
    )
}

/// Refuses what unknown pods connect to, if so asked, once all sources are read and the pods that
/// were there are decided: these had their connections before this agent came.
pub(super) async fn refuse_unknown(
    parts: Arc<Parts>,
    node_netns_cookie: u64,
    all_read: CancellationToken,
    first_look: FirstLook,
) {
    if parts.args.unknown_pods != UnknownPods::Refuse {
        return;
    }
    all_read.cancelled().await;
    let mut snapshots = parts.snapshots.clone();
    let decided = timeout(DECIDE_LIMIT, first_look.all_decided(&mut snapshots)).await;
    if decided.is_err() {
        let pods = first_look.undecided().join(", ");
        tracing::warn!(
            pods,
            "pods that were there are not enrolled yet: refused until they are"
        );
    }
    match parts
        .kernel
        .configure(settings(&parts.args, node_netns_cookie, true))
    {
        Ok(()) => tracing::info!("connections of unknown pods are refused from now on"),
        Err(error) => tracing::error!(%error, "connections of unknown pods pass"),
    }
}

/// Starts the workers.
pub(super) fn start_proxy(
    args: &RunArgs,
    kernel: &Kernel,
    traffic: &Arc<Traffic>,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    acceleration: Option<&Arc<Accelerates>>,
) -> Result<Arc<Proxy>, Error> {
    let heartbeats = (0..args.workers).map(|worker| kernel.heartbeat(worker));
    let options = proxy::Options {
        heartbeats: heartbeats.collect::<Result<_, _>>()?,
        flows: kernel.orig_dst(),
        acceleration: acceleration.cloned(),
        traffic: Arc::clone(traffic),
        seed: args.balance_seed.map_or_else(random_seed, Ok)?,
    };
    Ok(Arc::new(Proxy::start(options, snapshots)?))
}

fn random_seed() -> Result<u64, Error> {
    let mut seed = [0; 8];
    let read = File::open("/dev/urandom")
        .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut seed));
    read.map_err(|source| Error::System {
        action: "read /dev/urandom",
        source,
    })?;
    Ok(u64::from_ne_bytes(seed))
}

/// Writes to the API server where there is one, until `stop`.
pub(super) fn spawn_reports(
    cluster: Option<Cluster>,
    parts: &Parts,
    stop: &CancellationToken,
) -> Option<JoinHandle<()>> {
    let report = Report {
        cluster: cluster?,
        snapshots: parts.snapshots.clone(),
        capture: parts.capture.clone(),
        identity: Identity::of(&parts.args.node_name),
        lease: parts.lease.clone(),
    };
    Some(tokio::spawn(report.run(stop.clone())))
}

/// Waits until the office of the one that writes for all is given up, if this agent has it.
pub(super) async fn end_reports(reports: Option<JoinHandle<()>>) {
    if let Some(reports) = reports
        && let Err(error) = reports.await
    {
        tracing::error!(%error, "what is written to the API server did not end in order");
    }
}

/// Ends connections to endpoints that are gone, in the pods that are in what is answered.
pub(super) fn spawn_closing(told: Told, parts: &Parts, stop: &CancellationToken) -> PodNetns {
    let pods = PodNetns::default();
    let (kernel, snapshots) = (Arc::clone(&parts.kernel), parts.snapshots.clone());
    let closing = steering::close_stale(told, kernel, pods.clone(), snapshots, stop.clone());
    tokio::spawn(closing);
    pods
}

/// Times the programs a part of the time, until `stop`.
async fn time_programs(kernel: Arc<Kernel>, stop: CancellationToken) {
    loop {
        match kernel.time_programs() {
            Ok(timing) => {
                let timed = stop.run_until_cancelled(sleep(TIMED)).await;
                drop(timing);
                if timed.is_none() {
                    return;
                }
            }
            Err(error) => return tracing::debug!(%error, "the programs are not timed"),
        }
        if stop.run_until_cancelled(sleep(UNTIMED)).await.is_none() {
            return;
        }
    }
}

/// Once the start is over, gives back what it has touched of the program; and from then on heap memory that
/// is free, until `stop`.
async fn give_memory_back(stop: CancellationToken) {
    if stop.run_until_cancelled(sleep(START_OVER)).await.is_none() {
        return;
    }
    match net::forget_code() {
        Ok(bytes) => tracing::debug!(bytes, "code that the start has touched is forgotten"),
        Err(error) => tracing::debug!(%error, "code that the start has touched stays resident"),
    }
    let mut heap = net::Heap::default();
    let mut look = interval(HEAP_LOOKS);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(look.tick()).await.is_some() {
        let begun = Instant::now();
        match heap.give_back() {
            Ok(Some(bytes)) => {
                tracing::debug!(bytes, took = ?begun.elapsed(), "free memory is given back");
            }
            Ok(None) => {}
            Err(error) => return tracing::debug!(%error, "free memory stays with the process"),
        }
    }
}

/// Starts the tasks that only watch over the others.
pub(super) fn spawn_upkeep(parts: &Arc<Parts>, stop: &CancellationToken) {
    tokio::spawn(readiness::log(Arc::clone(parts), stop.clone()));
    let kernel = &parts.kernel;
    if let Some(log) = kernel.take_log() {
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(log.pump()).await });
    }
    tokio::spawn(time_programs(Arc::clone(kernel), stop.clone()));
    tokio::spawn(give_memory_back(stop.clone()));
    let kernel = Arc::clone(kernel);
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(sweep.tick()).await.is_some() {
            match kernel.sweep_flows(FLOW_LIMIT) {
                Ok(0) => {}
                Ok(swept) => tracing::warn!(swept, "connections that were never accepted"),
                Err(error) => tracing::error!(%error, "flows cannot be swept"),
            }
            match kernel.sweep_direct() {
                Ok(swept) => tracing::trace!(?swept, "direct connections' remains"),
                Err(error) => tracing::error!(%error, "what is over cannot be swept"),
            }
        }
    });
}
