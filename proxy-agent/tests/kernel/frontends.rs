//! Reconciliation of the Service addresses.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proxy_agent::bpf::{DirectSet, Error, ReconcileReport, Wanted};
use proxy_ebpf::{EndpointKey, FrontendKey, bounds, map};

use crate::fixture::Pod;

/// As many addresses as asked for, from 10.0.0.0 on.
fn many(count: u32, wanted: &Wanted) -> HashMap<FrontendKey, Wanted> {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    let addrs = (first..first + count).map(|ip| SocketAddr::from((Ipv4Addr::from(ip), 80)));
    let keys = addrs.map(FrontendKey::from_socket_addr);
    keys.map(|key| (key, wanted.clone())).collect()
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn only_differences_are_written() {
    let pod = Pod::new();
    let reconcile = |wanted| pod.kernel.reconcile_frontends(&wanted).unwrap();
    let report = |inserted, updated, removed| ReconcileReport {
        inserted,
        updated,
        removed,
        sets: 0,
    };
    assert_eq!(reconcile(many(10, &Wanted::Proxy)), report(10, 0, 4));
    assert_eq!(reconcile(many(10, &Wanted::Proxy)), report(0, 0, 0));
    let mut wanted = many(5, &Wanted::Pass);
    wanted.extend(many(2, &Wanted::Proxy));
    assert_eq!(reconcile(wanted), report(0, 3, 5));
    assert_eq!(pod.entries(map::FRONTENDS), 5);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_full_map_is_named_and_holds_what_fits() {
    let pod = Pod::new();
    let wanted = many(bounds::FRONTENDS + 5, &Wanted::Proxy);
    let error = pod.kernel.reconcile_frontends(&wanted).unwrap_err();
    assert!(
        matches!(
            error,
            Error::MapFull {
                name: map::FRONTENDS,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(pod.entries(map::FRONTENDS), u64::from(bounds::FRONTENDS));
    let fewer = many(7, &Wanted::Proxy);
    pod.kernel.reconcile_frontends(&fewer).unwrap();
    assert_eq!(pod.entries(map::FRONTENDS), 7);
}

/// As many endpoints as asked for, from 10.128.0.0 on.
fn endpoints(count: u32) -> Vec<EndpointKey> {
    let first = u32::from(Ipv4Addr::new(10, 128, 0, 0));
    let addrs = (first..first + count).map(|ip| SocketAddr::from((Ipv4Addr::from(ip), 8080)));
    addrs.map(EndpointKey::from_socket_addr).collect()
}

fn set(endpoints: &[EndpointKey]) -> Arc<DirectSet> {
    Arc::new(DirectSet {
        endpoints: endpoints.to_vec(),
        ..DirectSet::default()
    })
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn ten_thousand_services_with_a_hundred_thousand_endpoints_fit_and_change_by_what_changed() {
    let pod = Pod::new();
    let endpoints = endpoints(100_000);
    let mut sets: Vec<_> = endpoints.chunks(10).map(set).collect();
    let wanted = |sets: &[Arc<DirectSet>]| -> HashMap<FrontendKey, Wanted> {
        let keys = many(10_000, &Wanted::Proxy).into_keys();
        let direct = sets.iter().map(|set| Wanted::Direct(Arc::clone(set)));
        keys.zip(direct).collect()
    };
    let first = wanted(&sets);
    let report = pod.kernel.reconcile_frontends(&first).unwrap();
    assert_eq!((report.inserted, report.sets), (10_000, 10_000));
    assert_eq!(pod.entries(map::SLOTS), 100_000);

    sets[77] = set(&endpoints[770..779]);
    let mut second = first;
    for wanted in second.values_mut() {
        if *wanted == Wanted::Direct(set(&endpoints[770..780])) {
            *wanted = Wanted::Direct(Arc::clone(&sets[77]));
        }
    }
    let report = pod.kernel.reconcile_frontends(&second).unwrap();
    let expected = ReconcileReport {
        updated: 1,
        sets: 1,
        ..ReconcileReport::default()
    };
    assert_eq!(report, expected);
    assert_eq!(
        pod.entries(map::SLOTS),
        100_009,
        "the former one may be being read"
    );

    let (key, _) = second.iter().next().unwrap();
    let some = HashMap::from([(*key, Wanted::Direct(set(&endpoints[..11])))]);
    let report = pod.kernel.renew_frontends(&some).unwrap();
    assert_eq!(report, expected);
    assert_eq!(pod.entries(map::FRONTENDS), 10_000, "the others stay");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_set_without_room_is_proxied_and_leaves_nothing_behind() {
    let pod = Pod::new();
    let large = set(&endpoints(bounds::SLOTS - 10));
    let (small, fits) = (set(&endpoints(11)), set(&endpoints(10)));
    let wanted = |sets: [&Arc<DirectSet>; 2]| -> HashMap<FrontendKey, Wanted> {
        let addrs = ["10.0.0.1:80", "10.0.0.2:80"].map(|text| text.parse().unwrap());
        let keys = addrs.map(FrontendKey::from_socket_addr);
        let direct = sets.map(|set| Wanted::Direct(Arc::clone(set)));
        keys.into_iter().zip(direct).collect()
    };
    pod.kernel
        .reconcile_frontends(&wanted([&large, &large]))
        .unwrap();
    let error = pod
        .kernel
        .reconcile_frontends(&wanted([&large, &small]))
        .unwrap_err();
    let expected = map::SLOTS;
    assert!(matches!(error, Error::MapFull { name, .. } if name == expected));
    assert_eq!(pod.entries(map::SLOTS), u64::from(bounds::SLOTS - 10));
    let report = pod.kernel.reconcile_frontends(&wanted([&large, &fits]));
    assert_eq!(report.unwrap().updated, 1, "from proxied to direct");
}
