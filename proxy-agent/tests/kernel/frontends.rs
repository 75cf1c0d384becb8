//! Reconciliation of the Service addresses.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use proxy_agent::bpf::{Error, ReconcileReport};
use proxy_ebpf::{Frontend, FrontendKey, Verdict, bounds, map};

use crate::fixture::Pod;

/// As many addresses as asked for, from 10.0.0.0 on.
fn many(count: u32, verdict: Verdict) -> HashMap<FrontendKey, Frontend> {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    let addrs = (first..first + count).map(|ip| SocketAddr::from((Ipv4Addr::from(ip), 80)));
    let keys = addrs.map(FrontendKey::from_socket_addr);
    keys.map(|key| (key, Frontend::new(verdict))).collect()
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
    };
    assert_eq!(reconcile(many(10, Verdict::Proxy)), report(10, 0, 4));
    assert_eq!(reconcile(many(10, Verdict::Proxy)), report(0, 0, 0));
    let mut wanted = many(5, Verdict::Pass);
    wanted.extend(many(2, Verdict::Proxy));
    assert_eq!(reconcile(wanted), report(0, 3, 5));
    assert_eq!(pod.entries(map::FRONTENDS), 5);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_full_map_is_named_and_holds_what_fits() {
    let pod = Pod::new();
    let wanted = many(bounds::FRONTENDS + 5, Verdict::Proxy);
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
    let fewer = many(7, Verdict::Proxy);
    pod.kernel.reconcile_frontends(&fewer).unwrap();
    assert_eq!(pod.entries(map::FRONTENDS), 7);
}
