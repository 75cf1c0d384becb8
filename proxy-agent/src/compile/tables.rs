//! Attachments and ports to listeners: which dialect decides, and in which order rules are tried.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::attach::{Attachment, Dialect, PortRule, forward_to, sort_by_precedence, sort_calls};
use super::by_key::Name;
use super::defaults::{Says, fill_in};
use super::direct;
use super::precedence::{Decision, decide, shadowed, shadower};
use super::problems::Problems;
use super::service::{Declared, Port};
use super::smi;
use super::streams::{StreamAttachment, Streams};
use crate::model::{
    Listener, ListenerProtocol, ListenerVerdict, Match, PassReason, RouteTable, Rule, Timeouts,
};
use crate::objects::Located;

/// The listeners of one port: one, or two when some of its addresses pass.
pub(super) fn listeners(
    port: &Port,
    attached: &[&Attachment],
    streams: &[&StreamAttachment],
    named_by_linkerd: NamedByLinkerd,
) -> Vec<Listener> {
    let attached: Vec<_> = attached
        .iter()
        .copied()
        .filter(|one| one.is_for(port))
        .collect();
    let streams = Streams::of(port, &attached, streams);
    let http = !attached.is_empty()
        || matches!(port.declared, Declared::Http(_))
        || named_by_linkerd == NamedByLinkerd::Yes;
    let http = http && !streams.take_all();
    let protocol = if http {
        ListenerProtocol::Http
    } else {
        ListenerProtocol::Tcp
    };
    let routed = !attached.is_empty() || streams.need_the_agent() || port.clients.is_some();
    let routed = routed || !port.own_policies.is_empty();
    let verdict = direct::verdict(port, protocol, routed);
    let routes = table(&attached, None, port).unwrap_or_else(|| implicit(port));
    let clients: BTreeSet<&Arc<str>> = attached
        .iter()
        .filter_map(|one| one.clients.as_ref())
        .chain(&streams.clients)
        .collect();
    let consumer_routes = clients.into_iter().filter_map(|namespace| {
        let own = table(&attached, Some(namespace), port);
        // Whose connections go by rules of their own does not go by the producers' for requests.
        let own = own.or_else(|| {
            let other = streams.consumers.contains_key(namespace);
            other.then(|| implicit(port))
        });
        Some((Arc::clone(namespace), Arc::new(own?)))
    });
    let listener = Listener {
        namespace: Arc::clone(&port.service.namespace),
        service: Arc::clone(&port.service.name),
        port: port.number,
        port_name: Arc::clone(&port.name),
        addresses: port.addresses.clone(),
        clients: port.clients.clone(),
        verdict,
        cluster: port.id,
        routes: Arc::new(routes),
        consumer_routes: consumer_routes.collect(),
        shadowed: shadowed(&attached),
        streams: streams.all,
        consumer_streams: streams.consumers,
    };
    let passed = (!port.passed_addresses.is_empty() && port.pass.is_none()).then(|| Listener {
        addresses: port.passed_addresses.clone(),
        verdict: ListenerVerdict::Pass(PassReason::IpModeProxy),
        ..listener.clone()
    });
    [Some(listener), passed].into_iter().flatten().collect()
}

/// The ports of a Service, with those opaque that a ServiceProfile calls so.
pub(super) fn opaque<'p>(ports: &'p [Port], attached: &[&Attachment]) -> Cow<'p, [Port]> {
    let says = |port: &Port| {
        let mut profiles = attached.iter().map(|one| &one.profile.opaque);
        profiles.any(|opaque| opaque.covers(port.number, &port.name))
    };
    if !ports.iter().any(says) {
        return Cow::Borrowed(ports);
    }
    let mut ports = ports.to_vec();
    for port in ports.iter_mut().filter(|port| says(port)) {
        port.declared = Declared::Opaque;
    }
    Cow::Owned(ports)
}

/// Whether a `linkerd.io/v1` object names the port's Service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NamedByLinkerd {
    Yes,
    No,
}

/// The table for clients of `clients`, or for all others; `None` if nothing is for them alone.
fn table(attached: &[&Attachment], clients: Option<&Arc<str>>, port: &Port) -> Option<RouteTable> {
    let decision = decide(attached, clients)?;
    if clients.is_some() && !decision.own {
        return None;
    }
    let defaults = port.defaults.as_deref();
    let defaults = defaults.filter(|_| decision.dialect.takes_defaults());
    let rules = rules(&decision, port).into_iter().map(|mut one| {
        if let Some(defaults) = defaults {
            fill_in(&mut one.rule, one.says, defaults);
        }
        one.rule
    });
    let origin = origin(decision.routes.iter().chain(&decision.split));
    Some(RouteTable::new(origin, rules.collect()))
}

