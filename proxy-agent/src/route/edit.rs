//! What a rule makes of a request's head and of a response's headers, and the `Location` of
//! redirects.

use http::header::HOST;
use http::{HeaderMap, Request, Uri};

use super::{RequestView, strip_port};
use crate::model::{
    Filters, PathMatch, PathRewrite, Redirect, RedirectPort, Rule, WeightedDestination,
};

/// Gives a request the headers that `rule` and the destination that was chosen say, and the path and
/// the authority that the rule says, else the destination; `filters` are the rule's.
///
/// # Errors
/// What the rule makes of the path or the authority is none: answer 400.
pub fn edit_request<B>(
    rule: &Rule,
    filters: &Filters,
    chosen: &WeightedDestination,
    request: &mut Request<B>,
) -> http::Result<()> {
    for filters in [filters, &chosen.filters] {
        filters.request_headers.apply(request.headers_mut());
    }
    let path = filters.rewrite_path.as_ref();
    let path = path.or(chosen.filters.rewrite_path.as_ref());
    let authority = filters.rewrite_authority.as_ref();
    let authority = authority.or(chosen.filters.rewrite_authority.as_ref());
    if path.is_none() && authority.is_none() {
        return Ok(());
    }
    let mut parts = request.uri().clone().into_parts();
    if let Some(path) = path {
        let mut target = rewrite_path(rule, path, request.uri().path());
        if let Some(query) = request.uri().query() {
            target.push('?');
            target.push_str(query);
        }
        parts.path_and_query = Some(target.parse()?);
    }
    if let Some(host) = authority {
        if parts.authority.is_some() {
            parts.authority = Some(host.as_bytes().try_into()?);
        }
        request.headers_mut().insert(HOST, host.clone());
    }
    *request.uri_mut() = Uri::from_parts(parts)?;
    Ok(())
}

/// Gives a response the headers that the destination and then the rule say.
pub fn edit_response(filters: &Filters, chosen: &WeightedDestination, headers: &mut HeaderMap) {
    for filters in [&chosen.filters, filters] {
        filters.response_headers.apply(headers);
    }
}

/// The path that a rewrite makes of `path`, which has no query and matched `rule`.
pub fn rewrite_path(rule: &Rule, rewrite: &PathRewrite, path: &str) -> String {
    let matched = match &rule.conditions.path {
        Some(
            PathMatch::ElementPrefix(prefix)
            | PathMatch::StringPrefix(prefix)
            | PathMatch::StringPrefixAnyCase(prefix),
        ) => prefix.len(),
        Some(PathMatch::Exact(_) | PathMatch::ExactAnyCase(_) | PathMatch::Regex(_)) | None => 0,
    };
    let rest = path.get(matched..).unwrap_or_default();
    let rewritten = match rewrite {
        PathRewrite::Full(full) => full.to_string(),
        // HTTPPathModifier of the Gateway API v1 reference: by whole elements, so a trailing `/`
        // of the replacement counts for nothing.
        PathRewrite::Prefix(prefix) => format!("{}{rest}", prefix.trim_end_matches('/')),
        PathRewrite::StringPrefix(prefix) => format!("{prefix}{rest}"),
        PathRewrite::Regex {
            pattern,
            replacement,
        } => pattern.replace_all(path, &**replacement).into_owned(),
    };
    if rewritten.starts_with('/') {
        return rewritten;
    }
    format!("/{rewritten}")
}

/// The value of `Location` (HTTPRequestRedirectFilter of the Gateway API v1 reference). `port` is
/// the one that the client connected to; when it stays, [`RedirectPort`] says.
pub fn location(rule: &Rule, redirect: &Redirect, request: &RequestView<'_>, port: u16) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or("http");
    let well_known = if scheme == "https" { 443 } else { 80 };
    let port = match (redirect.port, &redirect.scheme) {
        (RedirectPort::Number(port), _) => port,
        (RedirectPort::Unsaid, Some(_)) => well_known,
        (RedirectPort::AskedUnlessDefault, _) if port == 80 => well_known,
        (RedirectPort::Unsaid, None) => port,
        (RedirectPort::Asked | RedirectPort::AskedUnlessDefault, _) => port,
    };
    let host = redirect.hostname.as_deref();
    let host = host.unwrap_or_else(|| strip_port(request.authority));
    let path = redirect.path.as_ref().map_or_else(
        || request.path.to_owned(),
        |rewrite| rewrite_path(rule, rewrite, request.path),
    );
    let port = if port == well_known {
        String::new()
    } else {
        format!(":{port}")
    };
    let query = request
        .query
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("{scheme}://{host}{port}{path}{query}")
}
