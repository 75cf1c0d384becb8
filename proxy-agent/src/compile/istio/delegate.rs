//! `http[].delegate`: the routes of another VirtualService in place of one of its root's.
//!
//! Both have matches, and both must hold. As Istio does, a pair is left out unless the delegate's
//! asks for what the root's lets through, and the root's other fields stand where the delegate has
//! none.

use std::collections::BTreeMap;

use crate::objects::istio::{HttpMatch, HttpRoute, StringMatch};

/// Positions of a match of the root and of one of the delegate.
type Pair = (usize, usize);

/// A delegate's route as it applies under `root`, `None` if no match of both is possible; and the
/// matches that cannot both hold.
pub(super) fn merge(root: &HttpRoute, delegate: &HttpRoute) -> (Option<HttpRoute>, Vec<Pair>) {
    let (matches, left_out) = merged_matches(&root.matches, &delegate.matches);
    (
        matches.map(|matches| of_both(root, delegate, matches)),
        left_out,
    )
}

fn of_both(root: &HttpRoute, delegate: &HttpRoute, matches: Vec<HttpMatch>) -> HttpRoute {
    let mut route = delegate.clone();
    route.matches = matches;
    route.rewrite = route.rewrite.or_else(|| root.rewrite.clone());
    route.timeout = route.timeout.or_else(|| root.timeout.clone());
    route.retries = route.retries.or_else(|| root.retries.clone());
    route.fault = route.fault.or_else(|| root.fault.clone());
    route.cors_policy = route.cors_policy.or_else(|| root.cors_policy.clone());
    if route.mirror.is_none() && route.mirrors.is_none() {
        route.mirror.clone_from(&root.mirror);
        route.mirrors.clone_from(&root.mirrors);
        route.mirror_percent = root.mirror_percent;
        route.mirror_percentage = root.mirror_percentage;
    }
    route.headers = match (route.headers, root.headers.clone()) {
        (Some(own), Some(roots)) => Some(own.over(roots)),
        (own, roots) => own.or(roots),
    };
    route
}

fn merged_matches(
    root: &[HttpMatch],
    delegate: &[HttpMatch],
) -> (Option<Vec<HttpMatch>>, Vec<Pair>) {
    if root.is_empty() || delegate.is_empty() {
        return (Some([root, delegate].concat()), Vec::new());
    }
    let (mut pairs, mut left_out) = (Vec::new(), Vec::new());
    for (position, outer) in root.iter().enumerate() {
        for (of_delegate, inner) in delegate.iter().enumerate() {
            match merged(outer, inner) {
                Some(both) => pairs.push(both),
                None => left_out.push((position, of_delegate)),
            }
        }
    }
    ((!pairs.is_empty()).then_some(pairs), left_out)
}

fn merged(root: &HttpMatch, delegate: &HttpMatch) -> Option<HttpMatch> {
    let port = match (root.port, delegate.port) {
        (Some(outer), Some(inner)) if outer != inner => return None,
        (outer, inner) => inner.or(outer),
    };
    let source_namespace = match (&root.source_namespace, &delegate.source_namespace) {
        (Some(outer), Some(inner)) if outer != inner => return None,
        (outer, inner) => inner.clone().or_else(|| outer.clone()),
    };
    let mut source_labels = delegate.source_labels.clone();
    for (label, value) in &root.source_labels {
        let kept = source_labels.entry(label.clone());
        if kept.or_insert_with(|| value.clone()) != value {
            return None;
        }
    }
    Some(HttpMatch {
        uri: narrower(root.uri.as_ref(), delegate.uri.as_ref())?,
        method: narrower(root.method.as_ref(), delegate.method.as_ref())?,
        authority: narrower(root.authority.as_ref(), delegate.authority.as_ref())?,
        scheme: narrower(root.scheme.as_ref(), delegate.scheme.as_ref())?,
        headers: all(&root.headers, &delegate.headers)?,
        without_headers: all(&root.without_headers, &delegate.without_headers)?,
        query_params: all(&root.query_params, &delegate.query_params)?,
        ignore_uri_case: delegate.ignore_uri_case.or(root.ignore_uri_case),
        port,
        source_namespace,
        source_labels,
        gateways: if delegate.gateways.is_empty() {
            root.gateways.clone()
        } else {
            delegate.gateways.clone()
        },
        ..delegate.clone()
    })
}

type Conditions = BTreeMap<String, StringMatch>;

fn all(root: &Conditions, delegate: &Conditions) -> Option<Conditions> {
    let mut merged = delegate.clone();
    for (name, outer) in root {
        let condition = narrower(Some(outer), delegate.get(name))??;
        merged.insert(name.clone(), condition);
    }
    Some(merged)
}

/// The one of both that implies the other; the outer `None` if neither does.
fn narrower(
    root: Option<&StringMatch>,
    delegate: Option<&StringMatch>,
) -> Option<Option<StringMatch>> {
    let (Some(outer), Some(inner)) = (root, delegate) else {
        return Some(delegate.or(root).cloned());
    };
    let text = inner.exact.as_ref().or(inner.prefix.as_ref());
    let implied = match (&outer.exact, &outer.prefix, &outer.regex) {
        (None, Some(prefix), None) => text.is_some_and(|text| text.starts_with(prefix.as_str())),
        (None, None, None) => true,
        _ => outer == inner,
    };
    implied.then(|| Some(inner.clone()))
}