/// The rules of a decision, in the order in which they are tried.
fn rules(decision: &Decision<'_>, port: &Port) -> Vec<PortRule> {
    let mut rules: Vec<PortRule> = rules_of(&decision.routes, port).cloned().collect();
    match decision.dialect {
        Dialect::GrpcRoute => sort_calls(&mut rules),
        Dialect::HttpRoute | Dialect::PolicyHttpRoute => sort_by_precedence(&mut rules),
        // Routes of connections have no rules for requests.
        Dialect::TlsRoute | Dialect::TcpRoute => {}
        Dialect::VirtualService | Dialect::ServiceProfile | Dialect::TrafficSplit => {}
    }
    match decision.split {
        None => rules,
        Some(split) => {
            let split = [split];
            let parts: Vec<_> = rules_of(&split, port).collect();
            let rules = rules.iter();
            rules.flat_map(|one| smi::joined(one, &parts)).collect()
        }
    }
}

fn rules_of<'s>(attached: &'s [&Attachment], port: &Port) -> impl Iterator<Item = &'s PortRule> {
    let rules = attached.iter().flat_map(|one| one.rules.iter());
    rules.filter(|one| one.port.is_none_or(|number| number == port.number))
}

fn origin<'s>(attached: impl IntoIterator<Item = &'s &'s Attachment>) -> Arc<str> {
    let names = attached.into_iter().map(|one| one.located.id.to_string());
    names.collect::<Vec<_>>().join(", ").into()
}

/// The table of a port without routes: everything to its own endpoints.
fn implicit(port: &Port) -> RouteTable {
    let mut rule = Rule {
        object: None,
        field: "".into(),
        conditions: Match::default(),
        action: Arc::new(forward_to(port.id)),
        timeouts: Timeouts::default(),
        policies: None,
    };
    if let Some(defaults) = &port.defaults {
        fill_in(&mut rule, Says::default(), defaults);
    }
    RouteTable::new("implicit".into(), vec![rule])
}

/// Names the routes of a Service that another one shadows, and those that no port takes up.
/// `attached` are in the order of precedence.
pub(super) fn name_what_is_without_effect(
    service: &Name,
    attached: &[&Attachment],
    ports: &[Port],
    problems: &mut Problems,
) {
    // A ServiceProfile without rules has its effect on ports.
    for one in attached.iter().filter(|one| !one.rules.is_empty()) {
        if let Some(reason) = without_effect(one, attached, ports) {
            let (namespace, name) = service.key();
            let reason = format!("of no effect on Service {namespace}/{name}: {reason}");
            problems.warning(&one.located, "", reason);
        }
    }
}

/// Names the annotations of a Service that its routes leave without effect.
pub(super) fn name_idle_annotations(
    at: &Located,
    attached: &[&Attachment],
    ports: &[Port],
    problems: &mut Problems,
) {
    let annotated = ports.iter().find_map(|port| port.defaults.as_deref());
    let Some(annotated) = annotated else {
        return;
    };
    let says = [
        ("retry.linkerd.io", annotated.retry.is_some()),
        ("timeout.linkerd.io", annotated.limits.is_some()),
    ];
    let decision = decide(attached, None).filter(|one| !one.dialect.takes_defaults());
    let reason = match decision {
        Some(decision) => format!("{} decides", decision.routes[0].located.id),
        None if ports.iter().all(|port| !is_http(port, attached)) => {
            "no port of the Service is HTTP".to_owned()
        }
        None => return,
    };
    for (name, _) in says.into_iter().filter(|(_, there)| *there) {
        let field = format!("metadata.annotations[{name}/…]");
        problems.warning(at, field, format!("of no effect: {reason}"));
    }
}

fn is_http(port: &Port, attached: &[&Attachment]) -> bool {
    matches!(port.declared, Declared::Http(_)) || attached.iter().any(|one| one.is_for(port))
}

/// Why an attachment does nothing, if so.
fn without_effect(one: &Attachment, attached: &[&Attachment], ports: &[Port]) -> Option<String> {
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
    // On a port where it decides, or shares in the decision, it has an effect.
    let mut winners = taken.iter().map(|port| {
        let here: Vec<_> = attached
            .iter()
            .copied()
            .filter(|one| one.is_for(port))
            .collect();
        shadower(one, &here)
    });
    let first = winners.next().flatten()?;
    winners
        .all(|winner| winner.is_some())
        .then(|| format!("{first} decides"))
}
