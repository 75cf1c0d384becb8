//! Small servers: one thread for each connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use socket2::SockRef;

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// What it calls itself.
    #[arg(long)]
    name: String,
    /// Port, on every address.
    #[arg(long)]
    port: u16,
    /// What it does with a connection.
    #[arg(long)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Sends back what comes; at the client's end of stream, `END NAME PEER BYTES`.
    Echo,
    /// As `echo`, after a greeting `HELLO NAME PEER` that waits for nothing.
    Greet,
    /// Reads a line and resets the connection.
    Reset,
    /// Reads everything and then sends 1 MiB and its name.
    Last,
    /// Answers the first HTTP request of a connection; at the second it hangs up unanswered.
    HttpOnce,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, options.port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, options.port)))
        .context("bind")?;
    writeln!(io::stdout(), "ready")?;
    for stream in listener.incoming() {
        let stream = stream.context("accept")?;
        let (name, mode) = (options.name.clone(), options.mode);
        thread::spawn(move || {
            let peer = stream
                .peer_addr()
                .map(|peer| peer.ip().to_canonical().to_string());
            let peer = peer.unwrap_or_default();
            let ended = serve(&stream, mode, &name, &peer);
            let ended = ended.map_or_else(|error| format!("{:?}", error.kind()), |()| "ok".into());
            // Nobody may be reading the log.
            let _ = writeln!(io::stdout(), "connection from {peer} ended: {ended}");
        });
    }
    Ok(())
}

fn serve(mut stream: &TcpStream, mode: Mode, name: &str, peer: &str) -> io::Result<()> {
    match mode {
        Mode::Echo => echo(stream, name, peer),
        Mode::Greet => {
            writeln!(stream, "HELLO {name} {peer}")?;
            echo(stream, name, peer)
        }
        Mode::Reset => {
            BufReader::new(stream).read_line(&mut String::new())?;
            SockRef::from(stream).set_linger(Some(Duration::ZERO))
        }
        Mode::Last => {
            io::copy(&mut stream, &mut io::sink())?;
            stream.write_all(&vec![b'x'; 1 << 20])?;
            writeln!(stream, "END {name} {peer}")?;
            stream.shutdown(Shutdown::Write)
        }
        Mode::HttpOnce => http_once(stream, name),
    }
}

fn echo(mut stream: &TcpStream, name: &str, peer: &str) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        total += read;
        stream.write_all(&buffer[..read])?;
    }
    writeln!(stream, "END {name} {peer} {total}")?;
    stream.shutdown(Shutdown::Write)
}

fn http_once(mut stream: &TcpStream, name: &str) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    if !read_head(&mut reader)? {
        return Ok(());
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nx-endpoint: {name}\r\ncontent-length: 3\r\n\r\nok\n"
    )?;
    read_head(&mut reader)?;
    Ok(())
}

/// Reads up to the empty line; false if the stream ended before a request.
fn read_head(reader: &mut impl BufRead) -> io::Result<bool> {
    let mut line = String::new();
    let mut any = false;
    while reader.read_line(&mut line)? > 0 {
        any = true;
        if line == "\r\n" {
            return Ok(true);
        }
        line.clear();
    }
    Ok(any)
}
