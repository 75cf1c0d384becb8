//! `spec.rules[].matches` of a GRPCRoute: a gRPC call is a POST to `/service/method`.

use gateway_api::apis::experimental::grpcroutes::{
    GrpcRouteRulesMatches, GrpcRouteRulesMatchesHeadersType, GrpcRouteRulesMatchesMethod,
    GrpcRouteRulesMatchesMethodType,
};

use super::Fault;
use super::matches::{Compared, header_matches};
use crate::compile::attach::Named;
use crate::compile::text::full_regex;
use crate::model::{HeaderMatch, Match, PathMatch};

/// Compiles one alternative of a rule.
pub(super) fn conditions(from: &GrpcRouteRulesMatches) -> Result<(Match, Named), Fault> {
    let (path, named) = match &from.method {
        None => (None, Named::default()),
        Some(method) => path(method)?,
    };
    let conditions = Match {
        path,
        headers: headers(from)?,
        ..Match::default()
    };
    Ok((conditions, named))
}

fn path(from: &GrpcRouteRulesMatchesMethod) -> Result<(Option<PathMatch>, Named), Fault> {
    let text = |part: &Option<String>| part.clone().filter(|text| !text.is_empty());
    let (service, method) = (text(&from.service), text(&from.method));
    if service.is_none() && method.is_none() {
        let reason = "says nothing; accepted: service, method, or both".to_owned();
        return Err(("method".to_owned(), reason));
    }
    let length = |part: &Option<String>| part.as_ref().map_or(0, String::len);
    let named = Named {
        service: length(&service),
        method: length(&method),
    };
    if let Some(GrpcRouteRulesMatchesMethodType::RegularExpression) = from.r#type {
        let part = |name: &str, part: Option<String>| match part {
            None => Ok("[^/]+".to_owned()),
            // Alone first: what is well-formed here may not be so inside the whole.
            Some(text) => full_regex(&text)
                .map(|_well_formed| format!("(?:{text})"))
                .map_err(|reason| (format!("method.{name}"), reason)),
        };
        let whole = format!("/{}/{}", part("service", service)?, part("method", method)?);
        let whole = full_regex(&whole).map_err(|reason| ("method".to_owned(), reason))?;
        return Ok((Some(PathMatch::Regex(whole)), named));
    }
    for (name, part, is_name) in [
        ("service", &service, is_service as fn(&str) -> bool),
        ("method", &method, is_word),
    ] {
        if let Some(text) = part.as_deref().filter(|text| !is_name(text)) {
            let reason = format!("found `{text}`, expected the name of a {name}");
            return Err((format!("method.{name}"), reason));
        }
    }
    let path = match (service, method) {
        (None, None) => None,
        (Some(service), None) => Some(PathMatch::StringPrefix(format!("/{service}/").into())),
        (Some(service), Some(method)) => {
            Some(PathMatch::Exact(format!("/{service}/{method}").into()))
        }
        (None, Some(method)) => {
            let any_service = full_regex(&format!("/[^/]+/{}", regex::escape(&method)));
            let any_service = any_service.map_err(|reason| ("method.method".to_owned(), reason))?;
            Some(PathMatch::Regex(any_service))
        }
    };
    Ok((path, named))
}

/// The pattern that GRPCMethodMatch has for services: words between dots, one before them, too.
fn is_service(text: &str) -> bool {
    text.strip_prefix('.')
        .unwrap_or(text)
        .split('.')
        .all(is_word)
}

/// The pattern that it has for methods.
fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    bytes.next().is_some_and(first) && bytes.all(|byte| first(byte) || byte.is_ascii_digit())
}

fn headers(from: &GrpcRouteRulesMatches) -> Result<Vec<HeaderMatch>, Fault> {
    header_matches(from.headers.iter().flatten().map(|header| {
        let compared = match header.r#type {
            Some(GrpcRouteRulesMatchesHeadersType::RegularExpression) => Compared::ToExpression,
            Some(GrpcRouteRulesMatchesHeadersType::Exact) | None => Compared::Exactly,
        };
        (&*header.name, &*header.value, compared)
    }))
}
