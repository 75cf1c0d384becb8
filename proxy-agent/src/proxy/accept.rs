//! From a listener in a pod's netns to a connection whose destination is known.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use proxy_ebpf::{FlowKey, OrigDst};

use crate::net;

use super::downstream;
use super::pod::PodState;
use super::worker::Worker;

/// Pause after an accept that failed for want of files or memory: the queue waits, nothing is lost.
const BACKOFF: Duration = Duration::from_millis(50);

/// Between the removal of a pod's map entry and the last look into its accept queue: a connect that
/// the hook had already rewritten has arrived by then.
const LAST_ARRIVALS: Duration = Duration::from_millis(20);

/// Waits until the proxy may accept; then accepts until the pod is released, and empties the queue.
pub(super) async fn run(worker: Rc<Worker>, pod: Rc<PodState>, listener: Rc<TcpListener>) {
    tokio::select! {
        biased;
        () = worker.begun() => {}
        // What waits there is another agent's.
        () = pod.stop.cancelled() => return,
    }
    if let Err(error) = accept_all(&worker, &pod, &listener).await {
        tracing::error!(%error, pod = %pod.name, namespace = %pod.namespace, "listener lost");
    }
}

async fn accept_all(
    worker: &Rc<Worker>,
    pod: &Rc<PodState>,
    listener: &TcpListener,
) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    while let Some(accepted) = pod.stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, source)) => start(worker, pod, stream, source, port),
            Err(error) => failed(worker, &error).await,
        }
    }
    sleep(LAST_ARRIVALS).await;
    // Asked of the kernel itself: the runtime may not have heard of the newest arrivals yet.
    loop {
        match net::accept_now(listener) {
            Ok((stream, source)) => {
                start(worker, pod, TcpStream::from_std(stream)?, source, port);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => failed(worker, &error).await,
        }
    }
}

/// Serves one connection on a task of its own.
fn start(
    worker: &Rc<Worker>,
    pod: &Rc<PodState>,
    stream: TcpStream,
    source: SocketAddr,
    listener_port: u16,
) {
    let key = FlowKey::from_accepted(pod.netns.cookie(), source, listener_port);
    let Some(destination) = destination(worker, &key) else {
        // Nobody knows where it was to go; a reset is the only answer that cannot mislead.
        worker.recorder().orig_dst_missing();
        tracing::debug!(%source, pod = %pod.name, "connection without original destination");
        reset(&stream);
        return;
    };
    let open = worker.open_connection(pod, &destination);
    let destination = destination.socket_addr();
    tokio::task::spawn_local(downstream::serve(open, stream, destination));
}

fn destination(worker: &Worker, key: &FlowKey) -> Option<OrigDst> {
    worker.flows().take(key).unwrap_or_else(|error| {
        tracing::warn!(%error, "original destination cannot be read");
        None
    })
}

/// Closes with RST when dropped.
pub(super) fn reset(stream: &TcpStream) {
    if let Err(error) = net::reset_on_close(stream) {
        tracing::debug!(%error, "connection could not be reset");
    }
}

async fn failed(worker: &Worker, error: &io::Error) {
    // The client gave up between SYN and accept: its own affair.
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    worker.recorder().accept_error();
    tracing::warn!(%error, "accept failed; trying again");
    sleep(BACKOFF).await;
}
