//! Where hyper spawns the tasks of HTTP/2 connections: on the worker's own thread.

use hyper::rt::Executor;

/// Spawns on the current thread's runtime.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalExec;

impl<F> Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // The task ends with its connection; nobody waits for it. As it is: in a block that waits
        // for it there would be room for it twice.
        drop(tokio::task::spawn_local(future));
    }
}
