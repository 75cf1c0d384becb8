//! Rules on their way to a Service: every dialect yields these, and the tables are made of them.

use std::cmp::Reverse;
use std::sync::Arc;

use super::annotations::OpaquePorts;
use super::by_key::Name;
use super::defaults::Says;
use super::problems::Problems;
use super::service::{Declared, Port};
use crate::model::{
    Action, ClusterId, Destination, Filters, Match, ObjectId, PathMatch, Rule, StringMatch,
    WeightedDestination,
};
use crate::objects::Located;

/// Reason of answers to requests that a rule matched which could not be compiled.
pub(super) const INVALID_ROUTE: &str = "invalid_route";
/// Reason of answers by a rule that names no destination with a share.
pub(super) const NO_DESTINATION: &str = "no_destination";

/// Who wrote the rules; the first that has any for a Service and a client decides.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Dialect {
    /// Gateway API GRPCRoute.
    GrpcRoute,
    /// Gateway API HTTPRoute.
    HttpRoute,
    /// Linkerd's HTTPRoute.
    PolicyHttpRoute,
    /// Gateway API TLSRoute.
    TlsRoute,
    /// Gateway API TCPRoute.
    TcpRoute,
    /// Istio VirtualService.
    VirtualService,
    /// Linkerd ServiceProfile.
    ServiceProfile,
    /// SMI TrafficSplit.
    TrafficSplit,
}

/// The rules of one object for one Service: for requests, or for connections.
#[derive(Clone, Debug)]
pub(super) struct Attachment<R = PortRule> {
    /// The object.
    pub located: Arc<Located>,
    /// Its dialect.
    pub dialect: Dialect,
    /// The Service.
    pub service: Name,
    /// The one port that it names, if it does.
    pub port: Option<u16>,
    /// The one namespace whose clients see it; `None` for all.
    pub clients: Option<Arc<str>>,
    /// How exactly it names the Service: a wildcard does less than a name.
    pub exactness: usize,
    /// Its rules in their own order.
    pub rules: Arc<[R]>,
    /// What a ServiceProfile says beside its rules.
    pub profile: Profile,
}

/// What a ServiceProfile says of a Service beside its rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    /// Whether it says where requests go.
    pub overrides: bool,
    /// Ports that are opaque for everybody.
    pub opaque: OpaquePorts,
}

impl Attachment {
    /// Whether it is for `port` of its Service.
    pub(super) fn is_for(&self, port: &Port) -> bool {
        port.tcp
            && !self.rules.is_empty()
            && match self.port {
                Some(number) => number == port.number,
                None => !matches!(port.declared, Declared::Opaque | Declared::Tls),
            }
    }
}

impl Dialect {
    /// Whether all routes of the kind count, as one.
    pub(super) const fn is_merged(self) -> bool {
        self.is_gateway_api() || matches!(self, Self::PolicyHttpRoute)
    }

    /// Whether a Service's own annotations fill in what its rules do not say.
    pub(super) const fn takes_defaults(self) -> bool {
        !matches!(self, Self::VirtualService | Self::ServiceProfile)
    }

    /// Whether it is one of the Gateway API's, whose routes are of producers or of consumers and
    /// are merged with others of their kind.
    pub(super) const fn is_gateway_api(self) -> bool {
        matches!(
            self,
            Self::GrpcRoute | Self::HttpRoute | Self::TlsRoute | Self::TcpRoute
        )
    }
}

/// A rule, and the one port that it is for if it is not for all.
#[derive(Clone, Debug)]
pub(super) struct PortRule {
    pub rule: Rule,
    pub port: Option<u16>,
    /// Of a GRPCRoute's rule.
    pub named: Named,
    /// What nothing is filled in for.
    pub says: Says,
}

/// How much of a gRPC call a rule names, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Named {
    /// Of the service's name.
    pub service: usize,
    /// Of the method's.
    pub method: usize,
}

/// Sorts the rules of GRPCRoutes as GRPCRouteRule of the v1 reference says. Ties keep their order.
pub(super) fn sort_calls(rules: &mut [PortRule]) {
    rules.sort_by_key(|one| Reverse((one.named, one.rule.conditions.headers.len())));
}

/// Sorts rules as Gateway API says: HTTPRouteMatch of its v1 reference. Ties keep their order, so
/// routes come in by age and name, rules as they stand. Expressions, whose place the reference
/// leaves open, come between exact paths and prefixes: behind `/` they would never be reached. A host
/// that is named comes before all of it, the more exactly the earlier.
pub(super) fn sort_by_precedence(rules: &mut [PortRule]) {
    rules.sort_by_key(|one| Reverse(rank(&one.rule.conditions)));
}

