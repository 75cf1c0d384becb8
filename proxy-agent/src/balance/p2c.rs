//! Power of two choices by requests in flight (Mitzenmacher 2001, doi:10.1109/71.963420).

use super::{Draw, Load};

/// Index of the endpoint for the next request; `None` only when there is none.
///
/// Two different endpoints are drawn and the less loaded one wins. Between equals it is the one
/// that was picked longer ago, so that a quiet cluster is served in turn and not by luck.
pub fn pick<L: Load>(endpoints: &[L], draw: &Draw) -> Option<usize> {
    match endpoints.len() {
        0 => None,
        1 => Some(0),
        n => {
            let first = draw.below(n);
            // `1 + below(n - 1)` is in 1..n, so the second is never the first.
            let second = (first + 1 + draw.below(n - 1)) % n;
            let key = |index: usize| (endpoints[index].in_flight(), endpoints[index].last_pick());
            Some(if key(second) < key(first) {
                second
            } else {
                first
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Fake {
        in_flight: u32,
        last_pick: u64,
    }

    impl Load for Fake {
        fn in_flight(&self) -> u32 {
            self.in_flight
        }
        fn last_pick(&self) -> u64 {
            self.last_pick
        }
        fn weight(&self) -> u32 {
            1
        }
        fn credit(&self) -> i64 {
            0
        }
        fn set_credit(&self, _credit: i64) {}
    }

    /// Picks `rounds` times, each request ending before the next begins.
    fn counts(mut endpoints: Vec<Fake>, rounds: u64) -> Vec<u64> {
        let draw = Draw::new(42);
        let mut counts = vec![0; endpoints.len()];
        for round in 1..=rounds {
            let index = pick(&endpoints, &draw).unwrap();
            endpoints[index].last_pick = round;
            counts[index] += 1;
        }
        counts
    }

    #[test]
    fn no_endpoint_is_none_and_one_is_always_picked() {
        let draw = Draw::new(1);
        assert_eq!(pick::<Fake>(&[], &draw), None);
        assert_eq!(pick(&[Fake::default()], &draw), Some(0));
    }

    #[test]
    fn equal_load_spreads_evenly() {
        let counts = counts(vec![Fake::default(); 3], 3_000);
        let chi_squared: f64 = counts
            .iter()
            .map(|&n| (f64::from(u32::try_from(n).unwrap()) - 1_000.0).powi(2) / 1_000.0)
            .sum();
        // 2 degrees of freedom: 5.99 is the 95th percentile.
        assert!(chi_squared < 5.99, "{counts:?}: {chi_squared}");
    }

    #[test]
    fn a_loaded_endpoint_is_avoided() {
        let mut endpoints = vec![Fake::default(); 3];
        endpoints[1].in_flight = 10;
        assert_eq!(counts(endpoints, 1_000)[1], 0);
    }

    #[test]
    fn two_equals_alternate() {
        assert_eq!(counts(vec![Fake::default(); 2], 1_000), [500, 500]);
    }
}
