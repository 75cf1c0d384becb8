//! How long to wait for what no event announces.

use std::time::{Duration, Instant};

/// A process enters its namespace within milliseconds of its creation.
const FIRST: Duration = Duration::from_millis(1);
/// Longest wait between two looks.
const LONGEST: Duration = Duration::from_millis(50);
/// After this, only events count.
const BUDGET: Duration = Duration::from_secs(10);

/// Waits of 1 ms, doubled up to 50 ms, for 10 s in all.
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

    /// The next wait; `None` when the budget is used up.
    pub(super) fn next(&mut self) -> Option<Duration> {
        if Instant::now() >= self.until {
            return None;
        }
        let wait = self.wait;
        self.wait = LONGEST.min(wait * 2);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_the_budget() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..8)
            .filter_map(|_| backoff.next())
            .map(|wait| wait.as_millis())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 50, 50]);
        backoff.until = Instant::now();
        assert_eq!(backoff.next(), None);
    }
}
