//! How long to wait for what no event announces.

use std::time::{Duration, Instant};

/// A process enters its namespace within milliseconds of its creation.
const FIRST: Duration = Duration::from_millis(1);
/// Longest wait between two looks.
const LONGEST: Duration = Duration::from_millis(50);
/// How long something that is under way may take.
const BUDGET: Duration = Duration::from_secs(10);
/// From then on: often enough to recover without a restart, seldom enough to cost nothing.
const LATE: Duration = Duration::from_secs(5);

/// Waits of 1 ms, doubled up to 50 ms, for 10 s in all; then of 5 s. An event starts it anew.
#[derive(Debug)]
pub(super) struct Backoff {
    wait: Duration,
    until: Instant,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self {
            wait: FIRST,
            until: Instant::now() + BUDGET,
        }
    }

    /// Whether what is waited for has taken longer than it should.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    pub(super) fn next(&mut self) -> Duration {
        if self.is_late() {
            return LATE;
        }
        let wait = self.wait;
        self.wait = LONGEST.min(wait * 2);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_rare_once_the_budget_is_spent() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 50, 50]);
        assert!(!backoff.is_late());
        backoff.until = Instant::now();
        assert!(backoff.is_late());
        assert_eq!(backoff.next(), LATE);
    }
}
