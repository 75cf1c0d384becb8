//! Connections that stop being HTTP: `Upgrade` (101) and CONNECT (2xx).

use std::cell::Cell;
use std::io;

use bytes::BytesMut;
use http::header::UPGRADE;
use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::accept;
use super::downstream::OpenRequest;
use super::http2::Duplex;
use super::tcp::pump;
use super::traffic::Ticket;
use super::upstream::{Lease, Received, UpstreamIo};

/// Whether a response with `status` turns the connection of a `method` request into a tunnel.
pub(super) fn switches(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success())
}

/// Whether a request asks to switch.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT || request.headers().contains_key(UPGRADE)
}

/// The upstream's side of a switch, and what has to be kept for as long as it is there. It counts as
/// an open request.
pub(super) struct Tunnel {
    upstream: Upstream,
    _kept: (OpenRequest, Ticket, Lease),
}

enum Upstream {
    /// What was read behind the head, and the socket.
    Http1(BytesMut, UpstreamIo),
    Http2(Duplex),
}

impl Tunnel {
    /// The connection of a response that switches; `None` if it cannot be had.
    pub(super) fn of(
        response: &mut Response<Received>,
        kept: (OpenRequest, Ticket, Lease),
    ) -> Option<Box<Self>> {
        let upstream = match response.body_mut().take() {
            Received::Http1(body) => {
                let (read, io) = body.into_tunnel()?;
                Upstream::Http1(read, io)
            }
            Received::Http2(body) => Upstream::Http2(body.into_tunnel()?),
            Received::Taken => return None,
        };
        Some(Box::new(Self {
            upstream,
            _kept: kept,
        }))
    }

    /// Moves bytes between the client, of whom `read` was read already, and the upstream, until both
    /// have ended. What fails on one side ends both.
    pub(super) async fn carry(
        self,
        read: BytesMut,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<()> {
        match self.upstream {
            Upstream::Http1(from_upstream, mut upstream) => {
                let carried = join((read, client), (from_upstream, &mut upstream)).await;
                if carried.is_err() {
                    // So that nobody takes what came for all.
                    accept::reset(&upstream.stream);
                }
                carried
            }
            Upstream::Http2(mut upstream) => {
                join((read, client), (BytesMut::new(), &mut upstream)).await
            }
        }
    }
}

/// Sockets, and what was read from them already.
async fn join(
    (client_read, client): (BytesMut, impl AsyncRead + AsyncWrite),
    (upstream_read, upstream): (BytesMut, impl AsyncRead + AsyncWrite),
) -> io::Result<()> {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let mut from_client = (&client_read[..]).chain(from_client);
    let mut from_upstream = (&upstream_read[..]).chain(from_upstream);
    // The bytes of a tunnel are no figure of its own: the request is what is counted.
    let (up, down) = (Cell::new(0), Cell::new(0));
    tokio::try_join!(
        pump(&mut from_client, &mut to_upstream, &up),
        pump(&mut from_upstream, &mut to_client, &down),
    )?;
    Ok(())
}
