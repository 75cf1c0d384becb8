//! One HTTP request: whose route it falls under, what that route does with it, and the answer.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::model::{
    Action, ClusterId, Destination, Filters, Listener, Redirect, Rule, Snapshot, Timeouts,
    UpstreamProtocol, WeightedDestination,
};
use crate::route::{self, RequestView};

use super::MAX_HEADERS;
use super::body::{RequestBody, ResponseBody, UpstreamBody};
use super::clock::OpenRequest;
use super::downstream::Downstream;
use super::forward::Forward;
use super::load::ClusterState;
use super::reply::Reason;
use super::traffic::Ticket;
use super::upstream::{Lease, Protocol};
use super::{headers, upgrade};

/// Answers one request; every failure is an answer with a reason.
pub(super) fn answer(
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    // Now, not when the future is first polled: hyper reads once more in between, and would take
    // the end of a client that has closed its side for one that came before its request.
    let open = downstream.clock.request();
    respond(downstream, request, open)
}

async fn respond(
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
    open: OpenRequest,
) -> Result<Response<ResponseBody>, Infallible> {
    let started = Instant::now();
    downstream.clock.has_body(!request.body().is_end_stream());
    let grpc = headers::is_grpc(request.headers());
    let served = serve(&downstream, request, started, open).await;
    // The client's next connection takes the ordinary path: no agent, or no Service to capture for.
    let leave = downstream.open.worker.is_draining() || matches!(served, Err(Reason::NoService));
    let mut response = served.unwrap_or_else(|reason| reason.response(grpc));
    if leave && downstream.clock.is_http1() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().entry(CONNECTION).or_insert(close);
    }
    Ok(response)
}

async fn serve(
    downstream: &Rc<Downstream>,
    request: Request<Incoming>,
    started: Instant,
    open: OpenRequest,
) -> Result<Response<ResponseBody>, Reason> {
    let worker = &downstream.open.worker;
    let snapshot = worker.snapshot();
    let listener = snapshot.by_address.get(&downstream.destination);
    let exchange = Exchange {
        downstream,
        started,
        open,
    };
    let Some(listener) = listener else {
        worker.recorder().reason(Reason::NoService.name());
        return Err(Reason::NoService);
    };
    let result = match find(&snapshot, listener, downstream, &request) {
        Ok(rule) => exchange.act(rule, request).await,
        Err(reason) => Err((reason, None)),
    };
    result.map_err(|(reason, ticket)| {
        worker.recorder().reason(reason.name());
        let ticket = ticket.or_else(|| worker.cluster(listener.cluster).map(|c| Ticket::new(&c)));
        if let Some(ticket) = ticket {
            ticket.answered(reason.status(), started.elapsed());
        }
        reason
    })
}

/// The rule that a request falls under.
fn find<'a>(
    snapshot: &'a Snapshot,
    listener: &'a Listener,
    downstream: &Downstream,
    request: &Request<Incoming>,
) -> Result<&'a Rule, Reason> {
    if request.headers().len() > MAX_HEADERS {
        return Err(Reason::HeadTooLarge);
    }
    // RFC 9112, section 3.2: of two, the agent and the upstream might each believe another one.
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(Reason::BadRequest);
    }
    let authority = match headers::authority(request) {
        Some(authority) => route::strip_port(authority),
        // RFC 9112, section 3.2: an HTTP/1.1 request without Host is a bad one.
        None if request.version() == Version::HTTP_11 => return Err(Reason::BadRequest),
        None => "",
    };
    let namespace = &downstream.open.pod.namespace;
    let table = route::virtual_host(snapshot, namespace, authority)
        .unwrap_or_else(|| listener.routes_for(namespace));
    table.find(&view(request, authority)).ok_or(Reason::NoRoute)
}

/// One request in the making.
struct Exchange<'a> {
    downstream: &'a Rc<Downstream>,
    started: Instant,
    open: OpenRequest,
}

