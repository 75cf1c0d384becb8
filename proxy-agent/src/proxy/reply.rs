//! Answers of the agent's own: every one carries its reason.

use std::net::SocketAddr;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::body::ResponseBody;

/// Header that names why the agent, and not the application, answered.
pub(super) const REASON: HeaderName = HeaderName::from_static("x-proxy-agent-reason");

/// Why a request was answered by the agent. Names are API: `docs/reasons.md`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reason {
    /// The request has no usable authority, or one that cannot be sent on.
    BadRequest,
    /// More than 256 headers; a head above 64 KiB is refused by hyper without a reason.
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
    /// The upstream's answer is no HTTP.
    UpstreamProtocol,
    /// The route's `timeouts.request` ran out.
    TimeoutRequest,
    /// The route's `timeouts.backendRequest` ran out.
    TimeoutBackend,
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
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::InvalidBackend => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoService | Self::NoEndpoint | Self::ConnectFailed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamReset | Self::UpstreamProtocol => StatusCode::BAD_GATEWAY,
            Self::TimeoutRequest | Self::TimeoutBackend => StatusCode::GATEWAY_TIMEOUT,
            Self::Rule(status, _) => status,
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
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::TimeoutRequest => "timeout_request",
            Self::TimeoutBackend => "timeout_backend",
            Self::Rule(_, reason) => reason,
        }
    }

    /// The response; gRPC clients get their own form of failure (HTTP 200 and `grpc-status`).
    pub(super) fn response(self, grpc: bool) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::Empty);
        let headers = response.headers_mut();
        headers.insert(REASON, HeaderValue::from_static(self.name()));
        if grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static(self.grpc_status()));
            headers.insert("grpc-message", HeaderValue::from_static(self.name()));
        } else {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            *response.status_mut() = self.status();
        }
        response
    }

    /// gRPC's own table from HTTP statuses (grpc/doc/http-grpc-status-mapping.md).
    fn grpc_status(self) -> &'static str {
        match self.status() {
            StatusCode::BAD_REQUEST | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "13",
            StatusCode::NOT_FOUND => "12",
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => "14",
            _ => "2",
        }
    }
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
}
