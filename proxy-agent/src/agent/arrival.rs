//! The last steps to serving the node, whether it was free or is another agent's; and the first
//! towards giving it to the next.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, SocketFile, Views};
use crate::bpf::Kernel;
use crate::capture::Inherited;
use crate::capture::cgroup::{RootError, RootLock, own_id};
use crate::proxy::Proxy;

use super::handover::{self, Claim, Entrance, Giver, Offered, Predecessor, Successor};
use super::phase::{Phase, State};
use super::surface::Surface;
use super::{CaptureTask, Error};

/// Attempts at the lock of an agent that ended in the middle of a handover, and the pause between.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How long the start waits for the first read of the sources before it goes on with what is there.
const SYNC_LIMIT: Duration = Duration::from_secs(10);
/// The same where another agent serves, which has read them: it goes on if this one cannot. Below
/// the time that it waits.
const SUCCESSOR_SYNC_LIMIT: Duration = Duration::from_secs(100);

/// A bound socket and its file.
type Socket = (UnixListener, SocketFile);

/// An agent that may answer, and does not serve yet.
pub(super) struct Arrival {
    claim: Claim,
    surface: Surface,
    /// The admin socket and the handover socket where another agent has its own, to be put in
    /// their places.
    sockets: Option<[Socket; 2]>,
    address_is_shared: bool,
    admin_socket: PathBuf,
}

/// An agent that serves.
pub(super) struct Settled {
    pub(super) lock: RootLock,
    pub(super) surface: Surface,
    pub(super) giving: Giving,
    pub(super) capture: CaptureTask,
}

impl Entrance {
    pub(super) fn phase(&self) -> Phase {
        let phase = Phase::default();
        if let Claim::Offered(offered) = &self.claim {
            phase.set(State::TakingOver(offered.holder.clone()));
        }
        phase
    }
}

impl Arrival {
    /// Whether another agent serves the node until this one does.
    pub(super) const fn follows(&self) -> bool {
        matches!(self.claim, Claim::Offered(_))
    }

    /// Answers where no other agent does.
    pub(super) async fn open(
        entrance: Entrance,
        admin_socket: &Path,
        views: Views,
    ) -> Result<Self, Error> {
        let surface = Surface::new(entrance.address, views);
        if !entrance.address_is_shared {
            surface.answer_on_address()?;
        }
        let sockets = match &entrance.claim {
            Claim::Free(_) => {
                let (listener, file) = admin::bind_socket(admin_socket).await?;
                surface.answer_on_socket(listener, file);
                None
            }
            Claim::Offered(_) => Some([
                admin::prepare_socket(admin_socket)?,
                admin::prepare_socket(&handover::path(admin_socket))?,
            ]),
        };
        Ok(Self {
            claim: entrance.claim,
            surface,
            sockets,
            address_is_shared: entrance.address_is_shared,
            admin_socket: admin_socket.to_owned(),
        })
    }

    /// Returns when the sources' first read has taken too long.
    ///
    /// # Errors
    ///
    /// Another agent serves: it is not to be replaced by one that knows less. On a free node,
    /// little is better than nothing.
    pub(super) async fn patience(&self) -> Result<(), Error> {
        match &self.claim {
            Claim::Free(_) => {
                sleep(SYNC_LIMIT).await;
                Ok(())
            }
            Claim::Offered(offered) => Ok(patience_beside(offered.gone()).await?),
        }
    }

    /// Gets hold of the hooks, and serves until `leave`. Capture starts when the listeners that it
    /// is to use are there; where another agent serves, before the hooks change hands.
    pub(super) async fn settle(
        self,
        root: &Path,
        kernel: &Arc<Kernel>,
        proxy: &Arc<Proxy>,
        leave: &CancellationToken,
        start_capture: impl FnOnce(Inherited) -> CaptureTask,
    ) -> Result<Settled, Error> {
        let Self {
            claim,
            surface,
            sockets,
            address_is_shared,
            admin_socket,
        } = self;
        let offered = match claim {
            Claim::Free(lock) => Err(lock),
            Claim::Offered(offered) => take(*offered, root).await?,
        };
        let (lock, capture) = match offered {
            Err(lock) => {
                kernel.attach(lock.directory().as_fd())?;
                proxy.begin();
                (lock, start_capture(Inherited::default()))
            }
            Ok((estate, cgroups)) => {
                let capture = start_capture(estate.inherited.clone());
                let (lock, predecessor) = estate.switch(kernel, address_is_shared).await?;
                proxy.begin();
                let (kernel, leave) = (Arc::clone(kernel), leave.clone());
                tokio::spawn(forget(predecessor, cgroups, kernel, leave));
                (lock, capture)
            }
        };
        if address_is_shared {
            surface.answer_on_address()?;
        }
        let handover_socket = handover::path(&admin_socket);
        let (listener, file) = match sockets {
            None => admin::bind_socket(&handover_socket).await?,
            Some([(listener, file), (handover, handover_file)]) => {
                surface.answer_on_socket(listener, file.place(&admin_socket)?);
                (handover, handover_file.place(&handover_socket)?)
            }
        };
        let system = |source| Error::System {
            action: "keep what a successor will need",
            source,
        };
        let giving = Giving::start(Giver {
            listener,
            file,
            lock: lock.directory().try_clone().map_err(system)?,
            address: surface.lend_address().map_err(system)?,
            kernel: Arc::clone(kernel),
            proxy: Arc::clone(proxy),
        });
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");
        Ok(Settled {
            lock,
            surface,
            giving,
            capture,
        })
    }
}

