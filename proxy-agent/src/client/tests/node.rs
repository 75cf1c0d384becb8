//! A node in trouble, as its agent would tell it: what the tables are compared with.

use crate::model::{ObjectId, Place, Problem, Severity};
use crate::status::*;

pub(super) fn overview_of_a_node_in_trouble() -> Overview {
    Overview {
        version: "0.1.0".into(),
        node: "node-1".into(),
        pid: 4711,
        uptime_s: 192,
        state: "degraded".into(),
        not_ready: vec!["program connect4 is not attached to the cgroup".into()],
        cgroup_root: "/sys/fs/cgroup/kubepods.slice".into(),
        capture: "labelled".into(),
        workers: 2,
        heartbeat_age_ms: 85,
        snapshot_version: 7,
        snapshot_age_ms: 61_000,
        sources: vec![
            SourceStatus {
                name: "file:/etc/proxy-agent".into(),
                synced: true,
                objects: 12,
                last_change_ms: 61_000,
                ..SourceStatus::default()
            },
            SourceStatus {
                name: "file:/gone".into(),
                trouble: "the directory is gone; its last objects stay in force".into(),
                ..SourceStatus::default()
            },
        ],
        pods_captured: 1,
        enrolments: EnrolmentStatus::default(),
        pods_not_captured: 1,
        lease: Some(LeaseStatus {
            holder: "proxy-agent-x7k2p".into(),
            trouble: "leases is forbidden".into(),
        }),
        services_proxied: 2,
        errors: 1,
        warnings: 1,
        connections_open: 3,
        requests_total: 2_000,
    }
}

pub(super) fn pods() -> Vec<PodStatus> {
    vec![
        PodStatus {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u1".into(),
            captured: true,
            listeners: vec!["127.0.0.1:15001".into(), "[::1]:15001".into()],
            netns_cookie: 5,
            cgroup: "pod1".into(),
            enrolment_us: 1_250,
            connections_total: 40,
            connections_open: 3,
            ..PodStatus::default()
        },
        PodStatus {
            uid: "u2".into(),
            reason: "not-enabled".into(),
            ..PodStatus::default()
        },
    ]
}

pub(super) fn services() -> Vec<ServiceStatus> {
    let cart = ServiceStatus {
        namespace: "shop".into(),
        name: "cart".into(),
        port: 80,
        port_name: "http".into(),
        mode: "http".into(),
        addresses: vec!["10.96.0.10:80".into()],
        cluster: "shop/cart:80".into(),
        balance: "least-request".into(),
        endpoints: 3,
        traffic: TrafficStatus {
            requests_total: 2_000,
            success_total: 1_750,
            success_rate: 0.875,
            in_flight: 1,
            latency_p50_us: 850,
            latency_p90_us: 1_250,
            latency_p99_us: 34_567,
            ..TrafficStatus::default()
        },
        ..ServiceStatus::default()
    };
    let empty = ServiceStatus {
        name: "empty".into(),
        endpoints: 0,
        traffic: TrafficStatus {
            success_rate: 1.0,
            ..TrafficStatus::default()
        },
        ..cart.clone()
    };
    let dns = ServiceStatus {
        namespace: "kube-system".into(),
        name: "dns".into(),
        port: 53,
        port_name: String::new(),
        mode: "pass".into(),
        reason: "dns".into(),
        balance: String::new(),
        ..empty.clone()
    };
    vec![cart, empty, dns]
}

pub(super) fn bpf() -> BpfStatus {
    let program = |name: &str, id, attached| ProgramStatus {
        name: name.into(),
        id,
        attached,
        others: vec![],
        timed_runs: 1_000,
        mean_ns: 412,
    };
    BpfStatus {
        programs: vec![
            program("connect4", 0, false),
            ProgramStatus {
                others: vec![17, 21],
                ..program("sockops", 42, true)
            },
        ],
        maps: vec![MapStatus {
            name: "PODS".into(),
            entries: 1,
            max_entries: 4_096,
            memory_bytes: 1 << 20,
        }],
        counters: vec![CounterStatus {
            name: "proxied".into(),
            value: 40,
        }],
        flows_swept_total: 2,
        acceleration: AccelerationStatus {
            unusable: "self-test: half_close".into(),
            self_test: vec![
                tried("exchange_in_order", "passed", ""),
                tried("half_close", "failed", "bytes from 0 on never came"),
                tried("fionread", "tolerated", "it says 0"),
                tried("bulk", "not run: no pod asks", ""),
            ],
            connections_open: 1,
            connections_total: 2,
            to_pods_open: 3,
            to_pods_total: 4,
            not_accelerated: [("http2".into(), 3)].into(),
        },
    }
}

