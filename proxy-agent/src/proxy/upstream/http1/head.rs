//! The head of a response, and what it says of the body (RFC 9112, sections 4 and 6.3).

use std::mem::MaybeUninit;

use bytes::{Buf as _, BytesMut};
use http::{Method, Request, Response, StatusCode, Version};
use httparse::ParserConfig;
use hyper::ext::ReasonPhrase;

use crate::proxy::headers;
use crate::proxy::http1::{FieldLines, Framing, HeadError, Looked, Said, fields};
use crate::proxy::upstream::{Received, ResponseFields};
use crate::proxy::{MAX_HEADERS, upgrade};

/// Why what an upstream says is no head of a response.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ResponseError {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("a switch of protocols that nobody asked for")]
    Switch,
    #[error("more than {MAX_PROGRESS} responses that tell of progress")]
    Progress,
}

/// Responses before the last one, such as `100 Continue`.
const MAX_PROGRESS: u32 = 100;

/// What of a request decides how its response is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    head: bool,
    connect: bool,
    /// It asks to switch protocols.
    pub(super) switch: bool,
    fields: ResponseFields,
}

impl Asked {
    pub(super) fn by<B>(request: &Request<B>, fields: ResponseFields) -> Self {
        Self {
            head: request.method() == Method::HEAD,
            connect: request.method() == Method::CONNECT,
            switch: upgrade::is_asked(request),
            fields,
        }
    }

    /// Whether the fields of a response with `status` can go on without a map of them: nobody reads
    /// them, and the response does not mean more than its body.
    fn passes_on(&self, status: StatusCode) -> bool {
        self.fields == ResponseFields::Unread
            && headers::may_have_content(self.head, status)
            && !(self.connect && status.is_success())
    }
}

/// A response's head.
pub(super) struct Head {
    /// Without its fields if there are lines of them, and without its body.
    pub(super) response: Box<Response<Received>>,
    pub(super) lines: FieldLines,
    pub(super) framing: Framing,
    /// The connection may serve another request afterwards.
    pub(super) keeps_alive: bool,
}

impl Head {
    /// Whether another one follows.
    pub(super) fn is_progress(&self) -> bool {
        self.response.status().is_informational() && self.framing != Framing::Switched
    }
}

/// The heads of the responses to one request.
#[derive(Debug, Default)]
pub(super) struct Heads {
    looked: Looked,
    /// How many were taken.
    taken: u32,
}

impl Heads {
    /// Takes the head that `inbox` begins with; `None` while it is not whole.
    pub(super) fn take(
        &mut self,
        inbox: &mut BytesMut,
        asked: Asked,
    ) -> Result<Option<Head>, ResponseError> {
        if !self.looked.again(inbox) {
            return Ok(None);
        }
        let head = take(inbox, asked)?;
        if head.is_some() {
            self.looked = Looked::default();
            self.taken += 1;
        }
        match self.taken > MAX_PROGRESS {
            true => Err(ResponseError::Progress),
            false => Ok(head),
        }
    }

    /// Whether the upstream has said nothing yet.
    pub(super) const fn are_none(&self) -> bool {
        self.taken == 0
    }
}

/// Takes the head that `inbox` begins with; `None` while it is not whole.
fn take(inbox: &mut BytesMut, asked: Asked) -> Result<Option<Head>, ResponseError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, inbox, &mut fields);
    let Some(length) = fields::length(status.map_err(HeadError::from)?, inbox)? else {
        return Ok(None);
    };
    let mut response = Box::new(Response::new(Received::Taken));
    *response.status_mut() = status_code(&parsed)?;
    *response.version_mut() = fields::version(parsed.version);
    // It goes to the client; one that cannot be written is left out.
    if let Some(reason) = unusual_reason(&parsed, response.status())
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    if response.version() == Version::HTTP_11
        && asked.passes_on(response.status())
        && let Some((lines, said)) = FieldLines::of(&inbox[..length], parsed.headers)
    {
        inbox.advance(length);
        return framed(response, lines, asked, &said).map(Some);
    }
    let places = fields::places(inbox, parsed.headers);
    let head = inbox.split_to(length).freeze();
    *response.headers_mut() = fields::fields_at(&head, &places).map_err(HeadError::from)?;
    let said = Said::by(response.headers());
    framed(response, FieldLines::default(), asked, &said).map(Some)
}

fn status_code(parsed: &httparse::Response<'_, '_>) -> Result<StatusCode, HeadError> {
    let code = StatusCode::from_u16(parsed.code.unwrap_or_default());
    Ok(code.map_err(http::Error::from)?)
}

/// The reason phrase, unless it is the status's own.
fn unusual_reason<'a>(parsed: &httparse::Response<'_, 'a>, status: StatusCode) -> Option<&'a str> {
    parsed
        .reason
        .filter(|reason| Some(*reason) != status.canonical_reason())
}

fn framed(
    mut response: Box<Response<Received>>,
    lines: FieldLines,
    asked: Asked,
    said: &Said,
) -> Result<Head, ResponseError> {
    let framing = framing(&mut response, asked, said)?;
    let ends_itself = !matches!(framing, Framing::UntilClose | Framing::Switched);
    let keeps_alive = ends_itself && said.keeps_alive(response.version());
    Ok(Head {
        response,
        lines,
        framing,
        keeps_alive,
    })
}

fn framing(
    response: &mut Response<Received>,
    asked: Asked,
    said: &Said,
) -> Result<Framing, ResponseError> {
    let (status, version) = (response.status(), response.version());
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return match asked.switch {
            true => Ok(Framing::Switched),
            false => Err(ResponseError::Switch),
        };
    }
    if asked.connect && status.is_success() {
        return Ok(Framing::Switched);
    }
    if !headers::may_have_content(asked.head, status) {
        return Ok(Framing::Ended);
    }
    let framing = said.framing(response.headers_mut(), version)?;
    Ok(framing.unwrap_or(Framing::UntilClose))
}
