//! One HTTP request: whose route it falls under, what that route does with it, and the answer.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, sleep, timeout};

use crate::model::{
    Action, ClusterId, Destination, Filters, Listener, Policies, Redirect, Rule, Share, Snapshot,
    UpstreamProtocol, WeightedDestination,
};
use crate::route::{self, Client, RequestView};

use super::MAX_HEADERS;
use super::body::{RequestBody, ResponseBody, UpstreamBody};
use super::clock::OpenRequest;
use super::cors::{self, Ruling};
use super::downstream::Downstream;
use super::forward::{Forward, Tried};
use super::load::{ClusterState, EndpointState};
use super::plan::Plan;
use super::reply::{REASON, Reason};
use super::stream_limit::StreamLimit;
use super::traffic::Ticket;
use super::upstream::{Lease, Protocol};
use super::{headers, mirror, retrying, session, upgrade};

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
    let Some(listener) = listener else {
        worker.recorder().reason(Reason::NoService.name());
        return Err(Reason::NoService);
    };
    let exchange = Exchange {
        downstream,
        asked: listener.cluster,
        started,
        open,
    };
    let result = match find(&snapshot, listener, downstream, &request) {
        Ok(rule) => exchange.obey(rule, request).await,
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
    let client = Client {
        namespace,
        uid: &downstream.open.pod.uid,
        labels: &snapshot.pod_labels,
    };
    let view = view(request, authority, Some(client));
    table.find(&view).ok_or(Reason::NoRoute)
}

/// One request in the making.
struct Exchange<'a> {
    downstream: &'a Rc<Downstream>,
    /// The cluster of the Service that was asked for.
    asked: ClusterId,
    started: Instant,
    open: OpenRequest,
}

/// A failure, and the entry in the counters if the request had one already.
type Failure = (Reason, Option<Ticket>);

