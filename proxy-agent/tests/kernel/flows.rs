//! Entries of `ORIG_DST` that nobody takes.

use std::time::Duration;

use proxy_ebpf::{Stat, map};

use crate::addr;
use crate::fixture::Pod;

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
