//! A proxy of tokio's own parts and nothing else: what copying bytes through a process costs. With
//! `--http2`, one of the h2 library's parts: what is left when a proxy that is built on it does nothing.
//!
//! As the agent does, it has one current-thread runtime for each worker, with a listener of its own.

mod http2;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Arguments of `copy`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// Threads.
    #[arg(long)]
    workers: usize,
    /// Where connections go, in turn.
    #[arg(long = "to", required = true)]
    to: Vec<SocketAddr>,
    /// HTTP/2 with prior knowledge, and requests in turn.
    #[arg(long)]
    http2: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let to: Arc<[SocketAddr]> = options.to.clone().into();
    let turn = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for _ in 0..options.workers {
        let listener = listener(options.port).context("listen")?;
        let (to, turn, http2) = (Arc::clone(&to), Arc::clone(&turn), options.http2);
        workers.push(thread::spawn(move || match http2 {
            true => serve_http2(listener, &to),
            false => serve(listener, &to, &turn),
        }));
    }
    writeln!(io::stdout(), "ready")?;
    for worker in workers {
        let ended = worker.join();
        ended.map_err(|_panic| anyhow::anyhow!("a worker died"))??;
    }
    Ok(())
}

fn listener(port: u16) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(4_096)?;
    Ok(socket.into())
}

fn serve(listener: std::net::TcpListener, to: &[SocketAddr], turn: &AtomicUsize) -> Result<()> {
    runtime()?.block_on(accept(listener, |stream| {
        relay(stream, to[turn.fetch_add(1, Ordering::Relaxed) % to.len()])
    }))
}

fn serve_http2(listener: std::net::TcpListener, to: &[SocketAddr]) -> Result<()> {
    runtime()?.block_on(async {
        let upstreams = Arc::new(http2::Upstreams::connect(to).await?);
        accept(listener, |stream| {
            http2::relay(stream, Arc::clone(&upstreams))
        })
        .await
    })
}

/// Serves each connection by a task of its own. How one ends is its client's business.
async fn accept<F>(listener: std::net::TcpListener, relay: impl Fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output: Send> + Send + 'static,
{
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        tokio::spawn(relay(stream));
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn relay(mut downstream: TcpStream, to: SocketAddr) -> io::Result<()> {
    downstream.set_nodelay(true)?;
    let mut upstream = TcpStream::connect(to).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional(&mut downstream, &mut upstream).await?;
    Ok(())
}
