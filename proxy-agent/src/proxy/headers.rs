//! What a proxy must do to headers (RFC 9110, section 7.6), and what it reads from them.

use std::net::SocketAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that frame a message or route it: `Connection` cannot make a proxy drop them.
const NEVER_NOMINATED: [HeaderName; 3] = [HOST, TRANSFER_ENCODING, CONTENT_LENGTH];

/// Removes the fields that are for this hop alone. An upgrade is put back by the caller.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // One look at each name: most messages have none of them, and each search of the map costs as
    // much as this loop.
    let (mut connection, mut framing, mut te, mut others) = (false, false, false, false);
    for name in headers.keys() {
        connection |= name == CONNECTION;
        framing |= name == TRANSFER_ENCODING;
        te |= name == TE;
        others |= name == UPGRADE || name == KEEP_ALIVE || name == PROXY_CONNECTION;
    }
    if connection {
        strip_nominated(headers);
    }
    if framing {
        headers.remove(TRANSFER_ENCODING);
        // RFC 9112, section 6.3: it overrides a length, which must not be sent on.
        headers.remove(CONTENT_LENGTH);
    }
    if others {
        headers.remove(UPGRADE);
        headers.remove(KEEP_ALIVE);
        headers.remove(PROXY_CONNECTION);
    }
    if te && let Some(te) = headers.get(TE) {
        // `TE: trailers` is what gRPC asks for, and trailers are relayed.
        if has_token(te, "trailers") {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
}

fn strip_nominated(headers: &mut HeaderMap) {
    let names_none = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
    };
    // What nearly every server says.
    if !headers.get_all(CONNECTION).iter().all(names_none) {
        let nominated: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
            .filter(|name| *name != TE && !NEVER_NOMINATED.contains(name))
            .collect();
        for name in nominated {
            headers.remove(name);
        }
        headers.remove(HTTP2_SETTINGS);
    }
    headers.remove(CONNECTION);
}

/// The protocol that the sender asks to switch to, if it does so properly and it is not `h2c`:
/// HTTP/2 is spoken by prior knowledge alone (RFC 9113, section 3.1 obsoletes the upgrade).
pub(super) fn upgrade_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| has_token(value, "upgrade"));
    (asked && !has_token(protocol, "h2c")).then(|| protocol.clone())
}

/// Puts an upgrade back on a message whose hop-by-hop fields were removed.
pub(super) fn put_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(UPGRADE, protocol);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Whether the sender waits for `100 Continue`.
pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether the request is gRPC, so that failures are told in its own way.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// Whether a request without a body may be sent twice (RFC 9110, section 9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// Whether requests of this method have a body by nature: one without says so (RFC 9110, section
/// 8.6).
pub(super) fn has_body_by_nature(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Whether a response with `status` may have content (RFC 9110, section 6.4.1); one to HEAD never has.
pub(super) fn may_have_content(to_head: bool, status: StatusCode) -> bool {
    !to_head
        && !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// RFC 9110, section 4.2.4: a recipient takes no `user:password@`, and it is no part of `Host`.
fn without_userinfo(authority: &str) -> &str {
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

/// The authority that the request is for, with its port: the URI's, else `Host`.
pub(super) fn authority<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(without_userinfo(authority.as_str())),
        None => request.headers().get(HOST)?.to_str().ok(),
    }
}

/// Gives a request without authority, as HTTP/1.0 allows, that of its destination: HTTP/1.1 and
/// HTTP/2 servers refuse a request that names none.
pub(super) fn ensure_authority<B>(request: &mut Request<B>, destination: SocketAddr) {
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        let host = HeaderValue::try_from(destination.to_string());
        // An address and a port are always a valid value.
        request.headers_mut().extend(host.map(|host| (HOST, host)));
    }
}

/// Gives the request the form that HTTP/1.1 wants: a target without authority (except for
/// CONNECT) and a `Host`.
pub(super) fn to_http1<B>(request: &mut Request<B>) {
    *request.version_mut() = http::Version::HTTP_11;
    let Some(authority) = request.uri().authority() else {
        return;
    };
    if let Ok(host) = HeaderValue::from_str(without_userinfo(authority.as_str())) {
        request.headers_mut().insert(HOST, host);
    }
    if request.method() == Method::CONNECT {
        return;
    }
    let target = request.uri().path_and_query().cloned();
    *request.uri_mut() = target.map_or_else(|| Uri::from_static("/"), Uri::from);
}

