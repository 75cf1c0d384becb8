//! The predecessor's side: serves the node until the successor has said that it does.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use proxy_ebpf::DESTINATIONS_LAYOUT;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::admin::SocketFile;
use crate::bpf::Kernel;
use crate::net::MAX_DESCRIPTORS;
use crate::proxy::{LentPod, Proxy};

use super::Error;
use super::wire::{Hello, Message, Offer, PROTOCOL, Peer, PodShare, unexpected};

/// Time for the first message.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// Time for the successor to load its programs and to read its sources.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// Time for the successor to enrol the pods, which it limits to 10 s, and to switch the links.
const SWITCH_LIMIT: Duration = Duration::from_secs(15);
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for a successor, and gives it the node.
#[derive(Debug)]
pub(in crate::agent) struct Giver {
    pub(in crate::agent) listener: UnixListener,
    /// Removes the socket's file, unless the successor has put its own there.
    pub(in crate::agent) file: SocketFile,
    /// The locked directory.
    pub(in crate::agent) lock: File,
    /// The admin address.
    pub(in crate::agent) address: TcpListener,
    pub(in crate::agent) kernel: Arc<Kernel>,
    pub(in crate::agent) proxy: Arc<Proxy>,
}

/// Who serves the node now.
#[derive(Debug)]
pub(in crate::agent) struct Successor {
    /// For the log and for `status`.
    pub(in crate::agent) name: String,
    /// It has the admin address, too.
    pub(in crate::agent) has_address: bool,
    /// Open as long as both processes live: how each knows that the other one does.
    peer: Peer,
}

impl Successor {
    /// Returns when it has ended, or no longer serves.
    pub(in crate::agent) async fn gone(&self) {
        self.peer.gone().await;
    }
}

impl Giver {
    /// Serves successors, one at a time, until one has taken over; `None` if `stop` came first.
    ///
    /// A handover that has gone so far that the successor may have switched is finished all the
    /// same, or taken back.
    pub(in crate::agent) async fn run(self, stop: CancellationToken) -> Option<Successor> {
        loop {
            let stream = match stop.run_until_cancelled(self.listener.accept()).await? {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a successor");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            match self.serve(stream, &stop).await {
                Ok(Some(successor)) => {
                    self.file.leave();
                    return Some(successor);
                }
                Ok(None) => return None,
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "no handover; serving as before"
                    );
                }
            }
        }
    }

    async fn serve(
        &self,
        stream: UnixStream,
        stop: &CancellationToken,
    ) -> Result<Option<Successor>, Error> {
        let peer = Peer::new(stream)?;
        let hello = greet(&peer).await?;
        let name = peer.name(&hello.agent);
        tracing::info!(successor = name, "a successor prepares to take over");
        let own_cgroups = self.kernel.agent_cgroups()?;
        self.kernel.add_agent_cgroup(hello.cgroup)?;
        let given = match stop
            .run_until_cancelled(self.offer(&peer, &own_cgroups))
            .await
        {
            Some(Ok(())) => self.give(&peer, stop).await,
            Some(Err(error)) => {
                // It may be gone, which is one of the reasons.
                let _ = peer.refuse(error.to_string()).await;
                Err(error)
            }
            None => Ok(None),
        };
        match given {
            Ok(Some(has_address)) => Ok(Some(Successor {
                name,
                has_address,
                peer,
            })),
            other => {
                if !own_cgroups.contains(&hello.cgroup) {
                    self.kernel.remove_agent_cgroup(hello.cgroup)?;
                }
                other.map(|_not_given| None)
            }
        }
    }

    /// Gives what it takes to prepare, and waits until the successor has.
    async fn offer(&self, peer: &Peer, cgroups: &[u64]) -> Result<(), Error> {
        let maps = self.kernel.lend_maps().map_err(Error::io("lend maps"))?;
        let offer = Message::Offer(Offer {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            cgroups: cgroups.to_vec(),
            address: self.address.local_addr().ok(),
        });
        let mut files: Vec<_> = maps.iter().map(AsFd::as_fd).collect();
        files.push(self.address.as_fd());
        peer.say(&offer, &files).await?;
        match peer.hear(READY_LIMIT).await? {
            (Message::Ready, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Gives the node away, or takes it back. Answers whether the admin address went, too.
    async fn give(&self, peer: &Peer, stop: &CancellationToken) -> Result<Option<bool>, Error> {
        let links = self.kernel.lend_links().map_err(Error::io("lend links"))?;
        let pods = self.proxy.lend().await;
        let pods = pods.map_err(Error::io("lend listeners"))?;
        let mut files = vec![self.lock.as_fd()];
        files.extend(links.iter().map(AsFd::as_fd));
        peer.say(&Message::Estate, &files).await?;
        drop(links);
        say_pods(peer, &pods).await?;
        drop(pods);
        let error = match peer.hear(SWITCH_LIMIT).await {
            Ok((Message::Switched { address }, _)) => {
                match peer.say(&Message::Released, &[]).await {
                    Ok(()) => return Ok(Some(address)),
                    Err(error) => error,
                }
            }
            Ok((other, _)) => unexpected(&other),
            Err(error) => error,
        };
        self.kernel.reclaim_links()?;
        // It may be gone, or stand still; once it is gone nothing of it can touch the links.
        let _ = peer.refuse(format!("the handover is off: {error}")).await;
        stop.run_until_cancelled(peer.gone()).await;
        self.kernel.reclaim_links()?;
        Err(error)
    }
}

/// Hears who wants to take over, and refuses whom it would not understand.
async fn greet(peer: &Peer) -> Result<Hello, Error> {
    let hello = match peer.hear(HELLO_LIMIT).await? {
        (Message::Hello(hello), _) => hello,
        (other, _) => return Err(unexpected(&other)),
    };
    let versions = [
        ("handover protocol", hello.protocol, PROTOCOL),
        (
            "layout of destinations",
            hello.destinations,
            DESTINATIONS_LAYOUT,
        ),
    ];
    for (what, its, ours) in versions {
        if its != ours {
            let reason = format!(
                "{what} {its} of version {} is not {ours}, that of version {}, which serves on; \
                 end it to start this one, with a gap",
                hello.agent,
                env!("CARGO_PKG_VERSION")
            );
            peer.refuse(reason.clone()).await?;
            return Err(Error::NotUnderstood { what: reason });
        }
    }
    Ok(hello)
}

/// Sends the listeners, as many in one message as the kernel allows.
async fn say_pods(peer: &Peer, pods: &[LentPod]) -> Result<(), Error> {
    let mut rest = pods;
    loop {
        let (mut shares, mut files) = (Vec::new(), Vec::<BorrowedFd<'_>>::new());
        while let Some((pod, after)) = rest.split_first() {
            // A pod has two listeners for each of at most 64 workers.
            if files.len() + pod.listeners.len() > MAX_DESCRIPTORS && !files.is_empty() {
                break;
            }
            shares.push(PodShare {
                uid: pod.uid.to_string(),
                listeners: pod.listeners.len(),
            });
            files.extend(pod.listeners.iter().map(AsFd::as_fd));
            rest = after;
        }
        let message = Message::Pods {
            pods: shares,
            last: rest.is_empty(),
        };
        peer.say(&message, &files).await?;
        if rest.is_empty() {
            return Ok(());
        }
    }
}
