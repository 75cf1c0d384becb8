//! Opaque TCP: bytes both ways, half-close and reset included.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::model::ClusterId;
use crate::net;

use super::accelerate::reason;
use super::accept::reset;
use super::load::{Client, ClusterState, OpenOnEndpoint};
use super::reply::Reason;
use super::upstream::{CONNECT_LIMIT, MAX_TRIES};
use super::worker::OpenConnection;

/// One buffer a direction.
const BUFFER_BYTES: usize = 32 * 1024;

/// Where an opaque connection goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// To an endpoint of a cluster.
    Cluster(ClusterId),
    /// To the address that the pod asked for.
    Address(SocketAddr),
}

/// Relays `stream`, of which `prefix` was already read, until both sides are done.
pub(super) async fn relay(open: OpenConnection, stream: TcpStream, prefix: Bytes, target: Target) {
    match target {
        Target::Address(address) => {
            let connecting =
                net::connect(&open.pod.netns, open.worker.home(), address, CONNECT_LIMIT);
            match connecting.await {
                Ok(upstream) => {
                    exchange(stream, upstream, &prefix).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "passing a connection on failed");
                    reset(&stream);
                }
            }
        }
        Target::Cluster(id) => match open.worker.cluster(id) {
            Some(cluster) => balance(&open, &cluster, stream, &prefix).await,
            None => reset(&stream),
        },
    }
}

async fn balance(
    open: &OpenConnection,
    cluster: &Rc<ClusterState>,
    stream: TcpStream,
    prefix: &[u8],
) {
    cluster.recorder.tcp_started();
    match connect(open, cluster).await {
        Ok((upstream, on_endpoint)) => {
            let (received, sent) = exchange(stream, upstream, prefix).await;
            drop(on_endpoint);
            cluster.recorder.tcp_ended(true, received, sent);
        }
        Err(reason) => {
            open.worker.recorder().reason(reason.name());
            cluster.recorder.tcp_ended(false, 0, 0);
            reset(&stream);
        }
    }
}

async fn connect(
    open: &OpenConnection,
    cluster: &ClusterState,
) -> Result<(TcpStream, OpenOnEndpoint), Reason> {
    let mut tried = SmallVec::<[SocketAddr; MAX_TRIES]>::new();
    let client = Client {
        asked: open.asked,
        namespace: &open.pod.namespace,
    };
    while tried.len() < MAX_TRIES {
        let Some(endpoint) = cluster.pick(open.worker.draw(), client, &tried) else {
            break;
        };
        let on_endpoint = OpenOnEndpoint::new(Rc::clone(&endpoint));
        let home = open.worker.home();
        match net::connect(&open.pod.netns, home, endpoint.address, CONNECT_LIMIT).await {
            Ok(upstream) => {
                let acceleration = open.worker.acceleration();
                if acceleration.is_some_and(|of| of.is_asked_at(endpoint.address)) {
                    open.worker.recorder().unaccelerated(reason::TO_POD_OPAQUE);
                }
                return Ok((upstream, on_endpoint));
            }
            Err(error) => {
                if error.blames_endpoint() {
                    endpoint.recorder.connect_failed();
                }
                tracing::debug!(%error, endpoint = %endpoint.address, "connect failed");
            }
        }
        tried.push(endpoint.address);
    }
    Err(Reason::unreached(&tried))
}

/// Moves bytes until both directions have ended. Returns those from the client and those to it.
///
/// An end of stream is passed on as such, the other direction goes on. A failure of either side
/// resets both, so that no truncated stream looks complete.
async fn exchange(mut down: TcpStream, mut up: TcpStream, prefix: &[u8]) -> (u64, u64) {
    for stream in [&down, &up] {
        if let Err(error) = net::keep_alive(stream) {
            tracing::debug!(%error, "no TCP keepalive on an opaque connection");
        }
    }
    let (received, sent) = (Cell::new(0), Cell::new(0));
    let result = {
        let (mut down_read, mut down_write) = down.split();
        let (mut up_read, mut up_write) = up.split();
        tokio::try_join!(
            async {
                up_write.write_all(prefix).await?;
                received.set(prefix.len() as u64);
                pump(&mut down_read, &mut up_write, &received).await
            },
            pump(&mut up_read, &mut down_write, &sent),
        )
    };
    if let Err(error) = result {
        tracing::trace!(%error, "opaque connection cut");
        reset(&down);
        reset(&up);
    }
    (received.get(), sent.get())
}

/// Copies until the end of `from` and passes the end on.
pub(super) async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: &Cell<u64>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        count.set(count.get() + read as u64);
    }
}
