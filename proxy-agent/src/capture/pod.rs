//! One pod, from the appearance of its cgroup to its removal.
//!
//! Level-triggered: every step looks at the processes, the namespace and the decision as they are
//! now and does what is missing. A process that vanishes in between means looking again.

mod backoff;
mod claims;
mod enrolment;
mod locate;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::model::{CaptureDecision, NotCaptured, Snapshot};
use crate::net::ListenError;
use crate::status::PodStatus;

use super::first_look::FirstLook;
use super::inherited::Inherited;
use super::report::CaptureStatus;
use super::seams::{BoxError, Enrol, Serve};
use super::surroundings::Surroundings;

use self::backoff::Backoff;
use self::enrolment::{ACK_LIMIT, Held};
use self::locate::Located;

pub(super) use self::claims::Claims;

/// What all pods share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) workers: usize,
    pub(super) surroundings: Surroundings,
    pub(super) enrol: Arc<dyn Enrol>,
    pub(super) serve: Arc<dyn Serve>,
    pub(super) status: CaptureStatus,
    pub(super) inherited: Inherited,
    pub(super) first_look: FirstLook,
    pub(super) claims: Claims,
    /// The agent stops: take the entries out of the map and leave the listeners to the proxy.
    pub(super) leave: CancellationToken,
}

