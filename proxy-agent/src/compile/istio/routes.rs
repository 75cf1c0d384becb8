//! `spec.http`: its routes, and those of others in place of the ones that delegate.

use std::sync::Arc;

use super::action::Here;
use super::{Numbers, action, asked, delegate, delegate_key, host, matches, visibility};
use crate::compile::attach::{INVALID_ROUTE, Named, PortRule, respond, shared_id};
use crate::compile::by_key::Key;
use crate::compile::defaults::Says;
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::model::{Action, PathMatch, Rule, Timeouts};
use crate::objects::istio::{HostDestination, HttpRoute, VirtualService};

/// Compiles the routes for Services with these ports.
pub(super) fn rules(
    at: &At<'_, VirtualService>,
    ports: &Numbers,
    scope: &mut Scope<'_>,
) -> Arc<[PortRule]> {
    let mut compiled = Vec::new();
    for (position, route) in at.object.spec.http.iter().enumerate() {
        let field = format!("spec.http[{position}]");
        match &route.delegate {
            None => compile_route(at, &field, route, ports, scope, &mut compiled),
            Some(delegate) => {
                let key = delegate_key(at, delegate);
                let root = (at, &*field, route);
                if let Err(refused) = delegated(root, key, ports, scope, &mut compiled) {
                    let reason = format!("{refused}; the route answers 500");
                    let below = format!("{field}.delegate");
                    scope.problems.error(at.located, below, reason);
                    for one in matches::compile(at, &field, route, &ports.all, &mut scope.problems)
                    {
                        compiled.push(rule(at, &field, one, None));
                    }
                }
            }
        }
    }
    compiled.into()
}

/// Compiles the routes that another VirtualService has in place of a root's route.
fn delegated(
    (at, field, route): (&At<'_, VirtualService>, &str, &HttpRoute),
    key: Key<'_>,
    ports: &Numbers,
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
    let root = &*at.located.id.namespace;
    if !visibility::is_exported(&found.object.spec.export_to, key.0, root) {
        return Err(format!(
            "no VirtualService {}/{} that is exported to {root} (`exportTo`)",
            key.0, key.1
        ));
    }
    for (position, inner) in found.object.spec.http.iter().enumerate() {
        let own = format!("spec.http[{position}]");
        let (merged, left_out) = delegate::merge(route, inner);
        for (outer, inner) in left_out {
            let reason = format!(
                "cannot be merged with {field}.match[{outer}] of VirtualService {root}/{}: the pair \
                 is left out",
                at.located.id.name
            );
            let place = format!("{own}.match[{inner}]");
            scope.problems.warning(found.located, place, reason);
        }
        if let Some(merged) = merged {
            compile_route(&found, &own, &merged, ports, scope, compiled);
        }
    }
    Ok(())
}

/// Compiles a route: once, or for each port by which its destinations go.
fn compile_route(
    at: &At<'_, VirtualService>,
    field: &str,
    route: &HttpRoute,
    ports: &Numbers,
    scope: &mut Scope<'_>,
    compiled: &mut Vec<PortRule>,
) {
    let alternatives = matches::compile(at, field, route, &ports.all, &mut scope.problems);
    let unread = at.located.is_unread(field);
    if unread || route.delegate.is_some() {
        if !unread {
            let reason = "is of a delegate, which cannot delegate; the route answers 500";
            let place = format!("{field}.delegate");
            scope.problems.error(at.located, place, reason);
        }
        compiled.extend(
            alternatives
                .into_iter()
                .map(|one| rule(at, field, one, None)),
        );
        return;
    }
    let asked = if action::goes_by_port(at, destinations(route), scope) {
        let matched = alternatives.iter().map(|one| one.port);
        asked(&ports.http, ports, matched)
    } else {
        vec![None]
    };
    for asked in asked {
        let known = scope.problems.0.len();
        let here = Here { at, field, asked };
        let base = action::compile(here, route, scope).map_err(|faults| {
            for (inner, reason) in faults {
                let reason = format!("{reason}; the route answers 500");
                let place = format!("{field}.{inner}");
                scope.problems.error(at.located, place, reason);
            }
        });
        scope.problems.drop_repeated(known);
        let for_it = |port: Option<u16>| port.is_none_or(|port| asked.is_none_or(|n| n == port));
        for one in alternatives.iter().filter(|one| for_it(one.port)) {
            let mut one = one.clone();
            one.port = one.port.or(asked);
            compiled.push(rule(at, field, one, base.as_ref().ok()));
        }
    }
}

fn destinations(route: &HttpRoute) -> impl Iterator<Item = &HostDestination> {
    let routes = route.route.iter().map(|one| &one.destination);
    let mirrors = route.mirrors.iter().flatten().map(|one| &one.destination);
    routes.chain(mirrors).chain(&route.mirror)
}

/// The rule for a match of a route; without a base, what it matches is answered 500.
fn rule(
    at: &At<'_, VirtualService>,
    field: &str,
    one: matches::Alternative,
    base: Option<&action::Base>,
) -> PortRule {
    let mut conditions = one.conditions;
    if base.is_some_and(|base| base.rewrite_uri.is_some()) {
        // What Istio has in place of a match on the path, and what is rewritten of it.
        let everything = || PathMatch::StringPrefix("/".into());
        conditions.path.get_or_insert_with(everything);
    }
    let action = match base {
        Some(base) => base.for_match(conditions.path.as_ref()),
        None => respond(INVALID_ROUTE),
    };
    PortRule {
        rule: Rule {
            object: Some(shared_id(at.located)),
            field: field.into(),
            conditions,
            action: Arc::new(action),
            timeouts: base.map_or_else(Timeouts::default, |base| base.timeouts),
            policies: base.and_then(|base| base.policies.clone()),
        },
        port: one.port,
        named: Named::default(),
        says: Says::default(),
    }
}

impl action::Base {
    /// The action for one match: what a rewrite replaces depends on it.
    fn for_match(&self, path: Option<&PathMatch>) -> Action {
        let mut action = self.action.clone();
        if let (Action::Forward { filters, .. }, Some(uri)) = (&mut action, &self.rewrite_uri) {
            filters.rewrite_path = Some(host::rewrite(uri, path));
        }
        action
    }
}
