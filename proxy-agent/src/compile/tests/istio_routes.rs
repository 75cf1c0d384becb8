//! Routes of VirtualServices: ports that are not named, and what is said of their fields.

use super::{ask, compile, listener, only_problem, problems, service};
use crate::model::{Action, Redirect, RedirectPort, Snapshot};

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: ns}}\nspec: {{{spec}}}\n---\n"
    )
}

fn with_ports(name: &str, ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: ns}}\n\
         spec: {{ports: [{ports}]}}\n---\n"
    )
}

fn with_http(http: &str) -> Snapshot {
    let spec = format!("hosts: [web], http: [{http}]");
    compile(&(service("web", 80) + &service("b", 80) + &virtual_service("v", &spec)))
}

const TO_B: &str = "route: [{destination: {host: b}}]";
const TWO: &str = "{port: 80, name: http}, {port: 81, name: http-81}";

fn on(snapshot: &Snapshot, port: u16, request: &str) -> String {
    ask(&listener(snapshot, "web", port).routes, snapshot, request)
}

#[test]
fn a_destination_without_a_port_has_the_one_that_was_asked_for() {
    let http = format!(
        "hosts: [web], http: [{{match: [{{uri: {{prefix: /a}}, port: 81}}], {TO_B}}}, \
         {{match: [{{uri: {{prefix: /a}}}}], directResponse: {{status: 418}}}}, {{{TO_B}}}]"
    );
    let object = virtual_service("v", &http);
    let web = with_ports("web", TWO);
    let snapshot = compile(&(web.clone() + &with_ports("b", TWO) + &object));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    for (port, request, expected) in [
        (80, "GET /", "ns/b:80*1"),
        (81, "GET /", "ns/b:81*1"),
        (80, "GET /a", "direct 418"),
        (81, "GET /a", "ns/b:81*1"),
    ] {
        assert_eq!(on(&snapshot, port, request), expected, "{port} {request}");
    }
    let other = with_ports("b", "{port: 80, name: http}, {port: 90, name: http-90}");
    let snapshot = compile(&(web.clone() + &other + &object));
    let problems = problems(&snapshot);
    assert_eq!(problems.len(), 2, "one for each route: {problems:#?}");
    for (problem, field) in problems.iter().zip(["spec.http[0]", "spec.http[2]"]) {
        let expected = format!(
            "{field}.route[0].destination.port: is missing, and Service ns/b has no TCP port 81"
        );
        assert!(problem.contains(&expected), "{problem}");
    }
    assert_eq!(on(&snapshot, 80, "GET /"), "ns/b:80*1");
    assert_eq!(on(&snapshot, 81, "GET /"), "invalid*1");
    let alone = with_ports("b", "{port: 90, name: http}");
    let snapshot = compile(&(web + &alone + &object));
    assert_eq!(on(&snapshot, 81, "GET /"), "ns/b:90*1", "the only one");
}

#[test]
fn a_mirror_without_a_port_has_the_one_that_was_asked_for() {
    let spec = "hosts: [web], http: [{mirror: {host: b}, route: [{destination: {host: web}}]}]";
    let both = with_ports("web", TWO) + &with_ports("b", TWO);
    let snapshot = compile(&(both + &virtual_service("v", spec)));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    for port in [80, 81] {
        let table = &listener(&snapshot, "web", port).routes;
        let policies = table.rules[0].policies.as_ref().expect("policies");
        let crate::model::Destination::Cluster(to) = policies.mirrors[0].to else {
            panic!("a cluster");
        };
        let name = &snapshot.cluster(to).expect("a cluster").name;
        assert_eq!(**name, format!("ns/b:{port}"));
    }
}

#[test]
fn every_fault_of_a_route_is_named_at_once() {
    let snapshot = with_http(
        "{timeout: soon, retries: {attempts: -1, retryOn: never, perTryTimeout: x}, \
         fault: {delay: {fixedDelay: x, percent: -5}, abort: {httpStatus: 99, percentage: {value: 101}}}, \
         mirror: {host: b}, mirrorPercent: 150, \
         corsPolicy: {maxAge: x, unmatchedPreflights: NEVER}, \
         rewrite: {authority: 'a b'}, \
         headers: {request: {set: {x-a: b, content-length: '1', te: a}, remove: [te]}}, \
         route: [{destination: {host: b}, weight: -1, headers: {response: {add: {'a b': c}}}}]}",
    );
    let all = problems(&snapshot);
    let expected = [
        "timeout",
        "retries.attempts",
        "retries.retryOn",
        "retries.perTryTimeout",
        "fault.delay.fixedDelay",
        "fault.delay.percent",
        "fault.abort.httpStatus",
        "fault.abort.percentage",
        "mirrorPercent",
        "corsPolicy.maxAge",
        "corsPolicy.unmatchedPreflights",
        "rewrite.authority",
        "headers.request.set[content-length]",
        "headers.request.set[te]",
        "headers.request.remove[0]",
        "route[0].headers.response.add[a b]",
        "route[0].weight",
    ];
    for field in expected {
        let place = format!("spec.http[0].{field}: ");
        assert!(
            all.iter().any(|one| one.contains(&place)),
            "{field}: {all:#?}"
        );
    }
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    let weight = all.iter().find(|one| one.contains(".weight: "));
    let weight = weight.expect("a weight");
    assert!(
        weight.contains("found -1, accepted: 0 and above"),
        "{weight}"
    );
    assert_eq!(on(&snapshot, 80, "GET /"), "500 invalid_route");
}

