//! What VirtualServices do beside routing, and whom they ask for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::{
    Client, RequestView, ask, compile, listener, only_problem, problems, rewrite_path, service,
};
use crate::model::{AbortWith, Action, DelayTime, Listed, Policies, Rule, Snapshot, StringMatch};

const TO_B: &str = "route: [{destination: {host: b}}]";
const TO_WEB: &str = "route: [{destination: {host: web}}]";

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
    let snapshot = with(&virtual_service(
        "v",
        &format!("hosts: [web], http: [{http}]"),
    ));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    snapshot
}

fn first(snapshot: &Snapshot) -> &Rule {
    &listener(snapshot, "web", 80).routes.rules[0]
}

fn policies(snapshot: &Snapshot) -> &Policies {
    first(snapshot).policies.as_deref().expect("policies")
}

fn answers(snapshot: &Snapshot, requests: &[(&str, &str)]) {
    let table = &listener(snapshot, "web", 80).routes;
    for (request, expected) in requests {
        assert_eq!(ask(table, snapshot, request), *expected, "{request}");
    }
}

#[test]
fn a_route_without_retries_has_the_default_ones() {
    let snapshot = with_http(&format!("{{{TO_B}}}"));
    let retry = policies(&snapshot).retry.as_ref().expect("a retry");
    assert_eq!(retry.attempts, 2);
    assert!(retry.on.connect_failure && retry.on.refused_stream && !retry.on.reset);
    assert!(retry.on.statuses.is_empty());
    assert_eq!(retry.on.grpc, [14, 1]);
    let snapshot = with_http(&format!("{{retries: {{attempts: 0}}, {TO_B}}}"));
    assert!(first(&snapshot).policies.is_none(), "turned off");
}

#[test]
fn retry_conditions_are_envoys() {
    let snapshot = with_http(&format!(
        "{{retries: {{attempts: 3, perTryTimeout: 2s, retryOn: 'gateway-error,retriable-4xx,418,internal', backoff: 10ms}}, {TO_B}}}"
    ));
    let retry = policies(&snapshot).retry.as_ref().expect("a retry");
    assert_eq!(retry.attempts, 3);
    assert_eq!(retry.per_try, Some(Duration::from_secs(2)));
    assert_eq!(retry.on.statuses, [502..=504, 409..=409, 418..=418]);
    assert!(retry.on.connect_failure && retry.on.refused_stream && retry.on.reset);
    assert_eq!(retry.on.grpc, [13]);
    assert_eq!(retry.backoff.cap, Duration::from_millis(100));
    for (on, reset) in [
        ("5xx", true),
        ("reset-before-request", false),
        ("reset", true),
    ] {
        let snapshot = with_http(&format!(
            "{{retries: {{attempts: 1, retryOn: {on}}}, {TO_B}}}"
        ));
        let retry = policies(&snapshot).retry.as_ref().expect("a retry");
        assert_eq!(retry.on.reset, reset, "{on}");
    }
}

#[test]
fn faults_have_shares_down_to_a_ten_thousandth_of_a_percent() {
    let snapshot = with_http(&format!(
        "{{fault: {{delay: {{fixedDelay: 1.5s, percentage: {{value: 0.1}}}}, abort: {{httpStatus: 418, percentage: {{value: 100}}}}}}, {TO_B}}}"
    ));
    let delay = policies(&snapshot).delay.expect("a delay");
    assert_eq!(delay.time, DelayTime::Fixed(Duration::from_millis(1_500)));
    let share = (delay.share.numerator, delay.share.denominator);
    assert_eq!(share, (1_000, 1_000_000));
    let abort = policies(&snapshot).abort.expect("an abort");
    assert_eq!(abort.with, AbortWith::Http(http::StatusCode::IM_A_TEAPOT));
    assert!(abort.share.hits(u32::MAX), "all of them");
    for (name, code) in [("UNAVAILABLE", 14), ("'8'", 8)] {
        let snapshot = with_http(&format!(
            "{{fault: {{abort: {{grpcStatus: {name}, percentage: {{value: 50}}}}}}, {TO_B}}}"
        ));
        let abort = policies(&snapshot).abort.expect("an abort");
        assert_eq!(abort.with, AbortWith::Grpc(code));
    }
}