fn rank(conditions: &Match) -> impl Ord + std::fmt::Debug + use<> {
    let host = match &conditions.authority {
        None => (0, 0),
        // Of two that end alike the longer is the more exact.
        Some(StringMatch::Regex(below)) => (1, below.as_str().len()),
        Some(_) => (2, 0),
    };
    let (kind, length) = match &conditions.path {
        Some(PathMatch::Exact(path) | PathMatch::ExactAnyCase(path)) => (3, path.len()),
        Some(PathMatch::Regex(_)) => (2, 0),
        Some(
            PathMatch::ElementPrefix(path)
            | PathMatch::StringPrefix(path)
            | PathMatch::StringPrefixAnyCase(path),
        ) => (1, path.len()),
        None => (1, 0),
    };
    (
        host,
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

/// The destination that a reference at `field` leads to. One that leads nowhere keeps its share of
/// requests, answers 500 for it, and is named.
pub(super) fn destination(
    resolved: Result<ClusterId, (&'static str, String)>,
    field: &str,
    located: &Located,
    problems: &mut Problems,
) -> Destination {
    let loss = "its share of requests is answered 500";
    leads_to(resolved, loss, field, located, problems)
}

/// The same where `loss` tells what becomes of the share.
pub(super) fn leads_to(
    resolved: Result<ClusterId, (&'static str, String)>,
    loss: &str,
    field: &str,
    located: &Located,
    problems: &mut Problems,
) -> Destination {
    resolved.map_or_else(
        |(below, reason)| {
            let reason = format!("{reason}; {loss}");
            problems.once(located, format!("{field}.{below}"), reason);
            Destination::Invalid
        },
        Destination::Cluster,
    )
}

/// Everything to one cluster.
pub(super) fn forward_to(cluster: ClusterId) -> Action {
    Action::Forward {
        filters: Filters::default(),
        destinations: vec![WeightedDestination::plain(1, Destination::Cluster(cluster))],
    }
}

/// The object's id, to be shared by its rules.
pub(super) fn shared_id(located: &Located) -> Arc<ObjectId> {
    Arc::new(located.id.clone())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{HeaderMatch, MethodMatch, RouteTable, StringMatch, Timeouts};
    use crate::route::RequestView;

    fn conditions() -> impl Strategy<Value = Match> {
        let paths = prop_oneof!["(/[ab]){0,3}".prop_map(Some), Just(None)];
        let path = (paths, any::<bool>()).prop_map(|(path, exact)| match path {
            Some(path) if exact => Some(PathMatch::Exact(path.into())),
            path => path.map(|path| PathMatch::ElementPrefix(path.into())),
        });
        let header = prop::collection::vec(0_u8..3, 0..3).prop_map(|mut names| {
            names.sort_unstable();
            names.dedup();
            let one = |name: u8| HeaderMatch {
                name: HeaderName::from_bytes(&[b'a' + name]).expect("a name"),
                value: StringMatch::Present,
            };
            names.into_iter().map(one).collect()
        });
        (path, any::<bool>(), header).prop_map(|(path, method, headers)| Match {
            path,
            method: method.then_some(MethodMatch::Exact(Method::GET)),
            headers,
            ..Match::default()
        })
    }

    fn rule(conditions: Match) -> Rule {
        Rule {
            object: None,
            field: "".into(),
            conditions,
            action: Arc::new(respond(INVALID_ROUTE)),
            timeouts: Timeouts::default(),
            policies: None,
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_most_specific_of_all_that_match(
            all in prop::collection::vec(conditions(), 0..12),
            path in "(/[ab]){1,4}",
            sent in prop::collection::vec(0_u8..3, 0..4),
        ) {
            let port_rule = |conditions| PortRule {
                rule: rule(conditions),
                port: None,
                named: Named::default(),
                says: Says::default(),
            };
            let mut rules: Vec<_> = all.into_iter().map(port_rule).collect();
            sort_by_precedence(&mut rules);
            let rules = rules.into_iter().map(|one| one.rule).collect();
            let table = RouteTable::new("test".into(), rules);
            let mut headers = HeaderMap::new();
            for name in sent {
                let name = HeaderName::from_bytes(&[b'a' + name]).expect("a name");
                headers.append(name, HeaderValue::from_static("1"));
            }
            let request = RequestView {
                method: &Method::GET,
                path: &path,
                query: None,
                authority: "",
                headers: &headers,
                client: None,
            };
            let matching = table.rules.iter().filter(|rule| rule.conditions.holds(&request));
            let best = matching.map(|rule| rank(&rule.conditions)).max();
            prop_assert_eq!(table.find(&request).map(|rule| rank(&rule.conditions)), best);
        }
    }
}
