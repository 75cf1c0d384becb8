//! The Service Mesh Interface's TrafficSplit and HTTPRouteGroup.

use super::{ask, compile, listener, only_problem, problems, service};
use crate::model::Snapshot;

const TO_BOTH: &str = "[{service: v1, weight: 90}, {service: v2, weight: 10}]";

fn split(version: &str, spec: &str) -> String {
    format!(
        "apiVersion: split.smi-spec.io/{version}\nkind: TrafficSplit\n\
         metadata: {{name: s, namespace: ns}}\nspec: {{service: web, {spec}}}\n---\n"
    )
}

fn group(version: &str, matches: &str) -> String {
    let matches = match version {
        "v1alpha1" | "v1alpha2" => format!("matches: [{matches}]"),
        _ => format!("spec: {{matches: [{matches}]}}"),
    };
    format!(
        "apiVersion: specs.smi-spec.io/{version}\nkind: HTTPRouteGroup\n\
         metadata: {{name: g, namespace: ns}}\n{matches}\n---\n"
    )
}

fn with(objects: &str) -> Snapshot {
    compile(&(service("web", 80) + &service("v1", 80) + &service("v2", 80) + objects))
}

fn answers(snapshot: &Snapshot, line: &str) -> String {
    ask(&listener(snapshot, "web", 80).routes, snapshot, line)
}

#[test]
fn every_version_splits_by_weight() {
    for version in ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"] {
        let snapshot = with(&split(version, &format!("backends: {TO_BOTH}")));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        assert_eq!(answers(&snapshot, "GET /"), "ns/v1:80*90000 ns/v2:80*10000");
    }
    let quantities = "backends: [{service: v1, weight: 500m}, {service: v2, weight: 1}]";
    let snapshot = with(&split("v1alpha1", quantities));
    assert_eq!(answers(&snapshot, "GET /"), "ns/v1:80*500 ns/v2:80*1000");
    let snapshot = with(&split("v1alpha2", quantities));
    assert_eq!(answers(&snapshot, "GET /"), "500 invalid_route");
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.backends[0].weight: found a fraction"),
        "{problem}"
    );
}

#[test]
fn what_a_group_describes_is_split_and_the_rest_is_not() {
    let matches = "{name: a, pathRegex: /api, methods: [GET, HEAD], headers: {user-agent: '.*Firefox.*'}}, \
                   {name: b, methods: ['*'], headers: {x-test: '1'}}";
    let objects = split(
        "v1alpha4",
        &format!("matches: [{{kind: HTTPRouteGroup, name: g}}], backends: {TO_BOTH}"),
    ) + &group("v1alpha4", matches);
    let snapshot = with(&objects);
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let both = "ns/v1:80*90000 ns/v2:80*10000";
    for (line, expected) in [
        ("GET /api/x user-agent=Firefox/1", both),
        ("HEAD /api user-agent=aFirefox", both),
        ("PUT /api user-agent=Firefox", "ns/web:80*1"),
        ("GET /x/api user-agent=Firefox", "ns/web:80*1"),
        ("GET /api user-agent=curl", "ns/web:80*1"),
        ("DELETE /x x-test=1", both),
        ("GET / x-test=12", "ns/web:80*1"),
    ] {
        assert_eq!(answers(&snapshot, line), expected, "{line}");
    }
}

#[test]
fn older_groups_write_their_matches_and_headers_otherwise() {
    for version in ["v1alpha2", "v1alpha3"] {
        let objects = split(
            "v1alpha3",
            &format!("matches: [{{kind: HTTPRouteGroup, name: g}}], backends: {TO_BOTH}"),
        ) + &group(
            version,
            "{name: a, headers: [{x-test: '1'}, {x-more: '2'}]}",
        );
        let snapshot = with(&objects);
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        assert_eq!(answers(&snapshot, "GET / x-test=1"), "ns/web:80*1");
        let both = answers(&snapshot, "GET / x-test=1 x-more=2");
        assert_eq!(both, "ns/v1:80*90000 ns/v2:80*10000");
    }
}

