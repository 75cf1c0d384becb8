//! Values of Gateway API's routes that could not be carried out: each is named, and its rule fails.

use super::streams::gateway;
use super::{ask, compile, listener, only_problem, problems, service};
use crate::model::{Action, Severity, Snapshot};

const WEB: &str = "parentRefs: [{group: '', kind: Service, name: web}]";
const TO_B: &str = "backendRefs: [{name: b, port: 80}]";

fn with(kind: &str, rules: &str) -> Snapshot {
    let route = gateway(kind, "r", &format!("{WEB}, rules: [{rules}]"));
    compile(&(service("web", 80) + &service("b", 80) + &route))
}

fn answer(snapshot: &Snapshot, line: &str) -> String {
    ask(&listener(snapshot, "web", 80).routes, snapshot, line)
}

fn filter(kind: &str, part: &str) -> String {
    format!("{{type: {kind}, {part}}}")
}

#[test]
fn what_no_request_could_be_sent_with_is_refused() {
    for (kind, part, field) in [
        (
            "URLRewrite",
            "urlRewrite: {hostname: 'a b:80'}",
            "urlRewrite.hostname",
        ),
        (
            "URLRewrite",
            "urlRewrite: {hostname: 'a:80'}",
            "urlRewrite.hostname",
        ),
        (
            "URLRewrite",
            "urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: x y}}",
            "urlRewrite.path.replaceFullPath",
        ),
        (
            "RequestRedirect",
            "requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x y}}",
            "requestRedirect.path.replacePrefixMatch",
        ),
        (
            "RequestRedirect",
            "requestRedirect: {hostname: a b}",
            "requestRedirect.hostname",
        ),
        (
            "RequestRedirect",
            "requestRedirect: {port: 0}",
            "requestRedirect.port",
        ),
        (
            "RequestRedirect",
            "requestRedirect: {port: 65536}",
            "requestRedirect.port",
        ),
    ] {
        let rest = if kind == "RequestRedirect" { "" } else { TO_B };
        let matches = "matches: [{path: {value: /a}}]";
        let snapshot = with(
            "HTTPRoute",
            &format!("{{{matches}, filters: [{}], {rest}}}", filter(kind, part)),
        );
        let problem = only_problem(&snapshot);
        let expected = format!("spec.rules[0].filters[0].{field}: found `");
        let expected = expected.trim_end_matches('`');
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(answer(&snapshot, "GET /a"), "500 invalid_route");
    }
    for port in [1, 65535] {
        let redirect = filter(
            "RequestRedirect",
            &format!("requestRedirect: {{port: {port}}}"),
        );
        let snapshot = with("HTTPRoute", &format!("{{filters: [{redirect}]}}"));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
    }
}

#[test]
fn an_authority_that_istio_rewrites_must_be_one_too() {
    for (authority, fault) in [("a b", true), ("a:b", true), ("a.example:80", false)] {
        let http = format!(
            "http: [{{rewrite: {{authority: '{authority}'}}, route: [{{destination: {{host: b}}}}]}}]"
        );
        let route = super::streams::virtual_service("v", &http);
        let snapshot = compile(&(service("web", 80) + &service("b", 80) + &route));
        let named = problems(&snapshot);
        let found = named
            .iter()
            .any(|line| line.contains("spec.http[0].rewrite.authority: found"));
        assert_eq!(found, fault, "{authority}: {named:?}");
    }
}

#[test]
fn a_part_of_another_type_is_refused() {
    let modifier = "requestHeaderModifier: {set: [{name: a, value: b}]}";
    let both = format!("{modifier}, urlRewrite: {{hostname: a.example}}");
    for (rule, field) in [
        (
            format!(
                "{{filters: [{}], {TO_B}}}",
                filter("RequestHeaderModifier", &both)
            ),
            "filters[0].urlRewrite",
        ),
        (
            format!(
                "{{backendRefs: [{{name: b, port: 80, filters: [{}]}}]}}",
                filter("RequestHeaderModifier", &both)
            ),
            "backendRefs[0].filters[0].urlRewrite",
        ),
        (
            format!(
                "{{filters: [{}], {TO_B}}}",
                filter(
                    "RequestMirror",
                    &format!(
                        "{modifier}, requestMirror: {{{}}}",
                        "backendRef: {name: b, port: 80}"
                    )
                )
            ),
            "filters[0].requestHeaderModifier",
        ),
        (
            format!("{{sessionPersistence: {{type: Header, cookieConfig: {{}}}}, {TO_B}}}"),
            "sessionPersistence.cookieConfig",
        ),
    ] {
        let snapshot = with("HTTPRoute", &rule);
        let problem = only_problem(&snapshot);
        let expected = format!("spec.rules[0].{field}: is of type ");
        assert!(problem.contains(&expected), "{problem}");
        assert_eq!(answer(&snapshot, "GET /"), "500 invalid_route");
    }
    let rule = format!(
        "{{filters: [{}], {TO_B}}}",
        filter("RequestHeaderModifier", modifier)
    );
    assert_eq!(problems(&with("HTTPRoute", &rule)), Vec::<String>::new());
}

