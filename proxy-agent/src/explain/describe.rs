//! Rules in words.

use std::fmt::Write;

use super::effects;
use crate::model::{
    Action, Destination, Expression, HeaderMatch, Match, MethodMatch, PathMatch, Rule, Snapshot,
    SourceMatch, StringMatch, WeightedDestination,
};
use crate::route::{Client, RequestView, Unmet};

/// A rule as one line: its conditions → what it does; what it does beside.
pub fn describe(rule: &Rule, snapshot: &Snapshot) -> String {
    let action = match &*rule.action {
        Action::Forward { destinations, .. } => shares(destinations, snapshot),
        Action::Redirect { redirect, .. } => format!("redirect {}", redirect.status.as_u16()),
        Action::Direct { status, .. } => format!("{} (direct_response)", status.as_u16()),
        Action::Respond { status, reason } => format!("{} ({reason})", status.as_u16()),
    };
    let line = format!("{} → {action}", conditions(&rule.conditions));
    let effects = effects::in_general(rule, snapshot);
    [line]
        .into_iter()
        .chain(effects)
        .collect::<Vec<_>>()
        .join("; ")
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
    words.extend(of.method.as_ref().map(method));
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

fn method(of: &MethodMatch) -> String {
    match of {
        MethodMatch::Exact(method) => method.to_string(),
        MethodMatch::Text(of) => text(of),
    }
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
        Unmet::Method => of
            .method
            .as_ref()
            .map(|one| format!("method {}", method(one))),
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
        Unmet::Authority => request.authority.to_owned(),
        Unmet::Header(index) => sent(of.headers.get(index), request),
        Unmet::WithoutHeader(index) => sent(of.without_headers.get(index), request),
        Unmet::Source => client(of.source.as_deref(), request.client),
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

/// A client by what a condition asks of it.
fn client(asked: Option<&SourceMatch>, client: Option<Client<'_>>) -> String {
    let Some(client) = client else {
        return "a client that is not known".to_owned();
    };
    let labels = client.labels.get(client.uid);
    let found = |label: &String| labels.and_then(|labels| labels.get(label));
    let asked = asked.into_iter().flat_map(|asked| asked.labels.keys());
    let labels = asked.map(|label| match found(label) {
        Some(value) => format!("{label}={value}"),
        None => format!("no label {label}"),
    });
    let namespace = format!("client namespace {}", client.namespace);
    let words: Vec<_> = [namespace].into_iter().chain(labels).collect();
    words.join(", ")
}

fn sent(header: Option<&HeaderMatch>, request: &RequestView<'_>) -> String {
    let name = header.map(|one| &one.name);
    let values = name
        .into_iter()
        .flat_map(|name| request.headers.get_all(name));
    let values: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    if values.is_empty() {
        return "none".to_owned();
    }
    values.join(",")
}
