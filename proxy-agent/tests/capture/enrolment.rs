//! Pods that come, change and go.

use std::net::{SocketAddr, TcpStream};

use proxy_agent::model::{Accelerates, CaptureDecision, NotCaptured};
use proxy_agent::net::Netns;
use proxy_ebpf::{PodEntry, PodFlags};

use crate::fixture::{CAPTURE, Event, FAIL_CLOSED, Fixture, Process, alone, remove};

const UID: &str = "0b2f4c1e-77aa-4d1c-9c55-0123456789ab";

fn captured_flags() -> PodFlags {
    PodFlags::CAPTURED.with(PodFlags::LISTENS_V4)
}

fn connects(netns: &Netns, to: SocketAddr) -> bool {
    netns.run(|| TcpStream::connect(to)).is_ok()
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_pod_of_either_cgroup_driver_is_captured_in_its_own_namespace() {
    alone(async {
        let underscored = UID.replace('-', "_");
        for layout in [
            format!("kubepods-pod{underscored}.slice/cri-containerd-1.scope"),
            format!(
                "kubepods-burstable.slice/kubepods-burstable-pod{underscored}.slice/crio-1.scope/c"
            ),
            format!("pod{UID}/1"),
            format!("besteffort/pod{UID}/1"),
        ] {
            let fixture = Fixture::start();
            fixture.decide(UID, Some(CAPTURE));
            let process = Process::sandbox(&fixture.root.dir(&layout));

            let row = fixture.captured(UID).await;

            let netns = process.netns();
            assert_eq!(row.netns_cookie, netns.cookie(), "{layout}");
            assert_eq!(row.listeners, ["127.0.0.1:15001", "[::1]:15001"]);
            assert_eq!((row.reason.as_str(), row.namespace.as_str()), ("", "shop"));
            assert!(row.enrolment_us > 0);
            let events = fixture.recorder.events();
            let entry = PodEntry::new(15001, captured_flags().with(PodFlags::LISTENS_V6));
            let expected = [
                Event::Served(UID.to_owned(), 2, 2),
                Event::Set(netns.cookie(), entry),
            ];
            assert_eq!(events, expected, "served first, captured then");
            for to in ["127.0.0.1:15001", "[::1]:15001"] {
                let to = to.parse().unwrap();
                assert!(connects(&netns, to), "{to} in the pod");
                assert!(
                    !connects(&Netns::current().unwrap(), to),
                    "{to} on the node"
                );
            }
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_pod_that_ends_is_taken_out_of_the_map_before_its_listeners_close() {
    alone(async {
        let fixture = Fixture::start();
        fixture.decide(UID, Some(CAPTURE));
        let dir = fixture.root.dir(&format!("pod{UID}"));
        let process = Process::sandbox(&dir);
        let cookie = fixture.captured(UID).await.netns_cookie;

        drop(process);

        let row = fixture
            .pod(UID, |row| row.reason.starts_with("waiting"))
            .await;
        assert!(!row.captured && row.netns_cookie == 0 && row.listeners.is_empty());
        let events = fixture.recorder.events();
        let last = [Event::Removed(cookie), Event::Released(UID.to_owned())];
        assert_eq!(events[events.len() - 2..], last);

        remove(&dir);
        while fixture.row(UID).is_some() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_process_that_is_still_in_the_nodes_namespace_decides_nothing() {
    alone(async {
        let fixture = Fixture::start();
        fixture.decide(UID, Some(CAPTURE));
        let dir = fixture.root.dir(&format!("pod{UID}"));
        let script = "read go && exec unshare --net sh -c 'ip link set lo up && exec sleep 600'";
        let mut process = Process::start(&dir, script);
        let row = fixture
            .pod(UID, |row| row.reason.contains("node's network namespace"))
            .await;
        assert_eq!((row.captured, row.netns_cookie), (false, 0));
        assert_eq!(fixture.recorder.events(), []);

        process.go();

        let row = fixture.captured(UID).await;
        assert_eq!(row.netns_cookie, process.netns().cookie());
        assert_ne!(row.netns_cookie, Netns::current().unwrap().cookie());
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_pod_on_the_host_network_is_never_enrolled() {
    alone(async {
        let fixture = Fixture::start();
        let host_network = CaptureDecision::LeaveAlone(NotCaptured::HostNetwork);
        fixture.decide(UID, Some(host_network));
        let _process = Process::start(&fixture.root.dir(&format!("pod{UID}")), "exec sleep 600");
        fixture.pod(UID, |row| row.reason == "host-network").await;
        assert_eq!(fixture.recorder.events(), []);
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_pod_without_an_object_is_undecided_until_it_has_one() {
    alone(async {
        let fixture = Fixture::start();
        let _process = Process::sandbox(&fixture.root.dir(&format!("burstable/pod{UID}")));
        let row = fixture
            .pod(UID, |row| row.reason.starts_with("unknown"))
            .await;
        assert_eq!(row.reason, "unknown: no Pod object with this uid");
        assert_eq!(fixture.recorder.events(), []);

        fixture.decide(UID, Some(CAPTURE));
        let cookie = fixture.captured(UID).await.netns_cookie;

        fixture.decide(UID, None);
        fixture
            .pod(UID, |row| row.reason.starts_with("unknown"))
            .await;
        let events = fixture.recorder.events();
        assert!(events.contains(&Event::Removed(cookie)));
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_decision_that_changes_takes_effect_both_ways() {
    alone(async {
        let fixture = Fixture::start();
        let disabled = CaptureDecision::LeaveAlone(NotCaptured::Disabled);
        fixture.decide(UID, Some(disabled));
        let _process = Process::sandbox(&fixture.root.dir(&format!("pod{UID}")));
        let cookie = fixture
            .pod(UID, |row| row.reason == "disabled")
            .await
            .netns_cookie;
        let known = Event::Set(cookie, PodEntry::new(0, PodFlags::default()));
        assert_eq!(fixture.recorder.events(), std::slice::from_ref(&known));

        fixture.decide(UID, Some(CAPTURE));
        fixture.captured(UID).await;
        fixture.decide(UID, Some(disabled));
        fixture.pod(UID, |row| row.reason == "disabled").await;

        let events = fixture.recorder.events();
        assert_eq!(
            events[events.len() - 2..],
            [known, Event::Released(UID.to_owned())]
        );
        assert!(fixture.recorder.served().is_empty());
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn fail_closed_is_rewritten_in_place() {
    alone(async {
        let fixture = Fixture::start();
        fixture.decide(UID, Some(CAPTURE));
        let _process = Process::sandbox(&fixture.root.dir(&format!("pod{UID}")));
        fixture.captured(UID).await;

        fixture.decide(UID, Some(FAIL_CLOSED));

        let is_closed = |event: &Event| matches!(event, Event::Set(_, entry) if entry.flags().contains(PodFlags::FAIL_CLOSED));
        let events = fixture
            .recorder
            .until(|events| events.iter().any(is_closed))
            .await;
        assert_eq!(events.len(), 3, "served once: {events:?}");
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_pod_without_ipv6_is_captured_on_ipv4_alone() {
    alone(async {
        let fixture = Fixture::start();
        fixture.decide(UID, Some(CAPTURE));
        let off = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
        let dir = fixture.root.dir(&format!("pod{UID}"));
        let process = Process::sandbox_after(&dir, off);

        let row = fixture.captured(UID).await;

        assert_eq!(row.listeners, ["127.0.0.1:15001"]);
        assert_eq!(row.reason, "");
        let entry = PodEntry::new(15001, captured_flags());
        let events = fixture.recorder.events();
        assert!(
            events.contains(&Event::Set(process.netns().cookie(), entry)),
            "{events:?}"
        );
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_sandbox_that_is_made_again_moves_the_capture_to_its_namespace() {
    alone(async {
        let fixture = Fixture::start();
        fixture.decide(UID, Some(CAPTURE));
        let first = Process::sandbox(&fixture.root.dir(&format!("pod{UID}/1")));
        let old = fixture.captured(UID).await.netns_cookie;

        drop(first);
        let second = Process::sandbox(&fixture.root.dir(&format!("pod{UID}/2")));

        let new = second.own_netns().await;
        let row = fixture
            .pod(UID, |row| row.captured && row.netns_cookie != old)
            .await;
        assert_eq!(row.netns_cookie, new.cookie());
        let events = fixture.recorder.events();
        assert!(events.contains(&Event::Removed(old)), "{events:?}");
        assert_eq!(fixture.recorder.served().len(), 1);
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_directory_that_is_made_again_under_the_same_name_is_followed() {
    alone(async {
        let fixture = Fixture::start();
        fixture.decide(UID, Some(CAPTURE));
        for _round in 0..3 {
            let dir = fixture.root.dir(&format!("besteffort/pod{UID}"));
            let process = Process::sandbox(&dir);
            let cookie = process.own_netns().await.cookie();
            fixture
                .pod(UID, |row| row.captured && row.netns_cookie == cookie)
                .await;
            drop(process);
            remove(&dir);
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_pod_with_a_sidecar_gets_a_port_that_the_sidecar_does_not_want() {
    alone(async {
        let fixture = Fixture::start();
        let beside_sidecar = CaptureDecision::Capture {
            fail_closed: false,
            avoid_sidecar_ports: true,
            accelerates: Accelerates::Nothing,
        };
        fixture.decide(UID, Some(beside_sidecar));
        let _process = Process::sandbox(&fixture.root.dir(&format!("pod{UID}")));
        let row = fixture.captured(UID).await;
        assert_eq!(row.listeners, ["127.0.0.1:15101", "[::1]:15101"]);
    });
}
