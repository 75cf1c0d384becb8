//! The source document's examples, and the two kinds of `linkerd.io/v1`.

use super::{ask, compile, endpoints, listener, only_problem, pod, problems};
use crate::model::{ListenerProtocol, ListenerVerdict, Snapshot};

const CLUSTER_IP: &str =
    include_str!("../../../../examples/source-document/kubernetes-clusterip.yaml");
const LOAD_BALANCER: &str =
    include_str!("../../../../examples/source-document/kubernetes-loadbalancer.yaml");
const ISTIO: &str = include_str!("../../../../examples/source-document/istio.yaml");
const LINKERD: &str = include_str!("../../../../examples/source-document/linkerd.yaml");

fn with_pod(text: &str) -> Snapshot {
    let pod = pod("p", "10.1.0.1")
        .replace("namespace: ns, ", "")
        .replace("app: p", "app: my-app");
    compile(&format!("{pod}{text}"))
}

#[test]
fn the_kubernetes_examples_get_an_address_and_their_pods() {
    for text in [CLUSTER_IP, LOAD_BALANCER] {
        let snapshot = with_pod(text);
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        let listener = listener(&snapshot, "my-service", 80);
        assert_eq!(listener.addresses.len(), 1);
        assert_eq!(listener.verdict, ListenerVerdict::Direct);
        assert_eq!(
            endpoints(&snapshot, "default/my-service:80"),
            ["10.1.0.1:8080"]
        );
    }
}

#[test]
fn the_istio_example_routes_http_although_its_gateway_does_not_exist() {
    let snapshot = with_pod(ISTIO);
    assert_eq!(
        only_problem(&snapshot),
        "VirtualService.networking.istio.io default/my-service: spec.gateways: \
         no Gateway of these exists (my-gateway): applied to the mesh instead"
    );
    let listener = listener(&snapshot, "my-service", 80);
    assert_eq!(
        listener.verdict,
        ListenerVerdict::Proxy(ListenerProtocol::Http)
    );
    assert_eq!(
        ask(&listener.routes, &snapshot, "GET /x"),
        "default/my-service:80*1"
    );
}

#[test]
fn the_linkerd_example_is_a_virtual_host_on_the_target_port() {
    let snapshot = with_pod(&format!("{LINKERD}---\n{CLUSTER_IP}"));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let table = &snapshot.virtual_hosts["default"]["my-service.linkerd.service"];
    assert_eq!(
        ask(table, &snapshot, "GET /"),
        "linkerd/default/my-service*100"
    );
    assert_eq!(
        endpoints(&snapshot, "linkerd/default/my-service"),
        ["10.1.0.1:8080"]
    );
    let listener = listener(&snapshot, "my-service", 80);
    assert_eq!(
        listener.verdict,
        ListenerVerdict::Proxy(ListenerProtocol::Http)
    );
}

#[test]
fn without_a_kubernetes_service_the_port_is_the_pods_own() {
    let snapshot = with_pod(LINKERD);
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(
        endpoints(&snapshot, "linkerd/default/my-service"),
        ["10.1.0.1:80"]
    );
}

fn linkerd_service(name: &str, host: &str) -> String {
    format!(
        "apiVersion: linkerd.io/v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{port: 80, host: {host}, label: app=my-app}}\n---\n"
    )
}

fn linkerd_route(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: linkerd.io/v1\nkind: Route\nmetadata: {{name: {name}}}\n\
         spec: {{host: Web.example, {spec}}}\n---\n"
    )
}

#[test]
fn routes_of_one_host_share_it_by_weight() {
    let snapshot = with_pod(
        &[
            linkerd_service("a", "web.example"),
            linkerd_service("b", "b.example"),
            linkerd_route("r1", "weight: 90, service: {kind: Service, name: a}"),
            linkerd_route("r2", "weight: 10, service: {name: b}"),
            linkerd_route("r3", "service: {name: my-service}"),
            CLUSTER_IP.to_owned(),
        ]
        .concat(),
    );
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let hosts = &snapshot.virtual_hosts["default"];
    assert_eq!(
        ask(&hosts["web.example"], &snapshot, "GET /"),
        "linkerd/default/a*90 linkerd/default/b*10 default/my-service:80*1"
    );
    assert_eq!(
        ask(&hosts["b.example"], &snapshot, "GET /"),
        "linkerd/default/b*1"
    );
    let verdict = listener(&snapshot, "my-service", 80).verdict;
    assert_eq!(
        verdict,
        ListenerVerdict::Proxy(ListenerProtocol::Http),
        "a Route names it"
    );
}

#[test]
fn a_route_whose_service_is_missing_keeps_its_share() {
    let snapshot = with_pod(
        &[
            linkerd_service("a", "web.example"),
            linkerd_route("r1", "weight: 3, service: {name: a}"),
            linkerd_route("r2", "service: {name: missing}"),
        ]
        .concat(),
    );
    let hosts = &snapshot.virtual_hosts["default"];
    assert_eq!(
        ask(&hosts["web.example"], &snapshot, "GET /"),
        "linkerd/default/a*3 invalid*1"
    );
}

#[test]
fn endpoints_are_the_ready_pods_of_the_namespace_that_carry_every_label() {
    let pod = |name: &str, namespace: &str, labels: &str, ready: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\n\
             metadata: {{name: pod-{name}, namespace: {namespace}, uid: uid-{name}, labels: {{{labels}}}}}\n\
             spec: {{containers: [{{name: c}}]}}\n\
             status: {{podIP: 10.1.0.{name}, conditions: [{{type: Ready, status: '{ready}'}}]}}\n---\n"
        )
    };
    let pods = [
        pod("1", "default", "app: web, tier: front", "True"),
        pod("2", "default", "app: web", "True"),
        pod("3", "other", "app: web, tier: front", "True"),
        pod("4", "default", "app: web, tier: front", "False"),
    ];
    let service =
        linkerd_service("a", "web.example").replace("app=my-app", "'app=web, tier=front'");
    let snapshot = compile(&(pods.concat() + &service));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(endpoints(&snapshot, "linkerd/default/a"), ["10.1.0.1:80"]);
    assert_eq!(snapshot.virtual_hosts.len(), 1, "of one namespace alone");
}

#[test]
fn faults_are_named_with_what_is_accepted() {
    for (text, expected) in [
        (
            linkerd_route("r", "service: {name: missing}"),
            "Route.linkerd.io default/r: spec.service.name: \
             no Service default/missing, neither linkerd.io/v1 nor v1; its share of requests is \
             answered 500",
        ),
        (
            linkerd_route("r", "kind: path, service: {name: missing}"),
            "Route.linkerd.io default/r: spec.kind: found `path`, accepted: service",
        ),
        (
            linkerd_service("a", "web.example").replace("app=my-app", "my-app"),
            "Service.linkerd.io default/a: spec.label: found `my-app`, expected key=value[,key=value]",
        ),
        (
            linkerd_service("a", "'web:80'"),
            "Service.linkerd.io default/a: spec.host: found `web:80`, \
             expected a host name without a port",
        ),
        (
            linkerd_service("a", "web.example") + &linkerd_service("b", "WEB.example"),
            "Service.linkerd.io default/b: spec.host: host `web.example` is \
             Service.linkerd.io default/a's already, which keeps it",
        ),
    ] {
        assert_eq!(only_problem(&with_pod(&text)), expected);
    }
}
