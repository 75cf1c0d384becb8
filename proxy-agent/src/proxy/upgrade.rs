//! Connections that stop being HTTP: `Upgrade` (101) and CONNECT (2xx).

use std::cell::Cell;
use std::rc::Rc;

use http::header::UPGRADE;
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::clock::OpenRequest;
use super::downstream::Downstream;
use super::tcp::pump;
use super::traffic::Ticket;
use super::upstream::Lease;

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
pub(super) fn join<B>(
    downstream: Rc<Downstream>,
    client: OnUpgrade,
    response: &mut Response<B>,
    kept: (OpenRequest, Ticket, Lease),
) {
    downstream.clock.becomes_tunnel();
    let upstream = hyper::upgrade::on(response);
    tokio::task::spawn_local(async move {
        match tokio::try_join!(client, upstream) {
            Ok((client, upstream)) => {
                if let Err(error) = tunnel(client, upstream).await {
                    tracing::trace!(%error, "tunnel cut");
                    downstream.clock.reset_on_close();
                }
            }
            Err(error) => tracing::debug!(%error, "protocol switch failed"),
        }
        drop(kept);
    });
}

async fn tunnel(client: Upgraded, upstream: Upgraded) -> std::io::Result<()> {
    let (mut client_read, mut client_write) = tokio::io::split(TokioIo::new(client));
    let (mut upstream_read, mut upstream_write) = tokio::io::split(TokioIo::new(upstream));
    // The bytes of a tunnel are no figure of its own: the request is what is counted.
    let (up, down) = (Cell::new(0), Cell::new(0));
    tokio::try_join!(
        pump(&mut client_read, &mut upstream_write, &up),
        pump(&mut upstream_read, &mut client_write, &down),
    )?;
    Ok(())
}
