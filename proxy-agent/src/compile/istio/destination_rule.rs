//! DestinationRule: subsets of a Service's endpoints by their pods' labels, and how endpoints are
//! used.

use std::sync::Arc;

use super::traffic_policy::Sections;
use super::{host, service_entry, traffic_policy};
use crate::compile::by_key::Name;
use crate::compile::cluster_ids::ClusterIds;
use crate::compile::index::At;
use crate::compile::problems::Problems;
use crate::compile::service::{Port, PortSubset};
use crate::model::{BalancePolicy, ClusterPolicies};
use crate::objects::istio::{DestinationRule, DestinationRuleSpec, Subset};

/// Why a part of a policy has no effect.
const NOT_ENFORCED: &str = "accepted, not enforced by this version";

/// The Services that a rule may be for, whether there is one or not: the host of a ServiceEntry has
/// no namespace.
pub(in crate::compile) fn services_of(at: &At<'_, DestinationRule>) -> Vec<Name> {
    let host = service_entry::normal(&at.object.spec.host);
    let service = host::parse(&at.object.spec.host, &at.located.id.namespace);
    let external = host.contains('.').then(|| Name::from(("", &*host)));
    external
        .into_iter()
        .chain(service.map(Name::from))
        .collect()
}

/// Applies the rules of a Service, the oldest first, to its ports.
pub(in crate::compile) fn apply(
    rules: &[At<'_, DestinationRule>],
    ports: &mut [Port],
    ids: &mut ClusterIds,
) {
    // What is for some clients must not be for all.
    let all = rules.iter();
    let rules: Vec<_> = all
        .filter(|at| at.object.spec.workload_selector.is_none())
        .collect();
    for port in ports.iter_mut().filter(|port| port.tcp) {
        let mut whole = Sections::default();
        for at in &rules {
            let own = Sections::of(at.object.spec.traffic_policy.as_ref(), port.number);
            whole = whole.or(own);
        }
        port.balance = balance(&whole, port);
        port.policies = shared(whole.policies());
        for at in &rules {
            let subsets = subsets(at, port, ids);
            port.subsets.extend(subsets);
        }
    }
}

/// What the client chose stays so: Istio's resolution NONE knows no other balancer.
fn balance(sections: &Sections<'_>, port: &Port) -> BalancePolicy {
    if port.balance == BalancePolicy::AsAsked {
        return BalancePolicy::AsAsked;
    }
    sections.balance().unwrap_or(port.balance)
}

fn shared(policies: ClusterPolicies) -> Option<Arc<ClusterPolicies>> {
    (!policies.is_empty()).then(|| Arc::new(policies))
}

fn subsets(at: &At<'_, DestinationRule>, port: &Port, ids: &mut ClusterIds) -> Vec<PortSubset> {
    let spec = &at.object.spec;
    let of = &at.located.id.namespace;
    let exported = spec.export_to.iter().map(|one| match one.as_str() {
        "." => Arc::clone(of),
        other => Arc::from(other),
    });
    let clients: Option<Vec<Arc<str>>> = (!is_for_everybody(spec)).then(|| exported.collect());
    let mut compiled: Vec<PortSubset> = Vec::new();
    for subset in &spec.subsets {
        let name: Arc<str> = subset.name.as_str().into();
        let known = |one: &PortSubset| one.name == name && one.namespace == *of;
        if compiled.iter().chain(&port.subsets).any(known) {
            continue; // the first of a name counts
        }
        // Rules of several namespaces may mean different pods by one name.
        let cluster: Arc<str> = if *of == port.service.namespace {
            format!("{}|{name}", port.cluster).into()
        } else {
            format!("{}|{name}@{of}", port.cluster).into()
        };
        let own = Sections::of(subset.traffic_policy.as_ref(), port.number);
        let rule = Sections::of(spec.traffic_policy.as_ref(), port.number);
        let all = if subset_replaces(subset, port.number) {
            own
        } else {
            own.or(rule)
        };
        compiled.push(PortSubset {
            name,
            namespace: Arc::clone(of),
            clients: clients.clone(),
            labels: subset.labels.clone(),
            balance: balance(&all, port),
            policies: shared(all.policies()),
            id: ids.id(&cluster),
            cluster,
        });
    }
    compiled
}

fn is_for_everybody(spec: &DestinationRuleSpec) -> bool {
    spec.export_to.is_empty() || spec.export_to.iter().any(|one| one == "*")
}

/// The subset of a port that a route in `namespace` means by `name`: as Istio looks them up, of its
/// own namespace, of the Service's, of anybody's.
pub(super) fn subset<'p>(port: &'p Port, name: &str, namespace: &str) -> Option<&'p PortSubset> {
    let visible = |one: &&PortSubset| {
        let clients = one.clients.as_deref();
        clients.is_none_or(|all| all.iter().any(|client| **client == *namespace))
    };
    let named = port.subsets.iter().filter(|one| *one.name == *name);
    named.filter(visible).min_by_key(|one| {
        let of = &*one.namespace;
        (of != namespace, of != &*port.service.namespace)
    })
}

/// Names what a rule says without effect.
pub(in crate::compile) fn judge(
    at: &At<'_, DestinationRule>,
    is_service: bool,
    problems: &mut Problems,
) {
    if !is_service {
        let reason = format!(
            "found `{}`, which is no Service that is known",
            at.object.spec.host
        );
        problems.error(at.located, "spec.host", reason);
    }
    let spec = &at.object.spec;
    if spec.workload_selector.is_some() {
        let reason = "is not supported; the rule, which is for some clients, is not in effect";
        problems.error(at.located, "spec.workloadSelector", reason);
    }
    if !is_for_everybody(spec) && spec.traffic_policy.is_some() {
        let reason = "accepted, not enforced for trafficPolicy, which counts for all clients";
        problems.warning(at.located, "spec.exportTo", reason);
    }
    let whole = spec.traffic_policy.as_ref();
    let whole = whole.map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let subsets = spec.subsets.iter().enumerate();
    let subsets = subsets.filter_map(|(index, subset)| {
        let policy = subset.traffic_policy.as_ref()?;
        Some((format!("spec.subsets[{index}].trafficPolicy"), policy))
    });
    for (field, policy) in whole.into_iter().chain(subsets) {
        let judgement = traffic_policy::judge(policy);
        for (inner, reason) in judgement.faults {
            problems.error(at.located, format!("{field}.{inner}"), reason);
        }
        for inner in judgement.not_enforced {
            problems.warning(at.located, format!("{field}.{inner}"), NOT_ENFORCED);
        }
    }
}

/// Whether a subset's settings for the port count alone.
fn subset_replaces(subset: &Subset, port: u16) -> bool {
    let policy = subset.traffic_policy.as_ref();
    let mut of_port = policy
        .into_iter()
        .flat_map(|policy| &policy.port_level_settings);
    of_port.any(|one| one.port.as_ref().is_some_and(|one| one.number == port))
}
