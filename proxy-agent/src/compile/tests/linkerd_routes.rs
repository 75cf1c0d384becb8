//! Linkerd's own HTTPRoute, and what it shares with Gateway API's.

use std::time::Duration;

use super::{ask, compile, listener, only_problem, problems, service};
use crate::model::Snapshot;

fn route(version: &str, parent: &str, rules: &str) -> String {
    format!(
        "apiVersion: policy.linkerd.io/{version}\nkind: HTTPRoute\n\
         metadata: {{name: r, namespace: ns}}\n\
         spec: {{parentRefs: [{{kind: Service, name: web, {parent}}}], rules: [{rules}]}}\n---\n"
    )
}

fn with(route: &str) -> Snapshot {
    compile(&(service("web", 80) + &service("b", 80) + route))
}

fn answers(snapshot: &Snapshot, line: &str) -> String {
    ask(&listener(snapshot, "web", 80).routes, snapshot, line)
}

const RULE: &str = "{matches: [{path: {value: /a}}], timeouts: {request: 1s, backendRequest: 500ms}, \
                    backendRefs: [{name: web, port: 80, weight: 3}, {name: b, port: 80}]}";

#[test]
fn every_version_routes_whichever_way_the_core_group_is_written() {
    for version in ["v1beta1", "v1beta2", "v1beta3"] {
        for group in ["group: ''", "group: core"] {
            let snapshot = with(&route(version, group, RULE));
            assert_eq!(problems(&snapshot), Vec::<String>::new());
            assert_eq!(answers(&snapshot, "GET /a/x"), "ns/web:80*3 ns/b:80*1");
            assert_eq!(answers(&snapshot, "GET /b"), "404");
            let timeouts = listener(&snapshot, "web", 80).routes.rules[0].timeouts;
            assert_eq!(timeouts.request, Some(Duration::from_secs(1)));
            let [parent] = &snapshot.route_parents[..] else {
                panic!("one parent: {:?}", snapshot.route_parents);
            };
            assert!(parent.accepted.status && parent.resolved_refs.status);
            assert_eq!(&*parent.route.group, "policy.linkerd.io");
        }
    }
}

#[test]
fn routes_of_servers_are_not_the_meshs() {
    let of = |parent: &str| {
        let text = route("v1beta3", "group: ''", RULE);
        with(&text.replace("{kind: Service, name: web, group: ''}", parent))
    };
    let gateways = of("{name: web}");
    assert_eq!(problems(&gateways), Vec::<String>::new());
    let servers = of("{group: policy.linkerd.io, kind: Server, name: web}");
    let problem = only_problem(&servers);
    let expected = "spec.parentRefs[0].kind: found a Server of policy.linkerd.io: inbound policy";
    assert!(problem.contains(expected), "{problem}");
    for snapshot in [gateways, servers] {
        assert_eq!(answers(&snapshot, "GET /a"), "ns/web:80*1");
    }
}

#[test]
fn a_rule_without_destinations_goes_to_the_service_itself() {
    let rule = "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: y}]}}]}";
    let snapshot = with(&route("v1beta3", "group: core", rule));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(answers(&snapshot, "GET /"), "ns/web:80*1");
}

#[test]
fn what_this_kind_does_not_know_is_refused_by_name() {
    for (rule, expected) in [
        (
            "{retry: {attempts: 1}}",
            "spec.rules[0].retry: unknown field; accepted: matches",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {hostname: x}}]}",
            "spec.rules[0].filters[0].type: found UrlRewrite, accepted: RequestHeaderModifier",
        ),
        (
            "{backendRefs: [{name: b, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: x}}]}]}",
            "spec.rules[0].backendRefs[0].filters[0].type: found UrlRewrite, accepted: Request",
        ),
    ] {
        let snapshot = with(&route("v1beta3", "group: core", rule));
        let problem = only_problem(&snapshot);
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(answers(&snapshot, "GET /"), "500 invalid_route");
    }
}

#[test]
fn a_destination_may_have_the_filters_that_a_rule_may_have() {
    let edit = "{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x]}}";
    let rule = format!("{{backendRefs: [{{name: b, port: 80, filters: [{edit}]}}]}}");
    let snapshot = with(&route("v1beta3", "group: core", &rule));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(answers(&snapshot, "GET /"), "ns/b:80*1");
}

#[test]
fn gateway_apis_routes_may_write_the_core_group_by_name_too() {
    let text =
        route("v1", "group: core", RULE).replace("policy.linkerd.io", "gateway.networking.k8s.io");
    let snapshot = with(&text);
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(answers(&snapshot, "GET /a"), "ns/web:80*3 ns/b:80*1");
}

#[test]
fn hosts_are_heeded_the_more_exact_first() {
    let route = |name: &str, hosts: &str, rules: &str| {
        let spec = format!("spec: {{hostnames: [{hosts}], ");
        let text = route("v1beta3", "group: core", rules).replace("spec: {", &spec);
        text.replace("name: r,", &format!("name: {name},"))
    };
    let to = |name: &str| format!("{{backendRefs: [{{name: {name}, port: 80}}]}}");
    let exact_path =
        "{matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: c, port: 80}]}";
    let routes = route("a", "'*.example.org', '*.b.example.org'", &to("b"))
        + &route("b", "", exact_path)
        + &route("c", "A.b.example.org", &to("d"))
        + &route("d", "'*.c.b.example.org'", exact_path);
    let services = service("c", 80) + &service("d", 80);
    let snapshot = with(&(services + &routes));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    for (host, expected) in [
        ("x.example.org", "ns/b:80*1"),
        ("X.Example.ORG:8080", "ns/b:80*1"),
        ("x.y.example.org", "ns/b:80*1"),
        ("a.b.example.org", "ns/d:80*1"),
        ("a.b.example.org:80", "ns/d:80*1"),
        ("z.c.b.example.org", "ns/c:80*1"),
        ("example.org", "ns/c:80*1"),
        ("anotherexample.org", "ns/c:80*1"),
        ("web", "ns/c:80*1"),
    ] {
        let line = format!("GET /a authority={host}");
        assert_eq!(answers(&snapshot, &line), expected, "{host}");
    }
    assert_eq!(answers(&snapshot, "GET /b authority=web"), "404");
}

#[test]
fn a_host_that_cannot_be_read_is_left_out_and_named() {
    let text = route("v1beta3", "group: core", "{}")
        .replace("spec: {", "spec: {hostnames: ['a.*.org', ok.org], ");
    let snapshot = with(&text);
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.hostnames[0]: found `a.*.org`"),
        "{problem}"
    );
    assert_eq!(answers(&snapshot, "GET / authority=ok.org"), "ns/web:80*1");
    assert_eq!(answers(&snapshot, "GET / authority=a.x.org"), "404");
}
