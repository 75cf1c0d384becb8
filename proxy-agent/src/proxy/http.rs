//! One HTTP request: whose route it falls under, what that route does with it, and the answer.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use tokio::time::{Instant, sleep, timeout};

use crate::model::{
    Action, ClusterId, Cors, Destination, Filters, Policies, Redirect, Rule, Share,
    UpstreamProtocol, WeightedDestination,
};
use crate::route;
use crate::route::cors::{self, Ruling};

use super::body::{RequestBody, ResponseBody, UpstreamBody};
use super::downstream::{Downstream, OpenRequest};
use super::failure::{Failure, told};
use super::forward::{Forward, Tried};
use super::load::ClusterState;
use super::plan::Plan;
use super::reply::{self, REASON, Reason, Reply};
use super::stream_limit::StreamLimit;
use super::traffic::Ticket;
use super::upgrade::Tunnel;
use super::upstream::{Answered, Protocol, ResponseFields};
use super::{headers, lookup, mirror, retrying, session, upgrade};

/// Answers one request; every failure is an answer with a reason.
pub(super) async fn answer(
    downstream: Rc<Downstream>,
    request: Box<Request<RequestBody>>,
) -> Reply {
    let open = downstream.request();
    let started = Instant::now();
    let grpc = headers::is_grpc(request.headers());
    let served = serve(&downstream, request, started, open).await;
    // The client's next connection takes the ordinary path: no agent, or no Service to capture for.
    let gone = matches!(&served, Err(failure) if failure.reason == Reason::NoService);
    let leave = downstream.open.worker.is_draining() || gone;
    let mut response = served.unwrap_or_else(|failure| failure.response(grpc));
    if leave && downstream.is_http1() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().entry(CONNECTION).or_insert(close);
    }
    response
}

async fn serve(
    downstream: &Rc<Downstream>,
    mut request: Box<Request<RequestBody>>,
    started: Instant,
    open: OpenRequest,
) -> Result<Reply, Failure> {
    let worker = &downstream.open.worker;
    let snapshot = worker.snapshot();
    let listener = snapshot.by_address.get(&downstream.destination);
    let Some(listener) = listener else {
        worker.recorder().reason(Reason::NoService.name());
        return Err(Reason::NoService.into());
    };
    let exchange = Exchange {
        downstream,
        asked: listener.cluster,
        started,
        open: Cell::new(open),
    };
    let result = match lookup::find(&snapshot, listener, downstream, &mut request) {
        Ok(rule) => exchange.obey(rule, request).await,
        Err(reason) => Err(reason.into()),
    };
    result.map_err(|mut failure| {
        let reason = failure.reason;
        worker.recorder().reason(reason.name());
        let ticket = failure.ticket.take();
        let ticket = ticket.or_else(|| worker.cluster(listener.cluster).map(|c| Ticket::new(&c)));
        if let Some(ticket) = ticket {
            ticket.answered(reason.status(), started.elapsed());
        }
        failure
    })
}

/// One request in the making.
struct Exchange<'a> {
    downstream: &'a Rc<Downstream>,
    /// The cluster of the Service that was asked for.
    asked: ClusterId,
    started: Instant,
    /// Until the answer's body, or its tunnel, has it.
    open: Cell<OpenRequest>,
}

