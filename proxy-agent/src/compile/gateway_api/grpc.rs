//! `spec.rules[].matches` of a GRPCRoute: a gRPC call is a POST to `/service/method`.

use gateway_api::apis::experimental::grpcroutes::{
    GrpcRouteRulesMatches, GrpcRouteRulesMatchesHeadersType, GrpcRouteRulesMatchesMethod,
    GrpcRouteRulesMatchesMethodType,
};

use super::Fault;
use crate::compile::attach::Named;
use crate::compile::text::{exact_match, full_regex, header_name, regex_match};
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

/// Of entries with the same name the first counts (GRPCHeaderMatch of the v1 reference).
fn headers(from: &GrpcRouteRulesMatches) -> Result<Vec<HeaderMatch>, Fault> {
    let mut headers: Vec<HeaderMatch> = Vec::new();
    for (index, header) in from.headers.iter().flatten().enumerate() {
        let fault = |name: &str| {
            let field = format!("headers[{index}].{name}");
            move |reason| (field, reason)
        };
        let name = header_name(&header.name).map_err(fault("name"))?;
        let value = match header.r#type {
            Some(GrpcRouteRulesMatchesHeadersType::RegularExpression) => {
                regex_match(&header.value).map_err(fault("value"))?
            }
            Some(GrpcRouteRulesMatchesHeadersType::Exact) | None => exact_match(&header.value),
        };
        if headers.iter().all(|known| known.name != name) {
            headers.push(HeaderMatch { name, value });
        }
    }
    Ok(headers)
}