#[test]
fn what_stands_beside_an_answer_is_refused_or_named() {
    for (route, field, severity) in [
        (
            "redirect: {uri: /x}, rewrite: {uri: /y}",
            "rewrite",
            "error",
        ),
        (
            "directResponse: {status: 200}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}",
            "fault",
            "error",
        ),
        ("redirect: {uri: /x}, timeout: 1s", "timeout", "warning"),
        (
            "redirect: {uri: /x}, mirror: {host: b}",
            "mirror",
            "warning",
        ),
        (
            "directResponse: {status: 200}, retries: {attempts: 1}",
            "retries",
            "warning",
        ),
        (
            "route: [{destination: {host: b}}], mirrorPercentage: {value: 1}",
            "mirrorPercentage",
            "warning",
        ),
    ] {
        let snapshot = with_http(&format!("{{{route}}}"));
        let problem = only_problem(&snapshot);
        assert!(
            problem.contains(&format!("spec.http[0].{field}: ")),
            "{problem}"
        );
        let answered = on(&snapshot, 80, "GET /");
        assert_eq!(
            answered == "500 invalid_route",
            severity == "error",
            "{route}"
        );
    }
}

#[test]
fn one_without_routes_is_named() {
    let spec = "hosts: [web]";
    let snapshot = compile(&(service("web", 80) + &virtual_service("v", spec)));
    assert!(only_problem(&snapshot).contains("spec: has no routes"));
    assert_eq!(on(&snapshot, 80, "GET /"), "ns/web:80*1");
}

#[test]
fn a_redirect_to_another_host_has_its_schemes_port() {
    for (redirect, expected) in [
        ("authority: a", RedirectPort::Number(80)),
        ("authority: a, scheme: https", RedirectPort::Number(443)),
        ("authority: a, port: 81", RedirectPort::Number(81)),
        ("authority: 'a:82'", RedirectPort::Number(82)),
        (
            "authority: a, derivePort: FROM_REQUEST_PORT",
            RedirectPort::Asked,
        ),
        ("uri: /x", RedirectPort::Unsaid),
        ("scheme: https", RedirectPort::AskedUnlessDefault),
    ] {
        let snapshot = with_http(&format!("{{redirect: {{{redirect}}}}}"));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        let rule = &listener(&snapshot, "web", 80).routes.rules[0];
        let Action::Redirect {
            redirect: Redirect { port, .. },
            ..
        } = &*rule.action
        else {
            panic!("a redirect");
        };
        assert_eq!(*port, expected, "{redirect}");
    }
    for (redirect, field) in [
        ("authority: 'a b'", "authority"),
        ("authority: 'a:0'", "authority"),
        ("port: 0, uri: /x", "port"),
        ("uri: '/a b'", "uri"),
    ] {
        let snapshot = with_http(&format!("{{redirect: {{{redirect}}}}}"));
        let place = format!("spec.http[0].redirect.{field}: ");
        assert!(only_problem(&snapshot).contains(&place), "{redirect}");
    }
}

#[test]
fn conditions_that_no_request_meets_are_named() {
    for (conditions, expected) in [
        (
            "uri: {prefix: foo}",
            "uri.prefix: found `foo`, and paths begin with /; no request matches",
        ),
        ("uri: {exact: foo}", "uri.exact: found `foo`"),
        (
            "port: 81",
            "port: found 81, which no Service of `hosts` has as a TCP port; there are: 80",
        ),
    ] {
        let snapshot = with_http(&format!("{{match: [{{{conditions}}}], {TO_B}}}"));
        let problem = only_problem(&snapshot);
        let expected = format!("spec.http[0].match[0].{expected}");
        assert!(problem.contains(&expected), "{problem}");
        assert_eq!(on(&snapshot, 80, "GET /foo"), "404");
    }
}

