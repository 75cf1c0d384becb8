//! Services: addresses, protocols, verdicts, endpoints.

use super::{compile, endpoints, listener, only_problem, pod, problems, set};
use crate::compile::{Compiler, Options};
use crate::model::{
    BalancePolicy, ListenerProtocol, ListenerVerdict, PassReason, UpstreamProtocol,
};
use crate::objects::Origin;

fn one_service(metadata: &str, spec: &str, status: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: ns{metadata}}}\n\
         spec: {{{spec}}}\nstatus: {{{status}}}\n"
    )
}

#[test]
fn every_address_of_a_service_is_listened_on() {
    let snapshot = compile(&one_service(
        "",
        "clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1'], externalIPs: [192.0.2.1], \
         ports: [{port: 80}]",
        "loadBalancer: {ingress: [{ip: 192.0.2.2}, {ip: 192.0.2.3, ipMode: VIP}, {ip: 192.0.2.4, ipMode: Proxy}, {hostname: x}]}",
    ));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let texts: Vec<_> = snapshot.listeners[0]
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        texts,
        [
            "10.0.0.1:80",
            "[fd00::1]:80",
            "192.0.2.1:80",
            "192.0.2.2:80",
            "192.0.2.3:80"
        ]
    );
    let passed = &snapshot.listeners[1];
    assert_eq!(
        passed.verdict,
        ListenerVerdict::Pass(PassReason::IpModeProxy)
    );
    assert_eq!(
        passed.addresses,
        ["192.0.2.4:80".parse().expect("an address")]
    );
    assert_eq!(snapshot.by_address.len(), 5);
}

#[test]
fn what_a_port_speaks_is_told_by_app_protocol_and_then_by_name() {
    use ListenerVerdict::{Direct, Proxy};
    use UpstreamProtocol::{AsReceived, Http2};
    const HTTP: ListenerVerdict = Proxy(ListenerProtocol::Http);
    for (port, expected) in [
        ("port: 80", (Direct, AsReceived)),
        ("port: 80, name: http", (HTTP, AsReceived)),
        ("port: 80, name: http-admin", (HTTP, AsReceived)),
        ("port: 80, name: httpx", (Direct, AsReceived)),
        ("port: 80, name: http2-api", (HTTP, Http2)),
        ("port: 80, name: grpc", (HTTP, Http2)),
        ("port: 80, name: grpc-web", (HTTP, AsReceived)),
        ("port: 80, name: https", (Direct, AsReceived)),
        ("port: 80, appProtocol: http", (HTTP, AsReceived)),
        ("port: 80, appProtocol: HTTP", (HTTP, AsReceived)),
        ("port: 80, appProtocol: kubernetes.io/h2c", (HTTP, Http2)),
        (
            "port: 80, appProtocol: kubernetes.io/ws",
            (HTTP, AsReceived),
        ),
        ("port: 80, appProtocol: grpc", (HTTP, Http2)),
        (
            "port: 80, appProtocol: tcp, name: http",
            (Direct, AsReceived),
        ),
        (
            "port: 80, appProtocol: kubernetes.io/wss",
            (Direct, AsReceived),
        ),
    ] {
        let snapshot = compile(&one_service("", &format!("ports: [{{{port}}}]"), ""));
        let listener = &snapshot.listeners[0];
        let upstream = snapshot
            .cluster(listener.cluster)
            .map(|cluster| cluster.upstream);
        let found = (listener.verdict, upstream);
        assert_eq!(found, (expected.0, Some(expected.1)), "{port}");
    }
}

#[test]
fn what_always_passes_says_why() {
    for (text, expected) in [
        (
            one_service("", "clusterIP: None, ports: [{port: 80}]", ""),
            PassReason::Headless,
        ),
        (one_service("", "ports: [{port: 53}]", ""), PassReason::Dns),
        (
            one_service("", "ports: [{port: 80, protocol: UDP}]", ""),
            PassReason::NotTcp,
        ),
        (
            one_service(
                "",
                "type: ExternalName, externalName: x, ports: [{port: 80}]",
                "",
            ),
            PassReason::ExternalName,
        ),
        (
            one_service(
                ", labels: {service.kubernetes.io/service-proxy-name: x}",
                "ports: [{port: 80}]",
                "",
            ),
            PassReason::OtherProxy,
        ),
        (
            one_service("", "ports: [{port: 443}]", "").replace("web, namespace: ns", "kubernetes"),
            PassReason::ApiServer,
        ),
    ] {
        let snapshot = compile(&text);
        assert_eq!(
            snapshot.listeners[0].verdict,
            ListenerVerdict::Pass(expected)
        );
        assert!(snapshot.by_address.is_empty(), "{expected:?}");
    }
}

