//! Rules in words.

use std::fmt::Write;

use super::policies;
use crate::model::{
    Action, Destination, Expression, Filters, HeaderEdits, HeaderMatch, Match, PathMatch, Rule,
    Snapshot, SourceMatch, StringMatch, WeightedDestination,
};
use crate::route::{RequestView, Unmet, rewrite_path, strip_port};

/// A rule as one line: its conditions → what it does.
pub fn describe(rule: &Rule, snapshot: &Snapshot) -> String {
    let action = match &*rule.action {
        Action::Forward { destinations, .. } => shares(destinations, snapshot),
        Action::Redirect { redirect, .. } => format!("redirect {}", redirect.status.as_u16()),
        Action::Direct { status, .. } => format!("{} (direct_response)", status.as_u16()),
        Action::Respond { status, reason } => format!("{} ({reason})", status.as_u16()),
    };
    format!("{} → {action}", conditions(&rule.conditions))
}

pub(super) fn shares(destinations: &[WeightedDestination], snapshot: &Snapshot) -> String {
    let name = |one: &WeightedDestination| match &one.destination {
        Destination::Cluster(id) => {
            let cluster = snapshot.cluster(*id);
            cluster.map_or_else(|| "gone".to_owned(), |cluster| cluster.name.to_string())
        }
        Destination::Redirect(redirect) => format!("redirect {}", redirect.status.as_u16()),
        Destination::Invalid => "invalid (500)".to_owned(),
    };
    if let [one] = destinations {
        return name(one);
    }
    let total: u64 = destinations.iter().map(|one| u64::from(one.weight)).sum();
    let share = |one: &WeightedDestination| format!("{} {}/{total}", name(one), one.weight);
    destinations
        .iter()
        .map(share)
        .collect::<Vec<_>>()
        .join(", ")
}

fn conditions(of: &Match) -> String {
    let mut words = Vec::new();
    words.extend(of.method.as_ref().map(ToString::to_string));
    words.extend(of.path.as_ref().map(|one| format!("path {}", path(one))));
    words.extend(
        of.authority
            .as_ref()
            .map(|one| format!("host {}", text(one))),
    );
    words.extend(
        of.headers
            .iter()
            .map(|one| format!("header {} {}", one.name, text(&one.value))),
    );
    words.extend(
        of.query
            .iter()
            .map(|one| format!("query {} {}", one.name, text(&one.value))),
    );
    words.extend(
        of.without_headers
            .iter()
            .map(|one| format!("not header {} {}", one.name, text(&one.value))),
    );
    words.extend(of.source.as_deref().map(source));
    words.extend(of.expression.as_deref().map(expression));
    if words.is_empty() {
        "everything".to_owned()
    } else {
        words.join(", ")
    }
}

fn expression(of: &Expression) -> String {
    let joined = |list: &[Expression], word: &str| {
        let parts: Vec<_> = list.iter().map(expression).collect();
        format!("({})", parts.join(word))
    };
    match of {
        Expression::All(list) => joined(list, " and "),
        Expression::Any(list) => joined(list, " or "),
        Expression::Not(inner) => format!("not {}", expression(inner)),
        Expression::Match(of) => conditions(of),
    }
}

pub(super) fn source(of: &SourceMatch) -> String {
    let namespace = of.namespace.iter();
    let words = namespace.map(|name| format!("namespace {name}"));
    let labels = of
        .labels
        .iter()
        .map(|(label, value)| format!("{label}={value}"));
    let words: Vec<_> = words.chain(labels).collect();
    format!("client {}", words.join(", "))
}

fn path(of: &PathMatch) -> String {
    match of {
        PathMatch::Exact(path) => format!("= {path}"),
        PathMatch::ElementPrefix(prefix) => format!("{prefix}/*"),
        PathMatch::StringPrefix(prefix) => format!("{prefix}*"),
        PathMatch::ExactAnyCase(path) => format!("= {path} in any case"),
        PathMatch::StringPrefixAnyCase(prefix) => format!("{prefix}* in any case"),
        PathMatch::Regex(regex) => format!("~ {regex}"),
    }
}

fn text(of: &StringMatch) -> String {
    match of {
        StringMatch::Exact(text) => format!("= {text}"),
        StringMatch::Prefix(prefix) => format!("{prefix}*"),
        StringMatch::Regex(regex) => format!("~ {regex}"),
        StringMatch::Present => "is there".to_owned(),
    }
}

