//! Sections of DestinationRules: in the model, judged by path, and said not to be enforced.

use std::time::Duration;

use super::{compile, problems, service};
use crate::model::{
    BalancePolicy, Cluster, ClusterPolicies, HashKey, HashTable, RetryShare, Severity, Snapshot,
};

fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: r, namespace: ns}}\nspec: {{host: web, {spec}}}\n---\n"
    )
}

fn with(spec: &str) -> Snapshot {
    let ports = "{name: http, port: 80}, {name: other, port: 81}";
    compile(&(service("web", 80).replace("{port: 80}", ports) + &rule(spec)))
}

pub(super) fn cluster<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Cluster {
    let mut clusters = snapshot.clusters.iter();
    clusters.find(|one| &*one.name == name).expect("a cluster")
}

fn policies(snapshot: &Snapshot) -> &ClusterPolicies {
    cluster(snapshot, "ns/web:80")
        .policies
        .as_deref()
        .expect("policies")
}

#[test]
fn every_section_is_in_the_model_and_said_not_to_be_enforced() {
    let snapshot = with(
        "trafficPolicy: {\
         outlierDetection: {consecutive5xxErrors: 7, interval: 5m, maxEjectionPercent: 100}, \
         connectionPool: {tcp: {maxConnections: 100, connectTimeout: 30ms, tcpKeepalive: {time: 7200s, interval: 75s}}, \
         http: {http2MaxRequests: 1000, maxRequestsPerConnection: 10, h2UpgradePolicy: UPGRADE}}, \
         loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}, maglev: {}}, \
         localityLbSetting: {distribute: [{from: 'a/b/*', to: {'a/b/*': 80, 'a/c/*': 20}}]}, \
         warmup: {duration: 60s, aggression: 1.5}}}",
    );
    let policies = policies(&snapshot);
    let outlier = policies.outlier.expect("outlier detection");
    assert_eq!(
        (outlier.consecutive_5xx, outlier.max_ejection_percent),
        (7, 100)
    );
    assert_eq!(outlier.interval, Duration::from_secs(300));
    assert_eq!(
        outlier.base_ejection,
        Duration::from_secs(30),
        "the default"
    );
    let connections = policies.connections.expect("limits");
    assert_eq!(connections.max_connections, Some(100));
    assert_eq!(connections.connect_timeout, Some(Duration::from_millis(30)));
    let keepalive = connections.keepalive.expect("keepalive");
    assert_eq!(
        (keepalive.probes, keepalive.time),
        (None, Some(Duration::from_secs(7_200)))
    );
    let requests = policies.requests.expect("limits");
    assert_eq!(
        (requests.max_requests, requests.upgrade_to_http2),
        (Some(1_000), Some(true))
    );
    let hash = policies.hash.as_ref().expect("a hash");
    assert_eq!(hash.table, HashTable::Maglev(65_537));
    assert!(
        matches!(&hash.key, HashKey::Cookie { name, ttl: Some(Duration::ZERO), .. } if &**name == "user")
    );
    let locality = policies.locality.as_ref().expect("localities");
    assert!(locality.enabled && locality.distribute[0].to["a/b/*"] == 80);
    let warmup = policies.warmup.expect("a warm-up");
    assert_eq!(
        (warmup.minimum_millipercent, warmup.aggression_milli),
        (10_000, 1_500)
    );
    let said = problems(&snapshot);
    for section in [
        "loadBalancer.consistentHash",
        "loadBalancer.localityLbSetting",
        "loadBalancer.warmup",
        "connectionPool.tcp",
        "connectionPool.http",
        "outlierDetection",
    ] {
        let line = format!("spec.trafficPolicy.{section}: accepted, not enforced by this version");
        assert!(
            said.iter().any(|one| one.ends_with(&line)),
            "{section}: {said:?}"
        );
    }
    assert_eq!(said.len(), 6, "{said:?}");
    assert!(
        snapshot
            .problems
            .iter()
            .all(|one| one.severity == Severity::Warning)
    );
}

#[test]
fn settings_of_a_port_count_alone_and_sections_of_a_subset_come_before_the_rules() {
    let snapshot = with(
        "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1}, \
         portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 1}}}]}, \
         subsets: [{name: v1, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 2}}}]",
    );
    let fives = |name: &str| {
        let policies = cluster(&snapshot, name).policies.as_deref();
        policies
            .and_then(|of| of.outlier)
            .map(|of| of.consecutive_5xx)
    };
    assert_eq!(fives("ns/web:80"), Some(1));
    assert_eq!(fives("ns/web:80|v1"), Some(2));
    assert_eq!(fives("ns/web:81"), None, "nothing of the rule's own");
    let balance = |name: &str| cluster(&snapshot, name).balance;
    assert_eq!(
        balance("ns/web:80|v1"),
        BalancePolicy::RoundRobin,
        "the rule's section"
    );
    assert_eq!(balance("ns/web:81"), BalancePolicy::LeastRequest);
}

