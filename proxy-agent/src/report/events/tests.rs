//! Which pods are worth an event, and when.

use super::*;
use crate::model::{Place, Pod};
use crate::objects::{Located, Origin, read_served};

const CAPTURE: CaptureDecision = CaptureDecision::Capture {
    fail_closed: false,
    avoid_sidecar_ports: false,
};

fn snapshot(capture: CaptureDecision) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    let pod = Pod {
        uid: "u".into(),
        namespace: "ns".into(),
        name: "p".into(),
        ips: Vec::new(),
        capture,
    };
    Arc::make_mut(&mut snapshot.pods).insert("u".into(), Arc::new(pod));
    snapshot
}

fn set(pods: &[&str]) -> ObjectSet {
    let mut set = ObjectSet::unsynced("kubernetes".into(), Origin::Cluster);
    let pod = |name: &&str| -> Arc<Located> {
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "ns", "uid": "of-the-api"},
            "spec": {"containers": []}});
        let place = Place {
            source: "t".into(),
            line: 0,
        };
        Arc::new(read_served(pod, place).objects.remove(0))
    };
    set.objects = pods.iter().map(pod).collect();
    set
}

fn status(reason: &str) -> [PodStatus; 1] {
    [PodStatus {
        namespace: "ns".to_owned(),
        name: "p".to_owned(),
        uid: "u".to_owned(),
        reason: reason.to_owned(),
        ..PodStatus::default()
    }]
}

/// Reasons and notes of what is due at `now`, told at once.
fn due(memory: &mut Memory, capture: CaptureDecision, reason: &str, now: Instant) -> Vec<String> {
    let (snapshot, pods, set) = (snapshot(capture), status(reason), set(&["p"]));
    let due = memory.due(&snapshot, &pods, &set, now);
    due.into_iter()
        .map(|due| {
            assert_eq!(due.pod.uid.as_deref(), Some("of-the-api"));
            memory.told(due.finding);
            format!("{}: {}", due.event.reason, due.event.note.unwrap())
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_lasts_is_told_once_for_each_reason() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    let fault = "cannot bind: address in use";
    assert!(
        due(&mut memory, CAPTURE, fault, start).is_empty(),
        "it may pass"
    );
    let told = due(&mut memory, CAPTURE, fault, start + LASTING);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("CaptureFailed: ") && told[0].ends_with(fault),
        "{told:?}"
    );
    let again = "cannot bind: address in use for longer";
    assert!(
        due(&mut memory, CAPTURE, again, start + 2 * LASTING).is_empty(),
        "told"
    );
    let other = "hidden: its processes are not visible";
    assert!(due(&mut memory, CAPTURE, other, start + 2 * LASTING).is_empty());
    assert_eq!(
        due(&mut memory, CAPTURE, other, start + 3 * LASTING).len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn what_passes_or_is_meant_so_is_not_told() {
    let later = Instant::now() + LASTING;
    for (decision, reason) in [
        (CAPTURE, "waiting: it has no process yet"),
        (CAPTURE, "no-cgroup: it has no cgroup on this node"),
        (
            CaptureDecision::LeaveAlone(NotCaptured::NotEnabled),
            "not-enabled",
        ),
        (
            CaptureDecision::LeaveAlone(NotCaptured::HostNetwork),
            "host-network",
        ),
    ] {
        let mut memory = Memory::default();
        due(&mut memory, decision, reason, Instant::now());
        assert!(
            due(&mut memory, decision, reason, later).is_empty(),
            "{reason}"
        );
    }
    let sidecar = CaptureDecision::LeaveAlone(NotCaptured::Sidecar);
    let mut memory = Memory::default();
    due(&mut memory, sidecar, "sidecar", Instant::now());
    let told = due(&mut memory, sidecar, "sidecar", later);
    assert!(told[0].starts_with("NotCaptured: "), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn pods_of_other_sources_have_no_events() {
    let (snapshot, pods) = (snapshot(CAPTURE), status("cannot bind: x"));
    let (mut memory, start) = (Memory::default(), Instant::now());
    let elsewhere = set(&["another"]);
    memory.due(&snapshot, &pods, &elsewhere, start);
    assert!(
        memory
            .due(&snapshot, &pods, &elsewhere, start + LASTING)
            .is_empty()
    );
    assert_eq!(
        memory
            .due(&snapshot, &pods, &set(&["p"]), start + LASTING)
            .len(),
        1
    );
}

#[test]
fn a_long_reason_is_cut_to_what_the_api_takes() {
    let pod = &status(&format!("x: {}", "é".repeat(2_000)))[0];
    let note = event(CAPTURE, pod).unwrap().note.unwrap();
    assert!(note.len() <= 1_024, "{}", note.len());
}
