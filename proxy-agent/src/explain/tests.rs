//! Explanations of one small configuration.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};

use super::{Error, Query, describe, explain};
use crate::compile::{Compiler, Options};
use crate::model::Snapshot;
use crate::objects::{Format, ObjectSet, Origin, parse};
use crate::status::Explanation;

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80}, {port: 5432, name: tcp-db}, {port: 53, name: dns}]}
---
apiVersion: v1
kind: Service
metadata: {name: canary, namespace: shop}
spec: {clusterIP: 10.0.0.2, selector: {app: canary}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: shop, uid: u, labels: {app: canary}, annotations: {proxy-agent.io/capture: enabled}}
spec: {containers: [{name: c}]}
status: {podIP: 10.1.0.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
  - matches: [{path: {value: /beta}, headers: [{name: x-user, value: jane}]}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}}]
    timeouts: {request: 5s}
    backendRefs: [{name: canary, port: 80}]
  - matches: [{path: {value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example}}]
  - matches: [{path: {value: /shop}}]
    backendRefs: [{name: web, port: 80, weight: 3}, {name: canary, port: 80, weight: 1}]
---
apiVersion: linkerd.io/v1
kind: Service
metadata: {name: l5d, namespace: shop}
spec: {port: 8080, host: virtual.example, label: app=canary}
";

fn snapshot() -> Snapshot {
    compiled(OBJECTS)
}

fn compiled(objects: &str) -> Snapshot {
    let parsed = parse(objects, &Arc::from("t.yaml"), Format::Yaml);
    let mut set = ObjectSet::unsynced("test".into(), Origin::Files);
    set.objects = parsed.objects.into_iter().map(Arc::new).collect();
    let snapshot = Compiler::default().compile(&[Arc::new(set)], &Options::default());
    assert_eq!(*snapshot.problems, []);
    snapshot
}

fn query(url: &str, headers: &[(&'static str, &'static str)]) -> Query {
    let pairs = headers.iter().map(|(name, value)| {
        let name = http::HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    });
    Query {
        namespace: "shop".to_owned(),
        pod: "c".to_owned(),
        method: Method::GET,
        url: url.to_owned(),
        headers: pairs.collect::<HeaderMap>(),
    }
}

fn ask(url: &str, headers: &[(&'static str, &'static str)]) -> Explanation {
    explain(&snapshot(), &query(url, headers)).expect("an explanation")
}

#[test]
fn a_route_that_matches_is_named_with_what_it_does() {
    let answer = ask("http://web/beta/x", &[("x-user", "jane")]);
    assert_eq!(answer.from, "shop/c: captured");
    assert_eq!(answer.verdict, "proxy (http)");
    assert_eq!(answer.listener, "shop/web:80");
    assert_eq!(answer.address, "10.0.0.1:80");
    assert_eq!(
        answer.route,
        "HTTPRoute.gateway.networking.k8s.io shop/split spec.rules[0]"
    );
    assert_eq!(
        answer.action,
        ["rewrites the path to /v2/x", "request timeout 5s"]
    );
    assert_eq!(answer.clusters[0].name, "shop/canary:80");
    let endpoint = &answer.clusters[0].endpoints[0];
    assert_eq!(
        (&*endpoint.address, &*endpoint.pod, endpoint.usable),
        ("10.1.0.1:80", "shop/c", true)
    );
}

#[test]
fn a_request_that_no_rule_matches_names_the_near_misses() {
    let answer = ask("http://web/beta", &[("x-user", "joe")]);
    let route = "HTTPRoute.gateway.networking.k8s.io shop/split";
    assert_eq!(answer.route, format!("no rule of {route} matches"));
    assert_eq!(answer.action, ["answers 404 (no_route)"]);
    assert_eq!(
        answer.near_misses[0],
        format!("{route} spec.rules[0]: needs header x-user = jane, found joe")
    );
    assert_eq!(
        answer.near_misses[1],
        format!("{route} spec.rules[2]: needs path /shop/*, found /beta")
    );
    assert_eq!((answer.near_misses.len(), answer.more_misses), (3, 0));
}

