//! ServiceEntries: hosts as services of their own.

use std::net::IpAddr;
use std::sync::Arc;

use super::{ask, compile, endpoints, listener, pod, problems, service, set};
use crate::compile::{Compiler, Options};
use crate::model::{BalancePolicy, ListenerProtocol, ListenerVerdict, Place, Snapshot};
use crate::objects::{ObjectSet, Origin, Resolution};

fn entry(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: ns}}\nspec: {{{spec}}}\n---\n"
    )
}

const HTTP: &str = "ports: [{number: 80, name: web, protocol: HTTP, targetPort: 8080}]";
const STATIC: &str = "resolution: STATIC, endpoints: [{address: 10.9.0.1, labels: {v: v1}}, \
                      {address: 10.9.0.2, ports: {web: 81}, labels: {v: v2}, locality: a/b/c}]";

/// What DNS says, as its source holds it.
fn dns(names: &[(&str, &[&str])]) -> Arc<ObjectSet> {
    let mut set = ObjectSet::unsynced("dns".into(), Origin::Cluster);
    let place = Place {
        source: "dns".into(),
        line: 0,
    };
    let one = |(name, addresses): &(&str, &[&str])| {
        let addresses = addresses
            .iter()
            .map(|text| text.parse::<IpAddr>().expect("an address"));
        let name = Arc::from(*name);
        Arc::new(Resolution::located(
            &name,
            place.clone(),
            addresses.collect(),
        ))
    };
    set.objects = names.iter().map(one).collect();
    Arc::new(set)
}

fn resolved(text: &str, names: &[(&str, &[&str])]) -> Snapshot {
    let sets = [set(text, Origin::Files), dns(names)];
    Compiler::default().compile(&sets, &Options::default())
}

fn addresses(snapshot: &Snapshot, host: &str, port: u16) -> Vec<String> {
    let addresses = listener(snapshot, host, port).addresses.iter();
    addresses.map(ToString::to_string).collect()
}

fn lookups(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.lookups.iter().map(|name| &**name).collect()
}

#[test]
fn static_endpoints_serve_the_addresses_that_are_given() {
    let spec =
        format!("hosts: [Api.Example.org], addresses: [10.8.0.1, fd00::1/128], {HTTP}, {STATIC}");
    let snapshot = compile(&entry("e", &spec));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(
        addresses(&snapshot, "api.example.org", 80),
        ["10.8.0.1:80", "[fd00::1]:80"]
    );
    let cluster = "ns/api.example.org:80";
    assert_eq!(
        endpoints(&snapshot, cluster),
        ["10.9.0.1:8080", "10.9.0.2:81"]
    );
    let listener = listener(&snapshot, "api.example.org", 80);
    assert_eq!(
        listener.verdict,
        ListenerVerdict::Proxy(ListenerProtocol::Http)
    );
    let second = snapshot
        .cluster(listener.cluster)
        .map(|one| one.endpoints[1].zone.clone());
    assert_eq!(second, Some(Some("b".into())));
    assert_eq!(lookups(&snapshot), Vec::<&str>::new());
    assert_eq!(snapshot.objects, 1);
}

#[test]
fn without_addresses_clients_come_by_what_the_host_resolves_to() {
    let spec = format!("hosts: [api.example.org], {HTTP}, {STATIC}");
    let text = entry("e", &spec);
    let snapshot = compile(&text);
    assert_eq!(lookups(&snapshot), ["api.example.org"]);
    assert_eq!(
        addresses(&snapshot, "api.example.org", 80),
        Vec::<String>::new()
    );
    let snapshot = resolved(&text, &[("api.example.org", &["192.0.2.1", "192.0.2.2"])]);
    assert_eq!(
        addresses(&snapshot, "api.example.org", 80),
        ["192.0.2.1:80", "192.0.2.2:80"]
    );
    assert_eq!(
        endpoints(&snapshot, "ns/api.example.org:80"),
        ["10.9.0.1:8080", "10.9.0.2:81"]
    );
    assert_eq!(
        snapshot.objects, 1,
        "what DNS says is no object of the user's"
    );
}

#[test]
fn names_are_resolved_to_endpoints() {
    let own = entry(
        "e",
        &format!("hosts: [api.example.org], resolution: DNS, {HTTP}"),
    );
    let names = [
        ("api.example.org", &["192.0.2.1"][..]),
        ("b.example.org", &["192.0.2.9"]),
    ];
    let snapshot = resolved(&own, &names);
    assert_eq!(
        endpoints(&snapshot, "ns/api.example.org:80"),
        ["192.0.2.1:8080"]
    );
    assert_eq!(
        addresses(&snapshot, "api.example.org", 80),
        ["192.0.2.1:80"]
    );
    let spec = format!(
        "hosts: [api.example.org], addresses: [10.8.0.1], resolution: DNS, {HTTP}, \
         endpoints: [{{address: b.example.org, ports: {{web: 9}}}}, {{address: 192.0.2.5}}]"
    );
    let snapshot = resolved(&entry("e", &spec), &names);
    assert_eq!(lookups(&snapshot), ["b.example.org"]);
    let found = endpoints(&snapshot, "ns/api.example.org:80");
    assert_eq!(found, ["192.0.2.5:8080", "192.0.2.9:9"]);
    assert_eq!(addresses(&snapshot, "api.example.org", 80), ["10.8.0.1:80"]);
}

