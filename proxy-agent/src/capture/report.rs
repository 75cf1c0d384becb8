//! The state of the pods as `status` shows it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{CaptureDecision, Pod, Snapshot};
use crate::status::{EnrolmentStatus, PodStatus};

/// State of every pod, readable at any time. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CaptureStatus {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pods: Mutex<HashMap<Arc<str>, PodStatus>>,
    scanned: AtomicBool,
    enrolments: Mutex<EnrolmentStatus>,
}

impl CaptureStatus {
    /// Pods by namespace and name: those with a cgroup here, and those of `snapshot` that have
    /// none. Connection counts are the proxy's and left at 0.
    pub fn pods(&self, snapshot: &Snapshot) -> Vec<PodStatus> {
        let seen = self.lock();
        let unseen = snapshot
            .pods
            .values()
            .filter(|pod| !seen.contains_key(&pod.uid));
        let mut pods: Vec<_> = seen
            .values()
            .cloned()
            .chain(unseen.map(without_cgroup))
            .collect();
        drop(seen);
        pods.sort_by(|a, b| {
            let key = |pod: &PodStatus| (pod.namespace.clone(), pod.name.clone(), pod.uid.clone());
            key(a).cmp(&key(b))
        });
        pods
    }

    /// Whether the cgroups that were there at the start have been listed.
    pub fn has_scanned(&self) -> bool {
        self.shared.scanned.load(Ordering::Acquire)
    }

    /// How long enrolments have taken so far.
    pub fn enrolments(&self) -> EnrolmentStatus {
        *self
            .shared
            .enrolments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enrolled(&self, took_us: u64) {
        let mut enrolments = self
            .shared
            .enrolments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        enrolments.add(took_us);
    }

    pub(super) fn mark_scanned(&self) {
        self.shared.scanned.store(true, Ordering::Release);
    }

    /// Publishes a pod and answers whether its state or reason is another than before.
    pub(super) fn publish(&self, uid: &Arc<str>, pod: PodStatus) -> bool {
        let (captured, reason) = (pod.captured, pod.reason.clone());
        let before = self.lock().insert(Arc::clone(uid), pod);
        before.is_none_or(|before| before.captured != captured || before.reason != reason)
    }

    pub(super) fn forget(&self, uid: &Arc<str>) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, PodStatus>> {
        // A panic cannot leave a single insert or remove half done.
        self.shared
            .pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_cgroup(pod: &Arc<Pod>) -> PodStatus {
    let reason = match pod.capture {
        CaptureDecision::LeaveAlone(why) => why.name(),
        CaptureDecision::Capture { .. } => "no-cgroup: it has no cgroup on this node",
    };
    PodStatus {
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        reason: reason.to_owned(),
        ..PodStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Accelerates;

    fn pod(uid: &str, name: &str) -> Arc<Pod> {
        Arc::new(Pod {
            uid: uid.into(),
            namespace: "shop".into(),
            name: name.into(),
            ips: Vec::new(),
            capture: CaptureDecision::Capture {
                fail_closed: false,
                avoid_sidecar_ports: false,
                accelerates: Accelerates::Nothing,
            },
        })
    }

    #[test]
    fn pods_with_and_without_a_cgroup_are_listed_once_by_name() {
        let status = CaptureStatus::default();
        let seen = PodStatus {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            captured: true,
            ..PodStatus::default()
        };
        status.publish(&"u2".into(), seen);
        let mut snapshot = Snapshot::empty();
        for pod in [pod("u2", "web"), pod("u1", "cart")] {
            Arc::make_mut(&mut snapshot.pods).insert(Arc::clone(&pod.uid), pod);
        }
        let shown: Vec<_> = status
            .pods(&snapshot)
            .into_iter()
            .map(|pod| (pod.name, pod.captured))
            .collect();
        assert_eq!(
            shown,
            [("cart".to_owned(), false), ("web".to_owned(), true)]
        );
    }

    #[test]
    fn an_enrolment_counts_in_the_first_bucket_that_holds_it() {
        let status = CaptureStatus::default();
        for us in [1_000, 1_001, 6_000_000] {
            status.enrolled(us);
        }
        let enrolments = status.enrolments();
        assert_eq!((enrolments.count, enrolments.sum_us), (3, 6_002_001));
        assert_eq!(enrolments.buckets, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn publishing_the_same_state_again_is_no_news() {
        let status = CaptureStatus::default();
        let uid: Arc<str> = "u".into();
        assert!(status.publish(&uid, PodStatus::default()));
        assert!(!status.publish(&uid, PodStatus::default()));
        let captured = PodStatus {
            captured: true,
            ..PodStatus::default()
        };
        assert!(status.publish(&uid, captured));
        status.forget(&uid);
        assert!(status.pods(&Snapshot::empty()).is_empty());
    }
}
