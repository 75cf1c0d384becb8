//! DestinationRule: subsets of a Service's endpoints by their pods' labels, and how endpoints are
//! chosen.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::host;
use crate::compile::by_key::Key;
use crate::compile::cluster_ids::ClusterIds;
use crate::compile::index::{At, Index};
use crate::compile::problems::Problems;
use crate::compile::service::{Port, Ports};
use crate::model::{BalancePolicy, Cluster, ClusterId};
use crate::objects::istio::{DestinationRule, LoadBalancer, Subset, TrafficPolicy};

/// Why a part of a policy has no effect.
const NOT_ENFORCED: &str = "accepted, not enforced by this version";

/// The DestinationRules of each Service, the oldest first, and the subsets that routes name.
#[derive(Debug, Default)]
pub(in crate::compile) struct Rules<'a> {
    by_service: BTreeMap<Key<'a>, Vec<&'a At<'a, DestinationRule>>>,
    used: BTreeMap<Arc<str>, Used<'a>>,
}

/// A subset of one port's endpoints.
#[derive(Debug)]
struct Used<'a> {
    id: ClusterId,
    /// The port's own cluster.
    whole: Arc<str>,
    namespace: &'a str,
    subset: &'a Subset,
    balance: Option<BalancePolicy>,
}

impl<'a> Rules<'a> {
    /// Finds the Service of each rule; one that has none is named.
    pub(super) fn new(index: &'a Index<'a>, ports: &Ports<'a>, problems: &mut Problems) -> Self {
        let mut rules = Self::default();
        for at in &index.destination_rules {
            name_what_is_not_enforced(at, problems);
            match host::service(&at.object.spec.host, &at.located.id.namespace, ports) {
                Ok(service) => rules.by_service.entry(service).or_default().push(at),
                Err(reason) => problems.error(at.located, "spec.host", reason),
            }
        }
        rules
    }

    /// The cluster of a subset that a route in `namespace` names.
    ///
    /// # Errors
    /// A reason for the user.
    pub(super) fn subset(
        &mut self,
        name: &str,
        service: Key<'a>,
        port: &Port<'a>,
        namespace: &str,
        ids: &mut ClusterIds,
    ) -> Result<ClusterId, String> {
        let rules = self.by_service.get(&service).map(Vec::as_slice);
        let visible = rules.unwrap_or_default().iter();
        let mut visible: Vec<_> = visible.filter(|at| is_visible(at, namespace)).collect();
        // As Istio looks them up: of the client, of the Service, of anybody.
        visible.sort_by_key(|at| {
            let own = &*at.located.id.namespace;
            (own != namespace, own != service.0)
        });
        let mut found = visible.iter().flat_map(|at| {
            let subsets = at.object.spec.subsets.iter();
            subsets.map(move |subset| (at, subset))
        });
        let (at, subset) = found
            .find(|(_, subset)| subset.name == name)
            .ok_or_else(|| {
                let (of, service) = service;
                format!("no DestinationRule of Service {of}/{service} has a subset `{name}`")
            })?;
        let of = &*at.located.id.namespace;
        // Rules of several namespaces may mean different pods by one name.
        let cluster: Arc<str> = if of == service.0 {
            format!("{}|{name}", port.cluster).into()
        } else {
            format!("{}|{name}@{of}", port.cluster).into()
        };
        let id = ids.id(&cluster);
        let policy = subset.traffic_policy.as_ref();
        let balance = policy.and_then(|policy| balance(policy, port.number));
        self.used.entry(cluster).or_insert_with(|| Used {
            id,
            whole: Arc::clone(&port.cluster),
            namespace: service.0,
            subset,
            balance,
        });
        Ok(id)
    }

    /// Applies the rules to the clusters of whole ports, and adds those of the subsets that routes
    /// name.
    pub(in crate::compile) fn apply(self, index: &Index<'_>, clusters: &mut Vec<Cluster>) {
        for cluster in clusters.iter_mut() {
            let key = (&*cluster.namespace, &*cluster.service);
            let rules = self.by_service.get(&key).map(Vec::as_slice);
            let mut policies = rules
                .unwrap_or_default()
                .iter()
                .filter_map(|at| at.object.spec.traffic_policy.as_ref());
            let port = cluster.port;
            if let Some(chosen) = policies.find_map(|policy| balance(policy, port)) {
                cluster.balance = chosen;
            }
        }
        for (name, used) in self.used {
            let whole = clusters.iter().find(|cluster| cluster.name == used.whole);
            let subset = whole.map(|whole| used.cluster(name, whole, index));
            clusters.extend(subset);
        }
    }
}

impl Used<'_> {
    fn cluster(&self, name: Arc<str>, whole: &Cluster, index: &Index<'_>) -> Cluster {
        let labels = &self.subset.labels;
        let pods: HashSet<String> = index
            .selected(self.namespace, labels)
            .map(|at| format!("{}/{}", at.located.id.namespace, at.located.id.name))
            .collect();
        let of_subset = |pod: &Option<Arc<str>>| {
            labels.is_empty() || pod.as_ref().is_some_and(|pod| pods.contains(&**pod))
        };
        let endpoints = whole.endpoints.iter();
        Cluster {
            id: self.id,
            name,
            balance: self.balance.unwrap_or(whole.balance),
            endpoints: endpoints
                .filter(|one| of_subset(&one.pod))
                .cloned()
                .collect(),
            ..whole.clone()
        }
    }
}

fn is_visible(at: &At<'_, DestinationRule>, namespace: &str) -> bool {
    let export_to = &at.object.spec.export_to;
    export_to.is_empty()
        || export_to.iter().any(|one| match one.as_str() {
            "*" => true,
            "." => &*at.located.id.namespace == namespace,
            other => other == namespace,
        })
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