#[test]
fn a_change_of_the_answer_moves_addresses_and_endpoints() {
    let text = entry(
        "e",
        &format!("hosts: [api.example.org], resolution: DNS, {HTTP}"),
    );
    let mut compiler = Compiler::default();
    let files = set(&text, Origin::Files);
    let mut compiled = |addresses: &[&str]| {
        let sets = [Arc::clone(&files), dns(&[("api.example.org", addresses)])];
        compiler.compile(&sets, &Options::default())
    };
    let before = compiled(&["192.0.2.1"]);
    let after = compiled(&["192.0.2.2", "192.0.2.3"]);
    let port = |snapshot: &Snapshot| listener(snapshot, "api.example.org", 80).cluster;
    assert_eq!(port(&before), port(&after), "the same cluster");
    assert_eq!(
        endpoints(&after, "ns/api.example.org:80"),
        ["192.0.2.2:8080", "192.0.2.3:8080"]
    );
    assert_eq!(
        addresses(&after, "api.example.org", 80),
        ["192.0.2.2:80", "192.0.2.3:80"]
    );
    assert_eq!(after.by_address.len(), 2);
}

#[test]
fn pods_that_are_selected_are_endpoints() {
    let spec = format!(
        "hosts: [vm.example.org], addresses: [10.8.0.1], resolution: STATIC, {HTTP}, \
         workloadSelector: {{labels: {{app: web}}}}"
    );
    let pods = pod("web", "10.1.0.1") + &pod("other", "10.1.0.2");
    let snapshot = compile(&(entry("e", &spec) + &pods));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(
        endpoints(&snapshot, "ns/vm.example.org:80"),
        ["10.1.0.1:8080"]
    );
}

#[test]
fn routes_and_rules_apply_to_hosts_of_entries() {
    let spec = format!("hosts: [api.example.org], addresses: [10.8.0.1], {HTTP}, {STATIC}");
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: d, namespace: other}\n\
                spec: {host: api.example.org, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, \
                subsets: [{name: v2, labels: {v: v2}}]}\n---\n";
    let route = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                 metadata: {name: v, namespace: other}\n\
                 spec: {hosts: [api.example.org, web.ns], http: [{route: [{destination: \
                 {host: api.example.org, subset: v2}}]}]}\n---\n";
    let text = entry("e", &spec) + rule + route + &service("web", 80);
    let snapshot = compile(&text);
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    for host in ["api.example.org", "web"] {
        let table = &listener(&snapshot, host, 80).routes;
        assert_eq!(
            ask(table, &snapshot, "GET /"),
            "ns/api.example.org:80|v2@other*1"
        );
    }
    assert_eq!(
        endpoints(&snapshot, "ns/api.example.org:80|v2@other"),
        ["10.9.0.2:81"]
    );
    let wild = route.replace("[api.example.org, web.ns]", "['*.example.org']");
    let snapshot = compile(&(entry("e", &spec) + rule + &wild));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let table = &listener(&snapshot, "api.example.org", 80).routes;
    assert_eq!(
        ask(table, &snapshot, "GET /"),
        "ns/api.example.org:80|v2@other*1"
    );
}

