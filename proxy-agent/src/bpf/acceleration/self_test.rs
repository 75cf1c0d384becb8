//! What acceleration relies on, tried on this very kernel with the very programs and maps, on
//! loopback connections of the agent with itself. Whatever fails refuses acceleration here.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use proxy_ebpf::{Channel as Kept, FlowKey, WINDOW_BYTES};

use super::{Acceleration, Channel, Outgoing};
use crate::bpf::sys;

/// How long one wait may take before the kernel is taken to have lost something.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a socket that says it has nothing.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests and answers of the exchange, of many sizes.
const ROUNDS: usize = 120;
/// Connections that are opened, used once and closed.
const SHORT: usize = 250;
/// Far more than the socket buffers of a connection hold.
const FLOOD_BYTES: u64 = 64 << 20;

/// One thing that was tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SelfTestItem {
    /// Stable name.
    pub name: &'static str,
    /// Why acceleration is refused; `None` if all was well.
    pub failure: Option<String>,
}

type Trial = fn(&Arc<Acceleration>) -> io::Result<()>;

const TRIALS: [(&str, Trial); 4] = [
    ("exchange_in_order", exchange),
    ("unread_is_bounded", bounded),
    ("half_close", half_close),
    ("short_connections", short_connections),
];

impl Acceleration {
    /// Tries everything.
    pub(in crate::bpf) fn self_test(self: &Arc<Self>) -> Vec<SelfTestItem> {
        let tried = TRIALS.into_iter().map(|(name, trial)| SelfTestItem {
            name,
            failure: trial(self).err().map(|error| error.to_string()),
        });
        let items = tried.collect();
        self.ever.store(0, Ordering::Relaxed);
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
        let to = listener.local_addr()?;
        let application = TcpStream::connect(to)?;
        let (agent, source) = listener.accept()?;
        for socket in [&application, &agent] {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(PAUSE))?;
        }
        let flow = FlowKey::from_accepted(sys::netns_cookie(&agent)?, source, to.port());
        let entered = acceleration.enter_application(flow, application.as_fd());
        entered.map_err(io::Error::other)?;
        let channel = acceleration.join(flow, agent.as_fd(), 0);
        Ok(Self {
            application,
            agent,
            channel: channel.map_err(io::Error::other)?,
        })
    }
}

/// What stands at an offset of every stream here.
const fn byte_at(offset: u64) -> u8 {
    let [low, high, third, ..] = offset.to_le_bytes();
    low ^ high.wrapping_mul(31) ^ third.wrapping_mul(7)
}

fn bytes(from: u64, count: usize) -> Vec<u8> {
    (from..).take(count).map(byte_at).collect()
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
    let wanted = (offset..).map(byte_at);
    if let Some(at) = buffer[..count]
        .iter()
        .zip(wanted)
        .position(|(a, b)| *a != b)
    {
        let at = offset + at as u64;
        return Err(io::Error::other(format!("a wrong byte at {at}")));
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

/// The size of a message: small ones, large ones, and some that no window holds.
const fn size_of_round(round: usize) -> usize {
    match round % 10 {
        3 => 100 * 1024,
        6 => 60 * 1024,
        other => 1 + other * 700,
    }
}

/// Requests and answers, by both ways and with changes between them in both directions.
fn exchange(acceleration: &Arc<Acceleration>) -> io::Result<()> {
    let mut pair = Pair::new(acceleration)?;
    let mut application = pair.application.try_clone()?;
    let client = thread::Builder::new().spawn(move || -> io::Result<()> {
        let (mut sent, mut read) = (0, 0);
        for round in 0..ROUNDS {
            let request = size_of_round(round);
            application.write_all(&bytes(sent, request))?;
            sent += request as u64;
            let answer = size_of_round(round + 5);
            read_exactly(&mut application, read, answer, |_| {})?;
            read += answer as u64;
        }
        Ok(())
    })?;
    let served = serve(&mut pair);
    if served.is_err() {
        // The client ends too.
        pair.agent.shutdown(Shutdown::Both)?;
    }
    let asked = client.join();
    served?;
    asked.map_err(|_panic| io::Error::other("the client has panicked"))??;
    let kept = acceleration.kept(&pair.application)?;
    let redirected = pair.channel.redirected();
    let ways = [redirected, kept.redirected, kept.by_tcp, kept.read_by_tcp];
    if ways.contains(&0) {
        return Err(io::Error::other(format!(
            "not all ways were taken: {ways:?}"
        )));
    }
    Ok(())
}

fn serve(pair: &mut Pair) -> io::Result<()> {
    let (mut sent, mut read) = (0, 0);
    let mut outgoing = Outgoing::default();
    for round in 0..ROUNDS {
        let request = size_of_round(round);
        let channel = &pair.channel;
        read_exactly(&mut pair.agent, read, request, |to| {
            channel.publish_read(to)
        })?;
        read += request as u64;
        let answer = size_of_round(round + 5);
        outgoing.begin(channel, sent, Some(answer as u64));
        pair.agent.write_all(&bytes(sent, answer))?;
        sent += answer as u64;
    }
    Ok(())
}

/// A reader that does not read holds a window of redirected bytes, and what TCP holds anyway.
fn bounded(acceleration: &Arc<Acceleration>) -> io::Result<()> {
    let mut pair = Pair::new(acceleration)?;
    pair.application.set_nonblocking(true)?;
    let mut sent = 0;
    while sent < FLOOD_BYTES {
        match pair.application.write(&bytes(sent, 8 * 1024)) {
            Ok(count) => sent += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    let redirected = acceleration.kept(&pair.application)?.redirected;
    if redirected == 0 || redirected > WINDOW_BYTES || sent >= FLOOD_BYTES {
        let text = format!("{redirected} of {sent} bytes were redirected to a reader that slept");
        return Err(io::Error::other(text));
    }
    let count = usize::try_from(sent).map_err(io::Error::other)?;
    read_exactly(&mut pair.agent, 0, count, |_| {})
}

/// The end of a stream comes behind its last byte, and the other direction goes on.
fn half_close(acceleration: &Arc<Acceleration>) -> io::Result<()> {
    let mut pair = Pair::new(acceleration)?;
    pair.application.write_all(&bytes(0, 1_000))?;
    pair.application.shutdown(Shutdown::Write)?;
    read_exactly(&mut pair.agent, 0, 1_000, |_| {})?;
    let over = "bytes came behind the end of the stream";
    if read_some(&mut pair.agent, 1_000, 1)?.is_some() {
        return Err(io::Error::other(over));
    }
    Outgoing::default().begin(&pair.channel, 0, Some(1_000));
    pair.agent.write_all(&bytes(0, 1_000))?;
    drop((pair.agent, pair.channel));
    read_exactly(&mut pair.application, 0, 1_000, |_| {})?;
    if read_some(&mut pair.application, 1_000, 1)?.is_some() {
        return Err(io::Error::other(over));
    }
    Ok(())
}

/// Connections that send a head and a body, and are answered: nothing of one in another, and the
/// head first.
fn short_connections(acceleration: &Arc<Acceleration>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    for _ in 0..SHORT {
        let mut pair = Pair::on(&listener, acceleration)?;
        pair.application.write_all(&bytes(0, 100))?;
        pair.application.write_all(&bytes(100, 900))?;
        read_exactly(&mut pair.agent, 0, 1_000, |_| {})?;
        Outgoing::default().begin(&pair.channel, 0, Some(500));
        pair.agent.write_all(&bytes(0, 500))?;
        read_exactly(&mut pair.application, 0, 500, |_| {})?;
    }
    Ok(())
}
