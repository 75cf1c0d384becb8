//! The client: what it is told to send, and everything that it got back.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use proxy_e2e::echo::Fnv;
use serde_json::json;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Arguments of `talk`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where to connect to.
    #[arg(long)]
    to: SocketAddr,
    /// Waits for a line before it sends anything.
    #[arg(long)]
    listen_first: bool,
    /// Text to send; `\r` and `\n` stand for themselves.
    #[arg(long, default_value = "")]
    send: String,
    /// Bytes to send after the text.
    #[arg(long, default_value_t = 0)]
    send_bytes: usize,
    /// Ends its own direction after sending.
    #[arg(long)]
    half_close: bool,
    /// Closes without reading.
    #[arg(long)]
    hang_up: bool,
    /// Resets the connection after sending.
    #[arg(long)]
    reset: bool,
    /// Binds to an address before it connects.
    #[arg(long)]
    bind: Option<SocketAddr>,
    /// Reads up to this text instead of to the end.
    #[arg(long)]
    until: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut stream = match connect(options) {
        Ok(stream) => stream,
        Err(error) => return report(&json!({ "error": kind(&error), "stage": "connect" })),
    };
    let peer = stream.peer_addr().ok().and_then(|peer| peer.as_socket());
    let mut received = Vec::new();
    let outcome = converse(&mut stream, options, &mut received);
    let error = outcome.err().map(|error| kind(&error));
    let mut hash = Fnv::default();
    hash.update(&received);
    report(&json!({
        "error": error,
        "stage": "talk",
        "getpeername": peer,
        "received_bytes": received.len(),
        "received_hash": hash.value(),
        "received": String::from_utf8_lossy(&received[..received.len().min(4_096)]),
        "tail": String::from_utf8_lossy(&received[received.len().saturating_sub(200)..]),
    }))
}

fn connect(options: &Options) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(options.to),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if let Some(bind) = options.bind {
        socket.bind(&SockAddr::from(bind))?;
    }
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.set_write_timeout(Some(Duration::from_secs(10)))?;
    socket.connect(&SockAddr::from(options.to))?;
    // The end of the stream arrives with the last bytes, as the hardest case is.
    socket.set_tcp_cork(options.half_close)?;
    Ok(socket)
}

fn converse(stream: &mut Socket, options: &Options, received: &mut Vec<u8>) -> io::Result<()> {
    if options.listen_first {
        read_until(stream, "\n", received)?;
    }
    let text = options.send.replace("\\r", "\r").replace("\\n", "\n");
    stream.write_all(text.as_bytes())?;
    let reader = stream.try_clone()?;
    let more = options.send_bytes;
    std::thread::scope(|scope| {
        // Sending and reading at once: an echo of more than the buffers hold would lock up.
        let sending = scope.spawn(|| send_bytes(&*stream, more, options.half_close));
        let end = |done: io::Result<()>| match sending.join() {
            Ok(sent) => sent.and(done),
            Err(_) => Err(io::Error::other("the sender panicked")),
        };
        if options.hang_up || options.reset {
            return end(Ok(()));
        }
        let read = match &options.until {
            Some(text) => read_until(&reader, text, received),
            None => (&reader).read_to_end(received).map(drop),
        };
        end(read)
    })?;
    if options.reset {
        stream.set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}

fn send_bytes(mut stream: &Socket, bytes: usize, half_close: bool) -> io::Result<()> {
    let block: Vec<u8> = (0..=250).cycle().take(64 * 1024).collect();
    let mut left = bytes;
    while left > 0 {
        let size = left.min(block.len());
        stream.write_all(&block[..size])?;
        left -= size;
    }
    if half_close {
        stream.shutdown(Shutdown::Write)
    } else {
        Ok(())
    }
}

fn read_until(mut stream: &Socket, text: &str, received: &mut Vec<u8>) -> io::Result<()> {
    let mut byte = [0];
    while !received.ends_with(text.as_bytes()) {
        stream.read_exact(&mut byte)?;
        received.push(byte[0]);
    }
    Ok(())
}

fn kind(error: &io::Error) -> String {
    format!("{:?}", error.kind())
}

fn report(report: &serde_json::Value) -> Result<()> {
    writeln!(io::stdout(), "{report}").context("write the report")
}