/// Why a step could not be finished. It is tried again.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("netns-unreadable: cannot open the network namespace of pid {pid}")]
    Netns { pid: u32, source: std::io::Error },
    #[error("netns-shared: pod {other} has the same network namespace")]
    Shared { other: Arc<str> },
    #[error("{}", .0.reason())]
    Listen(#[source] ListenError),
    #[error("map-refused: the PODS map does not take the entry")]
    Map(#[source] BoxError),
    #[error("not-served: the proxy does not take the listeners")]
    Serve(#[source] BoxError),
    #[error("not-served: the proxy did not answer within {ACK_LIMIT:?}")]
    Silent,
}

/// How far a step came.
enum Step {
    /// Nothing to do until something changes.
    Settled,
    /// Something is about to change without an event.
    Unsettled,
}

/// The task of one pod.
pub(super) struct PodTask {
    context: Arc<Context>,
    uid: Arc<str>,
    dir: PathBuf,
    cgroup: String,
    snapshots: Receiver<Arc<Snapshot>>,
    held: Option<Held>,
    /// Since when it could have been captured: the last look that found its first process still in the
    /// node's network namespace, the first one that found a process at all, or the decision to
    /// capture, whichever was last.
    since: Option<Instant>,
    enrolment_us: u64,
}

impl PodTask {
    pub(super) fn new(
        context: Arc<Context>,
        uid: Arc<str>,
        dir: PathBuf,
        cgroup: String,
        snapshots: Receiver<Arc<Snapshot>>,
    ) -> Self {
        Self {
            context,
            uid,
            dir,
            cgroup,
            snapshots,
            held: None,
            since: None,
            enrolment_us: 0,
        }
    }

    /// Follows the pod until `gone`, or until the agent leaves.
    pub(super) async fn run(
        mut self,
        predecessor: Option<JoinHandle<()>>,
        kick: Arc<Notify>,
        gone: CancellationToken,
    ) {
        if let Some(predecessor) = predecessor {
            // Its panic has been reported by the runtime; this pod goes on all the same.
            let _ended = predecessor.await;
        }
        let context = Arc::clone(&self.context);
        let mut backoff = Backoff::new();
        let mut before = None;
        loop {
            let (decision, addresses) = self.wanted();
            if before.replace(decision) != Some(decision) {
                self.since = self.since.map(|_earlier| Instant::now());
            }
            // The proxy may keep a step waiting; the agent's end does not wait with it.
            let Some(done) = context.leave.run_until_cancelled(self.step(decision)).await else {
                return self.leave();
            };
            let again = match done {
                Ok(Step::Settled) => {
                    context.inherited.settle(&self.uid);
                    if decision.is_some() {
                        context.first_look.decided(&self.uid);
                    }
                    None
                }
                Ok(Step::Unsettled) => Some(backoff.next()),
                Err(fault) => {
                    context.first_look.decided(&self.uid);
                    self.report(&fault, &backoff);
                    Some(backoff.next())
                }
            };
            tokio::select! {
                () = context.leave.cancelled() => return self.leave(),
                () = gone.cancelled() => break,
                () = kick.notified() => backoff = Backoff::new(),
                () = self.other_than(decision, &addresses) => backoff = Backoff::new(),
                () = sleep_or_never(again) => {}
            }
        }
        self.release().await;
        self.context.inherited.settle(&self.uid);
        self.context.first_look.decided(&self.uid);
        self.context.status.forget(&self.uid);
    }

    /// What is decided about the pod, and which addresses it has.
    fn wanted(&mut self) -> (Option<CaptureDecision>, Vec<IpAddr>) {
        let snapshot = self.snapshots.borrow_and_update();
        let pod = snapshot.pods.get(&self.uid);
        let addresses = pod.map(|pod| pod.ips.clone()).unwrap_or_default();
        (pod.map(|pod| pod.capture), addresses)
    }

    /// Returns when anything is wanted that was not.
    async fn other_than(&mut self, decision: Option<CaptureDecision>, addresses: &[IpAddr]) {
        loop {
            if self.snapshots.changed().await.is_err() {
                // The sources have ended; the last decision stays.
                std::future::pending::<()>().await;
            }
            let wanted = self.wanted();
            if wanted.0 != decision || wanted.1 != addresses {
                return;
            }
        }
    }

    async fn step(&mut self, decision: Option<CaptureDecision>) -> Result<Step, Fault> {
        if decision == Some(CaptureDecision::LeaveAlone(NotCaptured::HostNetwork)) {
            return Ok(self.stand_by(NotCaptured::HostNetwork.name()).await);
        }
        let located = self.locate()?;
        match &located {
            Located::Empty => self.since = None,
            Located::Node => self.since = Some(Instant::now()),
            Located::Held
            | Located::New(_)
            | Located::Own
            | Located::Hidden
            | Located::Fleeting => {
                self.since.get_or_insert_with(Instant::now);
            }
        }
        match located {
            Located::Held => {}
            Located::New(netns) => {
                self.release().await;
                self.hold(netns)?;
            }
            Located::Own => return Ok(self.stand_by("own-netns: the agent's own pod").await),
            Located::Empty => return Ok(self.stand_by("waiting: it has no process yet").await),
            Located::Node => {
                self.stand_by("waiting: its process is still in the node's network namespace")
                    .await;
                return Ok(Step::Unsettled);
            }
            Located::Hidden => {
                let reason = "hidden: its processes are not visible; run the agent with hostPID";
                return Ok(self.stand_by(reason).await);
            }
            Located::Fleeting => {
                if self.held.is_none() {
                    self.publish("waiting: its processes come and go");
                }
                return Ok(Step::Unsettled);
            }
        }
        self.apply(decision).await?;
        Ok(Step::Settled)
    }

    /// The agent stops: connections must no longer be steered to listeners that will close.
    fn leave(mut self) {
        if let Err(fault) = self.withdraw() {
            error!(pod = %self.uid, error = chain(&fault), "a PODS entry stays until the exit");
        }
        self.publish("draining: the agent is stopping");
    }

    async fn stand_by(&mut self, reason: &str) -> Step {
        self.release().await;
        self.publish(reason);
        Step::Settled
    }

    /// Publishes why a step failed. Only what lasts is worth a line in the log.
    fn report(&self, fault: &Fault, backoff: &Backoff) {
        let reason = chain(fault);
        self.publish(&reason);
        if backoff.is_late() {
            warn!(pod = %self.uid, reason, "a pod cannot be enrolled");
        }
    }

    fn publish(&self, reason: &str) {
        let pod = self.snapshots.borrow().pods.get(&self.uid).cloned();
        let (namespace, name) = pod.map_or_else(Default::default, |pod| {
            (pod.namespace.to_string(), pod.name.to_string())
        });
        let captured = self.is_captured();
        let serving = self.held.as_ref().and_then(|held| held.serving.as_ref());
        let listeners: Vec<_> = serving
            .iter()
            .flat_map(|serving| serving.addresses.iter().map(SocketAddr::to_string))
            .collect();
        let netns_cookie = self.held.as_ref().map_or(0, |held| held.netns.cookie());
        let is_news = self.context.status.publish(
            &self.uid,
            PodStatus {
                namespace: namespace.clone(),
                name: name.clone(),
                uid: self.uid.to_string(),
                captured,
                reason: reason.to_owned(),
                listeners: listeners.clone(),
                netns_cookie,
                cgroup: self.cgroup.clone(),
                enrolment_us: if captured { self.enrolment_us } else { 0 },
                ..PodStatus::default()
            },
        );
        if is_news && captured {
            let (uid, took_us) = (&self.uid, self.enrolment_us);
            info!(namespace, name, %uid, netns_cookie, ?listeners, took_us, "pod captured");
        } else if is_news {
            debug!(namespace, name, uid = %self.uid, reason, "pod not captured");
        }
    }
}

async fn sleep_or_never(after: Option<Duration>) {
    match after {
        Some(after) => sleep(after).await,
        None => std::future::pending().await,
    }
}

/// An error with its sources, on one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line = format!("{line}: {error}");
        source = error.source();
    }
    line
}
