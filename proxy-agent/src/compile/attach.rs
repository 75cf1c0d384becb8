//! Rules on their way to a Service: every dialect yields these, and the tables are made of them.

use std::cmp::Reverse;
use std::sync::Arc;

use super::by_key::Key;
use super::service::{Declared, Port, Ports};
use crate::model::{Action, Match, ObjectId, PathMatch, Rule};
use crate::objects::Located;

/// Reason of answers to requests that a rule matched which could not be compiled.
pub(super) const INVALID_ROUTE: &str = "invalid_route";
/// Reason of answers by a rule that names no destination with a share.
pub(super) const NO_DESTINATION: &str = "no_destination";

/// Who wrote the rules; the first that has any for a Service and a client decides.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Dialect {
    /// Gateway API HTTPRoute.
    GatewayApi,
    /// Istio VirtualService.
    VirtualService,
}

/// The rules of one object for one Service.
#[derive(Clone, Debug)]
pub(super) struct Attachment<'a> {
    /// The object.
    pub located: &'a Located,
    /// Its dialect.
    pub dialect: Dialect,
    /// The Service.
    pub service: Key<'a>,
    /// The one port that it names, if it does.
    pub port: Option<u16>,
    /// The one namespace whose clients see it; `None` for all.
    pub clients: Option<Arc<str>>,
    /// Its rules in their own order.
    pub rules: Arc<[PortRule]>,
}

impl Attachment<'_> {
    /// Whether it is for `port` of its Service.
    pub(super) fn is_for(&self, port: &Port<'_>) -> bool {
        port.is_tcp()
            && match self.port {
                Some(number) => number == port.number,
                None => port.declared != Declared::Opaque,
            }
    }
}

/// A rule, and the one port that it is for if it is not for all.
#[derive(Clone, Debug)]
pub(super) struct PortRule {
    pub rule: Rule,
    pub port: Option<u16>,
}

/// Sorts rules as Gateway API says: HTTPRouteMatch of its v1 reference. Ties keep their order, so
/// routes come in by age and name, rules as they stand. Expressions, whose place the reference
/// leaves open, come between exact paths and prefixes: behind `/` they would never be reached.
pub(super) fn sort_by_precedence(rules: &mut [Rule]) {
    rules.sort_by_key(|rule| Reverse(rank(&rule.conditions)));
}

fn rank(conditions: &Match) -> (u8, usize, bool, usize, usize) {
    let (kind, length) = match &conditions.path {
        Some(PathMatch::Exact(path)) => (3, path.len()),
        Some(PathMatch::Regex(_)) => (2, 0),
        Some(PathMatch::ElementPrefix(path) | PathMatch::StringPrefix(path)) => (1, path.len()),
        None => (1, 0),
    };
    (
        kind,
        length,
        conditions.method.is_some(),
        conditions.headers.len(),
        conditions.query.len(),
    )
}

/// The action of a rule that is matched but cannot be carried out.
pub(super) fn respond(reason: &'static str) -> Action {
    Action::Respond {
        status: http::StatusCode::INTERNAL_SERVER_ERROR,
        reason,
    }
}

/// The object's id, to be shared by its rules.
pub(super) fn shared_id(located: &Located) -> Arc<ObjectId> {
    Arc::new(located.id.clone())
}

/// A TCP port of a Service by number.
pub(super) fn tcp_port<'p, 'a>(
    ports: &'p Ports<'a>,
    service: Key<'_>,
    number: u16,
) -> Option<&'p Port<'a>> {
    let ports = ports.get(service)?;
    ports
        .iter()
        .find(|port| port.number == number && port.is_tcp())
}

/// What to say of a Service that lacks a port.
pub(super) fn no_such_port(
    (namespace, service): Key<'_>,
    number: i64,
    ports: &Ports<'_>,
) -> String {
    let ports = ports.get((namespace, service)).into_iter().flatten();
    let numbers: Vec<_> = ports
        .filter(|port| port.is_tcp())
        .map(|port| port.number.to_string())
        .collect();
    format!(
        "Service {namespace}/{service} has no TCP port {number}; it has: {}",
        numbers.join(", ")
    )
}