/// A failure, and the entry in the counters if the request had one already.
type Failure = (Reason, Option<Ticket>);

impl Exchange<'_> {
    async fn act(
        self,
        rule: &Rule,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Failure> {
        match &*rule.action {
            Action::Respond { status, reason } => Err((Reason::Rule(*status, reason), None)),
            Action::Redirect { filters, redirect } => {
                let port = self.downstream.destination.port();
                redirected(rule, filters, redirect, &request, port).map_err(|reason| (reason, None))
            }
            Action::Forward {
                filters,
                destinations,
            } => {
                let draw = self.downstream.open.worker.draw().word();
                let destination = route::choose(destinations, draw);
                let chosen = destination.ok_or((Reason::InvalidBackend, None))?;
                let plan = Plan {
                    rule,
                    filters,
                    chosen,
                };
                self.forward(&plan, request).await
            }
        }
    }

    async fn forward(
        self,
        plan: &Plan<'_>,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let Destination::Cluster(id) = plan.chosen.destination else {
            return Err((Reason::InvalidBackend, None));
        };
        let cluster = self.cluster(id)?;
        let mut ticket = Ticket::new(&cluster);
        let protocol = match cluster.cluster.upstream {
            UpstreamProtocol::Http2 => Protocol::Http2,
            UpstreamProtocol::AsReceived if request.version() == Version::HTTP_2 => Protocol::Http2,
            UpstreamProtocol::AsReceived => Protocol::Http1,
        };
        let method = request.method().clone();
        let client = upgrade::of_request(&mut request);
        headers::ensure_authority(&mut request, self.downstream.destination);
        let (request, continued) = match plan.prepare(request, protocol) {
            Ok(prepared) => prepared,
            Err(reason) => return Err((reason, Some(ticket))),
        };
        let sent = self.send(plan.rule.timeouts, &cluster, protocol, request, &mut ticket);
        let (mut response, lease) = match sent.await {
            Ok(answered) => answered,
            Err(reason) => return Err((reason, Some(ticket))),
        };
        if let Some(continued) = continued {
            continued.cancel();
        }
        ticket.answered(response.status(), self.started.elapsed());
        plan.finish(&mut response);
        if upgrade::switches(&method, response.status()) {
            let kept = (self.open, ticket, lease);
            upgrade::join(Rc::clone(self.downstream), client, &mut response, kept);
            return Ok(response.map(|_| ResponseBody::Empty));
        }
        let (open, lease) = (self.open, Some(lease));
        Ok(response
            .map(|body| ResponseBody::Upstream(UpstreamBody::new(body, lease, open, ticket))))
    }

    fn cluster(&self, id: ClusterId) -> Result<Rc<ClusterState>, Failure> {
        let cluster = self.downstream.open.worker.cluster(id);
        cluster.ok_or((Reason::InvalidBackend, None))
    }

    async fn send(
        &self,
        timeouts: Timeouts,
        cluster: &ClusterState,
        protocol: Protocol,
        request: Request<RequestBody>,
        ticket: &mut Ticket,
    ) -> Result<(Response<Incoming>, Lease), Reason> {
        let forward = Forward {
            worker: &self.downstream.open.worker,
            pod: &self.downstream.open.pod,
            cluster,
            protocol,
        };
        // Boxed: every future around this one is moved while it is still small.
        let sending = Box::pin(forward.send(request, ticket));
        // There is one try after anything was sent, so the limit on a try and that on the whole
        // differ only in who is told: the shorter one counts.
        let limit = match (timeouts.request, timeouts.backend_request) {
            (None, None) => return sending.await,
            (Some(whole), Some(each)) if each < whole => (each, Reason::TimeoutBackend),
            (Some(whole), _) => (whole, Reason::TimeoutRequest),
            (None, Some(each)) => (each, Reason::TimeoutBackend),
        };
        let (limit, reason): (Duration, Reason) = limit;
        timeout(limit, sending).await.unwrap_or(Err(reason))
    }
}

