//! Istio's VirtualService, DestinationRule and ServiceEntry on the mesh.

mod action;
mod answer;
mod delegate;
mod destination_rule;
mod edits;
mod fault;
mod host;
mod matches;
mod policy;
mod routes;
mod service_entry;
mod stream;
mod traffic_policy;
mod visibility;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attach::{Attachment, Dialect, Profile};
use super::by_key::{Key, Name};
use super::index::At;
use super::routes::Compiled;
use super::scope::Scope;
use super::service::Declared;
use super::switches;
use crate::objects::istio::{Delegate, VirtualService};

pub(super) use destination_rule::{apply, judge, services_of, wildcard_of};
pub(super) use host::{ends_with, parse as parse_host};
pub(super) use service_entry::{
    addresses, clients as clients_of_entry, endpoints, judge as judge_entry, lookups, normal,
    ports, selector, services as services_of_entry,
};
pub(super) use visibility::goes_before;

/// The gateway that stands for every sidecar, here for every captured pod.
const MESH: &str = "mesh";

/// Compiles a VirtualService if it applies to the mesh.
pub(super) fn compile(at: &At<'_, VirtualService>, scope: &mut Scope<'_>) -> Compiled {
    let mut compiled = Compiled::default();
    switches::name_what_is_without_effect(at.located, &mut scope.problems);
    let spec = &at.object.spec;
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        let reason = "has no routes; accepted: at least one of http, tls, tcp";
        scope.problems.error(at.located, "spec", reason);
    }
    if is_delegate(at, scope) {
        let spec = &at.object.spec;
        for (field, reason, there) in [
            (
                "spec.tls",
                "has no effect: others delegate to `http` alone",
                !spec.tls.is_empty(),
            ),
            (
                "spec.tcp",
                "has no effect: others delegate to `http` alone",
                !spec.tcp.is_empty(),
            ),
            (
                "spec.gateways",
                "has no effect: a delegate applies where its root does",
                !spec.gateways.is_empty(),
            ),
        ] {
            if there {
                scope.problems.error(at.located, field, reason);
            }
        }
        return compiled;
    }
    if !applies_to_mesh(at, scope) {
        return compiled;
    }
    let services = services(at, scope);
    if services.is_empty() {
        return compiled;
    }
    let spec = &at.object.spec;
    let ports = ports_of(&services, scope);
    let attach = (services, clients(at, scope));
    if !spec.http.is_empty() {
        compiled.attachments = attachments(at, &attach, &routes::rules(at, &ports, scope));
    }
    if !spec.tls.is_empty() || !spec.tcp.is_empty() {
        compiled.streams = attachments(at, &attach, &stream::rules(at, &ports, scope));
    }
    compiled
}

/// Numbers of the TCP ports that any of a VirtualService's Services has.
#[derive(Debug, Default)]
struct Numbers {
    all: BTreeSet<u16>,
    /// Those that its `http` is for unless a match names a port.
    http: BTreeSet<u16>,
    /// Likewise its `tls`.
    tls: BTreeSet<u16>,
    /// Likewise its `tcp`.
    tcp: BTreeSet<u16>,
}

fn ports_of(services: &[(Name, usize)], scope: &Scope<'_>) -> Numbers {
    let mut numbers = Numbers::default();
    let found = services.iter();
    let found = found.filter_map(|(service, _)| Some(scope.service(service.key())?.1));
    for port in found.flatten().filter(|port| port.tcp) {
        numbers.all.insert(port.number);
        let of_layer: &mut [_] = match port.declared {
            Declared::Http(_) => &mut [&mut numbers.http],
            Declared::Tls => &mut [&mut numbers.tls],
            Declared::Opaque => &mut [&mut numbers.tcp],
            Declared::Nothing => &mut [&mut numbers.http, &mut numbers.tcp],
        };
        for numbers in of_layer {
            numbers.insert(port.number);
        }
    }
    numbers
}

/// The ports, of those of a layer and those that matches name, that a route is compiled for one by
/// one; `matched` has what each match names.
fn asked<'n>(
    layer: &BTreeSet<u16>,
    numbers: &Numbers,
    matched: impl Iterator<Item = Option<u16>> + Clone + 'n,
) -> Vec<Option<u16>> {
    let all = numbers.all.iter().copied();
    let for_it = |port: &u16| {
        let mut matched = matched.clone();
        matched.any(|named| named.map_or(layer.contains(port), |number| number == *port))
    };
    all.filter(for_it).map(Some).collect()
}

