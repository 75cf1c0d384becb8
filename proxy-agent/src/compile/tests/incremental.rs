//! What is kept from one snapshot to the next never shows: over any sequence of changes the result
//! is that of a compiler which keeps nothing but what must stay the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::set;
use crate::compile::{Compiler, Options};
use crate::model::{Listener, Place, Snapshot};
use crate::objects::{Located, ObjectSet, Origin, Resolution};

/// The versions of each object, which may also not be there.
const OBJECTS: &[&[&str]] = &[
    &[
        "v1 Node {metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}}",
        "v1 Node {metadata: {name: n1, labels: {topology.kubernetes.io/zone: b}}}",
    ],
    &[
        "v1 Namespace {metadata: {name: ns, labels: {proxy-agent.io/capture: enabled}}}",
        "v1 Namespace {metadata: {name: ns, labels: {proxy-agent.io/capture: maybe}}}",
        "v1 Namespace {metadata: {name: ns, annotations: {proxy-agent.io/mode: x}}}",
        "v1 Namespace {metadata: {name: ns, annotations: {config.linkerd.io/opaque-ports: '80'}}}",
    ],
    &[
        "v1 Pod {metadata: {name: p, namespace: ns, uid: p, labels: {app: web}}, spec: {containers: [{name: c, ports: [{name: x, containerPort: 7}]}]}, status: {podIP: 10.1.0.1, conditions: [{type: Ready, status: 'True'}]}}",
        "v1 Pod {metadata: {name: p, namespace: ns, uid: p, labels: {app: web}}, spec: {containers: [{name: c}]}, status: {podIP: 10.1.0.1}}",
        "v1 Pod {metadata: {name: p, namespace: ns, uid: p, labels: {app: b, v: v1}}, spec: {containers: [{name: c}]}, status: {podIP: 10.1.0.1, conditions: [{type: Ready, status: 'True'}]}}",
    ],
    &[
        "v1 Pod {metadata: {name: q, namespace: ns, uid: q, labels: {app: b}}, spec: {containers: [{name: c}]}, status: {podIP: 10.1.0.2, conditions: [{type: Ready, status: 'True'}]}}",
        "v1 Pod {metadata: {name: q, namespace: ns, annotations: {proxy-agent.io/capture: maybe}}, spec: {containers: [{name: c}]}}",
    ],
    &[
        "v1 Service {metadata: {name: web, namespace: ns}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: x}]}}",
        "v1 Service {metadata: {name: web, namespace: ns}, spec: {ports: [{port: 80, name: http}, {port: 81, name: tcp-x}]}}",
        "v1 Service {metadata: {name: web, namespace: ns}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}",
        "v1 Service {metadata: {name: web, namespace: ns}, spec: {clusterIP: None, ports: [{port: 80}]}}",
        "v1 Service {metadata: {name: web, namespace: ns, annotations: {retry.linkerd.io/http: 5xx, config.linkerd.io/opaque-ports: '81', balancer.linkerd.io/failure-accrual: consecutive}}, spec: {ports: [{port: 80, name: http}, {port: 81, name: http-b}]}}",
        "v1 Service {metadata: {name: web, namespace: ns, annotations: {proxy-agent.io/balance: x}}, spec: {sessionAffinity: ClientIP, ports: [{port: 80}, {port: 80}]}}",
    ],
    &[
        "v1 Service {metadata: {name: b, namespace: ns}, spec: {selector: {app: b}, ports: [{port: 80}]}}",
        "v1 Service {metadata: {name: b, namespace: ns}, spec: {clusterIP: 10.96.0.1, selector: {app: b, v: v1}, ports: [{port: 80}, {port: 81}]}}",
        "v1 Service {metadata: {name: b, namespace: ns}, spec: {type: ExternalName, externalName: x, ports: [{port: 80}]}}",
    ],
    &[
        "v1 Service {metadata: {name: d, namespace: other}, spec: {ports: [{port: 80}]}}",
        "v1 Service {metadata: {name: d, namespace: other}, spec: {clusterIP: 10.111.73.3, ports: [{port: 80}]}}",
    ],
    &[
        "discovery.k8s.io/v1 EndpointSlice {metadata: {name: s, namespace: ns, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.2.0.1], nodeName: n1}], ports: [{port: 8080}]}",
        "discovery.k8s.io/v1 EndpointSlice {metadata: {name: s, namespace: ns, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.2.0.1]}, {addresses: [10.2.0.3]}, {addresses: [bad]}], ports: [{port: 8080}, {port: 8081, name: tcp-x}]}",
        "discovery.k8s.io/v1 EndpointSlice {metadata: {name: s, namespace: ns, labels: {kubernetes.io/service-name: b}}, addressType: IPv4, endpoints: [{addresses: [10.2.0.1]}], ports: [{port: 8080}]}",
        "discovery.k8s.io/v1 EndpointSlice {metadata: {name: s, namespace: ns, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.2.0.1], hints: {forZones: [{name: a}]}}, {addresses: [10.2.0.3], hints: {forZones: [{name: b}]}}], ports: [{port: 8080}]}",
        "discovery.k8s.io/v1 EndpointSlice {metadata: {name: s, namespace: ns}, addressType: IPv4, endpoints: [], ports: []}",
    ],
    &[
        "discovery.k8s.io/v1 EndpointSlice {metadata: {name: a, namespace: ns, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.2.0.1], nodeName: n2}, {addresses: [10.2.0.2]}], ports: [{port: 8080}]}",
    ],
    &[
        "gateway.networking.k8s.io/v1 HTTPRoute {metadata: {name: r, namespace: ns, generation: 1}, spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: b, port: 80}]}]}}",
        "gateway.networking.k8s.io/v1 HTTPRoute {metadata: {name: r, namespace: ns, generation: 2}, spec: {parentRefs: [{group: '', kind: Service, name: web, port: 81}, {group: '', kind: Service, name: b}], rules: [{backendRefs: [{name: d, namespace: other, port: 80}]}]}}",
        "gateway.networking.k8s.io/v1 HTTPRoute {metadata: {name: r, namespace: ns, generation: 3}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: b, port: 80}]}]}}",
        "gateway.networking.k8s.io/v1 HTTPRoute {metadata: {name: r, namespace: ns, generation: 4}, spec: {hostnames: [h], parentRefs: [{group: '', kind: Service, name: web}], rules: [{filters: [{type: CORS, cors: {}}], backendRefs: [{name: web, port: 80}]}]}}",
    ],
    &[
        "gateway.networking.k8s.io/v1 HTTPRoute {metadata: {name: r, namespace: other}, spec: {parentRefs: [{group: '', kind: Service, name: web, namespace: ns}], rules: [{backendRefs: [{name: d, port: 80}]}]}}",
        "gateway.networking.k8s.io/v1 HTTPRoute {metadata: {name: r, namespace: other, creationTimestamp: '2024-01-01T00:00:00Z'}, spec: {parentRefs: [{group: '', kind: Service, name: d}], rules: [{backendRefs: [{name: web, namespace: ns, port: 80}]}]}}",
        "gateway.networking.k8s.io/v1alpha2 HTTPRoute {metadata: {name: r, namespace: other}}",
    ],
    &[
        "gateway.networking.k8s.io/v1 GRPCRoute {metadata: {name: r, namespace: ns, generation: 1}, spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: b, port: 80}]}]}}",
        "gateway.networking.k8s.io/v1 GRPCRoute {metadata: {name: r, namespace: ns, generation: 2}, spec: {parentRefs: [{group: '', kind: Service, name: b}, {group: '', kind: Service, name: gone}], rules: [{backendRefs: [{name: d, namespace: other, port: 80}]}]}}",
    ],
    &[
        "gateway.networking.k8s.io/v1 TLSRoute {metadata: {name: r, namespace: ns, generation: 1}, spec: {hostnames: [x], parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: b, port: 80}]}]}}",
        "gateway.networking.k8s.io/v1 TLSRoute {metadata: {name: r, namespace: ns, generation: 2}, spec: {hostnames: ['*.x', '*'], parentRefs: [{group: '', kind: Service, name: b}, {group: '', kind: Service, name: gone}], rules: [{backendRefs: [{name: d, namespace: other, port: 80}]}]}}",
    ],
    &[
        "gateway.networking.k8s.io/v1 TCPRoute {metadata: {name: r, namespace: other}, spec: {parentRefs: [{group: '', kind: Service, name: web, namespace: ns}], rules: [{backendRefs: [{name: d, port: 80}]}]}}",
        "gateway.networking.k8s.io/v1 TCPRoute {metadata: {name: r, namespace: other}, spec: {parentRefs: [{group: '', kind: Service, name: d}], rules: [{backendRefs: [{name: web, namespace: ns, port: 81, weight: 0}]}]}}",
    ],
    &[
        "gateway.networking.k8s.io/v1beta1 ReferenceGrant {metadata: {name: g, namespace: other}, spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: ns}], to: [{group: '', kind: Service}]}}",
    ],
    &[
        "networking.istio.io/v1 VirtualService {metadata: {name: v, namespace: ns}, spec: {hosts: [web], http: [{route: [{destination: {host: b}}]}]}}",
        "networking.istio.io/v1 VirtualService {metadata: {name: v, namespace: ns}, spec: {hosts: [web, d.other], gateways: [gw], exportTo: [ns], http: [{route: [{destination: {host: d.other}}]}]}}",
    ],
    &[
        "networking.istio.io/v1 VirtualService {metadata: {name: w, namespace: ns}, spec: {hosts: [web], http: [{route: [{destination: {host: web, port: {number: 81}}}]}]}}",
        "networking.istio.io/v1 VirtualService {metadata: {name: w, namespace: ns}, spec: {hosts: [web, b], exportTo: [other], tls: [{match: [{sniHosts: [x]}, {sniHosts: ['*'], port: 80}], route: [{destination: {host: d.other}}]}], tcp: [{route: [{destination: {host: b, subset: v1, port: {number: 80}}}]}]}}",
    ],
    &[
        "networking.istio.io/v1 VirtualService {metadata: {name: x, namespace: ns}, spec: {hosts: ['*'], http: [{route: [{destination: {host: b, subset: v1, port: {number: 80}}}]}]}}",
        "networking.istio.io/v1 VirtualService {metadata: {name: x, namespace: ns}, spec: {hosts: [web], http: [{delegate: {name: y}}, {mirror: {host: d.other}, route: [{destination: {host: web, subset: v1, port: {number: 80}}}]}]}}",
    ],
    &[
        "networking.istio.io/v1 VirtualService {metadata: {name: y, namespace: ns}, spec: {http: [{route: [{destination: {host: b, subset: v1, port: {number: 80}}}]}]}}",
        "networking.istio.io/v1 VirtualService {metadata: {name: y, namespace: ns}, spec: {hosts: [b], http: [{directResponse: {status: 200}}]}}",
    ],
    &[
        "networking.istio.io/v1 DestinationRule {metadata: {name: e, namespace: ns}, spec: {host: b, subsets: [{name: v1, labels: {v: v1}}, {name: all}]}}",
        "networking.istio.io/v1 DestinationRule {metadata: {name: e, namespace: ns}, spec: {host: b, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, subsets: [{name: v1, labels: {app: b}}]}}",
        "networking.istio.io/v1 DestinationRule {metadata: {name: e, namespace: ns}, spec: {host: web, exportTo: [other], subsets: [{name: v1, labels: {app: web}}]}}",
        "networking.istio.io/v1 DestinationRule {metadata: {name: e, namespace: ns}, spec: {host: d.other, trafficPolicy: {outlierDetection: {}}}}",
    ],
    &[
        "networking.istio.io/v1 DestinationRule {metadata: {name: f, namespace: other}, spec: {host: b.ns, subsets: [{name: v1}, {name: v1, labels: {app: b}}]}}",
        "networking.istio.io/v1 DestinationRule {metadata: {name: f, namespace: other}, spec: {host: web.ns, subsets: [{name: v1, labels: {app: web}}]}}",
    ],
    &[
        "networking.istio.io/v1 ServiceEntry {metadata: {name: s, namespace: ns}, spec: {hosts: [a.org], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}}",
        "networking.istio.io/v1 ServiceEntry {metadata: {name: s, namespace: ns}, spec: {hosts: [a.org, b.org], exportTo: [ns], addresses: [10.96.0.1], resolution: STATIC, ports: [{number: 80, name: tcp}], endpoints: [{address: 10.3.0.1, labels: {app: b}}]}}",
        "networking.istio.io/v1 ServiceEntry {metadata: {name: s, namespace: ns}, spec: {hosts: [b.org], resolution: STATIC, ports: [{number: 80, name: http}, {number: 81, name: x}], workloadSelector: {labels: {app: b}}}}",
    ],
    &[
        "networking.istio.io/v1 ServiceEntry {metadata: {name: t, namespace: ns, creationTimestamp: '2024-01-01T00:00:00Z'}, spec: {hosts: [b.org], addresses: [10.9.0.9], resolution: STATIC, ports: [{number: 80, name: http}], workloadSelector: {labels: {app: web}}}}",
        "networking.istio.io/v1 ServiceEntry {metadata: {name: t, namespace: ns}, spec: {hosts: [b.org], resolution: MAGIC}}",
    ],
    &[
        "networking.istio.io/v1 ServiceEntry {metadata: {name: s, namespace: other}, spec: {hosts: [a.org], ports: [{number: 80, name: http}]}}",
    ],
    &[
        "networking.istio.io/v1 VirtualService {metadata: {name: z, namespace: ns}, spec: {hosts: [a.org], http: [{route: [{destination: {host: b.org, subset: v1, port: {number: 80}}}]}]}}",
        "networking.istio.io/v1 VirtualService {metadata: {name: z, namespace: ns}, spec: {hosts: ['*.org', b], http: [{route: [{destination: {host: a.org}}]}]}}",
    ],
    &[
        "networking.istio.io/v1 DestinationRule {metadata: {name: g, namespace: other}, spec: {host: b.org, trafficPolicy: {outlierDetection: {}}, subsets: [{name: v1, labels: {app: b}}]}}",
        "networking.istio.io/v1 DestinationRule {metadata: {name: g, namespace: other}, spec: {host: a.org, subsets: [{name: v1, labels: {app: b}}]}}",
    ],
    &[
        "dns Resolution a.org 192.0.2.1",
        "dns Resolution a.org 192.0.2.2,10.9.0.9",
    ],
    &["dns Resolution b.org 192.0.2.1"],
    &["networking.istio.io/v1 Gateway {metadata: {name: gw, namespace: ns}}"],
    &[
        "linkerd.io/v1 Service {metadata: {name: web, namespace: ns}, spec: {port: 80, host: h, label: app=b}}",
        "linkerd.io/v1 Service {metadata: {name: l, namespace: ns}, spec: {port: 81, host: h, label: app}}",
    ],
    &[
        "linkerd.io/v1 Route {metadata: {name: x, namespace: ns}, spec: {host: h, kind: service, weight: 2, service: {kind: Service, name: b}}}",
        "linkerd.io/v1 Route {metadata: {name: x, namespace: ns}, spec: {host: i, kind: service, service: {kind: Service, name: web}}}",
    ],
    &[
        "linkerd.io/v1alpha2 ServiceProfile {metadata: {name: web.ns.svc.cluster.local, namespace: ns}, spec: {routes: [{name: r, condition: {pathRegex: /a}, isRetryable: true}]}}",
        "linkerd.io/v1alpha2 ServiceProfile {metadata: {name: web.ns.svc.cluster.local, namespace: ns}, spec: {opaquePorts: ['80'], dstOverrides: [{authority: 'b:81', weight: 1}, {authority: d.other, weight: 500m}]}}",
        "linkerd.io/v1alpha2 ServiceProfile {metadata: {name: web.ns.svc.cluster.local, namespace: ns}, spec: {routes: [{name: r, condition: {}}]}}",
    ],
    &[
        "linkerd.io/v1alpha2 ServiceProfile {metadata: {name: web.ns.svc.cluster.local, namespace: other}, spec: {opaquePorts: ['80'], routes: [{name: r, condition: {method: GET}, timeout: 1s}]}}",
    ],
    &[
        "split.smi-spec.io/v1alpha4 TrafficSplit {metadata: {name: s, namespace: ns}, spec: {service: web, backends: [{service: b, weight: 1}, {service: web, weight: 3}]}}",
        "split.smi-spec.io/v1alpha4 TrafficSplit {metadata: {name: s, namespace: ns}, spec: {service: b, matches: [{kind: HTTPRouteGroup, name: g}], backends: [{service: web, weight: 1}]}}",
    ],
    &[
        "specs.smi-spec.io/v1alpha4 HTTPRouteGroup {metadata: {name: g, namespace: ns}, spec: {matches: [{name: a, pathRegex: /a}]}}",
        "specs.smi-spec.io/v1alpha4 HTTPRouteGroup {metadata: {name: g, namespace: ns}, spec: {matches: [{name: a, pathRegex: '('}]}}",
    ],
    &[
        "policy.linkerd.io/v1beta3 HTTPRoute {metadata: {name: r, namespace: ns, annotations: {timeout.linkerd.io/request: 1s}}, spec: {parentRefs: [{group: core, kind: Service, name: web}], rules: [{}]}}",
        "policy.linkerd.io/v1beta3 HTTPRoute {metadata: {name: r, namespace: ns}, spec: {parentRefs: [{group: core, kind: Service, name: b}, {group: '', kind: Service, name: web, port: 81}], rules: [{retry: {}}, {backendRefs: [{name: d, namespace: other, port: 80}]}]}}",
    ],
];