#[test]
fn export_to_nobody_is_refused_by_name() {
    let spec = format!("hosts: [web], exportTo: ['~'], http: [{{{TO_B}}}]");
    let both = service("web", 80) + &service("b", 80);
    let snapshot = compile(&(both + &virtual_service("v", &spec)));
    assert!(only_problem(&snapshot).contains("spec.exportTo[0]: found `~`, accepted: *, ."));
    assert_eq!(on(&snapshot, 80, "GET /"), "ns/web:80*1");
}

#[test]
fn a_delegate_is_for_those_it_is_exported_to_and_says_nothing_of_gateways() {
    let root = virtual_service(
        "v",
        "hosts: [web], http: [{match: [{uri: {prefix: /a}}], delegate: {name: d, namespace: far}}]",
    );
    let delegate = |more: &str| {
        let spec = format!("{more} http: [{{route: [{{destination: {{host: b.ns}}}}]}}]");
        virtual_service("d", &spec).replace("namespace: ns}", "namespace: far}")
    };
    let with = |more: &str| {
        let services = service("web", 80) + &service("b", 80);
        compile(&(services + &root + &delegate(more)))
    };
    for shown in ["", "exportTo: ['*'],", "exportTo: [other, ns],"] {
        let snapshot = with(shown);
        assert_eq!(problems(&snapshot), Vec::<String>::new(), "{shown}");
        assert_eq!(on(&snapshot, 80, "GET /a"), "ns/b:80*1");
    }
    for hidden in ["exportTo: [.],", "exportTo: [other],"] {
        let snapshot = with(hidden);
        let problem = only_problem(&snapshot);
        let expected =
            "spec.http[0].delegate: no VirtualService far/d that is exported to ns (`exportTo`)";
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(on(&snapshot, 80, "GET /a"), "500 invalid_route");
    }
    let snapshot = with("gateways: [gw],");
    assert!(only_problem(&snapshot).contains("far/d: spec.gateways: has no effect"));
}

#[test]
fn matches_that_cannot_be_merged_are_named() {
    let root = "hosts: [web], http: [{match: [{uri: {prefix: /a}}], delegate: {name: d}}]";
    let delegate =
        format!("http: [{{match: [{{uri: {{prefix: /a/x}}}}, {{uri: {{prefix: /b}}}}], {TO_B}}}]");
    let objects = virtual_service("v", root) + &virtual_service("d", &delegate);
    let snapshot = compile(&(service("web", 80) + &service("b", 80) + &objects));
    let problem = only_problem(&snapshot);
    let expected = "ns/d: spec.http[0].match[1]: cannot be merged with spec.http[0].match[0] of \
                    VirtualService ns/v: the pair is left out";
    assert!(problem.contains(expected), "{problem}");
    assert_eq!(on(&snapshot, 80, "GET /a/x"), "ns/b:80*1");
    assert_eq!(on(&snapshot, 80, "GET /b"), "404");
}

#[test]
fn connections_to_a_destination_without_a_port_have_the_one_that_was_asked_for() {
    let spec = "tls: [{match: [{sniHosts: [a.example]}], route: [{destination: {host: b}}]}], \
                tcp: [{route: [{destination: {host: b}}]}]";
    let object = virtual_service("v", &format!("hosts: [web], {spec}"));
    let tls = "{port: 443, name: https}";
    let tcp = "{port: 7, name: tcp-a}, {port: 8, name: tcp-b}";
    let http = "{port: 80, name: http}";
    let with = |of_b: &str| {
        let web = with_ports("web", &format!("{tls}, {tcp}, {http}"));
        compile(&(web + &with_ports("b", of_b) + &object))
    };
    let to = |snapshot: &Snapshot, port: u16| {
        let table = listener(snapshot, "web", port).streams_for("ns");
        let rules = table.map(|table| table.rules.iter());
        let names = rules.into_iter().flatten().map(|rule| {
            let to = &rule.destinations[0].destination;
            let crate::model::Destination::Cluster(id) = to else {
                return "invalid".to_owned();
            };
            snapshot.cluster(*id).expect("a cluster").name.to_string()
        });
        names.collect::<Vec<_>>()
    };
    let snapshot = with(&format!("{tls}, {tcp}"));
    assert_eq!(
        problems(&snapshot),
        Vec::<String>::new(),
        "nothing of port 80"
    );
    for port in [443, 7, 8] {
        let all = to(&snapshot, port);
        assert_eq!(all.first(), Some(&format!("ns/b:{port}")), "{all:?}");
    }
    let snapshot = with(&format!("{tls}, {{port: 7, name: tcp-a}}"));
    let problem = only_problem(&snapshot);
    let expected = "spec.tcp[0].route[0].destination.port: is missing, and Service ns/b has no TCP \
                    port 8; it has: 7, 443; its share of connections is reset";
    assert!(problem.contains(expected), "{problem}");
    assert_eq!(
        to(&snapshot, 8).first().map(String::as_str),
        Some("invalid")
    );
}
