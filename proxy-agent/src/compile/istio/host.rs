//! Host names of Services, as Istio writes them.

use crate::compile::by_key::{Key, Name};
use crate::compile::scope::Scope;
use crate::compile::service::Port;
use crate::model::{PathMatch, PathRewrite};

/// Namespace and name that a host stands for: a short name is of `namespace`; `name.namespace`,
/// `….svc` and `….svc.cluster.local` name their own. `None` if it is no name of a Service.
pub(in crate::compile) fn parse<'h>(host: &'h str, namespace: &'h str) -> Option<Key<'h>> {
    let mut labels = host.trim_end_matches('.').split('.');
    let name = labels.next().unwrap_or_default();
    let of = labels.next().unwrap_or(namespace);
    let rest: Vec<_> = labels.collect();
    let known = matches!(rest[..], [] | ["svc"] | ["svc", "cluster", "local"]);
    known.then_some((of, name))
}

/// The Service that a host stands for, or the host of a ServiceEntry, with its ports.
///
/// # Errors
/// A reason for the user.
pub(super) fn service<'s>(
    host: &str,
    namespace: &str,
    scope: &Scope<'s>,
) -> Result<(Name, &'s [Port]), String> {
    let found = scope.external(host, namespace);
    let found = found.or_else(|| parse(host, namespace).and_then(|key| scope.service(key)));
    found.ok_or_else(|| format!("found `{host}`, which is no Service that is known"))
}

/// What full names end with that a host with a wildcard stands for; `None` if it has none.
pub(super) fn suffix(host: &str) -> Option<Result<&str, String>> {
    let suffix = host.strip_prefix('*')?;
    let good = suffix.is_empty() || suffix.starts_with('.') && !suffix.contains('*');
    let refused = || format!("found `{host}`, accepted: *, or *. and a suffix");
    Some(good.then_some(suffix).ok_or_else(refused))
}

/// Whether the full name of a Service ends with `suffix`; of a ServiceEntry it is the host, which
/// alone has a dot in its name.
pub(in crate::compile) fn ends_with((namespace, name): Key<'_>, suffix: &str) -> bool {
    if name.contains('.') {
        return name.ends_with(suffix);
    }
    format!("{name}.{namespace}.svc.cluster.local").ends_with(suffix)
}

/// The Services that a host of a VirtualService stands for, and how exactly: `*` and `*.suffix`
/// stand for every Service whose full name ends so.
///
/// # Errors
/// A reason for the user.
pub(super) fn services(
    host: &str,
    namespace: &str,
    scope: &Scope<'_>,
) -> Result<(Vec<Name>, usize), String> {
    let Some(suffix) = suffix(host) else {
        return service(host, namespace, scope).map(|(service, _)| (vec![service], usize::MAX));
    };
    let suffix = suffix?;
    let found = scope.services_that_end(suffix);
    if found.is_empty() {
        return Err(format!("found `{host}`, which no Service matches"));
    }
    Ok((found, suffix.len()))
}

/// `rewrite.uri`: replaces the prefix where the match is one, else the whole path.
pub(super) fn rewrite(uri: &str, path: Option<&PathMatch>) -> PathRewrite {
    match path {
        Some(PathMatch::StringPrefix(_) | PathMatch::StringPrefixAnyCase(_)) => {
            PathRewrite::StringPrefix(uri.into())
        }
        Some(
            PathMatch::Exact(_)
            | PathMatch::ExactAnyCase(_)
            | PathMatch::ElementPrefix(_)
            | PathMatch::Regex(_),
        )
        | None => PathRewrite::Full(uri.into()),
    }
}
