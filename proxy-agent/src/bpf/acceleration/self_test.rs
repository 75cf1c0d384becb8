//! What acceleration relies on, tried on this very kernel with the very programs and maps, on
//! loopback connections of the agent with itself. Whatever fails refuses acceleration here, but for
//! what a program that asks for it can be told to do without.

mod trials;

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proxy_ebpf::{Channel as Kept, End, FlowKey};

use super::{Acceleration, Channel};
use crate::bpf::error::chain;
use crate::bpf::sys;

/// How long one wait may take before the kernel is taken to have lost something.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a socket that says it has nothing.
const PAUSE: Duration = Duration::from_millis(50);
/// One thing that was tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SelfTestItem {
    /// Stable name.
    pub name: &'static str,
    /// What was not well, if anything.
    pub failure: Option<String>,
    /// Whether a failure refuses acceleration.
    pub refuses: bool,
}

impl SelfTestItem {
    /// Whether acceleration is refused for its sake.
    pub const fn is_refusal(&self) -> bool {
        self.refuses && self.failure.is_some()
    }
}

type Trial = fn(&Arc<Acceleration>) -> io::Result<()>;

/// Names, whether a failure refuses acceleration, and what is tried.
const TRIALS: [(&str, bool, Trial); 7] = [
    ("exchange_in_order", true, trials::exchange),
    ("bulk", true, trials::bulk),
    ("unread_is_bounded", true, trials::bounded),
    ("half_close", true, trials::half_close),
    ("short_connections", true, trials::short_connections),
    ("between_pods", true, trials::between_pods),
    // It is 0 on kernels 5.10 and 6.1: documented, for few programs ask.
    ("fionread", false, trials::fionread),
];

impl Acceleration {
    /// Names of what the self-test tries, in its order.
    pub fn self_test_names() -> impl Iterator<Item = &'static str> {
        TRIALS.iter().map(|(name, ..)| *name)
    }

    /// Tries everything.
    pub(in crate::bpf) fn self_test(self: &Arc<Self>) -> Vec<SelfTestItem> {
        let tried = TRIALS.into_iter().map(|(name, refuses, trial)| {
            let begun = Instant::now();
            let failure = trial(self).err().map(|error| chain(&error));
            tracing::debug!(name, took = ?begun.elapsed(), ?failure, "self-test of acceleration");
            SelfTestItem {
                name,
                failure,
                refuses,
            }
        });
        let items = tried.collect();
        self.from_pods.ever.store(0, Ordering::Relaxed);
        items
    }

    fn kept(&self, socket: &TcpStream) -> io::Result<Kept> {
        use std::os::fd::AsRawFd;
        let kept = sys::map_lookup(self.channels.as_fd(), &socket.as_raw_fd())?;
        kept.ok_or_else(|| io::Error::other("a socket keeps nothing"))
    }
}

/// A connection of which both ends are ours.
struct Pair {
    application: TcpStream,
    agent: TcpStream,
    channel: Channel,
}

impl Pair {
    fn new(acceleration: &Arc<Acceleration>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Self::on(&listener, acceleration)
    }

    fn on(listener: &TcpListener, acceleration: &Arc<Acceleration>) -> io::Result<Self> {
        let (application, agent) = connection(listener)?;
        let (source, port) = (application.local_addr()?, listener.local_addr()?.port());
        let flow = FlowKey::from_accepted(sys::netns_cookie(&agent)?, source, port);
        let entered = acceleration.enter_pods_end(flow, End::Application, application.as_fd());
        entered.map_err(io::Error::other)?;
        let channel = acceleration.join(flow, agent.as_fd(), 0);
        Ok(Self {
            application,
            agent,
            channel: channel.map_err(io::Error::other)?,
        })
    }
}

/// The two ends of a connection of this process with itself.
fn connection(listener: &TcpListener) -> io::Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for socket in [&client, &server] {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PAUSE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
    }
    Ok((client, server))
}

/// What every stream here repeats: a prime number of bytes, so that no power of two is a whole number
/// of turns.
static CYCLE: [u8; 4_093] = {
    let mut cycle = [0; 4_093];
    let mut at = 0;
    while at < cycle.len() {
        let [low, high, ..] = at.to_le_bytes();
        cycle[at] = low ^ high.wrapping_mul(31);
        at += 1;
    }
    cycle
};

/// The stream from an offset on, in parts that are compared and copied as wholes: a pod waits for it.
fn parts(from: u64, count: usize) -> impl Iterator<Item = &'static [u8]> {
    let (mut at, mut left) = (from, count);
    std::iter::from_fn(move || {
        let start = usize::try_from(at % CYCLE.len() as u64).ok()?;
        let length = left.min(CYCLE.len() - start);
        at += length as u64;
        left -= length;
        (length > 0).then(|| &CYCLE[start..start + length])
    })
}

fn bytes(from: u64, count: usize) -> Vec<u8> {
    parts(from, count).collect::<Vec<_>>().concat()
}

/// Reads some bytes and compares them; `None` at the end of the stream. A socket in such a map may
/// say that it has nothing when it has.
fn read_some(socket: &mut TcpStream, offset: u64, most: usize) -> io::Result<Option<usize>> {
    let mut buffer = [0; 16 * 1024];
    let most = most.min(buffer.len());
    let since = Instant::now();
    let count = loop {
        match socket.read(&mut buffer[..most]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if since.elapsed() > PATIENCE {
                    return Err(io::Error::other(format!(
                        "bytes from {offset} on never came"
                    )));
                }
            }
            read => break read?,
        }
    };
    let mut at = 0;
    for wanted in parts(offset, count) {
        let got = &buffer[at..at + wanted.len()];
        if got != wanted {
            let from = offset + at as u64;
            return Err(io::Error::other(format!("a wrong byte from {from} on")));
        }
        at += wanted.len();
    }
    Ok(Some(count).filter(|count| *count > 0))
}

fn read_exactly(
    socket: &mut TcpStream,
    mut offset: u64,
    count: usize,
    mut read: impl FnMut(u64),
) -> io::Result<()> {
    let end = offset + count as u64;
    while offset < end {
        let left = usize::try_from(end - offset).map_err(io::Error::other)?;
        let some = read_some(socket, offset, left)?;
        offset += some.ok_or(io::ErrorKind::UnexpectedEof)? as u64;
        read(offset);
    }
    Ok(())
}
