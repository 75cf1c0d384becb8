//! Linkerd's annotations.

use std::time::Duration;

use super::{compile, listener, only_problem, problems, service};
use crate::model::{FailureAccrual, ListenerProtocol, ListenerVerdict, Rule, Snapshot};

/// Service `web`, whose port is HTTP, with annotations.
fn annotated(annotations: &str) -> String {
    service("web", 80)
        .replace(
            "namespace: ns}",
            &format!("namespace: ns, annotations: {{{annotations}}}}}"),
        )
        .replace("port: 80", "name: http, port: 80")
}

fn route(annotations: &str, rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: r, namespace: ns, annotations: {{{annotations}}}}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: web}}], \
         rules: [{{{rule} backendRefs: [{{name: web, port: 80}}]}}]}}\n---\n"
    )
}

fn rule(snapshot: &Snapshot) -> &Rule {
    &listener(snapshot, "web", 80).routes.rules[0]
}

fn attempts(snapshot: &Snapshot) -> Option<u32> {
    let policies = rule(snapshot).policies.as_deref()?;
    policies.retry.as_ref().map(|retry| retry.attempts)
}

fn whole(snapshot: &Snapshot) -> Option<u64> {
    let policies = rule(snapshot).policies.as_deref();
    let stream = policies.and_then(|of| of.stream);
    let limit = stream.and_then(|stream| stream.whole);
    assert!(limit.is_none() || limit == rule(snapshot).timeouts.request);
    limit.map(|limit| limit.as_secs())
}

#[test]
fn a_services_retries_are_those_of_its_implicit_route() {
    let snapshot = compile(&annotated(
        "retry.linkerd.io/http: '5xx,429,400-402', retry.linkerd.io/grpc: 'unavailable, internal', \
         retry.linkerd.io/limit: '3', retry.linkerd.io/timeout: 250ms",
    ));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let policies = rule(&snapshot).policies.as_deref().expect("policies");
    let retry = policies.retry.as_ref().expect("a retry");
    assert_eq!(retry.on.statuses, [500..=599, 429..=429, 400..=402]);
    assert_eq!(retry.on.grpc, [14, 13]);
    assert_eq!(
        (retry.attempts, retry.per_try),
        (3, Some(Duration::from_millis(250)))
    );
    assert!(retry.on.reset && retry.on.connect_failure);
    let once = compile(&annotated("retry.linkerd.io/http: gateway-error"));
    assert_eq!(attempts(&once), Some(1), "the default");
    let none = compile(&annotated(
        "retry.linkerd.io/http: 5xx, retry.linkerd.io/limit: '0'",
    ));
    assert_eq!(attempts(&none), None);
}

#[test]
fn what_a_route_says_stands_before_what_its_service_says() {
    let of_service =
        "retry.linkerd.io/http: 5xx, retry.linkerd.io/limit: '2', timeout.linkerd.io/request: 2s";
    for (annotations, rule, retries, seconds) in [
        ("", "", Some(2), Some(2)),
        ("retry.linkerd.io/http: 5xx", "", Some(1), Some(2)),
        ("timeout.linkerd.io/request: 5s", "", Some(2), Some(5)),
        ("", "retry: {attempts: 7},", Some(7), Some(2)),
        ("", "retry: {attempts: 0},", None, Some(2)),
        (
            "retry.linkerd.io/http: 5xx",
            "retry: {attempts: 7},",
            Some(1),
            Some(2),
        ),
        (
            "timeout.linkerd.io/request: 5s",
            "timeouts: {request: 9s},",
            Some(2),
            Some(5),
        ),
        ("", "timeouts: {request: 9s},", Some(2), None),
    ] {
        let snapshot = compile(&(annotated(of_service) + &route(annotations, rule)));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        assert_eq!(
            (attempts(&snapshot), whole(&snapshot)),
            (retries, seconds),
            "{annotations} {rule}"
        );
    }
}

#[test]
fn the_shorter_of_request_and_response_bounds_the_whole() {
    for (text, seconds) in [
        (
            "timeout.linkerd.io/request: 2s, timeout.linkerd.io/response: 1s",
            Some(1),
        ),
        ("timeout.linkerd.io/response: 3s", Some(3)),
        ("timeout.linkerd.io/request: 0s", None),
    ] {
        assert_eq!(whole(&compile(&annotated(text))), seconds, "{text}");
    }
    let snapshot = compile(&annotated("timeout.linkerd.io/idle: 4s"));
    let stream = rule(&snapshot).policies.as_deref().and_then(|of| of.stream);
    assert_eq!(stream.and_then(|of| of.idle), Some(Duration::from_secs(4)));
}

