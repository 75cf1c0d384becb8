//! Linkerd's own HTTPRoute: what it has less than Gateway API's, and what it means otherwise.

use std::sync::Arc;

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRules, HttpRouteRulesBackendRefsFiltersType, HttpRouteRulesFiltersType,
};

use super::{Fault, To};
use crate::compile::attach::{PortRule, forward_to};
use crate::compile::scope::Scope;
use crate::model::Action;

/// Names what a rule has that Linkerd's HTTPRoute does not know.
pub(super) fn unknown(rule: &HttpRouteRules) -> Option<Fault> {
    use HttpRouteRulesFiltersType::{
        RequestHeaderModifier, RequestRedirect, ResponseHeaderModifier,
    };
    let fields = [
        ("name", rule.name.is_some()),
        ("retry", rule.retry.is_some()),
        ("sessionPersistence", rule.session_persistence.is_some()),
    ];
    if let Some((name, _)) = fields.into_iter().find(|(_, there)| *there) {
        let reason = "unknown field; accepted: matches, filters, backendRefs, timeouts".to_owned();
        return Some((name.to_owned(), reason));
    }
    let own = rule.filters.iter().flatten().enumerate();
    let mut own = own.map(|(index, filter)| (format!("filters[{index}]"), &filter.r#type));
    if let Some((field, filter)) = own.find(|(_, filter)| {
        !matches!(
            filter,
            RequestHeaderModifier | ResponseHeaderModifier | RequestRedirect
        )
    }) {
        return Some(of_another_kind(&field, filter));
    }
    let references = rule.backend_refs.iter().flatten().enumerate();
    let mut theirs = references.flat_map(|(at, reference)| {
        let filters = reference.filters.iter().flatten().enumerate();
        filters.map(move |(index, filter)| (at, index, &filter.r#type))
    });
    let (at, index, filter) = theirs.find(|(_, _, filter)| {
        use HttpRouteRulesBackendRefsFiltersType as Type;
        !matches!(
            filter,
            Type::RequestHeaderModifier | Type::ResponseHeaderModifier | Type::RequestRedirect
        )
    })?;
    let field = format!("backendRefs[{at}].filters[{index}]");
    Some(of_another_kind(&field, filter))
}

fn of_another_kind(field: &str, found: &impl std::fmt::Debug) -> Fault {
    let reason = format!(
        "found {found:?}, accepted: RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect"
    );
    (format!("{field}.type"), reason)
}

/// Sends what rules without destinations match to the Service itself, on the port that was asked
/// for.
pub(super) fn to_parent(rules: &Arc<[PortRule]>, to: &To, scope: &Scope<'_>) -> Arc<[PortRule]> {
    let open = |one: &PortRule| matches!(&*one.rule.action, Action::Forward { destinations, .. } if destinations.is_empty());
    if !rules.iter().any(open) {
        return Arc::clone(rules);
    }
    let (service, port) = to;
    let ports = scope.service(service.key()).map(|(_, ports)| ports);
    let ports = ports.unwrap_or_default().iter();
    let ports: Vec<_> = ports
        .filter(|one| one.tcp && port.is_none_or(|number| number == one.number))
        .collect();
    let mut expanded = Vec::new();
    for one in rules.iter() {
        let Action::Forward {
            filters,
            destinations,
        } = &*one.rule.action
        else {
            expanded.push(one.clone());
            continue;
        };
        if !destinations.is_empty() {
            expanded.push(one.clone());
            continue;
        }
        expanded.extend(ports.iter().map(|port| {
            let mut own = one.clone();
            let mut action = forward_to(port.id);
            if let Action::Forward { filters: of, .. } = &mut action {
                of.clone_from(filters);
            }
            own.rule.action = Arc::new(action);
            own.port = Some(port.number);
            own
        }));
    }
    expanded.into()
}
