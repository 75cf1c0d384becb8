//! Direct connections that are shared out by weight: groups of a set, and what is chosen within one.

use proxy_agent::bpf::{DirectGroup, DirectSet};
use proxy_ebpf::{Choice, Stat, map};

use crate::direct::{client, pod, set, state};

/// Groups of so many of the endpoints, with these weights.
fn split(ports: &[u16], choice: Choice, groups: &[(u64, u32)]) -> DirectSet {
    let groups = groups.iter().map(|(weight, count)| DirectGroup {
        weight: *weight,
        count: *count,
        choice,
    });
    DirectSet {
        groups: groups.collect(),
        ..set(ports)
    }
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn groups_get_connections_by_weight_whatever_their_size() {
    let all = [9001, 9002, 9003, 9004];
    let (pod, _set) = pod(split(&all, Choice::Random, &[(5, 1), (4, 2), (1, 1)]));
    let said = client(
        &pod,
        "for p in range(9001, 9005): up(p, hold=False)\n\
         n = collections.Counter(ask() for _ in range(1000))\n\
         e = {9001: 500, 9002: 200, 9003: 200, 9004: 100}\n\
         print(sum((n[p] - e[p]) ** 2 / e[p] for p in e))",
    );
    // 0.9999 quantile of the chi-squared distribution with three degrees of freedom.
    let chi_squared: f64 = said.parse().unwrap();
    assert!(chi_squared < 21.11, "{chi_squared}");
    assert_eq!(pod.entries(map::SHARES), 3);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn within_a_group_the_endpoint_with_fewer_connections_is_taken() {
    let all = [9001, 9002, 9003];
    let (pod, _set) = pod(split(&all, Choice::LeastConnections, &[(1, 1), (1, 2)]));
    client(
        &pod,
        "for p in (9001, 9002, 9003): up(p)\n\
         for _ in range(200): ask(keep=True)",
    );
    let [alone, one, other] = all.map(|port| state(&pod, &format!("10.77.0.2:{port}")).connected);
    assert_eq!(alone + one + other, 200);
    // Five standard deviations of a half of 200: 5 × sqrt(50) = 36.
    assert!((64..=136).contains(&alone), "{alone}, {one}, {other}");
    assert!(one.abs_diff(other) <= 1, "{alone}, {one}, {other}");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn each_group_has_its_own_turn() {
    let all = [9001, 9002, 9003, 9004];
    let (pod, _set) = pod(split(&all, Choice::RoundRobin, &[(1, 2), (1, 2)]));
    client(
        &pod,
        "for p in range(9001, 9005): up(p, hold=False)\n\
         for _ in range(100): ask()",
    );
    let counts = all.map(|port| state(&pod, &format!("10.77.0.2:{port}")).connected);
    assert_eq!(counts.iter().sum::<u64>(), 100);
    for pair in counts.chunks(2) {
        assert!(pair[0].abs_diff(pair[1]) <= 1, "{counts:?}");
        assert!(pair[0] > 0, "{counts:?}");
    }
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_group_without_an_endpoint_has_its_share_refused() {
    let (pod, _set) = pod(split(&[9001], Choice::Random, &[(1, 1), (1, 0)]));
    let said = client(
        &pod,
        "up(9001, hold=False)\n\
         n = collections.Counter(ask() for _ in range(200))\n\
         print(sorted(map(str, n)), n['ECONNREFUSED'])",
    );
    let (kinds, refused) = said.rsplit_once(' ').unwrap();
    assert_eq!(kinds, "['9001', 'ECONNREFUSED']");
    let refused: u64 = refused.parse().unwrap();
    assert!((64..=136).contains(&refused), "{refused}");
    assert_eq!(pod.stat(Stat::RefusedNoEndpoint), refused);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn affinity_holds_across_groups_and_their_shares_go_with_the_set() {
    let sticky = DirectSet {
        affinity_s: 600,
        ..split(&[9001, 9002], Choice::Random, &[(1, 1), (1, 1)])
    };
    let (pod, _set) = pod(sticky);
    let said = client(
        &pod,
        "up(9001, hold=False); up(9002, hold=False)\n\
         print(len(set(ask() for _ in range(20))))",
    );
    assert_eq!(said, "1");
    pod.steer([("10.96.1.1:80", &std::sync::Arc::new(set(&[9001])))]);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    pod.kernel.sweep_direct().unwrap();
    assert_eq!(pod.entries(map::SHARES), 0);
}
