//! Where hyper spawns the tasks of HTTP/2 connections: on the worker's own thread.

use hyper::rt::Executor;

/// Spawns on the current thread's runtime.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalExec;

impl<F: Future + 'static> Executor<F> for LocalExec {
    fn execute(&self, future: F) {
        // The task ends with its connection; nobody waits for it.
        drop(tokio::task::spawn_local(async move {
            future.await;
        }));
    }
}
