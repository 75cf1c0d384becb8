//! Attachments and ports to listeners: which dialect decides, and in which order rules are tried.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attach::{Attachment, Dialect, PortRule, sort_by_precedence, sort_calls};
use super::by_key::Name;
use super::direct;
use super::problems::Problems;
use super::service::{Declared, Port};
use crate::model::{
    Action, ClusterId, Destination, Filters, Listener, ListenerProtocol, ListenerVerdict, Match,
    PassReason, RouteTable, Rule, Timeouts, WeightedDestination,
};

/// The listeners of one port: one, or two when some of its addresses pass.
pub(super) fn listeners(
    port: &Port,
    attached: &[&Attachment],
    named_by_linkerd: NamedByLinkerd,
) -> Vec<Listener> {
    let attached: Vec<_> = attached
        .iter()
        .copied()
        .filter(|one| one.is_for(port))
        .collect();
    let http = !attached.is_empty()
        || matches!(port.declared, Declared::Http(_))
        || named_by_linkerd == NamedByLinkerd::Yes;
    let protocol = if http {
        ListenerProtocol::Http
    } else {
        ListenerProtocol::Tcp
    };
    let verdict = direct::verdict(port, protocol, !attached.is_empty());
    let routes = table(&attached, None, port).unwrap_or_else(|| implicit(port.id));
    let clients: BTreeSet<&Arc<str>> = attached
        .iter()
        .filter_map(|one| one.clients.as_ref())
        .collect();
    let consumer_routes = clients.into_iter().filter_map(|namespace| {
        Some((
            Arc::clone(namespace),
            Arc::new(table(&attached, Some(namespace), port)?),
        ))
    });
    let listener = Listener {
        namespace: Arc::clone(&port.service.namespace),
        service: Arc::clone(&port.service.name),
        port: port.number,
        port_name: Arc::clone(&port.name),
        addresses: port.addresses.clone(),
        verdict,
        cluster: port.id,
        routes: Arc::new(routes),
        consumer_routes: consumer_routes.collect(),
    };
    let passed = (!port.passed_addresses.is_empty() && port.pass.is_none()).then(|| Listener {
        addresses: port.passed_addresses.clone(),
        verdict: ListenerVerdict::Pass(PassReason::IpModeProxy),
        ..listener.clone()
    });
    [Some(listener), passed].into_iter().flatten().collect()
}

/// Whether a `linkerd.io/v1` object names the port's Service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NamedByLinkerd {
    Yes,
    No,
}

/// The table for clients of `clients`, or for all others; `None` if nothing is for them alone.
fn table(attached: &[&Attachment], clients: Option<&Arc<str>>, port: &Port) -> Option<RouteTable> {
    let by = |dialect: Dialect| -> Vec<&Attachment> {
        let of_dialect = attached
            .iter()
            .copied()
            .filter(|one| one.dialect == dialect);
        of_dialect
            .filter(|one| one.clients.as_ref() == clients)
            .collect()
    };
    for dialect in [Dialect::GrpcRoute, Dialect::HttpRoute] {
        let routes = by(dialect);
        if !routes.is_empty() {
            return Some(RouteTable {
                origin: origin(&routes),
                rules: sorted(&routes, dialect, port),
            });
        }
    }
    let producer = |one: &&Attachment| one.dialect.is_gateway_api() && one.clients.is_none();
    if clients.is_some() && attached.iter().any(producer) {
        return None;
    }
    let first = by(Dialect::VirtualService)
        .into_iter()
        .take(1)
        .collect::<Vec<_>>();
    (!first.is_empty()).then(|| RouteTable {
        origin: origin(&first),
        rules: rules_of(&first, port).map(|one| one.rule.clone()).collect(),
    })
}

/// The rules of Gateway API's routes of one kind, in the order in which they are tried.
fn sorted(attached: &[&Attachment], dialect: Dialect, port: &Port) -> Vec<Rule> {
    let mut rules: Vec<&PortRule> = rules_of(attached, port).collect();
    if dialect == Dialect::GrpcRoute {
        sort_calls(&mut rules);
    }
    let mut rules: Vec<Rule> = rules.into_iter().map(|one| one.rule.clone()).collect();
    if dialect == Dialect::HttpRoute {
        sort_by_precedence(&mut rules);
    }
    rules
}

fn rules_of<'s>(attached: &'s [&Attachment], port: &Port) -> impl Iterator<Item = &'s PortRule> {
    let rules = attached.iter().flat_map(|one| one.rules.iter());
    rules.filter(|one| one.port.is_none_or(|number| number == port.number))
}

fn origin(attached: &[&Attachment]) -> Arc<str> {
    let names: Vec<_> = attached
        .iter()
        .map(|one| one.located.id.to_string())
        .collect();
    names.join(", ").into()
}

/// The table of a port without routes: everything to its own endpoints.
pub(super) fn implicit(cluster: ClusterId) -> RouteTable {
    RouteTable {
        origin: "implicit".into(),
        rules: vec![Rule {
            object: None,
            field: "".into(),
            conditions: Match::default(),
            action: Arc::new(Action::Forward {
                filters: Filters::default(),
                destinations: vec![WeightedDestination {
                    weight: 1,
                    destination: Destination::Cluster(cluster),
                    filters: Filters::default(),
                }],
            }),
            timeouts: Timeouts::default(),
            policies: None,
        }],
    }
}

/// Names the routes of a Service that another one shadows, and those that no port takes up.
/// `attached` are in the order of precedence.
pub(super) fn name_what_is_without_effect(
    service: &Name,
    attached: &[&Attachment],
    ports: &[Port],
    problems: &mut Problems,
) {
    for (index, one) in attached.iter().enumerate() {
        if let Some(reason) = without_effect(one, &attached[..index], ports) {
            let (namespace, name) = service.key();
            let reason = format!("of no effect on Service {namespace}/{name}: {reason}");
            problems.warning(&one.located, "", reason);
        }
    }
}

/// Why an attachment does nothing, if so. `before` come first in the order of precedence.
fn without_effect(one: &Attachment, before: &[&Attachment], ports: &[Port]) -> Option<String> {
    let taken: Vec<_> = ports.iter().filter(|port| one.is_for(port)).collect();
    if taken.is_empty() {
        return Some("it has no port that can be HTTP; name one by `port`".to_owned());
    }
    let mut reasons: Vec<_> = taken
        .iter()
        .map(|port| direct::without_routes(port))
        .collect();
    if reasons.iter().all(Option::is_some) {
        return reasons.swap_remove(0);
    }
    let winner = before.iter().find(|rival| {
        let same_port = rival.port.is_none() || rival.port == one.port;
        let same_clients = rival.clients == one.clients;
        let producer = rival.dialect.is_gateway_api() && rival.clients.is_none();
        // Routes of one of Gateway API's kinds are merged, and consumers' are not producers'.
        let wins = match one.dialect {
            Dialect::GrpcRoute => false,
            Dialect::HttpRoute => rival.dialect == Dialect::GrpcRoute && same_clients,
            Dialect::VirtualService => producer || same_clients,
        };
        same_port && wins
    })?;
    Some(format!("{} decides", winner.located.id))
}
