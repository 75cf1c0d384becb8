//! Routes of connections: TLSRoute, TCPRoute, VirtualService's `tls` and `tcp`.

use std::collections::HashMap;

use super::{Client, Greeting, ask, compile, listener, only_problem, problems, service};
use crate::model::{Destination, ListenerProtocol, ListenerVerdict, Snapshot, StreamScope};

pub(super) const WEB: &str = "{group: '', kind: Service, name: web}";
const TO_B: &str = "backendRefs: [{name: b, port: 80}]";
const TO_A: &str = "backendRefs: [{name: a, port: 80}]";

pub(super) fn gateway(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: ns}}\nspec: {{{spec}}}\n---\n"
    )
}

pub(super) fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: ns}}\nspec: {{hosts: [web], {spec}}}\n---\n"
    )
}

/// Service `web` with ports of each sort, Services `a` and `b`, and what else is given.
pub(super) fn with(rest: &str) -> Snapshot {
    let ports = "{name: https, port: 443}, {name: tcp-db, port: 5432}, {name: http, port: 80}, \
                 {name: x, port: 7}";
    let web = service("web", 1).replace("{port: 1}", ports);
    compile(&(web + &service("a", 80) + &service("b", 80) + rest))
}

/// Where a connection to `web` goes that asks for `name`; the empty name is no TLS at all.
fn to(snapshot: &Snapshot, port: u16, name: &str) -> String {
    to_from(snapshot, port, name, "ns")
}

fn to_from(snapshot: &Snapshot, port: u16, name: &str, namespace: &str) -> String {
    let labels = HashMap::new();
    let client = Client {
        namespace,
        uid: "u",
        labels: &labels,
    };
    let Some(table) = listener(snapshot, "web", port).streams_for(namespace) else {
        return "own".to_owned();
    };
    let greeting = match name {
        "" => Greeting::Other,
        "-" => Greeting::Tls(None),
        name => Greeting::Tls(Some(name)),
    };
    let Some(rule) = table.find(greeting, &client) else {
        return "reset".to_owned();
    };
    let names = rule.destinations.iter().map(|one| match &one.destination {
        Destination::Cluster(id) => {
            let cluster = snapshot.cluster(*id).expect("a cluster");
            format!("{}*{}", cluster.name, one.weight)
        }
        Destination::Invalid | Destination::Redirect(_) => format!("invalid*{}", one.weight),
    });
    names.collect::<Vec<_>>().join(" ")
}

fn protocol(snapshot: &Snapshot, port: u16) -> ListenerProtocol {
    match listener(snapshot, "web", port).verdict {
        ListenerVerdict::Proxy(protocol) => protocol,
        other @ (ListenerVerdict::Direct | ListenerVerdict::Pass(_)) => {
            panic!("not proxied: {other:?}")
        }
    }
}

#[test]
fn a_tls_route_takes_the_names_that_it_lists_the_most_exact_first() {
    let wild = format!("parentRefs: [{WEB}], hostnames: ['*.example.org'], rules: [{{{TO_A}}}]");
    let exact = format!(
        "parentRefs: [{WEB}], hostnames: [b.example.org, '*.b.example.org'], rules: [{{{TO_B}}}]"
    );
    let snapshot = with(&(gateway("TLSRoute", "a", &wild) + &gateway("TLSRoute", "b", &exact)));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    for (name, expected) in [
        ("b.example.org", "ns/b:80*1"),
        ("x.b.example.org", "ns/b:80*1"),
        ("c.example.org", "ns/a:80*1"),
        ("example.org", "reset"),
        ("-", "reset"),
        ("", "reset"),
    ] {
        assert_eq!(to(&snapshot, 443, name), expected, "{name}");
        assert_eq!(
            to(&snapshot, 7, name),
            expected,
            "a port of no known protocol"
        );
    }
    for untouched in [5432, 80] {
        assert_eq!(to(&snapshot, untouched, "b.example.org"), "own");
    }
    assert_eq!(protocol(&snapshot, 443), ListenerProtocol::Tcp);
    assert_eq!(protocol(&snapshot, 80), ListenerProtocol::Http);
}

