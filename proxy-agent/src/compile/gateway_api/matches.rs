//! `spec.rules[].matches`.

use std::sync::Arc;

use gateway_api::apis::experimental::grpcroutes::GrpcRouteRulesMatches;
use gateway_api::apis::experimental::httproutes::{
    HttpRoute, HttpRouteRules, HttpRouteRulesMatches, HttpRouteRulesMatchesHeadersType,
    HttpRouteRulesMatchesMethod, HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType,
    HttpRouteRulesMatchesQueryParamsType,
};
use http::Method;

use super::findings::Findings;
use super::{Fault, Faults, grpc};
use crate::compile::attach::Named;
use crate::compile::index::At;
use crate::compile::problems::Problems;
use crate::compile::text::{exact_match, full_regex, header_name, normal_path, regex_match};
use crate::model::{ConditionReason, HeaderMatch, Match, MethodMatch, PathMatch, QueryMatch};

/// An alternative of a rule, or everything that is wrong with it.
type Alternative = Result<(Match, Named), Vec<Fault>>;

/// The alternatives of a rule of an HTTPRoute.
pub(super) fn of_http(rule: &HttpRouteRules) -> Vec<Alternative> {
    let matches = rule.matches.as_deref().unwrap_or_default();
    if matches.is_empty() {
        return vec![Ok((everything(), Named::default()))];
    }
    let compiled = matches.iter().map(conditions);
    compiled
        .map(|one| one.map(|conditions| (conditions, Named::default())))
        .collect()
}

/// The alternatives of a rule of a GRPCRoute.
pub(super) fn of_grpc(matches: Option<&[GrpcRouteRulesMatches]>) -> Vec<Alternative> {
    match matches.unwrap_or_default() {
        [] => vec![Ok((Match::default(), Named::default()))],
        matches => matches
            .iter()
            .map(|one| grpc::conditions(one).map_err(|fault| vec![fault]))
            .collect(),
    }
}

/// Leaves out the alternatives that cannot be compiled, and names them: what they would have
/// matched cannot be told.
pub(super) fn named(
    at: &At<'_, HttpRoute>,
    field: &str,
    alternatives: Vec<Alternative>,
    problems: &mut Problems,
    findings: &mut Findings,
) -> Vec<(Match, Named)> {
    let mut compiled = Vec::new();
    for (index, one) in alternatives.into_iter().enumerate() {
        match one {
            Ok(conditions) => compiled.push(conditions),
            Err(faults) => {
                for (inner, reason) in faults {
                    let field = format!("{field}.matches[{index}].{inner}");
                    let reason = format!("{reason}; the match is left out");
                    findings.unaccepted(ConditionReason::UnsupportedValue, &field, &reason);
                    problems.error(at.located, field, reason);
                }
            }
        }
    }
    compiled
}

fn everything() -> Match {
    Match {
        path: Some(PathMatch::ElementPrefix("".into())),
        ..Match::default()
    }
}

fn conditions(from: &HttpRouteRulesMatches) -> Result<Match, Vec<Fault>> {
    let path = from.path.as_ref();
    let path = path.map_or_else(|| Ok(everything().path), |from| path_of(from).map(Some));
    let mut faults = Faults::default();
    let conditions = Match {
        path: faults.of(path),
        method: from.method.as_ref().map(method).map(MethodMatch::Exact),
        headers: faults.of(headers(from)),
        query: faults.of(query(from)),
        ..Match::default()
    };
    faults.or(conditions)
}

fn path_of(from: &HttpRouteRulesMatchesPath) -> Result<PathMatch, Fault> {
    use HttpRouteRulesMatchesPathType::{Exact, PathPrefix, RegularExpression};
    let value = from.value.as_deref().unwrap_or("/");
    let kind = from.r#type.as_ref().unwrap_or(&PathPrefix);
    let compiled = match kind {
        Exact => plain_path(value).map(PathMatch::Exact),
        PathPrefix => plain_path(value)
            .map(|path| PathMatch::ElementPrefix(path.trim_end_matches('/').into())),
        RegularExpression => full_regex(value).map(PathMatch::Regex),
    };
    compiled.map_err(|reason| ("path.value".to_owned(), reason))
}

