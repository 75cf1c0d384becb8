//! VirtualServices.

use super::{ask, compile, listener, only_problem, problems, service};
use crate::model::{Action, PathRewrite, Snapshot};

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: ns}}\nspec: {{{spec}}}\n---\n"
    )
}

fn with(objects: &str) -> Snapshot {
    compile(&(service("web", 80) + &service("b", 80) + objects))
}

fn with_http(http: &str) -> Snapshot {
    with(&virtual_service(
        "v",
        &format!("hosts: [web], http: [{http}]"),
    ))
}

fn answers(snapshot: &Snapshot, requests: &[(&str, &str)]) {
    let table = &listener(snapshot, "web", 80).routes;
    for (request, expected) in requests {
        assert_eq!(ask(table, snapshot, request), *expected, "{request}");
    }
}

const TO_B: &str = "route: [{destination: {host: b}}]";
const TO_WEB: &str = "route: [{destination: {host: web}}]";

#[test]
fn hosts_are_short_or_qualified_names_of_services() {
    for host in ["web", "web.ns", "web.ns.svc", "web.ns.svc.cluster.local"] {
        let spec = format!("hosts: [{host}], http: [{{{TO_B}}}]");
        let snapshot = with(&virtual_service("v", &spec));
        assert_eq!(problems(&snapshot), Vec::<String>::new(), "{host}");
        answers(&snapshot, &[("GET /", "ns/b:80*1")]);
    }
    for host in [
        "gone",
        "web.other",
        "web.ns.svc.example.org",
        "'*.example.org'",
    ] {
        let spec = format!("hosts: [{host}], http: [{{{TO_B}}}]");
        let snapshot = with(&virtual_service("v", &spec));
        let problem = only_problem(&snapshot);
        assert!(problem.contains("spec.hosts[0]: found `"), "{problem}");
        answers(&snapshot, &[("GET /", "ns/web:80*1")]);
    }
}

#[test]
fn the_first_match_in_order_wins_and_no_match_is_404() {
    let snapshot = with_http(&format!(
        "{{match: [{{uri: {{prefix: /a}}}}], {TO_B}}}, {{match: [{{uri: {{exact: /ab}}}}, {{uri: {{regex: '/c.'}}}}], {TO_WEB}}}"
    ));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    answers(
        &snapshot,
        &[
            ("GET /ab", "ns/b:80*1"),
            ("GET /cd", "ns/web:80*1"),
            ("GET /cde", "404"),
            ("GET /", "404"),
        ],
    );
}

#[test]
fn conditions_on_everything_that_is_supported() {
    for (conditions, hit, miss) in [
        ("method: {exact: POST}", "POST /", "GET /"),
        ("headers: {x-a: {exact: '1'}}", "GET / x-a=1", "GET / x-a=2"),
        (
            "headers: {x-a: {prefix: '1'}}",
            "GET / x-a=12",
            "GET / x-a=2",
        ),
        ("headers: {x-a: {}}", "GET / x-a=2", "GET /"),
        (
            "queryParams: {q: {regex: '[0-9]+'}}",
            "GET /?q=12",
            "GET /?q=1x",
        ),
        (
            "authority: {exact: Web.example}",
            "GET / authority=web.EXAMPLE:80",
            "GET /",
        ),
        ("port: 80", "GET /", ""),
    ] {
        let snapshot = with_http(&format!("{{match: [{{{conditions}}}], {TO_B}}}"));
        assert_eq!(problems(&snapshot), Vec::<String>::new(), "{conditions}");
        for (request, expected) in [(hit, "ns/b:80*1"), (miss, "404")] {
            if !request.is_empty() {
                answers(&snapshot, &[(request, expected)]);
            }
        }
    }
}

#[test]
fn weights_count_when_there_are_several_destinations() {
    for (route, expected) in [
        ("{destination: {host: b}, weight: 0}", "ns/b:80*1"),
        (
            "{destination: {host: b}, weight: 90}, {destination: {host: web, port: {number: 80}}, weight: 10}",
            "ns/b:80*90 ns/web:80*10",
        ),
        (
            "{destination: {host: b}, weight: 1}, {destination: {host: web}}",
            "ns/b:80*1 ns/web:80*0",
        ),
    ] {
        let snapshot = with_http(&format!("{{route: [{route}]}}"));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        answers(&snapshot, &[("GET /", expected)]);
    }
}

