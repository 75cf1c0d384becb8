//! HTTPRoutes with Services as parents.

use super::{ask, compile, listener, only_problem, problems, service};
use crate::model::{Action, ListenerProtocol, ListenerVerdict, Snapshot, Timeouts};

const PARENT: &str = "{group: '', kind: Service, name: web}";
const TO_WEB: &str = "backendRefs: [{name: web, port: 80}]";
const TO_B: &str = "backendRefs: [{name: b, port: 80}]";

fn route(name: &str, parents: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {name}, namespace: ns}}\n\
         spec: {{parentRefs: [{parents}], rules: [{rules}]}}\n---\n"
    )
}

/// Services `web` and `b`, and the routes.
fn with(routes: &str) -> Snapshot {
    compile(&(service("web", 80) + &service("b", 80) + routes))
}

fn with_rules(rules: &str) -> Snapshot {
    with(&route("r", PARENT, rules))
}

fn answers(snapshot: &Snapshot, requests: &[(&str, &str)]) {
    let table = &listener(snapshot, "web", 80).routes;
    for (request, expected) in requests {
        assert_eq!(ask(table, snapshot, request), *expected, "{request}");
    }
}

#[test]
fn a_route_makes_its_service_http_and_replaces_the_implicit_route() {
    let snapshot = with_rules(&format!("{{matches: [{{path: {{value: /b}}}}], {TO_B}}}"));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let web = listener(&snapshot, "web", 80);
    assert_eq!(web.verdict, ListenerVerdict::Proxy(ListenerProtocol::Http));
    answers(
        &snapshot,
        &[
            ("GET /b/x", "ns/b:80*1"),
            ("GET /bx", "404"),
            ("GET /", "404"),
        ],
    );
    let b = listener(&snapshot, "b", 80);
    assert_eq!(b.verdict, ListenerVerdict::Direct, "not its parent");
}

#[test]
fn matches_are_or_ed_and_conditions_are_and_ed() {
    let snapshot = with_rules(&format!(
        "{{matches: [{{method: POST, headers: [{{name: X-A, value: '1'}}]}}, \
          {{queryParams: [{{name: q, value: '^v[0-9]', type: RegularExpression}}]}}], {TO_B}}}"
    ));
    answers(
        &snapshot,
        &[
            ("POST / x-a=1", "ns/b:80*1"),
            ("POST /", "404"),
            ("GET / x-a=1", "404"),
            ("GET /?q=v1", "ns/b:80*1"),
            ("GET /?q=v1x", "404"),
            ("GET /?q=x", "404"),
        ],
    );
}

#[test]
fn the_most_specific_match_wins_whatever_the_order() {
    // From the least to the most specific; each also matches what the next ones match.
    let ladder = [
        "{path: {value: /}}",
        "{path: {value: /a}}",
        "{path: {value: /a/b}}",
        "{path: {value: /a/b}, queryParams: [{name: q, value: '1'}]}",
        "{path: {value: /a/b}, headers: [{name: x, value: '1'}]}",
        "{path: {value: /a/b}, headers: [{name: x, value: '1'}], queryParams: [{name: q, value: '1'}]}",
        "{path: {value: /a/b}, headers: [{name: x, value: '1'}, {name: y, value: '1'}]}",
        "{path: {value: /a/b}, method: GET}",
        "{path: {value: '/a/.*', type: RegularExpression}}",
        "{path: {value: /a/b, type: Exact}}",
    ];
    for (lower, upper) in ladder.iter().zip(&ladder[1..]) {
        for swapped in [[lower, upper], [upper, lower]] {
            let rules = swapped.map(|conditions| {
                let to = if conditions == upper { TO_B } else { TO_WEB };
                format!("{{matches: [{conditions}], {to}}}")
            });
            let snapshot = with_rules(&rules.join(", "));
            answers(&snapshot, &[("GET /a/b?q=1 x=1 y=1", "ns/b:80*1")]);
        }
    }
}

