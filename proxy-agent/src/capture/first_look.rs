//! The pods that were there at the start, until each is decided: before that nothing can be said
//! of a pod that the map does not know.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::model::Snapshot;

/// What is still to be decided. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FirstLook(Arc<watch::Sender<Looked>>);

#[derive(Debug, Default)]
struct Looked {
    /// All that were there are among those below, or are decided.
    listed: bool,
    undecided: HashSet<Arc<str>>,
}

impl FirstLook {
    /// A pod is there; after [`Self::listed`] that is no longer of interest.
    pub(super) fn add(&self, uid: &Arc<str>) {
        self.0
            .send_if_modified(|looked| !looked.listed && looked.undecided.insert(Arc::clone(uid)));
    }

    /// Every pod that was there at the start has been added.
    pub(super) fn listed(&self) {
        self.0.send_modify(|looked| looked.listed = true);
    }

    /// A pod is in the map, is gone, or cannot be brought into the map.
    pub(super) fn decided(&self, uid: &Arc<str>) {
        self.0
            .send_if_modified(|looked| looked.undecided.remove(uid));
    }

    /// Returns when all of them are decided but those that `snapshots` know nothing of. Bound it
    /// with a timeout.
    pub async fn all_decided(&self, snapshots: &mut watch::Receiver<Arc<Snapshot>>) {
        let mut looked = self.0.subscribe();
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let known = |uid: &Arc<str>| snapshot.pods.contains_key(uid);
            let decided = |looked: &Looked| looked.listed && !looked.undecided.iter().any(known);
            tokio::select! {
                // The sender lives as long as `self`.
                _ = looked.wait_for(decided) => return,
                Ok(()) = snapshots.changed() => {}
            }
        }
    }

    /// Those that are not.
    pub fn undecided(&self) -> Vec<Arc<str>> {
        self.0.borrow().undecided.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::model::{CaptureDecision, NotCaptured, Pod};

    fn knowing(uids: &[&str]) -> Arc<Snapshot> {
        let mut snapshot = Snapshot::empty();
        for uid in uids {
            let pod = Pod {
                uid: (*uid).into(),
                namespace: "ns".into(),
                name: (*uid).into(),
                ips: Vec::new(),
                capture: CaptureDecision::LeaveAlone(NotCaptured::NotEnabled),
            };
            Arc::make_mut(&mut snapshot.pods).insert((*uid).into(), Arc::new(pod));
        }
        Arc::new(snapshot)
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_decided_when_each_known_pod_that_was_there_is() {
        let moment = Duration::from_millis(20);
        let (publish, mut snapshots) = watch::channel(knowing(&[]));
        let look = FirstLook::default();
        let [one, other, strange]: [Arc<str>; 3] = ["a".into(), "b".into(), "strange".into()];
        for uid in [&one, &other, &strange] {
            look.add(uid);
        }
        look.decided(&one);
        let early = timeout(moment, look.all_decided(&mut snapshots)).await;
        assert!(early.is_err(), "there may be more");
        look.listed();
        publish.send_replace(knowing(&["a", "b"]));
        let early = timeout(moment, look.all_decided(&mut snapshots)).await;
        assert!(early.is_err(), "b is not");
        look.add(&"later".into());
        look.decided(&other);
        let all = timeout(moment, look.all_decided(&mut snapshots)).await;
        assert!(all.is_ok(), "nobody knows what the third one is");
        assert_eq!(look.undecided(), [strange]);
    }
}