#[test]
fn shares_and_redirects_are_spelled_out() {
    let shares: Vec<_> = ask("http://web/shop", &[])
        .clusters
        .iter()
        .map(|one| (one.name.clone(), one.share_percent))
        .collect();
    assert_eq!(
        shares,
        [
            ("shop/web:80".to_owned(), 75.0),
            ("shop/canary:80".to_owned(), 25.0)
        ]
    );
    let answer = ask("http://web/old?q=1", &[]);
    assert_eq!(answer.action, ["answers 302 to http://new.example/old?q=1"]);
}

#[test]
fn a_path_is_matched_in_its_normal_form_where_a_route_decides() {
    let answer = ask("http://web//x/../%62eta", &[("x-user", "jane")]);
    assert_eq!(answer.path, "/beta");
    assert_eq!(answer.clusters[0].name, "shop/canary:80");
    let answer = ask("http://web/beta", &[("x-user", "jane")]);
    assert_eq!(answer.path, "", "it was so already");
    let answer = ask("http://web/a%00", &[]);
    assert_eq!(
        answer.action,
        ["answers 400 (bad_request): the path holds %00"]
    );
    let plain = "---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: shop}
spec: {clusterIP: 10.0.0.3, ports: [{port: 80, name: http}]}
";
    let snapshot = compiled(&format!("{OBJECTS}{plain}"));
    let answer = explain(&snapshot, &query("http://plain//x/../y", &[]));
    let answer = answer.expect("an explanation");
    assert_eq!((&*answer.path, &*answer.origin), ("", "implicit"));
}

#[test]
fn endpoints_that_get_no_requests_are_named_with_the_reason() {
    let more = "---
apiVersion: v1
kind: Pod
metadata: {name: late, namespace: shop, uid: l, labels: {app: canary}}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: sick, namespace: shop, uid: s, labels: {app: canary}}
spec: {containers: [{name: c}]}
status: {podIP: 10.1.0.2, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: shop, uid: d, labels: {app: canary}}
spec: {containers: [{name: c}]}
status: {podIP: 10.1.0.3, phase: Succeeded}
";
    let snapshot = compiled(&format!("{OBJECTS}{more}"));
    let answer = explain(&snapshot, &query("http://canary", &[])).expect("an explanation");
    let endpoints = answer.clusters[0].endpoints.iter();
    let shown: Vec<_> = endpoints
        .map(|one| (&*one.pod, one.usable, &*one.reason))
        .collect();
    assert_eq!(
        shown,
        [
            ("shop/c", true, ""),
            ("shop/late", false, "its pod has no address yet"),
            ("shop/sick", false, "not ready"),
            ("shop/done", false, "its pod has ended"),
        ]
    );
}

#[test]
fn hosts_are_resolved_as_pods_would() {
    for url in [
        "http://web",
        "web/",
        "http://WEB.shop",
        "http://web.shop.svc",
        "http://web.shop.svc.cluster.local./",
        "http://10.0.0.1",
    ] {
        assert_eq!(ask(url, &[]).listener, "shop/web:80", "{url}");
    }
    for (url, verdict) in [
        ("http://web:5432", "direct (an endpoint, without the agent)"),
        ("http://web:53", "pass (dns)"),
        ("https://web:80", "proxy (http)"),
        (
            "http://web:81",
            "pass: Service shop/web has no port 81; it has: 53, 80, 5432",
        ),
        (
            "http://web.other",
            "pass: `web.other` is no Service that is known",
        ),
        (
            "http://example.org",
            "pass: `example.org` is no Service that is known",
        ),
        (
            "http://10.1.0.1:80",
            "pass: 10.1.0.1:80 is pod shop/c: pod addresses are not routed",
        ),
        (
            "http://10.9.9.9",
            "pass: 10.9.9.9:80 is no Service's address",
        ),
    ] {
        assert_eq!(ask(url, &[]).verdict, verdict, "{url}");
    }
}

#[test]
fn tls_on_an_http_port_is_opaque() {
    let answer = ask("https://web:80/shop", &[]);
    assert_eq!(
        answer.route,
        "none: opaque TCP, TLS among it, is balanced by connection"
    );
    assert_eq!(answer.clusters[0].name, "shop/web:80");
}