#[test]
fn of_equal_matches_the_older_route_wins_then_the_name_then_the_order() {
    let (web, b) = (format!("{{{TO_WEB}}}"), format!("{{{TO_B}}}"));
    let aged = |route: String, year: u16| {
        let stamp = format!("namespace: ns, creationTimestamp: '{year}-01-01T00:00:00Z'");
        route.replacen("namespace: ns", &stamp, 1)
    };
    for (routes, expected) in [
        (
            vec![route("z", PARENT, &web), route("a", PARENT, &b)],
            "ns/b:80*1",
        ),
        (
            vec![
                aged(route("z", PARENT, &web), 2024),
                aged(route("a", PARENT, &b), 2025),
            ],
            "ns/web:80*1",
        ),
        (
            vec![route("a", PARENT, &format!("{web}, {b}"))],
            "ns/web:80*1",
        ),
    ] {
        answers(&with(&routes.concat()), &[("GET /", expected)]);
    }
}

#[test]
fn a_consumer_route_is_for_the_clients_of_its_namespace_alone() {
    let parent = "{group: '', kind: Service, name: web, namespace: ns}";
    let consumer = route("c", parent, "{backendRefs: [{name: d, port: 80}]}")
        .replace("namespace: ns}\nspec", "namespace: other}\nspec");
    let d = service("d", 80).replace("namespace: ns", "namespace: other");
    let snapshot = with(&format!(
        "{consumer}{d}{}",
        route("p", PARENT, &format!("{{{TO_B}}}"))
    ));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let web = listener(&snapshot, "web", 80);
    assert_eq!(
        ask(web.routes_for("other"), &snapshot, "GET /"),
        "other/d:80*1"
    );
    assert_eq!(ask(web.routes_for("ns"), &snapshot, "GET /"), "ns/b:80*1");
    let snapshot = with(&(consumer + &d));
    let web = listener(&snapshot, "web", 80);
    assert_eq!(
        ask(web.routes_for("ns"), &snapshot, "GET /"),
        "ns/web:80*1",
        "implicit for all others"
    );
}

#[test]
fn a_parent_port_limits_the_route_to_that_port() {
    let two =
        service("web", 80).replace("{port: 80}", "{port: 80, name: tcp-a}, {port: 81, name: b}");
    let numbered = "{group: '', kind: Service, name: web, port: 80}";
    let rules = format!("{{{TO_B}}}");
    for (parent, expected) in [
        (numbered, [(80, "ns/b:80*1"), (81, "ns/web:81*1")]),
        // Declared to be no HTTP, and not named by the route.
        (PARENT, [(80, "ns/web:80*1"), (81, "ns/b:80*1")]),
    ] {
        let snapshot = compile(&format!(
            "{two}{}{}",
            service("b", 80),
            route("r", parent, &rules)
        ));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        for (port, expected) in expected {
            let routes = &listener(&snapshot, "web", port).routes;
            assert_eq!(ask(routes, &snapshot, "GET /"), expected, "{parent} {port}");
        }
    }
}

#[test]
fn weights_and_invalid_references_keep_their_shares() {
    let rules = "{backendRefs: [{name: web, port: 80, weight: 3}, {name: b, port: 80, weight: 0}, {name: gone, port: 80}]}";
    let snapshot = with_rules(rules);
    answers(&snapshot, &[("GET /", "ns/web:80*3 ns/b:80*0 invalid*1")]);
    assert_eq!(
        only_problem(&snapshot),
        "HTTPRoute.gateway.networking.k8s.io ns/r: spec.rules[0].backendRefs[2].name: \
         no Service ns/gone; its share of requests is answered 500"
    );
}

#[test]
fn faults_of_references_are_named_with_their_field() {
    for (reference, field, reason) in [
        (
            "{name: b, port: 81}",
            "port",
            "Service ns/b has no TCP port 81; it has: 80",
        ),
        ("{name: b}", "port", "is missing: a Service needs it"),
        (
            "{name: b, kind: Pod, port: 80}",
            "kind",
            "found `Pod` of group ``, accepted: Service of the core group",
        ),
        (
            "{name: b, namespace: other, port: 80}",
            "namespace",
            "no ReferenceGrant in namespace `other` allows this from namespace `ns`",
        ),
    ] {
        let snapshot = with_rules(&format!("{{backendRefs: [{reference}]}}"));
        assert_eq!(
            only_problem(&snapshot),
            format!(
                "HTTPRoute.gateway.networking.k8s.io ns/r: spec.rules[0].backendRefs[0].{field}: \
                 {reason}; its share of requests is answered 500"
            )
        );
        answers(&snapshot, &[("GET /", "invalid*1")]);
    }
}

