//! `spec.hostnames`. A route of a Service applies whatever the host (GAMMA); Linkerd's own HTTPRoute
//! is for the hosts that it names, whatever its parent.

use std::net::IpAddr;
use std::sync::Arc;

use gateway_api::apis::experimental::httproutes::HttpRoute;

use super::findings::Findings;
use crate::compile::attach::{Dialect, Named};
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::compile::text::full_regex;
use crate::model::{ConditionReason, Match, ServerName, StringMatch};

/// The hosts that a route is for; `None` for any.
pub(super) fn of_requests(
    at: &At<'_, HttpRoute>,
    dialect: Dialect,
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Option<Vec<StringMatch>> {
    let written = at.object.spec.hostnames.as_deref().unwrap_or_default();
    if written.is_empty() {
        return None;
    }
    if dialect != Dialect::PolicyHttpRoute {
        let reason = "ignored: a route of a Service applies whatever the host";
        scope.problems.warning(at.located, "spec.hostnames", reason);
        return None;
    }
    let names = names(at, written, scope, findings);
    Some(names.iter().filter_map(condition).collect())
}

fn condition(name: &ServerName) -> Option<StringMatch> {
    match name {
        ServerName::Exact(host) => Some(StringMatch::Exact(Arc::clone(host))),
        ServerName::Below(end) => {
            let expression = format!("(?i).+{}", regex::escape(end));
            full_regex(&expression).ok().map(StringMatch::Regex)
        }
        ServerName::Any => Some(StringMatch::Present),
    }
}

/// Each alternative for each of the hosts.
pub(super) fn with_hosts(
    alternatives: Vec<(Match, Named)>,
    hosts: Option<&[StringMatch]>,
) -> Vec<(Match, Named)> {
    let Some(hosts) = hosts else {
        return alternatives;
    };
    let with = |(conditions, named): (Match, Named)| {
        hosts.iter().map(move |host| {
            let mut conditions = conditions.clone();
            conditions.authority = Some(host.clone());
            (conditions, named)
        })
    };
    alternatives.into_iter().flat_map(with).collect()
}

/// The names that can be read; others are left out and named.
pub(super) fn names(
    at: &At<'_, HttpRoute>,
    written: &[String],
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Vec<ServerName> {
    let mut names = Vec::new();
    for (index, text) in written.iter().enumerate() {
        match name(text) {
            Some(name) => names.push(name),
            None => {
                let field = format!("spec.hostnames[{index}]");
                let reason = format!(
                    "found `{text}`, expected a host name as in a.example.org or *.example.org; \
                     it is left out"
                );
                findings.unaccepted(ConditionReason::UnsupportedValue, &field, &reason);
                scope.problems.error(at.located, field, reason);
            }
        }
    }
    names
}

/// Host names of RFC 1123, never addresses (nor are those of RFC 6066, section 3).
fn name(text: &str) -> Option<ServerName> {
    let (wild, rest) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let label = |label: &str| !label.is_empty() && label.bytes().all(plain);
    let accepted = rest.split('.').all(label) && rest.parse::<IpAddr>().is_err();
    accepted.then(|| {
        let rest = rest.to_ascii_lowercase();
        if wild {
            ServerName::Below(format!(".{rest}").into())
        } else {
            ServerName::Exact(rest.into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names_with_at_most_one_wildcard_label_in_front() {
        for (text, expected) in [
            (
                "A.example.org",
                Some(ServerName::Exact("a.example.org".into())),
            ),
            (
                "*.example.org",
                Some(ServerName::Below(".example.org".into())),
            ),
            ("web", Some(ServerName::Exact("web".into()))),
            ("*", None),
            ("a.*.org", None),
            ("*a.example.org", None),
            ("10.0.0.1", None),
            ("a..b", None),
            ("", None),
            ("a:443", None),
        ] {
            assert_eq!(name(text), expected, "{text}");
        }
    }
}
