//! DestinationRule: subsets of a Service's endpoints by their pods' labels, and how endpoints are
//! used.

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
        for at in &rules {
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

/// Names what a rule says without effect.
pub(in crate::compile) fn judge(
    at: &At<'_, DestinationRule>,
    ports: Option<&[Port]>,
    problems: &mut Problems,
) {
    if ports.is_none() {
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
    let mut ports = ports.unwrap_or_default().iter();
    if ports.any(|port| port.mode == Some(Mode::Direct) && !port.own_policies.is_empty()) {
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
