//! `spec.rules[].backendRefs`.

use std::sync::Arc;

use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteRulesBackendRefs};

use super::filter::RuleFilters;
use super::findings::Findings;
use super::{Fault, filter, grant, policy};
use crate::compile::attach::destination;
use crate::compile::by_key::Key;
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::model::{
    ClusterId, ConditionReason, Destination, Filters, Match, PassReason, Policies,
    WeightedDestination,
};

/// The rule whose destinations are compiled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    /// Its field path.
    pub field: &'a str,
    /// The conditions of its matches.
    pub conditions: &'a [&'a Match],
    /// Its own filters.
    pub filters: &'a Filters,
}

/// Compiles the destinations of a rule. A reference that leads nowhere keeps its share, answers
/// 500 for it, and is named; a malformed one fails the rule.
pub(super) fn compile(
    at: &At<'_, HttpRoute>,
    of: Of<'_>,
    references: &[HttpRouteRulesBackendRefs],
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Result<Vec<WeightedDestination>, Fault> {
    let mut destinations = Vec::new();
    for (index, reference) in references.iter().enumerate() {
        let inner = format!("backendRefs[{index}]");
        let weight = weight(reference).map_err(|reason| (format!("{inner}.weight"), reason))?;
        let place = format!("{}.{inner}", of.field);
        let own = own(at, of, &place, reference, scope, findings)
            .map_err(|(below, reason)| (format!("{inner}.{below}"), reason))?;
        let resolved = resolve(at, reference, scope).map_err(|(why, below, reason)| {
            findings.unresolved(why, &format!("{place}.{below}"), &reason);
            (below, reason)
        });
        let destination = destination(resolved, &place, at.located, &mut scope.problems);
        destinations.push(WeightedDestination {
            weight,
            destination: match (destination, own.redirect) {
                (Destination::Cluster(_), Some(redirect)) => redirect,
                (destination, _) => destination,
            },
            filters: own.filters,
            policies: own.policies,
        });
    }
    Ok(destinations)
}

/// What the filters of one destination come to.
struct Own {
    filters: Filters,
    redirect: Option<Destination>,
    policies: Option<Arc<Policies>>,
}

fn own(
    at: &At<'_, HttpRoute>,
    of: Of<'_>,
    place: &str,
    reference: &HttpRouteRulesBackendRefs,
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Result<Own, Fault> {
    let written = filter::of_destination(reference.filters.as_deref())?;
    if let Some(fault) = filter::incompatible(Some(&written)) {
        return Err(fault);
    }
    let RuleFilters {
        filters,
        redirect,
        cors,
        mirrors,
    } = filter::compile(Some(&written), of.conditions)?;
    let both = |has: fn(&Filters) -> bool| has(&filters) && has(of.filters);
    for (part, twice) in [
        ("path", both(|of| of.rewrite_path.is_some())),
        ("host", both(|of| of.rewrite_authority.is_some())),
    ] {
        if twice {
            let reason = format!("found a new {part}, which the rule's own filters give already");
            return Err(("filters".to_owned(), reason));
        }
    }
    let policies = Policies {
        mirrors: policy::mirrors(at, place, &mirrors, scope, findings)?,
        cors,
        ..Policies::default()
    };
    Ok(Own {
        filters,
        redirect: redirect.map(|redirect| Destination::Redirect(Arc::new(redirect))),
        policies: (!policies.is_empty()).then(|| Arc::new(policies)),
    })
}

/// The share of a reference.
pub(super) fn weight(reference: &HttpRouteRulesBackendRefs) -> Result<u32, String> {
    let written = reference.weight.unwrap_or(1);
    let weight = u32::try_from(written).ok();
    weight
        .filter(|weight| *weight <= 1_000_000)
        .ok_or_else(|| format!("found {written}, accepted: 0 to 1000000"))
}

/// Why a reference leads nowhere, its field and what is wrong with it.
pub(super) type Unresolved = (ConditionReason, &'static str, String);

/// The cluster that a reference leads to.
pub(super) fn resolve(
    at: &At<'_, HttpRoute>,
    reference: &HttpRouteRulesBackendRefs,
    scope: &Scope<'_>,
) -> Result<ClusterId, Unresolved> {
    use ConditionReason::{BackendNotFound, InvalidKind, RefNotPermitted};
    let (group, kind) = (
        reference.group.as_deref().unwrap_or_default(),
        reference.kind.as_deref().unwrap_or("Service"),
    );
    if !matches!(group, "" | "core") || kind != "Service" {
        return Err((
            InvalidKind,
            "kind",
            format!("found `{kind}` of group `{group}`, accepted: Service of the core group"),
        ));
    }
    let own = &*at.located.id.namespace;
    let namespace = reference.namespace.as_deref().unwrap_or(own);
    let service = (namespace, reference.name.as_str());
    let permitted = namespace == own
        || is_parent(at, service)
        || grant::allows(scope.grants(namespace), &at.located.id, service.1);
    if !permitted {
        let reason = format!(
            "no ReferenceGrant in namespace `{namespace}` allows this from namespace `{own}`"
        );
        return Err((RefNotPermitted, "namespace", reason));
    }
    if scope.service(service).is_none() {
        let reason = format!("no Service {namespace}/{}", reference.name);
        return Err((BackendNotFound, "name", reason));
    }
    let Some(number) = reference.port else {
        let reason = "is missing: a Service needs it".to_owned();
        return Err((BackendNotFound, "port", reason));
    };
    let port = u16::try_from(number).ok();
    let port = port.and_then(|number| scope.tcp_port(service, number));
    let Some(port) = port else {
        let reason = scope.no_such_port(service, number.into());
        return Err((BackendNotFound, "port", reason));
    };
    if port.pass == Some(PassReason::ExternalName) {
        return Err((
            BackendNotFound,
            "name",
            "is an ExternalName Service, which has no endpoints".to_owned(),
        ));
    }
    Ok(port.id)
}

/// Whether a Service of another namespace is a parent of the route. A consumer route may send its
/// own clients where they asked to go (GEP-1426); nothing is opened to them by that.
fn is_parent(at: &At<'_, HttpRoute>, service: Key<'_>) -> bool {
    at.object.spec.parent_refs.iter().flatten().any(|parent| {
        super::is_service(parent)
            && (parent.namespace.as_deref(), &*parent.name) == (Some(service.0), service.1)
    })
}
