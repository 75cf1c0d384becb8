//! What a rule does to a request, in the order in which it comes to bear.

use super::policies;
use crate::model::{
    Action, Filters, HeaderEdits, PathRewrite, Policies, Rule, Snapshot, WeightedDestination,
};
use crate::route::{RequestView, rewrite_path};

/// What a rule does to `request`, wherever it goes.
pub(super) fn of_rule(rule: &Rule, request: &RequestView<'_>, snapshot: &Snapshot) -> Vec<String> {
    let rewritten = |rewrite: &PathRewrite| rewrite_path(rule, rewrite, request.path);
    let mut lines = of_policies(rule.policies.as_deref(), snapshot);
    lines.extend(of_action(&rule.action, rewritten));
    lines.extend(timeouts(rule));
    lines
}

/// What is done to `request` for one destination alone.
pub(super) fn of_destination(
    one: &WeightedDestination,
    rule: &Rule,
    request: &RequestView<'_>,
    snapshot: &Snapshot,
) -> Vec<String> {
    let rewritten = |rewrite: &PathRewrite| rewrite_path(rule, rewrite, request.path);
    let mut lines = of_policies(one.policies.as_deref(), snapshot);
    lines.extend(filter_lines(&one.filters, rewritten));
    lines
}

/// What a rule does beside choosing a destination, to no request in particular.
pub(super) fn in_general(rule: &Rule, snapshot: &Snapshot) -> Vec<String> {
    let mut lines = of_policies(rule.policies.as_deref(), snapshot);
    lines.extend(of_action(&rule.action, written));
    if let Action::Forward { destinations, .. } = &*rule.action {
        for one in destinations {
            let own = of_policies(one.policies.as_deref(), snapshot);
            let own = own.into_iter().chain(filter_lines(&one.filters, written));
            lines.extend(own.map(|line| format!("one destination only: {line}")));
        }
    }
    lines.extend(timeouts(rule));
    lines
}

fn written(rewrite: &PathRewrite) -> String {
    match rewrite {
        PathRewrite::Full(path) => path.to_string(),
        PathRewrite::Prefix(prefix) | PathRewrite::StringPrefix(prefix) => {
            format!("{prefix} in place of the prefix")
        }
        PathRewrite::Regex {
            pattern,
            replacement,
        } => format!("{replacement} in place of {pattern}"),
    }
}

fn of_policies(policies: Option<&Policies>, snapshot: &Snapshot) -> Vec<String> {
    policies.map_or_else(Vec::new, |of| policies::lines(of, snapshot))
}

fn of_action(action: &Action, rewritten: impl Fn(&PathRewrite) -> String) -> Vec<String> {
    match action {
        Action::Forward { filters, .. } => filter_lines(filters, rewritten),
        Action::Redirect { filters, .. } | Action::Direct { filters, .. } => {
            edit_lines("response", &filters.response_headers)
        }
        Action::Respond { .. } => Vec::new(),
    }
}

fn timeouts(rule: &Rule) -> impl Iterator<Item = String> {
    let limits = [
        ("request timeout", rule.timeouts.request),
        ("timeout of one try", rule.timeouts.backend_request),
    ];
    let limits = limits.into_iter();
    limits.filter_map(|(name, limit)| Some(format!("{name} {:?}", limit?)))
}

fn filter_lines(filters: &Filters, rewritten: impl Fn(&PathRewrite) -> String) -> Vec<String> {
    let mut lines = edit_lines("request", &filters.request_headers);
    if let Some(host) = &filters.rewrite_authority {
        let host = String::from_utf8_lossy(host.as_bytes());
        lines.push(format!("rewrites the host to {host}"));
    }
    if let Some(rewrite) = &filters.rewrite_path {
        lines.push(format!("rewrites the path to {}", rewritten(rewrite)));
    }
    lines.extend(edit_lines("response", &filters.response_headers));
    lines
}

fn edit_lines(of: &str, edits: &HeaderEdits) -> Vec<String> {
    let pair = |verb: &str, (name, value): &(http::HeaderName, http::HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        format!("{verb} {of} header {name}: {value}")
    };
    let mut lines: Vec<String> = edits.set.iter().map(|one| pair("sets", one)).collect();
    lines.extend(edits.add.iter().map(|one| pair("adds", one)));
    let removed = edits.remove.iter();
    lines.extend(removed.map(|name| format!("removes {of} header {name}")));
    lines
}