#[test]
fn a_service_without_rules_has_no_policies() {
    let snapshot = compile(&service("web", 80));
    assert_eq!(cluster(&snapshot, "ns/web:80").policies, None);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_wrong_value_is_an_error_by_its_path_and_only_its_section_is_left_out() {
    for (policy, expected) in [
        (
            "outlierDetection: {maxEjectionPercent: 101}",
            "outlierDetection.maxEjectionPercent: found 101",
        ),
        (
            "outlierDetection: {consecutive5xxErrors: -1}",
            "outlierDetection.consecutive5xxErrors: found -1",
        ),
        (
            "outlierDetection: {interval: 0s}",
            "outlierDetection.interval: found 0ns, accepted: 1ms and more",
        ),
        (
            "outlierDetection: {baseEjectionTime: soon}",
            "outlierDetection.baseEjectionTime: found `soon`",
        ),
        (
            "connectionPool: {tcp: {connectTimeout: 5}}",
            "connectionPool.tcp.connectTimeout: invalid type",
        ),
        (
            "connectionPool: {tcp: {maxConnections: -5}}",
            "connectionPool.tcp.maxConnections: found -5",
        ),
        (
            "connectionPool: {tcp: {tcpKeepalive: {probes: -1}}}",
            "connectionPool.tcp.tcpKeepalive.probes: found -1",
        ),
        (
            "connectionPool: {http: {h2UpgradePolicy: NEVER}}",
            "connectionPool.http.h2UpgradePolicy: found `NEVER`",
        ),
        (
            "connectionPool: {http: {maxRetry: 1}}",
            "connectionPool.http.maxRetry: unknown field; accepted: http1MaxPendingRequests",
        ),
        (
            "tunnel: {protocol: CONNECT, targetHost: x, targetPort: 1}",
            "tunnel: is not supported",
        ),
        (
            "proxyProtocol: {version: V1}",
            "proxyProtocol: is not supported",
        ),
        (
            "loadBalancer: {simple: PASSTHROUGH}",
            "loadBalancer.simple: found `PASSTHROUGH`, accepted: ROUND_ROBIN",
        ),
        (
            "loadBalancer: {simple: FASTEST}",
            "loadBalancer.simple: found `FASTEST`",
        ),
        (
            "loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}",
            "loadBalancer.consistentHash: found simple too",
        ),
        (
            "loadBalancer: {consistentHash: {}}",
            "loadBalancer.consistentHash: accepted: one of httpHeaderName",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: x}}",
            "loadBalancer.consistentHash: accepted: one of",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {}}}",
            "loadBalancer.consistentHash.httpCookie.name: is missing",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 10}}}",
            "consistentHash.maglev.tableSize: found 10, accepted: a prime",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}, maglev: {}}}",
            "consistentHash.maglev: found ringHash too",
        ),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 99}}]}}",
            "localityLbSetting.distribute[0].to: shares of 99 together",
        ),
        (
            "loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}",
            "localityLbSetting.failover[0]: accepted",
        ),
        (
            "loadBalancer: {warmup: {aggression: 2}}",
            "loadBalancer.warmup.duration: is missing",
        ),
        (
            "loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}",
            "loadBalancer.warmup.minimumPercent: found 101",
        ),
        ("tls: {mode: SIMPLE}", "tls.mode: SIMPLE is not supported"),
        ("tls: {mode: STRICT}", "tls.mode: found `STRICT`"),
        (
            "portLevelSettings: [{outlierDetection: {interval: 0s}, port: {number: 80}}]",
            "portLevelSettings[0].outlierDetection.interval",
        ),
        (
            "portLevelSettings: [{}]",
            "portLevelSettings[0].port: is missing",
        ),
    ] {
        let snapshot = with(&format!("trafficPolicy: {{{policy}}}"));
        let errors = snapshot
            .problems
            .iter()
            .filter(|one| one.severity == Severity::Error);
        let errors: Vec<_> = errors.map(ToString::to_string).collect();
        let path = format!("spec.trafficPolicy.{expected}");
        let known = |one: &String| one.contains(&path) || one.contains(expected);
        assert!(errors.iter().any(known), "{policy}: {errors:?}");
    }
    let snapshot = with(
        "trafficPolicy: {outlierDetection: {interval: 0s}, connectionPool: {tcp: {maxConnections: 1}}}",
    );
    assert_eq!(policies(&snapshot).outlier, None);
    assert!(policies(&snapshot).connections.is_some());
}