/// Every version of every object.
type Pool = Vec<Vec<Arc<Located>>>;

fn pool(origin: Origin) -> Pool {
    let read = |version: &&str| {
        let mut words = version.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (api_version, kind, rest) = (word(), word(), word());
        if api_version == "dns" {
            return resolution(rest);
        }
        let rest = rest.trim_start_matches('{');
        let text = format!("{{apiVersion: {api_version}, kind: {kind}, {rest}");
        let set = set(&text, origin);
        let mut objects = set.objects.iter();
        let (Some(object), None) = (objects.next(), objects.next()) else {
            panic!("one object expected: {:?}", set.problems);
        };
        Arc::clone(object)
    };
    let versions = |versions: &&[&str]| versions.iter().map(read).collect();
    OBJECTS.iter().map(versions).collect()
}

/// What DNS says: a name and its addresses.
fn resolution(text: &str) -> Arc<Located> {
    let (name, addresses) = text.split_once(' ').expect("a name and addresses");
    let addresses = addresses
        .split(',')
        .map(|one| one.parse().expect("an address"));
    let place = Place {
        source: "dns".into(),
        line: 0,
    };
    Arc::new(Resolution::located(
        &name.into(),
        place,
        addresses.collect(),
    ))
}

/// What a source holds: a version of each object, or none.
type Holding = Vec<Option<usize>>;

