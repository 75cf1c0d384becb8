//! Which pods are worth an event, and when.

use kube::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::model::{Accelerates, Place};
use crate::objects::{Located, Origin, read_served};

const CAPTURE: CaptureDecision = CaptureDecision::Capture {
    fail_closed: false,
    avoid_sidecar_ports: false,
    accelerates: Accelerates::Nothing,
};

fn pod(capture: CaptureDecision) -> Pod {
    Pod {
        uid: "u".into(),
        namespace: "ns".into(),
        name: "p".into(),
        ips: Vec::new(),
        capture,
    }
}

fn snapshot(pods: impl IntoIterator<Item = Pod>) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    let all = Arc::make_mut(&mut snapshot.pods);
    for pod in pods {
        all.insert(Arc::clone(&pod.uid), Arc::new(pod));
    }
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
    let (snapshot, pods, set) = (snapshot([pod(capture)]), status(reason), set(&["p"]));
    let due = memory.due(&snapshot, &pods, &set, now);
    due.into_iter()
        .map(|due| {
            assert_eq!(due.pod.uid.as_deref(), Some("of-the-api"));
            memory.told(due.finding);
            format!("{}: {}", due.words.reason, due.words.note)
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
    let (snapshot, pods) = (snapshot([pod(CAPTURE)]), status("cannot bind: x"));
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
    let status = &status(&format!("x: {}", "é".repeat(2_000)))[0];
    let note = words(&pod(CAPTURE), status).unwrap().note;
    assert!(note.len() <= 1_024, "{}", note.len());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_an_address_and_no_cgroup_is_told() {
    let mut runs = pod(CAPTURE);
    runs.ips.push([10, 1, 0, 1].into());
    let (snapshot, pods) = (snapshot([runs]), status("no-cgroup: it has no cgroup"));
    let (mut memory, start) = (Memory::default(), Instant::now());
    let set = set(&["p"]);
    assert!(memory.due(&snapshot, &pods, &set, start).is_empty());
    let due = memory.due(&snapshot, &pods, &set, start + LASTING);
    assert_eq!(due.len(), 1);
    assert!(
        due[0].words.note.contains("no-cgroup"),
        "{:?}",
        due[0].words
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_in_trouble_is_told_over_several_looks() {
    let names: Vec<String> = (0..AT_ONCE + 5)
        .map(|number| format!("p{number}"))
        .collect();
    let pods = names.iter().map(|name| Pod {
        uid: name.as_str().into(),
        name: name.as_str().into(),
        ..pod(CAPTURE)
    });
    let snapshot = snapshot(pods);
    let status = |name: &String| PodStatus {
        name: name.clone(),
        uid: name.clone(),
        ..status("hidden: x")[0].clone()
    };
    let pods: Vec<PodStatus> = names.iter().map(status).collect();
    let set = set(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut memory, start) = (Memory::default(), Instant::now());
    memory.due(&snapshot, &pods, &set, start);
    let mut told = 0;
    for (look, wanted) in [(1, AT_ONCE), (2, 5), (3, 0)] {
        let due = memory.due(&snapshot, &pods, &set, start + look * LASTING);
        assert_eq!(due.len(), wanted, "look {look}");
        told += due.len();
        due.into_iter().for_each(|due| memory.told(due.finding));
    }
    assert_eq!(told, names.len());
}

/// Answers `count` requests as an API server that takes whatever comes; their first lines.
async fn requests(listener: TcpListener, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let line = String::from_utf8_lossy(&head)
            .lines()
            .next()
            .map(str::to_owned);
        lines.extend(line);
        let body = r#"{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{}}"#;
        let head = "HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-type: application/json";
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    lines
}

#[tokio::test]
async fn each_event_is_created_whatever_was_told_of_the_pod_before() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let client = Client::try_from(Config::new(uri.parse().unwrap())).unwrap();
    let (mut memory, start) = (Memory::default(), Instant::now());
    let (snapshot, set) = (snapshot([pod(CAPTURE)]), set(&["p"]));
    let mut both = Vec::new();
    for (look, reason) in [(1, "hidden: x"), (3, "cannot bind: y")] {
        let pods = status(reason);
        memory.due(&snapshot, &pods, &set, start + look * LASTING);
        both.extend(memory.due(&snapshot, &pods, &set, start + (look + 1) * LASTING));
    }
    assert_eq!(
        both[0].words.reason, both[1].words.reason,
        "the same to the API"
    );
    let writing = async {
        for due in &both {
            write(&client, &object(due, "agent")).await.unwrap();
        }
    };
    let (requests, ()) = tokio::join!(requests(listener, 2), writing);
    for request in requests {
        let wanted = "POST /apis/events.k8s.io/v1/namespaces/ns/events?";
        assert!(request.starts_with(wanted), "{request}");
    }
    let notes = both.iter().map(|due| object(due, "agent").note.unwrap());
    assert!(notes.clone().any(|note| note.ends_with(": x")));
    assert!(notes.clone().any(|note| note.ends_with(": y")));
}
