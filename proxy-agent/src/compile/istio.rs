//! Istio's VirtualService on the mesh.

mod action;
mod host;
mod matches;

use std::sync::Arc;

use super::attach::{Attachment, Dialect, INVALID_ROUTE, Named, PortRule, respond, shared_id};
use super::by_key::Name;
use super::index::At;
use super::routes::Compiled;
use super::scope::Scope;
use crate::model::{Action, Rule, Timeouts};
use crate::objects::istio::{HttpRoute, VirtualService};

/// The gateway that stands for every sidecar, here for every captured pod.
const MESH: &str = "mesh";

/// A field below a route and what is wrong with it.
type Fault = (String, String);

/// Compiles a VirtualService if it applies to the mesh.
pub(super) fn compile(at: &At<'_, VirtualService>, scope: &mut Scope<'_>) -> Compiled {
    let mut compiled = Compiled::default();
    if !applies_to_mesh(at, scope) {
        return compiled;
    }
    for (field, there) in [
        ("spec.tls", at.object.spec.tls.is_some()),
        ("spec.tcp", at.object.spec.tcp.is_some()),
    ] {
        if there {
            let reason = "is not supported by this version, and has no effect";
            scope.problems.error(at.located, field, reason);
        }
    }
    let services = services(at, scope);
    if services.is_empty() || at.object.spec.http.is_empty() {
        return compiled;
    }
    let rules = rules(at, scope);
    for service in services {
        for clients in clients(at) {
            compiled.attachments.push(Attachment {
                located: Arc::clone(at.located),
                dialect: Dialect::VirtualService,
                service: service.clone(),
                port: None,
                clients,
                rules: Arc::clone(&rules),
            });
        }
    }
    compiled
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

fn services(at: &At<'_, VirtualService>, scope: &mut Scope<'_>) -> Vec<Name> {
    let mut services = Vec::new();
    if at.object.spec.hosts.is_empty() {
        scope.problems.error(
            at.located,
            "spec.hosts",
            "is missing: names the Services that it is for",
        );
    }
    for (index, text) in at.object.spec.hosts.iter().enumerate() {
        match host::service(text, &at.located.id.namespace, scope) {
            Ok((service, _)) if services.contains(&service) => {}
            Ok((service, _)) => services.push(service),
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
    let object = shared_id(at.located);
    let mut compiled = Vec::new();
    for (position, route) in at.object.spec.http.iter().enumerate() {
        let field: Arc<str> = format!("spec.http[{position}]").into();
        let found = matches::compile(at, &field, route, &mut scope.problems);
        let base = base(at, &field, route, scope);
        for one in found {
            let outcome = match (&base, one.unsupported) {
                (Ok(base), false) => base.for_match(&one.conditions),
                (Ok(_) | Err(()), _) => respond(INVALID_ROUTE),
            };
            compiled.push(PortRule {
                rule: Rule {
                    object: Some(Arc::clone(&object)),
                    field: Arc::clone(&field),
                    conditions: one.conditions,
                    action: Arc::new(outcome),
                    timeouts: base
                        .as_ref()
                        .map_or_else(|()| Timeouts::default(), |base| base.timeouts),
                    policies: None,
                },
                port: one.port,
                named: Named::default(),
            });
        }
    }
    compiled.into()
}

/// The route's action before its matches are looked at; `Err` when it has none, which is named.
fn base(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    scope: &mut Scope<'_>,
) -> Result<action::Base, ()> {
    action::compile(at, field, route, scope).map_err(|(inner, reason)| {
        let field = [field, inner.as_str()].join(".");
        scope.problems.error(
            at.located,
            field,
            format!("{reason}; the route answers 500"),
        );
    })
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
