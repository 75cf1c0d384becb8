//! Answers of the agent's own: every one carries its reason.

use std::net::SocketAddr;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::model::AbortWith;

use super::body::ResponseBody;

/// What a client is answered. On the heap: what is handed from one future into the next is a pointer.
pub(super) type Reply = Box<Response<ResponseBody>>;

/// Header that names why the agent, and not the application, answered.
pub(super) const REASON: HeaderName = HeaderName::from_static("x-proxy-agent-reason");

/// Why a request was answered by the agent. Names are API: `docs/reasons.md`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reason {
    /// It is no HTTP/1 request, has no usable authority, or one that cannot be sent on.
    BadRequest,
    /// More than 256 headers or, on HTTP/1, 64 KiB; h2 resets such a stream of HTTP/2.
    HeadTooLarge,
    /// Routes are attached to the Service and none matches.
    NoRoute,
    /// The Service is no longer there.
    NoService,
    /// The rule's destination is invalid.
    InvalidBackend,
    /// No endpoint is usable.
    NoEndpoint,
    /// Every endpoint that was tried refused or did not answer the connect.
    ConnectFailed,
    /// The upstream connection ended before the response's head.
    UpstreamReset,
    /// The endpoint refused the HTTP/2 stream.
    UpstreamRefused,
    /// The upstream's answer is no HTTP.
    UpstreamProtocol,
    /// The route's `timeouts.request` ran out.
    TimeoutRequest,
    /// The route's `timeouts.backendRequest` ran out.
    TimeoutBackend,
    /// The rule of a connection that is not HTTP names no destination with a share.
    NoDestination,
    /// A connection that only a rule by server name would take is not TLS, or says too little.
    NotTls,
    /// The rule's fault answers.
    Fault(AbortWith),
    /// The rule itself answers, with a reason of its own.
    Rule(StatusCode, &'static str),
}

impl Reason {
    /// Why no endpoint was reached, after those in `tried`.
    pub(super) const fn unreached(tried: &[SocketAddr]) -> Self {
        if tried.is_empty() {
            Self::NoEndpoint
        } else {
            Self::ConnectFailed
        }
    }

    /// The HTTP status.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::NotTls => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::InvalidBackend | Self::NoDestination => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoService | Self::NoEndpoint | Self::ConnectFailed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamReset | Self::UpstreamRefused | Self::UpstreamProtocol => {
                StatusCode::BAD_GATEWAY
            }
            Self::TimeoutRequest | Self::TimeoutBackend => StatusCode::GATEWAY_TIMEOUT,
            Self::Fault(AbortWith::Http(status)) | Self::Rule(status, _) => status,
            Self::Fault(AbortWith::Grpc(_)) => StatusCode::OK,
        }
    }

    /// The value of [`REASON`] and of the metric label.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::NoRoute => "no_route",
            Self::NoService => "no_service",
            Self::InvalidBackend => "invalid_backend",
            Self::NoEndpoint => "no_endpoint",
            Self::ConnectFailed => "connect_failed",
            Self::UpstreamReset | Self::UpstreamRefused => "upstream_reset",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::TimeoutRequest => "timeout_request",
            Self::TimeoutBackend => "timeout_backend",
            Self::NoDestination => "no_destination",
            Self::NotTls => "not_tls",
            Self::Fault(_) => "fault_abort",
            Self::Rule(_, reason) => reason,
        }
    }

    /// The response; gRPC clients get their own form of failure (HTTP 200 and `grpc-status`).
    pub(super) fn response(self, grpc: bool) -> Reply {
        let mut response = Box::new(Response::new(ResponseBody::Empty));
        let headers = response.headers_mut();
        headers.insert(REASON, HeaderValue::from_static(self.name()));
        if grpc || matches!(self, Self::Fault(AbortWith::Grpc(_))) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(self.grpc_status()));
            headers.insert("grpc-message", HeaderValue::from_static(self.name()));
        } else {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            *response.status_mut() = self.status();
        }
        response
    }

    /// gRPC's own table from HTTP statuses (grpc/doc/http-grpc-status-mapping.md), except that what
    /// is of the request's own making is INTERNAL there.
    fn grpc_status(self) -> u16 {
        if let Self::Fault(AbortWith::Grpc(code)) = self {
            return code;
        }
        match self.status() {
            StatusCode::BAD_REQUEST | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => 13,
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::FORBIDDEN => 7,
            StatusCode::NOT_FOUND => 12,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => 14,
            _ => 2,
        }
    }
}

/// The answer to a CORS preflight.
pub(super) fn preflight(head: HeaderMap) -> Reply {
    let mut response = Box::new(Response::new(ResponseBody::Empty));
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = head;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_carry_status_and_reason() {
        let response = Reason::NoEndpoint.response(false);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[REASON], "no_endpoint");
    }

    #[test]
    fn grpc_failures_are_http_200_with_a_grpc_status() {
        let response = Reason::NoEndpoint.response(true);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(
            Reason::NoRoute.response(true).headers()["grpc-status"],
            "12"
        );
    }

    #[test]
    fn a_fault_answers_as_its_rule_says() {
        let unauthorized = Reason::Fault(AbortWith::Http(StatusCode::UNAUTHORIZED));
        assert_eq!(unauthorized.response(false).status(), 401);
        let response = unauthorized.response(true);
        assert_eq!(response.headers()["grpc-status"], "16");
        let response = Reason::Fault(AbortWith::Grpc(8)).response(false);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "8");
        assert_eq!(response.headers()[REASON], "fault_abort");
    }
}
