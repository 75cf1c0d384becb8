//! DestinationRule: subsets of a Service's endpoints by their pods' labels, and how endpoints are
//! chosen.

use std::sync::Arc;

use super::host;
use crate::compile::by_key::Name;
use crate::compile::cluster_ids::ClusterIds;
use crate::compile::index::At;
use crate::compile::problems::Problems;
use crate::compile::service::{Port, PortSubset};
use crate::model::BalancePolicy;
use crate::objects::istio::{DestinationRule, LoadBalancer, TrafficPolicy};

/// Why a part of a policy has no effect.
const NOT_ENFORCED: &str = "accepted, not enforced by this version";

/// The Service that a rule is for, whether there is one or not.
pub(in crate::compile) fn service_of(at: &At<'_, DestinationRule>) -> Option<Name> {
    let service = host::parse(&at.object.spec.host, &at.located.id.namespace)?;
    Some(service.into())
}

/// Applies the rules of a Service, the oldest first, to its ports.
pub(in crate::compile) fn apply(
    rules: &[At<'_, DestinationRule>],
    ports: &mut [Port],
    ids: &mut ClusterIds,
) {
    for port in ports.iter_mut().filter(|port| port.tcp) {
        let mut policies = rules
            .iter()
            .filter_map(|at| at.object.spec.traffic_policy.as_ref());
        if let Some(chosen) = policies.find_map(|policy| balance(policy, port.number)) {
            port.balance = chosen;
        }
        for at in rules {
            let subsets = subsets(at, port, ids);
            port.subsets.extend(subsets);
        }
    }
}

fn subsets(at: &At<'_, DestinationRule>, port: &Port, ids: &mut ClusterIds) -> Vec<PortSubset> {
    let spec = &at.object.spec;
    let of = &at.located.id.namespace;
    let everybody = spec.export_to.is_empty() || spec.export_to.iter().any(|one| one == "*");
    let exported = spec.export_to.iter().map(|one| match one.as_str() {
        "." => Arc::clone(of),
        other => Arc::from(other),
    });
    let clients: Option<Vec<Arc<str>>> = (!everybody).then(|| exported.collect());
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
        let policy = subset.traffic_policy.as_ref();
        let own = policy.and_then(|policy| balance(policy, port.number));
        compiled.push(PortSubset {
            name,
            namespace: Arc::clone(of),
            clients: clients.clone(),
            labels: subset.labels.clone(),
            balance: own.unwrap_or(port.balance),
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
    name_what_is_not_enforced(at, problems);
}

/// How a policy chooses endpoints on a port: the port's own section replaces the whole.
fn balance(policy: &TrafficPolicy, port: u16) -> Option<BalancePolicy> {
    let mut of_port = policy.port_level_settings.iter();
    let of_port = of_port.find(|one| one.port.as_ref().is_some_and(|one| one.number == port));
    let section = match of_port.and_then(|one| one.load_balancer.as_ref()) {
        Some(section) => section,
        None => policy.load_balancer.as_ref()?,
    };
    algorithm(section.simple.as_deref()?)
}

/// An algorithm by its name; the others are not enforced.
fn algorithm(name: &str) -> Option<BalancePolicy> {
    match name {
        "ROUND_ROBIN" => Some(BalancePolicy::RoundRobin),
        "LEAST_REQUEST" | "LEAST_CONN" | "UNSPECIFIED" => Some(BalancePolicy::LeastRequest),
        _ => None,
    }
}

fn name_what_is_not_enforced(at: &At<'_, DestinationRule>, problems: &mut Problems) {
    let spec = &at.object.spec;
    let mut name = |field: String| problems.warning(at.located, field, NOT_ENFORCED);
    if spec.workload_selector.is_some() {
        name("spec.workloadSelector".to_owned());
    }
    let whole = spec.traffic_policy.as_ref();
    let whole = whole.map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let subsets = spec
        .subsets
        .iter()
        .enumerate()
        .filter_map(|(index, subset)| {
            let policy = subset.traffic_policy.as_ref()?;
            Some((format!("spec.subsets[{index}].trafficPolicy"), policy))
        });
    for (field, policy) in whole.into_iter().chain(subsets) {
        for part in not_enforced(policy) {
            name(format!("{field}.{part}"));
        }
    }
}

/// The parts of a policy that have no effect.
fn not_enforced(policy: &TrafficPolicy) -> Vec<String> {
    let parts = [
        ("connectionPool", policy.connection_pool.is_some()),
        ("outlierDetection", policy.outlier_detection.is_some()),
        ("tls", policy.tls.is_some()),
        ("tunnel", policy.tunnel.is_some()),
        ("proxyProtocol", policy.proxy_protocol.is_some()),
        ("retryBudget", policy.retry_budget.is_some()),
    ];
    let mut named = there(&parts, "");
    named.extend(policy.load_balancer.iter().flat_map(|of| balancer(of, "")));
    for (index, of) in policy.port_level_settings.iter().enumerate() {
        let prefix = format!("portLevelSettings[{index}].");
        let parts = [
            ("connectionPool", of.connection_pool.is_some()),
            ("outlierDetection", of.outlier_detection.is_some()),
            ("tls", of.tls.is_some()),
        ];
        named.extend(there(&parts, &prefix));
        named.extend(of.load_balancer.iter().flat_map(|of| balancer(of, &prefix)));
    }
    named
}

fn balancer(of: &LoadBalancer, prefix: &str) -> Vec<String> {
    let other = of
        .simple
        .as_deref()
        .is_some_and(|name| algorithm(name).is_none());
    let parts = [
        ("simple", other),
        ("consistentHash", of.consistent_hash.is_some()),
        ("localityLbSetting", of.locality_lb_setting.is_some()),
        ("warmupDurationSecs", of.warmup_duration_secs.is_some()),
        ("warmup", of.warmup.is_some()),
    ];
    there(&parts, &format!("{prefix}loadBalancer."))
}

fn there(parts: &[(&str, bool)], prefix: &str) -> Vec<String> {
    let there = parts.iter().filter(|(_, there)| *there);
    there.map(|(name, _)| format!("{prefix}{name}")).collect()
}
