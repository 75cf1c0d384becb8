//! The head of a request as it is written (RFC 9112, section 3).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request};
use http_body::Body;

use crate::proxy::headers;
use crate::proxy::http1::{Outbox, Outgoing, field};

/// Writes the head of `request` into `outbox`. Returns how its body ends.
pub(super) fn head<B: Body>(request: &Request<B>, outbox: &mut Outbox) -> Outgoing {
    let outgoing = Outgoing::of(request.body(), request.headers());
    let out = outbox.head();
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let target = target(request);
    if target.starts_with('?') {
        // Of a URI without a path.
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut told = false;
    for (name, value) in request.headers() {
        if name == CONTENT_LENGTH {
            told = true;
        } else if name != TRANSFER_ENCODING {
            field(out, name, value.as_bytes());
        }
    }
    // RFC 9110, section 8.6: servers may wait for a length of requests that have bodies by nature.
    let by_nature = headers::has_body_by_nature(request.method());
    match outgoing {
        Outgoing::Length(0) if !told && !by_nature => {}
        Outgoing::Length(length) => outbox.length(length),
        Outgoing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Outgoing::UntilClose | Outgoing::Ended => {}
    }
    outbox.tail().extend_from_slice(b"\r\n");
    outgoing
}

fn target<B>(request: &Request<B>) -> &str {
    let uri = request.uri();
    match uri.authority() {
        Some(authority) if request.method() == Method::CONNECT => authority.as_str(),
        _ => uri.path_and_query().map_or("/", |target| target.as_str()),
    }
}
