//! The retry budgets of one cluster at one worker, each as long as anything is in it.

use std::cell::RefCell;

use tokio::time::Instant;

use crate::model::RetryBudget;
use crate::retry::Budget;

/// Rules of one cluster may have budgets that differ; those that do not share one.
#[derive(Debug)]
pub(super) struct Budgets {
    since: Instant,
    all: RefCell<Vec<Budget>>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            all: RefCell::default(),
        }
    }
}

impl Budgets {
    /// A request came whose rule has this budget.
    pub(super) fn deposit(&self, of: &RetryBudget) {
        let now = self.since.elapsed();
        self.with(of, |budget| budget.deposit(now));
    }

    /// Takes one retry's tokens, if they are there.
    pub(super) fn withdraw(&self, of: &RetryBudget) -> bool {
        let now = self.since.elapsed();
        self.with(of, |budget| budget.withdraw(now))
    }

    fn with<T>(&self, of: &RetryBudget, act: impl FnOnce(&mut Budget) -> T) -> T {
        let mut all = self.all.borrow_mut();
        if let Some(budget) = all.iter_mut().find(|budget| budget.is_of(of)) {
            return act(budget);
        }
        let now = self.since.elapsed();
        // What is forgotten here is as good as what would be made anew.
        all.retain(|budget| !budget.is_stale(now));
        let mut budget = Budget::new(*of, now);
        let result = act(&mut budget);
        all.push(budget);
        result
    }
}