/// Why a rule did not match, with what was found instead.
pub(super) fn miss(rule: &Rule, unmet: Unmet, request: &RequestView<'_>) -> String {
    let of = &rule.conditions;
    let expected = match unmet {
        Unmet::Path => of.path.as_ref().map(|one| format!("path {}", path(one))),
        Unmet::Method => of.method.as_ref().map(|one| format!("method {one}")),
        Unmet::Authority => of
            .authority
            .as_ref()
            .map(|one| format!("host {}", text(one))),
        Unmet::Header(index) => {
            let header = of.headers.get(index);
            header.map(|one| format!("header {} {}", one.name, text(&one.value)))
        }
        Unmet::Query(index) => {
            let query = of.query.get(index);
            query.map(|one| format!("query {} {}", one.name, text(&one.value)))
        }
        Unmet::WithoutHeader(index) => {
            let header = of.without_headers.get(index);
            header.map(|one| format!("no header {} {}", one.name, text(&one.value)))
        }
        Unmet::Source => of.source.as_deref().map(source),
        Unmet::Expression => of.expression.as_deref().map(expression),
    };
    let found = match unmet {
        Unmet::Path => request.path.to_owned(),
        Unmet::Method => request.method.to_string(),
        Unmet::Authority => strip_port(request.authority).to_owned(),
        Unmet::Header(index) => sent(of.headers.get(index), request),
        Unmet::WithoutHeader(index) => sent(of.without_headers.get(index), request),
        Unmet::Source => "another client".to_owned(),
        Unmet::Expression => format!("{} {}", request.method, request.path),
        Unmet::Query(_) => request.query.unwrap_or("none").to_owned(),
    };
    let mut line = String::new();
    if let Some(object) = &rule.object {
        // Writing to a String cannot fail.
        let _infallible = write!(line, "{object} {}: ", rule.field);
    }
    format!(
        "{line}needs {}, found {found}",
        expected.unwrap_or_default()
    )
}

fn sent(header: Option<&HeaderMatch>, request: &RequestView<'_>) -> String {
    let value = header.and_then(|one| request.headers.get(&one.name));
    value.map_or_else(
        || "none".to_owned(),
        |value| String::from_utf8_lossy(value.as_bytes()).into_owned(),
    )
}

/// What a rule does before it sends the request on, in order.
pub(super) fn action(rule: &Rule, request: &RequestView<'_>, snapshot: &Snapshot) -> Vec<String> {
    let policies = rule.policies.as_deref();
    let mut lines = policies.map_or_else(Vec::new, |of| policies::lines(of, snapshot));
    match &*rule.action {
        Action::Forward {
            filters,
            destinations,
        } => {
            lines.extend(filter_lines(filters, rule, request));
            for one in destinations {
                lines.extend(
                    filter_lines(&one.filters, rule, request)
                        .into_iter()
                        .map(|line| format!("one destination only: {line}")),
                );
            }
        }
        Action::Redirect { filters, .. } | Action::Direct { filters, .. } => {
            lines.extend(edit_lines("response", &filters.response_headers))
        }
        Action::Respond { .. } => {}
    }
    for (name, limit) in [
        ("request timeout", rule.timeouts.request),
        ("timeout of one try", rule.timeouts.backend_request),
    ] {
        lines.extend(limit.map(|limit| format!("{name} {limit:?}")));
    }
    lines
}

fn filter_lines(filters: &Filters, rule: &Rule, request: &RequestView<'_>) -> Vec<String> {
    let mut lines = edit_lines("request", &filters.request_headers);
    if let Some(host) = &filters.rewrite_authority {
        lines.push(format!(
            "rewrites the host to {}",
            String::from_utf8_lossy(host.as_bytes())
        ));
    }
    if let Some(rewrite) = &filters.rewrite_path {
        lines.push(format!(
            "rewrites the path to {}",
            rewrite_path(rule, rewrite, request.path)
        ));
    }
    lines.extend(edit_lines("response", &filters.response_headers));
    lines
}

fn edit_lines(of: &str, edits: &HeaderEdits) -> Vec<String> {
    let pair = |verb: &str, (name, value): &(http::HeaderName, http::HeaderValue)| {
        format!(
            "{verb} {of} header {name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        )
    };
    let mut lines: Vec<String> = edits.set.iter().map(|one| pair("sets", one)).collect();
    lines.extend(edits.add.iter().map(|one| pair("adds", one)));
    lines.extend(
        edits
            .remove
            .iter()
            .map(|name| format!("removes {of} header {name}")),
    );
    lines
}
