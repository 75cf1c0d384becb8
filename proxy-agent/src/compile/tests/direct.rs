//! Which connections go straight to an endpoint, to which, and what a Service says about it.

use std::time::Duration;

use super::{compile, listener, only_problem, problems, set};
use crate::compile::{Compiler, Options};
use crate::model::{
    Cluster, ListenerProtocol, ListenerVerdict, PassReason, Snapshot, StaleConnections,
};
use crate::objects::Origin;

fn service(annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\n\
         metadata: {{name: db, namespace: ns, annotations: {{{annotations}}}}}\n\
         spec: {{clusterIP: 10.0.0.1, {spec}}}\n"
    )
}

fn cluster(snapshot: &Snapshot) -> &Cluster {
    let id = listener(snapshot, "db", 80).cluster;
    snapshot.cluster(id).expect("a cluster")
}

#[test]
fn the_mode_annotation_wins_over_what_a_port_speaks() {
    use ListenerProtocol::{Http, Tcp};
    use ListenerVerdict::{Direct, Pass, Proxy};
    for (mode, tcp, http) in [
        ("", Direct, Proxy(Http)),
        ("proxy-agent.io/mode: direct", Direct, Direct),
        ("proxy-agent.io/mode: proxy", Proxy(Tcp), Proxy(Http)),
        (
            "proxy-agent.io/mode: pass",
            Pass(PassReason::Mode),
            Pass(PassReason::Mode),
        ),
    ] {
        for (name, expected) in [("tcp", tcp), ("http", http)] {
            let snapshot = compile(&service(
                mode,
                &format!("ports: [{{port: 80, name: {name}}}]"),
            ));
            assert_eq!(problems(&snapshot), Vec::<String>::new());
            let found = listener(&snapshot, "db", 80).verdict;
            assert_eq!(found, expected, "{mode} {name}");
            let steered = !matches!(expected, Pass(_));
            assert_eq!(snapshot.by_address.len(), usize::from(steered));
        }
    }
}

#[test]
fn routes_of_a_service_whose_connections_go_direct_are_named() {
    let text = service("proxy-agent.io/mode: direct", "ports: [{port: 80}]")
        + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
           metadata: {name: r, namespace: ns}\n\
           spec: {parentRefs: [{group: '', kind: Service, name: db}], rules: [{}]}\n";
    let snapshot = compile(&text);
    assert!(
        problems(&snapshot)
            .iter()
            .any(|one| one.ends_with("its connections go direct (annotation mode)")),
        "{:?}",
        problems(&snapshot)
    );
    assert_eq!(
        listener(&snapshot, "db", 80).verdict,
        ListenerVerdict::Direct
    );
}

#[test]
fn of_routes_of_connections_to_a_direct_service_the_weights_count_and_conditions_are_named() {
    let route = |kind: &str, rest: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n\
             metadata: {{name: r, namespace: ns}}\n\
             spec: {{parentRefs: [{{group: '', kind: Service, name: db}}], {rest}\
             rules: [{{backendRefs: [{{name: db, port: 80}}]}}]}}\n"
        )
    };
    for (kind, rest, expected) in [
        ("TCPRoute", "", None),
        (
            "TLSRoute",
            "hostnames: [a.org], ",
            Some("its connections go direct (annotation mode)"),
        ),
    ] {
        let text = service("proxy-agent.io/mode: direct", "ports: [{port: 80}]");
        let snapshot = compile(&(text + &route(kind, rest)));
        let found = problems(&snapshot);
        let ends = |end: &str| found.len() == 1 && found[0].ends_with(end);
        assert!(expected.map_or(found.is_empty(), ends), "{found:?}");
        let db = listener(&snapshot, "db", 80);
        assert_eq!(db.verdict, ListenerVerdict::Direct);
        assert_eq!(db.direct_destinations().is_some(), expected.is_none());
    }
}

#[test]
fn values_that_are_none_are_named_and_the_default_stays() {
    for (annotations, spec, expected) in [
        (
            "proxy-agent.io/mode: fast",
            "",
            "metadata.annotations[proxy-agent.io/mode]: found `fast`, \
             accepted: direct, proxy, pass",
        ),
        (
            "proxy-agent.io/stale-connections: drop",
            "",
            "metadata.annotations[proxy-agent.io/stale-connections]: found `drop`, \
             accepted: close, keep",
        ),
        (
            "",
            "sessionAffinity: Cookie, ",
            "spec.sessionAffinity: found `Cookie`, accepted: None, ClientIP",
        ),
        (
            "",
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}, ",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: found 0, accepted: 1 to 86400",
        ),
    ] {
        let snapshot = compile(&service(
            annotations,
            &format!("{spec}ports: [{{port: 80}}]"),
        ));
        assert_eq!(
            only_problem(&snapshot),
            format!("Service ns/db: {expected}")
        );
        assert_eq!(
            listener(&snapshot, "db", 80).verdict,
            ListenerVerdict::Direct
        );
        assert_eq!(cluster(&snapshot).direct.stale, StaleConnections::Close);
    }
}

#[test]
fn affinity_and_stale_connections_reach_the_cluster() {
    const CLIENT_IP: &str = "sessionAffinity: ClientIP, ";
    for (spec, expected) in [
        ("", None),
        ("sessionAffinity: None, ", None),
        (CLIENT_IP, Some(Duration::from_hours(3))),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, ",
            Some(Duration::from_mins(1)),
        ),
    ] {
        let keep = "proxy-agent.io/stale-connections: keep";
        let snapshot = compile(&service(keep, &format!("{spec}ports: [{{port: 80}}]")));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        let policy = cluster(&snapshot).direct;
        assert_eq!(policy.affinity, expected, "{spec}");
        assert_eq!(policy.stale, StaleConnections::Keep);
    }
}

/// A slice with an endpoint on each of two nodes, one that is not ready, and one on its way out.
const SLICE: &str = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
    metadata: {name: s, namespace: ns, labels: {kubernetes.io/service-name: db}}\n\
    addressType: IPv4\nports: [{name: '', port: 8080}]\nendpoints:\n\
    - {addresses: [10.1.0.1], nodeName: n1}\n\
    - {addresses: [10.1.0.2], nodeName: n2}\n\
    - {addresses: [10.1.0.3], nodeName: n1, conditions: {ready: false, serving: false}}\n\
    - {addresses: [10.1.0.4], nodeName: n1, \
       conditions: {ready: false, serving: true, terminating: true}}\n";

/// Last bytes of the addresses that are used, and of those that are not.
fn on_node(node: &str, spec: &str) -> [Vec<u8>; 2] {
    let text = service("", &format!("{spec}ports: [{{port: 80}}]")) + SLICE;
    let options = Options {
        node_name: Some(node.to_owned()),
        ..Options::default()
    };
    let snapshot = Compiler::default().compile(&[set(&text, Origin::Files)], &options);
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let cluster = cluster(&snapshot);
    let last = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    let used = cluster.endpoints.iter().map(|one| last(one.address.ip()));
    let lingering = cluster
        .left_out
        .iter()
        .filter_map(|one| Some(last(one.address?.ip())));
    [used.collect(), lingering.collect()]
}

#[test]
fn what_is_known_and_not_used_lingers() {
    assert_eq!(on_node("n1", ""), [vec![1, 2], vec![3, 4]]);
}

#[test]
fn endpoints_of_the_node_are_used_alone_where_that_is_asked_for() {
    let local = "internalTrafficPolicy: Local, ";
    assert_eq!(on_node("n1", local), [vec![1], vec![2, 3, 4]]);
    assert_eq!(on_node("n3", local), [vec![], vec![1, 2, 3, 4]]);
}
