//! What a rule does to one request on its way up, and to the response on its way down.

use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio_util::sync::CancellationToken;

use crate::model::{Filters, Mirror, Policies, Rule, WeightedDestination};
use crate::route;

use super::body::RequestBody;
use super::downstream::Downstream;
use super::reply::Reason;
use super::traffic::Ticket;
use super::upstream::{OnContinue, Protocol, ResponseFields};
use super::{headers, session};

/// What a rule does with one request.
pub(super) struct Plan<'a> {
    pub(super) rule: &'a Rule,
    pub(super) filters: &'a Filters,
    pub(super) chosen: &'a WeightedDestination,
    /// The request's session.
    pub(super) session: Option<session::Found>,
}

impl Plan<'_> {
    /// What the rule does beside.
    pub(super) fn policies(&self) -> Option<&Policies> {
        self.rule.policies.as_deref()
    }

    /// Who gets a copy: those that the rule names, and those of the destination.
    pub(super) fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        let of_destination = self.chosen.policies.as_deref();
        let policies = self.policies().into_iter().chain(of_destination);
        policies.flat_map(|of| &of.mirrors)
    }

    /// The request as it goes to the upstream, and what lets a body go that is held back.
    pub(super) fn prepare(
        &self,
        mut request: Box<Request<RequestBody>>,
        protocol: Protocol,
    ) -> Result<(Box<Request<RequestBody>>, Option<CancellationToken>), Reason> {
        let gated = request.version() != Version::HTTP_2
            && !request.body().is_end_stream()
            && headers::expects_continue(request.headers());
        let switch = headers::upgrade_protocol(request.headers());
        headers::strip_hop_by_hop(request.headers_mut());
        route::edit_request(self.rule, self.filters, self.chosen, &mut request)
            .map_err(|_invalid| Reason::BadRequest)?;
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
            let opened = OnContinue(continued.clone());
            request.extensions_mut().insert(opened);
            request.body_mut().gate(continued.clone());
            return Ok((request, Some(continued)));
        }
        Ok((request, None))
    }

    /// Whether anything is done with a response's fields but hand them on. A client of HTTP/2 gets
    /// them one by one.
    pub(super) fn response_fields(&self, downstream: &Downstream) -> ResponseFields {
        let policies = [self.policies(), self.chosen.policies.as_deref()];
        let mut filters = [self.filters, &self.chosen.filters].into_iter();
        let read = !downstream.is_http1()
            || policies.into_iter().flatten().any(Policies::reads_response)
            || filters.any(|filters| !filters.response_headers.is_empty());
        match read {
            true => ResponseFields::Read,
            false => ResponseFields::Unread,
        }
    }

    /// The response as it goes to the client.
    pub(super) fn finish<B>(&self, response: &mut Response<B>) {
        let switch = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
            .then(|| headers::upgrade_protocol(response.headers()))
            .flatten();
        headers::strip_hop_by_hop(response.headers_mut());
        if let Some(protocol) = switch {
            headers::put_upgrade(response.headers_mut(), protocol);
        }
        route::edit_response(self.filters, self.chosen, response.headers_mut());
    }

    /// Tells the client of its session, where there is something new to tell.
    pub(super) fn keep_session<B>(&self, ticket: &Ticket, response: &mut Response<B>) {
        let session = self.policies().and_then(|of| of.session.as_ref());
        let (Some(session), Some(endpoint)) = (session, ticket.endpoint()) else {
            return;
        };
        let found = self.session.as_ref();
        session::keep(session, found, endpoint, response.headers_mut());
    }
}