#[test]
fn an_entry_is_seen_where_it_is_exported_to() {
    let spec = format!(
        "hosts: [api.example.org], exportTo: ['.', shop], addresses: [10.8.0.1], {HTTP}, {STATIC}"
    );
    let route = |namespace: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: v, namespace: {namespace}}}\n\
             spec: {{hosts: [api.example.org], http: [{{directResponse: {{status: 200}}}}]}}\n---\n"
        )
    };
    let snapshot = compile(&(entry("e", &spec) + &route("shop")));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let seen = listener(&snapshot, "api.example.org", 80);
    assert!(seen.is_for("ns") && seen.is_for("shop") && !seen.is_for("other"));
    let snapshot = compile(&(entry("e", &spec) + &route("other")));
    assert!(problems(&snapshot)[0].contains("spec.hosts[0]: found `api.example.org`"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_wrong_part_is_named_by_its_path() {
    let base = format!("hosts: [a.org], addresses: [10.8.0.1], {STATIC}");
    for (spec, expected) in [
        (
            format!("addresses: [10.8.0.1], {HTTP}, {STATIC}"),
            "spec.hosts: is missing",
        ),
        (
            format!("hosts: ['*.a.org'], {HTTP}, {STATIC}"),
            "spec.hosts[0]: found `*.a.org`, whose connections",
        ),
        (
            format!("hosts: [a_b:80], addresses: [10.8.0.1], {HTTP}, {STATIC}"),
            "spec.hosts[0]: found `a_b:80`",
        ),
        (
            format!("hosts: [a.org], addresses: [10.0.0.0/8], {HTTP}, {STATIC}"),
            "spec.addresses[0]: found `10.0.0.0/8`, a range",
        ),
        (base.clone(), "spec.ports: is missing"),
        (
            format!("{base}, ports: [{{number: 0, name: web}}]"),
            "spec.ports[0].number: found 0",
        ),
        (
            format!("{base}, ports: [{{number: 80, name: web, protocol: UDP}}]"),
            "spec.ports[0].protocol: found `UDP`",
        ),
        (
            format!("{base}, ports: [{{number: 80, name: web}}, {{number: 80, name: x}}]"),
            "spec.ports[1].number: stands twice",
        ),
        (
            format!("{base}, {HTTP}, location: MOON"),
            "spec.location: found `MOON`",
        ),
        (
            format!("hosts: [a.org], {HTTP}, resolution: MAGIC"),
            "spec.resolution: found `MAGIC`",
        ),
        (
            format!("hosts: [a.org], {HTTP}, resolution: STATIC, endpoints: [{{address: b.org}}]"),
            "spec.endpoints[0].address: found `b.org`, expected an IP address",
        ),
        (
            format!(
                "hosts: [a.org], {HTTP}, resolution: DNS, endpoints: [{{address: 'unix:///x'}}]"
            ),
            "spec.endpoints[0].address: found `unix:///x`",
        ),
        (
            format!(
                "hosts: [a.org], {HTTP}, resolution: STATIC, endpoints: [{{address: 10.0.0.1, ports: {{x: 1}}}}]"
            ),
            "spec.endpoints[0].ports[x]: is the name of no port",
        ),
        (
            format!("hosts: [a.org], {HTTP}, endpoints: [{{address: 10.0.0.1}}]"),
            "spec.endpoints: accepted: with resolution STATIC or DNS",
        ),
        (
            format!(
                "hosts: [a.org], {HTTP}, resolution: DNS, workloadSelector: {{labels: {{a: b}}}}"
            ),
            "spec.workloadSelector: accepted: with resolution STATIC",
        ),
        (
            format!("hosts: [a.org], {HTTP}, resolution: STATIC"),
            "spec.endpoints: is missing",
        ),
        (
            format!("{base}, {HTTP}, subjectAltNames: [x]"),
            "spec.subjectAltNames: accepted, not enforced",
        ),
        (
            format!("{base}, {HTTP}, colour: red"),
            "spec.colour: unknown field",
        ),
    ] {
        let snapshot = compile(&entry("e", &spec));
        let said = problems(&snapshot);
        assert!(
            said.iter().any(|one| one.contains(expected)),
            "{spec}: {said:?}"
        );
    }
}

#[test]
fn endpoints_have_the_weights_that_are_written() {
    let spec = format!(
        "hosts: [a.org], addresses: [10.8.0.1], {HTTP}, resolution: STATIC, endpoints: \
         [{{address: 10.9.0.1, weight: 9}}, {{address: 10.9.0.2}}, {{address: 10.9.0.3, weight: 0}}]"
    );
    let snapshot = compile(&entry("e", &spec));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let cluster = snapshot.cluster(listener(&snapshot, "a.org", 80).cluster);
    let endpoints = &cluster.expect("a cluster").endpoints;
    let weights: Vec<_> = endpoints.iter().map(|one| one.weight).collect();
    assert_eq!(weights, [9, 1, 1]);
}

#[test]
fn the_clients_choice_is_kept_without_a_resolution_whatever_a_rule_says() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: d, namespace: ns}\n\
                spec: {host: a.org, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n---\n";
    for (resolution, expected) in [
        ("NONE", BalancePolicy::AsAsked),
        (
            "STATIC, endpoints: [{address: 10.9.0.1}]",
            BalancePolicy::Random,
        ),
    ] {
        let spec = format!(
            "hosts: [a.org], addresses: [10.8.0.1, 10.8.0.2], {HTTP}, resolution: {resolution}"
        );
        let snapshot = compile(&(entry("e", &spec) + rule));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        let cluster = snapshot.cluster(listener(&snapshot, "a.org", 80).cluster);
        assert_eq!(cluster.map(|one| one.balance), Some(expected));
    }
}

#[test]
fn of_two_entries_for_a_host_the_older_decides() {
    let spec = |address: &str| {
        format!(
            "hosts: [a.org], addresses: [{address}], {HTTP}, resolution: STATIC, endpoints: [{{address: 10.9.0.1}}]"
        )
    };
    let old = entry("z", &spec("10.8.0.2")).replace(
        "namespace: ns",
        "namespace: ns, creationTimestamp: '2020-01-01T00:00:00Z'",
    );
    let snapshot = compile(&(entry("e", &spec("10.8.0.1")) + &old));
    assert_eq!(addresses(&snapshot, "a.org", 80), ["10.8.0.2:80"]);
    let said = problems(&snapshot);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains(
            "ns/e: spec.hosts[0]: `a.org` is ServiceEntry.networking.istio.io ns/z's already"
        ),
        "{said:?}"
    );
}
