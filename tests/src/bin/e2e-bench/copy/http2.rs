//! Requests of HTTP/2, from stream to stream, by the h2 library and nothing else: no routes, limits or
//! counts, and no back-pressure.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use hyper::{Request, Response};
use tokio::net::TcpStream;

/// Connections of one worker, one to each server.
pub(super) struct Upstreams {
    servers: Vec<Server>,
    turn: AtomicUsize,
}

struct Server {
    address: SocketAddr,
    sender: Mutex<SendRequest<Bytes>>,
}

impl Upstreams {
    pub(super) async fn connect(to: &[SocketAddr]) -> Result<Self> {
        let mut servers = Vec::new();
        for &address in to {
            let sender = Mutex::new(connect(address).await?);
            servers.push(Server { address, sender });
        }
        let turn = AtomicUsize::new(0);
        Ok(Self { servers, turn })
    }

    async fn next(&self) -> Result<SendRequest<Bytes>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let server = &self.servers[turn % self.servers.len()];
        let kept = || server.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = kept().clone();
        if let Ok(ready) = sender.ready().await {
            return Ok(ready);
        }
        // Servers close what lies idle.
        let sender = connect(server.address).await?;
        *kept() = sender.clone();
        Ok(sender)
    }
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(to).await.context("connect")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

pub(super) async fn relay(downstream: TcpStream, to: Arc<Upstreams>) -> Result<()> {
    downstream.set_nodelay(true)?;
    let mut connection = h2::server::handshake(downstream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(exchange(request, respond, Arc::clone(&to)));
    }
    Ok(())
}

async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    to: Arc<Upstreams>,
) -> Result<()> {
    let (head, body) = request.into_parts();
    let mut upstream = to.next().await?;
    let whole = body.is_end_stream();
    let (response, send) = upstream.send_request(Request::from_parts(head, ()), whole)?;
    drop(upstream);
    if !whole {
        copy(body, send).await?;
    }
    let (head, body) = response.await?.into_parts();
    let whole = body.is_end_stream();
    let send = respond.send_response(Response::from_parts(head, ()), whole)?;
    if !whole {
        copy(body, send).await?;
    }
    Ok(())
}

async fn copy(mut from: RecvStream, mut to: SendStream<Bytes>) -> Result<(), h2::Error> {
    while let Some(data) = from.data().await {
        let data = data?;
        from.flow_control().release_capacity(data.len())?;
        let last = from.is_end_stream();
        to.send_data(data, last)?;
        if last {
            return Ok(());
        }
    }
    match from.trailers().await? {
        Some(trailers) => to.send_trailers(trailers),
        None => to.send_data(Bytes::new(), true),
    }
}