#[test]
fn a_destination_without_the_port_has_no_part_and_one_without_a_share_may_come_later() {
    let objects = split(
        "v1alpha4",
        "backends: [{service: v1, weight: 1}, {service: other, weight: 1}, {service: later, weight: 0}]",
    ) + &service("other", 81);
    let snapshot = with(&objects);
    assert_eq!(answers(&snapshot, "GET /"), "ns/v1:80*1000");
    assert_eq!(
        only_problem(&snapshot),
        "TrafficSplit.split.smi-spec.io ns/s: spec.backends[1].service: Service ns/other has no TCP \
         port 80; it has: 81; it has no part in what goes to that port"
    );
}

#[test]
fn faults_are_named() {
    let matched = |reference: &str| {
        split(
            "v1alpha4",
            &format!("matches: [{reference}], backends: {TO_BOTH}"),
        )
    };
    for (objects, expected, answer) in [
        (
            split("v1alpha4", "backends: [{service: gone, weight: 1}]"),
            "spec.backends[0].service: found `gone`, which is no Service that is known",
            "invalid*1000",
        ),
        (
            split("v1alpha4", "backends: [{service: v1, weight: 0}]"),
            "spec.backends: no destination with a weight",
            "500 no_destination",
        ),
        (
            split("v1alpha4", &format!("backends: {TO_BOTH}"))
                .replace("service: web", "service: gone"),
            "spec.service: found `gone`, which is no Service of namespace `ns`",
            "ns/web:80*1",
        ),
        (
            matched("{kind: TCPRoute, name: g}"),
            "spec.matches[0].kind: found `TCPRoute`",
            "ns/web:80*1",
        ),
        (
            matched("{kind: HTTPRouteGroup, name: gone}"),
            "spec.matches[0].name: no HTTPRouteGroup ns/gone",
            "ns/web:80*1",
        ),
        (
            matched("{kind: HTTPRouteGroup, name: g}")
                + &group("v1alpha4", "{name: a, pathRegex: '('}"),
            "HTTPRouteGroup.specs.smi-spec.io ns/g: spec.matches[0].pathRegex: found `(`",
            "ns/web:80*1",
        ),
        (
            split(
                "v1alpha2",
                &format!("matches: [{{kind: HTTPRouteGroup, name: g}}], backends: {TO_BOTH}"),
            ),
            "spec.matches: is of v1alpha3 and later",
            "ns/web:80*1",
        ),
    ] {
        let snapshot = with(&objects);
        let problem = only_problem(&snapshot);
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(answers(&snapshot, "GET /"), answer, "{expected}");
    }
}

#[test]
fn a_profile_keeps_its_timeouts_over_a_split() {
    let profile = "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\n\
                   metadata: {name: web.ns.svc.cluster.local, namespace: ns}\n\
                   spec: {routes: [{name: r, condition: {pathRegex: /a}, timeout: 1s}]}\n---\n";
    let objects = split(
        "v1alpha4",
        &format!("matches: [{{kind: HTTPRouteGroup, name: g}}], backends: {TO_BOTH}"),
    ) + &group("v1alpha4", "{name: a, headers: {x-test: '1'}}")
        + profile;
    let snapshot = with(&objects);
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let table = &listener(&snapshot, "web", 80).routes;
    let both = "ns/v1:80*90000 ns/v2:80*10000";
    for (line, expected) in [
        ("GET /a x-test=1", both),
        ("GET /a", "ns/web:80*1"),
        ("GET /b x-test=1", both),
        ("GET /b", "ns/web:80*1"),
    ] {
        assert_eq!(answers(&snapshot, line), expected, "{line}");
    }
    let limited = table
        .rules
        .iter()
        .map(|rule| rule.timeouts.request.is_some());
    assert_eq!(limited.collect::<Vec<_>>(), [true, true, false, false]);
}
