//! Host names of Services, as Istio writes them.

use crate::compile::by_key::Name;
use crate::compile::scope::Scope;
use crate::compile::service::Port;
use crate::model::{Match, PathMatch, PathRewrite};

/// The Service that a host stands for, with its ports: a short name is of `namespace`;
/// `name.namespace`, `….svc` and `….svc.cluster.local` name their own.
///
/// # Errors
/// A reason for the user.
pub(super) fn service<'s>(
    host: &str,
    namespace: &str,
    scope: &Scope<'s>,
) -> Result<(Name, &'s [Port]), String> {
    if host.contains('*') {
        return Err(format!(
            "found `{host}`: wildcards are not supported by this version"
        ));
    }
    let mut labels = host.trim_end_matches('.').split('.');
    let name = labels.next().unwrap_or_default();
    let of = labels.next().unwrap_or(namespace);
    let rest: Vec<_> = labels.collect();
    let known = matches!(rest[..], [] | ["svc"] | ["svc", "cluster", "local"]);
    let found = known.then(|| scope.service((of, name))).flatten();
    found.ok_or_else(|| format!("found `{host}`, which is no Service that is known"))
}

/// `rewrite.uri`: replaces the prefix where the match is one, else the whole path.
pub(super) fn rewrite(uri: &str, conditions: &Match) -> PathRewrite {
    match conditions.path {
        Some(PathMatch::StringPrefix(_)) => PathRewrite::StringPrefix(uri.into()),
        Some(PathMatch::Exact(_) | PathMatch::ElementPrefix(_) | PathMatch::Regex(_)) | None => {
            PathRewrite::Full(uri.into())
        }
    }
}