#[test]
fn faults_of_parents_are_named_and_leave_the_service_as_it_is() {
    for (parent, expected) in [
        (
            "{group: '', kind: Service, name: gone}",
            "spec.parentRefs[0].name: no Service ns/gone",
        ),
        (
            "{group: '', kind: Service, name: web, sectionName: a}",
            "spec.parentRefs[0].sectionName: Service ns/web has no TCP port `a`",
        ),
        (
            "{group: '', kind: Service, name: web, port: 81}",
            "spec.parentRefs[0].port: Service ns/web has no TCP port 81; it has: 80",
        ),
    ] {
        let snapshot = with(&route("r", parent, &format!("{{{TO_B}}}")));
        let expected = format!("HTTPRoute.gateway.networking.k8s.io ns/r: {expected}");
        assert_eq!(only_problem(&snapshot), expected);
        answers(&snapshot, &[("GET /", "ns/web:80*1")]);
    }
}

#[test]
fn a_route_of_a_gateway_is_not_the_meshs() {
    let snapshot = with(&route("r", "{name: gw}", &format!("{{{TO_B}}}")));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    answers(&snapshot, &[("GET /", "ns/web:80*1")]);
}

#[test]
fn what_a_rule_cannot_carry_out_is_answered_500_and_named() {
    for (rule, field) in [
        (format!("retry: {{codes: [200]}}, {TO_B}"), "retry.codes[0]"),
        (format!("retry: {{backoff: 1.5s}}, {TO_B}"), "retry.backoff"),
        (format!("sessionPersistence: {{idleTimeout: 1x}}, {TO_B}"), "sessionPersistence.idleTimeout"),
        (
            format!("sessionPersistence: {{cookieConfig: {{lifetimeType: Permanent}}}}, {TO_B}"),
            "sessionPersistence.absoluteTimeout",
        ),
        (format!("sessionPersistence: {{sessionName: 'a b'}}, {TO_B}"), "sessionPersistence.sessionName"),
        (format!("timeouts: {{request: 1.5s}}, {TO_B}"), "timeouts.request"),
        (format!("timeouts: {{request: 1s, backendRequest: 2s}}, {TO_B}"), "timeouts.backendRequest"),
        (format!("filters: [{{type: CORS}}], {TO_B}"), "filters[0].cors"),
        (
            format!("filters: [{{type: RequestMirror, requestMirror: {{percent: 101, backendRef: {{name: b, port: 80}}}}}}], {TO_B}"),
            "filters[0].requestMirror.percent",
        ),
        (
            format!("filters: [{{type: RequestMirror, requestMirror: {{fraction: {{numerator: 2, denominator: 1}}, backendRef: {{name: b, port: 80}}}}}}], {TO_B}"),
            "filters[0].requestMirror.fraction",
        ),
        (
            format!("filters: [{{type: ExtensionRef, extensionRef: {{group: g, kind: k, name: n}}}}], {TO_B}"),
            "filters[0].type",
        ),
        (format!("filters: [{{type: URLRewrite}}], {TO_B}"), "filters[0].urlRewrite"),
        (
            format!("filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: 'a b', value: x}}]}}}}], {TO_B}"),
            "filters[0].requestHeaderModifier.set[0]",
        ),
        (
            format!("filters: [{{type: RequestRedirect, requestRedirect: {{}}}}], {TO_B}"),
            "backendRefs",
        ),
        (
            "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]".to_owned(),
            "filters[0].requestRedirect.statusCode",
        ),
        (
            format!(
                "matches: [{{path: {{type: Exact, value: /}}}}], {TO_B}, filters: [{{type: URLRewrite, \
                 urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /x}}}}}}]"
            ),
            "filters[0].urlRewrite.path.replacePrefixMatch",
        ),
        ("backendRefs: [{name: b, port: 80, weight: -1}]".to_owned(), "backendRefs[0].weight"),
        (
            "backendRefs: [{name: b, port: 80, filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}]".to_owned(),
            "backendRefs[0].filters[0].type",
        ),
    ] {
        let other = format!("{{matches: [{{path: {{value: /ok}}}}], {TO_WEB}}}");
        let snapshot = with_rules(&format!("{{{rule}}}, {other}"));
        let problem = only_problem(&snapshot);
        let expected = format!("HTTPRoute.gateway.networking.k8s.io ns/r: spec.rules[0].{field}: ");
        assert!(problem.starts_with(&expected), "{problem}\n{expected}");
        assert!(problem.ends_with("; the rule answers 500"), "{problem}");
        answers(&snapshot, &[("GET /", "500 invalid_route"), ("GET /ok", "ns/web:80*1")]);
    }
}

