//! Connections that the agent has no business with, and the two refusals.

use std::net::TcpListener;
use std::time::Duration;

use proxy_ebpf::{PodFlags, Settings, Stat};

use crate::fixture::{Pod, STALE_AFTER_NS, node_cookie};

/// Every beat is older than this.
const AT_ONCE_NS: u64 = 1;

/// The machine has been up for longer than this.
const SINCE_START_NS: u64 = 3_000_000_000;

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn what_is_not_the_agents_business_takes_its_ordinary_path() {
    let connect = "s = socket.socket(); print(c(s, '10.96.0.10', 80))";
    let ordinary = "ENETUNREACH";

    let unknown = Pod::new();
    assert_eq!(unknown.client(connect), ordinary);
    assert_eq!(unknown.stat(Stat::PassedUnknownPod), 1);

    let uncaptured = Pod::new();
    uncaptured.enrol(PodFlags::default());
    assert_eq!(uncaptured.client(connect), ordinary);
    assert_eq!(uncaptured.stat(Stat::PassedNotCaptured), 1);

    let pod = Pod::captured();
    assert_eq!(
        pod.client("print(c(socket.socket(), '10.96.0.11', 80))"),
        ordinary
    );
    assert_eq!(pod.stat(Stat::PassedFrontend), 1);
    assert_eq!(
        pod.client("print(c(socket.socket(), '10.96.0.10', 81))"),
        ordinary
    );
    assert_eq!(pod.stat(Stat::PassedNoFrontend), 1);
    let udp = "print(c(socket.socket(V4, socket.SOCK_DGRAM), '10.96.0.10', 80))";
    assert_eq!(pod.client(udp), ordinary);
    assert_eq!(pod.stat(Stat::PassedNotTcp), 1);
    let device = "s = socket.socket(); s.setblocking(False); s.setsockopt(1, 25, b'lo')\n\
                  print(c(s, '10.96.0.10', 80))";
    assert_eq!(pod.client(device), "EINPROGRESS");
    assert_eq!(pod.stat(Stat::PassedBoundToDevice), 1);
    pod.kernel.add_agent_cgroup(pod.cgroup_id()).unwrap();
    assert_eq!(pod.client(connect), ordinary);
    assert_eq!(pod.stat(Stat::PassedAgent), 1);
    assert_eq!(pod.stat(Stat::Proxied), 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_pod_without_the_listener_passes() {
    let mut pod = Pod::captured();
    pod.v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let said = pod.client("print(c(socket.socket(), '10.96.0.10', 80))");
    assert_eq!(said, "ENETUNREACH");
    assert_eq!(pod.stat(Stat::PassedNoListener), 1);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_unknown_pod_is_refused_where_that_is_asked_for() {
    let pod = Pod::new();
    pod.settle(Settings::new(node_cookie(), 1, STALE_AFTER_NS, true));
    let said = pod.client("print(c(socket.socket(), '10.96.0.10', 80))");
    assert_eq!(said, "ECONNREFUSED");
    assert_eq!(pod.stat(Stat::RefusedUnknownPod), 1);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_stale_heartbeat_passes_or_refuses_as_the_pod_asked() {
    let pod = Pod::captured();
    let connect = "print(c(socket.socket(), '10.96.0.10', 80))";
    pod.settle(Settings::new(node_cookie(), 1, AT_ONCE_NS, false));
    assert!(pod.kernel.heartbeat_age(1).unwrap() > Duration::from_nanos(AT_ONCE_NS));
    assert_eq!(pod.client(connect), "ENETUNREACH");
    assert_eq!(pod.stat(Stat::PassedStale), 1);
    pod.enrol(PodFlags::CAPTURED.with(PodFlags::FAIL_CLOSED));
    assert_eq!(pod.client(connect), "ECONNREFUSED");
    assert_eq!(pod.stat(Stat::RefusedStale), 1);
    pod.settle(Settings::new(node_cookie(), 1, STALE_AFTER_NS, false));
    pod.kernel.heartbeat(0).unwrap().beat().unwrap();
    assert_eq!(pod.client(connect), "ok");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn one_stuck_worker_is_enough_to_pass() {
    let pod = Pod::captured();
    // The second worker has never beaten: its beat is as old as the machine, whose start may have
    // been less than `STALE_AFTER_NS` ago.
    pod.settle(Settings::new(node_cookie(), 2, SINCE_START_NS, false));
    let connect = "print(c(socket.socket(), '10.96.0.10', 80))";
    pod.kernel.heartbeat(0).unwrap().beat().unwrap();
    assert_eq!(pod.client(connect), "ENETUNREACH");
    assert_eq!(pod.stat(Stat::PassedStale), 1);
    pod.settle(Settings::new(node_cookie(), 2, STALE_AFTER_NS, false));
    pod.kernel.heartbeat(1).unwrap().beat().unwrap();
    assert_eq!(pod.client(connect), "ok");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn the_node_is_passed_even_if_it_was_enrolled() {
    let pod = Pod::captured();
    pod.settle(Settings::new(pod.cookie, 1, STALE_AFTER_NS, true));
    let said = pod.client("print(c(socket.socket(), '10.96.0.10', 80))");
    assert_eq!(said, "ENETUNREACH");
    assert_eq!(pod.stat(Stat::PassedNode), 1);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_agent_without_workers_passes() {
    let pod = Pod::captured();
    pod.settle(Settings::new(node_cookie(), 0, STALE_AFTER_NS, false));
    let said = pod.client("print(c(socket.socket(), '10.96.0.10', 80))");
    assert_eq!(said, "ENETUNREACH");
    assert_eq!(pod.stat(Stat::PassedNotServing), 1);
}