#[test]
fn an_older_tls_route_without_names_takes_any_tls() {
    let spec = format!("parentRefs: [{WEB}], rules: [{{{TO_B}}}]");
    let route = gateway("TLSRoute", "r", &spec).replace("k8s.io/v1\n", "k8s.io/v1alpha2\n");
    let snapshot = with(&route);
    assert_eq!(to(&snapshot, 443, "-"), "ns/b:80*1");
    assert_eq!(to(&snapshot, 443, ""), "reset");
}

#[test]
fn a_name_that_is_none_is_left_out_and_named() {
    let spec = format!("parentRefs: [{WEB}], hostnames: ['a.*.org', ok.org], rules: [{{{TO_B}}}]");
    let snapshot = with(&gateway("TLSRoute", "r", &spec));
    assert!(only_problem(&snapshot).contains("spec.hostnames[0]: found `a.*.org`"));
    assert_eq!(to(&snapshot, 443, "ok.org"), "ns/b:80*1");
    let parent = &snapshot.route_parents[0];
    assert_eq!(parent.accepted.reason.name(), "UnsupportedValue");
}

#[test]
fn a_tcp_route_has_weights_and_takes_every_port_that_is_not_http() {
    let refs = "backendRefs: [{name: a, port: 80, weight: 9}, {name: b, port: 80}, {name: gone, port: 80}]";
    let spec = format!("parentRefs: [{WEB}], rules: [{{{refs}}}]");
    let snapshot = with(&gateway("TCPRoute", "r", &spec));
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.rules[0].backendRefs[2].name: no Service ns/gone"),
        "{problem}"
    );
    assert!(
        problem.ends_with("its share of connections is reset"),
        "{problem}"
    );
    let parent = &snapshot.route_parents[0];
    assert!(parent.accepted.status);
    assert_eq!(parent.resolved_refs.reason.name(), "BackendNotFound");
    for port in [443, 5432, 7] {
        let expected = "ns/a:80*9 ns/b:80*1 invalid*1";
        assert_eq!(to(&snapshot, port, ""), expected);
        assert_eq!(to(&snapshot, port, "any"), expected);
        assert_eq!(protocol(&snapshot, port), ListenerProtocol::Tcp);
    }
    assert_eq!(to(&snapshot, 80, ""), "own");
}

#[test]
fn a_tcp_route_that_names_an_http_port_takes_it_whole() {
    let spec = format!(
        "parentRefs: [{}], rules: [{{{TO_B}}}]",
        WEB.replace('}', ", port: 80}")
    );
    let snapshot = with(&gateway("TCPRoute", "r", &spec));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(to(&snapshot, 80, ""), "ns/b:80*1");
    assert_eq!(to(&snapshot, 7, ""), "own");
    assert_eq!(
        listener(&snapshot, "web", 80).verdict,
        ListenerVerdict::Direct
    );
    let streams = listener(&snapshot, "web", 80).streams_for("ns");
    assert_eq!(streams.map(|table| table.scope), Some(StreamScope::Every));
}

#[test]
fn of_the_kinds_of_routes_on_one_port_the_first_decides_and_the_others_are_named() {
    let parent = WEB.replace('}', ", port: 7}");
    let spec = |to: &str| format!("parentRefs: [{parent}], rules: [{{{to}}}]");
    let named = format!("hostnames: [x], {}", spec(TO_A));
    let (tls, tcp) = (
        gateway("TLSRoute", "r", &named),
        gateway("TCPRoute", "r", &spec(TO_B)),
    );
    let snapshot = with(&(tls.clone() + &tcp));
    assert_eq!(
        only_problem(&snapshot),
        "TCPRoute.gateway.networking.k8s.io ns/r: of no effect on Service ns/web: \
         TLSRoute.gateway.networking.k8s.io ns/r decides"
    );
    assert_eq!(to(&snapshot, 7, "x"), "ns/a:80*1");
    let snapshot = with(&(tls + &tcp + &gateway("HTTPRoute", "h", &spec(TO_B))));
    let said = problems(&snapshot);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said.iter()
            .all(|one| one.ends_with("HTTPRoute.gateway.networking.k8s.io ns/h decides"))
    );
    assert_eq!(to(&snapshot, 7, "x"), "own");
    assert_eq!(protocol(&snapshot, 7), ListenerProtocol::Http);
}