/// [`Arrival::patience`] of an agent that is to follow another one, which may be `gone` before.
async fn patience_beside(gone: impl Future<Output = ()>) -> Result<(), handover::Error> {
    let nobody_serves = async {
        tokio::join!(gone, sleep(SYNC_LIMIT));
    };
    let alone = timeout(SUCCESSOR_SYNC_LIMIT, nobody_serves).await;
    alone.map_err(|_elapsed| handover::Error::Unread)
}

type Taken = Result<(handover::Estate, Vec<u64>), RootLock>;

/// Takes what was offered; or the free node, if the other agent has ended meanwhile.
async fn take(offered: Offered, root: &Path) -> Result<Taken, Error> {
    let cgroups = offered.cgroups.clone();
    let error = match offered.take(root).await {
        Ok(estate) => return Ok(Ok((estate, cgroups))),
        Err(error) => error,
    };
    tracing::warn!(%error, "the other agent hands nothing over; looking whether the node is free");
    for _attempt in 0..LOCK_ATTEMPTS {
        match RootLock::take(root) {
            Ok(lock) => return Ok(Err(lock)),
            Err(RootError::Locked { .. }) => sleep(LOCK_PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(error.into())
}

/// Captures the predecessor's sockets again when it has ended: its cgroup may become a pod's. At
/// `leave` it lets go of the predecessor instead, which then knows that nobody serves any more.
async fn forget(
    predecessor: Predecessor,
    cgroups: Vec<u64>,
    kernel: Arc<Kernel>,
    leave: CancellationToken,
) {
    if leave
        .run_until_cancelled(predecessor.gone())
        .await
        .is_none()
    {
        return;
    }
    let own = own_id().ok();
    for id in cgroups.into_iter().filter(|id| Some(*id) != own) {
        if let Err(error) = kernel.remove_agent_cgroup(id) {
            tracing::warn!(%error, id, "a former agent's cgroup stays exempt");
        }
    }
}

/// The task that waits for a successor.
#[derive(Debug)]
pub(super) struct Giving {
    stop: CancellationToken,
    /// `None` when it has ended.
    task: Option<JoinHandle<Option<Successor>>>,
}

impl Giving {
    fn start(giver: Giver) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(giver.run(stop.clone()));
        Self {
            stop,
            task: Some(task),
        }
    }

    /// Waits until a successor serves the node. Cancel-safe.
    pub(super) async fn given(&mut self) -> Successor {
        let given = match &mut self.task {
            Some(task) => task.await,
            None => return std::future::pending().await,
        };
        self.task = None;
        match given {
            Ok(Some(successor)) => return successor,
            // Only `end` stops it.
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "no successor can take over any more"),
        }
        std::future::pending().await
    }

    /// Gives nothing from now on; a handover that is under way is finished first, and its
    /// successor is the answer.
    pub(super) async fn end(&mut self) -> Option<Successor> {
        self.stop.cancel();
        self.task.take()?.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_successor_whose_predecessor_has_gone_waits_no_longer_than_on_a_free_node() {
        for (gone_after_s, waited_s) in [(0, 10), (9, 10), (50, 50)] {
            let begun = Instant::now();
            let patience = patience_beside(sleep(Duration::from_secs(gone_after_s)));

            patience.await.unwrap();

            assert_eq!(
                begun.elapsed().as_secs(),
                waited_s,
                "gone after {gone_after_s} s"
            );
        }
        let begun = Instant::now();
        let beside_one_that_serves = patience_beside(pending()).await;
        assert!(matches!(
            beside_one_that_serves,
            Err(handover::Error::Unread)
        ));
        assert_eq!(begun.elapsed(), SUCCESSOR_SYNC_LIMIT);
    }
}
