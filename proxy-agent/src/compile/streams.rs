//! Routes of connections on their way to a Service's port: which of them decide there, for whom.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::attach::{Attachment, Dialect, leads_to};
use super::direct;
use super::problems::Problems;
use super::service::{Declared, Port};
use crate::model::{
    ClusterId, Destination, PassReason, StreamRule, StreamScope, StreamTable, WeightedDestination,
};
use crate::objects::Located;

/// The rules of one object for one Service's connections.
pub(super) type StreamAttachment = Attachment<PortStream>;

/// A rule, and the one port that it is for if it is not for all of its layer.
#[derive(Clone, Debug)]
pub(super) struct PortStream {
    pub rule: StreamRule,
    pub port: Option<u16>,
}

impl PortStream {
    /// Whether it is for `port`: one by server name for ports that are TLS by name, one without
    /// for those that are neither that nor HTTP, unless it names the port itself.
    fn is_for(&self, port: &Port) -> bool {
        match (self.port, port.declared) {
            (_, Declared::Http(_)) => false,
            (Some(number), _) => number == port.number,
            (None, Declared::Tls) => self.rule.names.is_some(),
            (None, Declared::Opaque | Declared::Nothing) => self.rule.names.is_none(),
        }
    }
}

impl StreamAttachment {
    /// Whether it is for a port of its Service.
    pub(super) fn takes(&self, port: &Port) -> bool {
        let named = |number: u16| number == port.number;
        let kind = match self.dialect {
            Dialect::TlsRoute => matches!(port.declared, Declared::Tls | Declared::Nothing),
            Dialect::TcpRoute => !matches!(port.declared, Declared::Http(_)),
            Dialect::VirtualService => self.rules.iter().any(|one| one.is_for(port)),
            Dialect::GrpcRoute
            | Dialect::HttpRoute
            | Dialect::PolicyHttpRoute
            | Dialect::ServiceProfile
            | Dialect::TrafficSplit => false,
        };
        port.tcp && self.port.map_or(kind, named)
    }
}

/// What decides on a port's connections that are not HTTP.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// For clients without an entry of their own.
    pub all: Option<Arc<StreamTable>>,
    /// For clients of a namespace.
    pub consumers: HashMap<Arc<str>, Arc<StreamTable>>,
    /// Namespaces whose clients go by rules of their own, for connections or for requests.
    pub clients: BTreeSet<Arc<str>>,
}

impl Streams {
    /// Whether somebody's connections go by rules that only the agent can follow: the kernel shares
    /// connections out by weight, and knows nothing of clients and server names.
    pub(super) fn need_the_agent(&self) -> bool {
        let by_weight = |table: &Arc<StreamTable>| table.for_everybody().is_some();
        !self.all.as_ref().is_none_or(by_weight) || !self.clients.is_empty()
    }

    /// Of the routes that are for `port`: those of requests and those of connections, each in the
    /// order of precedence.
    pub(super) fn of(port: &Port, http: &[&Attachment], streams: &[&StreamAttachment]) -> Self {
        let streams: Vec<_> = streams.iter().filter(|one| one.takes(port)).collect();
        let of_http = http.iter().filter_map(|one| one.clients.clone());
        let of_streams = streams.iter().filter_map(|one| one.clients.clone());
        let clients: BTreeSet<Arc<str>> = of_http.chain(of_streams).collect();
        let table = |namespace: Option<&Arc<str>>| {
            let here = |one: &Option<Arc<str>>| one.as_ref() == namespace;
            let gateway = |one: &Attachment| one.dialect.is_gateway_api() && here(&one.clients);
            if http.iter().any(|one| gateway(one)) {
                return None;
            }
            let own: Vec<_> = streams.iter().filter(|one| here(&one.clients)).collect();
            let first = own.first()?.dialect;
            let producer = |dialect: Dialect, clients: &Option<Arc<str>>| {
                dialect.is_gateway_api() && clients.is_none()
            };
            let overruled = http.iter().any(|one| producer(one.dialect, &one.clients))
                || streams
                    .iter()
                    .any(|one| producer(one.dialect, &one.clients));
            if !first.is_gateway_api() && overruled {
                return None;
            }
            let deciding = own.into_iter().filter(|one| one.dialect == first);
            let deciding: Vec<_> = deciding.map(|one| **one).collect();
            Some(Arc::new(compiled(first, &deciding, port)))
        };
        // A consumer without rules of its own goes by the producers', as for requests.
        let decided = |namespace: &Arc<str>| {
            let own = table(Some(namespace));
            let http_of_own = http
                .iter()
                .any(|one| one.clients.as_ref() == Some(namespace));
            (own.is_some() || http_of_own).then(|| (Arc::clone(namespace), own))
        };
        let decided: Vec<_> = clients.iter().filter_map(decided).collect();
        let clients = decided.iter().map(|(namespace, _)| Arc::clone(namespace));
        Self {
            all: table(None),
            clients: clients.collect(),
            consumers: decided
                .into_iter()
                .filter_map(|(namespace, table)| Some((namespace, table?)))
                .collect(),
        }
    }

