//! A downstream connection as its worker counts it.

use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;

use proxy_ebpf::OrigDst;

use super::Worker;
use crate::proxy::pod::PodState;

/// A downstream connection that the drain waits for.
pub(in crate::proxy) struct OpenConnection {
    id: u64,
    pub(in crate::proxy) worker: Rc<Worker>,
    pub(in crate::proxy) pod: Rc<PodState>,
    /// The address that the client chose.
    pub(in crate::proxy) asked: IpAddr,
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

impl Worker {
    /// Counts a connection as open until the guard is dropped.
    pub(in crate::proxy) fn open_connection(
        self: &Rc<Self>,
        pod: &Rc<PodState>,
        to: &OrigDst,
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
            asked: to.socket_addr().ip(),
            accelerates: to.accelerates(),
        }
    }
}
