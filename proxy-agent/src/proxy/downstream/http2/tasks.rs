//! Tasks that serve streams, one after the other: to make one, and to free it, takes more instructions than all that is
//! decided about a small request (docs/performance.md).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Tasks of one worker that wait for work, whatever the connection; one more ends. Each is some 2 KiB, until the
/// worker's next sweep.
const MAX_IDLE: usize = 64;

/// What such a task does.
pub(in crate::proxy) trait Work: 'static {
    fn run(self) -> impl Future<Output = ()>;
}

/// The tasks of one worker that wait for work.
pub(in crate::proxy) struct Tasks<W> {
    idle: RefCell<Vec<Rc<Seat<W>>>>,
}

/// Where a task finds what it does next.
struct Seat<W> {
    next: Cell<Next<W>>,
    waker: Cell<Waker>,
}

enum Next<W> {
    Wait,
    Do(W),
    End,
}

impl<W> Default for Tasks<W> {
    fn default() -> Self {
        Self {
            idle: RefCell::default(),
        }
    }
}

impl<W: Work> Tasks<W> {
    /// Does `work` in a task that waits, or in a new one.
    pub(super) fn spawn(self: &Rc<Self>, work: W) {
        let waiting = self.idle.borrow_mut().pop();
        match waiting {
            Some(seat) => seat.tell(Next::Do(work)),
            None => {
                let seat = Rc::new(Seat {
                    next: Cell::new(Next::Do(work)),
                    waker: Cell::new(Waker::noop().clone()),
                });
                tokio::task::spawn_local(run(Rc::clone(self), seat));
            }
        }
    }

    /// Ends those that wait, so that a burst leaves nothing behind.
    pub(in crate::proxy) fn sweep(&self) {
        for seat in self.idle.take() {
            seat.tell(Next::End);
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
    fn tell(&self, next: Next<W>) {
        self.next.set(next);
        self.waker.replace(Waker::noop().clone()).wake();
    }

    /// The next work; `None` is the end.
    fn poll(&self, cx: &Context<'_>) -> Poll<Option<W>> {
        match self.next.replace(Next::Wait) {
            Next::Do(work) => Poll::Ready(Some(work)),
            Next::End => Poll::Ready(None),
            Next::Wait => {
                self.waker.set(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

async fn run<W: Work>(tasks: Rc<Tasks<W>>, seat: Rc<Seat<W>>) {
    while let Some(work) = poll_fn(|cx| seat.poll(cx)).await {
        work.run().await;
        if !tasks.keep(&seat) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::task::{Id, yield_now};

    use super::*;

    /// Tells which task does it, and waits until it may end.
    struct Told {
        tell: oneshot::Sender<Id>,
        end: oneshot::Receiver<bool>,
        /// How many have ended.
        ended: Rc<Cell<usize>>,
    }

    impl Work for Told {
        async fn run(self) {
            let _ = self.tell.send(tokio::task::id());
            let panics = self.end.await.unwrap_or_default();
            assert!(!panics, "as the test asks for");
            self.ended.set(self.ended.get() + 1);
        }
    }

    #[derive(Default)]
    struct Fixture {
        tasks: Rc<Tasks<Told>>,
        ended: Rc<Cell<usize>>,
    }

    impl Fixture {
        /// Begins work; returns its task, and what ends it: dropped, or told whether to panic.
        async fn begin(&self) -> (Id, oneshot::Sender<bool>) {
            let ((tell, told), (ender, end)) = (oneshot::channel(), oneshot::channel());
            self.tasks.spawn(Told {
                tell,
                end,
                ended: Rc::clone(&self.ended),
            });
            (told.await.expect("it is done"), ender)
        }

        /// Waits until so many have ended, and what comes of it is over.
        async fn ended(&self, count: usize) {
            until(|| self.ended.get() == count).await;
            for _ in 0..100 {
                yield_now().await;
            }
        }

        fn idle(&self) -> usize {
            self.tasks.idle.borrow().len()
        }
    }

    async fn until(is_so: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if is_so() {
                return;
            }
            yield_now().await;
        }
        panic!("it never was");
    }

    #[tokio::test(flavor = "local")]
    async fn a_task_that_is_done_does_the_next_and_one_that_is_not_does_not() {
        let fixture = Fixture::default();
        let (first, end) = fixture.begin().await;
        let (beside, _busy) = fixture.begin().await;
        assert_ne!(beside, first);
        drop(end);
        fixture.ended(1).await;
        let (next, _end) = fixture.begin().await;
        assert_eq!(next, first);
        assert_eq!(fixture.idle(), 0);
    }

    #[tokio::test(flavor = "local")]
    async fn more_than_the_bound_work_at_a_time_and_no_more_wait() {
        let fixture = Fixture::default();
        for round in 1..3 {
            let mut ends = Vec::new();
            for _ in 0..MAX_IDLE + 10 {
                ends.push(fixture.begin().await);
            }
            assert_eq!(fixture.idle(), 0);
            drop(ends);
            fixture.ended(round * (MAX_IDLE + 10)).await;
            assert_eq!(fixture.idle(), MAX_IDLE);
        }
    }

    #[tokio::test(flavor = "local")]
    async fn one_that_waits_holds_nothing_and_a_sweep_ends_it() {
        let fixture = Fixture::default();
        let (first, end) = fixture.begin().await;
        assert_eq!(Rc::strong_count(&fixture.ended), 2);
        drop(end);
        fixture.ended(1).await;
        assert_eq!(Rc::strong_count(&fixture.ended), 1);
        // Its own, and the test's.
        assert_eq!((fixture.idle(), Rc::strong_count(&fixture.tasks)), (1, 2));
        fixture.tasks.sweep();
        until(|| Rc::strong_count(&fixture.tasks) == 1).await;
        assert_eq!(fixture.idle(), 0);
        let (next, _end) = fixture.begin().await;
        assert_ne!(next, first);
    }

    #[tokio::test(flavor = "local")]
    async fn work_that_panics_takes_only_its_own_task_along() {
        let fixture = Fixture::default();
        let (_, end) = fixture.begin().await;
        let (beside, other) = fixture.begin().await;
        end.send(true).expect("it waits");
        until(|| Rc::strong_count(&fixture.tasks) == 2).await;
        drop(other);
        fixture.ended(1).await;
        let (next, _end) = fixture.begin().await;
        assert_eq!(next, beside);
    }
}
