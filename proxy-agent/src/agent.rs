//! `run`: starts everything in order, keeps it going, and stops in the reverse order.

mod acceleration;
mod adapters;
mod arrival;
mod assemble;
mod build;
pub mod handover;
mod lapse;
mod phase;
mod problem_log;
mod readiness;
mod signals;
mod sources;
mod steering;
mod surface;
mod tables;
mod vacancy;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::bpf::Kernel;
use crate::capture::cgroup::{RootLock, find_root};
use crate::capture::{Capture, CaptureStatus, FirstLook};
use crate::cli::RunArgs;
use crate::metrics::traffic::Traffic;
use crate::model::Snapshot;
use crate::net;
use crate::proxy::{self, Proxy};
use crate::report::LeaseView;

use acceleration::Verdict;
use adapters::{EnrolKernel, ServeProxy};
use arrival::{Arrival, Giving};
use assemble::Parts;
use handover::Successor;
use phase::{Phase, State};
use signals::Signals;
use sources::Sources;
use steering::Gone;
use surface::Surface;

/// Age of the oldest heartbeat from which the hooks pass connections through.
pub const STALE_AFTER: Duration = Duration::from_secs(3);

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
    /// Another agent serves the node and could not be followed.
    #[error("the node cannot be taken over: start again")]
    Handover(#[from] handover::Error),
    /// The successor has ended, and nobody serves the node: whoever supervises this process is to
    /// start it again.
    #[error("{successor} took the node over and has ended: start again to serve it")]
    Abandoned {
        /// As the log names it.
        successor: String,
    },
    /// The system refused something small.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
}

