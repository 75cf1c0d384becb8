//! `spec.rules[].filters` and `spec.rules[].backendRefs[].filters`.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesBackendRefsFilters, HttpRouteRulesFilters,
    HttpRouteRulesFiltersRequestHeaderModifier, HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesFiltersRequestRedirect,
    HttpRouteRulesFiltersRequestRedirectPathType as RedirectPath,
    HttpRouteRulesFiltersRequestRedirectScheme, HttpRouteRulesFiltersResponseHeaderModifier,
    HttpRouteRulesFiltersType, HttpRouteRulesFiltersUrlRewrite,
    HttpRouteRulesFiltersUrlRewritePathType as RewritePath,
};
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Fault, policy};
use crate::compile::text::{
    authority_value, header_edits, host_as_authority, precise_hostname, sent_path,
};
use crate::model::{
    Cors, Filters, HeaderEdits, Match, PathMatch, PathRewrite, Redirect, RedirectPort,
};

/// What the filters of a rule come to.
#[derive(Debug, Default)]
pub(super) struct RuleFilters<'f> {
    pub filters: Filters,
    pub redirect: Option<Redirect>,
    pub cors: Option<Cors>,
    /// With their places among the filters.
    pub mirrors: Vec<(usize, &'f HttpRouteRulesFiltersRequestMirror)>,
}

/// Compiles the filters of a rule. An unknown one fails the rule: it must not be ignored.
pub(super) fn compile<'f>(
    filters: Option<&'f [HttpRouteRulesFilters]>,
    conditions: &[&Match],
) -> Result<RuleFilters<'f>, Fault> {
    let mut compiled = RuleFilters::default();
    let filters = filters.unwrap_or_default();
    for (index, filter) in filters.iter().enumerate() {
        let field = format!("filters[{index}]");
        if let Some((inner, reason)) = foreign(filter) {
            return Err((format!("{field}.{inner}"), reason));
        }
        let mut before = filters[..index].iter();
        if filter.r#type == HttpRouteRulesFiltersType::RequestMirror {
            let from = required(filter.request_mirror.as_ref(), "requestMirror")
                .map_err(|(inner, reason)| (format!("{field}.{inner}"), reason))?;
            compiled.mirrors.push((index, from));
            continue;
        }
        if before.any(|one| one.r#type == filter.r#type) {
            let reason = format!("a second {:?}; accepted: one of each type", filter.r#type);
            return Err((format!("{field}.type"), reason));
        }
        add(&mut compiled, filter, conditions)
            .map_err(|(inner, reason)| (format!("{field}.{inner}"), reason))?;
    }
    host_as_authority(&mut compiled.filters);
    Ok(compiled)
}

