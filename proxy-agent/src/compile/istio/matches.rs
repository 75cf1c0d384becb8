//! `spec.http[].match`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;

use super::MESH;
use crate::compile::faults::Fault;
use crate::compile::index::At;
use crate::compile::problems::Problems;
use crate::compile::text::{
    exact_match, full_regex, header_name, normal_path, normal_prefix, regex_match,
};
use crate::model::{
    HeaderMatch, Match, MethodMatch, PathMatch, QueryMatch, SourceMatch, StringMatch,
};
use crate::objects::istio::{self, HttpMatch, HttpRoute, VirtualService};

/// One alternative of a route.
#[derive(Clone, Debug)]
pub(super) struct Alternative {
    pub conditions: Match,
    /// The one port that it is for.
    pub port: Option<u16>,
}

/// The alternatives of a route, whose Services have these ports. One that cannot be compiled is left
/// out and named.
pub(super) fn compile(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    ports: &BTreeSet<u16>,
    problems: &mut Problems,
) -> Vec<Alternative> {
    if route.matches.is_empty() {
        return vec![Alternative {
            conditions: Match::default(),
            port: None,
        }];
    }
    let mut compiled = Vec::new();
    for (position, one) in route.matches.iter().enumerate() {
        let field = format!("{field}.match[{position}]");
        if are_for_gateways_alone(&one.gateways, at) {
            continue;
        }
        for name in one.headers.keys().filter(|name| is_no_header(name)) {
            let reason = "is of no effect, as in Istio: the match has a field of that name";
            problems.warning(at.located, format!("{field}.headers[{name}]"), reason);
        }
        for (inner, reason) in never(one, ports) {
            let reason = format!("{reason}; no request matches");
            problems.warning(at.located, format!("{field}.{inner}"), reason);
        }
        match conditions(one) {
            Ok(Some(conditions)) => compiled.push(Alternative {
                conditions,
                port: one.port,
            }),
            // For a scheme that captured requests never have.
            Ok(None) => {}
            Err((inner, reason)) => {
                let reason = format!("{reason}; the match is left out");
                problems.error(at.located, format!("{field}.{inner}"), reason);
            }
        }
    }
    compiled
}

/// Conditions that no request meets.
fn never(one: &HttpMatch, ports: &BTreeSet<u16>) -> Vec<Fault> {
    let uri = one.uri.as_ref();
    let texts = [
        ("uri.exact", uri.and_then(|uri| uri.exact.as_deref())),
        ("uri.prefix", uri.and_then(|uri| uri.prefix.as_deref())),
    ];
    let texts = texts.into_iter().filter_map(|(field, text)| {
        // `*` is what OPTIONS has for all of a server.
        let text = text.filter(|text| !text.is_empty() && !text.starts_with(['/', '*']))?;
        let reason = format!("found `{text}`, and paths begin with /");
        Some((field.to_owned(), reason))
    });
    texts.chain(no_port(one.port, ports)).collect()
}

/// What to say of a condition on a port that no Service has.
pub(super) fn no_port(named: Option<u16>, ports: &BTreeSet<u16>) -> Option<Fault> {
    let port = named.filter(|port| !ports.contains(port))?;
    let numbers: Vec<_> = ports.iter().map(ToString::to_string).collect();
    let reason = format!(
        "found {port}, which no Service of `hosts` has as a TCP port; there are: {}",
        numbers.join(", ")
    );
    Some(("port".to_owned(), reason))
}

/// A match for gateways of the VirtualService's own list is not for the mesh, unless the list as a
/// whole is applied to the mesh.
pub(super) fn are_for_gateways_alone(names: &[String], at: &At<'_, VirtualService>) -> bool {
    let mesh = |names: &[String]| names.is_empty() || names.iter().any(|name| name == MESH);
    !mesh(names) && mesh(&at.object.spec.gateways)
}

/// The scheme of what is captured as HTTP.
const SCHEME: &str = "http";

fn conditions(one: &HttpMatch) -> Result<Option<Match>, Fault> {
    if let Some(scheme) = &one.scheme
        && !text(scheme, "scheme")?.holds(SCHEME)
    {
        return Ok(None);
    }
    let any_case = one.ignore_uri_case == Some(true);
    let path = one.uri.as_ref().map(|from| path(from, any_case));
    let authority = one.authority.as_ref();
    let authority = authority.map(|from| text(from, "authority"));
    Ok(Some(Match {
        path: path.transpose()?.flatten(),
        method: one.method.as_ref().map(method).transpose()?.flatten(),
        headers: headers("headers", |name| !is_no_header(name), &one.headers)?,
        query: query(&one.query_params)?,
        authority: authority.transpose()?,
        without_headers: headers("withoutHeaders", |_| true, &one.without_headers)?,
        source: source(one),
        expression: None,
    }))
}

