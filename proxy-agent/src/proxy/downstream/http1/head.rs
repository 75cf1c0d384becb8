//! The head of a request as it is read (RFC 9112, sections 3 and 6).

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::{Method, Request, Uri, Version};
use httparse::ParserConfig;

use crate::proxy::body::RequestBody;
use crate::proxy::http1::{Framing, HeadError, Looked, Said, fields};
use crate::proxy::{MAX_HEADERS, headers};

/// A request's head.
pub(super) struct Head {
    /// On the heap: what is handed from one future into the next is a pointer.
    pub(super) request: Box<Request<RequestBody>>,
    /// How its body tells its end.
    pub(super) framing: Framing,
    /// The connection may serve another request afterwards.
    pub(super) keeps_alive: bool,
    /// The client waits for `100 Continue`.
    pub(super) expects: bool,
}

/// Takes the head that `inbox` begins with; `None` while it is not whole.
pub(super) fn take(inbox: &mut BytesMut, looked: &mut Looked) -> Result<Option<Head>, HeadError> {
    if !looked.again(inbox) {
        return Ok(None);
    }
    let Some(mut request) = request(inbox)? else {
        return Ok(None);
    };
    *looked = Looked::default();
    let version = request.version();
    let said = Said::by(request.headers());
    let framing = said.framing(request.headers_mut(), version)?;
    let framing = framing.unwrap_or(Framing::Ended);
    let expects = framing != Framing::Ended
        && version != Version::HTTP_10
        && headers::expects_continue(request.headers());
    Ok(Some(Head {
        request,
        framing,
        keeps_alive: said.keeps_alive(version),
        expects,
    }))
}

fn request(inbox: &mut BytesMut) -> Result<Option<Box<Request<RequestBody>>>, HeadError> {
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let config = ParserConfig::default();
    let status = config.parse_request_with_uninit_headers(&mut parsed, inbox, &mut room)?;
    let Some(length) = fields::length(status, inbox)? else {
        return Ok(None);
    };
    let places = fields::places(inbox, parsed.headers);
    let method = parsed.method.unwrap_or_default().as_bytes();
    let method = Method::from_bytes(method).map_err(http::Error::from)?;
    let target = fields::place(inbox, parsed.path.unwrap_or_default().as_bytes());
    let version = fields::version(parsed.version);
    let head = inbox.split_to(length).freeze();
    let mut request = Box::new(Request::new(RequestBody::Empty));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_maybe_shared(head.slice(target)).map_err(http::Error::from)?;
    *request.version_mut() = version;
    *request.headers_mut() = fields::fields_at(&head, &places)?;
    Ok(Some(request))
}
