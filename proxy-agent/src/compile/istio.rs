//! Istio's VirtualService and DestinationRule on the mesh.

mod action;
mod delegate;
mod destination_rule;
mod host;
mod matches;
mod policy;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use self::destination_rule::Rules;
use super::attach::{Attachment, Dialect, INVALID_ROUTE, Named, PortRule, respond, shared_id};
use super::by_key::Key;
use super::gateway_api::Scope;
use super::index::{At, Index};
use super::problems::Problems;
use crate::model::{Action, Rule, Timeouts};
use crate::objects::istio::{Delegate, HttpRoute, VirtualService};

/// The gateway that stands for every sidecar, here for every captured pod.
const MESH: &str = "mesh";

/// A field below a route and what is wrong with it.
type Fault = (String, String);

/// What VirtualServices are compiled against.
struct Context<'c, 'a, 's> {
    scope: &'c mut Scope<'a, 's>,
    rules: Rules<'a>,
}

/// Compiles every VirtualService that applies to the mesh, and reads the DestinationRules.
pub(super) fn compile<'a>(
    index: &'a Index<'a>,
    scope: &mut Scope<'a, '_>,
) -> (Vec<Attachment<'a>>, Rules<'a>) {
    let mut attachments = Vec::new();
    let rules = Rules::new(index, scope.ports, scope.problems);
    let mut context = Context { scope, rules };
    let delegates = delegates(index);
    for at in &index.virtual_services {
        let key = at.key();
        if at.object.spec.hosts.is_empty() && delegates.contains(&key) {
            continue;
        }
        if applies_to_mesh(at, index, context.scope.problems) {
            attachments.extend(attached(at, index, &mut context));
        }
    }
    // Of the VirtualServices of a Service the one that names it most exactly comes first.
    attachments.sort_by_key(|(exactness, _)| Reverse(*exactness));
    let attachments = attachments.into_iter().map(|(_, one)| one).collect();
    (attachments, context.rules)
}

/// Whether any rule looks at the labels of client pods.
pub(super) fn asks_for_labels(index: &Index<'_>) -> bool {
    let services = index.virtual_services.iter();
    let routes = services.flat_map(|at| &at.object.spec.http);
    let mut matches = routes.flat_map(|route| &route.matches);
    matches.any(|one| !one.source_labels.is_empty())
}

fn attached<'a>(
    at: &'a At<'a, VirtualService>,
    index: &'a Index<'a>,
    context: &mut Context<'_, 'a, '_>,
) -> Vec<(usize, Attachment<'a>)> {
    for (field, there) in [
        ("spec.tls", at.object.spec.tls.is_some()),
        ("spec.tcp", at.object.spec.tcp.is_some()),
    ] {
        if there {
            let reason = "is not supported by this version, and has no effect";
            context.scope.problems.error(at.located, field, reason);
        }
    }
    let services = services(at, context.scope);
    if services.is_empty() || at.object.spec.http.is_empty() {
        return Vec::new();
    }
    let rules = rules(at, index, context);
    let mut attachments = Vec::new();
    for (service, exactness) in services {
        for clients in clients(at) {
            let attachment = Attachment {
                located: at.located,
                dialect: Dialect::VirtualService,
                service,
                port: None,
                clients,
                rules: Arc::clone(&rules),
            };
            attachments.push((exactness, attachment));
        }
    }
    attachments
}

