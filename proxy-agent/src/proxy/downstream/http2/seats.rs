//! Tasks that serve one stream after the other. To make one for each and to free it again costs as
//! much as a tenth of what else the agent does for a small request.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

/// Tasks of one connection that wait for work; one more ends.
const MAX_WAITING: usize = 4;

/// The tasks of one connection. When it is dropped, those that wait end.
pub(super) struct Seats<T> {
    waiting: RefCell<Vec<Rc<Seat<T>>>>,
}

struct Seat<T> {
    work: Cell<Option<T>>,
    waker: RefCell<Waker>,
}

impl<T: 'static> Seats<T> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            waiting: RefCell::default(),
        })
    }

    /// Has a task do `work`, one that waits if there is one.
    pub(super) fn put<F>(self: &Rc<Self>, work: T, serve: impl Fn(T) -> F + 'static)
    where
        F: Future<Output = ()>,
    {
        let waiting = self.waiting.borrow_mut().pop();
        if let Some(seat) = waiting {
            seat.work.set(Some(work));
            seat.waker.borrow().wake_by_ref();
            return;
        }
        let seats = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let seat = Seat::new();
            let mut next = Some(work);
            while let Some(work) = next {
                serve(work).await;
                next = seat.wait(&seats).await;
            }
        });
    }
}

impl<T> Seat<T> {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            work: Cell::new(None),
            waker: RefCell::new(Waker::noop().clone()),
        })
    }

    /// The next work; none if there are enough that wait, or the connection is gone.
    async fn wait(self: &Rc<Self>, seats: &Weak<Seats<T>>) -> Option<T> {
        {
            let seats = seats.upgrade()?;
            let mut waiting = seats.waiting.borrow_mut();
            if waiting.len() >= MAX_WAITING {
                return None;
            }
            waiting.push(Rc::clone(self));
        }
        poll_fn(|cx| match self.work.take() {
            None if seats.strong_count() > 0 => {
                self.waker.borrow_mut().clone_from(cx.waker());
                Poll::Pending
            }
            work => Poll::Ready(work),
        })
        .await
    }
}

impl<T> Drop for Seats<T> {
    fn drop(&mut self) {
        for seat in self.waiting.take() {
            seat.waker.borrow().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    /// Lets all tasks go on until they wait.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    /// Works, and which tasks did them.
    type Done = Rc<RefCell<Vec<(u32, tokio::task::Id)>>>;

    /// Takes down its work, in the next turn.
    fn recorder() -> (
        Done,
        impl Fn(u32) -> Pin<Box<dyn Future<Output = ()>>> + Clone,
    ) {
        let done = Done::default();
        let into = Rc::clone(&done);
        let serve = move |work| -> Pin<Box<dyn Future<Output = ()>>> {
            let into = Rc::clone(&into);
            Box::pin(async move {
                tokio::task::yield_now().await;
                into.borrow_mut().push((work, tokio::task::id()));
            })
        };
        (done, serve)
    }

    #[tokio::test(flavor = "local")]
    async fn a_task_that_has_done_its_work_does_the_next() {
        let seats = Seats::new();
        let (done, serve) = recorder();
        for work in 0..3 {
            seats.put(work, serve.clone());
            settle().await;
        }
        let done = done.borrow();
        let works: Vec<_> = done.iter().map(|(work, _)| *work).collect();
        assert_eq!(works, [0, 1, 2]);
        assert!(done.iter().all(|(_, task)| *task == done[0].1), "{done:?}");
    }

    #[tokio::test(flavor = "local")]
    async fn work_at_the_same_time_has_a_task_each_and_few_of_them_stay() {
        let seats = Seats::new();
        let (done, serve) = recorder();
        let many = u32::try_from(3 * MAX_WAITING).unwrap();
        for work in 0..many {
            seats.put(work, serve.clone());
        }
        settle().await;
        let mut tasks: Vec<_> = done.borrow().iter().map(|(_, task)| *task).collect();
        tasks.dedup();
        assert_eq!(tasks.len(), 3 * MAX_WAITING);
        assert_eq!(seats.waiting.borrow().len(), MAX_WAITING);
    }

    #[tokio::test(flavor = "local")]
    async fn tasks_end_with_their_connection_and_finish_what_they_do() {
        let seats = Seats::new();
        let (done, serve) = recorder();
        let held = Rc::new(());
        for work in 0..2 {
            let (serve, kept) = (serve.clone(), Rc::clone(&held));
            seats.put(work, move |work| {
                let _kept = &kept;
                serve(work)
            });
            settle().await;
            if work == 0 {
                assert_eq!(Rc::strong_count(&held), 2, "the control: a task waits");
            }
        }
        seats.put(2, serve);
        drop(seats);
        settle().await;
        assert_eq!(Rc::strong_count(&held), 1, "all tasks have ended");
        assert_eq!(done.borrow().len(), 3);
    }
}