/// Runs the agent until SIGTERM or SIGINT, and drains. Once another agent has taken the node over,
/// it drains at once, and waits for the signal to end, or for the other one's end.
///
/// # Errors
///
/// When it cannot start, capture fails for good, or the agent that took the node over has left it
/// without one; nothing stays attached then.
pub async fn run(args: RunArgs) -> Result<(), Error> {
    let mut signals = Signals::listen()?;
    if let Err(error) = net::raise_nofile() {
        tracing::warn!(%error, "the limit on open files stays low");
    }
    let started = tokio::select! {
        started = Agent::start(args) => started?,
        () = signals.next() => return Ok(()),
    };
    let (mut agent, mut capture) = started;
    let mut ended = None;
    let handed_over = tokio::select! {
        () = signals.next() => agent.giving.end().await.map(|to| (to, true)),
        result = &mut capture => {
            ended = Some(result);
            agent.giving.end().await.map(|to| (to, true))
        }
        to = agent.giving.given() => Some((to, false)),
    };
    let capture = ended.is_none().then_some(capture);
    let drained = match handed_over {
        Some((to, asked)) => agent.retire(to, capture, &mut signals, asked).await?,
        None => tokio::select! {
            drained = agent.drain(capture) => drained,
            () = signals.next() => false,
        },
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
    phase: Phase,
    stop_capture: CancellationToken,
    stop_rest: CancellationToken,
    surface: Surface,
    giving: Giving,
    drain_timeout: Duration,
    /// The cgroup that `lock` is on.
    root: PathBuf,
    /// What is written to the API server; it ends with `stop_capture`, for others to go on.
    reports: Option<JoinHandle<()>>,
    lock: RootLock,
}

impl Agent {
    /// Starts from the outside in: the admin surface says why it is not ready yet, the workers run
    /// before a hook sends them anything, and pods are enrolled last. Where another agent serves
    /// the node, it goes on until all of that is done.
    #[expect(
        clippy::too_many_lines,
        reason = "the order of the start is read from top to bottom"
    )]
    async fn start(args: RunArgs) -> Result<(Self, CaptureTask), Error> {
        let root = find_root(args.cgroup_root.as_deref())?;
        let entrance = handover::enter(&args, &root).await?;
        let surroundings = build::look_around(&root)?;
        let phase = entrance.phase();
        let kernel = build::load_kernel(&args, &surroundings, &entrance.claim)?;
        let acceleration = Verdict::of(&args, &kernel);
        let traffic = Arc::new(Traffic::new());
        let (gone, told) = Gone::channel();
        let mut sources = Sources::start(&args, acceleration.asked(), gone).await?;
        let (publish, snapshots) = watch::channel(Arc::new(Snapshot::empty()));
        let proxy =
            build::start_proxy(&args, &kernel, &traffic, &snapshots, acceleration.offered())?;
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
            ejections: sources.ejections(),
            phase: phase.clone(),
            acceleration: Arc::clone(&acceleration),
            lease: LeaseView::default(),
        });
        let arrival = Arrival::open(entrance, &args.admin_socket, assemble::views(&parts)).await?;
        let read = sources.first_sync(&publish, &kernel, arrival.patience());
        read.await?;
        let first = Arc::clone(&snapshots.borrow());
        acceleration.prepare(&first, arrival.follows()).await;
        let stop_rest = CancellationToken::new();
        let stop_capture = CancellationToken::new();
        let reports = build::spawn_reports(sources.cluster(), &parts, &stop_capture);
        let all_read = sources.all_read();
        tokio::spawn(sources.follow(publish, Arc::clone(&kernel), stop_rest.clone()));
        build::spawn_upkeep(&parts, &stop_rest);
        let pods = build::spawn_closing(told, &parts, &stop_rest);
        let first_look = FirstLook::default();
        let node = surroundings.node().cookie();
        let refusing =
            build::refuse_unknown(Arc::clone(&parts), node, all_read, first_look.clone());
        tokio::spawn(stop_capture.clone().run_until_cancelled_owned(refusing));
        let start_capture = |inherited| {
            let capture = Capture {
                root: root.clone(),
                workers: proxy.workers(),
                surroundings,
                enrol: Arc::new(EnrolKernel(acceleration)),
                serve: Arc::new(ServeProxy {
                    proxy: Arc::clone(&proxy),
                    pods,
                }),
                status: capture_status,
                inherited,
                first_look,
            };
            tokio::spawn(capture.run(snapshots, stop_capture.clone()))
        };
        let settled = arrival.settle(&root, &kernel, &proxy, &stop_capture, start_capture);
        let settled = settled.await?;
        phase.set(State::Serving);
        let agent = Self {
            kernel,
            proxy,
            phase,
            stop_capture,
            stop_rest,
            surface: settled.surface,
            giving: settled.giving,
            drain_timeout: args.drain_timeout,
            root,
            reports,
            lock: settled.lock,
        };
        Ok((agent, settled.capture))
    }

    /// Leaves without a refusal: the hooks first, then the pods' entries, then the listeners, then
    /// the connections. The node is free for another agent before these have ended. Returns
    /// whether all of them ended in time.
    async fn drain(self, capture: Option<CaptureTask>) -> bool {
        tracing::info!(timeout = ?self.drain_timeout, "draining");
        self.phase.set(State::Draining);
        self.kernel.detach();
        self.end_capture(capture).await;
        let lock = self.lock;
        let drained = timeout(self.drain_timeout, async {
            self.proxy.close().await;
            self.surface.give_socket_up().await;
            drop(lock);
            self.proxy.drain().await;
        });
        let drained = drained.await;
        self.stop_rest.cancel();
        build::end_reports(self.reports).await;
        self.surface.close().await;
        drained.is_ok()
    }

    /// Leaves the node to the successor, which has the hooks and the listeners, and drains what is
    /// open. It then waits for a signal, unless one has `asked` for the end already: whoever
    /// supervises this process would start it again. Returns whether all ended in time.
    ///
    /// # Errors
    ///
    /// Nobody serves the node any more: to be started again is what this process then is for.
    async fn retire(
        self,
        to: Successor,
        capture: Option<CaptureTask>,
        signals: &mut Signals,
        mut asked: bool,
    ) -> Result<bool, Error> {
        tracing::info!(successor = to.name, timeout = ?self.drain_timeout, "handed over; draining");
        self.phase.set(State::HandedOver(to.name.clone()));
        self.kernel.detach();
        if to.has_address {
            self.surface.give_address_up();
        }
        self.end_capture(capture).await;
        drop(self.lock);
        let drain = timeout(self.drain_timeout, self.proxy.drain());
        tokio::pin!(drain);
        let drained = loop {
            tokio::select! {
                drained = &mut drain => break drained.is_ok(),
                () = signals.next() => match asked {
                    true => break false,
                    false => asked = true,
                },
            }
        };
        self.stop_rest.cancel();
        build::end_reports(self.reports).await;
        tracing::info!(drained, "nothing is left to do here");
        let abandoned = !asked
            && tokio::select! {
                () = signals.next() => false,
                () = vacancy::of(&self.root, &to) => true,
            };
        self.surface.close().await;
        if abandoned {
            return Err(Error::Abandoned { successor: to.name });
        }
        Ok(drained)
    }

    async fn end_capture(&self, capture: Option<CaptureTask>) {
        self.stop_capture.cancel();
        if let Some(capture) = capture
            && let Err(error) = capture.await
        {
            tracing::error!(%error, "capture did not end in order");
        }
    }
}