#[test]
fn what_is_left_out_of_faults_and_retries_stands_for_0_and_is_named() {
    for (part, field) in [
        ("fault: {delay: {fixedDelay: 1s}}", "fault.delay.percentage"),
        (
            "fault: {abort: {httpStatus: 418}}",
            "fault.abort.percentage",
        ),
        ("retries: {retryOn: 5xx}", "retries.attempts"),
    ] {
        let spec = format!("hosts: [web], http: [{{{part}, {TO_B}}}]");
        let snapshot = with(&virtual_service("v", &spec));
        let problem = only_problem(&snapshot);
        assert!(
            problem.contains(&format!("spec.http[0].{field}: is missing")),
            "{problem}"
        );
        let policies = first(&snapshot).policies.as_deref();
        let shares =
            policies.map(|of| (of.delay.map(|one| one.share), of.abort.map(|one| one.share)));
        let (delay, abort) = shares.unwrap_or_default();
        let hit = [delay, abort]
            .into_iter()
            .flatten()
            .any(|share| share.hits(0));
        assert!(!hit, "{field}");
        answers(&snapshot, &[("GET /", "ns/b:80*1")]);
    }
}

#[test]
fn mirrors_of_istio_have_a_shadow_host() {
    let snapshot = with_http(&format!(
        "{{mirror: {{host: b}}, mirrorPercentage: {{value: 25}}, mirrors: [{{destination: {{host: web}}}}], {TO_B}}}"
    ));
    let mirrors = &policies(&snapshot).mirrors;
    let shares: Vec<_> = mirrors.iter().map(|one| one.share.numerator).collect();
    assert_eq!(shares, [250_000, 1]);
    assert!(mirrors.iter().all(|one| one.shadow_host));
    let snapshot = with(&virtual_service(
        "v",
        &format!("hosts: [web], http: [{{mirror: {{host: gone}}, {TO_B}}}]"),
    ));
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.http[0].mirror.host: found `gone`"),
        "{problem}"
    );
    answers(&snapshot, &[("GET /", "ns/b:80*1")]);
}

#[test]
fn cors_forwards_preflights_of_other_origins_unless_told_otherwise() {
    let snapshot = with_http(&format!(
        "{{corsPolicy: {{allowOrigins: [{{exact: '*'}}, {{regex: 'https://.*'}}], allowOrigin: [http://a], \
         allowMethods: [GET, PUT], allowHeaders: ['*'], maxAge: 24h}}, {TO_B}}}"
    ));
    let cors = policies(&snapshot).cors.as_ref().expect("cors");
    assert!(matches!(
        &cors.origins[..],
        [
            StringMatch::Exact(_),
            StringMatch::Present,
            StringMatch::Regex(_)
        ]
    ));
    assert_eq!(
        cors.methods,
        Listed::Names("GET,PUT".parse().expect("a value"))
    );
    assert_eq!(cors.headers, Listed::Asked);
    assert_eq!(cors.max_age.as_ref().expect("a header"), "86400");
    assert!(cors.forward_unmatched && !cors.credentials);
    let snapshot = with_http(&format!(
        "{{corsPolicy: {{unmatchedPreflights: IGNORE}}, {TO_B}}}"
    ));
    assert!(
        policies(&snapshot)
            .cors
            .as_ref()
            .is_some_and(|of| !of.forward_unmatched)
    );
}

#[test]
fn a_direct_response_is_a_status_and_a_text() {
    let snapshot = with_http("{directResponse: {status: 503, body: {string: closed}}}");
    let rule = first(&snapshot);
    assert!(
        matches!(&*rule.action, Action::Direct { status, body, .. } if *status == 503 && body == "closed")
    );
    assert!(
        rule.policies.is_none(),
        "nothing is sent, so nothing is retried"
    );
}

#[test]
fn a_regular_expression_rewrites_the_path() {
    let snapshot = with_http(&format!(
        "{{rewrite: {{uriRegexRewrite: {{match: '^/([^/]+)/v1', rewrite: '/v2/\\1'}}}}, {TO_B}}}"
    ));
    let rule = first(&snapshot);
    let Action::Forward { filters, .. } = &*rule.action else {
        panic!("no forward");
    };
    let rewrite = filters.rewrite_path.as_ref().expect("a rewrite");
    assert_eq!(
        rewrite_path(rule, rewrite, "/cart/v1/items"),
        "/v2/cart/items"
    );
    assert_eq!(rewrite_path(rule, rewrite, "/v1"), "/v1");
}

#[test]
fn headers_may_be_forbidden_and_letter_case_ignored() {
    let snapshot = with_http(&format!(
        "{{match: [{{uri: {{prefix: /Cart}}, ignoreUriCase: true, withoutHeaders: {{x-a: {{exact: '1'}}, x-b: {{}}}}}}], {TO_B}}}"
    ));
    answers(
        &snapshot,
        &[
            ("GET /cART/x", "ns/b:80*1"),
            ("GET /cart x-a=2", "ns/b:80*1"),
            ("GET /cart x-a=1", "404"),
            ("GET /cart x-b=any", "404"),
            ("GET /car", "404"),
        ],
    );
    let snapshot = with_http(&format!(
        "{{match: [{{scheme: {{exact: https}}}}], {TO_B}}}, {{match: [{{scheme: {{exact: http}}}}], {TO_WEB}}}"
    ));
    answers(&snapshot, &[("GET /", "ns/web:80*1")]);
}