fn source(one: &HttpMatch) -> Option<Box<SourceMatch>> {
    let source = SourceMatch {
        namespace: one.source_namespace.as_deref().map(Arc::from),
        labels: one.source_labels.clone(),
    };
    (source.namespace.is_some() || !source.labels.is_empty()).then(|| Box::new(source))
}

/// Letter case is ignored in texts alone, not in expressions.
fn path(from: &istio::StringMatch, any_case: bool) -> Result<Option<PathMatch>, Fault> {
    let fault = |name: &str| {
        let field = format!("uri.{name}");
        move |reason| (field, reason)
    };
    Ok(match only(from, "uri")? {
        Kind::Exact(text) => {
            let path = normal_path(text).map_err(fault("exact"))?;
            Some(if any_case {
                PathMatch::ExactAnyCase(path)
            } else {
                PathMatch::Exact(path)
            })
        }
        Kind::Prefix(text) => {
            let prefix = normal_prefix(text).map_err(fault("prefix"))?;
            Some(if any_case {
                PathMatch::StringPrefixAnyCase(prefix)
            } else {
                PathMatch::StringPrefix(prefix)
            })
        }
        Kind::Regex(text) => {
            let regex = full_regex(text).map_err(fault("regex"))?;
            Some(PathMatch::Regex(regex))
        }
        Kind::Present => None,
    })
}

fn method(from: &istio::StringMatch) -> Result<Option<MethodMatch>, Fault> {
    Ok(match only(from, "method")? {
        Kind::Exact(exact) => {
            let method = Method::from_bytes(exact.as_bytes()).map_err(|error| {
                let reason = format!("found `{exact}`: {error}");
                ("method.exact".to_owned(), reason)
            })?;
            Some(MethodMatch::Exact(method))
        }
        Kind::Prefix(_) | Kind::Regex(_) => {
            Some(MethodMatch::Text(Box::new(text(from, "method")?)))
        }
        // Every request has one.
        Kind::Present => None,
    })
}

/// Whether a key of `headers` is ignored: HTTPMatchRequest of Istio's reference says so of these.
fn is_no_header(name: &str) -> bool {
    matches!(name, "uri" | "scheme" | "method" | "authority")
}

fn headers(
    list: &str,
    counts: impl Fn(&str) -> bool,
    from: &BTreeMap<String, istio::StringMatch>,
) -> Result<Vec<HeaderMatch>, Fault> {
    let one = |(name, value): (&String, &istio::StringMatch)| {
        let field = format!("{list}[{name}]");
        Ok(HeaderMatch {
            value: text(value, &field)?,
            name: header_name(name).map_err(|reason| (field, reason))?,
        })
    };
    let counted = from.iter().filter(|(name, _)| counts(name));
    counted.map(one).collect()
}

fn query(from: &BTreeMap<String, istio::StringMatch>) -> Result<Vec<QueryMatch>, Fault> {
    let one = |(name, value): (&String, &istio::StringMatch)| {
        Ok(QueryMatch {
            name: Arc::from(name.as_str()),
            value: text(value, &format!("queryParams[{name}]"))?,
        })
    };
    from.iter().map(one).collect()
}

/// Compiles a condition on a text.
pub(super) fn text(from: &istio::StringMatch, field: &str) -> Result<StringMatch, Fault> {
    Ok(match only(from, field)? {
        Kind::Exact(text) => exact_match(text),
        Kind::Prefix(text) => StringMatch::Prefix(text.into()),
        Kind::Regex(text) => {
            regex_match(text).map_err(|reason| (format!("{field}.regex"), reason))?
        }
        Kind::Present => StringMatch::Present,
    })
}

enum Kind<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Regex(&'a str),
    Present,
}

fn only<'a>(from: &'a istio::StringMatch, field: &str) -> Result<Kind<'a>, Fault> {
    match (&from.exact, &from.prefix, &from.regex) {
        (Some(text), None, None) => Ok(Kind::Exact(text)),
        (None, Some(text), None) => Ok(Kind::Prefix(text)),
        (None, None, Some(text)) => Ok(Kind::Regex(text)),
        (None, None, None) => Ok(Kind::Present),
        _ => {
            let reason = "accepted: one of exact, prefix, regex".to_owned();
            Err((field.to_owned(), reason))
        }
    }
}
