//! Trimmed objects mean what whole ones mean, and are small.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::compile::{Compiler, Options};
use crate::model::{Place, Snapshot};
use crate::objects::{Format, Located, ObjectSet, Origin, parse, read_served};

fn compile(objects: Vec<Located>) -> Snapshot {
    let mut set = ObjectSet::unsynced("kubernetes".into(), Origin::Cluster);
    set.objects = objects.into_iter().map(Arc::new).collect();
    let options = Options {
        node_name: Some("node-1".to_owned()),
        ..Options::default()
    };
    Compiler::default().compile(&[Arc::new(set)], &options)
}

/// Everything that a snapshot says, as text, without its time.
fn text(mut snapshot: Snapshot) -> String {
    snapshot.created = std::time::SystemTime::UNIX_EPOCH;
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all.join("\n")
    };
    let mut parts = vec![
        format!("{:#?}", snapshot.listeners),
        format!("{:#?}", snapshot.clusters),
        format!("{:#?}", snapshot.objects),
        format!("{:#?}", snapshot.problems),
        format!("{:#?}", snapshot.route_parents),
    ];
    parts.push(sorted(
        snapshot
            .pods
            .values()
            .map(|pod| format!("{pod:?}"))
            .collect(),
    ));
    parts.push(sorted(
        snapshot
            .by_address
            .keys()
            .map(|one| format!("{one}"))
            .collect(),
    ));
    parts.push(sorted(
        snapshot
            .virtual_hosts
            .iter()
            .map(|one| format!("{one:?}"))
            .collect(),
    ));
    parts.join("\n")
}

#[test]
fn trimmed_objects_compile_to_what_whole_ones_do() {
    let whole = parse(EVERYTHING, &Arc::from("t.yaml"), Format::Yaml);
    assert_eq!(whole.rejected, []);
    let mut trimmed = whole.objects.clone();
    for located in &mut trimmed {
        let before = located.object.clone();
        trim(&mut located.object);
        let cut_down_as_read = matches!(before, Object::EndpointSlice(_));
        assert!(
            cut_down_as_read || before != located.object,
            "{} has something to trim",
            located.id
        );
    }
    let (whole, trimmed) = (text(compile(whole.objects)), text(compile(trimmed)));
    assert!(whole.contains("10.0.0.1:8080"), "{whole}");
    assert_eq!(whole, trimmed);
}

#[test]
fn what_changes_without_meaning_is_not_kept() {
    let read = |time: &str, version: &str| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "resourceVersion": version,
            "managedFields": [{"manager": "kubelet", "time": time}]},
        "spec": {"containers": [{"name": "c", "image": version, "env": []}]},
        "status": {"conditions": [
            {"type": "Ready", "status": "True", "lastProbeTime": time},
            {"type": "Initialized", "status": "True", "lastTransitionTime": time},
        ]}});
        before_reading(&mut pod);
        assert!(pod["metadata"].get("managedFields").is_none());
        let place = Place {
            source: "t".into(),
            line: 0,
        };
        let mut object = read_served(pod, place).objects.remove(0).object;
        trim(&mut object);
        object
    };
    let (first, second) = (
        read("2026-01-01T00:00:00Z", "1"),
        read("2026-02-02T00:00:00Z", "2"),
    );
    assert_eq!(first, second);
}

