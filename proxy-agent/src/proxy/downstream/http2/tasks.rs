//! Tasks that serve streams, one after the other: to make one, and to free it, takes more instructions than all that is
//! decided about a small request (docs/performance.md).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Tasks of one worker that wait for work, whatever the connection; one more ends. Each is some 2 KiB.
const MAX_IDLE: usize = 64;

/// The tasks of one worker that wait for work.
pub(in crate::proxy) struct Tasks<W> {
    idle: RefCell<Vec<Rc<Seat<W>>>>,
}

/// Where a task finds what it does next.
struct Seat<W> {
    next: Cell<Option<W>>,
    waker: Cell<Waker>,
}

impl<W> Default for Tasks<W> {
    fn default() -> Self {
        Self {
            idle: RefCell::default(),
        }
    }
}

impl<W: 'static> Tasks<W> {
    /// Does `work` in a task that waits, or in a new one. All work of these tasks is done by the same function.
    pub(super) fn spawn(self: &Rc<Self>, work: W, done_by: impl AsyncFn(W) + 'static) {
        let waiting = self.idle.borrow_mut().pop();
        match waiting {
            Some(seat) => {
                seat.next.set(Some(work));
                seat.waker.replace(Waker::noop().clone()).wake();
            }
            None => drop(tokio::task::spawn_local(run(
                Rc::clone(self),
                work,
                done_by,
            ))),
        }
    }

    /// Has a task wait for work, if there is room.
    fn keep(&self, seat: &Rc<Seat<W>>) -> bool {
        let mut idle = self.idle.borrow_mut();
        let room = idle.len() < MAX_IDLE;
        if room {
            idle.push(Rc::clone(seat));
        }
        room
    }
}

impl<W> Seat<W> {
    fn poll(&self, cx: &Context<'_>) -> Poll<W> {
        match self.next.take() {
            Some(work) => Poll::Ready(work),
            None => {
                self.waker.set(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

async fn run<W: 'static>(tasks: Rc<Tasks<W>>, first: W, done_by: impl AsyncFn(W)) {
    let seat = Rc::new(Seat {
        next: Cell::new(Some(first)),
        waker: Cell::new(Waker::noop().clone()),
    });
    loop {
        let work = poll_fn(|cx| seat.poll(cx)).await;
        done_by(work).await;
        if !tasks.keep(&seat) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::task::{Id, LocalSet, yield_now};

    use super::*;

    /// Tells which task does it, and waits until it may end.
    type Work = (oneshot::Sender<Id>, oneshot::Receiver<()>);

    async fn work((tell, end): Work) {
        let _ = tell.send(tokio::task::id());
        let _ = end.await;
    }

    /// Spawns work; returns its task, and what ends it when it is dropped.
    async fn spawned(tasks: &Rc<Tasks<Work>>) -> (Id, oneshot::Sender<()>) {
        let ((tell, told), (end, ended)) = (oneshot::channel(), oneshot::channel());
        tasks.spawn((tell, ended), work);
        (told.await.expect("it is done"), end)
    }

    /// Until all that was ended is over.
    async fn settled(tasks: &Rc<Tasks<Work>>, idle: usize) {
        for _ in 0..1_000 {
            if tasks.idle.borrow().len() == idle {
                return;
            }
            yield_now().await;
        }
        panic!("{} tasks wait, not {idle}", tasks.idle.borrow().len());
    }

    #[tokio::test]
    async fn a_task_that_is_done_does_the_next_and_one_that_is_not_does_not() {
        let tasks = Rc::new(Tasks::default());
        let all = async {
            let (first, end) = spawned(&tasks).await;
            let (beside, _busy) = spawned(&tasks).await;
            assert_ne!(beside, first);
            drop(end);
            settled(&tasks, 1).await;
            let (next, _end) = spawned(&tasks).await;
            assert_eq!(next, first);
            assert!(tasks.idle.borrow().is_empty());
        };
        LocalSet::new().run_until(all).await;
    }

    #[tokio::test]
    async fn more_than_the_bound_work_at_a_time_and_no_more_wait() {
        let tasks = Rc::new(Tasks::default());
        let all = async {
            for _ in 0..2 {
                let mut ends = Vec::new();
                for _ in 0..MAX_IDLE + 10 {
                    ends.push(spawned(&tasks).await);
                }
                settled(&tasks, 0).await;
                drop(ends);
                settled(&tasks, MAX_IDLE).await;
            }
        };
        LocalSet::new().run_until(all).await;
    }
}
