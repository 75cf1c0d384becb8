//! The trials themselves.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use proxy_ebpf::{End, FlowKey, WINDOW_BYTES};

use super::{Pair, bytes, connection, read_exactly, read_some};
use crate::bpf::acceleration::{Acceleration, Outgoing};
use crate::bpf::sys;

/// Requests and answers of the exchange, of many sizes.
const ROUNDS: usize = 120;
/// Connections that are opened, used once and closed.
const SHORT: usize = 1_000;
/// Far more than the socket buffers of a connection hold.
const FLOOD_BYTES: u64 = 64 << 20;
/// What goes each way in bulk, some dozens of windows, and in one message of it.
const BULK_BYTES: usize = 4 << 20;
const BULK_MESSAGE: usize = 16 << 10;
/// What lies unread between two pods, some windows: more would fail where the machine's sockets are short of memory.
const UNREAD_BYTES: usize = 512 << 10;

/// The size of a message: small ones, large ones, and some that no window holds.
const fn size_of_round(round: usize) -> usize {
    match round % 10 {
        3 => 100 * 1024,
        6 => 60 * 1024,
        other => 1 + other * 700,
    }
}

/// Requests and answers, by both ways and with changes between them in both directions.
pub(super) fn exchange(acceleration: &Arc<Acceleration>) -> io::Result<()> {
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

/// Bytes in both directions at once, as fast as they go, every one compared.
pub(super) fn bulk(acceleration: &Arc<Acceleration>) -> io::Result<()> {
    let mut pair = Pair::new(acceleration)?;
    let (mut asks, mut hears) = (pair.application.try_clone()?, pair.application.try_clone()?);
    let mut reads = pair.agent.try_clone()?;
    let channel = &pair.channel;
    let send = |to: &mut dyn Write, begin: &mut dyn FnMut(u64)| -> io::Result<()> {
        for from in (0..BULK_BYTES).step_by(BULK_MESSAGE) {
            begin(from as u64);
            to.write_all(&bytes(from as u64, BULK_MESSAGE))?;
        }
        Ok(())
    };
    let mut outgoing = Outgoing::default();
    let answer = |sent| outgoing.begin(channel, sent, Some(BULK_MESSAGE as u64));
    let results = thread::scope(|scope| {
        let others = [
            scope.spawn(|| send(&mut asks, &mut |_| {})),
            scope.spawn(|| read_exactly(&mut hears, 0, BULK_BYTES, |_| {})),
            scope.spawn(|| read_exactly(&mut reads, 0, BULK_BYTES, |to| channel.publish_read(to))),
        ];
        let mut answer = answer;
        let sent = send(&mut pair.agent, &mut answer);
        let joined = others.map(|other| {
            let ended = other.join();
            ended.unwrap_or_else(|_panic| Err(io::Error::other("a thread has panicked")))
        });
        joined
            .into_iter()
            .chain([sent])
            .collect::<io::Result<Vec<()>>>()
    });
    results?;
    let kept = acceleration.kept(&pair.application)?;
    if kept.redirected == 0 {
        return Err(io::Error::other("no byte was redirected"));
    }
    Ok(())
}

/// A reader that does not read holds a window of redirected bytes, and what TCP holds anyway.
pub(super) fn bounded(acceleration: &Arc<Acceleration>) -> io::Result<()> {
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
pub(super) fn half_close(acceleration: &Arc<Acceleration>) -> io::Result<()> {
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
pub(super) fn short_connections(acceleration: &Arc<Acceleration>) -> io::Result<()> {
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

/// Two pods' sockets with no agent between: by TCP until the other end has answered what it read, then
/// everything from socket to socket, whatever lies unread, to the end of the stream.
pub(super) fn between_pods(acceleration: &Arc<Acceleration>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (client, server) = connection(&listener)?;
    let (source, port) = (client.local_addr()?, listener.local_addr()?.port());
    let flow = FlowKey::to_pod_from(sys::netns_cookie(&server)?, source, port);
    let tried = converse(acceleration, flow, client, server);
    let forgotten = acceleration.pairs.remove(&flow).map_err(io::Error::other);
    tried.and(forgotten.map(drop))
}

fn converse(
    acceleration: &Arc<Acceleration>,
    flow: FlowKey,
    mut client: TcpStream,
    mut server: TcpStream,
) -> io::Result<()> {
    let enter = |end, socket: &TcpStream| {
        let entered = acceleration.enter_pods_end(flow, end, socket.as_fd());
        entered.map_err(io::Error::other)
    };
    enter(End::Client, &client)?;
    // By TCP, for there is no other end yet; and then, because that is not known to be read.
    client.write_all(&bytes(0, 1_000))?;
    enter(End::Server, &server)?;
    server.write_all(&bytes(0, 100))?;
    client.write_all(&bytes(1_000, 500))?;
    read_exactly(&mut server, 0, 1_500, |_| {})?;
    read_exactly(&mut client, 0, 100, |_| {})?;
    let (mut asked, mut answered) = (1_500, 100);
    for round in 0..ROUNDS {
        let answer = size_of_round(round + 5);
        server.write_all(&bytes(answered, answer))?;
        read_exactly(&mut client, answered, answer, |_| {})?;
        answered += answer as u64;
        let request = size_of_round(round);
        client.write_all(&bytes(asked, request))?;
        read_exactly(&mut server, asked, request, |_| {})?;
        asked += request as u64;
    }
    // All of it lies unread, and so does the end behind it.
    for part in 0..UNREAD_BYTES / BULK_MESSAGE {
        let from = answered + (part * BULK_MESSAGE) as u64;
        server.write_all(&bytes(from, BULK_MESSAGE))?;
    }
    server.shutdown(Shutdown::Write)?;
    read_exactly(&mut client, answered, UNREAD_BYTES, |_| {})?;
    answered += UNREAD_BYTES as u64;
    if read_some(&mut client, answered, 1)?.is_some() {
        return Err(io::Error::other("bytes came behind the end of the stream"));
    }
    let [of_client, of_server] = [acceleration.kept(&client)?, acceleration.kept(&server)?];
    let found = [of_client.by_tcp, of_client.redirected, of_server.redirected];
    let expected = [1_500, asked - 1_500, answered];
    if found != expected {
        let text = format!("{found:?} bytes went by TCP and were redirected, not {expected:?}");
        return Err(io::Error::other(text));
    }
    Ok(())
}

/// FIONREAD tells of redirected bytes too.
pub(super) fn fionread(acceleration: &Arc<Acceleration>) -> io::Result<()> {
    const SENT: usize = 100;
    let mut pair = Pair::new(acceleration)?;
    pair.application.write_all(&bytes(0, SENT))?;
    if acceleration.kept(&pair.application)?.redirected == 0 {
        return Err(io::Error::other("no byte was redirected"));
    }
    let unread = sys::unread_bytes(pair.agent.as_fd())?;
    if unread != SENT {
        let text = format!("it says {unread} when {SENT} redirected bytes lie unread");
        return Err(io::Error::other(text));
    }
    read_exactly(&mut pair.agent, 0, SENT, |_| {})
}