#[test]
fn bad_parts_of_a_service_are_named_and_the_rest_stays() {
    for (text, expected) in [
        (
            one_service("", "externalIPs: [x], ports: [{port: 80}]", ""),
            "Service ns/web: spec.externalIPs[0]: found `x`, expected an IP address",
        ),
        (
            one_service("", "ports: [{port: 80}, {port: 0}]", ""),
            "Service ns/web: spec.ports[1].port: found 0, accepted: 1 to 65535",
        ),
        (
            one_service("", "ports: [{port: 80, name: a}, {port: 80, name: b}]", ""),
            "Service ns/web: spec.ports[1].port: port 80 stands twice",
        ),
        (
            one_service(
                ", annotations: {proxy-agent.io/balance: best}",
                "ports: [{port: 80}]",
                "",
            ),
            "Service ns/web: metadata.annotations[proxy-agent.io/balance]: found `best`, \
             accepted: least-request, round-robin, random",
        ),
        (
            one_service(
                "",
                "sessionAffinity: ClientIP, ports: [{port: 80, name: http}]",
                "",
            ),
            "Service ns/web: spec.sessionAffinity: `ClientIP` is kept for direct connections alone, \
             and those to port 80 are proxied",
        ),
    ] {
        let snapshot = compile(&text);
        assert_eq!(only_problem(&snapshot), expected);
        assert_eq!(listener(&snapshot, "web", 80).addresses.len(), 1);
    }
}

#[test]
fn the_balance_annotation_reaches_the_cluster() {
    let metadata = ", annotations: {proxy-agent.io/balance: round-robin}";
    let snapshot = compile(&one_service(metadata, "ports: [{port: 80}]", ""));
    let cluster = snapshot.clusters.iter().next().expect("a cluster");
    assert_eq!(cluster.balance, BalancePolicy::RoundRobin);
}

#[test]
fn one_number_may_be_a_tcp_and_a_udp_port() {
    for (port, verdict) in [
        (443, ListenerVerdict::Direct),
        (53, ListenerVerdict::Pass(PassReason::Dns)),
    ] {
        let ports = format!(
            "clusterIP: 10.0.0.1, ports: [{{port: {port}, name: u, protocol: UDP}}, \
             {{port: {port}, name: t}}]"
        );
        let snapshot = compile(&one_service("", &ports, ""));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        let verdicts: Vec<_> = snapshot.listeners.iter().map(|one| one.verdict).collect();
        assert_eq!(verdicts[0], verdict);
        assert!(matches!(verdicts[1], ListenerVerdict::Pass(_)));
    }
}

#[test]
fn of_two_services_with_one_address_the_first_keeps_it() {
    let spec = "clusterIP: 10.0.0.1, ports: [{port: 80}]";
    let two = one_service("", spec, "").replace("name: web", "name: a-web");
    let snapshot = compile(&format!("{}---\n{two}", one_service("", spec, "")));
    assert_eq!(
        only_problem(&snapshot),
        "Service ns/web: spec: address 10.0.0.1:80 is Service ns/a-web's already, which keeps it"
    );
    let owner = &snapshot.by_address[&"10.0.0.1:80".parse().expect("an address")];
    assert_eq!(&*owner.service, "a-web");
}

