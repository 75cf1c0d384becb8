//! The head of a request that may be sent again, in one piece of memory: a clone of one takes seven, of each request,
//! for the few whose connection dies under them.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::proxy::body::RequestBody;

/// Room for a usual head.
const USUAL_BYTES: usize = 512;

/// The head of a request without a body.
pub(super) struct Kept {
    method: Method,
    version: Version,
    /// Scheme, authority, path; then name, value and whether it is sensitive of each field.
    text: Vec<u8>,
}

impl Kept {
    pub(super) fn of(request: &Request<RequestBody>) -> Self {
        let mut text = Vec::with_capacity(USUAL_BYTES);
        let uri = request.uri();
        put(uri.scheme_str().unwrap_or_default(), &mut text);
        put(uri.authority().map_or("", Authority::as_str), &mut text);
        put(
            uri.path_and_query().map_or("", PathAndQuery::as_str),
            &mut text,
        );
        for (name, value) in request.headers() {
            put(name.as_str(), &mut text);
            put(value, &mut text);
            text.push(value.is_sensitive().into());
        }
        Self {
            method: request.method().clone(),
            version: request.version(),
            text,
        }
    }

    /// The request, unless something of it does not come out as it went in, of which nothing is known.
    pub(super) fn restore(self) -> Option<Box<Request<RequestBody>>> {
        let restored = self.request();
        debug_assert!(restored.is_some(), "a head that cannot be read again");
        restored
    }

    fn request(self) -> Option<Box<Request<RequestBody>>> {
        let mut rest = self.text.as_slice();
        let mut request = Box::new(Request::new(RequestBody::Empty));
        *request.uri_mut() = uri(&mut rest)?;
        *request.headers_mut() = fields(&mut rest)?;
        *request.method_mut() = self.method;
        *request.version_mut() = self.version;
        Some(request)
    }
}

fn uri(rest: &mut &[u8]) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    let mut next = || take(rest).map(|part| Some(part).filter(|part| !part.is_empty()));
    let (scheme, authority, path) = (next()?, next()?, next()?);
    parts.scheme = scheme.map(Scheme::try_from).transpose().ok()?;
    parts.authority = authority.map(Authority::try_from).transpose().ok()?;
    parts.path_and_query = path.map(PathAndQuery::try_from).transpose().ok()?;
    Uri::from_parts(parts).ok()
}

fn fields(rest: &mut &[u8]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    while !rest.is_empty() {
        let name = HeaderName::from_bytes(take(rest)?).ok()?;
        let mut value = HeaderValue::from_bytes(take(rest)?).ok()?;
        let (sensitive, others) = rest.split_first()?;
        value.set_sensitive(*sensitive == 1);
        *rest = others;
        fields.append(name, value);
    }
    Some(fields)
}

/// A part, behind its length.
fn put(part: impl AsRef<[u8]>, text: &mut Vec<u8>) {
    let part = part.as_ref();
    // Heads are of MAX_HEAD_LIST at most, and so are their parts.
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    text.extend_from_slice(&length.to_ne_bytes());
    text.extend_from_slice(part);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, others) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    let (part, others) = others.split_at_checked(length)?;
    *rest = others;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_out_as_it_went_in() {
        // As `OPTIONS *` goes to an endpoint; no text is such a URI.
        let everything = Uri::builder().scheme("http").authority("shop");
        let everything = everything.path_and_query("*").build().unwrap();
        for (method, uri) in [
            (
                "GET",
                Uri::from_static("http://shop.default:8080/cart?id=1"),
            ),
            ("GET", Uri::from_static("http://shop?id=1")),
            ("HEAD", Uri::try_from("http://shop/\u{e9}").unwrap()),
            ("OPTIONS", Uri::from_static("http://shop")),
            ("OPTIONS", Uri::from_static("*")),
            ("OPTIONS", everything),
            ("TRACE", Uri::from_static("shop:80")),
            ("PROPFIND", Uri::from_static("/a%20b")),
        ] {
            let mut request = Request::new(RequestBody::Empty);
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = uri;
            *request.version_mut() = Version::HTTP_2;
            let headers = request.headers_mut();
            headers.append("accept", HeaderValue::from_static("a"));
            headers.append("accept", HeaderValue::from_static(""));
            headers.append("x-own", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
            let mut secret = HeaderValue::from_static("secret");
            secret.set_sensitive(true);
            headers.append("authorization", secret);
            let kept = Kept::of(&request).restore().expect("all of it");
            assert_eq!(kept.method(), request.method());
            assert_eq!(kept.uri(), request.uri());
            assert_eq!(kept.version(), Version::HTTP_2);
            assert_eq!(kept.headers(), request.headers());
            let sensitive = |name| kept.headers()[name].is_sensitive();
            assert!(sensitive("authorization") && !sensitive("x-own"));
        }
    }
}