/// Names of the VirtualServices that others delegate to.
fn delegates<'a>(index: &'a Index<'a>) -> HashSet<Key<'a>> {
    let all = index.virtual_services.iter();
    let routes = all.flat_map(|at| at.object.spec.http.iter().map(move |route| (at, route)));
    let named = routes.filter_map(|(at, route)| Some(delegate_key(at, route.delegate.as_ref()?)));
    named.collect()
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
fn applies_to_mesh(
    at: &At<'_, VirtualService>,
    index: &Index<'_>,
    problems: &mut Problems,
) -> bool {
    let gateways = &at.object.spec.gateways;
    if gateways.is_empty() || gateways.iter().any(|name| name == MESH) {
        return true;
    }
    let exists = |name: &String| {
        let own = &*at.located.id.namespace;
        let (namespace, name) = name.split_once('/').unwrap_or((own, name));
        index.unknown.iter().any(|(id, _)| {
            let gateway = &*id.kind == "Gateway" && &*id.group == "networking.istio.io";
            let found = if id.namespace.is_empty() {
                "default"
            } else {
                &id.namespace
            };
            gateway && &*id.name == name && found == namespace
        })
    };
    if gateways.iter().any(exists) {
        return false;
    }
    let reason = format!(
        "no Gateway of these exists ({}): applied to the mesh instead",
        gateways.join(", ")
    );
    problems.warning(at.located, "spec.gateways", reason);
    true
}

/// The Services that a VirtualService is for, and how exactly it names each.
fn services<'a>(
    at: &'a At<'a, VirtualService>,
    scope: &mut Scope<'a, '_>,
) -> Vec<(Key<'a>, usize)> {
    let mut services: Vec<(Key<'a>, usize)> = Vec::new();
    if at.object.spec.hosts.is_empty() {
        scope.problems.error(
            at.located,
            "spec.hosts",
            "is missing: names the Services that it is for",
        );
    }
    for (index, text) in at.object.spec.hosts.iter().enumerate() {
        match host::services(text, &at.located.id.namespace, scope.ports) {
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
fn clients(at: &At<'_, VirtualService>) -> Vec<Option<Arc<str>>> {
    let export_to = &at.object.spec.export_to;
    if export_to.is_empty() || export_to.iter().any(|namespace| namespace == "*") {
        return vec![None];
    }
    export_to
        .iter()
        .map(|namespace| match namespace.as_str() {
            "." => Some(Arc::clone(&at.located.id.namespace)),
            other => Some(Arc::from(other)),
        })
        .collect()
}

fn rules<'a>(
    at: &'a At<'a, VirtualService>,
    index: &'a Index<'a>,
    context: &mut Context<'_, 'a, '_>,
) -> Arc<[PortRule]> {
    let mut compiled = Vec::new();
    for (position, route) in at.object.spec.http.iter().enumerate() {
        let field = format!("spec.http[{position}]");
        let Some(delegate) = &route.delegate else {
            compile_route(at, &field, route, context, &mut compiled);
            continue;
        };
        let key = delegate_key(at, delegate);
        let mut all = index.virtual_services.iter();
        let found = all.find(|one| one.key() == key && one.object.spec.hosts.is_empty());
        let refused = match found {
            None => format!("no VirtualService {}/{} without hosts", key.0, key.1),
            Some(_) if !route.route.is_empty() || route.redirect.is_some() => {
                "accepted: either delegate, or route or redirect".to_owned()
            }
            Some(found) => {
                let routes = found.object.spec.http.iter().enumerate();
                for (position, inner) in routes {
                    if let Some(merged) = delegate::merge(route, inner) {
                        let field = format!("spec.http[{position}]");
                        compile_route(found, &field, &merged, context, &mut compiled);
                    }
                }
                continue;
            }
        };
        let without = HttpRoute {
            delegate: None,
            ..route.clone()
        };
        let field = format!("{field}.delegate");
        let reason = format!("{refused}; the route answers 500");
        context.scope.problems.error(at.located, &*field, reason);
        fail_route(at, &field, &without, context, &mut compiled);
    }
    compiled.into()
}

fn compile_route<'a>(
    at: &At<'a, VirtualService>,
    field: &str,
    route: &HttpRoute,
    context: &mut Context<'_, 'a, '_>,
    compiled: &mut Vec<PortRule>,
) {
    if route.delegate.is_some() {
        let reason = "a delegate does not delegate; the route answers 500";
        let below = format!("{field}.delegate");
        context.scope.problems.error(at.located, below, reason);
        return fail_route(at, field, route, context, compiled);
    }
    match action::compile(at, field, route, context) {
        Ok(base) => push(at, field, route, Some(&base), context, compiled),
        Err((inner, reason)) => {
            let reason = format!("{reason}; the route answers 500");
            let field_below = format!("{field}.{inner}");
            context
                .scope
                .problems
                .error(at.located, field_below, reason);
            fail_route(at, field, route, context, compiled);
        }
    }
}

/// What the route matches is answered 500.
fn fail_route(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    context: &mut Context<'_, '_, '_>,
    compiled: &mut Vec<PortRule>,
) {
    push(at, field, route, None, context, compiled);
}

fn push(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    base: Option<&action::Base>,
    context: &mut Context<'_, '_, '_>,
    compiled: &mut Vec<PortRule>,
) {
    let object = shared_id(at.located);
    let shared_field: Arc<str> = field.into();
    for one in matches::compile(at, field, route, context.scope.problems) {
        let action = match base {
            Some(base) => base.for_match(&one.conditions),
            None => respond(INVALID_ROUTE),
        };
        compiled.push(PortRule {
            rule: Rule {
                object: Some(Arc::clone(&object)),
                field: Arc::clone(&shared_field),
                conditions: one.conditions,
                action: Arc::new(action),
                timeouts: base.map_or_else(Timeouts::default, |base| base.timeouts),
                policies: base.and_then(|base| base.policies.clone()),
            },
            port: one.port,
            named: Named::default(),
        });
    }
}

impl action::Base {
    /// The action for one match: what a rewrite replaces depends on it.
    fn for_match(&self, conditions: &crate::model::Match) -> Action {
        let mut action = self.action.clone();
        if let (Action::Forward { filters, .. }, Some(uri)) = (&mut action, &self.rewrite_uri) {
            filters.rewrite_path = Some(host::rewrite(uri, conditions));
        }
        action
    }
}