    /// Whether no client's connections are looked into for HTTP.
    pub(super) fn take_all(&self) -> bool {
        let every = |table: &Arc<StreamTable>| table.scope == StreamScope::Every;
        self.all.as_ref().is_some_and(every)
            && self.clients.len() == self.consumers.len()
            && self.consumers.values().all(every)
    }
}

/// The table of the objects of one dialect.
fn compiled(dialect: Dialect, attached: &[&StreamAttachment], port: &Port) -> StreamTable {
    // VirtualServices are not merged: the one that names the Service most exactly decides.
    let attached = if dialect.is_gateway_api() {
        attached
    } else {
        &attached[..1]
    };
    let rules = attached.iter().flat_map(|one| one.rules.iter());
    let here = rules.filter(|one| dialect.is_gateway_api() || one.is_for(port));
    let mut rules: Vec<_> = here.map(|one| one.rule.clone()).collect();
    if dialect == Dialect::TlsRoute {
        rules = by_exactness(rules);
    } else if !dialect.is_gateway_api() && rules.iter().all(|rule| rule.names.is_none()) {
        rules.push(whole(port.id));
    }
    let names = attached.iter().map(|one| one.located.id.to_string());
    StreamTable {
        origin: names.collect::<Vec<_>>().join(", ").into(),
        scope: if dialect.is_gateway_api() {
            StreamScope::Every
        } else {
            StreamScope::NotHttp
        },
        rules,
    }
}

/// The destination that a reference of a route of connections leads to. One that leads nowhere keeps
/// its share, resets it, and is named.
pub(super) fn destination(
    resolved: Result<ClusterId, (&'static str, String)>,
    field: &str,
    located: &Located,
    problems: &mut Problems,
) -> Destination {
    leads_to(
        resolved,
        "its share of connections is reset",
        field,
        located,
        problems,
    )
}

/// To the port's own endpoints: what no rule of a VirtualService's `tcp` matches.
fn whole(cluster: ClusterId) -> StreamRule {
    StreamRule {
        object: None,
        field: "".into(),
        names: None,
        source: None,
        destinations: [WeightedDestination::plain(1, Destination::Cluster(cluster))].into(),
    }
}

/// One rule for each name, exact ones first, then the longest: TLSRouteSpec of the v1 reference.
/// Ties keep their order.
fn by_exactness(rules: Vec<StreamRule>) -> Vec<StreamRule> {
    use crate::model::ServerName::{Any, Below, Exact};
    let single = |rule: StreamRule| {
        let names = rule.names.clone().unwrap_or_default();
        let names: Vec<_> = names.iter().cloned().collect();
        names.into_iter().map(move |name| StreamRule {
            names: Some([name].into()),
            ..rule.clone()
        })
    };
    let mut rules: Vec<_> = rules.into_iter().flat_map(single).collect();
    rules.sort_by_key(|rule| {
        let name = rule.names.as_deref().and_then(<[_]>::first);
        std::cmp::Reverse(match name {
            Some(Exact(name)) => (2, name.len()),
            Some(Below(suffix)) => (1, suffix.len()),
            Some(Any) | None => (0, 0),
        })
    });
    rules
}

/// Names the routes of connections that do nothing on a Service, and those of requests that they
/// take the place of. Both are in the order of precedence.
pub(super) fn name_what_is_without_effect(
    http: &[&Attachment],
    streams: &[&StreamAttachment],
    ports: &[Port],
    problems: &mut Problems,
) {
    for (index, one) in streams.iter().enumerate() {
        if let Some(reason) = without_effect(one, http, &streams[..index], ports) {
            let (namespace, name) = one.service.key();
            let reason = format!("of no effect on Service {namespace}/{name}: {reason}");
            problems.warning(&one.located, layer(one), reason);
        }
    }
    for one in http.iter().filter(|one| !one.dialect.is_gateway_api()) {
        let rival = streams.iter().find(|rival| {
            let wins = rival.dialect.is_gateway_api()
                && (rival.clients.is_none() || rival.clients == one.clients);
            let mut asked = ports.iter().filter(|port| one.is_for(port)).peekable();
            wins && asked.peek().is_some() && asked.all(|port| rival.takes(port))
        });
        if let Some(rival) = rival {
            let (namespace, name) = one.service.key();
            let winner = &rival.located.id;
            let reason = format!("of no effect on Service {namespace}/{name}: {winner} decides");
            problems.warning(&one.located, "", reason);
        }
    }
}

/// The part of the object that the rules stand in.
fn layer(one: &StreamAttachment) -> &'static str {
    let section = |name: &&str| {
        let mut rules = one.rules.iter();
        rules.all(|rule| rule.rule.field.starts_with(*name))
    };
    ["spec.tls", "spec.tcp"]
        .into_iter()
        .find(section)
        .unwrap_or_default()
}