/// What a rule does with one request.
struct Plan<'a> {
    rule: &'a Rule,
    filters: &'a Filters,
    chosen: &'a WeightedDestination,
}

impl Plan<'_> {
    /// The request as it goes to the upstream, and what lets a body go that is held back.
    fn prepare(
        &self,
        mut request: Request<Incoming>,
        protocol: Protocol,
    ) -> Result<(Request<RequestBody>, Option<CancellationToken>), Reason> {
        let gated =
            request.version() != Version::HTTP_2 && headers::expects_continue(request.headers());
        let switch = headers::upgrade_protocol(request.headers());
        headers::strip_hop_by_hop(request.headers_mut());
        for filters in [self.filters, &self.chosen.filters] {
            filters.request_headers.apply(request.headers_mut());
        }
        self.rewrite(&mut request)?;
        match protocol {
            Protocol::Http1 => {
                headers::to_http1(&mut request);
                if let Some(protocol) = switch {
                    headers::put_upgrade(request.headers_mut(), protocol);
                }
            }
            Protocol::Http2 => {
                if !headers::to_http2(&mut request) {
                    return Err(Reason::BadRequest);
                }
            }
        }
        if gated && protocol == Protocol::Http1 {
            let continued = CancellationToken::new();
            let opened = continued.clone();
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    opened.cancel();
                }
            });
            let request = request.map(|body| RequestBody::gated(body, continued.clone()));
            return Ok((request, Some(continued)));
        }
        Ok((request.map(RequestBody::Streamed), None))
    }

    /// Gives the request the path and the authority that the rule says.
    fn rewrite(&self, request: &mut Request<Incoming>) -> Result<(), Reason> {
        let path = &self.filters.rewrite_path;
        let authority = self.filters.rewrite_authority.as_ref();
        let authority = authority.or(self.chosen.filters.rewrite_authority.as_ref());
        if path.is_none() && authority.is_none() {
            return Ok(());
        }
        let mut parts = request.uri().clone().into_parts();
        if let Some(path) = path {
            let mut target = route::rewrite_path(self.rule, path, request.uri().path());
            if let Some(query) = request.uri().query() {
                target.push('?');
                target.push_str(query);
            }
            parts.path_and_query = Some(target.parse().map_err(|_invalid| Reason::BadRequest)?);
        }
        if let Some(host) = authority {
            if parts.authority.is_some() {
                let authority = host.as_bytes().try_into();
                parts.authority = Some(authority.map_err(|_invalid| Reason::BadRequest)?);
            }
            request.headers_mut().insert(HOST, host.clone());
        }
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_invalid| Reason::BadRequest)?;
        Ok(())
    }

    /// The response as it goes to the client.
    fn finish<B>(&self, response: &mut Response<B>) {
        let switch = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
            .then(|| headers::upgrade_protocol(response.headers()))
            .flatten();
        headers::strip_hop_by_hop(response.headers_mut());
        if let Some(protocol) = switch {
            headers::put_upgrade(response.headers_mut(), protocol);
        }
        for filters in [&self.chosen.filters, self.filters] {
            filters.response_headers.apply(response.headers_mut());
        }
        // hyper answers in the client's version; the upstream's must not end the connection.
        *response.version_mut() = Version::HTTP_11;
    }
}

fn redirected(
    rule: &Rule,
    filters: &Filters,
    redirect: &Redirect,
    request: &Request<Incoming>,
    port: u16,
) -> Result<Response<ResponseBody>, Reason> {
    let authority = headers::authority(request).unwrap_or_default();
    let location = route::location(rule, redirect, &view(request, authority), port);
    let location = HeaderValue::try_from(location).map_err(|_invalid| Reason::BadRequest)?;
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = redirect.status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    filters.response_headers.apply(headers);
    Ok(response)
}

fn view<'a>(request: &'a Request<Incoming>, authority: &'a str) -> RequestView<'a> {
    RequestView {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query(),
        authority,
        headers: request.headers(),
    }
}
