//! Copies of requests to other clusters. What they come to is dropped; nothing of a request waits
//! for its copies.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderValue, Request, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::model::{Destination, Mirror, UpstreamProtocol};
use crate::route::strip_port;

use super::body::RequestBody;
use super::downstream::Downstream;
use super::forward::{Forward, Tried};
use super::load::ClusterState;
use super::pod::PodState;
use super::reply::Reason;
use super::tee::Teed;
use super::traffic::Ticket;
use super::upstream::{Protocol, ResponseFields};
use super::worker::Worker;
use super::{headers, upgrade};

/// Copies under way at one worker: with the bound on what each may queue, 8 MiB of bodies.
const MAX_MIRRORS: u32 = 128;

/// How long a copy may take, its response included; Envoy's default for requests.
const LIMIT: Duration = Duration::from_secs(15);

/// Bytes of a copy's response that are read so that its connection can be used again.
const MAX_DISCARDED_BYTES: usize = 64 * 1024;

/// Copies under way at one worker.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Rc<Cell<u32>>);

impl Mirrors {
    fn begin(&self) -> Option<Open> {
        let open = self.0.get();
        (open < MAX_MIRRORS).then(|| {
            self.0.set(open + 1);
            Open(Rc::clone(&self.0))
        })
    }
}

/// A copy under way. Counts down when dropped.
struct Open(Rc<Cell<u32>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Copies `request`, which is ready to be sent, to those of `mirrors` whose share it is part of.
/// Returns it with a body that feeds the copies. What switches protocols is not copied.
pub(super) fn copy<'m>(
    downstream: &Downstream,
    mirrors: impl Iterator<Item = &'m Mirror>,
    request: Request<RequestBody>,
) -> Request<RequestBody> {
    if upgrade::is_asked(&request) {
        return request;
    }
    let worker = &downstream.open.worker;
    let mut targets = Vec::new();
    for mirror in mirrors.filter(|one| one.share.hits(worker.draw().word())) {
        let Destination::Cluster(id) = mirror.to else {
            continue;
        };
        if let Some(cluster) = worker.cluster(id) {
            match worker.mirrors().begin() {
                Some(open) => targets.push((mirror, cluster, open)),
                None => cluster.recorder.mirror_dropped(),
            }
        }
    }
    if targets.is_empty() {
        return request;
    }
    let (head, body) = request.into_parts();
    let (body, bodies) = if body.is_end_stream() {
        (body, targets.iter().map(|_| RequestBody::Empty).collect())
    } else {
        let (teed, copies) = Teed::new(body, targets.len());
        (RequestBody::Teed(Box::new(teed)), copies)
    };
    for ((mirror, cluster, open), body) in targets.into_iter().zip(bodies) {
        let mut copy = Request::new(body);
        *copy.method_mut() = head.method.clone();
        *copy.uri_mut() = head.uri.clone();
        *copy.version_mut() = head.version;
        copy.headers_mut().clone_from(&head.headers);
        if mirror.shadow_host {
            shadow_host(&mut copy);
        }
        let (worker, pod) = (Rc::clone(worker), Rc::clone(&downstream.open.pod));
        let asked = downstream.destination.ip();
        tokio::task::spawn_local(async move {
            run(&worker, &pod, &cluster, asked, copy).await;
            drop(open);
        });
    }
    Request::from_parts(head, body)
}

async fn run(
    worker: &Worker,
    pod: &Rc<PodState>,
    cluster: &Rc<ClusterState>,
    asked: IpAddr,
    mut request: Request<RequestBody>,
) {
    let as_received = cluster.cluster.upstream == UpstreamProtocol::AsReceived;
    let protocol = if as_received && request.version() != Version::HTTP_2 {
        headers::to_http1(&mut request);
        Protocol::Http1
    } else if headers::to_http2(&mut request) {
        Protocol::Http2
    } else {
        return cluster.recorder.mirror_dropped();
    };
    let forward = Forward {
        worker,
        pod,
        cluster,
        protocol,
        asked,
        preferred: None,
        fields: ResponseFields::Unread,
    };
    cluster.recorder.mirrored();
    let sent = timeout(LIMIT, Box::pin(exchange(&forward, cluster, request))).await;
    let failure = match sent {
        Ok(Ok(())) => return,
        Ok(Err(reason)) => reason.name(),
        Err(_elapsed) => Reason::TimeoutRequest.name(),
    };
    tracing::debug!(cluster = %cluster.cluster.name, failure, "mirrored request failed");
    cluster.recorder.mirror_dropped();
}

async fn exchange(
    forward: &Forward<'_>,
    cluster: &Rc<ClusterState>,
    request: Request<RequestBody>,
) -> Result<(), Reason> {
    let mut ticket = Ticket::new(cluster);
    let mut tried = Tried::new();
    let sent = forward.send(Box::new(request), &mut ticket, &mut tried);
    let (response, lease) = sent.await?;
    let mut body = response.into_body();
    let mut discarded = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_broken| Reason::UpstreamReset)?;
        discarded += frame.data_ref().map_or(0, bytes::Bytes::len);
        if discarded > MAX_DISCARDED_BYTES {
            return Ok(());
        }
    }
    lease.give_back(body);
    Ok(())
}

/// Puts `-shadow` behind the host, before its port.
fn shadow_host<B>(request: &mut Request<B>) {
    let Some(authority) = headers::authority(request) else {
        return;
    };
    let host = strip_port(authority);
    let port = authority.strip_prefix(host).unwrap_or_default();
    let shadow = format!("{host}-shadow{port}");
    let mut parts = request.uri().clone().into_parts();
    if parts.authority.is_some() {
        parts.authority = shadow.parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    } else if let Ok(value) = HeaderValue::try_from(shadow) {
        request.headers_mut().insert(HOST, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_host_keeps_its_port() {
        for (host, expected) in [
            ("web", "web-shadow"),
            ("web:80", "web-shadow:80"),
            ("[fd00::1]:80", "[fd00::1]-shadow:80"),
        ] {
            let mut request = Request::builder().header(HOST, host).body(()).unwrap();
            shadow_host(&mut request);
            assert_eq!(request.headers()[HOST], expected);
        }
        let mut request = Request::builder().uri("http://web:80/a").body(()).unwrap();
        shadow_host(&mut request);
        assert_eq!(request.uri(), "http://web-shadow:80/a");
    }

    #[test]
    fn copies_under_way_are_bounded() {
        let mirrors = Mirrors::default();
        let open: Vec<_> = std::iter::from_fn(|| mirrors.begin()).collect();
        assert_eq!(open.len(), MAX_MIRRORS as usize);
        drop(open);
        assert!(mirrors.begin().is_some());
    }
}