/// Names a part of a filter that is of another type.
fn foreign(filter: &HttpRouteRulesFilters) -> Option<Fault> {
    use HttpRouteRulesFiltersType as Type;
    let parts = [
        (
            Type::RequestHeaderModifier,
            "requestHeaderModifier",
            filter.request_header_modifier.is_some(),
        ),
        (
            Type::ResponseHeaderModifier,
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
        ),
        (
            Type::RequestMirror,
            "requestMirror",
            filter.request_mirror.is_some(),
        ),
        (
            Type::RequestRedirect,
            "requestRedirect",
            filter.request_redirect.is_some(),
        ),
        (Type::UrlRewrite, "urlRewrite", filter.url_rewrite.is_some()),
        (Type::Cors, "cors", filter.cors.is_some()),
        (
            Type::ExtensionRef,
            "extensionRef",
            filter.extension_ref.is_some(),
        ),
        (
            Type::ExternalAuth,
            "externalAuth",
            filter.external_auth.is_some(),
        ),
    ];
    let mut parts = parts.into_iter();
    let (of, name, _) = parts.find(|(of, _, there)| *there && *of != filter.r#type)?;
    let reason = format!("is of type {of:?}, and the filter is a {:?}", filter.r#type);
    Some((name.to_owned(), reason))
}

/// Names filters of a rule that exclude each other.
pub(super) fn incompatible(filters: Option<&[HttpRouteRulesFilters]>) -> Option<Fault> {
    use HttpRouteRulesFiltersType::{RequestRedirect, UrlRewrite};
    let mut types = filters.into_iter().flatten().map(|filter| &filter.r#type);
    let both =
        types.clone().any(|one| *one == RequestRedirect) && types.any(|one| *one == UrlRewrite);
    let reason = "found both RequestRedirect and URLRewrite, accepted: one of them";
    both.then(|| ("filters".to_owned(), reason.to_owned()))
}

/// The filters of one destination, in the shape of a rule's.
pub(super) fn of_destination(
    filters: Option<&[HttpRouteRulesBackendRefsFilters]>,
) -> Result<Vec<HttpRouteRulesFilters>, Fault> {
    let filters = filters.unwrap_or_default().iter().map(same_shape);
    let filters = filters.collect::<Result<_, _>>();
    filters.map_err(|error| ("filters".to_owned(), error.to_string()))
}

/// The bindings repeat the type of a rule's filters for those of a destination, field by field.
fn same_shape<From: Serialize, To: DeserializeOwned>(from: &From) -> serde_json::Result<To> {
    serde_json::from_value(serde_json::to_value(from)?)
}

fn add(
    compiled: &mut RuleFilters<'_>,
    filter: &HttpRouteRulesFilters,
    conditions: &[&Match],
) -> Result<(), Fault> {
    use HttpRouteRulesFiltersType as Type;
    match filter.r#type {
        Type::RequestHeaderModifier => {
            let modifier = required(
                filter.request_header_modifier.as_ref(),
                "requestHeaderModifier",
            )?;
            compiled.filters.request_headers = request_headers(modifier)?;
        }
        Type::ResponseHeaderModifier => {
            let modifier = required(
                filter.response_header_modifier.as_ref(),
                "responseHeaderModifier",
            )?;
            compiled.filters.response_headers = response_headers(modifier)?;
        }
        Type::RequestRedirect => {
            let from = required(filter.request_redirect.as_ref(), "requestRedirect")?;
            compiled.redirect = Some(redirect(from, conditions)?);
        }
        Type::UrlRewrite => {
            let from = required(filter.url_rewrite.as_ref(), "urlRewrite")?;
            rewrite(from, conditions, &mut compiled.filters)?;
        }
        Type::Cors => {
            let from = required(filter.cors.as_ref(), "cors")?;
            compiled.cors = Some(policy::cors(from)?);
        }
        Type::RequestMirror | Type::ExtensionRef | Type::ExternalAuth => {
            let reason = format!(
                "found {:?}, accepted: RequestHeaderModifier, ResponseHeaderModifier, \
                 RequestMirror, RequestRedirect, URLRewrite, CORS",
                filter.r#type
            );
            return Err(("type".to_owned(), reason));
        }
    }
    Ok(())
}

fn required<'a, T>(part: Option<&'a T>, name: &str) -> Result<&'a T, Fault> {
    part.ok_or_else(|| {
        (
            name.to_owned(),
            "is missing: the filter's type needs it".to_owned(),
        )
    })
}

fn request_headers(
    from: &HttpRouteRulesFiltersRequestHeaderModifier,
) -> Result<HeaderEdits, Fault> {
    header_edits(
        from.set
            .iter()
            .flatten()
            .map(|header| (&header.name, &header.value)),
        from.add
            .iter()
            .flatten()
            .map(|header| (&header.name, &header.value)),
        from.remove.iter().flatten(),
    )
    .map(the_first_of_each)
    .map_err(|(inner, reason)| (format!("requestHeaderModifier.{inner}"), reason))
}

fn response_headers(
    from: &HttpRouteRulesFiltersResponseHeaderModifier,
) -> Result<HeaderEdits, Fault> {
    header_edits(
        from.set
            .iter()
            .flatten()
            .map(|header| (&header.name, &header.value)),
        from.add
            .iter()
            .flatten()
            .map(|header| (&header.name, &header.value)),
        from.remove.iter().flatten(),
    )
    .map(the_first_of_each)
    .map_err(|(inner, reason)| (format!("responseHeaderModifier.{inner}"), reason))
}

/// Of entries with the same name the first counts, whatever the letter case: HTTPHeader.name of the
/// v1 reference.
fn the_first_of_each(mut edits: HeaderEdits) -> HeaderEdits {
    for list in [&mut edits.set, &mut edits.add] {
        let mut known = Vec::new();
        list.retain(|(name, _)| {
            let new = !known.contains(name);
            known.push(name.clone());
            new
        });
    }
    edits
}

