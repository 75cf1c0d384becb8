//! The head of a response as it is written (RFC 9112, sections 4 and 6).

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::ext::ReasonPhrase;

use crate::proxy::http1::{FieldLines, Outbox, Outgoing, field};
use crate::proxy::{headers, upgrade};

/// What of a request decides how its response is written.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    method: Method,
    version: Version,
    /// The client takes trailers.
    trailers: bool,
}

impl Asked {
    pub(super) fn by<B>(request: &Request<B>) -> Self {
        let te = request.headers().get(TE);
        Self {
            method: request.method().clone(),
            version: request.version(),
            trailers: te.is_some_and(|te| headers::lists(te, b"trailers")),
        }
    }

    pub(super) const fn takes_trailers(&self) -> bool {
        self.trailers
    }

    /// Whether a response with `status` ends HTTP on this connection.
    pub(super) fn switches(&self, status: StatusCode) -> bool {
        upgrade::switches(&self.method, status)
    }
}

/// What was decided with a response's head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Begun {
    /// How its body ends.
    pub(super) outgoing: Outgoing,
    /// The connection may serve another request afterwards.
    pub(super) keeps_alive: bool,
}

/// Writes the head of `response`, with these lines besides, into `outbox`.
pub(super) fn head<B: Body>(
    response: &Response<B>,
    lines: &FieldLines,
    asked: &Asked,
    keeps_alive: bool,
    outbox: &mut Outbox,
) -> Begun {
    let outgoing = outgoing(response, asked);
    // The length of a body that is not sent is what the upstream says (RFC 9110, section 8.6).
    let bodiless = outgoing == Outgoing::Ended;
    let may_tell = !is_without_length(response.status(), asked);
    let out = outbox.head();
    status_line(response, asked.version, out);
    let (mut told, mut closes) = (false, false);
    for (name, value) in response.headers() {
        if name == CONTENT_LENGTH && !(bodiless && may_tell) || name == TRANSFER_ENCODING {
            continue;
        }
        if name == CONNECTION {
            told = true;
            closes |= headers::lists(value, b"close");
        }
        field(out, name, value.as_bytes());
    }
    out.extend_from_slice(lines.as_bytes());
    match outgoing {
        Outgoing::Length(length) => outbox.length(length),
        Outgoing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Outgoing::UntilClose | Outgoing::Ended => {}
    }
    let keeps_alive = keeps_alive && !closes && outgoing != Outgoing::UntilClose;
    let out = outbox.tail();
    match (asked.version, keeps_alive) {
        _ if told => {}
        (Version::HTTP_10, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (Version::HTTP_10, false) | (_, true) => {}
        (_, false) => out.extend_from_slice(b"connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    Begun {
        outgoing,
        keeps_alive,
    }
}

/// In the client's version: one of HTTP/1.0 need not know what another means.
fn status_line<B>(response: &Response<B>, version: Version, out: &mut Vec<u8>) {
    let status = response.status();
    out.extend_from_slice(match version {
        Version::HTTP_10 => b"HTTP/1.0 ",
        _ => b"HTTP/1.1 ",
    });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    match response.extensions().get::<ReasonPhrase>() {
        Some(reason) => out.extend_from_slice(reason.as_bytes()),
        None => out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether such a response must not tell a length (RFC 9110, section 8.6).
fn is_without_length(status: StatusCode, asked: &Asked) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || asked.switches(status)
}

fn outgoing<B: Body>(response: &Response<B>, asked: &Asked) -> Outgoing {
    let status = response.status();
    if asked.switches(status) || !headers::may_have_content(asked.method == Method::HEAD, status) {
        return Outgoing::Ended;
    }
    let outgoing = Outgoing::of(response.body(), response.headers());
    // HTTP/1.0 knows no chunks.
    if outgoing == Outgoing::Chunked && asked.version == Version::HTTP_10 {
        return Outgoing::UntilClose;
    }
    outgoing
}