#[test]
fn matches_that_could_never_hold_are_left_out() {
    for (kind, one, field) in [
        ("HTTPRoute", "path: {value: '/a b'}", "path.value"),
        ("HTTPRoute", "path: {value: /\u{e9}}", "path.value"),
        ("HTTPRoute", "path: {value: '/a%2'}", "path.value"),
        (
            "HTTPRoute",
            "path: {type: Exact, value: '/a|'}",
            "path.value",
        ),
        (
            "HTTPRoute",
            "queryParams: [{name: '', value: x}]",
            "queryParams[0].name",
        ),
        (
            "HTTPRoute",
            "queryParams: [{name: 'a b', value: x}]",
            "queryParams[0].name",
        ),
        ("GRPCRoute", "method: {}", "method"),
        ("GRPCRoute", "method: {type: RegularExpression}", "method"),
        ("GRPCRoute", "method: {service: a/b}", "method.service"),
        ("GRPCRoute", "method: {service: a..b}", "method.service"),
        (
            "GRPCRoute",
            "method: {service: a, method: x y}",
            "method.method",
        ),
        ("GRPCRoute", "method: {method: 1x}", "method.method"),
    ] {
        let good = match kind {
            "GRPCRoute" => "method: {service: .g_1.G, method: _m1}",
            _ => "path: {value: \"/-._~!$&'()*+,;=:@%20\"}, queryParams: [{name: a-b, value: x}]",
        };
        let snapshot = with(
            kind,
            &format!("{{matches: [{{{one}}}, {{{good}}}], {TO_B}}}"),
        );
        let problem = only_problem(&snapshot);
        let expected = format!("spec.rules[0].matches[0].{field}: ");
        assert!(problem.contains(&expected), "{problem}");
        assert!(problem.ends_with("the match is left out"), "{problem}");
        assert_eq!(listener(&snapshot, "web", 80).routes.rules.len(), 1);
    }
}

#[test]
fn of_headers_with_the_same_name_the_first_is_set_whatever_the_letter_case() {
    let list = "[{name: X-A, value: first}, {name: x-a, value: second}, {name: x-b, value: b}]";
    for (kind, part) in [
        ("RequestHeaderModifier", "requestHeaderModifier"),
        ("ResponseHeaderModifier", "responseHeaderModifier"),
    ] {
        let edits = filter(kind, &format!("{part}: {{set: {list}, add: {list}}}"));
        let snapshot = with("HTTPRoute", &format!("{{filters: [{edits}], {TO_B}}}"));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        let rule = &listener(&snapshot, "web", 80).routes.rules[0];
        let Action::Forward { filters, .. } = &*rule.action else {
            panic!("a forward");
        };
        let edits = match part {
            "requestHeaderModifier" => &filters.request_headers,
            _ => &filters.response_headers,
        };
        for list in [&edits.set, &edits.add] {
            let list: Vec<_> = list
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_bytes()))
                .collect();
            assert_eq!(list, [("x-a", &b"first"[..]), ("x-b", b"b")]);
        }
    }
}

#[test]
fn names_that_stand_twice_and_rules_that_nothing_reaches_are_told() {
    let warning = |snapshot: &Snapshot, field: &str| {
        let [problem] = &snapshot.problems[..] else {
            panic!("{:?}", problems(snapshot));
        };
        assert_eq!(
            (problem.severity, &*problem.field),
            (Severity::Warning, field)
        );
    };
    let twice = format!("{{name: a, {TO_B}}}, {{name: b, {TO_B}}}, {{name: a, {TO_B}}}");
    warning(&with("HTTPRoute", &twice), "spec.rules[2].name");
    let once = with("HTTPRoute", &twice.replace("}, {name: a", "}, {name: c"));
    assert_eq!(problems(&once), Vec::<String>::new());

    let tcp = |rules: &str| {
        let web = service("web", 5432).replace("{port: 5432}", "{port: 5432, name: tcp-db}");
        let route = gateway("TCPRoute", "r", &format!("{WEB}, rules: [{rules}]"));
        compile(&(web + &service("b", 80) + &route))
    };
    warning(&tcp(&format!("{{{TO_B}}}, {{{TO_B}}}")), "spec.rules[1]");
    assert_eq!(problems(&tcp(&format!("{{{TO_B}}}"))), Vec::<String>::new());
}

#[test]
fn annotations_without_effect_are_told_of_every_kind_of_route() {
    let of = |text: &str| {
        let web = service("web", 5432).replace(
            "{port: 5432}",
            "{port: 5432, name: tcp-db}, {port: 443, name: https}, {port: 80, name: http}",
        );
        let bad = "namespace: ns, annotations: {retry.linkerd.io/http: 5xx}}\nspec";
        let text = text.replace("namespace: ns}\nspec", bad);
        assert!(text.contains("annotations"), "{text}");
        compile(&(web + &service("b", 80) + &text))
    };
    let istio = super::streams::virtual_service("r", "http: [{route: [{destination: {host: b}}]}]");
    for text in [
        gateway("TLSRoute", "r", &format!("{WEB}, rules: [{{{TO_B}}}]")),
        gateway("TCPRoute", "r", &format!("{WEB}, rules: [{{{TO_B}}}]")),
        istio,
    ] {
        let problem = only_problem(&of(&text));
        let expected = "metadata.annotations[retry.linkerd.io/http]: ";
        assert!(problem.contains(expected), "{problem}");
    }
    let http = gateway("HTTPRoute", "r", &format!("{WEB}, rules: [{{{TO_B}}}]"));
    assert_eq!(
        problems(&of(&http)),
        Vec::<String>::new(),
        "it has effect there"
    );
}
