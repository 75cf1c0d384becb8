//! Which DestinationRules count for which clients: DestinationRule of Istio's reference, `exportTo`
//! and its lookup path.

use std::collections::BTreeSet;
use std::sync::Arc;

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

fn is_for(at: &At<'_, DestinationRule>, client: Option<&str>) -> bool {
    is_for_everybody(&at.object.spec)
        || client.is_some_and(|client| exported(at).any(|one| *one == *client))
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
        here.collect::<Vec<_>>()
    });
    found.find(|some| !some.is_empty()).unwrap_or_default()
}

/// The namespaces for whose clients other rules may count than for all the others'.
pub(super) fn clients(rules: &[&At<'_, DestinationRule>]) -> BTreeSet<Arc<str>> {
    let own = rules.iter().map(|at| Arc::clone(&at.located.id.namespace));
    own.chain(rules.iter().flat_map(|at| exported(at)))
        .collect()
}
