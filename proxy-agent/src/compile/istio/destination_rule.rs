//! DestinationRule: subsets of a Service's endpoints by their pods' labels, and how endpoints are
//! used.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::traffic_policy::Sections;
use super::visibility::{self, is_for_everybody};
use super::{host, service_entry, traffic_policy};
use crate::compile::by_key::Name;
use crate::compile::cluster_ids::ClusterIds;
use crate::compile::direct::Mode;
use crate::compile::index::At;
use crate::compile::problems::Problems;
use crate::compile::service::{Port, PortSubset};
use crate::model::{BalancePolicy, ClientPolicy, ClusterPolicies};
use crate::objects::istio::{DestinationRule, Subset};

/// Why a part of a policy has no effect.
const NOT_ENFORCED: &str = "accepted, not enforced by this version";

/// The Services that a rule may be for, whether there is one or not: the host of a ServiceEntry has
/// no namespace.
pub(in crate::compile) fn services_of(at: &At<'_, DestinationRule>) -> Vec<Name> {
    if at.object.spec.host.starts_with('*') {
        return Vec::new();
    }
    let host = service_entry::normal(&at.object.spec.host);
    let service = host::parse(&at.object.spec.host, &at.located.id.namespace);
    let external = host.contains('.').then(|| Name::from(("", &*host)));
    external
        .into_iter()
        .chain(service.map(Name::from))
        .collect()
}

/// What the full names of the Services end with that a rule with a wildcard is for.
pub(in crate::compile) fn wildcard_of(at: &At<'_, DestinationRule>) -> Option<Arc<str>> {
    let host = service_entry::normal(&at.object.spec.host);
    host::suffix(&host)?.ok().map(Arc::from)
}

/// How exactly a rule names the Services that it is for.
pub(super) fn exactness(at: &At<'_, DestinationRule>) -> usize {
    wildcard_of(at).map_or(usize::MAX, |suffix| suffix.len())
}

