//! Istio's VirtualService, DestinationRule and ServiceEntry on the mesh.

mod action;
mod delegate;
mod destination_rule;
mod host;
mod matches;
mod policy;
mod service_entry;
mod stream;
mod traffic_policy;
mod visibility;

use std::sync::Arc;

use super::attach::{
    Attachment, Dialect, INVALID_ROUTE, Named, PortRule, Profile, respond, shared_id,
};
use super::by_key::{Key, Name};
use super::defaults::Says;
use super::index::At;
use super::routes::Compiled;
use super::scope::Scope;
use super::switches;
use crate::model::{Action, Rule, Timeouts};
use crate::objects::istio::{Delegate, HttpRoute, VirtualService};

pub(super) use destination_rule::{apply, judge, services_of};
pub(super) use host::parse as parse_host;
pub(super) use service_entry::{
    addresses, clients as clients_of_entry, endpoints, judge as judge_entry, lookups, normal,
    ports, selector, services as services_of_entry,
};

/// The gateway that stands for every sidecar, here for every captured pod.
const MESH: &str = "mesh";

/// A field below a route and what is wrong with it.
type Fault = (String, String);

/// Compiles a VirtualService if it applies to the mesh.
pub(super) fn compile(at: &At<'_, VirtualService>, scope: &mut Scope<'_>) -> Compiled {
    let mut compiled = Compiled::default();
    switches::name_what_is_without_effect(at.located, &mut scope.problems);
    if is_delegate(at, scope) {
        let spec = &at.object.spec;
        for (field, there) in [
            ("spec.tls", !spec.tls.is_empty()),
            ("spec.tcp", !spec.tcp.is_empty()),
        ] {
            if there {
                let reason = "has no effect: others delegate to `http` alone";
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
    let attach = (services, clients(at));
    if !spec.http.is_empty() {
        compiled.attachments = attachments(at, &attach, &rules(at, scope));
    }
    if !spec.tls.is_empty() || !spec.tcp.is_empty() {
        compiled.streams = attachments(at, &attach, &stream::rules(at, scope));
    }
    compiled
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

fn rules(at: &At<'_, VirtualService>, scope: &mut Scope<'_>) -> Arc<[PortRule]> {
    let mut compiled = Vec::new();
    for (position, route) in at.object.spec.http.iter().enumerate() {
        let field = format!("spec.http[{position}]");
        match &route.delegate {
            None => compile_route(at, &field, route, scope, &mut compiled),
            Some(delegate) => {
                let key = delegate_key(at, delegate);
                if let Err(refused) = delegated(at, key, route, scope, &mut compiled) {
                    let reason = format!("{refused}; the route answers 500");
                    let below = format!("{field}.delegate");
                    scope.problems.error(at.located, below, reason);
                    push(at, &field, route, None, scope, &mut compiled);
                }
            }
        }
    }
    compiled.into()
}

/// Compiles the routes that another VirtualService has in place of `route`.
fn delegated(
    at: &At<'_, VirtualService>,
    key: Key<'_>,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
    compiled: &mut Vec<PortRule>,
) -> Result<(), String> {
    if !route.route.is_empty() || route.redirect.is_some() || route.direct_response.is_some() {
        return Err("accepted: either delegate, or route, redirect or directResponse".to_owned());
    }
    let found = scope
        .virtual_service(key)
        .filter(|one| one.key() != at.key());
    let found = found.filter(|one| one.object.spec.hosts.is_empty());
    let found =
        found.ok_or_else(|| format!("no VirtualService {}/{} without hosts", key.0, key.1))?;
    for (position, inner) in found.object.spec.http.iter().enumerate() {
        if let Some(merged) = delegate::merge(route, inner) {
            let field = format!("spec.http[{position}]");
            compile_route(&found, &field, &merged, scope, compiled);
        }
    }
    Ok(())
}

fn compile_route(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
    compiled: &mut Vec<PortRule>,
) {
    if at.located.is_unread(field) {
        return push(at, field, route, None, scope, compiled);
    }
    let outcome = if route.delegate.is_some() {
        let reason = "is of a delegate, which cannot delegate".to_owned();
        Err(("delegate".to_owned(), reason))
    } else {
        action::compile(at, field, route, scope)
    };
    let base = outcome.map_err(|(inner, reason)| {
        let reason = format!("{reason}; the route answers 500");
        let below = format!("{field}.{inner}");
        scope.problems.error(at.located, below, reason);
    });
    push(at, field, route, base.as_ref().ok(), scope, compiled);
}

/// Adds a rule for each match of a route; without a base, what it matches is answered 500.
fn push(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    base: Option<&action::Base>,
    scope: &mut Scope<'_>,
    compiled: &mut Vec<PortRule>,
) {
    let object = shared_id(at.located);
    let shared_field: Arc<str> = field.into();
    for one in matches::compile(at, field, route, &mut scope.problems) {
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
            says: Says::default(),
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
