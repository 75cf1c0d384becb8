//! Endpoints of unequal weights, in turns that come to their shares.

use super::Load;

/// One unit of weight, finely enough to be divided by what is in flight.
const UNIT: i64 = 1 << 16;

/// Index of the endpoint for the next request; `None` only when there is none.
///
/// Smooth weighted round robin, as nginx has it: each turn gives every endpoint its weight as
/// credit, and the one with most pays all of it, so that a heavy endpoint's turns lie spread out.
/// `by_load` divides a weight by what is in flight, as Envoy's least request does where weights
/// differ. It looks at every endpoint: few clusters have weights, and those are small.
pub fn pick<L: Load>(endpoints: &[L], by_load: bool) -> Option<usize> {
    let mut total = 0_i64;
    let mut best: Option<(usize, i64)> = None;
    for (index, endpoint) in endpoints.iter().enumerate() {
        let busy = if by_load { endpoint.in_flight() } else { 0 };
        let share = i64::from(endpoint.weight()) * UNIT / (i64::from(busy) + 1);
        // Never nothing: what is owed nothing pays nothing, and one would have every turn.
        let share = share.max(1);
        total = total.saturating_add(share);
        let credit = endpoint.credit().saturating_add(share);
        endpoint.set_credit(credit);
        if best.is_none_or(|(_, most)| credit > most) {
            best = Some((index, credit));
        }
    }
    let (index, credit) = best?;
    endpoints[index].set_credit(credit.saturating_sub(total));
    Some(index)
}

/// Index of one at random, each by its weight. `word` is a uniform random word.
pub fn random<L: Load>(endpoints: &[L], word: u32) -> Option<usize> {
    let weight = |one: &L| u64::from(one.weight());
    let total: u128 = endpoints.iter().map(|one| u128::from(weight(one))).sum();
    // The word scaled to 0..total (Lemire 2019, doi:10.1145/3230636, without the rejection step).
    let mut left = u64::try_from((u128::from(word) * total) >> 32).unwrap_or(u64::MAX);
    endpoints.iter().position(|one| {
        let hit = left < weight(one);
        left = left.saturating_sub(weight(one));
        hit
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::balance::Draw;

    struct Fake {
        weight: u32,
        in_flight: u32,
        credit: Cell<i64>,
    }

    impl Load for Fake {
        fn in_flight(&self) -> u32 {
            self.in_flight
        }
        fn last_pick(&self) -> u64 {
            0
        }
        fn weight(&self) -> u32 {
            self.weight
        }
        fn credit(&self) -> i64 {
            self.credit.get()
        }
        fn set_credit(&self, credit: i64) {
            self.credit.set(credit);
        }
    }

    fn fakes(of: &[(u32, u32)]) -> Vec<Fake> {
        let fake = |(weight, in_flight): &(u32, u32)| Fake {
            weight: *weight,
            in_flight: *in_flight,
            credit: Cell::new(0),
        };
        of.iter().map(fake).collect()
    }

    fn counts(len: usize, picks: impl Iterator<Item = Option<usize>>) -> Vec<usize> {
        let mut counts = vec![0; len];
        for index in picks {
            counts[index.expect("an endpoint")] += 1;
        }
        counts
    }

    #[test]
    fn every_round_comes_to_the_weights_exactly() {
        let endpoints = fakes(&[(1, 0), (5, 0), (3, 0)]);
        for by_load in [false, true] {
            let picks = (0..90).map(|_| pick(&endpoints, by_load));
            assert_eq!(counts(3, picks), [10, 50, 30]);
        }
    }

    #[test]
    fn turns_of_a_heavy_endpoint_lie_spread_out() {
        let endpoints = fakes(&[(2, 0), (1, 0)]);
        let picks: Vec<_> = (0..6).filter_map(|_| pick(&endpoints, false)).collect();
        assert_eq!(picks, [0, 1, 0, 0, 1, 0]);
    }

    #[test]
    fn what_is_in_flight_counts_where_it_is_asked_for_alone() {
        let endpoints = fakes(&[(3, 2), (1, 0)]);
        let picks = (0..40).map(|_| pick(&endpoints, true));
        assert_eq!(counts(2, picks), [20, 20]);
        let endpoints = fakes(&[(3, 2), (1, 0)]);
        let picks = (0..40).map(|_| pick(&endpoints, false));
        assert_eq!(counts(2, picks), [30, 10]);
    }

    #[test]
    fn endpoints_with_more_in_flight_than_a_share_can_be_divided_by_have_turns_too() {
        let endpoints = fakes(&[(1, u32::MAX), (1, 1 << 20)]);
        let picks = (0..40).map(|_| pick(&endpoints, true));
        assert_eq!(counts(2, picks), [20, 20]);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let endpoints = fakes(&[(u32::MAX, 0); 1000]);
        let picks = (0..2000).map(|_| pick(&endpoints, true));
        assert_eq!(counts(1000, picks), vec![2; 1000]);
        assert_eq!(random(&endpoints, u32::MAX), Some(999));
    }

    #[test]
    fn chance_keeps_to_the_weights_and_none_is_none() {
        let endpoints = fakes(&[(1, 0), (9, 0)]);
        let draw = Draw::new(3);
        let picks = (0..10_000).map(|_| random(&endpoints, draw.word()));
        let found = counts(2, picks);
        assert!((900..1_100).contains(&found[0]), "{found:?}");
        assert_eq!(random::<Fake>(&[], 7), None);
        assert_eq!(pick::<Fake>(&[], true), None);
    }
}
