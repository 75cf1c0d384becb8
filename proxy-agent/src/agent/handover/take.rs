//! The successor's side: asks, prepares while the other agent serves, and takes the node.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proxy_ebpf::DESTINATIONS_LAYOUT;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::bpf::{Kernel, SharedMaps};
use crate::capture::Inherited;
use crate::capture::cgroup::{RootError, RootLock};
use crate::net::adopt_listeners;

use super::Error;
use super::wire::{Hello, Message, Offer, PROTOCOL, Peer, PodShare, unexpected};

/// Time for the other agent's answer; it serves one successor at a time.
const OFFER_LIMIT: Duration = Duration::from_secs(5);
/// Time for each message of the estate.
const ESTATE_LIMIT: Duration = Duration::from_secs(10);
/// Time for the pods' enrolment. What is not enrolled by then is captured when it is.
const ENROL_LIMIT: Duration = Duration::from_secs(10);
/// Time for the last word; the other agent has nothing to do for it.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);
/// Pauses between questions: doubled from the first, in which the lock is looked at, to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Why an agent that waits for another one is not ready. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Waiting(Arc<Mutex<String>>);

impl Waiting {
    /// One line.
    pub(in crate::agent) fn reason(&self) -> String {
        let reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone()
    }

    fn say(&self, reason: String) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != reason {
            tracing::warn!(reason, "not taking over yet");
            *last = reason;
        }
    }
}

/// How an agent comes to the node.
#[derive(Debug)]
pub(in crate::agent) enum Claim {
    /// Nobody serves it.
    Free(RootLock),
    /// Another agent does, and offers it.
    Offered(Box<Offered>),
}

/// What the predecessor has offered; it serves on.
#[derive(Debug)]
pub(in crate::agent) struct Offered {
    peer: Peer,
    /// For the log and for `status`.
    pub(in crate::agent) holder: String,
    /// To load the programs with.
    pub(in crate::agent) maps: SharedMaps,
    /// Sockets of these cgroups are not to be captured.
    pub(in crate::agent) cgroups: Vec<u64>,
    admin: (Option<SocketAddr>, OwnedFd),
}

