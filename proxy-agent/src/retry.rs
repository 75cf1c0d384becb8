//! When a request may be sent again, and how long to wait before. Pure: no clock, no randomness of
//! its own.

mod budget;

use std::time::Duration;

use crate::model::{Backoff, RetryOn, RetryShare};

pub use budget::Budget;

/// How a try went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// No endpoint took the connection.
    ConnectFailed,
    /// The endpoint refused the stream unseen.
    Refused,
    /// The connection ended, or the try's time ran out, before the response's head.
    Reset,
    /// The response's head is there.
    Answered {
        /// Its status.
        status: u16,
        /// Its gRPC status, if its head has one.
        grpc: Option<u16>,
    },
    /// Nothing that another try could better.
    Final,
}

impl RetryOn {
    /// Whether a try that went so is followed by another one.
    pub fn covers(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::ConnectFailed => self.connect_failure,
            Outcome::Refused => self.refused_stream,
            Outcome::Reset => self.reset,
            Outcome::Answered { status, grpc } => {
                self.statuses.iter().any(|range| range.contains(&status))
                    || grpc.is_some_and(|code| self.grpc.contains(&code))
            }
            Outcome::Final => false,
        }
    }
}

impl Backoff {
    /// How long to wait before retry `number`, which counts from 0. `draw` is a uniform random
    /// word: full jitter, so that requests which failed together do not come back together.
    pub fn wait(&self, number: u32, draw: u32) -> Duration {
        let doubled = 1_u32.checked_shl(number).unwrap_or(u32::MAX);
        let bound = self.base.saturating_mul(doubled).min(self.cap);
        bound
            .mul_f64(f64::from(draw) / f64::from(u32::MAX))
            .max(self.floor)
    }
}

/// Whether a cluster with `requests` under way, `retries` of them, has room for one more retry.
/// Retries of a cluster that fails as a whole would only add to its load.
pub fn within_budget(of: RetryShare, requests: u64, retries: u32) -> bool {
    let share = requests.saturating_mul(u64::from(of.per_ten_thousand)) / 10_000;
    u64::from(retries) < share.max(u64::from(of.min_concurrent))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn answered(status: u16, grpc: Option<u16>) -> Outcome {
        Outcome::Answered { status, grpc }
    }

    #[test]
    fn each_condition_covers_its_own_failures_alone() {
        let nothing = RetryOn::default();
        let connect = RetryOn {
            connect_failure: true,
            ..RetryOn::default()
        };
        let refused = RetryOn {
            refused_stream: true,
            ..RetryOn::default()
        };
        let reset = RetryOn {
            reset: true,
            ..RetryOn::default()
        };
        let gateway = RetryOn {
            statuses: vec![502..=504],
            ..RetryOn::default()
        };
        let unavailable = RetryOn {
            grpc: vec![14],
            ..RetryOn::default()
        };
        let outcomes = [
            Outcome::ConnectFailed,
            Outcome::Refused,
            Outcome::Reset,
            answered(503, None),
            answered(200, Some(14)),
            answered(200, Some(0)),
            answered(500, None),
            Outcome::Final,
        ];
        for (on, covered) in [
            (nothing, None),
            (connect, Some(0)),
            (refused, Some(1)),
            (reset, Some(2)),
            (gateway, Some(3)),
            (unavailable, Some(4)),
        ] {
            for (index, outcome) in outcomes.into_iter().enumerate() {
                assert_eq!(
                    on.covers(outcome),
                    covered == Some(index),
                    "{on:?} {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn the_bound_on_the_wait_doubles_up_to_the_cap() {
        let backoff = Backoff::default();
        let longest = |number| backoff.wait(number, u32::MAX).as_millis();
        let waits = [0, 1, 2, 3, 4, 31, 32, u32::MAX].map(longest);
        assert_eq!(waits, [25, 50, 100, 200, 250, 250, 250, 250]);
        assert_eq!(backoff.wait(3, 0), Duration::ZERO);
    }

    #[test]
    fn a_wait_is_never_below_its_floor() {
        let backoff = Backoff {
            floor: Duration::from_millis(100),
            base: Duration::from_millis(200),
            cap: Duration::from_secs(1),
        };
        assert_eq!(backoff.wait(0, 0), backoff.floor);
        assert_eq!(backoff.wait(0, u32::MAX), Duration::from_millis(200));
    }

    #[test]
    fn a_fifth_of_the_requests_may_be_retries_and_three_always() {
        for (requests, retries, allowed) in [
            (1, 0, true),
            (1, 2, true),
            (1, 3, false),
            (15, 3, false),
            (20, 3, true),
            (100, 19, true),
            (100, 20, false),
        ] {
            assert_eq!(
                within_budget(RetryShare::default(), requests, retries),
                allowed,
                "{retries} of {requests}"
            );
        }
    }

    #[test]
    fn a_cluster_may_allow_another_share() {
        let of = |per_ten_thousand, min_concurrent| RetryShare {
            per_ten_thousand,
            min_concurrent,
        };
        for (share, requests, retries, allowed) in [
            (of(0, 0), 1_000, 0, false),
            (of(0, 1), 1_000, 0, true),
            (of(0, 1), 1_000, 1, false),
            (of(10_000, 0), 7, 6, true),
            (of(10_000, 0), 7, 7, false),
            (of(50, 0), 400, 1, true),
            (of(50, 0), 400, 2, false),
        ] {
            let room = within_budget(share, requests, retries);
            assert_eq!(room, allowed, "{share:?}: {retries} of {requests}");
        }
    }

    proptest::proptest! {
        #[test]
        fn waits_stay_between_floor_and_cap(number: u32, draw: u32) {
            let backoff = Backoff { floor: Duration::from_millis(5), ..Backoff::default() };
            let wait = backoff.wait(number, draw);
            proptest::prop_assert!((backoff.floor..=backoff.cap).contains(&wait));
        }
    }
}
