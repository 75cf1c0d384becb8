//! What a rule does to one request on its way up, and to the response on its way down.

use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio_util::sync::CancellationToken;

use crate::model::{Filters, Mirror, Policies, Rule, WeightedDestination};
use crate::route;

use super::body::RequestBody;
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

    /// Whether anything is done with a response's fields but hand them on, to a client of HTTP/1.
    pub(super) fn response_fields(&self) -> ResponseFields {
        let policies = [self.policies(), self.chosen.policies.as_deref()];
        let mut policies = policies.into_iter().flatten();
        let mut filters = [self.filters, &self.chosen.filters].into_iter();
        let edits = filters.any(|filters| !filters.response_headers.is_empty());
        match edits || policies.any(Policies::reads_response) {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http::header::SERVER;

    use crate::model::{
        Action, Backoff, Cors, Destination, HeaderEdits, Listed, Match, Retry, RetryOn, Session,
        SessionCarrier, Timeouts,
    };

    use super::*;

    /// Whether fields are read where a rule and its destination have these.
    fn read(
        [of_rule, of_destination]: [Policies; 2],
        [filters, own_filters]: [Filters; 2],
    ) -> ResponseFields {
        let rule = Rule {
            object: None,
            field: "".into(),
            conditions: Match::default(),
            action: Arc::new(Action::Respond {
                status: StatusCode::OK,
                reason: "",
            }),
            timeouts: Timeouts::default(),
            policies: Some(Arc::new(of_rule)),
        };
        let chosen = WeightedDestination {
            filters: own_filters,
            policies: Some(Arc::new(of_destination)),
            ..WeightedDestination::plain(1, Destination::Invalid)
        };
        let plan = Plan {
            rule: &rule,
            filters: &filters,
            chosen: &chosen,
            session: None,
        };
        plan.response_fields()
    }

    fn retry(on: RetryOn) -> Policies {
        let wait = Duration::from_millis(1);
        Policies {
            retry: Some(Retry {
                attempts: 1,
                on,
                per_try: None,
                backoff: Backoff {
                    floor: wait,
                    base: wait,
                    cap: wait,
                },
                budget: None,
            }),
            ..Policies::default()
        }
    }

    fn cors() -> Policies {
        Policies {
            cors: Some(Cors {
                origins: Vec::new(),
                methods: Listed::Nothing,
                headers: Listed::Nothing,
                expose: None,
                max_age: None,
                credentials: false,
                forward_unmatched: true,
            }),
            ..Policies::default()
        }
    }

    fn session() -> Policies {
        Policies {
            session: Some(Session {
                carrier: SessionCarrier::Header(SERVER),
                absolute_timeout: None,
                idle_timeout: None,
                key: "".into(),
            }),
            ..Policies::default()
        }
    }

    #[test]
    fn fields_are_read_where_something_is_done_by_them_or_to_them() {
        let filters = || [Filters::default(), Filters::default()];
        let edits = || Filters {
            response_headers: HeaderEdits {
                remove: vec![SERVER],
                ..HeaderEdits::default()
            },
            ..Filters::default()
        };
        let none = Policies::default;
        let by_grpc_status = || RetryOn {
            grpc: vec![14],
            ..RetryOn::default()
        };
        for policies in [
            [retry(by_grpc_status()), none()],
            [cors(), none()],
            [none(), cors()],
            [session(), none()],
        ] {
            assert_eq!(read(policies, filters()), ResponseFields::Read);
        }
        for filters in [[edits(), Filters::default()], [Filters::default(), edits()]] {
            assert_eq!(read([none(), none()], filters), ResponseFields::Read);
        }
        let by_status = RetryOn {
            statuses: vec![500..=599],
            ..RetryOn::default()
        };
        for of_rule in [none(), retry(by_status)] {
            assert_eq!(read([of_rule, none()], filters()), ResponseFields::Unread);
        }
    }
}