/// Waits until the node is free or offered. `cgroup` is the id of the agent's own.
///
/// # Errors
///
/// Another agent has the node and no handover socket, or the root cannot be locked at all.
pub(in crate::agent) async fn claim(
    root: &Path,
    socket: &Path,
    cgroup: u64,
    waiting: &Waiting,
) -> Result<Claim, RootError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let locked = match RootLock::take(root) {
            Ok(lock) => return Ok(Claim::Free(lock)),
            Err(error @ RootError::Locked { .. }) => error,
            Err(error) => return Err(error),
        };
        match ask(socket, cgroup).await {
            Ok(offered) => return Ok(Claim::Offered(Box::new(offered))),
            Err(Error::Nobody { .. }) if waiting.reason().is_empty() => return Err(locked),
            Err(error) => {
                let error = anyhow::Error::from(error);
                waiting.say(format!("waiting: {locked}; {error:#}"));
            }
        }
        let again = Instant::now() + pause;
        pause = LONGEST_PAUSE.min(pause * 2);
        // The other agent is not asked so often; that it has left the node is seen at once.
        while Instant::now() < again {
            sleep(FIRST_PAUSE).await;
            match RootLock::take(root) {
                Ok(lock) => return Ok(Claim::Free(lock)),
                Err(RootError::Locked { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn ask(socket: &Path, cgroup: u64) -> Result<Offered, Error> {
    let stream = UnixStream::connect(socket).await.map_err(|source| {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        if matches!(source.kind(), ConnectionRefused | NotFound) {
            let path = socket.to_owned();
            return Error::Nobody { path };
        }
        Error::Io {
            action: "connect to the other agent",
            source,
        }
    })?;
    let peer = Peer::new(stream)?;
    let hello = Message::Hello(Hello {
        protocol: PROTOCOL,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        destinations: DESTINATIONS_LAYOUT,
        cgroup,
    });
    peer.say(&hello, &[]).await?;
    let (offer, mut files) = match peer.hear(OFFER_LIMIT).await? {
        (Message::Offer(offer), files) => (offer, files),
        (other, _) => return Err(unexpected(&other)),
    };
    let Offer {
        agent,
        cgroups,
        address,
    } = offer;
    let listener = files.pop().ok_or(Error::Gone)?;
    Ok(Offered {
        holder: peer.name(&agent),
        maps: SharedMaps::check(files)?,
        cgroups,
        admin: (address, listener),
        peer,
    })
}

impl Offered {
    /// The predecessor's listener on an admin address, if it has that address.
    pub(in crate::agent) fn admin_listener(
        &self,
        wanted: SocketAddr,
    ) -> io::Result<Option<TcpListener>> {
        let (address, listener) = &self.admin;
        if *address != Some(wanted) {
            return Ok(None);
        }
        Ok(Some(listener.try_clone()?.into()))
    }

    /// Returns when the predecessor has ended, or hands nothing over any more.
    pub(in crate::agent) async fn gone(&self) {
        self.peer.gone().await;
    }

    /// Takes everything else. The predecessor serves on, but will not be asked again.
    ///
    /// # Errors
    ///
    /// The predecessor would not, or is gone: see whether the node is free.
    pub(in crate::agent) async fn take(self, root: &Path) -> Result<Estate, Error> {
        let Self { peer, holder, .. } = self;
        let asked = Instant::now();
        peer.say(&Message::Ready, &[]).await?;
        let files = match peer.hear(ESTATE_LIMIT).await? {
            (Message::Estate, files) => files,
            (other, _) => return Err(unexpected(&other)),
        };
        let mut files = files.into_iter();
        let lock = RootLock::inherit(files.next().ok_or(Error::Gone)?.into(), root)?;
        let inherited = Inherited::default();
        loop {
            let (message, files) = peer.hear(ESTATE_LIMIT).await?;
            let Message::Pods { pods, last } = message else {
                return Err(unexpected(&message));
            };
            adopt(&inherited, pods, files);
            if last {
                break;
            }
        }
        Ok(Estate {
            peer,
            holder,
            lock,
            links: files.collect(),
            asked,
            inherited,
        })
    }
}

/// A pod whose listeners are of no use is served on new ones.
fn adopt(inherited: &Inherited, pods: Vec<PodShare>, files: Vec<OwnedFd>) {
    let mut files = files.into_iter();
    for PodShare { uid, listeners } in pods {
        match adopt_listeners(files.by_ref().take(listeners).collect()) {
            Ok((cookie, listeners)) => inherited.add(uid.into(), cookie, listeners),
            Err(error) => tracing::warn!(uid, %error, "a pod's listeners cannot be taken over"),
        }
    }
}

/// Everything of the predecessor. From here on its death does not matter.
#[derive(Debug)]
pub(in crate::agent) struct Estate {
    peer: Peer,
    holder: String,
    pub(in crate::agent) lock: RootLock,
    links: Vec<OwnedFd>,
    /// When the predecessor was asked for it.
    asked: Instant,
    /// Listeners, for capture.
    pub(in crate::agent) inherited: Inherited,
}

impl Estate {
    /// Waits until the pods are enrolled, has the links run this agent's programs, and says so.
    /// When it returns this agent alone has the hooks. `has_address`: the admin address was
    /// adopted, too.
    ///
    /// # Errors
    ///
    /// The predecessor goes on. This process must end: it may still have its hands on the links.
    pub(in crate::agent) async fn switch(
        self,
        kernel: &Kernel,
        has_address: bool,
    ) -> Result<(RootLock, Predecessor), Error> {
        if timeout(ENROL_LIMIT, self.inherited.settled())
            .await
            .is_err()
        {
            let pods = self.inherited.pending().join(", ");
            tracing::warn!(
                pods,
                "pods of the other agent are not enrolled yet; going on"
            );
        }
        let directory: &File = self.lock.directory();
        kernel.take_links(directory, self.links)?;
        let switched = Message::Switched {
            address: has_address,
        };
        let heard = match self.peer.say(&switched, &[]).await {
            Ok(()) => self.peer.hear(RELEASE_LIMIT).await,
            Err(error) => Err(error),
        };
        match heard {
            Ok((Message::Released, _)) => {
                let took = self.asked.elapsed();
                tracing::info!(predecessor = self.holder, ?took, "took the node over");
            }
            Ok((other, _)) => return Err(unexpected(&other)),
            // It died in the middle of it: everything it had is here.
            Err(Error::Gone | Error::Io { .. }) => {
                kernel.reclaim_links()?;
                tracing::warn!(predecessor = self.holder, "it ended while it handed over");
            }
            Err(error) => return Err(error),
        }
        self.inherited.drop_rest();
        let predecessor = Predecessor(self.peer);
        Ok((self.lock, predecessor))
    }
}

/// The agent that served the node before: it drains.
#[derive(Debug)]
pub(in crate::agent) struct Predecessor(Peer);

impl Predecessor {
    /// Returns when it has ended.
    pub(in crate::agent) async fn gone(&self) {
        self.0.gone().await;
    }
}
