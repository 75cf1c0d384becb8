//! Rules that cannot be read: they fail for what they match, and the rest of their object works.

use std::collections::HashMap;

use super::{Client, Greeting, ask, compile, listener, service};
use crate::model::Snapshot;

const GATEWAY: &str = "gateway.networking.k8s.io/v1";
const WEB: &str = "parentRefs: [{group: '', kind: Service, name: web}]";
const TO_B: &str = "backendRefs: [{name: b, port: 80}]";

fn with(version: &str, kind: &str, spec: &str) -> Snapshot {
    let object = format!(
        "apiVersion: {version}\nkind: {kind}\n\
         metadata: {{name: web.ns.svc.cluster.local, namespace: ns}}\nspec: {{{spec}}}\n"
    );
    let ports = "{name: http, port: 80}, {name: https, port: 443}, {name: tcp-db, port: 5432}";
    let web = service("web", 80).replace("{port: 80}", ports);
    assert!(web.contains("5432"), "{web}");
    compile(&(web + &service("b", 80) + &object))
}

fn answers(snapshot: &Snapshot, line: &str) -> String {
    ask(&listener(snapshot, "web", 80).routes, snapshot, line)
}

/// How many destinations a connection has that asks for `name`; the empty name is no TLS at all.
fn destinations(snapshot: &Snapshot, port: u16, name: &str) -> Option<usize> {
    let labels = HashMap::new();
    let client = Client {
        namespace: "ns",
        uid: "u",
        labels: &labels,
    };
    let table = listener(snapshot, "web", port).streams_for("ns");
    let greeting = match name {
        "" => Greeting::Other,
        name => Greeting::Tls(Some(name)),
    };
    let rule = table
        .expect("routes of connections")
        .find(greeting, &client);
    rule.map(|rule| rule.destinations.len())
}

#[test]
fn rules_of_requests_answer_500_for_their_matches() {
    let http =
        |good: &str, bad: &str| format!("{WEB}, rules: [{{{good}, {TO_B}}}, {{{bad}, {TO_B}}}]");
    for (version, kind, spec) in [
        (
            GATEWAY,
            "HTTPRoute",
            http(
                "matches: [{path: {value: /good}}]",
                "matches: [{path: {value: /bad}}], filters: [{type: Odd}]",
            ),
        ),
        (
            "policy.linkerd.io/v1beta3",
            "HTTPRoute",
            http(
                "matches: [{path: {value: /good}}]",
                "matches: [{path: {value: /bad}}], timeout: 1s",
            ),
        ),
        (
            GATEWAY,
            "GRPCRoute",
            http(
                "matches: [{method: {service: good}}]",
                "matches: [{method: {service: bad}}], filter: []",
            ),
        ),
        (
            "networking.istio.io/v1",
            "VirtualService",
            "hosts: [web], http: [{match: [{uri: {prefix: /bad}}], rewrit: {}, \
             route: [{destination: {host: b}}]}, \
             {match: [{uri: {prefix: /good}}], route: [{destination: {host: b}}]}]"
                .to_owned(),
        ),
    ] {
        let snapshot = with(version, kind, &spec);
        assert_eq!(answers(&snapshot, "POST /good/x"), "ns/b:80*1", "{kind}");
        assert_eq!(
            answers(&snapshot, "POST /bad/x"),
            "500 invalid_route",
            "{kind}"
        );
        assert_eq!(answers(&snapshot, "POST /else/x"), "404", "{kind}");
    }
    let profile = "routes: [{name: a, condition: {pathRegex: /bad.*}, timeot: 1s}, \
                   {name: b, condition: {pathRegex: /good.*}, timeout: 1s}]";
    let snapshot = with("linkerd.io/v1alpha2", "ServiceProfile", profile);
    assert_eq!(answers(&snapshot, "GET /good"), "ns/web:80*1");
    assert_eq!(answers(&snapshot, "GET /bad"), "500 invalid_route");
}

#[test]
fn rules_whose_matches_cannot_be_read_match_everything() {
    let rules = format!(
        "{WEB}, rules: [{{matches: [{{pth: {{value: /a}}}}], {TO_B}}}, \
         {{matches: [{{path: {{value: /good}}}}], {TO_B}}}]"
    );
    let snapshot = with(GATEWAY, "HTTPRoute", &rules);
    assert_eq!(answers(&snapshot, "GET /good"), "ns/b:80*1", "more exact");
    assert_eq!(answers(&snapshot, "GET /a"), "500 invalid_route");
    assert_eq!(answers(&snapshot, "GET /b"), "500 invalid_route");
    let profile = "routes: [{name: g, condition: {pathRegex: /good}}, \
                   {name: a, condition: {not: {pathRegx: /a}}}]";
    let snapshot = with("linkerd.io/v1alpha2", "ServiceProfile", profile);
    assert_eq!(answers(&snapshot, "GET /good"), "ns/web:80*1");
    assert_eq!(answers(&snapshot, "GET /a"), "500 invalid_route");
}

#[test]
fn what_became_of_it_is_told_at_the_parent() {
    let rules = format!("{WEB}, rules: [{{filter: [], {TO_B}}}]");
    let snapshot = with(GATEWAY, "HTTPRoute", &rules);
    let accepted = &snapshot.route_parents[0].accepted;
    assert!(!accepted.status);
    let expected = "spec.rules[0]: holds a field or value that cannot be read";
    assert!(
        accepted.message.starts_with(expected),
        "{}",
        accepted.message
    );
}

#[test]
fn rules_of_connections_have_no_destination() {
    let rules = format!("{WEB}, rules: [{{{TO_B}, x: y}}]");
    let tls = with(GATEWAY, "TLSRoute", &format!("hostnames: [a.org], {rules}"));
    assert_eq!(destinations(&tls, 443, "a.org"), Some(0));
    assert_eq!(destinations(&tls, 443, "b.org"), None, "no rule's");
    let tcp = with(GATEWAY, "TCPRoute", &rules);
    assert_eq!(destinations(&tcp, 5432, ""), Some(0));
    let good = rules.replace(", x: y", "");
    let tcp = with(GATEWAY, "TCPRoute", &good);
    assert_eq!(destinations(&tcp, 5432, ""), Some(1), "the control");
    let to_b = "route: [{destination: {host: b}}]";
    let istio = with(
        "networking.istio.io/v1",
        "VirtualService",
        &format!(
            "hosts: [web], tls: [{{match: [{{sniHosts: [a.org]}}], {to_b}, x: y}}, \
             {{match: [{{sniHosts: [b.org]}}], {to_b}}}], tcp: [{{rout: []}}]"
        ),
    );
    assert_eq!(destinations(&istio, 443, "a.org"), Some(0));
    assert_eq!(destinations(&istio, 443, "b.org"), Some(1));
    assert_eq!(destinations(&istio, 5432, ""), Some(0));
}