impl Exchange<'_> {
    async fn obey(
        self,
        rule: &Rule,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Failure> {
        match &rule.policies {
            None => self.act(rule, request).await,
            // Boxed: most rules have none, and should not pay for it.
            Some(policies) => Box::pin(self.act_within(policies, rule, request)).await,
        }
    }

    /// What comes before the rule's action: the answer to a preflight, faults.
    async fn act_within(
        self,
        policies: &Policies,
        rule: &Rule,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Failure> {
        let ruling = policies
            .cors
            .as_ref()
            .map(|cors| (cors, cors::rule(cors, &request)));
        let allowed = match ruling {
            Some((_, Ruling::Answer(head))) => return Ok(cors::answer(head)),
            Some((cors, Ruling::GoOn(origin))) => origin.map(|origin| (cors, origin)),
            None => None,
        };
        self.fault(policies).await?;
        let mut response = self.act(rule, request).await?;
        if let Some((cors, origin)) = allowed {
            cors::allow(cors, origin, response.headers_mut());
        }
        Ok(response)
    }

    /// Holds the request back or fails it, if it is among those that the rule's faults hit.
    async fn fault(&self, policies: &Policies) -> Result<(), Failure> {
        let worker = &self.downstream.open.worker;
        let hit = |share: Share| share.hits(worker.draw().word());
        if let Some(delay) = policies.delay.filter(|delay| hit(delay.share)) {
            if let Some(cluster) = worker.cluster(self.asked) {
                cluster.recorder.delayed();
            }
            sleep(delay.time).await;
        }
        let Some(abort) = policies.abort.filter(|abort| hit(abort.share)) else {
            return Ok(());
        };
        if let Some(cluster) = worker.cluster(self.asked) {
            cluster.recorder.aborted();
        }
        Err((Reason::Fault(abort.with), None))
    }

    async fn act(
        self,
        rule: &Rule,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Failure> {
        match &*rule.action {
            Action::Direct {
                filters,
                status,
                body,
            } => Ok(direct(filters, *status, body)),
            Action::Respond { status, reason } => Err((Reason::Rule(*status, reason), None)),
            Action::Redirect { filters, redirect } => {
                let port = self.downstream.destination.port();
                redirected(rule, filters, redirect, &request, port).map_err(|reason| (reason, None))
            }
            Action::Forward {
                filters,
                destinations,
            } => {
                let (chosen, preferred) = self.choose(rule, destinations, &request)?;
                let plan = Plan {
                    rule,
                    filters,
                    chosen,
                    preferred,
                };
                self.forward(&plan, request).await
            }
        }
    }

    /// The destination, and the endpoint of it that the request's session names.
    fn choose<'d>(
        &self,
        rule: &Rule,
        destinations: &'d [WeightedDestination],
        request: &Request<Incoming>,
    ) -> Result<Choice<'d>, Failure> {
        let worker = &self.downstream.open.worker;
        let session = rule.policies.as_ref().and_then(|of| of.session.as_ref());
        if let Some(session) = session
            && let Some(found) = session::find(session, request.headers(), destinations, worker)
        {
            return Ok((&destinations[found.destination], Some(found.endpoint)));
        }
        let chosen = route::choose(destinations, worker.draw().word());
        let chosen = chosen.ok_or((Reason::InvalidBackend, None))?;
        Ok((chosen, None))
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
        let (mut request, continued) = match plan.prepare(request, protocol) {
            Ok(prepared) => prepared,
            Err(reason) => return Err((reason, Some(ticket))),
        };
        if let Some(policies) = plan.policies().filter(|of| !of.mirrors.is_empty()) {
            request = mirror::copy(self.downstream, &policies.mirrors, request);
        }
        let sent = self.send(plan, &cluster, protocol, request, &mut ticket);
        let (mut response, lease) = match sent.await {
            Ok(answered) => answered,
            Err(reason) => return Err((reason, Some(ticket))),
        };
        if let Some(continued) = continued {
            continued.cancel();
        }
        let took = self.started.elapsed();
        ticket.classified(response.status(), plan.policies(), took);
        plan.finish(&mut response);
        plan.keep_session(&ticket, &mut response);
        if upgrade::switches(&method, response.status()) {
            let kept = (self.open, ticket, lease);
            upgrade::join(Rc::clone(self.downstream), client, &mut response, kept);
            return Ok(response.map(|_| ResponseBody::Empty));
        }
        let limits = plan.policies().and_then(|of| of.stream);
        let limit = limits.map(|limits| StreamLimit::new(limits, self.started));
        let (open, lease) = (self.open, Some(lease));
        Ok(response.map(|body| {
            let body = UpstreamBody::new(body, lease, open, ticket);
            ResponseBody::Upstream(body.within(limit))
        }))
    }

    fn cluster(&self, id: ClusterId) -> Result<Rc<ClusterState>, Failure> {
        let cluster = self.downstream.open.worker.cluster(id);
        cluster.ok_or((Reason::InvalidBackend, None))
    }

    async fn send(
        &self,
        plan: &Plan<'_>,
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
            preferred: plan.preferred.as_ref(),
        };
        let timeouts = plan.rule.timeouts;
        let retry = plan.policies().and_then(|of| of.retry.as_ref());
        // The client's side of a switch is taken for one response.
        if let Some(retry) = retry.filter(|_| !upgrade::is_asked(&request)) {
            let each = retry.per_try.or(timeouts.backend_request);
            let sending = Box::pin(retrying::send(&forward, retry, each, request, ticket));
            return match timeouts.request {
                None => sending.await,
                Some(whole) => timeout(whole, sending)
                    .await
                    .unwrap_or(Err(Reason::TimeoutRequest)),
            };
        }
        let mut tried = Tried::new();
        // Boxed: every future around this one is moved while it is still small.
        let sending = Box::pin(forward.send(request, ticket, &mut tried));
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

/// A destination, and the endpoint of it that is to be tried first.
type Choice<'d> = (&'d WeightedDestination, Option<Rc<EndpointState>>);

fn direct(filters: &Filters, status: StatusCode, body: &Bytes) -> Response<ResponseBody> {
    let whole = Some(body.clone()).filter(|body| !body.is_empty());
    let mut response = Response::new(ResponseBody::Direct(whole));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(REASON, HeaderValue::from_static("direct_response"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    filters.response_headers.apply(headers);
    response
}

fn redirected(
    rule: &Rule,
    filters: &Filters,
    redirect: &Redirect,
    request: &Request<Incoming>,
    port: u16,
) -> Result<Response<ResponseBody>, Reason> {
    let authority = headers::authority(request).unwrap_or_default();
    let location = route::location(rule, redirect, &view(request, authority, None), port);
    let location = HeaderValue::try_from(location).map_err(|_invalid| Reason::BadRequest)?;
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = redirect.status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    filters.response_headers.apply(headers);
    Ok(response)
}

fn view<'a>(
    request: &'a Request<Incoming>,
    authority: &'a str,
    client: Option<Client<'a>>,
) -> RequestView<'a> {
    RequestView {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query(),
        authority,
        headers: request.headers(),
        client,
    }
}