#[test]
fn pods_by_selector_serve_a_service_of_files_that_has_no_slices() {
    let service = one_service(
        "",
        "selector: {app: a}, ports: [{port: 80, targetPort: TARGET}]",
        "",
    );
    let unready = pod("a", "10.1.0.2")
        .replace("'True'", "'False'")
        .replace("name: a,", "name: b,");
    let leaving = pod("a", "10.1.0.3").replace(
        "name: a,",
        "name: c, deletionTimestamp: '2026-01-01T00:00:00Z',",
    );
    let other = pod("other", "10.1.0.4");
    let text = format!("{}{unready}{leaving}{other}{service}", pod("a", "10.1.0.1"));
    for (target, expected) in [
        ("8080", vec!["10.1.0.1:8080"]),
        ("web", vec!["10.1.0.1:8080"]),
        ("nothing", vec![]),
    ] {
        let snapshot = compile(&text.replace("TARGET", target));
        assert_eq!(endpoints(&snapshot, "ns/web:80"), expected, "{target}");
    }
    let all = text
        .replace("TARGET", "web")
        .replace("selector:", "publishNotReadyAddresses: true, selector:");
    assert_eq!(
        endpoints(&compile(&all), "ns/web:80"),
        ["10.1.0.1:8080", "10.1.0.2:8080"]
    );
    let sets = [set(&text.replace("TARGET", "8080"), Origin::Cluster)];
    let snapshot = Compiler::default().compile(&sets, &Options::default());
    assert!(
        endpoints(&snapshot, "ns/web:80").is_empty(),
        "an API server has slices"
    );
}

#[test]
fn a_selector_needs_every_label_and_an_empty_one_selects_nothing() {
    let tiered = |name: &str, ip: &str, tier: &str| {
        pod(name, ip).replace("labels: {", &format!("labels: {{tier: {tier}, "))
    };
    let pods = tiered("a", "10.1.0.1", "front") + &tiered("b", "10.1.0.2", "back");
    for (selector, expected) in [
        ("tier: front", vec!["10.1.0.1:80"]),
        ("app: a, tier: front", vec!["10.1.0.1:80"]),
        ("app: b, tier: front", vec![]),
        ("app: a, other: x", vec![]),
        ("", vec![]),
    ] {
        let spec = format!("selector: {{{selector}}}, ports: [{{port: 80}}]");
        let snapshot = compile(&format!("{pods}{}", one_service("", &spec, "")));
        assert_eq!(endpoints(&snapshot, "ns/web:80"), expected, "{selector}");
    }
}

fn slice(name: &str, endpoints: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, namespace: ns, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: IPv4\nports: [{{name: other, port: 1}}, {{name: http, port: 8080}}]\n\
         endpoints: [{endpoints}]\n"
    )
}

#[test]
fn slices_are_merged_and_each_address_counts_once() {
    let service = one_service(
        "",
        "selector: {app: a}, ports: [{port: 80, name: http}]",
        "",
    );
    let text = [
        service,
        slice(
            "s1",
            "{addresses: [10.1.0.2]}, {addresses: [10.1.0.1], conditions: {ready: true}}",
        ),
        slice(
            "s2",
            "{addresses: [10.1.0.2]}, {addresses: [10.1.0.3], conditions: {ready: false}}",
        ),
    ];
    let snapshot = compile(&text.concat());
    assert_eq!(
        endpoints(&snapshot, "ns/web:80"),
        ["10.1.0.1:8080", "10.1.0.2:8080"]
    );
    assert_eq!(problems(&snapshot), Vec::<String>::new());
}

#[test]
fn endpoints_that_serve_while_terminating_are_used_when_none_is_ready() {
    let service = one_service("", "ports: [{port: 80, name: http}]", "");
    let endpoints_of = |conditions: &str| {
        let ready = "{addresses: [10.1.0.1], conditions: {ready: false}}";
        let leaving = format!("{ready}, {{addresses: [10.1.0.2], conditions: {{{conditions}}}}}");
        endpoints(
            &compile(&(service.clone() + &slice("s", &leaving))),
            "ns/web:80",
        )
    };
    assert_eq!(
        endpoints_of("ready: false, serving: true, terminating: true"),
        ["10.1.0.2:8080"]
    );
    assert_eq!(
        endpoints_of("ready: false, serving: false, terminating: true"),
        [""; 0]
    );
    assert_eq!(endpoints_of("ready: false, serving: true"), [""; 0]);
}