#[test]
fn a_consumers_route_is_for_its_own_clients_whatever_the_kind() {
    let parent = "{group: '', kind: Service, name: web, namespace: ns, port: 80}";
    let route = |kind: &str, rest: &str| {
        let spec = format!("parentRefs: [{parent}], {rest}");
        gateway(kind, "r", &spec).replace("namespace: ns}\n", "namespace: shop}\n")
    };
    let here = service("mine", 80).replace("namespace: ns", "namespace: shop");
    let own = format!("parentRefs: [{parent}], rules: [{{{TO_B}}}]");
    let producer = gateway("HTTPRoute", "p", &own);
    let tcp = route(
        "TCPRoute",
        "rules: [{backendRefs: [{name: mine, port: 80}]}]",
    );
    let snapshot = with(&(here + &producer + &tcp));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(to_from(&snapshot, 80, "", "shop"), "shop/mine:80*1");
    assert_eq!(to_from(&snapshot, 80, "", "ns"), "own");
    let web = listener(&snapshot, "web", 80);
    assert_eq!(ask(web.routes_for("ns"), &snapshot, "GET /"), "ns/b:80*1");
    assert_eq!(protocol(&snapshot, 80), ListenerProtocol::Http);
}

#[test]
fn a_reference_into_another_namespace_needs_a_grant_for_the_kind() {
    let d = service("d", 80).replace("namespace: ns", "namespace: other");
    let spec = format!(
        "parentRefs: [{WEB}], rules: [{{backendRefs: [{{name: d, namespace: other, port: 80}}]}}]"
    );
    let grant = |kind: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\n\
             metadata: {{name: g, namespace: other}}\n\
             spec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: ns}}], \
             to: [{{group: '', kind: Service}}]}}\n---\n"
        )
    };
    let route = gateway("TCPRoute", "r", &spec);
    for (granted, expected) in [("TCPRoute", "other/d:80*1"), ("TLSRoute", "invalid*1")] {
        let snapshot = with(&(d.clone() + &route + &grant(granted)));
        assert_eq!(to(&snapshot, 7, ""), expected, "{granted}");
    }
}

#[test]
fn tls_of_a_virtual_service_is_for_ports_that_are_tls_and_tcp_for_others() {
    let to_host = |host: &str| format!("route: [{{destination: {{host: {host}}}}}]");
    let spec = format!(
        "tls: [{{match: [{{sniHosts: [a.org, '*.a.org']}}, {{sniHosts: [x], port: 7}}], {}}}], \
         tcp: [{{match: [{{port: 5432}}], {}}}]",
        to_host("a"),
        to_host("b"),
    );
    let snapshot = with(&virtual_service("v", &spec));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    for (port, name, expected) in [
        (443, "a.org", "ns/a:80*1"),
        (443, "b.a.org", "ns/a:80*1"),
        (443, "x", "reset"),
        (443, "", "reset"),
        (5432, "a.org", "ns/b:80*1"),
        (5432, "", "ns/b:80*1"),
        (7, "x", "ns/a:80*1"),
        (7, "a.org", "reset"),
        (80, "a.org", "own"),
    ] {
        let found = to(&snapshot, port, name);
        assert_eq!(found, expected, "{port} {name}");
    }
    assert_eq!(
        protocol(&snapshot, 7),
        ListenerProtocol::Tcp,
        "no rules for requests"
    );
}

