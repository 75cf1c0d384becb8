//! A served pod as one worker sees it.

use std::cell::Cell;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::metrics::traffic::PodRecorder;
use crate::net::Netns;

use super::load::PodIndex;

/// The pod whose listener accepted a connection: the client's identity.
#[derive(Debug)]
pub(super) struct PodState {
    /// Number on this worker, never used twice.
    pub(super) index: PodIndex,
    pub(super) uid: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) netns: Arc<Netns>,
    pub(super) recorder: Arc<PodRecorder>,
    /// Tells the accept loops to empty their queue and end.
    pub(super) stop: CancellationToken,
    released: Cell<bool>,
}

impl PodState {
    pub(super) fn new(index: PodIndex, pod: &super::ServedPod, recorder: Arc<PodRecorder>) -> Self {
        Self {
            index,
            uid: Arc::clone(&pod.uid),
            namespace: Arc::clone(&pod.namespace),
            name: Arc::clone(&pod.name),
            netns: Arc::clone(&pod.netns),
            recorder,
            stop: CancellationToken::new(),
            released: Cell::new(false),
        }
    }

    /// Nothing new is kept for it from now on.
    pub(super) fn release(&self) {
        self.released.set(true);
        self.stop.cancel();
    }

    pub(super) fn is_released(&self) -> bool {
        self.released.get()
    }
}
