//! Connections that stop being HTTP: `Upgrade` (101) and CONNECT (2xx).

use std::cell::Cell;
use std::future::ready;
use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use http::header::UPGRADE;
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::clock::OpenRequest;
use super::downstream::Downstream;
use super::tcp::pump;
use super::traffic::Ticket;
use super::upstream::{Lease, Received};

/// Whether a response with `status` turns the connection of a `method` request into a tunnel.
pub(super) fn switches(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success())
}

/// Whether a request asks to switch.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT || request.headers().contains_key(UPGRADE)
}

/// The client's side of a switch, to be taken before the request is sent on.
pub(super) fn of_request<B>(request: &mut Request<B>) -> OnUpgrade {
    hyper::upgrade::on(request)
}

/// Joins both sides as soon as both have switched; the tunnel counts as an open request.
pub(super) fn join(
    downstream: Rc<Downstream>,
    client: OnUpgrade,
    response: &mut Response<Received>,
    kept: (OpenRequest, Ticket, Lease),
) {
    downstream.clock.becomes_tunnel();
    let by_http2 = hyper::upgrade::on(&mut *response);
    let body = response.body_mut().take();
    tokio::task::spawn_local(async move {
        let tunnelled = match body {
            Received::Http1(body) => match body.into_tunnel() {
                Some(upstream) => tunnel(client, ready(Ok(upstream))).await,
                None => Err(io::ErrorKind::NotConnected.into()),
            },
            Received::Http2(_) | Received::Taken => {
                let upstream = async { Ok((BytesMut::new(), TokioIo::new(by_http2.await?))) };
                tunnel(client, upstream).await
            }
        };
        if let Err(error) = tunnelled {
            tracing::trace!(%error, "tunnel cut");
            downstream.clock.reset_on_close();
        }
        drop(kept);
    });
}

/// The upstream is a socket, and what was read from it already.
async fn tunnel(
    client: OnUpgrade,
    upstream: impl Future<Output = hyper::Result<(BytesMut, impl AsyncRead + AsyncWrite)>>,
) -> io::Result<()> {
    let (client, (read, upstream)) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "protocol switch failed");
            return Ok(());
        }
    };
    let (mut client_read, mut client_write) = tokio::io::split(TokioIo::new(client));
    let (upstream_read, mut upstream_write) = tokio::io::split(upstream);
    let mut upstream_read = (&read[..]).chain(upstream_read);
    // The bytes of a tunnel are no figure of its own: the request is what is counted.
    let (up, down) = (Cell::new(0), Cell::new(0));
    tokio::try_join!(
        pump(&mut client_read, &mut upstream_write, &up),
        pump(&mut upstream_read, &mut client_write, &down),
    )?;
    Ok(())
}
