//! A downstream connection as its worker counts it.

use std::rc::Rc;
use std::task::Waker;

use super::Worker;
use crate::proxy::pod::PodState;

/// A downstream connection that the drain waits for.
pub(in crate::proxy) struct OpenConnection {
    pub(super) id: u64,
    pub(in crate::proxy) worker: Rc<Worker>,
    pub(in crate::proxy) pod: Rc<PodState>,
    /// The pod asks for acceleration.
    pub(in crate::proxy) accelerates: bool,
}

impl OpenConnection {
    /// Counts why it is not accelerated, if the pod asks for that.
    pub(in crate::proxy) fn goes_by_tcp(&self, reason: &'static str) {
        if self.accelerates {
            self.worker.recorder.unaccelerated(reason);
        }
    }

    /// Has `waker` woken when the drain begins.
    pub(in crate::proxy) fn wake_on_drain(&self, waker: &Waker) {
        let mut connections = self.worker.connections.borrow_mut();
        connections.insert(self.id, Some(waker.clone()));
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(&self.id);
        self.worker.recorder.closed();
        self.pod.recorder.closed();
    }
}
