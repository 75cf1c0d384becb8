//! The kernel side of acceleration as the agent uses it: joining a connection, and what the two
//! sides then tell each other by memory alone. When to do so is not decided here.
//!
//! Connections are of two kinds: those that pods make to the agent, and those that the agent makes to
//! pods. Either way one end is an application's and one the agent's. Those between two pods are the programs'
//! alone.
//!
//! The map of sockets is never handed on. The agent's ends end with this process.

mod outgoing;
mod self_test;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proxy_ebpf::{
    Channel as Kept, Credit, CreditId, End, EndKey, FlowKey, Pair, PodAddress, map, octets, program,
};

pub use self::outgoing::Outgoing;
pub use self::self_test::SelfTestItem;

use super::maps::Table;
use super::sys::{self, Credits, SharedCredit};
use super::{Error, object};
use crate::status::MapStatus;

/// Why a connection was not joined; it goes by TCP.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// As many connections are accelerated as can be.
    #[error("as many connections are accelerated as can be")]
    NoCredit,
    /// The kernel refused.
    #[error("{operation} map {name}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// Map.
        name: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// The maps of acceleration.
#[derive(Debug)]
pub struct Acceleration {
    sockets: OwnedFd,
    channels: OwnedFd,
    joined: Table<FlowKey, CreditId>,
    /// Those between two pods, which only the programs make.
    pairs: Table<FlowKey, Pair>,
    addresses: Arc<Table<[u8; 16], PodAddress>>,
    credits: Credits,
    /// Credits that nobody has, the longest unused first. Taken once a connection, never by a
    /// request.
    free: Mutex<VecDeque<CreditId>>,
    from_pods: Count,
    to_pods: Count,
    /// The self-test has passed.
    admitted: AtomicBool,
}

/// Connections that are accelerated now, and that ever were.
#[derive(Debug, Default)]
struct Count {
    now: AtomicU64,
    ever: AtomicU64,
}

impl Count {
    fn get(&self) -> (u64, u64) {
        let now = self.now.load(Ordering::Relaxed);
        (now, self.ever.load(Ordering::Relaxed))
    }
}

impl Acceleration {
    /// Takes the maps out of an object, and has them run `program`.
    pub(super) fn take(
        object: &mut aya::Ebpf,
        program: &OwnedFd,
        addresses: Arc<Table<[u8; 16], PodAddress>>,
    ) -> Result<Self, Error> {
        let sizes = (size_of::<EndKey>(), size_of::<u32>());
        let sockets = object::take_sockets(object, map::SOCKETS, sizes)?;
        let sizes = (size_of::<u32>(), size_of::<Kept>());
        let channels = object::take_sockets(object, map::CHANNELS, sizes)?;
        let joined = Table::take(object, map::JOINED)?;
        let pairs = Table::take(object, map::PAIRS)?;
        let credits: Table<u32, Credit> = Table::take(object, map::CREDITS)?;
        let count = credits.max_entries();
        let mapped = Credits::map(credits.fd.as_fd(), count as usize);
        let credits = mapped.map_err(|source| Error::Map {
            operation: "mmap",
            name: map::CREDITS,
            source,
        })?;
        let attached = sys::attach_to_map(program.as_fd(), sockets.as_fd());
        attached.map_err(|source| Error::Attach {
            name: program::ACCELERATE,
            source,
        })?;
        Ok(Self {
            sockets,
            channels,
            joined,
            pairs,
            addresses,
            credits,
            free: Mutex::new((0..count).map(unused).collect()),
            from_pods: Count::default(),
            to_pods: Count::default(),
            admitted: AtomicBool::new(false),
        })
    }

