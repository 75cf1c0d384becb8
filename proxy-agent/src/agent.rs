//! `run`: starts everything in order, keeps it going, and stops in the reverse order.

mod adapters;
mod assemble;
mod lapse;
mod problem_log;
mod readiness;
mod sources;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proxy_ebpf::Settings;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;

use crate::admin;
use crate::bpf::{Kernel, LoadOptions};
use crate::capture::cgroup::{RootLock, find_root, own_id};
use crate::capture::{Capture, CaptureStatus, Surroundings};
use crate::cli::{RunArgs, UnknownPods};
use crate::metrics::traffic::Traffic;
use crate::model::Snapshot;
use crate::net;
use crate::proxy::{self, Proxy};

use adapters::{EnrolKernel, ServeProxy};
use assemble::Parts;
use sources::Sources;

/// Age of the oldest heartbeat from which the hooks pass connections through.
pub const STALE_AFTER: Duration = Duration::from_secs(3);
/// Age at which a destination that nobody accepted is swept.
const FLOW_LIMIT: Duration = Duration::from_secs(60);
/// Time between sweeps.
const FLOW_SWEEP: Duration = Duration::from_secs(15);

/// Why the agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup tree is not there or another agent serves it.
    #[error(transparent)]
    CgroupRoot(#[from] crate::capture::cgroup::RootError),
    /// The kernel side.
    #[error("the eBPF programs cannot be used; `proxy-agent check` says what is missing")]
    Kernel(#[from] crate::bpf::Error),
    /// The admin sockets.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// The workers.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// The configuration's source.
    #[error(transparent)]
    Source(#[from] sources::Error),
    /// Following the pods failed.
    #[error(transparent)]
    Capture(#[from] crate::capture::Error),
    /// The system refused something small.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}

/// Runs the agent until SIGTERM or SIGINT, and drains.
///
/// # Errors
///
/// When it cannot start, or capture fails for good; nothing stays attached then.
pub async fn run(args: RunArgs) -> Result<(), Error> {
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let (agent, mut capture) = Agent::start(args).await?;
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut capture => Some(ended),
    };
    let drained = tokio::select! {
        drained = agent.drain(ended.is_none().then_some(capture)) => drained,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    if !drained {
        tracing::warn!("connections were cut: the drain timeout passed or a second signal came");
    }
    match ended {
        Some(Ok(result)) => result.map_err(Error::from),
        Some(Err(error)) => Err(Error::System {
            action: "follow the pods",
            source: std::io::Error::other(error),
        }),
        None => Ok(()),
    }
}

type CaptureTask = JoinHandle<Result<(), crate::capture::Error>>;

/// The running agent.
struct Agent {
    kernel: Arc<Kernel>,
    proxy: Arc<Proxy>,
    draining: Arc<AtomicBool>,
    stop_capture: CancellationToken,
    stop_rest: CancellationToken,
    admin: JoinHandle<()>,
    drain_timeout: Duration,
    _lock: RootLock,
}

impl Agent {
    /// Starts from the outside in: the admin surface says why it is not ready yet, the workers run
    /// before a hook sends them anything, and pods are enrolled last.
    async fn start(args: RunArgs) -> Result<(Self, CaptureTask), Error> {
        if let Err(error) = net::raise_nofile() {
            tracing::warn!(%error, "the limit on open files stays low");
        }
        let root = find_root(args.cgroup_root.as_deref())?;
        let lock = RootLock::take(&root)?;
        let server = bind_admin(&args).await?;
        let stop_rest = CancellationToken::new();
        let surroundings = Surroundings::look(&root).map_err(|source| Error::System {
            action: "open the agent's own network namespace",
            source,
        })?;
        let kernel = load_kernel(&args, &surroundings)?;
        let traffic = Arc::new(Traffic::new());
        let mut sources = Sources::start(&args)?;
        let (publish, snapshots) = watch::channel(Arc::new(Snapshot::empty()));
        let proxy = start_proxy(&args, &kernel, &traffic, &snapshots)?;
        let capture_status = CaptureStatus::default();
        let parts = Arc::new(Parts {
            started: Instant::now(),
            args: args.clone(),
            root: root.clone(),
            kernel: Arc::clone(&kernel),
            traffic,
            capture: capture_status.clone(),
            snapshots: snapshots.clone(),
            sources: sources.statuses(),
            draining: Arc::default(),
        });
        let admin = tokio::spawn(server.run(Arc::new(assemble::views(&parts)), stop_rest.clone()));
        sources.first_sync(&publish, &kernel).await;
        kernel.attach(lock.directory().as_fd())?;
        tokio::spawn(sources.follow(publish, Arc::clone(&kernel), stop_rest.clone()));
        spawn_upkeep(&kernel, &stop_rest);
        tokio::spawn(readiness::log(Arc::clone(&parts), stop_rest.clone()));
        let stop_capture = CancellationToken::new();
        let capture = Capture {
            root,
            workers: proxy.workers(),
            surroundings,
            enrol: Arc::new(EnrolKernel(Arc::clone(&kernel))),
            serve: Arc::new(ServeProxy(Arc::clone(&proxy))),
            status: capture_status,
        };
        let capture = tokio::spawn(capture.run(snapshots, stop_capture.clone()));
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");
        let agent = Self {
            kernel,
            proxy,
            draining: Arc::clone(&parts.draining),
            stop_capture,
            stop_rest,
            admin,
            drain_timeout: args.drain_timeout,
            _lock: lock,
        };
        Ok((agent, capture))
    }

    /// Leaves without a refusal: the hooks first, then the pods' entries, then the listeners, then
    /// the connections. Returns whether all of them ended in time.
    async fn drain(self, capture: Option<CaptureTask>) -> bool {
        tracing::info!(timeout = ?self.drain_timeout, "draining");
        self.draining.store(true, Ordering::Relaxed);
        self.kernel.detach();
        self.stop_capture.cancel();
        if let Some(capture) = capture
            && let Err(error) = capture.await
        {
            tracing::error!(%error, "capture did not end in order");
        }
        let drained = timeout(self.drain_timeout, self.proxy.drain()).await;
        self.stop_rest.cancel();
        if let Err(error) = self.admin.await {
            tracing::error!(%error, "the admin server did not end in order");
        }
        drained.is_ok()
    }
}

fn on(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|source| Error::System {
        action: "listen for signals",
        source,
    })
}

async fn bind_admin(args: &RunArgs) -> Result<admin::Server, admin::Error> {
    admin::Server::bind(admin::Options {
        socket: args.admin_socket.clone(),
        address: args.admin_address,
    })
    .await
}

fn load_kernel(args: &RunArgs, around: &Surroundings) -> Result<Arc<Kernel>, Error> {
    let kernel = Kernel::load(&LoadOptions {
        object: args.bpf_object.clone(),
        log_level: LevelFilter::current(),
    })?;
    let stale_after_ns = u64::try_from(STALE_AFTER.as_nanos()).unwrap_or(u64::MAX);
    let refuse_unknown = args.unknown_pods == UnknownPods::Refuse;
    kernel.configure(Settings::new(
        around.node().cookie(),
        args.workers,
        stale_after_ns,
        refuse_unknown,
    ))?;
    kernel.add_agent_cgroup(own_id()?)?;
    Ok(Arc::new(kernel))
}

fn start_proxy(
    args: &RunArgs,
    kernel: &Kernel,
    traffic: &Arc<Traffic>,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
) -> Result<Arc<Proxy>, Error> {
    let heartbeats = (0..args.workers).map(|worker| kernel.heartbeat(worker));
    let options = proxy::Options {
        heartbeats: heartbeats.collect::<Result<_, _>>()?,
        flows: kernel.orig_dst(),
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

/// Tasks that only watch over the kernel side.
fn spawn_upkeep(kernel: &Arc<Kernel>, stop: &CancellationToken) {
    if let Some(log) = kernel.take_log() {
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(log.pump()).await });
    }
    let kernel = Arc::clone(kernel);
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut sweep = interval(FLOW_SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(sweep.tick()).await.is_some() {
            match kernel.sweep_flows(FLOW_LIMIT) {
                Ok(0) => {}
                Ok(swept) => tracing::warn!(swept, "connections that were never accepted"),
                Err(error) => tracing::error!(%error, "flows cannot be swept"),
            }
        }
    });
}
