//! Kubernetes events about pods of this node that were to be captured and are not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::parents::CONTROLLER;
use super::{PACE, Report};
use crate::model::{CaptureDecision, NotCaptured, Snapshot};
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
    let reporter = Reporter {
        controller: CONTROLLER.to_owned(),
        instance: Some(report.identity.name.clone()),
    };
    let recorder = Recorder::new(report.cluster.client.clone(), reporter);
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
            let written = timeout(ANSWER, recorder.publish(&due.event, &due.pod)).await;
            match written {
                Ok(Ok(())) => memory.told(due.finding),
                Ok(Err(error)) => tracing::debug!(%error, "an event is not written"),
                Err(_late) => tracing::debug!("the API server did not take an event"),
            }
            sleep(PACE).await;
        }
    }
}

/// An event that is to be written.
struct Due {
    finding: Finding,
    pod: ObjectReference,
    event: Event,
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
                let event = event(decided.capture, pod)?;
                let reason = pod.reason.split(':').next().unwrap_or_default();
                Some(((Arc::clone(uid), reason.to_owned()), pod, event))
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
        for (finding, pod, event) in found {
            let since = *self.since.entry(finding.clone()).or_insert(now);
            if now - since < LASTING || self.told.contains(&finding) {
                continue;
            }
            if let Some(object) = here.get(&(&*pod.namespace, &*pod.name)) {
                let pod = reference(object);
                due.push(Due {
                    finding,
                    pod,
                    event,
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
fn pods_of(set: &ObjectSet) -> HashMap<(&str, &str), &Pod> {
    let pods = set.objects.iter().filter_map(|one| {
        let Object::Pod(pod) = &one.object else {
            return None;
        };
        Some(((&*one.id.namespace, &*one.id.name), &**pod))
    });
    pods.collect()
}

/// `None` for a pod that is as it should be, or that is on its way.
fn event(decision: CaptureDecision, pod: &PodStatus) -> Option<Event> {
    let passing = ["waiting:", "draining:", "no-cgroup:", "own-netns:"];
    let (type_, reason, note) = match decision {
        CaptureDecision::LeaveAlone(NotCaptured::Sidecar) => {
            let note = "it still has a sidecar; remove the sidecar, or annotate the pod with \
                        proxy-agent.io/capture: enabled";
            (EventType::Normal, "NotCaptured", note.to_owned())
        }
        CaptureDecision::LeaveAlone(_) => return None,
        CaptureDecision::Capture { .. } => {
            if pod.captured || passing.iter().any(|text| pod.reason.starts_with(text)) {
                return None;
            }
            (EventType::Warning, "CaptureFailed", pod.reason.clone())
        }
    };
    let mut note = format!("connections of this pod are not captured: {note}");
    note.truncate(note.floor_char_boundary(MAX_NOTE_BYTES));
    Some(Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note),
        action: "Capture".to_owned(),
        secondary: None,
    })
}

/// The pod as the API has it: the UID of a static one's copy is not the one that its cgroup has.
fn reference(pod: &Pod) -> ObjectReference {
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