#[test]
fn failure_accrual_is_in_the_model_and_named_as_not_enforced() {
    let snapshot = compile(&annotated(
        "balancer.linkerd.io/failure-accrual: consecutive, \
         balancer.linkerd.io/failure-accrual-consecutive-max-failures: '3', \
         balancer.linkerd.io/failure-accrual-consecutive-max-penalty: 10s, \
         balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio: '0.25'",
    ));
    let problem = only_problem(&snapshot);
    assert!(
        problem.ends_with("failure-accrual]: accepted, not enforced by this version"),
        "{problem}"
    );
    let cluster = snapshot
        .cluster(listener(&snapshot, "web", 80).cluster)
        .expect("a cluster");
    let expected = FailureAccrual {
        max_failures: 3,
        min_penalty: Duration::from_secs(1),
        max_penalty: Duration::from_secs(10),
        jitter_percent: 25,
    };
    assert_eq!(cluster.failure_accrual, Some(expected));
}

#[test]
fn opaque_ports_are_the_services_own_or_its_namespaces() {
    let namespace = |ports: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\n\
             metadata: {{name: ns, annotations: {{config.linkerd.io/opaque-ports: '{ports}'}}}}\n---\n"
        )
    };
    let own = |ports: &str| annotated(&format!("config.linkerd.io/opaque-ports: '{ports}'"));
    for (text, opaque) in [
        (annotated(""), false),
        (own("80"), true),
        (own("http"), true),
        (own("70-90"), true),
        (own("81"), false),
        (namespace("80") + &annotated(""), true),
        (namespace("80") + &own("81"), false),
        (namespace("80") + &own(""), false),
    ] {
        let snapshot = compile(&text);
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        let expected = if opaque {
            ListenerVerdict::Direct
        } else {
            ListenerVerdict::Proxy(ListenerProtocol::Http)
        };
        let verdict = listener(&snapshot, "web", 80).verdict;
        assert_eq!(verdict, expected, "{text}");
    }
}

#[test]
fn values_that_cannot_be_read_are_named_and_count_as_absent() {
    for (name, value, expected) in [
        (
            "retry.linkerd.io/http",
            "6xx",
            "found `6xx`, accepted: a status, a range as in 500-504",
        ),
        (
            "retry.linkerd.io/grpc",
            "ok",
            "found `ok`, accepted: cancelled, deadline-exceeded",
        ),
        (
            "timeout.linkerd.io/request",
            "5",
            "found `5`, expected a duration",
        ),
        (
            "balancer.linkerd.io/failure-accrual",
            "all",
            "found `all`, accepted: consecutive",
        ),
        (
            "config.linkerd.io/opaque-ports",
            "90-80",
            "found `90-80`, expected a port",
        ),
    ] {
        let snapshot = compile(&annotated(&format!("{name}: '{value}'")));
        let problem = only_problem(&snapshot);
        let field = format!("metadata.annotations[{name}]: {expected}");
        assert!(problem.contains(&field), "{problem}");
        assert!(problem.ends_with("counts as absent"), "{problem}");
        assert!(rule(&snapshot).policies.is_none());
    }
}

#[test]
fn annotations_without_effect_are_named() {
    let grpc = route("retry.linkerd.io/http: 5xx", "").replace("HTTPRoute", "GRPCRoute");
    let virtual_service = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                           metadata: {name: v, namespace: ns}\n\
                           spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: ns, uid: p, \
               annotations: {config.linkerd.io/opaque-ports: '80'}}\nspec: {containers: [{name: c}]}\n";
    for (text, expected) in [
        (
            annotated("retry.linkerd.io/limit: '2'"),
            "limit]: has no effect: neither retry",
        ),
        (
            annotated("retry.linkerd.io/budget: '2'"),
            "budget]: has no effect here; accepted: retry",
        ),
        (
            annotated("") + &grpc,
            "retry.linkerd.io/http]: has no effect here; accepted: retry.linkerd.io/grpc",
        ),
        (
            annotated("retry.linkerd.io/http: 5xx") + virtual_service,
            "[retry.linkerd.io/…]: of no effect: VirtualService.networking.istio.io ns/v decides",
        ),
        (
            annotated("timeout.linkerd.io/request: 5s").replace("name: http", "name: tcp"),
            "[timeout.linkerd.io/…]: of no effect: no port of the Service is HTTP",
        ),
        (
            pod.to_owned(),
            "has no effect on a Pod, whose own address is left alone; for connections to a Service, set it there or on its Namespace",
        ),
    ] {
        let problem = only_problem(&compile(&text));
        assert!(problem.contains(expected), "{problem}");
    }
}