fn redirect(
    from: &HttpRouteRulesFiltersRequestRedirect,
    conditions: &[&Match],
) -> Result<Redirect, Fault> {
    use HttpRouteRulesFiltersRequestRedirectScheme::{Http, Https};
    let code = from.status_code.unwrap_or(302);
    let status = match code {
        301 => StatusCode::MOVED_PERMANENTLY,
        302 => StatusCode::FOUND,
        303 => StatusCode::SEE_OTHER,
        307 => StatusCode::TEMPORARY_REDIRECT,
        308 => StatusCode::PERMANENT_REDIRECT,
        _ => {
            let reason = format!("found {code}, accepted: 301, 302, 303, 307, 308");
            return Err(("requestRedirect.statusCode".to_owned(), reason));
        }
    };
    let port = from.port.map(|number| {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        let reason = || format!("found {number}, accepted: 1 to 65535");
        port.ok_or_else(|| ("requestRedirect.port".to_owned(), reason()))
    });
    let port = port.transpose()?;
    let hostname = from.hostname.as_deref().map(precise_hostname).transpose();
    let hostname = hostname.map_err(|reason| ("requestRedirect.hostname".to_owned(), reason))?;
    let path = from.path.as_ref().map(|path| {
        let replaced = match path.r#type {
            RedirectPath::ReplaceFullPath => Replaced::Whole,
            RedirectPath::ReplacePrefixMatch => Replaced::Prefix,
        };
        let (full, prefix) = (&path.replace_full_path, &path.replace_prefix_match);
        path_rewrite(replaced, full.as_deref(), prefix.as_deref(), conditions)
    });
    let path = path
        .transpose()
        .map_err(|(inner, reason)| (format!("requestRedirect.path{inner}"), reason))?;
    Ok(Redirect {
        scheme: from.scheme.as_ref().map(|scheme| match scheme {
            Http => "http".into(),
            Https => "https".into(),
        }),
        hostname: hostname.map(Into::into),
        port: port.map_or(RedirectPort::Unsaid, RedirectPort::Number),
        path,
        status,
    })
}

fn rewrite(
    from: &HttpRouteRulesFiltersUrlRewrite,
    conditions: &[&Match],
    filters: &mut Filters,
) -> Result<(), Fault> {
    if let Some(hostname) = &from.hostname {
        let value = precise_hostname(hostname).and_then(authority_value);
        let value = value.map_err(|reason| ("urlRewrite.hostname".to_owned(), reason))?;
        filters.rewrite_authority = Some(value);
    }
    if let Some(path) = &from.path {
        let replaced = match path.r#type {
            RewritePath::ReplaceFullPath => Replaced::Whole,
            RewritePath::ReplacePrefixMatch => Replaced::Prefix,
        };
        let (full, prefix) = (&path.replace_full_path, &path.replace_prefix_match);
        let rewrite = path_rewrite(replaced, full.as_deref(), prefix.as_deref(), conditions)
            .map_err(|(inner, reason)| (format!("urlRewrite.path{inner}"), reason))?;
        filters.rewrite_path = Some(rewrite);
    }
    Ok(())
}

/// What a path modifier's `type` says that it replaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Replaced {
    Whole,
    Prefix,
}

fn path_rewrite(
    replaced: Replaced,
    full: Option<&str>,
    prefix: Option<&str>,
    conditions: &[&Match],
) -> Result<PathRewrite, Fault> {
    for (name, text) in [("replaceFullPath", full), ("replacePrefixMatch", prefix)] {
        let checked = text.map(sent_path).transpose();
        checked.map_err(|reason| (format!(".{name}"), reason))?;
    }
    let is_prefix = |one: &&Match| matches!(one.path, Some(PathMatch::ElementPrefix(_)));
    match (replaced, full, prefix) {
        (Replaced::Whole, Some(path), None) => Ok(PathRewrite::Full(path.into())),
        (Replaced::Prefix, None, Some(_)) if !conditions.iter().all(is_prefix) => {
            let reason = "needs every match of the rule to be a PathPrefix".to_owned();
            Err((".replacePrefixMatch".to_owned(), reason))
        }
        (Replaced::Prefix, None, Some(prefix)) => Ok(PathRewrite::Prefix(prefix.into())),
        (Replaced::Whole, ..) => {
            let reason = "type ReplaceFullPath needs replaceFullPath, and that alone".to_owned();
            Err((String::new(), reason))
        }
        (Replaced::Prefix, ..) => {
            let reason = "type ReplacePrefixMatch needs replacePrefixMatch, and that alone";
            Err((String::new(), reason.to_owned()))
        }
    }
}
