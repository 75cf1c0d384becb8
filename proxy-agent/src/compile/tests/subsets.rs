//! DestinationRules.

use super::{ask, compile, endpoints, listener, only_problem, pod, problems, service};
use crate::model::{BalancePolicy, Snapshot};

fn rule(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {name}, namespace: ns}}\nspec: {{{spec}}}\n---\n"
    )
}

fn to_subset(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: v, namespace: ns}}\n\
         spec: {{hosts: [web], http: [{{route: [{{destination: {{host: web, subset: {name}}}}}]}}]}}\n---\n"
    )
}

/// Service `web` with an endpoint for each version.
fn versions() -> String {
    let versioned = |version: &str, ip: &str| {
        let labels = format!("labels: {{version: {version}, tier: web, ");
        pod(version, ip).replacen("labels: {", &labels, 1)
    };
    let web = service("web", 80).replacen("spec: {", "spec: {selector: {tier: web}, ", 1);
    web + &versioned("v1", "10.0.0.1") + &versioned("v2", "10.0.0.2")
}

const SUBSETS: &str = "subsets: [{name: v1, labels: {version: v1}}, {name: all}, \
                       {name: v3, labels: {version: v3}}]";

fn balance(snapshot: &Snapshot, cluster: &str) -> BalancePolicy {
    let mut clusters = snapshot.clusters.iter();
    let found = clusters.find(|one| &*one.name == cluster);
    found.expect("a cluster").balance
}

#[test]
fn a_subset_is_the_endpoints_whose_pods_carry_its_labels() {
    let spec = format!("host: web, {SUBSETS}");
    let snapshot = compile(&(versions() + &rule("r", &spec) + &to_subset("v1")));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let table = &listener(&snapshot, "web", 80).routes;
    assert_eq!(ask(table, &snapshot, "GET /"), "ns/web:80|v1*1");
    for (cluster, expected) in [
        ("ns/web:80|v1", vec!["10.0.0.1:80"]),
        ("ns/web:80|all", vec!["10.0.0.1:80", "10.0.0.2:80"]),
        ("ns/web:80|v3", vec![]),
        ("ns/web:80", vec!["10.0.0.1:80", "10.0.0.2:80"]),
    ] {
        assert_eq!(endpoints(&snapshot, cluster), expected, "{cluster}");
    }
}

#[test]
fn a_subset_of_slices_goes_by_their_pods() {
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: {name: s, namespace: ns, labels: {kubernetes.io/service-name: web}}\n\
        addressType: IPv4\nports: [{port: 8080}]\n\
        endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: v1}}, \
        {addresses: [10.0.0.2], targetRef: {kind: Pod, name: v2}}, {addresses: [10.0.0.3]}]\n---\n";
    let spec = format!("host: web.ns.svc.cluster.local, {SUBSETS}");
    let snapshot = compile(&(versions() + slice + &rule("r", &spec) + &to_subset("v1")));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(endpoints(&snapshot, "ns/web:80|v1"), ["10.0.0.1:8080"]);
}

#[test]
fn a_subset_that_nobody_defines_is_named() {
    let spec = format!("host: web, {SUBSETS}");
    for (rules, name) in [
        (rule("r", &spec), "v9"),
        (String::new(), "v1"),
        (rule("r", &format!("{spec}, exportTo: [other]")), "v1"),
    ] {
        let snapshot = compile(&(versions() + &rules + &to_subset(name)));
        let problem = only_problem(&snapshot);
        let expected = format!(
            "spec.http[0].route[0].destination.subset: no DestinationRule of Service ns/web has a subset `{name}`"
        );
        assert!(problem.contains(&expected), "{problem}");
        let table = &listener(&snapshot, "web", 80).routes;
        assert_eq!(ask(table, &snapshot, "GET /"), "invalid*1");
    }
}

#[test]
fn simple_balancers_are_in_effect_by_service_subset_and_port() {
    let spec = "host: web, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, \
        subsets: [{name: v1, labels: {version: v1}}, \
        {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}}]";
    let snapshot = compile(&(versions() + &rule("r", spec)));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    for (cluster, expected) in [
        ("ns/web:80", BalancePolicy::RoundRobin),
        ("ns/web:80|v1", BalancePolicy::RoundRobin),
        ("ns/web:80|v2", BalancePolicy::LeastRequest),
    ] {
        assert_eq!(balance(&snapshot, cluster), expected, "{cluster}");
    }
    let spec = "host: web, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}";
    let snapshot = compile(&(versions() + &rule("r", spec)));
    assert_eq!(balance(&snapshot, "ns/web:80"), BalancePolicy::RoundRobin);
}

#[test]
fn what_is_not_enforced_is_named_section_by_section() {
    let spec = "host: web, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}, \
        outlierDetection: {consecutive5xxErrors: 1}, loadBalancer: {consistentHash: {useSourceIp: true}}}";
    let snapshot = compile(&(versions() + &rule("r", spec)));
    let problems = problems(&snapshot);
    for field in [
        "connectionPool.tcp",
        "outlierDetection",
        "loadBalancer.consistentHash",
    ] {
        let expected = format!("spec.trafficPolicy.{field}: accepted, not enforced");
        assert!(
            problems.iter().any(|one| one.contains(&expected)),
            "{problems:#?}"
        );
    }
    assert_eq!(problems.len(), 3, "{problems:#?}");
    let snapshot = compile(&rule("r", "host: gone"));
    assert!(only_problem(&snapshot).contains("spec.host: found `gone`"));
    let snapshot =
        compile(&(versions() + &rule("r", "host: web, trafficPolicy: {tls: {}, sizes: 1}")));
    assert!(only_problem(&snapshot).contains("spec.trafficPolicy.sizes: unknown field"));
}
