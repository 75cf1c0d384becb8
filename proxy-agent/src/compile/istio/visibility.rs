//! Which DestinationRules count for which clients: DestinationRule of Istio's reference, `exportTo`
//! and its lookup path.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::destination_rule::exactness;
use crate::compile::index::At;
use crate::objects::istio::{DestinationRule, DestinationRuleSpec};

/// Whose rules count where neither the client's namespace nor the Service's has any
/// (`meshConfig.rootNamespace`, by default).
const ROOT: &str = "istio-system";

/// Whether a rule says nothing of whom it is for, or that it is for all.
pub(super) fn is_for_everybody(spec: &DestinationRuleSpec) -> bool {
    spec.export_to.is_empty() || spec.export_to.iter().any(|one| one == "*")
}

/// The namespaces that a rule is exported to by name.
pub(super) fn exported(at: &At<'_, DestinationRule>) -> impl Iterator<Item = Arc<str>> {
    let own = &at.located.id.namespace;
    let names = at.object.spec.export_to.iter().map(String::as_str);
    let names = names.filter(|name| !matches!(*name, "*" | "~"));
    names.map(|name| {
        if name == "." {
            Arc::clone(own)
        } else {
            name.into()
        }
    })
}

/// Whether an `exportTo` of an object in `own` shows it to another namespace.
pub(super) fn is_exported(export_to: &[String], own: &str, to: &str) -> bool {
    let shows = |one: &String| match one.as_str() {
        "*" => true,
        "." => own == to,
        name => name == to,
    };
    export_to.is_empty() || export_to.iter().any(shows)
}

fn is_for(at: &At<'_, DestinationRule>, client: Option<&str>) -> bool {
    is_for_everybody(&at.object.spec)
        || client.is_some_and(|client| exported(at).any(|one| *one == *client))
}

/// Whether `other` counts before a rule of the same Service: of one namespace the one that names
/// the Service more exactly, for all that the rule is for.
fn hides(other: &At<'_, DestinationRule>, at: &At<'_, DestinationRule>) -> bool {
    let same = other.located.id.namespace == at.located.id.namespace;
    let own = &at.object.spec;
    let wide = is_for_everybody(&other.object.spec) || other.object.spec.export_to == own.export_to;
    same && wide && exactness(other) > exactness(at)
}

/// Whether any of `rules` does.
pub(super) fn is_hidden(at: &At<'_, DestinationRule>, rules: &[&At<'_, DestinationRule>]) -> bool {
    rules.iter().any(|other| hides(other, at))
}

/// Whether `other`, which is the older one, says the same things of the same host before `at` does.
pub(in crate::compile) fn goes_before(
    other: &At<'_, DestinationRule>,
    at: &At<'_, DestinationRule>,
) -> bool {
    let same = other.located.id.namespace == at.located.id.namespace;
    let shown = |at: &At<'_, DestinationRule>| {
        let all = is_for_everybody(&at.object.spec);
        (!all).then(|| exported(at).collect::<BTreeSet<_>>())
    };
    same && exactness(other) == exactness(at)
        && other.object.spec.workload_selector.is_none()
        && (shown(other).is_none() || shown(other) == shown(at))
}

/// The rules that count for the clients of a namespace, or for those of namespaces that nothing is
/// said of: of the client's namespace, else of the Service's, else of the root's.
pub(super) fn of_client<'r, 'a>(
    rules: &[&'r At<'a, DestinationRule>],
    client: Option<&str>,
    service: &str,
) -> Vec<&'r At<'a, DestinationRule>> {
    let namespaces = client.into_iter().chain([service, ROOT]);
    let mut found = namespaces.map(|namespace| {
        let here = rules.iter().copied();
        let here = here.filter(|at| *at.located.id.namespace == *namespace && is_for(at, client));
        let here: Vec<_> = here.collect();
        // Of Istio's, the host that is named most exactly.
        let exactest = here.iter().map(|at| exactness(at)).max();
        let here = here.into_iter();
        here.filter(|at| Some(exactness(at)) == exactest)
            .collect::<Vec<_>>()
    });
    found.find(|some| !some.is_empty()).unwrap_or_default()
}

/// The namespaces for whose clients other rules may count than for all the others'.
pub(super) fn clients(rules: &[&At<'_, DestinationRule>]) -> BTreeSet<Arc<str>> {
    let own = rules.iter().map(|at| Arc::clone(&at.located.id.namespace));
    own.chain(rules.iter().flat_map(|at| exported(at)))
        .collect()
}