#[test]
fn a_client_is_known_by_its_namespace_and_its_labels() {
    let snapshot = with_http(&format!(
        "{{match: [{{sourceNamespace: ns, sourceLabels: {{app: shop}}}}], {TO_B}}}"
    ));
    let rule = first(&snapshot);
    let labels = |value: &str| BTreeMap::from([("app".to_owned(), value.to_owned())]);
    let known: HashMap<Arc<str>, _> =
        HashMap::from([("u1".into(), labels("shop")), ("u2".into(), labels("blog"))]);
    let headers = HeaderMap::new();
    for (namespace, uid, expected) in [
        ("ns", "u1", true),
        ("ns", "u2", false),
        ("ns", "gone", false),
        ("other", "u1", false),
    ] {
        let request = RequestView {
            method: &Method::GET,
            path: "/",
            query: None,
            authority: "web",
            headers: &headers,
            client: Some(Client {
                namespace,
                uid,
                labels: &known,
            }),
        };
        assert_eq!(
            rule.conditions.holds(&request),
            expected,
            "{namespace} {uid}"
        );
    }
}

#[test]
fn the_labels_of_this_nodes_pods_are_in_the_snapshot() {
    let snapshot = compile(&super::pod("client", "10.0.0.9"));
    let labels = snapshot.pod_labels.get("uid-client");
    assert_eq!(
        labels.and_then(|all| all.get("app")).map(String::as_str),
        Some("client")
    );
}

#[test]
fn a_delegates_routes_stand_in_place_of_the_roots() {
    let root = virtual_service(
        "root",
        "hosts: [web], http: [{match: [{uri: {prefix: /a}}], timeout: 3s, delegate: {name: d}}]",
    );
    let delegate = virtual_service(
        "d",
        &format!(
            "http: [{{match: [{{uri: {{prefix: /a/b}}}}], {TO_B}}}, \
             {{match: [{{uri: {{exact: /c}}}}], {TO_WEB}}}, \
             {{timeout: 1s, {TO_WEB}}}]"
        ),
    );
    let snapshot = with(&(root.clone() + &delegate));
    let problem = only_problem(&snapshot);
    let expected = "ns/d: spec.http[1].match[0]: cannot be merged with spec.http[0].match[0]";
    assert!(problem.contains(expected), "{problem}");
    answers(
        &snapshot,
        &[
            ("GET /a/b/c", "ns/b:80*1"),
            ("GET /a", "ns/web:80*1"),
            ("GET /c", "404"),
        ],
    );
    let rules = &listener(&snapshot, "web", 80).routes.rules;
    let timeouts: Vec<_> = rules.iter().map(|rule| rule.timeouts.request).collect();
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(timeouts, [seconds(3), seconds(1)]);
    let named = rules[0].object.as_ref().expect("an object");
    assert_eq!(&*named.name, "d", "rules are told by where they stand");

    let snapshot = with(&root);
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.http[0].delegate: no VirtualService ns/d"),
        "{problem}"
    );
    answers(&snapshot, &[("GET /a", "500 invalid_route")]);
    let snapshot = with(&delegate);
    assert!(only_problem(&snapshot).contains("spec.hosts: is missing"));
}

#[test]
fn a_host_with_a_wildcard_stands_for_services_and_a_name_comes_first() {
    let any = virtual_service("a", &format!("hosts: ['*'], http: [{{{TO_B}}}]"));
    let suffix = virtual_service(
        "b",
        &format!("hosts: ['*.ns.svc.cluster.local'], http: [{{{TO_WEB}}}]"),
    );
    let exact = virtual_service("c", "hosts: [web], http: [{redirect: {uri: /x}}]");
    let snapshot = with(&any);
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    answers(&snapshot, &[("GET /", "ns/b:80*1")]);
    answers(&with(&(any.clone() + &suffix)), &[("GET /", "ns/web:80*1")]);
    answers(
        &with(&(any + &suffix + &exact)),
        &[("GET /", "redirect 301")],
    );
}

#[test]
fn delays_may_be_exponential_and_bodies_bytes() {
    let snapshot = with_http(&format!(
        "{{fault: {{delay: {{exponentialDelay: 200ms, percentage: {{value: 100}}}}}}, {TO_B}}}, \
         {{directResponse: {{status: 200, body: {{bytes: aGVsbG8A}}}}}}"
    ));
    let delay = policies(&snapshot).delay.expect("a delay");
    let mean = Duration::from_millis(200);
    assert_eq!(delay.time, DelayTime::Exponential(mean));
    let second = &listener(&snapshot, "web", 80).routes.rules[1];
    let Action::Direct { body, .. } = &*second.action else {
        panic!("{:?}", second.action);
    };
    assert_eq!(&body[..], b"hello\0");
}