fn sets(pools: &[Pool; 2], holdings: &[Holding; 2]) -> Vec<Arc<ObjectSet>> {
    let set = |source: usize, name: &str, origin| {
        let mut set = ObjectSet::unsynced(name.into(), origin);
        let versions = pools[source].iter().zip(&holdings[source]);
        let held = versions.filter_map(|(versions, held)| versions.get((*held)?));
        set.objects = held.cloned().collect();
        Arc::new(set)
    };
    vec![
        set(0, "files", Origin::Files),
        set(1, "cluster", Origin::Cluster),
    ]
}

/// Everything that a snapshot says, in an order of its own.
fn described(snapshot: &Snapshot) -> Vec<String> {
    let listener = |listener: &Listener| {
        let consumers: BTreeMap<_, _> = listener.consumer_routes.iter().collect();
        let streams: BTreeMap<_, _> = listener.consumer_streams.iter().collect();
        let rest = Listener {
            consumer_routes: Default::default(),
            consumer_streams: Default::default(),
            ..listener.clone()
        };
        format!("{rest:?} {consumers:?} {streams:?}")
    };
    let mut lines: Vec<_> = snapshot.listeners.iter().map(|one| listener(one)).collect();
    let by_address: BTreeMap<_, _> = snapshot.by_address.iter().collect();
    lines.extend(
        by_address
            .iter()
            .map(|(address, one)| format!("{address} {}", listener(one))),
    );
    lines.extend(snapshot.clusters.iter().map(|one| format!("{one:?}")));
    for (namespace, hosts) in snapshot.virtual_hosts.iter().collect::<BTreeMap<_, _>>() {
        let hosts: BTreeMap<_, _> = hosts.iter().collect();
        lines.push(format!("{namespace} {hosts:?}"));
    }
    lines.push(format!(
        "{:?}",
        snapshot.pods.iter().collect::<BTreeMap<_, _>>()
    ));
    let labels: BTreeMap<_, _> = snapshot.pod_labels.iter().collect();
    lines.push(format!("{labels:?}"));
    lines.push(format!("{} {:?}", snapshot.objects, snapshot.unserved));
    lines.push(format!(
        "{:?} {:?}",
        snapshot.unknown_kinds, snapshot.lookups
    ));
    lines.extend(snapshot.route_parents.iter().map(|one| format!("{one:?}")));
    lines.extend(snapshot.problems.iter().map(|one| format!("{one:?}")));
    lines
}