fn without_effect(
    one: &StreamAttachment,
    http: &[&Attachment],
    before: &[&StreamAttachment],
    ports: &[Port],
) -> Option<String> {
    let taken: Vec<_> = ports.iter().filter(|port| one.takes(port)).collect();
    if taken.is_empty() {
        let kind = match one.dialect {
            Dialect::TlsRoute => "can be TLS; name one by `port`",
            Dialect::TcpRoute => "is not HTTP; name one by `port`",
            Dialect::GrpcRoute
            | Dialect::HttpRoute
            | Dialect::PolicyHttpRoute
            | Dialect::VirtualService
            | Dialect::ServiceProfile
            | Dialect::TrafficSplit => "it is for",
        };
        return Some(format!("there is no port that {kind}"));
    }
    if taken.iter().all(|port| port.pass.is_some()) {
        let reason = taken[0].pass.map(PassReason::name).unwrap_or_default();
        return Some(format!("its connections pass ({reason})"));
    }
    let mut blind = taken.iter().map(|port| {
        // All rules of a TLSRoute or TCPRoute are for each port that it takes.
        let whole = one.dialect.is_gateway_api();
        let mut rules = one.rules.iter().filter(|rule| whole || rule.is_for(port));
        let asks = |rule: &PortStream| rule.rule.names.is_some() || rule.rule.source.is_some();
        let asks = one.clients.is_some() || rules.next().is_some_and(asks);
        direct::without_routes(port).filter(|_| asks)
    });
    if let Some(Some(reason)) = blind.next()
        && blind.all(|reason| reason.is_some())
    {
        return Some(reason);
    }
    let wins = |dialect: Dialect, clients: &Option<Arc<str>>| {
        let same = *clients == one.clients;
        if one.dialect.is_gateway_api() {
            // Consumers' routes are not producers'; those of one kind are merged.
            return same && dialect < one.dialect;
        }
        let producer = dialect < one.dialect && clients.is_none();
        same && dialect <= one.dialect || producer
    };
    let by_http = http.iter().find(|rival| {
        let here = taken.iter().all(|port| rival.is_for(port));
        here && rival.dialect < Dialect::VirtualService && wins(rival.dialect, &rival.clients)
    });
    let by_http = by_http.map(|rival| &rival.located.id);
    let by_streams = || {
        let rival = before.iter().find(|rival| {
            let here = taken.iter().all(|port| rival.takes(port));
            here && wins(rival.dialect, &rival.clients)
        });
        rival.map(|rival| &rival.located.id)
    };
    let winner = by_http.or_else(by_streams)?;
    Some(format!("{winner} decides"))
}
