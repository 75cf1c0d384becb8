//! Routes as plain data. `route.rs` finds in them, `compile/` makes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use regex::Regex;

use super::{ClusterId, ObjectId, Policies};

/// One condition set and what follows from it. A source rule with several alternative matches
/// becomes several of these, which share their action.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The object that the rule stands in; `None` for the implicit rule.
    pub object: Option<Arc<ObjectId>>,
    /// Field path of the rule in its object, e.g. `spec.rules[0]`.
    pub field: Arc<str>,
    /// All of its conditions must hold.
    pub conditions: Match,
    /// What is done.
    pub action: Arc<Action>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// What else is done; `None` for most rules.
    pub policies: Option<Arc<Policies>>,
}

/// Conditions on one request; all must hold, an empty one always does.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Condition on the path, without the query.
    pub path: Option<PathMatch>,
    /// Condition on the method.
    pub method: Option<MethodMatch>,
    /// Conditions on headers; a header that occurs several times is joined with `,` first.
    pub headers: Vec<HeaderMatch>,
    /// Conditions on query parameters; the first occurrence counts.
    pub query: Vec<QueryMatch>,
    /// Condition on the authority, port stripped, lower case.
    pub authority: Option<StringMatch>,
    /// Conditions on headers, none of which may hold.
    pub without_headers: Vec<HeaderMatch>,
    /// Condition on the client; most rules have none.
    pub source: Option<Box<SourceMatch>>,
    /// What cannot be said by conditions that must all hold; most rules have none.
    pub expression: Option<Box<Expression>>,
}

/// Conditions joined by and, or and not. Of bounded depth.
#[derive(Clone, Debug)]
pub enum Expression {
    /// Every one holds.
    All(Vec<Expression>),
    /// One of them holds.
    Any(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// All conditions of a match hold.
    Match(Match),
}

/// A condition on the client pod.
#[derive(Clone, Debug, Default)]
pub struct SourceMatch {
    /// Its namespace.
    pub namespace: Option<Arc<str>>,
    /// Labels that it must carry.
    pub labels: BTreeMap<String, String>,
}

/// A condition on a method.
#[derive(Clone, Debug)]
pub enum MethodMatch {
    /// The one.
    Exact(Method),
    /// By its text (Istio).
    Text(Box<StringMatch>),
}

/// A condition on a path.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// By whole elements: `/foo` matches `/foo` and `/foo/x`, not `/foobar`. No trailing `/`.
    ElementPrefix(Arc<str>),
    /// As plain text (Istio).
    StringPrefix(Arc<str>),
    /// The whole path, whatever the case of ASCII letters (Istio).
    ExactAnyCase(Arc<str>),
    /// As plain text, whatever the case of ASCII letters (Istio).
    StringPrefixAnyCase(Arc<str>),
    /// A regular expression that matches the whole path.
    Regex(Regex),
}

/// A condition on a text.
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Begins with.
    Prefix(Arc<str>),
    /// A regular expression that matches all of it.
    Regex(Regex),
    /// There at all, whatever its value.
    Present,
}

/// A condition on a header.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Name, lower case.
    pub name: HeaderName,
    /// Condition on the value.
    pub value: StringMatch,
}

/// A condition on a query parameter.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// Name, compared exactly.
    pub name: Arc<str>,
    /// Condition on the value, after percent-decoding.
    pub value: StringMatch,
}

/// What a rule does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sends it to one of the destinations, by weight.
    Forward {
        /// Applied whatever the destination.
        filters: Filters,
        /// At least one.
        destinations: Vec<WeightedDestination>,
    },
    /// Answers with a redirect.
    Redirect {
        /// Response header edits apply to redirects too.
        filters: Filters,
        /// Where to.
        redirect: Redirect,
    },
    /// Answers with what the rule says.
    Direct {
        /// Response header edits.
        filters: Filters,
        /// The status.
        status: StatusCode,
        /// The body.
        body: Bytes,
    },
    /// Answers with a status of its own.
    Respond {
        /// The status.
        status: StatusCode,
        /// Value of `x-proxy-agent-reason`.
        reason: &'static str,
    },
}

/// A destination and its share.
#[derive(Clone, Debug)]
pub struct WeightedDestination {
    /// Share among the destinations of the rule; 0 = none.
    pub weight: u32,
    /// Where to.
    pub destination: Destination,
    /// Applied after the rule's own, for this destination alone.
    pub filters: Filters,
    /// What else is done for this destination alone: mirrors and CORS.
    pub policies: Option<Arc<Policies>>,
}

impl WeightedDestination {
    /// A destination with nothing of its own.
    pub fn plain(weight: u32, destination: Destination) -> Self {
        Self {
            weight,
            destination,
            filters: Filters::default(),
            policies: None,
        }
    }
}

/// Where a share of a rule's requests goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To a cluster.
    Cluster(ClusterId),
    /// Elsewhere: answers with a redirect.
    Redirect(Arc<Redirect>),
    /// Nowhere: the reference is invalid; answers 500.
    Invalid,
}

/// Changes to a request on its way up and to its response on its way down.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// On the request.
    pub request_headers: HeaderEdits,
    /// On the response.
    pub response_headers: HeaderEdits,
    /// New authority of the request.
    pub rewrite_authority: Option<HeaderValue>,
    /// New path of the request.
    pub rewrite_path: Option<PathRewrite>,
}

/// Header changes, in the order set, add, remove.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    /// Replaces every value.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Adds a value.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removes every value.
    pub remove: Vec<HeaderName>,
}

/// How a path is rewritten; the query stays.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// The whole path.
    Full(Arc<str>),
    /// The prefix that the rule matched, by whole elements.
    Prefix(Arc<str>),
    /// The prefix that the rule matched, as plain text (Istio).
    StringPrefix(Arc<str>),
    /// Every occurrence of an expression.
    Regex {
        /// What is replaced.
        pattern: Regex,
        /// What with; `${1}` is the first group.
        replacement: Arc<str>,
    },
}

/// The port that a redirect leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RedirectPort {
    /// The one that the client connected to; with a scheme, that scheme's.
    Unsaid,
    /// The one that the client connected to, whatever the scheme.
    Asked,
    /// As above; where that is plain HTTP's own, the scheme's own.
    AskedUnlessDefault,
    /// This one.
    Number(u16),
}

/// A redirect's parts; what is absent is taken from the request.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// Host name.
    pub hostname: Option<Arc<str>>,
    /// Port; a scheme's well-known port is left out of `Location`.
    pub port: RedirectPort,
    /// Path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// Limits on the time until the response's head; `None` = no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Timeouts {
    /// From the request's head received to the response's head, all tries included.
    pub request: Option<Duration>,
    /// For one try.
    pub backend_request: Option<Duration>,
}
