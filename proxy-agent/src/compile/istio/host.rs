//! Host names of Services, as Istio writes them.

use crate::compile::by_key::Key;
use crate::compile::service::Ports;
use crate::model::{Match, PathMatch, PathRewrite};

/// The Service that a host stands for: a short name is of `namespace`; `name.namespace`,
/// `….svc` and `….svc.cluster.local` name their own.
///
/// # Errors
/// A reason for the user.
pub(super) fn service<'a>(
    host: &str,
    namespace: &str,
    ports: &Ports<'a>,
) -> Result<Key<'a>, String> {
    let mut labels = host.trim_end_matches('.').split('.');
    let name = labels.next().unwrap_or_default();
    let of = labels.next().unwrap_or(namespace);
    let rest: Vec<_> = labels.collect();
    let known = matches!(rest[..], [] | ["svc"] | ["svc", "cluster", "local"]);
    let found = ports.entry((of, name)).filter(|_| known);
    found
        .map(|(key, _)| key)
        .ok_or_else(|| format!("found `{host}`, which is no Service that is known"))
}

/// The Services that a host of a VirtualService stands for, and how exactly: `*` and `*.suffix`
/// stand for every Service whose full name ends so.
///
/// # Errors
/// A reason for the user.
pub(super) fn services<'a>(
    host: &str,
    namespace: &str,
    ports: &Ports<'a>,
) -> Result<(Vec<Key<'a>>, usize), String> {
    let Some(suffix) = host.strip_prefix('*') else {
        return service(host, namespace, ports).map(|service| (vec![service], usize::MAX));
    };
    if suffix.contains('*') || !(suffix.is_empty() || suffix.starts_with('.')) {
        return Err(format!("found `{host}`, accepted: *, or *. and a suffix"));
    }
    let matching = ports.iter().filter(|((of, name), _)| {
        let full = format!("{name}.{of}.svc.cluster.local");
        full.ends_with(suffix)
    });
    let found: Vec<_> = matching.map(|(key, _)| key).collect();
    if found.is_empty() {
        return Err(format!("found `{host}`, which no Service matches"));
    }
    Ok((found, suffix.len()))
}

/// `rewrite.uri`: replaces the prefix where the match is one, else the whole path.
pub(super) fn rewrite(uri: &str, conditions: &Match) -> PathRewrite {
    match conditions.path {
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
