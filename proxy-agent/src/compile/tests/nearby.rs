//! Endpoints for this node: internalTrafficPolicy, hints, trafficDistribution.

use super::*;

const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {topology.kubernetes.io/zone: a}}
---
apiVersion: v1
kind: Node
metadata: {name: n3, labels: {topology.kubernetes.io/zone: b}}
---
";

/// Service `web` with `spec` and a slice of these endpoints, compiled on node n1: the addresses' last
/// numbers.
fn of_slice(spec: &str, endpoints: &[&str]) -> Vec<u8> {
    let endpoints = endpoints.join(", ");
    used(&format!(
        "{NODES}apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: ns}}\n\
         spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: 80}}]{spec}}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: web-1, namespace: ns, labels: {{kubernetes.io/service-name: web}}}}\n\
         ports: [{{name: http, port: 8080}}]\nendpoints: [{endpoints}]\n"
    ))
}

fn used(text: &str) -> Vec<u8> {
    let parsed = parse(text, &Arc::from("t.yaml"), Format::Yaml);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let mut set = ObjectSet::unsynced("test".into(), Origin::Files);
    set.objects = parsed.objects.into_iter().map(Arc::new).collect();
    let options = Options {
        node_name: Some("n1".to_owned()),
        ..Options::default()
    };
    let snapshot = Compiler::default().compile(&[Arc::new(set)], &options);
    let mut clusters = snapshot.clusters.iter();
    let endpoints = &clusters.next().unwrap().endpoints;
    let last = |endpoint: &crate::model::Endpoint| match endpoint.address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(ip) => ip.octets()[15],
    };
    endpoints.iter().map(last).collect()
}

/// An endpoint of a slice.
fn endpoint(number: u8, node: &str, more: &str) -> String {
    format!("{{addresses: [10.1.0.{number}], nodeName: {node}{more}}}")
}

fn slice(spec: &str, endpoints: &[(u8, &str, &str)]) -> Vec<u8> {
    let endpoints = endpoints
        .iter()
        .map(|(n, node, more)| endpoint(*n, node, more));
    let endpoints: Vec<String> = endpoints.collect();
    of_slice(
        spec,
        &endpoints.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

const A: &str = ", hints: {forZones: [{name: a}]}";
const B: &str = ", hints: {forZones: [{name: b}]}";

#[test]
fn hints_for_this_zone_count_if_every_ready_endpoint_has_some() {
    assert_eq!(
        slice("", &[(1, "n1", A), (2, "n2", A), (3, "n3", B)]),
        [1, 2]
    );
    assert_eq!(
        slice("", &[(1, "n1", A), (2, "n2", ""), (3, "n3", B)]),
        [1, 2, 3]
    );
    assert_eq!(
        slice("", &[(2, "n2", B), (3, "n3", B)]),
        [2, 3],
        "none is for a"
    );
    let unready = ", conditions: {ready: false}";
    assert_eq!(
        slice("", &[(1, "n1", A), (2, "n2", unready), (3, "n3", B)]),
        [1]
    );
}

#[test]
fn hints_for_this_node_come_before_those_for_its_zone() {
    let both = |node: &str, zone: &str| {
        format!(", hints: {{forNodes: [{{name: {node}}}], forZones: [{{name: {zone}}}]}}")
    };
    let (here, beside, far) = (both("n1", "a"), both("n2", "a"), both("n3", "b"));
    assert_eq!(
        slice("", &[(1, "n1", &here), (2, "n2", &beside), (3, "n3", &far)]),
        [1]
    );
    assert_eq!(
        slice("", &[(2, "n2", &beside), (3, "n3", &far)]),
        [2],
        "the zone then"
    );
}

#[test]
fn a_local_policy_uses_the_nodes_own_and_nothing_else() {
    let local = ", internalTrafficPolicy: Local";
    assert_eq!(
        slice(local, &[(1, "n1", B), (2, "n2", A)]),
        [1],
        "whatever the hints"
    );
    assert!(slice(local, &[(2, "n2", "")]).is_empty());
    let leaving = ", conditions: {ready: false, serving: true, terminating: true}";
    assert_eq!(slice(local, &[(1, "n1", leaving), (2, "n2", "")]), [1]);
    let cluster = ", internalTrafficPolicy: Cluster";
    assert_eq!(
        slice(cluster, &[(1, "n1", ""), (2, "n2", "")]),
        [1, 2],
        "the control"
    );
}

#[test]
fn without_slices_the_distribution_of_the_service_counts() {
    let pods = |spec: &str, nodes: &[&str]| {
        let pod = |(number, node): (usize, &&str)| {
            format!(
                "---\napiVersion: v1\nkind: Pod\n\
                 metadata: {{name: p{number}, namespace: ns, uid: u{number}, labels: {{app: web}}}}\n\
                 spec: {{nodeName: {node}, containers: []}}\n\
                 status: {{podIP: 10.1.0.{number}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
            )
        };
        let pods: String = (1..).zip(nodes).map(pod).collect();
        used(&format!(
            "{NODES}apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: ns}}\n\
             spec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, \
             ports: [{{name: http, port: 80, targetPort: 8080}}]{spec}}}\n{pods}"
        ))
    };
    let nodes = ["n1", "n2", "n3"];
    assert_eq!(pods("", &nodes), [1, 2, 3]);
    for close in ["PreferClose", "PreferSameZone"] {
        assert_eq!(
            pods(&format!(", trafficDistribution: {close}"), &nodes),
            [1, 2]
        );
    }
    let same_node = ", trafficDistribution: PreferSameNode";
    assert_eq!(pods(same_node, &nodes), [1]);
    assert_eq!(pods(same_node, &nodes[1..]), [1], "n2 is in the zone");
    assert_eq!(
        pods(", trafficDistribution: PreferClose", &["n3"]),
        [1],
        "better than none"
    );
    assert_eq!(pods(", internalTrafficPolicy: Local", &nodes), [1]);
}
