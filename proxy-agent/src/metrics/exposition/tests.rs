//! The whole page, compared with the file beside this one.

use std::time::Duration;

use super::*;
use crate::status::{
    AccelerationStatus, BpfStatus, CounterStatus, EnrolmentStatus, MapStatus, Overview,
    ProgramStatus, SourceStatus,
};

fn status() -> Status {
    let mut enrolments = EnrolmentStatus::default();
    for us in [2_500, 6_000, 7_000_000] {
        enrolments.add(us);
    }
    Status {
        overview: Overview {
            version: "0.1.0".into(),
            uptime_s: 60,
            heartbeat_age_ms: 85,
            snapshot_version: 7,
            snapshot_age_ms: 1_500,
            sources: vec![SourceStatus {
                name: "file:/etc/\"odd\"".into(),
                synced: true,
                objects: 12,
                last_change_ms: 2_500,
                ..SourceStatus::default()
            }],
            pods_captured: 2,
            pods_not_captured: 1,
            errors: 1,
            enrolments,
            ..Overview::default()
        },
        pods: vec![],
        services: vec![],
        routes: vec![],
        endpoints: vec![],
        bpf: BpfStatus {
            programs: vec![ProgramStatus {
                name: "connect4".into(),
                attached: true,
                ..ProgramStatus::default()
            }],
            maps: vec![MapStatus {
                name: "PODS".into(),
                entries: 2,
                max_entries: 4_096,
                memory_bytes: 65_536,
            }],
            counters: vec![CounterStatus {
                name: "proxied".into(),
                value: 40,
            }],
            flows_swept_total: 3,
            acceleration: AccelerationStatus {
                connections_open: 1,
                connections_total: 4,
                to_pods_open: 2,
                to_pods_total: 5,
                not_accelerated: [("http2".into(), 2)].into(),
                ..AccelerationStatus::default()
            },
        },
        problems: vec![],
        unknown_kinds: vec!["Job.batch shop/x".into()],
    }
}

#[test]
fn the_page_looks_as_documented() {
    let traffic = Traffic::new();
    let worker = traffic.worker_recorder();
    worker.accepted();
    worker.accepted();
    worker.closed();
    worker.orig_dst_missing();
    worker.reason("no_route");
    let cart = traffic.cluster_recorder(&"shop/cart:80".into());
    for (status, us) in [(200, 127), (200, 128), (503, 90_000_000)] {
        cart.request_started();
        cart.request_ended(status, Duration::from_micros(us));
    }
    cart.in_flight_ended();
    cart.retried();
    cart.retried();
    cart.retry_withheld();
    cart.mirrored();
    cart.mirror_dropped();
    cart.delayed();
    cart.aborted();
    worker.reason("no_endpoint");
    let database = traffic.cluster_recorder(&"shop/db:5432".into());
    database.tcp_started();
    database.tcp_ended(true, 10, 20);
    database.tcp_started();
    database.tcp_ended(false, 0, 0);
    database.turned_opaque();
    let found = encode(&traffic, &status()).unwrap();
    let expected = include_str!("golden.txt");
    assert_eq!(found, expected, "the page is\n{found}");
}

#[test]
fn every_metric_is_documented() {
    let page = encode(&Traffic::new(), &status()).unwrap();
    let document = include_str!("../../../../docs/metrics.md");
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for name in names.filter_map(|line| line.split(' ').next()) {
        assert!(document.contains(name), "{name} is not in docs/metrics.md");
    }
}