/// What is equal in both is the same in memory.
fn equal_parts_are_shared(former: &Snapshot, present: &Snapshot) -> bool {
    let clusters = former.clusters.iter();
    let mut clusters = clusters.filter_map(|one| Some((one, present.clusters.get(one.id)?)));
    let problems =
        former.problems != present.problems || Arc::ptr_eq(&former.problems, &present.problems);
    problems && clusters.all(|(one, other)| one != other || Arc::ptr_eq(one, other))
}

/// A change: in which source, of which object, to which version or to none.
fn change() -> impl Strategy<Value = (usize, usize, Option<usize>)> {
    (
        // The second source is rarely needed, and each object in both is soon all there is.
        prop_oneof![4 => Just(0_usize), 1 => Just(1)],
        0..OBJECTS.len(),
        prop::option::weighted(0.8, 0..5_usize),
    )
}

proptest! {
    #[test]
    fn what_is_kept_never_shows(
        steps in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..24),
        narrow in any::<bool>(),
    ) {
        let pools = [pool(Origin::Files), pool(Origin::Cluster)];
        let mut holdings = [vec![None; OBJECTS.len()], vec![None; OBJECTS.len()]];
        let options = Options {
            // Two addresses alone: somebody goes without.
            service_cidr: if narrow { "10.0.0.0/30".parse().expect("a range") } else { Default::default() },
            node_name: Some("n1".to_owned()),
            ..Options::default()
        };
        let (mut keeping, mut forgetting) = (Compiler::default(), Compiler::default());
        let nothing = sets(&pools, &holdings);
        let mut former = keeping.compile(&nothing, &options);
        forgetting.compile(&nothing, &options);
        for changes in steps {
            for (source, object, version) in changes {
                let versions = OBJECTS[object].len();
                holdings[source][object] = version.map(|version| version % versions);
            }
            let sets = sets(&pools, &holdings);
            forgetting.forget();
            let kept = keeping.compile(&sets, &options);
            let fresh = forgetting.compile(&sets, &options);
            prop_assert_eq!(described(&kept), described(&fresh));
            prop_assert!(equal_parts_are_shared(&former, &kept));
            former = kept;
        }
    }
}

#[test]
fn other_options_and_other_sources_begin_anew() {
    let web = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: ns}\n\
               spec: {ports: [{port: 80}]}\n";
    let mut compiler = Compiler::default();
    let sets = [set(web, Origin::Files)];
    let before = compiler.compile(&sets, &Options::default());
    let narrow = Options {
        service_cidr: "10.0.0.0/30".parse().expect("a range"),
        ..Options::default()
    };
    let after = compiler.compile(&[set(web, Origin::Cluster)], &narrow);
    assert_eq!(before.listeners[0].addresses.len(), 1);
    assert_eq!(
        after.listeners[0].addresses,
        [],
        "a cluster's Service has one of its own"
    );
    assert_eq!(before.listeners[0].cluster, after.listeners[0].cluster);
    let none = compiler.compile(&[], &narrow);
    assert!(none.listeners.is_empty() && none.clusters.iter().next().is_none());
}