#[test]
fn a_virtual_host_counts_before_the_listeners_routes() {
    let answer = ask("http://web/", &[("host", "Virtual.example:80")]);
    assert_eq!(answer.route, "Service.linkerd.io shop/l5d spec");
    assert_eq!(answer.clusters[0].name, "linkerd/shop/l5d");
    let answer = ask("http://virtual.example/", &[]);
    assert_eq!(
        answer.verdict,
        "proxy (http), on any HTTP port that is captured: the host is a virtual one"
    );
}

#[test]
fn a_pod_that_is_not_known_is_said_to_be() {
    let mut query = query("http://web", &[]);
    query.pod = "other".to_owned();
    let answer = explain(&snapshot(), &query).expect("an explanation");
    assert_eq!(
        answer.from,
        "shop/other: not known: no source names such a pod with a uid"
    );
}

#[test]
fn what_is_no_url_is_an_error() {
    let refused = |url: &str| explain(&snapshot(), &query(url, &[])).expect_err("no URL");
    assert!(matches!(refused("http://a b"), Error::Url { .. }));
    assert!(matches!(refused(""), Error::Url { .. }));
}

#[test]
fn rules_are_one_line_each() {
    let snapshot = snapshot();
    let listener = snapshot
        .listeners
        .iter()
        .find(|one| one.port == 80 && &*one.service == "web");
    let rules = &listener.expect("a listener").routes.rules;
    let lines: Vec<_> = rules.iter().map(|rule| describe(rule, &snapshot)).collect();
    assert_eq!(
        lines,
        [
            "path /beta/*, header x-user = jane → shop/canary:80; \
             rewrites the path to /v2 in place of the prefix; request timeout 5s",
            "path /shop/* → shop/web:80 3/4, shop/canary:80 1/4",
            "path /old/* → redirect 302",
        ]
    );
}

#[test]
fn the_authority_is_asked_as_a_client_writes_it() {
    const BY_AUTHORITY: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80, name: http}, {port: 8080, name: http-alt}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec:
  hosts: [web]
  http:
  - match: [{authority: {regex: 'web:[0-9]+'}}]
    directResponse: {status: 418}
  - match: [{authority: {regex: 'web'}}]
    directResponse: {status: 404}
";
    let snapshot = compiled(BY_AUTHORITY);
    for (url, headers, expected) in [
        ("http://web:8080/", &[][..], "answers 418 (direct_response)"),
        ("http://web:80/", &[], "answers 404 (direct_response)"),
        ("http://web/", &[], "answers 404 (direct_response)"),
        (
            "http://web:8080/",
            &[("host", "web")],
            "answers 404 (direct_response)",
        ),
        (
            "http://web/",
            &[("host", "web:1")],
            "answers 418 (direct_response)",
        ),
    ] {
        let answer = explain(&snapshot, &query(url, headers)).expect("an explanation");
        assert!(
            answer.action.iter().any(|line| line == expected),
            "{url}: {answer:?}"
        );
    }
}

#[test]
fn a_port_that_there_is_not_is_no_default_one() {
    for url in [
        "http://web:99999/",
        "web:0",
        "http://web:65536",
        "http://[::1]:70000/",
    ] {
        let refused = explain(&snapshot(), &query(url, &[]));
        assert!(
            matches!(refused, Err(Error::Port { .. })),
            "{url}: {refused:?}"
        );
    }
    let whole = explain(&snapshot(), &query("http://web:65535/", &[]));
    assert!(whole.is_ok(), "{whole:?}");
}

#[test]
fn a_call_without_a_rule_is_answered_in_grpcs_own_way() {
    let call = [("content-type", "application/grpc+proto")];
    let answer = ask("http://web/a.B/C", &call);
    let expected = "answers 200 with grpc-status 12 UNIMPLEMENTED (no_route)";
    assert_eq!(answer.action, [expected]);
    let other = ask("http://web/a.B/C", &[("content-type", "application/json")]);
    assert_eq!(other.action, ["answers 404 (no_route)"]);
}