    /// The connection from `local`, of the pod `netns_cookie`, to `remote` as its application's end is
    /// known by; `None` unless both addresses are those of captured pods of this node, `local` is
    /// that very pod's, and the other one's asks for acceleration.
    pub fn flow_to_pod(
        &self,
        netns_cookie: u64,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Option<FlowKey> {
        let server = self.pod_at(remote).filter(PodAddress::accelerates)?;
        let client = self.pod_at(local)?;
        let own = client.netns_cookie() == netns_cookie;
        own.then(|| FlowKey::to_pod_from(server.netns_cookie(), local, remote.port()))
    }

    /// Whether connections to `address` are to be accelerated.
    pub fn is_asked_at(&self, address: SocketAddr) -> bool {
        self.pod_at(address).is_some_and(|pod| pod.accelerates())
    }

    fn pod_at(&self, address: SocketAddr) -> Option<PodAddress> {
        let read = self.addresses.read(&octets(address.ip()));
        read.unwrap_or_else(|error| {
            tracing::debug!(%error, "nobody's address, then");
            None
        })
    }

    /// Accelerates a connection from now on: `socket` is the agent's end of it, from which it has
    /// read `read` bytes.
    ///
    /// # Errors
    ///
    /// See [`JoinError`]: the connection goes on by TCP.
    pub fn join(
        self: &Arc<Self>,
        flow: FlowKey,
        socket: BorrowedFd<'_>,
        read: u64,
    ) -> Result<Channel, JoinError> {
        let channel = self.claim(flow, read).ok_or(JoinError::NoCredit)?;
        self.keep(socket, Kept::new(flow, End::Agent, channel.id))?;
        self.enter(EndKey::new(flow, End::Agent), socket)?;
        // The last: from here on the application's messages come.
        let joined = sys::map_update(self.joined.fd.as_fd(), &flow, &channel.id);
        joined.map_err(kernel("write", map::JOINED))?;
        Ok(channel)
    }

    /// Takes a credit; dropping the channel gives it back.
    fn claim(self: &Arc<Self>, flow: FlowKey, read: u64) -> Option<Channel> {
        let last = self.free().pop_front()?;
        let index = last.index;
        let credit = self.credits.get(index)?;
        let generation = next(last.generation);
        credit.read.store(read, Ordering::Relaxed);
        credit.permit.store(0, Ordering::Relaxed);
        credit.redirected.store(0, Ordering::Relaxed);
        credit.application_read.store(0, Ordering::Relaxed);
        credit.application_sent.store(0, Ordering::Relaxed);
        credit
            .generation
            .store(generation.into(), Ordering::Release);
        let count = self.count(&flow);
        count.now.fetch_add(1, Ordering::Relaxed);
        count.ever.fetch_add(1, Ordering::Relaxed);
        Some(Channel {
            acceleration: Arc::clone(self),
            flow,
            id: CreditId { index, generation },
        })
    }

    fn keep(&self, socket: BorrowedFd<'_>, kept: Kept) -> Result<(), JoinError> {
        let key = socket.as_raw_fd();
        let written = sys::map_update(self.channels.as_fd(), &key, &kept);
        written.map_err(kernel("write", map::CHANNELS))
    }

    fn enter(&self, key: EndKey, socket: BorrowedFd<'_>) -> Result<(), JoinError> {
        let socket = socket.as_raw_fd().cast_unsigned();
        let written = sys::map_update(self.sockets.as_fd(), &key, &socket);
        written.map_err(kernel("write", map::SOCKETS))
    }

    /// Makes a socket of this process one of the ends of `flow` that pods have, as the programs do with a
    /// pod's: for trials of what this kernel makes of it. Of a connection between pods the client's comes first,
    /// and nothing is read before the server's is there.
    ///
    /// # Errors
    ///
    /// [`JoinError::Kernel`].
    pub fn enter_pods_end(
        &self,
        flow: FlowKey,
        end: End,
        socket: BorrowedFd<'_>,
    ) -> Result<(), JoinError> {
        /// Which connection it is, of those that have the flow one after the other: there is one.
        const SINCE_NS: u64 = 1;
        let kept = Kept::new(flow, end, CreditId::default()).of_pair(SINCE_NS);
        self.keep(socket, kept)?;
        self.enter(EndKey::new(flow, end), socket)?;
        if matches!(end, End::Client | End::Server) {
            let pair = Pair {
                since_ns: SINCE_NS,
                server_here: if end == End::Server { SINCE_NS } else { 0 },
                ..Pair::default()
            };
            let paired = sys::map_update(self.pairs.fd.as_fd(), &flow, &pair);
            paired.map_err(kernel("write", map::PAIRS))?;
        }
        Ok(())
    }

    /// Lets connections be accelerated: this kernel was found to be good for it.
    pub fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    /// Whether that was done.
    pub fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// Connections of pods to the agent that are accelerated now, and that ever were.
    pub fn connections(&self) -> (u64, u64) {
        self.from_pods.get()
    }

    /// The same of the agent's to pods.
    pub fn connections_to_pods(&self) -> (u64, u64) {
        self.to_pods.get()
    }

    /// Fill of the map of connections between two pods: as many as there are now of those that this agent's programs
    /// have seen to begin.
    pub(super) fn pairs(&self) -> Result<MapStatus, Error> {
        self.pairs.status()
    }

    const fn count(&self, flow: &FlowKey) -> &Count {
        if flow.is_to_pod() {
            &self.to_pods
        } else {
            &self.from_pods
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, VecDeque<CreditId>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's end of an accelerated connection. Dropping it ends the acceleration.
#[derive(Debug)]
pub struct Channel {
    acceleration: Arc<Acceleration>,
    flow: FlowKey,
    id: CreditId,
}

impl Channel {
    /// Says how many bytes of the application's stream were read.
    pub fn publish_read(&self, bytes: u64) {
        if let Some(credit) = self.credit() {
            credit.read.store(bytes, Ordering::Release);
        }
    }

    /// Has the next messages of up to so many bytes in all be redirected, those behind them not.
    pub fn permit(&self, bytes: u64) {
        if let Some(credit) = self.credit() {
            credit.permit.store(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that the agent has sent and that were redirected.
    pub fn redirected(&self) -> u64 {
        let credit = self.credit();
        credit.map_or(0, |credit| credit.redirected.load(Ordering::Relaxed))
    }

    /// Whether the application has read `bytes` bytes that came by TCP, as it last sent.
    pub fn has_read_by_tcp(&self, bytes: u64) -> bool {
        self.is_stamped(|credit| &credit.application_read, bytes)
    }

    /// Whether the application has sent, or begun to send, no more than the first `bytes` bytes of its stream.
    /// Known, and true, only while its last message is a redirected one.
    pub fn application_sent_only(&self, bytes: u64) -> bool {
        self.is_stamped(|credit| &credit.application_sent, bytes)
    }

    fn is_stamped(&self, place: fn(&SharedCredit) -> &AtomicU64, bytes: u64) -> bool {
        let stamp = Credit::stamp(self.id.generation, bytes);
        let credit = self.credit();
        credit.is_some_and(|credit| place(credit).load(Ordering::Acquire) == stamp)
    }

    fn credit(&self) -> Option<&SharedCredit> {
        self.acceleration.credits.get(self.id.index)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let acceleration = &self.acceleration;
        if let Some(credit) = self.credit() {
            // Whoever still has the index finds that it is not its own any more.
            credit.generation.store(0, Ordering::Release);
            credit.permit.store(0, Ordering::Relaxed);
        }
        // What remains is refused by its generation; the next who has its ports overwrites it.
        if let Err(error) = acceleration.joined.remove(&self.flow) {
            tracing::debug!(%error, "the entry of an accelerated connection stays");
        }
        acceleration.free().push_back(self.id);
        let count = acceleration.count(&self.flow);
        count.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The next generation; never 0, and of 16 bits: see [`Credit::stamp`].
fn next(generation: u32) -> u32 {
    u16::try_from(generation + 1).unwrap_or(1).into()
}

const fn unused(index: u32) -> CreditId {
    CreditId {
        index,
        generation: 0,
    }
}

fn kernel(operation: &'static str, name: &'static str) -> impl Fn(io::Error) -> JoinError {
    move |source| JoinError::Kernel {
        operation,
        name,
        source,
    }
}
