//! The programs on this very kernel: real sockets in a real netns and cgroup.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its fixture too"
)]

#[path = "kernel/fixture.rs"]
mod fixture;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use proxy_agent::bpf::{Kernel, LoadOptions, preflight};
use proxy_ebpf::{PodFlags, Stat, map};
use tracing::level_filters::LevelFilter;

use self::fixture::{Pod, sh};

fn addr(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_ipv4_connection_is_steered_and_keeps_its_destination() {
    let pod = Pod::captured();
    let said = pod.client("s = socket.socket(); print(c(s, '10.96.0.10', 80), peer(s))");
    assert_eq!(said, "ok 10.96.0.10 80");
    assert_eq!(pod.accept(&pod.v4), addr("10.96.0.10:80"));
    assert_eq!((pod.stat(Stat::Proxied), pod.stat(Stat::FlowBound)), (1, 1));
    assert_eq!(pod.entries(map::ORIG_DST), 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_ipv6_connection_is_steered_and_keeps_its_destination() {
    let pod = Pod::captured();
    let said = pod.client("s = socket.socket(V6); print(c(s, 'fd00:96::10', 80), peer(s))");
    assert_eq!(said, "ok fd00:96::10 80");
    assert_eq!(pod.accept(&pod.v6), addr("[fd00:96::10]:80"));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_v4_mapped_connection_is_an_ipv4_one() {
    let pod = Pod::captured();
    let said = pod.client("s = socket.socket(V6); print(c(s, '::ffff:10.96.0.10', 80), peer(s))");
    assert_eq!(said, "ok ::ffff:10.96.0.10 80");
    assert_eq!(pod.accept(&pod.v4), addr("10.96.0.10:80"));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_non_blocking_connect_is_steered() {
    let pod = Pod::captured();
    let said = pod.client(
        "import select\n\
         s = socket.socket(); s.setblocking(False); first = c(s, '10.96.0.10', 80)\n\
         select.select([], [s], [], 5); print(first in ('ok', 'EINPROGRESS'), peer(s))",
    );
    assert_eq!(said, "True 10.96.0.10 80");
    assert_eq!(pod.accept(&pod.v4), addr("10.96.0.10:80"));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_socket_bound_before_connect_is_steered_with_its_source() {
    for (family, source, target) in [
        ("V4", "127.0.0.1", "10.96.0.10"),
        ("V4", "10.77.0.2", "10.96.0.10"),
        ("V4", "0.0.0.0", "10.96.0.10"),
        ("V6", "::ffff:10.77.0.2", "::ffff:10.96.0.10"),
        ("V6", "::", "::ffff:10.96.0.10"),
    ] {
        let pod = Pod::captured();
        let said = pod.client(&format!(
            "s = socket.socket({family}); s.bind(('{source}', 40123))\n\
             print(c(s, '{target}', 80), peer(s), s.getsockname()[1])"
        ));
        assert_eq!(said, format!("ok {target} 80 40123"), "bound to {source}");
        assert_eq!(
            pod.accept(&pod.v4),
            addr("10.96.0.10:80"),
            "bound to {source}"
        );
    }
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn fast_open_is_steered() {
    let pod = Pod::captured();
    let said = pod.client(
        "s = socket.socket(); s.sendto(b'x', 0x20000000, ('10.96.0.10', 80)); print(peer(s))",
    );
    assert_eq!(said, "10.96.0.10 80");
    assert_eq!(pod.accept(&pod.v4), addr("10.96.0.10:80"));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_socket_that_is_dissolved_and_connected_elsewhere_forgets_the_service() {
    let pod = Pod::captured();
    let said = pod.client(
        "other = socket.socket(); other.bind(('127.0.0.1', 7000)); other.listen()\n\
         s = socket.socket(); print(c(s, '10.96.0.10', 80), peer(s))\n\
         print(ctypes.CDLL(None).connect(s.fileno(), b'\\0' * 16, 16))\n\
         print(c(s, '127.0.0.1', 7000), peer(s))\n\
         print(ctypes.CDLL(None).connect(s.fileno(), b'\\0' * 16, 16))\n\
         print(c(s, '10.96.0.10', 80), peer(s))",
    );
    let said: Vec<_> = said.lines().collect();
    let service = "ok 10.96.0.10 80";
    assert_eq!(said, [service, "0", "ok 127.0.0.1 7000", "0", service]);
    assert_eq!(pod.stat(Stat::PassedNoFrontend), 1);
    assert_eq!(pod.stat(Stat::Proxied), 2);
}

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
    pod.v4 = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let said = pod.client("print(c(socket.socket(), '10.96.0.10', 80))");
    assert_eq!(said, "ENETUNREACH");
    assert_eq!(pod.stat(Stat::PassedNoListener), 1);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_unknown_pod_is_refused_where_that_is_asked_for() {
    let pod = Pod::new();
    pod.settle(true);
    let said = pod.client("print(c(socket.socket(), '10.96.0.10', 80))");
    assert_eq!(said, "ECONNREFUSED");
    assert_eq!(pod.stat(Stat::RefusedUnknownPod), 1);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_stale_heartbeat_passes_or_refuses_as_the_pod_asked() {
    let pod = Pod::captured();
    let connect = "print(c(socket.socket(), '10.96.0.10', 80))";
    std::thread::sleep(Duration::from_millis(3_100));
    assert!(pod.kernel.heartbeat_age(1).unwrap() > Duration::from_secs(3));
    assert_eq!(pod.client(connect), "ENETUNREACH");
    assert_eq!(pod.stat(Stat::PassedStale), 1);
    pod.enrol(PodFlags::CAPTURED.with(PodFlags::FAIL_CLOSED));
    assert_eq!(pod.client(connect), "ECONNREFUSED");
    assert_eq!(pod.stat(Stat::RefusedStale), 1);
    pod.kernel.heartbeat(0).unwrap().beat().unwrap();
    assert_eq!(pod.client(connect), "ok");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn only_connections_that_were_never_established_lose_their_flow() {
    let pod = Pod::captured();
    // Nobody accepts: what the backlog does not hold stays in SYN_SENT until its socket closes.
    let said = pod.client(
        "s = [socket.socket() for _ in range(140)]\n\
         for x in s: x.setblocking(False); c(x, '10.96.0.10', 80)\n\
         print('done')",
    );
    assert_eq!(said, "done");
    let aborted = pod.stat(Stat::FlowAborted);
    assert!(aborted > 0, "the backlog held them all");
    assert_eq!(pod.entries(map::ORIG_DST), 140 - aborted);
    for _ in 0..140 - aborted {
        assert_eq!(pod.accept(&pod.v4), addr("10.96.0.10:80"));
    }
    assert_eq!(pod.entries(map::ORIG_DST), 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn flows_that_nobody_accepts_are_swept() {
    let pod = Pod::captured();
    pod.client("c(socket.socket(), '10.96.0.10', 80)");
    assert_eq!(pod.kernel.sweep_flows(Duration::from_secs(60)).unwrap(), 0);
    assert_eq!(pod.entries(map::ORIG_DST), 1);
    assert_eq!(pod.kernel.sweep_flows(Duration::ZERO).unwrap(), 1);
    assert_eq!(pod.entries(map::ORIG_DST), 0);
    assert_eq!(pod.kernel.status().unwrap().flows_swept_total, 1);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_program_detached_behind_the_agents_back_shows() {
    let pod = Pod::captured();
    let programs = pod.kernel.attached();
    assert_eq!(programs.len(), 5);
    assert!(programs.iter().all(|program| program.attached));
    let connect4 = &programs[0];
    sh(&format!(
        "id=$(bpftool -j link list | python3 -c 'import json, sys; \
         print(next(l[\"id\"] for l in json.load(sys.stdin) if l.get(\"prog_id\") == {}))')\n\
         bpftool link detach id $id",
        connect4.id
    ));
    let after = pod.kernel.attached();
    let gone = after.iter().filter(|program| !program.attached);
    let gone: Vec<_> = gone.map(|program| program.name.as_str()).collect();
    assert_eq!(gone, ["connect4"]);
    assert_eq!(
        pod.client("print(c(socket.socket(), '10.96.0.10', 80))"),
        "ENETUNREACH"
    );
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn programs_of_others_coexist_and_detach_takes_only_ours() {
    let pod = Pod::captured();
    let options = LoadOptions {
        object: None,
        log_level: LevelFilter::OFF,
    };
    let other = Kernel::load(&options).unwrap();
    other.attach(pod.cgroup().as_fd()).unwrap();
    let ours = pod.kernel.attached();
    assert!(ours.iter().all(|program| program.attached));
    assert!(ours.iter().all(|program| program.others.len() == 1));
    assert_eq!(
        pod.client("print(c(socket.socket(), '10.96.0.10', 80))"),
        "ok"
    );
    pod.kernel.detach();
    pod.kernel.detach();
    assert!(
        pod.kernel
            .attached()
            .iter()
            .all(|program| !program.attached)
    );
    assert!(other.attached().iter().all(|program| program.attached));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn preflight_finds_no_gap_here() {
    let checks = preflight::run(None);
    let gaps: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
    assert!(gaps.is_empty(), "{gaps:#?}");
    let tried = checks.iter().find(|check| check.name == "attach").unwrap();
    assert_eq!(
        tried.detail,
        "every program is effective on a cgroup made for it"
    );
}