#[test]
fn tcp_of_a_virtual_service_that_matches_nothing_leaves_the_service_as_it_is() {
    let spec = "tcp: [{match: [{sourceNamespace: shop}], route: [{destination: {host: a, port: {number: 80}}, weight: 1}, \
                {destination: {host: b}, weight: 3}]}]";
    let snapshot = with(&virtual_service("v", spec));
    assert_eq!(to_from(&snapshot, 5432, "", "shop"), "ns/a:80*1 ns/b:80*3");
    assert_eq!(to_from(&snapshot, 5432, "", "ns"), "ns/web:5432*1");
    assert_eq!(to_from(&snapshot, 443, "", "shop"), "own", "TLS by name");
}

#[test]
fn requests_and_connections_of_one_port_go_by_rules_of_their_own() {
    let spec =
        "http: [{route: [{destination: {host: a}}]}], tcp: [{route: [{destination: {host: b}}]}]";
    let snapshot = with(&virtual_service("v", spec));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(to(&snapshot, 7, ""), "ns/b:80*1");
    let web = listener(&snapshot, "web", 7);
    assert_eq!(ask(&web.routes, &snapshot, "GET /"), "ns/a:80*1");
    assert_eq!(protocol(&snapshot, 7), ListenerProtocol::Http);
    let scope = web.streams.as_ref().map(|table| table.scope);
    assert_eq!(scope, Some(StreamScope::NotHttp));
}

#[test]
fn what_a_virtual_service_asks_for_in_vain_is_named_by_field() {
    let to_a = "route: [{destination: {host: a}}]";
    for (spec, expected) in [
        (
            format!("tls: [{{{to_a}}}]"),
            "spec.tls[0].match: is missing",
        ),
        (
            format!("tls: [{{match: [{{}}], {to_a}}}]"),
            "spec.tls[0].match[0].sniHosts: is missing",
        ),
        (
            format!("tls: [{{match: [{{sniHosts: ['a*']}}], {to_a}}}]"),
            "spec.tls[0].match[0].sniHosts[0]: found `a*`",
        ),
        (
            format!("tcp: [{{match: [{{destinationSubnets: [10.0.0.0/8]}}], {to_a}}}]"),
            "spec.tcp[0].match[0].destinationSubnets: is not supported",
        ),
        (
            "tcp: [{route: [{destination: {host: gone}}]}]".to_owned(),
            "spec.tcp[0].route[0].destination.host: found `gone`",
        ),
        (
            "tcp: [{}]".to_owned(),
            "spec.tcp[0].route: no destination with a weight",
        ),
        (
            "tcp: [{route: [{destination: {host: a, subset: v1}}]}]".to_owned(),
            "spec.tcp[0].route[0].destination.subset: no DestinationRule",
        ),
        (
            format!("tcp: [{{match: [{{port: 80}}], {to_a}}}]"),
            "spec.tcp: of no effect on Service ns/web: there is no port that it is for",
        ),
    ] {
        let snapshot = with(&virtual_service("v", &spec));
        let said = problems(&snapshot);
        assert!(said[0].contains(expected), "{spec}: {said:?}");
    }
}

#[test]
fn a_route_of_the_gateway_api_takes_the_place_of_a_virtual_service() {
    let parent = WEB.replace('}', ", port: 7}");
    let spec = format!("parentRefs: [{parent}], rules: [{{{TO_B}}}]");
    let only_port = |section: &str| {
        format!("{section}: [{{match: [{{port: 7}}], route: [{{destination: {{host: a}}}}]}}]")
    };
    let snapshot =
        with(&(gateway("TCPRoute", "r", &spec) + &virtual_service("v", &only_port("tcp"))));
    assert_eq!(to(&snapshot, 7, ""), "ns/b:80*1");
    assert_eq!(
        only_problem(&snapshot),
        "VirtualService.networking.istio.io ns/v: spec.tcp: of no effect on Service ns/web: \
         TCPRoute.gateway.networking.k8s.io ns/r decides"
    );
}