/// Gives the request the form that HTTP/2 wants: an absolute target and no `Host`.
///
/// Returns `false` if the request names no valid authority.
pub(super) fn to_http2<B>(request: &mut Request<B>) -> bool {
    *request.version_mut() = http::Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    let uri = request.uri();
    if uri.authority().is_some() && uri.scheme().is_some() && uri.path_and_query().is_some() {
        return true;
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if parts.authority.is_none() {
        parts.authority = host.and_then(|host| host.as_bytes().try_into().ok());
    }
    if request.method() != Method::CONNECT {
        parts.scheme.get_or_insert(http::uri::Scheme::HTTP);
        parts
            .path_and_query
            .get_or_insert(http::uri::PathAndQuery::from_static("/"));
    }
    match Uri::from_parts(parts) {
        Ok(uri) if uri.authority().is_some() => {
            *request.uri_mut() = uri;
            true
        }
        _ => false,
    }
}

/// The members of a field that is a list, whatever else than text they hold (RFC 9110, section 5.6.1).
pub(super) fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter();
    let members = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii)
}

/// Whether a field that is a list has this member, whatever its letter case.
pub(super) fn lists(value: &HeaderValue, member: &[u8]) -> bool {
    let mut members = value.as_bytes().split(|byte| *byte == b',');
    members.any(|one| one.trim_ascii().eq_ignore_ascii_case(member))
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|value| {
        value
            .split(',')
            .filter_map(|part| part.split(';').next())
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn hop_by_hop_fields_go_and_the_rest_stays() {
        let mut map = headers(&[
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "trailers, deflate;q=0.5"),
            ("trailer", "x-sum"),
            ("host", "a"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(
            map,
            headers(&[("te", "trailers"), ("trailer", "x-sum"), ("host", "a")])
        );
    }

    #[test]
    fn connection_goes_and_what_it_only_names_by_habit_goes_with_it() {
        for value in ["keep-alive", "Close"] {
            let mut map = headers(&[
                ("connection", value),
                ("keep-alive", "timeout=5"),
                ("x-kept", "1"),
            ]);
            strip_hop_by_hop(&mut map);
            assert_eq!(map, headers(&[("x-kept", "1")]));
        }
    }

    #[test]
    fn connection_cannot_nominate_what_frames_the_message() {
        let mut map = headers(&[
            ("connection", "host, content-length"),
            ("host", "a"),
            ("content-length", "3"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("host", "a"), ("content-length", "3")]));
    }

    #[test]
    fn a_length_beside_a_transfer_coding_goes_with_it() {
        let mut map = headers(&[("content-length", "5"), ("transfer-encoding", "chunked")]);
        strip_hop_by_hop(&mut map);
        assert!(map.is_empty());
    }

    #[test]
    fn te_without_trailers_goes() {
        let mut map = headers(&[("te", "deflate")]);
        strip_hop_by_hop(&mut map);
        assert!(map.is_empty());
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_is_never_h2c() {
        let both = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert_eq!(upgrade_protocol(&both).unwrap(), "websocket");
        assert_eq!(
            upgrade_protocol(&headers(&[("upgrade", "websocket")])),
            None
        );
        let h2c = headers(&[
            ("connection", "upgrade, http2-settings"),
            ("upgrade", "h2c"),
        ]);
        assert_eq!(upgrade_protocol(&h2c), None);
    }

    #[test]
    fn grpc_is_told_from_its_neighbours() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", value)])), grpc);
        }
    }

    #[test]
    fn http2_requests_become_http1_requests_and_back() {
        let mut request = Request::builder()
            .uri("http://svc:8080/a?b=c")
            .body(())
            .unwrap();
        to_http1(&mut request);
        assert_eq!(request.uri(), "/a?b=c");
        assert_eq!(request.headers()[HOST], "svc:8080");
        assert!(to_http2(&mut request));
        assert_eq!(request.uri(), "http://svc:8080/a?b=c");
        assert!(!request.headers().contains_key(HOST));
    }

    #[test]
    fn a_request_without_authority_gets_its_destination_and_any_other_keeps_its_own() {
        let destination = SocketAddr::from(([10, 0, 0, 1], 8080));
        let mut request = Request::builder().uri("/a").body(()).unwrap();
        ensure_authority(&mut request, destination);
        assert_eq!(request.headers()[HOST], "10.0.0.1:8080");
        let mut request = Request::builder().uri("http://svc/a").body(()).unwrap();
        ensure_authority(&mut request, destination);
        assert!(request.headers().is_empty());
    }

    #[test]
    fn userinfo_is_neither_routed_by_nor_sent_on() {
        let mut request = Request::builder()
            .uri("http://user:word@svc:80/a")
            .body(())
            .unwrap();
        assert_eq!(authority(&request), Some("svc:80"));
        to_http1(&mut request);
        assert_eq!(request.headers()[HOST], "svc:80");
    }

    #[test]
    fn a_request_without_authority_cannot_become_http2() {
        let mut request = Request::builder().uri("/a").body(()).unwrap();
        assert!(!to_http2(&mut request));
    }
}
