//! Finds the rule of a request and says what follows from it. Pure: no I/O, never awaits.
//!
//! Tables are compiled and sorted elsewhere; here the first rule that matches is the answer. Paths
//! come in their normal form.

pub mod cors;
mod edit;
mod header;
mod path;
mod query;
mod scratch;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::model::{
    Expression, Match, MethodMatch, RouteTable, Rule, Snapshot, SourceMatch, StringMatch,
    WeightedDestination,
};

use self::query::without_user;

pub use edit::{edit_request, edit_response, location, rewrite_path};
pub use query::strip_port;
pub use stream::Greeting;

pub use crate::model::{PathError, normalise};

/// What rules look at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path in its normal form, without the query.
    pub path: &'a str,
    /// The query, without the `?`.
    pub query: Option<&'a str>,
    /// The authority, with or without a port, in any letter case.
    pub authority: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Whose request it is; `None` where that is not known, or no rule is looked for.
    pub client: Option<Client<'a>>,
}

/// The pod that a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Labels of this node's pods, by uid: looked up only for a rule that asks.
    pub labels: &'a HashMap<Arc<str>, BTreeMap<String, String>>,
}

/// The condition of a rule that a request does not meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unmet {
    /// On the path.
    Path,
    /// On the method.
    Method,
    /// On the authority.
    Authority,
    /// On the header at this index of [`Match::headers`].
    Header(usize),
    /// On the query parameter at this index of [`Match::query`].
    Query(usize),
    /// On the header at this index of [`Match::without_headers`].
    WithoutHeader(usize),
    /// On the client.
    Source,
    /// What is joined by and, or and not.
    Expression,
}

impl RouteTable {
    /// The rule that decides; `None` means 404. Allocates nothing.
    pub fn find(&self, request: &RequestView<'_>) -> Option<&Rule> {
        let holds = |rule: &Rule| rule.conditions.holds(request);
        self.first(request.path, request.headers, holds)
    }
}

impl Match {
    /// Whether every condition holds.
    pub fn holds(&self, request: &RequestView<'_>) -> bool {
        self.unmet(request).is_none()
    }

    /// The first condition that does not hold, cheap ones first.
    pub fn unmet(&self, request: &RequestView<'_>) -> Option<Unmet> {
        if self
            .path
            .as_ref()
            .is_some_and(|path| !path.holds(request.path))
        {
            return Some(Unmet::Path);
        }
        if self
            .method
            .as_ref()
            .is_some_and(|method| !method.holds(request.method))
        {
            return Some(Unmet::Method);
        }
        let authority = self.authority.as_ref();
        if authority.is_some_and(|condition| !condition.holds_for_host(request.authority)) {
            return Some(Unmet::Authority);
        }
        let header = |condition| !header::holds(condition, request.headers);
        if let Some(index) = self.headers.iter().position(header) {
            return Some(Unmet::Header(index));
        }
        let query = |condition| !query::holds(condition, request.query);
        if let Some(index) = self.query.iter().position(query) {
            return Some(Unmet::Query(index));
        }
        let without = |condition| header::holds(condition, request.headers);
        if let Some(index) = self.without_headers.iter().position(without) {
            return Some(Unmet::WithoutHeader(index));
        }
        let source = self.source.as_ref();
        if source.is_some_and(|source| !request.client.is_some_and(|client| source.holds(&client)))
        {
            return Some(Unmet::Source);
        }
        let expression = self.expression.as_ref();
        expression
            .is_some_and(|expression| !expression.holds(request))
            .then_some(Unmet::Expression)
    }
}

impl Expression {
    /// Whether it holds.
    pub fn holds(&self, request: &RequestView<'_>) -> bool {
        match self {
            Self::All(of) => of.iter().all(|one| one.holds(request)),
            Self::Any(of) => of.iter().any(|one| one.holds(request)),
            Self::Not(of) => !of.holds(request),
            Self::Match(of) => of.holds(request),
        }
    }
}

impl SourceMatch {
    /// Whether the condition holds for a client. Labels of a pod that is not known are none.
    pub fn holds(&self, client: &Client<'_>) -> bool {
        let namespace = self.namespace.as_deref();
        if namespace.is_some_and(|expected| expected != client.namespace) {
            return false;
        }
        let found = |(label, value): (&String, &String)| {
            let labels = client.labels.get(client.uid);
            labels.and_then(|labels| labels.get(label)) == Some(value)
        };
        self.labels.iter().all(found)
    }
}

impl MethodMatch {
    /// Whether the condition holds for a method.
    pub fn holds(&self, method: &Method) -> bool {
        match self {
            Self::Exact(expected) => expected == method,
            Self::Text(text) => text.holds(method.as_str()),
        }
    }
}

impl StringMatch {
    /// Whether the condition holds for a text.
    pub fn holds(&self, text: &str) -> bool {
        match self {
            Self::Exact(expected) => text == &**expected,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Regex(regex) => regex.is_match(text),
            Self::Present => true,
        }
    }

    /// Whether it holds for a host, without regard to its port and letter case. Expressions and
    /// beginnings may speak of the port too; expressions see the host as it was sent.
    fn holds_for_host(&self, authority: &str) -> bool {
        let (whole, host) = (without_user(authority), strip_port(authority));
        match self {
            Self::Exact(expected) => host.eq_ignore_ascii_case(strip_port(expected)),
            Self::Prefix(prefix) => whole
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
            Self::Regex(regex) => regex.is_match(host) || regex.is_match(whole),
            Self::Present => !host.is_empty(),
        }
    }
}

/// The table of the virtual host that `authority` names for clients in `namespace`. It counts
/// before the listener's own. Allocates nothing.
pub fn virtual_host<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    authority: &str,
) -> Option<&'a Arc<RouteTable>> {
    let hosts = snapshot.virtual_hosts.get(namespace)?;
    let host = strip_port(authority);
    if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return hosts.get(host);
    }
    scratch::with(|lower| {
        lower.extend_from_slice(host.as_bytes());
        lower.make_ascii_lowercase();
        std::str::from_utf8(lower)
            .ok()
            .and_then(|host| hosts.get(host))
    })
}

/// The destination of one request. `draw` is a uniform random word; `None` only when no
/// destination has a share.
pub fn choose(destinations: &[WeightedDestination], draw: u32) -> Option<&WeightedDestination> {
    if let [only] = destinations {
        return (only.weight > 0).then_some(only);
    }
    let total: u64 = destinations.iter().map(|one| u64::from(one.weight)).sum();
    // The draw scaled to 0..total (Lemire 2019, doi:10.1145/3230636, without the rejection step).
    let mut left = (u64::from(draw) * total) >> 32;
    destinations.iter().find(|one| {
        let weight = u64::from(one.weight);
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    })
}