/// Applies the rules of a Service, the oldest first, to its ports.
pub(in crate::compile) fn apply(
    rules: &[At<'_, DestinationRule>],
    ports: &mut [Port],
    ids: &mut ClusterIds,
) {
    // What is for some pods must not be for all.
    let all = rules.iter();
    let rules: Vec<_> = all
        .filter(|at| at.object.spec.workload_selector.is_none())
        .collect();
    let clients = visibility::clients(&rules);
    for port in ports.iter_mut().filter(|port| port.tcp) {
        let service = Arc::clone(&port.service.namespace);
        let sections = |client: Option<&str>| {
            let rules = visibility::of_client(&rules, client, &service);
            let policies = rules
                .iter()
                .map(|at| at.object.spec.traffic_policy.as_ref());
            let own = policies.map(|policy| Sections::of(policy, port.number));
            own.fold(Sections::default(), Sections::or)
        };
        let whole = sections(None);
        let everybodys = policy(&whole, port);
        let own = clients.iter().filter_map(|client| {
            let own = policy(&sections(Some(client)), port);
            (own != everybodys).then(|| (Arc::clone(client), own))
        });
        port.own_policies = own.collect();
        port.policies = shared(whole.policies());
        (port.balance, port.retry_share) = (everybodys.balance, everybodys.retry_share);
        for at in rules.iter().filter(|at| !visibility::is_hidden(at, &rules)) {
            let subsets = subsets(at, port, ids);
            port.subsets.extend(subsets);
        }
    }
}

fn policy(sections: &Sections<'_>, port: &Port) -> ClientPolicy {
    // What the client chose stays so: Istio's resolution NONE knows no other balancer.
    let chosen = sections
        .balance()
        .filter(|_| port.balance != BalancePolicy::AsAsked);
    ClientPolicy {
        balance: chosen.unwrap_or(port.balance),
        retry_share: sections.retry_share().unwrap_or(port.retry_share),
    }
}

fn shared(policies: ClusterPolicies) -> Option<Arc<ClusterPolicies>> {
    (!policies.is_empty()).then(|| Arc::new(policies))
}

fn subsets(at: &At<'_, DestinationRule>, port: &Port, ids: &mut ClusterIds) -> Vec<PortSubset> {
    let spec = &at.object.spec;
    let of = &at.located.id.namespace;
    let clients = (!is_for_everybody(spec)).then(|| visibility::exported(at).collect::<Vec<_>>());
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
        let policy = policy(&all, port);
        compiled.push(PortSubset {
            name,
            namespace: Arc::clone(of),
            clients: clients.clone(),
            labels: subset.labels.clone(),
            balance: policy.balance,
            retry_share: policy.retry_share,
            policies: shared(all.policies()),
            id: ids.id(&cluster),
            cluster,
        });
    }
    compiled
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

/// Names what a rule says without effect; `others` are the rules of its host that count before it.
pub(in crate::compile) fn judge(
    at: &At<'_, DestinationRule>,
    services: &[&[Port]],
    others: &[At<'_, DestinationRule>],
    problems: &mut Problems,
) {
    let host = &at.object.spec.host;
    if services.is_empty() {
        let reason = match host::suffix(host) {
            Some(Err(reason)) => reason,
            Some(Ok(_)) => format!("found `{host}`, which no Service matches"),
            None => format!("found `{host}`, which is no Service that is known"),
        };
        problems.error(at.located, "spec.host", reason);
    }
    name_the_outdone(at, others, problems);
    let spec = &at.object.spec;
    if spec.workload_selector.is_some() {
        let reason = "is not supported; the rule, which is for some clients, is not in effect";
        problems.error(at.located, "spec.workloadSelector", reason);
    }
    let ports = || services.iter().copied().flatten();
    let numbers = ports().filter(|port| port.tcp).map(|port| port.number);
    let numbers: BTreeSet<u16> = numbers.collect();
    if ports().any(|port| port.mode == Some(Mode::Direct) && !port.own_policies.is_empty()) {
        let reason =
            "direct connections (annotation mode) are balanced the same way for all clients";
        problems.warning(at.located, "spec.trafficPolicy.loadBalancer", reason);
    }
    let whole = spec.traffic_policy.as_ref();
    let whole = whole.map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let subsets = spec.subsets.iter().enumerate();
    let subsets = subsets.filter_map(|(index, subset)| {
        let policy = subset.traffic_policy.as_ref()?;
        Some((format!("spec.subsets[{index}].trafficPolicy"), policy))
    });
    for (field, policy) in whole.into_iter().chain(subsets) {
        let judgement = traffic_policy::judge(policy, &numbers);
        for (inner, reason) in judgement.faults {
            problems.error(at.located, format!("{field}.{inner}"), reason);
        }
        for inner in judgement.not_enforced {
            problems.warning(at.located, format!("{field}.{inner}"), NOT_ENFORCED);
        }
        for (inner, reason) in judgement.without_effect {
            problems.warning(at.located, format!("{field}.{inner}"), reason);
        }
    }
}

/// Names what another rule, or the rule itself, has said before: the first counts.
fn name_the_outdone(
    at: &At<'_, DestinationRule>,
    others: &[At<'_, DestinationRule>],
    problems: &mut Problems,
) {
    let spec = &at.object.spec;
    if spec.traffic_policy.is_some()
        && let Some(other) = (others.iter()).find(|one| one.object.spec.traffic_policy.is_some())
    {
        let reason = format!(
            "DestinationRule {} has one too, and counts first",
            name(other)
        );
        problems.warning(at.located, "spec.trafficPolicy", reason);
    }
    for (index, subset) in spec.subsets.iter().enumerate() {
        let is = |one: &Subset| one.name == subset.name;
        let mut others = others.iter();
        let reason = if spec.subsets.iter().take(index).any(is) {
            format!("found `{}` again: the first counts", subset.name)
        } else if let Some(other) = others.find(|one| one.object.spec.subsets.iter().any(is)) {
            let other = name(other);
            format!(
                "found `{}`, which counts as DestinationRule {other} has it",
                subset.name
            )
        } else {
            continue;
        };
        problems.warning(at.located, format!("spec.subsets[{index}].name"), reason);
    }
}

fn name(at: &At<'_, DestinationRule>) -> String {
    let (namespace, name) = at.key();
    format!("{namespace}/{name}")
}

/// Whether a subset's settings for the port count alone.
fn subset_replaces(subset: &Subset, port: u16) -> bool {
    let policy = subset.traffic_policy.as_ref();
    let mut of_port = policy
        .into_iter()
        .flat_map(|policy| &policy.port_level_settings);
    of_port.any(|one| one.port.as_ref().is_some_and(|one| one.number == port))
}