/// A path that is no expression, as HTTPPathMatch of the v1 reference allows it.
fn plain_path(value: &str) -> Result<Arc<str>, String> {
    if !value.starts_with('/') {
        return Err(format!(
            "found `{value}`, expected a path that begins with /"
        ));
    }
    let within = ["//", "/./", "/../", "%2f", "%2F", "#", "?"];
    let within = within.into_iter().find(|part| value.contains(part));
    let at_end = ["/..", "/."].into_iter().find(|end| value.ends_with(end));
    match within.or(at_end) {
        Some(part) => Err(format!("found `{value}`, expected a path without {part}")),
        None if !is_path(value) => Err(format!(
            "found `{value}`, expected a path of letters, digits, -._~!$&'()*+,;=:@/ and of others \
             as in %20"
        )),
        None => normal_path(value),
    }
}

/// The pattern that HTTPPathMatch has for paths: what no request's path holds is none.
fn is_path(value: &str) -> bool {
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let escaped = |next: Option<u8>| next.is_some_and(|byte| byte.is_ascii_hexdigit());
        let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
        if !plain && (byte != b'%' || !escaped(bytes.next()) || !escaped(bytes.next())) {
            return false;
        }
    }
    true
}

fn method(from: &HttpRouteRulesMatchesMethod) -> Method {
    use HttpRouteRulesMatchesMethod as From;
    match from {
        From::Get => Method::GET,
        From::Head => Method::HEAD,
        From::Post => Method::POST,
        From::Put => Method::PUT,
        From::Delete => Method::DELETE,
        From::Connect => Method::CONNECT,
        From::Options => Method::OPTIONS,
        From::Trace => Method::TRACE,
        From::Patch => Method::PATCH,
    }
}

fn headers(from: &HttpRouteRulesMatches) -> Result<Vec<HeaderMatch>, Fault> {
    header_matches(from.headers.iter().flatten().map(|header| {
        let compared = match header.r#type {
            Some(HttpRouteRulesMatchesHeadersType::RegularExpression) => Compared::ToExpression,
            Some(HttpRouteRulesMatchesHeadersType::Exact) | None => Compared::Exactly,
        };
        (&*header.name, &*header.value, compared)
    }))
}

/// How the value of a header is compared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compared {
    Exactly,
    ToExpression,
}

/// Compiles `headers` of a match, each by name, value and comparison. Of entries with the same name
/// the first counts (HTTPHeaderMatch and GRPCHeaderMatch of the v1 reference).
pub(super) fn header_matches<'h>(
    from: impl Iterator<Item = (&'h str, &'h str, Compared)>,
) -> Result<Vec<HeaderMatch>, Fault> {
    let mut headers: Vec<HeaderMatch> = Vec::new();
    for (index, (name, value, compared)) in from.enumerate() {
        let fault = |name: &str| {
            let field = format!("headers[{index}].{name}");
            move |reason| (field, reason)
        };
        let name = header_name(name).map_err(fault("name"))?;
        let value = match compared {
            Compared::ToExpression => regex_match(value).map_err(fault("value"))?,
            Compared::Exactly => exact_match(value),
        };
        if headers.iter().all(|known| known.name != name) {
            headers.push(HeaderMatch { name, value });
        }
    }
    Ok(headers)
}

/// Of entries with the same name the first counts (HTTPQueryParamMatch of the v1 reference).
fn query(from: &HttpRouteRulesMatches) -> Result<Vec<QueryMatch>, Fault> {
    let mut query: Vec<QueryMatch> = Vec::new();
    for (index, parameter) in from.query_params.iter().flatten().enumerate() {
        // HTTPQueryParamMatch.name has the pattern of a header's name.
        header_name(&parameter.name)
            .map_err(|reason| (format!("queryParams[{index}].name"), reason))?;
        let value = match parameter.r#type {
            Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression) => {
                regex_match(&parameter.value)
                    .map_err(|reason| (format!("queryParams[{index}].value"), reason))?
            }
            Some(HttpRouteRulesMatchesQueryParamsType::Exact) | None => {
                exact_match(&parameter.value)
            }
        };
        if query.iter().all(|known| *known.name != *parameter.name) {
            let name = Arc::from(parameter.name.as_str());
            query.push(QueryMatch { name, value });
        }
    }
    Ok(query)
}