impl Exchange<'_> {
    async fn obey(
        &self,
        rule: &Rule,
        request: Box<Request<RequestBody>>,
    ) -> Result<Reply, Failure> {
        match &rule.policies {
            None => self.act(rule, request).await,
            // Boxed: most rules have none, and should not pay for it.
            Some(policies) => Box::pin(self.act_within(policies, rule, request)).await,
        }
    }

    /// What comes before the rule's action: the answer to a preflight, faults.
    async fn act_within(
        &self,
        policies: &Policies,
        rule: &Rule,
        request: Box<Request<RequestBody>>,
    ) -> Result<Reply, Failure> {
        let allowed = match policies.cors.as_ref().map(|of| cors::rule(of, &request)) {
            Some(Ruling::Answer(head)) => return Ok(reply::preflight(head)),
            Some(Ruling::GoOn(allowed)) => allowed,
            None => None,
        };
        let answered = match self.fault(policies).await {
            Ok(()) => self.act(rule, request).await,
            Err(failure) => Err(failure),
        };
        told(answered, allowed)
    }

    /// Holds the request back or fails it, if it is among those that the rule's faults hit.
    async fn fault(&self, policies: &Policies) -> Result<(), Failure> {
        let worker = &self.downstream.open.worker;
        let hit = |share: Share| share.hits(worker.draw().word());
        if let Some(delay) = policies.delay.filter(|delay| hit(delay.share)) {
            if let Some(cluster) = worker.cluster(self.asked) {
                cluster.recorder.delayed();
            }
            sleep(delay.time.of(worker.draw().word())).await;
        }
        let Some(abort) = policies.abort.filter(|abort| hit(abort.share)) else {
            return Ok(());
        };
        if let Some(cluster) = worker.cluster(self.asked) {
            cluster.recorder.aborted();
        }
        Err(Reason::Fault(abort.with).into())
    }

    async fn act(&self, rule: &Rule, request: Box<Request<RequestBody>>) -> Result<Reply, Failure> {
        match &*rule.action {
            Action::Direct {
                filters,
                status,
                body,
            } => Ok(direct(filters, *status, body)),
            Action::Respond { status, reason } => Err(Reason::Rule(*status, reason).into()),
            Action::Redirect { filters, redirect } => {
                self.redirected(rule, &[filters], redirect, &request)
            }
            Action::Forward {
                filters,
                destinations,
            } => {
                let (chosen, session) = self.choose(rule, destinations, &request)?;
                let plan = Plan {
                    rule,
                    filters,
                    chosen,
                    session,
                };
                match chosen.policies.as_ref().and_then(|of| of.cors.as_ref()) {
                    None => self.take(&plan, request).await,
                    Some(cors) => Box::pin(self.take_within(cors, &plan, request)).await,
                }
            }
        }
    }

    /// What comes before a destination: the answer to a preflight.
    async fn take_within(
        &self,
        cors: &Cors,
        plan: &Plan<'_>,
        request: Box<Request<RequestBody>>,
    ) -> Result<Reply, Failure> {
        match cors::rule(cors, &request) {
            Ruling::Answer(head) => Ok(reply::preflight(head)),
            Ruling::GoOn(allowed) => told(self.take(plan, request).await, allowed),
        }
    }

    /// Takes a request where it goes.
    async fn take(
        &self,
        plan: &Plan<'_>,
        request: Box<Request<RequestBody>>,
    ) -> Result<Reply, Failure> {
        match &plan.chosen.destination {
            Destination::Cluster(id) => self.forward(*id, plan, request).await,
            Destination::Redirect(redirect) => {
                let filters = [&plan.chosen.filters, plan.filters];
                self.redirected(plan.rule, &filters, redirect, &request)
            }
            Destination::Invalid => Err(Reason::InvalidBackend.into()),
        }
    }

    fn redirected(
        &self,
        rule: &Rule,
        filters: &[&Filters],
        redirect: &Redirect,
        request: &Request<RequestBody>,
    ) -> Result<Reply, Failure> {
        let authority = headers::authority(request).unwrap_or_default();
        let port = self.downstream.destination.port();
        let view = lookup::view(request, authority, None);
        let location = route::location(rule, redirect, &view, port);
        let location = HeaderValue::try_from(location).map_err(|_invalid| Reason::BadRequest)?;
        let mut response = Box::new(Response::new(ResponseBody::Empty));
        *response.status_mut() = redirect.status;
        let headers = response.headers_mut();
        headers.insert(LOCATION, location);
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        for filters in filters {
            filters.response_headers.apply(headers);
        }
        Ok(response)
    }

    /// The destination, and the request's session.
    fn choose<'d>(
        &self,
        rule: &Rule,
        destinations: &'d [WeightedDestination],
        request: &Request<RequestBody>,
    ) -> Result<Choice<'d>, Failure> {
        let worker = &self.downstream.open.worker;
        let session = rule.policies.as_ref().and_then(|of| of.session.as_ref());
        if let Some(session) = session
            && let Some(found) = session::find(session, request.headers(), destinations, worker)
        {
            return Ok((&destinations[found.destination], Some(found)));
        }
        let chosen = route::choose(destinations, worker.draw().word());
        Ok((chosen.ok_or(Reason::InvalidBackend)?, None))
    }

    async fn forward(
        &self,
        id: ClusterId,
        plan: &Plan<'_>,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Reply, Failure> {
        let cluster = self.cluster(id)?;
        let mut ticket = Ticket::new(&cluster);
        let protocol = match cluster.cluster.upstream {
            UpstreamProtocol::Http2 => Protocol::Http2,
            UpstreamProtocol::AsReceived if request.version() == Version::HTTP_2 => Protocol::Http2,
            UpstreamProtocol::AsReceived => Protocol::Http1,
        };
        let method = request.method().clone();
        headers::ensure_authority(&mut request, self.downstream.destination);
        let (mut request, continued) = match plan.prepare(request, protocol) {
            Ok(prepared) => prepared,
            Err(reason) => return Err(Failure::counted(reason, ticket)),
        };
        if plan.mirrors().next().is_some() {
            request = Box::new(mirror::copy(self.downstream, plan.mirrors(), *request));
        }
        let sent = self.send(plan, &cluster, protocol, request, &mut ticket);
        let (mut response, lease) = match sent.await {
            Ok(answered) => answered,
            Err(reason) => return Err(Failure::counted(reason, ticket)),
        };
        if let Some(continued) = continued {
            continued.cancel();
        }
        let took = self.started.elapsed();
        ticket.classified(response.status(), plan.policies(), took);
        plan.finish(&mut response);
        plan.keep_session(&ticket, &mut response);
        if upgrade::switches(&method, response.status()) {
            let kept = (self.open.take(), ticket, lease);
            let tunnel = Tunnel::of(&mut response, kept).ok_or(Reason::UpstreamReset)?;
            return Ok(Box::new(response.map(|_| ResponseBody::Tunnel(tunnel))));
        }
        let limits = plan.policies().and_then(|of| of.stream);
        let limit = limits.map(|limits| StreamLimit::new(limits, self.started));
        let (open, lease) = (self.open.take(), Some(lease));
        Ok(Box::new(response.map(|body| {
            let body = UpstreamBody::new(body, lease, open, ticket, limit);
            ResponseBody::Upstream(body)
        })))
    }

    fn cluster(&self, id: ClusterId) -> Result<Rc<ClusterState>, Failure> {
        let cluster = self.downstream.open.worker.cluster(id);
        cluster.ok_or(Reason::InvalidBackend.into())
    }

    async fn send(
        &self,
        plan: &Plan<'_>,
        cluster: &ClusterState,
        protocol: Protocol,
        request: Box<Request<RequestBody>>,
        ticket: &mut Ticket,
    ) -> Result<Answered, Reason> {
        let forward = Forward {
            worker: &self.downstream.open.worker,
            pod: &self.downstream.open.pod,
            cluster,
            protocol,
            asked: self.downstream.destination.ip(),
            preferred: plan.session.as_ref().map(|found| &found.endpoint),
            fields: match self.downstream.is_http1() {
                true => plan.response_fields(),
                false => ResponseFields::Read,
            },
        };
        let timeouts = plan.rule.timeouts;
        let retry = plan.policies().and_then(|of| of.retry.as_ref());
        // The client's side of a switch is taken for one response.
        if let Some(retry) = retry.filter(|_| !upgrade::is_asked(&request)) {
            let each = retry.per_try.or(timeouts.backend_request);
            let sending = Box::pin(retrying::send(&forward, retry, each, *request, ticket));
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

/// A destination, and the session that names an endpoint of it.
type Choice<'d> = (&'d WeightedDestination, Option<session::Found>);

fn direct(filters: &Filters, status: StatusCode, body: &Bytes) -> Reply {
    let whole = Some(body.clone()).filter(|body| !body.is_empty());
    let mut response = Box::new(Response::new(ResponseBody::Direct(whole)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(REASON, HeaderValue::from_static("direct_response"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    filters.response_headers.apply(headers);
    response
}
