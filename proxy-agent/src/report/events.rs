//! Kubernetes events about pods of this node that were to be captured and are not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Pod as KubePod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::parents::CONTROLLER;
use super::{PACE, Report};
use crate::model::{CaptureDecision, NotCaptured, Pod, Snapshot};
use crate::objects::{Object, ObjectSet};
use crate::status::PodStatus;

/// Time between looks.
const LOOK: Duration = Duration::from_secs(5);
/// What passes sooner is worth no event: a pod that starts, an agent that has just come.
const LASTING: Duration = Duration::from_secs(15);
/// Events in one look at most: a whole node in trouble is told over a while.
const AT_ONCE: usize = 20;
/// Length of an event's note at most (`note` of events.k8s.io/v1: 1 kB).
const MAX_NOTE_BYTES: usize = 1_000;
/// Time in which the API server must answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What is wrong with which pod; the text up to its first colon names the reason.
type Finding = (Arc<str>, String);

/// Writes until it is cancelled.
pub(super) async fn run(report: Report) {
    let client = &report.cluster.client;
    let mut memory = Memory::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let (snapshot, set) = (
            Arc::clone(&report.snapshots.borrow()),
            Arc::clone(&report.cluster.objects.borrow()),
        );
        let pods = report.capture.pods(&snapshot);
        let due = memory.due(&snapshot, &pods, &set, Instant::now());
        for due in due {
            let event = object(&due, &report.identity.name);
            let written = timeout(ANSWER, write(client, &event)).await;
            match written {
                Ok(Ok(())) => memory.told(due.finding),
                Ok(Err(error)) => tracing::debug!(%error, "an event is not written"),
                Err(_late) => tracing::debug!("the API server did not take an event"),
            }
            sleep(PACE).await;
        }
    }
}

/// Always as an event of its own: to add to an earlier one takes the right to patch every event, and
/// keeps the earlier one's note.
async fn write(client: &Client, event: &Event) -> Result<(), kube::Error> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    events.create(&PostParams::default(), event).await.map(drop)
}

/// An event that is to be written.
struct Due {
    finding: Finding,
    pod: ObjectReference,
    words: Words,
}

/// What an event says.
#[derive(Debug)]
struct Words {
    /// `Normal` or `Warning`.
    kind: &'static str,
    reason: &'static str,
    note: String,
}

fn object(due: &Due, instance: &str) -> Event {
    let Due { pod, words, .. } = due;
    Event {
        metadata: ObjectMeta {
            // The server adds what makes it unique. A prefix must be a name but for a dash at its end.
            generate_name: pod.name.as_ref().map(|name| format!("{name}-")),
            namespace: pod.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some("Capture".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(words.note.clone()),
        reason: Some(words.reason.to_owned()),
        regarding: Some(pod.clone()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(words.kind.to_owned()),
        ..Event::default()
    }
}

/// What was found, since when, and what was told of it.
#[derive(Debug, Default)]
struct Memory {
    since: HashMap<Finding, Instant>,
    told: HashSet<Finding>,
}

impl Memory {
    /// Events that are to be written now.
    fn due(
        &mut self,
        snapshot: &Snapshot,
        pods: &[PodStatus],
        set: &ObjectSet,
        now: Instant,
    ) -> Vec<Due> {
        let found: Vec<_> = pods
            .iter()
            .filter_map(|pod| {
                let (uid, decided) = snapshot.pods.get_key_value(&*pod.uid)?;
                let words = words(decided, pod)?;
                let reason = pod.reason.split(':').next().unwrap_or_default();
                Some(((Arc::clone(uid), reason.to_owned()), pod, words))
            })
            .collect();
        let current: HashSet<_> = found.iter().map(|(finding, ..)| finding).collect();
        self.since.retain(|finding, _| current.contains(finding));
        self.told.retain(|(uid, _)| snapshot.pods.contains_key(uid));
        if found.is_empty() {
            return Vec::new();
        }
        let here = pods_of(set);
        let mut due = Vec::new();
        for (finding, pod, words) in found {
            let since = *self.since.entry(finding.clone()).or_insert(now);
            if now - since < LASTING || self.told.contains(&finding) {
                continue;
            }
            if let Some(object) = here.get(&(&*pod.namespace, &*pod.name)) {
                let pod = reference(object);
                due.push(Due {
                    finding,
                    pod,
                    words,
                });
            }
        }
        due.truncate(AT_ONCE);
        due
    }

    fn told(&mut self, finding: Finding) {
        self.told.insert(finding);
    }
}

/// Pods of the API server by namespace and name.
fn pods_of(set: &ObjectSet) -> HashMap<(&str, &str), &KubePod> {
    let pods = set.objects.iter().filter_map(|one| {
        let Object::Pod(pod) = &one.object else {
            return None;
        };
        Some(((&*one.id.namespace, &*one.id.name), &**pod))
    });
    pods.collect()
}

/// `None` for a pod that is as it should be, or that is on its way.
fn words(decided: &Pod, pod: &PodStatus) -> Option<Words> {
    let passing = ["waiting:", "draining:", "own-netns:"];
    let (kind, reason, note) = match decided.capture {
        CaptureDecision::LeaveAlone(NotCaptured::Sidecar) => {
            let note = "it still has a sidecar; remove the sidecar, or annotate the pod with \
                        proxy-agent.io/capture: enabled";
            ("Normal", "NotCaptured", note)
        }
        CaptureDecision::LeaveAlone(_) => return None,
        CaptureDecision::Capture { .. } => {
            // A pod that has an address runs, and has its cgroup somewhere.
            let starts = pod.reason.starts_with("no-cgroup:") && decided.ips.is_empty();
            let passes = passing.iter().any(|text| pod.reason.starts_with(text));
            if pod.captured || starts || passes {
                return None;
            }
            ("Warning", "CaptureFailed", &*pod.reason)
        }
    };
    let mut note = format!("connections of this pod are not captured: {note}");
    note.truncate(note.floor_char_boundary(MAX_NOTE_BYTES));
    Some(Words { kind, reason, note })
}

/// The pod as the API has it: the UID of a static one's copy is not the one that its cgroup has.
fn reference(pod: &KubePod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests;