#[test]
fn a_rewrite_replaces_the_prefix_where_the_match_is_one() {
    let snapshot = with_http(&format!(
        "{{match: [{{uri: {{prefix: /a}}}}, {{uri: {{exact: /b}}}}], rewrite: {{uri: /x, authority: h}}, {TO_B}}}"
    ));
    let rewrites: Vec<_> = listener(&snapshot, "web", 80)
        .routes
        .rules
        .iter()
        .map(|rule| match &*rule.action {
            Action::Forward { filters, .. } => filters.rewrite_path.clone(),
            Action::Redirect { .. } | Action::Direct { .. } | Action::Respond { .. } => None,
        })
        .collect();
    assert!(
        matches!(
            &rewrites[..],
            [Some(PathRewrite::StringPrefix(one)), Some(PathRewrite::Full(two))] if &**one == "/x" && &**two == "/x"
        ),
        "{rewrites:?}"
    );
}

#[test]
fn redirects_default_to_301() {
    let snapshot = with_http("{redirect: {uri: /x, authority: 'other:8080'}}");
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    answers(&snapshot, &[("GET /", "redirect 301")]);
}

/// Routes that cannot be carried out, and the field that says so.
#[expect(clippy::too_many_lines, reason = "a table")]
fn unsupported() -> Vec<(String, &'static str)> {
    vec![
        (
            format!("retries: {{attempts: -1}}, {TO_B}"),
            "retries.attempts",
        ),
        (
            format!("retries: {{retryOn: never}}, {TO_B}"),
            "retries.retryOn",
        ),
        (
            format!("retries: {{perTryTimeout: soon}}, {TO_B}"),
            "retries.perTryTimeout",
        ),
        (
            format!("fault: {{abort: {{}}}}, {TO_B}"),
            "fault.abort.httpStatus",
        ),
        (
            format!("fault: {{abort: {{httpStatus: 99}}}}, {TO_B}"),
            "fault.abort.httpStatus",
        ),
        (
            format!("fault: {{abort: {{grpcStatus: NONE}}}}, {TO_B}"),
            "fault.abort.grpcStatus",
        ),
        (
            format!("fault: {{delay: {{}}}}, {TO_B}"),
            "fault.delay.fixedDelay",
        ),
        (
            format!("fault: {{delay: {{fixedDelay: 1s, percentage: {{value: 101}}}}}}, {TO_B}"),
            "fault.delay.percentage",
        ),
        (
            format!("fault: {{delay: {{fixedDelay: 1s, exponentialDelay: 1s}}}}, {TO_B}"),
            "fault.delay.fixedDelay",
        ),
        (
            format!("fault: {{abort: {{httpStatus: 500, http2Error: NO}}}}, {TO_B}"),
            "fault.abort.http2Error",
        ),
        (
            "directResponse: {status: 200, body: {bytes: '-'}}".to_owned(),
            "directResponse.body.bytes",
        ),
        (
            "directResponse: {status: 200, body: {bytes: '', string: ''}}".to_owned(),
            "directResponse.body.bytes",
        ),
        (
            format!("mirror: {{host: b}}, mirrorPercent: 101, {TO_B}"),
            "mirrorPercent",
        ),
        (
            format!("corsPolicy: {{unmatchedPreflights: NEVER}}, {TO_B}"),
            "corsPolicy.unmatchedPreflights",
        ),
        (
            "directResponse: {status: 99}".to_owned(),
            "directResponse.status",
        ),
        (
            format!("directResponse: {{status: 200}}, {TO_B}"),
            "directResponse",
        ),
        (
            format!("rewrite: {{uriRegexRewrite: {{match: a, rewrite: '\\1'}}}}, {TO_B}"),
            "rewrite.uriRegexRewrite.rewrite",
        ),
        ("delegate: {name: gone}".to_owned(), "delegate"),
        (format!("timeout: soon, {TO_B}"), "timeout"),
        (
            format!("headers: {{request: {{set: {{'a b': x}}}}}}, {TO_B}"),
            "headers.request.set[a b]",
        ),
    ]
}