#[test]
fn a_match_that_cannot_be_tested_is_left_out() {
    let snapshot = with_rules(&format!(
        "{{matches: [{{path: {{type: RegularExpression, value: 'a)(b'}}}}, {{path: {{value: /b}}}}], {TO_B}}}"
    ));
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.rules[0].matches[0].path.value: found `a)(b`"),
        "{problem}"
    );
    answers(&snapshot, &[("GET /b", "ns/b:80*1"), ("GET /", "404")]);
}

#[test]
fn no_destination_with_a_weight_is_answered_500() {
    for rule in ["{}", "{backendRefs: [{name: b, port: 80, weight: 0}]}"] {
        let snapshot = with_rules(rule);
        answers(&snapshot, &[("GET /", "500 no_destination")]);
        assert_eq!(snapshot.problems.len(), 1);
    }
}

#[test]
fn filters_and_timeouts_reach_the_action() {
    let snapshot = with_rules(
        "{timeouts: {request: 10s, backendRequest: 0s}, filters: [\
          {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: A, value: '1'}], remove: [B]}}, \
          {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: C, value: '2'}]}}, \
          {type: URLRewrite, urlRewrite: {hostname: h, path: {type: ReplaceFullPath, replaceFullPath: /x}}}], \
          backendRefs: [{name: b, port: 80, filters: [\
          {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: D, value: '3'}]}}]}]}",
    );
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let rule = &listener(&snapshot, "web", 80).routes.rules[0];
    let expected = Timeouts {
        request: Some(std::time::Duration::from_secs(10)),
        backend_request: None,
    };
    assert_eq!(rule.timeouts, expected);
    let Action::Forward {
        filters,
        destinations,
    } = &*rule.action
    else {
        panic!("a forward expected: {rule:?}");
    };
    let text = format!("{filters:?} {:?}", destinations[0].filters);
    for part in [
        "(\"a\", \"1\")",
        "remove: [\"b\"]",
        "(\"c\", \"2\")",
        "Some(\"h\")",
        "Full(\"/x\")",
        "(\"d\", \"3\")",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn redirects_need_no_destination() {
    let rule = "filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443, statusCode: 308}}]";
    let snapshot = with_rules(&format!("{{{rule}}}"));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    answers(&snapshot, &[("GET /", "redirect 308")]);
}

#[test]
fn a_route_without_effect_says_so() {
    let headless = service("web", 80).replace("spec: {", "spec: {clusterIP: None, ");
    let routes = route("r", PARENT, &format!("{{{TO_WEB}}}"));
    assert_eq!(
        only_problem(&compile(&(headless + &routes))),
        "HTTPRoute.gateway.networking.k8s.io ns/r: of no effect on Service ns/web: \
         its connections pass (headless)"
    );
    let opaque = service("web", 80).replace("{port: 80}", "{port: 80, name: tcp}");
    assert_eq!(
        only_problem(&compile(&(opaque + &routes))),
        "HTTPRoute.gateway.networking.k8s.io ns/r: of no effect on Service ns/web: \
         it has no port that can be HTTP; name one by `port`"
    );
}