const EVERYTHING: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: ns, labels: {proxy-agent.io/capture: enabled, team: x}, annotations: {proxy-agent.io/on-failure: closed, config.linkerd.io/opaque-ports: '81'}}
spec: {finalizers: [kubernetes]}
---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: z, kubernetes.io/os: linux}, annotations: {a: b}}
spec: {podCIDR: 10.0.0.0/24}
status: {nodeInfo: {architecture: amd64, bootID: x, containerRuntimeVersion: x, kernelVersion: x, kubeProxyVersion: x, kubeletVersion: x, machineID: x, operatingSystem: linux, osImage: x, systemUUID: x}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: ns, uid: u1, labels: {app: cart}, annotations: {a: b, proxy-agent.io/capture: enabled, sidecar.istio.io/status: '{}', config.linkerd.io/opaque-ports: '80'}, generateName: web-}
spec: {nodeName: node-1, serviceAccountName: x, containers: [{name: web, image: i, ports: [{name: http, containerPort: 8080, hostPort: 1}]}, {name: linkerd-proxy, image: l}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}], hostIP: 1.2.3.4, conditions: [{type: Ready, status: 'True', lastTransitionTime: 2026-01-01T00:00:00Z}]}
---
apiVersion: v1
kind: Pod
metadata: {name: static, namespace: ns, uid: u2, annotations: {kubernetes.io/config.mirror: abc, kubernetes.io/config.source: file}}
spec: {nodeName: node-1, hostNetwork: true, containers: [{name: c, image: i}], initContainers: [{name: istio-proxy, image: i}]}
status: {phase: Succeeded, podIP: 10.0.0.2, message: x}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: ns, uid: s1, labels: {app: cart}, annotations: {proxy-agent.io/balance: round-robin, x: y, retry.linkerd.io/http: 5xx, timeout.linkerd.io/idle: 1s, balancer.linkerd.io/failure-accrual: consecutive}}
spec: {selector: {app: cart}, clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], externalIPs: [1.1.1.1], ipFamilies: [IPv4], sessionAffinity: ClientIP, internalTrafficPolicy: Local, trafficDistribution: PreferClose, ports: [{name: http, port: 80, targetPort: http}, {name: grpc, port: 81, appProtocol: grpc}]}
status: {loadBalancer: {ingress: [{ip: 2.2.2.2, ipMode: Proxy}, {ip: 3.3.3.3}]}, conditions: []}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: ns, uid: s2, labels: {service.kubernetes.io/service-proxy-name: mine}}
spec: {clusterIP: 10.96.0.11, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: ns, uid: s3}
spec: {clusterIP: None, publishNotReadyAddresses: true, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: ns, uid: e1, labels: {kubernetes.io/service-name: cart, endpointslice.kubernetes.io/managed-by: x}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP, appProtocol: http}, {name: grpc, port: 8081}]
endpoints:
- {addresses: [10.0.0.1, 10.0.0.9], conditions: {ready: true}, nodeName: node-1, zone: a, hostname: h, hints: {forZones: [{name: a}]}, targetRef: {kind: Pod, name: web, namespace: ns, uid: u1}}
- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}, targetRef: {kind: Pod, name: w, namespace: other}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: ns, uid: r1, generation: 3, creationTimestamp: 2026-01-01T00:00:00Z, resourceVersion: '5'}
spec: {parentRefs: [{group: '', kind: Service, name: cart, port: 80}], rules: [{matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: cart, port: 80}]}]}
status: {parents: []}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: r, namespace: ns, uid: r2, generation: 3, resourceVersion: '5'}
spec: {hostnames: [a.org], parentRefs: [{group: '', kind: Service, name: headless}], rules: [{backendRefs: [{name: cart, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: r, namespace: ns, uid: r3, generation: 3, resourceVersion: '5'}
spec: {parentRefs: [{group: '', kind: Service, name: cart, port: 81}], rules: [{backendRefs: [{name: cart, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: ns, resourceVersion: '5'}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}], to: [{group: '', kind: Service}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: ns, generation: 1, resourceVersion: '5', labels: {x: y}}
spec: {hosts: [cart], http: [{route: [{destination: {host: cart}}]}]}
---
apiVersion: linkerd.io/v1
kind: Service
metadata: {name: cart, namespace: ns, labels: {x: y}}
spec: {port: 80, host: cart.example, label: app=cart}
---
apiVersion: linkerd.io/v1
kind: Route
metadata: {name: cart, namespace: ns, resourceVersion: '5'}
spec: {host: cart.example, weight: 1, service: {kind: Service, name: cart}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: r, namespace: ns, generation: 2, annotations: {retry.linkerd.io/http: 5xx, x: y}, resourceVersion: '5'}
spec: {parentRefs: [{group: core, kind: Service, name: other}], rules: [{backendRefs: [{name: cart, port: 80}]}]}
status: {parents: []}
---
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: other.ns.svc.cluster.local, namespace: ns, resourceVersion: '5'}
spec: {routes: [{name: r, condition: {method: GET}, isRetryable: true}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: s, namespace: ns, creationTimestamp: 2026-01-01T00:00:00Z, resourceVersion: '5'}
spec: {service: other, matches: [{kind: HTTPRouteGroup, name: g}], backends: [{service: cart, weight: 1}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: g, namespace: ns, resourceVersion: '5'}
spec: {matches: [{name: m, methods: [GET]}]}
";