fn tried(name: &str, result: &str, failure: &str) -> SelfTestStatus {
    SelfTestStatus {
        name: name.into(),
        result: result.into(),
        failure: failure.into(),
    }
}

pub(super) fn problems_of_a_route() -> Vec<Problem> {
    let route = |severity, field: &str, reason: &str| Problem {
        severity,
        place: Some(Place {
            source: "/etc/proxy-agent/routes.yaml".into(),
            line: 3,
        }),
        object: Some(ObjectId {
            group: "gateway.networking.k8s.io".into(),
            kind: "HTTPRoute".into(),
            namespace: "shop".into(),
            name: "cart".into(),
        }),
        field: field.into(),
        reason: reason.into(),
    };
    vec![
        route(Severity::Warning, "spec.hostnames", "is ignored"),
        route(
            Severity::Error,
            "spec.rules[0].backendRefs[0]",
            "no Service shop/card",
        ),
    ]
}

pub(super) fn status_of_a_node_in_trouble() -> Status {
    Status {
        overview: overview_of_a_node_in_trouble(),
        pods: pods(),
        services: services(),
        routes: vec![RouteStatus {
            parent: "shop/cart:80".into(),
            clients: "blog".into(),
            origin: "HTTPRoute blog/cart".into(),
            rules: vec!["path /a → shop/cart:80".into(), "any → 404 no_route".into()],
            shadowed: vec!["VirtualService shop/cart: HTTPRoute blog/cart decides".into()],
        }],
        endpoints: vec![EndpointStatus {
            cluster: "shop/cart:80".into(),
            address: "10.0.0.2:8080".into(),
            pod: "shop/cart-1".into(),
            node: String::new(),
            requests_total: 2_000,
            connect_failures_total: 1,
            in_flight: 1,
            direct_open: 3,
            direct_total: 40,
            direct_failures_total: 2,
            direct_connect_us: 210,
            ejected_ms: 29_001,
        }],
        bpf: bpf(),
        problems: problems_of_a_route(),
        unknown_kinds: (1..=12)
            .map(|n| format!("Job.batch shop/job-{n}"))
            .collect(),
    }
}

pub(super) fn explanation() -> Explanation {
    Explanation {
        from: "shop/web, captured".into(),
        verdict: "proxy".into(),
        listener: "shop/cart:80".into(),
        address: "10.96.0.10:80".into(),
        path: "/a".into(),
        origin: "HTTPRoute shop/cart".into(),
        route: "HTTPRoute shop/cart spec.rules[1]".into(),
        near_misses: vec!["HTTPRoute shop/cart spec.rules[0]: needs path = /b, found /a".into()],
        more_misses: 2,
        shadowed: vec!["VirtualService shop/cart: HTTPRoute shop/cart decides".into()],
        action: vec!["sets request header x-a: 1".into()],
        clusters: vec![ExplainedCluster {
            name: "shop/cart:80".into(),
            weight: 9,
            share_percent: 90.0,
            balance: "least-request".into(),
            action: vec!["rewrites the host to cart.example".into()],
            endpoints: vec![
                ExplainedEndpoint {
                    address: "10.0.0.2:8080".into(),
                    pod: "shop/cart-0".into(),
                    usable: true,
                    ..ExplainedEndpoint::default()
                },
                ExplainedEndpoint {
                    address: "10.0.0.3:8080".into(),
                    pod: "shop/cart-1".into(),
                    reason: "not ready".into(),
                    ..ExplainedEndpoint::default()
                },
            ],
        }],
    }
}
