//! A downstream connection while it is open.

use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;

use crate::proxy::pod::PodState;

use super::Worker;

/// A downstream connection that the drain waits for.
pub(in crate::proxy) struct OpenConnection {
    id: u64,
    pub(in crate::proxy) worker: Rc<Worker>,
    pub(in crate::proxy) pod: Rc<PodState>,
    /// The address that the client chose.
    pub(in crate::proxy) asked: IpAddr,
}

impl OpenConnection {
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

impl Worker {
    /// Counts a connection as open until the guard is dropped.
    pub(in crate::proxy) fn open_connection(
        self: &Rc<Self>,
        pod: &Rc<PodState>,
        to: IpAddr,
    ) -> OpenConnection {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        self.connections.borrow_mut().insert(id, None);
        self.recorder.accepted();
        pod.recorder.accepted();
        OpenConnection {
            id,
            worker: Rc::clone(self),
            pod: Rc::clone(pod),
            asked: to,
        }
    }
}
