//! Listeners that another agent bound in the pods, for the pods that this one finds.
//!
//! A pod's task takes those of its pod in place of binding. Which agent accepts when is not decided
//! here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::net::PodListeners;

/// The listeners that are not taken yet, and the pods that are not looked at yet. Clones share it;
/// the default has none.
#[derive(Clone, Debug, Default)]
pub struct Inherited(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// By UID, with the cookie of the namespace that they are in.
    listeners: Mutex<HashMap<Arc<str>, (u64, PodListeners)>>,
    /// Pods that had listeners and whose task has not come to rest.
    pending: watch::Sender<HashSet<Arc<str>>>,
}

impl Inherited {
    /// Adds the listeners of a pod, in the namespace with this cookie.
    pub fn add(&self, uid: Arc<str>, cookie: u64, listeners: PodListeners) {
        let pending = Arc::clone(&uid);
        self.lock().insert(uid, (cookie, listeners));
        self.0.pending.send_modify(|pods| {
            pods.insert(pending);
        });
    }

    /// Returns when every pod is enrolled, or will not be. Bound it with a timeout.
    pub async fn settled(&self) {
        let mut pending = self.0.pending.subscribe();
        // The sender lives as long as `self`.
        let _ = pending.wait_for(HashSet::is_empty).await;
    }

    /// Pods whose task has not come to rest.
    pub fn pending(&self) -> Vec<Arc<str>> {
        self.0.pending.borrow().iter().cloned().collect()
    }

    /// Closes the listeners that nobody took: their pods are gone, or no longer captured.
    pub fn drop_rest(&self) {
        self.lock().clear();
    }

    /// The listeners of a pod, unless it has another namespace now.
    pub(super) fn take(&self, uid: &Arc<str>, cookie: u64) -> Option<PodListeners> {
        let (of, listeners) = self.lock().remove(uid)?;
        (of == cookie).then_some(listeners)
    }

    /// The task of a pod has come to rest.
    pub(super) fn settle(&self, uid: &Arc<str>) {
        let settled = |pods: &mut HashSet<Arc<str>>| pods.remove(uid);
        self.0.pending.send_if_modified(settled);
    }

    /// No longer waits for the pods that have no task.
    pub(super) fn keep(&self, has_task: impl Fn(&Arc<str>) -> bool) {
        self.0.pending.send_modify(|pods| pods.retain(has_task));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, (u64, PodListeners)>> {
        let listeners = &self.0.listeners;
        listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn listeners() -> PodListeners {
        PodListeners {
            port: 15001,
            v4: Vec::new(),
            v6: Vec::new(),
        }
    }

    #[test]
    fn listeners_go_to_their_pod_once_and_only_in_their_namespace() {
        let inherited = Inherited::default();
        let (one, other): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        inherited.add(Arc::clone(&one), 7, listeners());
        inherited.add(Arc::clone(&other), 8, listeners());
        assert!(inherited.take(&one, 7).is_some());
        assert!(inherited.take(&one, 7).is_none());
        assert!(inherited.take(&other, 9).is_none(), "a new sandbox");
        assert!(inherited.take(&other, 8).is_none(), "and closed");
    }

    #[tokio::test]
    async fn it_is_settled_when_every_pod_has_come_to_rest_or_has_no_task() {
        let inherited = Inherited::default();
        inherited.settled().await;
        let (one, other): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        inherited.add(Arc::clone(&one), 7, listeners());
        inherited.add(Arc::clone(&other), 8, listeners());
        inherited.settle(&one);
        assert_eq!(inherited.pending(), [Arc::clone(&other)]);
        let moment = Duration::from_millis(20);
        assert!(timeout(moment, inherited.settled()).await.is_err());
        inherited.keep(|uid| *uid == one);
        inherited.settled().await;
    }
}