/// Services, and the clients that see the rules there.
type Attach = (Vec<(Name, usize)>, Vec<Option<Arc<str>>>);

fn attachments<R>(
    at: &At<'_, VirtualService>,
    (services, clients): &Attach,
    rules: &Arc<[R]>,
) -> Vec<Attachment<R>> {
    let attachment = |service: &Name, exactness, clients: &Option<Arc<str>>| Attachment {
        located: Arc::clone(at.located),
        dialect: Dialect::VirtualService,
        service: service.clone(),
        port: None,
        clients: clients.clone(),
        exactness,
        rules: Arc::clone(rules),
        profile: Profile::default(),
    };
    let services = services.iter();
    let each = services.flat_map(|(service, exactness)| {
        let clients = clients.iter();
        clients.map(move |clients| attachment(service, *exactness, clients))
    });
    each.collect()
}

/// Whether it is there for others, which delegate to it.
fn is_delegate(at: &At<'_, VirtualService>, scope: &Scope<'_>) -> bool {
    let names_it = |one: &At<'_, VirtualService>| {
        let routes = one.object.spec.http.iter();
        let mut delegates = routes.filter_map(|route| route.delegate.as_ref());
        delegates.any(|delegate| delegate_key(one, delegate) == at.key())
    };
    at.object.spec.hosts.is_empty() && scope.virtual_services().any(|one| names_it(&one))
}

fn delegate_key<'a>(at: &'a At<'_, VirtualService>, delegate: &'a Delegate) -> Key<'a> {
    let namespace = delegate.namespace.as_deref();
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    (
        namespace.unwrap_or(&at.located.id.namespace),
        delegate.name.as_str(),
    )
}

/// One that names other gateways alone is theirs, unless none of them exists.
fn applies_to_mesh(at: &At<'_, VirtualService>, scope: &mut Scope<'_>) -> bool {
    let gateways = &at.object.spec.gateways;
    if gateways.is_empty() || gateways.iter().any(|name| name == MESH) {
        return true;
    }
    let own = &*at.located.id.namespace;
    let key = |name| str::split_once(name, '/').unwrap_or((own, name));
    if gateways.iter().any(|name| scope.has_gateway(key(name))) {
        return false;
    }
    let reason = format!(
        "no Gateway of these exists ({}): applied to the mesh instead",
        gateways.join(", ")
    );
    scope.problems.warning(at.located, "spec.gateways", reason);
    true
}

/// The Services that a VirtualService is for, and how exactly it names each.
fn services(at: &At<'_, VirtualService>, scope: &mut Scope<'_>) -> Vec<(Name, usize)> {
    let mut services: Vec<(Name, usize)> = Vec::new();
    if at.object.spec.hosts.is_empty() {
        scope.problems.error(
            at.located,
            "spec.hosts",
            "is missing: names the Services that it is for",
        );
    }
    for (index, text) in at.object.spec.hosts.iter().enumerate() {
        match host::services(text, &at.located.id.namespace, scope) {
            Ok((found, exactness)) => {
                for service in found {
                    match services.iter_mut().find(|(known, _)| *known == service) {
                        Some((_, known)) => *known = exactness.max(*known),
                        None => services.push((service, exactness)),
                    }
                }
            }
            Err(reason) => {
                let field = format!("spec.hosts[{index}]");
                scope.problems.error(at.located, field, reason);
            }
        }
    }
    services
}

/// `exportTo`: everybody, or the namespaces named.
fn clients(at: &At<'_, VirtualService>, scope: &mut Scope<'_>) -> Vec<Option<Arc<str>>> {
    let export_to = &at.object.spec.export_to;
    if export_to.is_empty() || export_to.iter().any(|namespace| namespace == "*") {
        return vec![None];
    }
    let mut clients = Vec::new();
    for (index, namespace) in export_to.iter().enumerate() {
        match namespace.as_str() {
            "." => clients.push(Some(Arc::clone(&at.located.id.namespace))),
            "~" => {
                let field = format!("spec.exportTo[{index}]");
                let reason = "found `~`, accepted: *, . or the name of a namespace";
                scope.problems.error(at.located, field, reason);
            }
            other => clients.push(Some(Arc::from(other))),
        }
    }
    clients
}
