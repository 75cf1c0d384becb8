//! Connections that are routed by their server name, their client and weights, unopened.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::model::{ClusterId, Destination, Snapshot, StreamTable};
use crate::route::{self, Client, Greeting};

use super::accept::reset;
use super::client_hello::{Hello, MAX_HELLO_BYTES, client_hello};
use super::downstream::HEAD_LIMIT;
use super::downstream::SILENCE;
use super::reply::Reason;
use super::tcp::{self, Target};
use super::worker::OpenConnection;

/// Sends a connection, of which `prefix` was already read, where its rule says. Where none says
/// anything it is reset, and counted with the reason.
pub(super) async fn serve(
    open: OpenConnection,
    mut stream: TcpStream,
    mut prefix: BytesMut,
    table: &Arc<StreamTable>,
) {
    let mut hello = Hello::Foreign;
    if let Some(patience) = patience(&open, table) {
        hello = match look(&mut stream, &mut prefix, patience).await {
            Ok(hello) => hello,
            Err(error) => {
                tracing::trace!(%error, "client went before it said who it wants");
                return reset(&stream);
            }
        };
    }
    match decide(&open, table, &hello) {
        Ok(cluster) => {
            let target = Target::Cluster(cluster);
            tcp::relay(open, stream, prefix.freeze(), target).await;
        }
        Err(reason) => {
            tracing::debug!(reason = reason.name(), origin = %table.origin, "connection reset");
            open.worker.recorder().reason(reason.name());
            reset(&stream);
        }
    }
}

/// How long to wait for the client's first word; `None` where the decision does not need it.
fn patience(open: &OpenConnection, table: &StreamTable) -> Option<Duration> {
    let snapshot = open.worker.snapshot();
    let client = client(open, &snapshot);
    if !table.asks_for_greeting(&client) {
        return None;
    }
    // Who waits for the server's first word is no TLS client, and may be welcome all the same.
    let others = table.takes_other(&client);
    Some(if others { SILENCE } else { HEAD_LIMIT })
}

fn client<'a>(open: &'a OpenConnection, snapshot: &'a Snapshot) -> Client<'a> {
    Client {
        namespace: &open.pod.namespace,
        uid: &open.pod.uid,
        labels: &snapshot.pod_labels,
    }
}

/// Reads until the ClientHello is whole, cannot become one, or takes too long.
async fn look(
    stream: &mut TcpStream,
    prefix: &mut BytesMut,
    patience: Duration,
) -> std::io::Result<Hello> {
    let begun = Instant::now();
    loop {
        let hello = client_hello(prefix);
        if hello != Hello::Partial || prefix.len() >= MAX_HELLO_BYTES {
            return Ok(hello);
        }
        let limit = if prefix.is_empty() {
            begun + patience
        } else {
            begun + HEAD_LIMIT
        };
        let Ok(read) = timeout_at(limit, stream.read_buf(prefix)).await else {
            return Ok(Hello::Foreign);
        };
        if read? == 0 {
            return Ok(Hello::Foreign);
        }
    }
}

fn decide(open: &OpenConnection, table: &StreamTable, hello: &Hello) -> Result<ClusterId, Reason> {
    let snapshot = open.worker.snapshot();
    let (greeting, otherwise) = match hello {
        Hello::Whole(name) => (Greeting::Tls(name.as_deref()), Reason::NoRoute),
        Hello::Partial | Hello::Foreign => (Greeting::Other, Reason::NotTls),
    };
    let rule = table.find(greeting, &client(open, &snapshot));
    let rule = rule.ok_or(otherwise)?;
    let chosen = route::choose(&rule.destinations, open.worker.draw().word());
    match chosen.map(|one| &one.destination) {
        Some(Destination::Cluster(id)) => Ok(*id),
        // A redirect answers requests; connections have none.
        Some(Destination::Invalid | Destination::Redirect(_)) => Err(Reason::InvalidBackend),
        None => Err(Reason::NoDestination),
    }
}
