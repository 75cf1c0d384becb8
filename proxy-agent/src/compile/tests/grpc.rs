//! GRPCRoutes with Services as parents.

use super::{ask, compile, listener, only_problem, problems, service};
use crate::model::Snapshot;

const TO_WEB: &str = "backendRefs: [{name: web, port: 80}]";
const TO_B: &str = "backendRefs: [{name: b, port: 80}]";

fn route(kind: &str, name: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: ns}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: [{rules}]}}\n---\n"
    )
}

fn with(routes: &str) -> Snapshot {
    compile(&(service("web", 80) + &service("b", 80) + routes))
}

fn with_rules(rules: &str) -> Snapshot {
    let snapshot = with(&route("GRPCRoute", "r", rules));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    snapshot
}

fn answers(snapshot: &Snapshot, requests: &[(&str, &str)]) {
    let table = &listener(snapshot, "web", 80).routes;
    for (request, expected) in requests {
        assert_eq!(ask(table, snapshot, request), *expected, "{request}");
    }
}

#[test]
fn calls_are_matched_by_service_method_and_headers() {
    for (method, hits, misses) in [
        (
            "{service: a.Echo, method: Say}",
            vec!["POST /a.Echo/Say"],
            vec![
                "POST /a.Echo/Hear",
                "POST /b.Echo/Say",
                "POST /a.Echo/Say/x",
            ],
        ),
        (
            "{service: a.Echo}",
            vec!["POST /a.Echo/Say", "POST /a.Echo/Hear"],
            vec!["POST /a.Echoes/Say", "POST /axEcho/Say"],
        ),
        (
            "{method: Say}",
            vec!["POST /a.Echo/Say", "POST /b.Echo/Say"],
            vec!["POST /a.Echo/Hear", "POST /a/b/Say"],
        ),
        (
            "{type: RegularExpression, service: '(a|b)\\.E.*', method: 'S.y'}",
            vec!["POST /a.Echo/Say", "POST /b.Eho/Sxy"],
            vec!["POST /c.Echo/Say", "POST /a.Echo/Says"],
        ),
    ] {
        let snapshot = with_rules(&format!("{{matches: [{{method: {method}}}], {TO_B}}}"));
        for (requests, expected) in [(hits, "ns/b:80*1"), (misses, "404")] {
            for request in requests {
                answers(&snapshot, &[(request, expected)]);
            }
        }
    }
    let snapshot = with_rules(&format!(
        "{{matches: [{{headers: [{{name: X-A, value: '1'}}]}}], {TO_B}}}"
    ));
    answers(
        &snapshot,
        &[("POST /a/B x-a=1", "ns/b:80*1"), ("POST /a/B", "404")],
    );
}

#[test]
fn the_longest_service_then_method_then_headers_win_whatever_the_order() {
    // From the least to the most specific; each also matches what the next ones match.
    let ladder = [
        "{}",
        "{headers: [{name: x, value: '1'}]}",
        "{method: {method: Say}}",
        "{method: {service: a.Echo}}",
        "{method: {service: a.Echo}, headers: [{name: x, value: '1'}]}",
        "{method: {service: a.Echo, method: Say}}",
        "{method: {service: a.Echo, method: Say}, headers: [{name: x, value: '1'}]}",
    ];
    for (lower, upper) in ladder.iter().zip(&ladder[1..]) {
        for swapped in [[lower, upper], [upper, lower]] {
            let rules = swapped.map(|conditions| {
                let to = if conditions == upper { TO_B } else { TO_WEB };
                format!("{{matches: [{conditions}], {to}}}")
            });
            let snapshot = with_rules(&rules.join(", "));
            answers(&snapshot, &[("POST /a.Echo/Say x=1", "ns/b:80*1")]);
        }
    }
}

#[test]
fn a_grpc_route_comes_before_an_http_route_which_is_named() {
    let snapshot = with(
        &(route("HTTPRoute", "h", &format!("{{{TO_WEB}}}"))
            + &route("GRPCRoute", "g", &format!("{{{TO_B}}}"))),
    );
    answers(&snapshot, &[("POST /a/B", "ns/b:80*1")]);
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("ns/h: of no effect on Service ns/web: GRPCRoute"),
        "{problem}"
    );
}

#[test]
fn filters_are_those_of_http_routes_but_for_redirects_and_rewrites() {
    let edits =
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}";
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}";
    let snapshot = with_rules(&format!("{{filters: [{edits}, {mirror}], {TO_B}}}"));
    let rule = &listener(&snapshot, "web", 80).routes.rules[0];
    assert_eq!(rule.policies.as_ref().map(|of| of.mirrors.len()), Some(1));
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: h}}";
    let snapshot = with(&route(
        "GRPCRoute",
        "r",
        &format!("{{filters: [{rewrite}], {TO_B}}}"),
    ));
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("unknown variant `URLRewrite`"),
        "{problem}"
    );
}

#[test]
fn a_field_that_the_kind_does_not_have_fails_its_rule() {
    let snapshot = with(&route(
        "GRPCRoute",
        "r",
        &format!("{{retry: {{}}, {TO_B}}}"),
    ));
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.rules[0].retry: unknown field; accepted: backendRefs"),
        "{problem}"
    );
    answers(&snapshot, &[("POST /a/B", "500 invalid_route")]);
}

#[test]
fn conditions_are_told_for_the_route() {
    let snapshot = with(&route(
        "GRPCRoute",
        "r",
        "{backendRefs: [{name: gone, port: 80}]}",
    ));
    let [parent] = &snapshot.route_parents[..] else {
        panic!("one parent");
    };
    assert_eq!(&*parent.route.kind, "GRPCRoute");
    let problem = only_problem(&snapshot);
    assert!(problem.contains("no Service ns/gone"), "{problem}");
}
