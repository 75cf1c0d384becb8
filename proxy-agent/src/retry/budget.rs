//! A retry budget: tokens that requests bring and retries take, each for a while.

use std::time::Duration;

use crate::model::RetryBudget;

/// Parts of the time for which a token counts: a token is forgotten within a tenth of it.
const SLOTS: usize = 10;

/// Price of one retry; what a request brings is a part of it.
const RETRY: i64 = 1_000_000;

/// What came in and what was spent over the last while. Time is passed in, as passed since any
/// fixed moment.
#[derive(Clone, Debug)]
pub struct Budget {
    of: RetryBudget,
    /// Balance of each part of the while, by number of the part modulo [`SLOTS`].
    slots: [i64; SLOTS],
    /// Number of the newest part.
    newest: u128,
}

impl Budget {
    /// Nothing came in yet.
    pub fn new(of: RetryBudget, now: Duration) -> Self {
        Self {
            of,
            slots: [0; SLOTS],
            newest: part(&of, now),
        }
    }

    /// Whether it is this one's.
    pub fn is_of(&self, of: &RetryBudget) -> bool {
        self.of == *of
    }

    /// A request came.
    pub fn deposit(&mut self, now: Duration) {
        let brought = i64::from(self.of.per_million);
        let slot = self.slot(now);
        *slot = slot.saturating_add(brought);
    }

    /// Takes one retry's tokens, if they are there.
    pub fn withdraw(&mut self, now: Duration) -> bool {
        self.slot(now);
        let came_in: i64 = self.slots.iter().sum();
        let ttl_ms = i64::try_from(self.of.ttl.as_millis()).unwrap_or(i64::MAX);
        let always = i64::from(self.of.min_per_second)
            .saturating_mul(ttl_ms)
            .saturating_mul(RETRY / 1_000);
        if always.saturating_add(came_in) < RETRY {
            return false;
        }
        let slot = self.slot(now);
        *slot = slot.saturating_sub(RETRY);
        true
    }

    /// Whether it is as good as new: everything in it is forgotten.
    pub fn is_stale(&self, now: Duration) -> bool {
        part(&self.of, now) >= self.newest + SLOTS as u128
    }

    /// The newest part, what is too old being forgotten.
    fn slot(&mut self, now: Duration) -> &mut i64 {
        let present = part(&self.of, now).max(self.newest);
        for forgotten in self.newest + 1..=present.min(self.newest + SLOTS as u128) {
            self.slots[index(forgotten)] = 0;
        }
        self.newest = present;
        &mut self.slots[index(present)]
    }
}

/// Number of the part of its while that a moment falls into.
fn part(of: &RetryBudget, now: Duration) -> u128 {
    let each_ns = of.ttl.as_nanos() / SLOTS as u128;
    now.as_nanos() / each_ns.max(1)
}

fn index(part: u128) -> usize {
    usize::try_from(part % SLOTS as u128).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn of(per_million: u32, min_per_second: u32) -> RetryBudget {
        RetryBudget {
            per_million,
            min_per_second,
            ttl: Duration::from_secs(10),
        }
    }

    const START: Duration = Duration::from_secs(1_000);

    fn retries(budget: &mut Budget, now: Duration) -> usize {
        (0..1_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_share_of_the_requests_may_be_retries() {
        let mut budget = Budget::new(of(200_000, 0), START);
        assert_eq!(retries(&mut budget, START), 0, "none without requests");
        for _ in 0..50 {
            budget.deposit(START);
        }
        assert_eq!(retries(&mut budget, START), 10);
        assert_eq!(retries(&mut budget, START), 0);
    }

    #[test]
    fn a_few_are_always_allowed_and_come_back_with_time() {
        let mut budget = Budget::new(of(0, 3), START);
        assert_eq!(retries(&mut budget, START), 30, "3 a second for 10 s");
        assert_eq!(retries(&mut budget, START + Duration::from_secs(5)), 0);
        assert_eq!(retries(&mut budget, START + Duration::from_secs(10)), 30);
    }

    #[test]
    fn a_request_counts_for_the_while_and_no_longer() {
        for (seconds, allowed) in [(0, 1), (8, 1), (10, 0), (1_000_000, 0)] {
            let mut budget = Budget::new(of(1_000_000, 0), START);
            budget.deposit(START);
            let later = START + Duration::from_secs(seconds);
            assert_eq!(retries(&mut budget, later), allowed, "after {seconds} s");
        }
    }

    #[test]
    fn what_is_as_good_as_new_is_told() {
        let mut budget = Budget::new(of(0, 1), START);
        assert!(budget.withdraw(START));
        assert!(!budget.is_stale(START + Duration::from_secs(9)));
        assert!(budget.is_stale(START + Duration::from_secs(10)));
    }

    proptest! {
        #[test]
        fn no_more_is_spent_in_a_while_than_is_allowed(
            per_million in 0_u32..2_000_000,
            min_per_second in 0_u32..20,
            steps in prop::collection::vec((any::<bool>(), 0_u64..2_000), 1..200),
        ) {
            let budget_of = of(per_million, min_per_second);
            let mut budget = Budget::new(budget_of, START);
            let (mut now, mut deposits, mut spent) = (START, 0_u64, 0_u64);
            for (deposit, wait_ms) in steps {
                now += Duration::from_millis(wait_ms);
                if now - START >= budget_of.ttl {
                    break;
                }
                if deposit {
                    budget.deposit(now);
                    deposits += 1;
                } else if budget.withdraw(now) {
                    spent += 1;
                }
            }
            let allowed = deposits * u64::from(per_million) / 1_000_000;
            prop_assert!(spent <= allowed + 10 * u64::from(min_per_second));
        }
    }
}
