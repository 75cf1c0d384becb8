//! What goes wrong around an enrolment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use proxy_agent::capture::Error;
use proxy_agent::capture::cgroup::{self, RootLock};
use proxy_agent::model::{CaptureDecision, NotCaptured};
use proxy_ebpf::PodFlags;

use crate::fixture::{CAPTURE, Event, FAIL_CLOSED, Fixture, Process, Tree, alone, remove};

const UID: &str = "6f1ed002ab5595859014ebf0951522d9";

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_pod_that_dies_during_its_enrolment_leaves_nothing_behind() {
    alone(async {
        let fixture = Fixture::start();
        let process = Process::sandbox(&fixture.root.dir(&format!("pod{UID}/1")));
        fixture.pod(UID, |row| row.netns_cookie != 0).await;
        *fixture.recorder.victim.lock().unwrap() = Some(process);

        fixture.decide(UID, Some(CAPTURE));

        fixture
            .pod(UID, |row| row.reason.starts_with("waiting"))
            .await;
        let events = fixture.recorder.events();
        let sets = events
            .iter()
            .filter(|event| matches!(event, Event::Set(..)));
        let removals = events
            .iter()
            .filter(|event| matches!(event, Event::Removed(_)));
        assert_eq!(sets.count(), removals.count(), "{events:?}");
        assert_eq!(events.last(), Some(&Event::Released(UID.to_owned())));
        assert!(fixture.recorder.served().is_empty());
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn listeners_that_the_proxy_refuses_are_offered_again() {
    alone(async {
        let fixture = Fixture::start();
        fixture.recorder.refusals.store(3, Ordering::SeqCst);
        fixture.decide(UID, Some(CAPTURE));
        let _process = Process::sandbox(&fixture.root.dir(&format!("pod{UID}")));
        fixture.captured(UID).await;
        let events = fixture.recorder.events();
        let set = events
            .iter()
            .position(|event| matches!(event, Event::Set(..)));
        let served = events
            .iter()
            .position(|event| matches!(event, Event::Served(..)));
        assert!(
            served < set,
            "never in the map before it is served: {events:?}"
        );
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn an_entry_that_the_map_refuses_is_written_again_and_closes_nothing() {
    alone(async {
        let fixture = Fixture::start();
        fixture.recorder.map_refusals.store(3, Ordering::SeqCst);
        fixture.decide(UID, Some(CAPTURE));
        let _process = Process::sandbox(&fixture.root.dir(&format!("pod{UID}")));
        fixture.captured(UID).await;

        let disabled = CaptureDecision::LeaveAlone(NotCaptured::Disabled);
        fixture
            .recorder
            .map_refusals
            .store(u32::MAX, Ordering::SeqCst);
        fixture.decide(UID, Some(disabled));

        let row = fixture
            .pod(UID, |row| row.reason.starts_with("map-refused"))
            .await;
        assert!(row.captured, "the map still says so");
        assert_eq!(row.reason.lines().count(), 1);
        assert!(row.reason.ends_with("map full"), "{}", row.reason);
        assert_eq!(fixture.recorder.served().len(), 1, "so it is still served");
    });
}

/// As a container that makes containers of its own.
#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_namespace_inside_a_container_is_not_taken_for_the_pods() {
    alone(async {
        let fixture = Fixture::start();
        fixture.decide(UID, Some(CAPTURE));
        let sandbox = Process::sandbox(&fixture.root.dir(&format!("pod{UID}/z-sandbox")));
        let cookie = fixture.captured(UID).await.netns_cookie;

        let nested = Process::sandbox(&fixture.root.dir(&format!("pod{UID}/a-container")));
        nested.own_netns().await;
        // Its removal wakes the pod's task, which then looks at both processes.
        remove(&fixture.root.dir(&format!("pod{UID}/m-other")));
        fixture.decide(UID, Some(FAIL_CLOSED));
        let is_closed = |event: &Event| matches!(event, Event::Set(_, entry) if entry.flags().contains(PodFlags::FAIL_CLOSED));
        fixture
            .recorder
            .until(|events| events.iter().any(is_closed))
            .await;

        assert_eq!(fixture.captured(UID).await.netns_cookie, cookie);
        assert_eq!(cookie, sandbox.netns().cookie());
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn ports_that_the_pod_uses_itself_are_passed_over_and_named_when_none_is_left() {
    alone(async {
        let fixture = Fixture::start();
        fixture.decide(UID, Some(CAPTURE));
        let listen = |ports: &str| {
            format!(
                "exec unshare --net sh -c 'ip link set lo up && exec python3 -c \"\
import socket,time
kept=[]
for port in {ports}:
    s=socket.socket(); s.setsockopt(1,15,1); s.bind((str(),port)); s.listen(); kept.append(s)
time.sleep(600)\"'"
            )
        };
        let dir = fixture.root.dir(&format!("pod{UID}/1"));
        // The decision comes when the sockets are there, so the namespace is not free at first.
        fixture.decide(UID, None);
        let some = Process::start(&dir, &listen("(15001,15101)"));
        wait_for_listener(&some, 15101).await;
        fixture.decide(UID, Some(CAPTURE));
        let row = fixture.captured(UID).await;
        assert_eq!(row.listeners, ["127.0.0.1:15102", "[::1]:15102"]);
        drop(some);
        fixture.decide(UID, None);

        let all = Process::start(&dir, &listen("(15001,*range(15101,15109))"));
        wait_for_listener(&all, 15108).await;
        fixture.decide(UID, Some(CAPTURE));
        let row = fixture
            .pod(UID, |row| row.reason.starts_with("ports-taken"))
            .await;
        assert!(!row.captured && row.listeners.is_empty());
    });
}

async fn wait_for_listener(process: &Process, port: u16) {
    while process
        .netns()
        .run(|| std::net::TcpStream::connect(("127.0.0.1", port)))
        .is_err()
    {
        tokio::task::yield_now().await;
    }
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn two_pods_in_one_namespace_are_not_both_captured() {
    alone(async {
        let fixture = Fixture::start();
        for uid in [UID, "second"] {
            fixture.decide(uid, Some(CAPTURE));
        }
        let first = Process::sandbox(&fixture.root.dir(&format!("pod{UID}")));
        fixture.captured(UID).await;

        let dir = fixture.root.dir("podsecond");
        let join = format!("exec nsenter --net=/proc/{}/ns/net sleep 600", first.pid());
        let _second = Process::start(&dir, &join);

        let row = fixture
            .pod("second", |row| row.reason.starts_with("netns-shared"))
            .await;
        assert!(row.reason.contains(UID) && !row.captured, "{}", row.reason);
        assert!(fixture.row(UID).is_some_and(|row| row.captured));
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_shutdown_removes_the_entries_and_leaves_the_listeners_to_the_proxy() {
    alone(async {
        let fixture = Fixture::start();
        fixture.decide(UID, Some(CAPTURE));
        let process = Process::sandbox(&fixture.root.dir(&format!("pod{UID}")));
        let cookie = fixture.captured(UID).await.netns_cookie;

        let (recorder, ended) = fixture.stop_around(process).await;

        assert!(ended.is_ok());
        assert_eq!(recorder.events().last(), Some(&Event::Removed(cookie)));
        assert_eq!(recorder.served().len(), 1);
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_root_that_is_removed_ends_capture() {
    alone(async {
        let fixture = Fixture::start();
        while !fixture.status.has_scanned() {
            tokio::task::yield_now().await;
        }
        fs::remove_dir(&fixture.root.path).unwrap();
        assert!(matches!(fixture.end().await, Err(Error::RootGone { .. })));
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_root_may_be_named() {
    alone(async {
        let fixture = Fixture::start();
        let root = fixture.root.dir("kubelet.slice/kubelet-kubepods.slice");
        assert_eq!(cgroup::find_root(Some(&root)).unwrap(), root);
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_root_is_locked_for_one_agent_and_the_second_is_told_whose_it_is() {
    let (first, second) = (Tree::new(), Tree::new());
    let lock = RootLock::take(&first.path).unwrap();
    assert!(RootLock::take(&second.path).is_ok(), "another root is free");
    let error = RootLock::take(&first.path).unwrap_err().to_string();
    let pid = std::process::id();
    assert!(error.contains(&format!("pid {pid} (")), "{error}");
    drop(lock);
    assert!(RootLock::take(&first.path).is_ok());
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn the_own_cgroup_is_the_one_that_lists_this_process() {
    alone(async {
        let fixture = Fixture::start();
        let tree: &Tree = &fixture.root;
        let (inside, outside) = (tree.dir("agent"), tree.path.parent().unwrap());
        let pid = std::process::id().to_string();
        fs::write(inside.join("cgroup.procs"), &pid).unwrap();
        let id = cgroup::own_id();
        fs::write(outside.join("cgroup.procs"), &pid).unwrap();
        assert_eq!(id.unwrap(), inside.metadata().unwrap().ino());
        assert_ne!(cgroup::own_id().unwrap(), inside.metadata().unwrap().ino());
    });
}