#[test]
fn what_is_not_supported_is_answered_500_and_named() {
    for (route, field) in unsupported() {
        let snapshot = with_http(&format!("{{{route}}}"));
        let mut errors = problems(&snapshot);
        errors.retain(|problem| problem.ends_with("; the route answers 500"));
        let expected = format!("VirtualService.networking.istio.io ns/v: spec.http[0].{field}: ");
        assert_eq!(errors.len(), 1, "{errors:#?}\n{expected}");
        assert!(errors[0].contains(&expected), "{errors:#?}\n{expected}");
        answers(&snapshot, &[("GET /", "500 invalid_route")]);
    }
}

#[test]
fn a_destination_that_leads_nowhere_keeps_its_share_and_is_named() {
    for (destination, field) in [
        ("{host: gone}", "host"),
        ("{host: b, subset: v1}", "subset"),
        ("{host: b, port: {number: 81}}", "port.number"),
    ] {
        let snapshot = with_http(&format!("{{route: [{{destination: {destination}}}]}}"));
        let problem = only_problem(&snapshot);
        assert!(
            problem.contains(&format!("route[0].destination.{field}: ")),
            "{problem}"
        );
        answers(&snapshot, &[("GET /", "invalid*1")]);
    }
}

#[test]
fn one_that_names_an_existing_gateway_alone_is_not_the_meshs() {
    let spec = format!("hosts: [web], gateways: [gw], http: [{{{TO_B}}}]");
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw, namespace: ns}\n---\n";
    let object = virtual_service("v", &spec);
    let snapshot = with(&format!("{gateway}{object}"));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    answers(&snapshot, &[("GET /", "ns/web:80*1")]);
    let snapshot = with(&object);
    assert!(only_problem(&snapshot).contains("spec.gateways: no Gateway of these exists (gw)"));
    answers(&snapshot, &[("GET /", "ns/b:80*1")]);
    let snapshot = with(&object.replace("[gw]", "[gw, mesh]"));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    answers(&snapshot, &[("GET /", "ns/b:80*1")]);
}

#[test]
fn export_to_limits_the_clients() {
    let spec = format!("hosts: [web], exportTo: [., x], http: [{{{TO_B}}}]");
    let snapshot = with(&virtual_service("v", &spec));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let web = listener(&snapshot, "web", 80);
    for (clients, expected) in [
        ("ns", "ns/b:80*1"),
        ("x", "ns/b:80*1"),
        ("y", "ns/web:80*1"),
    ] {
        assert_eq!(
            ask(web.routes_for(clients), &snapshot, "GET /"),
            expected,
            "{clients}"
        );
    }
}

#[test]
fn an_http_route_decides_before_a_virtual_service_and_the_first_of_two_wins() {
    let spec = format!("hosts: [web], http: [{{{TO_B}}}]");
    let second = virtual_service("w", &spec.replace("host: b", "host: web"));
    let snapshot = with(&(virtual_service("v", &spec) + &second));
    assert_eq!(
        only_problem(&snapshot),
        "VirtualService.networking.istio.io ns/w: of no effect on Service ns/web: \
         VirtualService.networking.istio.io ns/v decides"
    );
    answers(&snapshot, &[("GET /", "ns/b:80*1")]);
    let route = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\nmetadata: {name: r, namespace: ns}\n\
                 spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}\n---\n";
    let snapshot = with(&(virtual_service("v", &spec) + route));
    assert_eq!(
        only_problem(&snapshot),
        "VirtualService.networking.istio.io ns/v: of no effect on Service ns/web: \
         HTTPRoute.gateway.networking.k8s.io ns/r decides"
    );
    answers(&snapshot, &[("GET /", "ns/web:80*1")]);
}