#[test]
fn what_is_not_enforced_is_named_with_its_section() {
    let snapshot = with("trafficPolicy: {loadBalancer: {warmupDurationSecs: 10s}}");
    let said = problems(&snapshot);
    let line = "spec.trafficPolicy.loadBalancer.warmupDurationSecs: accepted, not enforced by this \
                version";
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].ends_with(line), "{said:?}");
}

#[test]
fn who_asks_for_encryption_is_told_that_there_is_none() {
    for (mode, faults) in [
        ("DISABLE", 0),
        ("SIMPLE", 1),
        ("MUTUAL", 1),
        ("ISTIO_MUTUAL", 1),
    ] {
        let snapshot = with(&format!("trafficPolicy: {{tls: {{mode: {mode}}}}}"));
        let said = problems(&snapshot);
        let named = said
            .iter()
            .filter(|one| one.contains("spec.trafficPolicy.tls.mode: "));
        assert_eq!((named.count(), said.len()), (faults, faults), "{said:?}");
    }
}

#[test]
fn a_retry_budget_is_in_effect_by_rule_and_subset() {
    let snapshot = with(
        "trafficPolicy: {retryBudget: {percent: 12.5, minRetryConcurrency: 7}, \
         portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]}, \
         subsets: [{name: v1, labels: {a: b}, trafficPolicy: {retryBudget: {percent: 0}}}]",
    );
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    for (name, expected) in [
        ("ns/web:80", (1_250, 7)),
        ("ns/web:81", (1_250, 7)),
        ("ns/web:80|v1", (0, 3)),
    ] {
        let share = cluster(&snapshot, name).retry_share;
        let found = (share.per_ten_thousand, share.min_concurrent);
        assert_eq!(found, expected, "{name}");
    }
    for percent in ["-1", "100.5"] {
        let snapshot = with(&format!(
            "trafficPolicy: {{retryBudget: {{percent: {percent}}}}}"
        ));
        let said = problems(&snapshot);
        let expected =
            format!("spec.trafficPolicy.retryBudget.percent: found {percent}, accepted: 0 to 100");
        assert!(said.len() == 1 && said[0].contains(&expected), "{said:?}");
        let share = cluster(&snapshot, "ns/web:80").retry_share;
        assert_eq!(share, RetryShare::default());
    }
}

#[test]
fn a_rule_for_some_clients_is_an_error_and_not_in_effect() {
    let policy = "trafficPolicy: {loadBalancer: {simple: RANDOM}}";
    let snapshot = with(&format!(
        "workloadSelector: {{matchLabels: {{a: b}}}}, {policy}"
    ));
    let said = problems(&snapshot);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("spec.workloadSelector: is not supported"),
        "{said:?}"
    );
    let balance = |of| cluster(of, "ns/web:80").balance;
    assert_eq!(balance(&snapshot), BalancePolicy::default());
    assert_eq!(balance(&with(policy)), BalancePolicy::Random);
}

#[test]
fn every_fault_of_a_section_is_named_at_once_and_a_port_that_is_none() {
    let snapshot = with(
        "trafficPolicy: {outlierDetection: {interval: x, maxEjectionPercent: 101, consecutive5xxErrors: -1}, \
         connectionPool: {tcp: {maxConnections: -1, idleTimeout: x}, http: {maxRetries: -1, h2UpgradePolicy: NO}}, \
         portLevelSettings: [{port: {number: 82}, loadBalancer: {simple: RANDOM}}]}",
    );
    let all = problems(&snapshot);
    let expected = [
        "outlierDetection.interval: found `x`",
        "outlierDetection.maxEjectionPercent: found 101",
        "outlierDetection.consecutive5xxErrors: found -1",
        "connectionPool.tcp.maxConnections: found -1",
        "connectionPool.tcp.idleTimeout: found `x`",
        "connectionPool.http.maxRetries: found -1",
        "connectionPool.http.h2UpgradePolicy: found `NO`",
        "portLevelSettings[0].port.number: found 82, which the Service does not have as a TCP port; \
         it has: 80, 81",
    ];
    for field in expected {
        let place = format!("spec.trafficPolicy.{field}");
        assert!(
            all.iter().any(|one| one.contains(&place)),
            "{field}: {all:#?}"
        );
    }
    assert_eq!(all.len(), expected.len(), "{all:#?}");
}
