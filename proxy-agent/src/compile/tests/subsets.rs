//! DestinationRules.

use super::{
    Compiler, Options, Origin, ask, compile, endpoints, listener, only_problem, pod, problems,
    service, set,
};
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

#[test]
fn a_rule_with_a_wildcard_is_for_every_service_that_ends_so_and_the_most_exact_counts() {
    let policy = |host: &str, simple: &str| {
        format!("host: {host}, trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}")
    };
    let wide = rule("wide", &policy("'*.local'", "RANDOM"));
    let of_ns = rule("of-ns", &policy("'*.ns.svc.cluster.local'", "ROUND_ROBIN"));
    let exact = rule("exact", &policy("web", "LEAST_REQUEST"));
    let other = service("b", 80);
    for (rules, web, b) in [
        (wide.clone(), BalancePolicy::Random, BalancePolicy::Random),
        (
            wide.clone() + &of_ns,
            BalancePolicy::RoundRobin,
            BalancePolicy::RoundRobin,
        ),
        (
            wide.clone() + &of_ns + &exact,
            BalancePolicy::LeastRequest,
            BalancePolicy::RoundRobin,
        ),
    ] {
        let snapshot = compile(&(versions() + &other + &rules));
        assert_eq!(problems(&snapshot), Vec::<String>::new(), "{rules}");
        assert_eq!(balance(&snapshot, "ns/web:80"), web, "{rules}");
        assert_eq!(balance(&snapshot, "ns/b:80"), b, "{rules}");
    }
    for (host, expected) in [
        (
            "'*.example.org'",
            "found `*.example.org`, which no Service matches",
        ),
        (
            "'*local'",
            "found `*local`, accepted: *, or *. and a suffix",
        ),
    ] {
        let snapshot = compile(&(versions() + &rule("r", &format!("host: {host}"))));
        let problem = only_problem(&snapshot);
        assert!(
            problem.contains(&format!("spec.host: {expected}")),
            "{problem}"
        );
    }
}

#[test]
fn subsets_of_a_wildcard_are_of_each_service_unless_a_rule_names_it() {
    let wide = rule(
        "wide",
        "host: '*', subsets: [{name: v1, labels: {version: v1}}]",
    );
    let snapshot = compile(&(versions() + &wide + &to_subset("v1")));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(endpoints(&snapshot, "ns/web:80|v1"), ["10.0.0.1:80"]);
    let exact = rule(
        "exact",
        "host: web, subsets: [{name: v2, labels: {version: v2}}]",
    );
    let snapshot = compile(&(versions() + &wide + &exact + &to_subset("v1")));
    assert!(only_problem(&snapshot).contains("has a subset `v1`"));
}

#[test]
fn a_wildcard_follows_what_comes_and_goes() {
    let wide = rule(
        "wide",
        "host: '*.local', subsets: [{name: v1, labels: {version: v1}}]",
    );
    let options = Options::default();
    let mut compiler = Compiler::default();
    let mut now = |text: &str| compiler.compile(&[set(text, Origin::Files)], &options);
    let route = to_subset("v1");
    let without = now(&(versions() + &route));
    assert!(only_problem(&without).contains("has a subset `v1`"));
    let snapshot = now(&(versions() + &route + &wide));
    assert_eq!(endpoints(&snapshot, "ns/web:80|v1"), ["10.0.0.1:80"]);
    let moved = versions().replace("version: v2", "version: v1");
    let snapshot = now(&(moved + &route + &wide));
    assert_eq!(endpoints(&snapshot, "ns/web:80|v1").len(), 2, "labels");
    let snapshot = now(&(versions() + &route + &wide + &service("b", 80)));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(
        endpoints(&snapshot, "ns/b:80|v1"),
        Vec::<String>::new(),
        "a new one"
    );
    let snapshot = now(&wide);
    assert!(only_problem(&snapshot).contains("which no Service matches"));
    let snapshot = now(&(versions() + &route));
    assert!(only_problem(&snapshot).contains("has a subset `v1`"));
}

#[test]
fn what_a_rule_or_an_older_one_says_before_is_named() {
    let spec = "host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}, \
                subsets: [{name: v1, labels: {version: v1}}, {name: v1}]";
    let snapshot = compile(&(versions() + &rule("a", spec)));
    let again = "ns/a: spec.subsets[1].name: found `v1` again: the first counts";
    assert!(only_problem(&snapshot).contains(again));
    let spec = spec.replace(", {name: v1}]", "]");
    let second = rule(
        "b",
        &spec.replace("host: web", "host: web.ns.svc.cluster.local"),
    );
    let snapshot = compile(&(versions() + &rule("a", &spec) + &second));
    let all = problems(&snapshot);
    assert_eq!(all.len(), 2, "{all:#?}");
    for (problem, expected) in all.iter().zip([
        "ns/b: spec.trafficPolicy: DestinationRule ns/a has one too, and counts first",
        "ns/b: spec.subsets[0].name: found `v1`, which counts as DestinationRule ns/a has it",
    ]) {
        assert!(problem.contains(expected), "{problem}");
    }
}
