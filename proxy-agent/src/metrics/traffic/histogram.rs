//! A latency histogram of fixed size and bounded relative error, written without a lock.
//!
//! Buckets are log-linear, after HdrHistogram: every power of two is cut into [`STEPS`] equal
//! steps, so a bucket is never wider than 1/8 of its lower bound. A quantile answers with the
//! highest value of its bucket: never below the true one, and above it by less than 12.5 %.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// log2 of [`STEPS`].
const STEP_BITS: u32 = 3;
/// Steps in each power of two; 1/8 = 12.5 % is the bound on the relative error.
const STEPS: usize = 1 << STEP_BITS;
/// Values have at most this many bits: 2³² µs are 71 minutes.
const VALUE_BITS: u32 = 32;
/// The largest value that is told apart, microseconds; longer ones count as this.
const MAX_US: u64 = (1 << VALUE_BITS) - 1;
/// Values below [`STEPS`] have a bucket each, every power of two above has `STEPS` of them.
const BUCKETS: usize = STEPS * (VALUE_BITS - STEP_BITS + 1) as usize;

const _: () = assert!(
    size_of::<Histogram>() <= 2048,
    "a histogram per worker and cluster must stay small"
);

/// Counts durations from 1 µs to 71 minutes. One thread writes, any thread reads.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum_us: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one duration. Only ever called by one thread: a load and a store, no locked
    /// instruction.
    pub fn record(&self, value: Duration) {
        let us = u64::try_from(value.as_micros())
            .unwrap_or(MAX_US)
            .min(MAX_US);
        if let Some(bucket) = self.buckets.get(bucket_of(us)) {
            bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
        }
        let sum = self.sum_us.load(Relaxed).wrapping_add(us);
        self.sum_us.store(sum, Relaxed);
    }

    /// Adds what was counted so far to `totals`.
    pub fn add_to(&self, totals: &mut HistogramTotals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Relaxed);
        }
        totals.sum_us = totals.sum_us.wrapping_add(self.sum_us.load(Relaxed));
    }
}

/// The sum of several [`Histogram`]s, at one instant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HistogramTotals {
    buckets: Box<[u64]>,
    sum_us: u64,
}

impl Default for HistogramTotals {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into(),
            sum_us: 0,
        }
    }
}

impl HistogramTotals {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum, microseconds.
    pub const fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// How many were shorter than 2^`bits` µs; exact, since that is a border between buckets.
    pub fn count_below_power_of_two(&self, bits: u32) -> u64 {
        let border = if bits >= VALUE_BITS {
            BUCKETS
        } else {
            bucket_of(1 << bits)
        };
        self.buckets.iter().take(border).sum()
    }

    /// The duration, in microseconds, that `quantile` (0 to 1) of the counted ones do not exceed:
    /// at least the true one, and less than 12.5 % above it. 0 if nothing was counted.
    pub fn quantile_us(&self, quantile: f64) -> u64 {
        let count = self.count();
        let mut remaining = rank(quantile, count);
        for (bucket, n) in self.buckets.iter().enumerate() {
            if *n > 0 && *n >= remaining {
                return highest_of(bucket);
            }
            remaining -= n;
        }
        0
    }

    /// Adds another sum to this one.
    pub fn merge(&mut self, other: &Self) {
        for (total, n) in self.buckets.iter_mut().zip(&other.buckets) {
            *total += n;
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }
}

/// Place, from 1, of the quantile among `count` sorted values (nearest rank).
#[expect(
    clippy::cast_possible_truncation,
    reason = "the quantile is clamped to 0..=1 and the rank to 1..=count"
)]
fn rank(quantile: f64, count: u64) -> u64 {
    let place = (quantile.clamp(0.0, 1.0) * count as f64).ceil() as u64;
    place.clamp(1, count.max(1))
}

/// Index of the bucket that counts `us`, which is at most [`MAX_US`].
#[expect(
    clippy::cast_possible_truncation,
    reason = "the value has at most 32 bits, and what is cast fewer"
)]
const fn bucket_of(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let power = us.ilog2();
    let step = (us >> (power - STEP_BITS)) as usize - STEPS;
    (power - STEP_BITS + 1) as usize * STEPS + step
}

/// The highest value that `bucket` counts, microseconds.
const fn highest_of(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let step = (bucket % STEPS + STEPS) as u64;
    ((step + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn totals_of(values: &[u64]) -> HistogramTotals {
        let histogram = Histogram::default();
        for us in values {
            histogram.record(Duration::from_micros(*us));
        }
        let mut totals = HistogramTotals::default();
        histogram.add_to(&mut totals);
        totals
    }

    #[test]
    fn every_bucket_begins_where_the_one_before_ends() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(highest_of(bucket)), bucket);
            if bucket + 1 < BUCKETS {
                assert_eq!(bucket_of(highest_of(bucket) + 1), bucket + 1);
            }
        }
        assert_eq!(highest_of(BUCKETS - 1), MAX_US);
    }

    #[test]
    fn nothing_counted_has_no_quantile() {
        assert_eq!(totals_of(&[]).quantile_us(0.5), 0);
    }

    #[test]
    fn a_duration_beyond_the_range_counts_as_the_longest() {
        let histogram = Histogram::default();
        histogram.record(Duration::MAX);
        let mut totals = HistogramTotals::default();
        histogram.add_to(&mut totals);
        assert_eq!(totals.quantile_us(0.5), MAX_US);
        assert_eq!(totals.sum_us(), MAX_US);
    }

    #[test]
    fn borders_at_powers_of_two_are_exact() {
        let totals = totals_of(&[127, 128, 129, 1_000]);
        assert_eq!(totals.count_below_power_of_two(7), 1);
        assert_eq!(totals.count_below_power_of_two(8), 3);
        assert_eq!(totals.count_below_power_of_two(VALUE_BITS), 4);
    }

    proptest! {
        #[test]
        fn quantiles_err_by_less_than_an_eighth_and_upwards(
            mut values in proptest::collection::vec(1u64..=MAX_US, 1..200),
            quantile in 0.0f64..=1.0,
        ) {
            let totals = totals_of(&values);
            values.sort_unstable();
            let place = usize::try_from(rank(quantile, values.len() as u64)).unwrap();
            let exact = values[place - 1];
            let found = totals.quantile_us(quantile);
            prop_assert!(found >= exact);
            prop_assert!(found - exact < exact.div_ceil(8).max(1));
        }

        #[test]
        fn merging_adds(left in proptest::collection::vec(0u64..=MAX_US, 0..50),
                        right in proptest::collection::vec(0u64..=MAX_US, 0..50)) {
            let mut sum = totals_of(&left);
            sum.merge(&totals_of(&right));
            prop_assert_eq!(sum, totals_of(&[left, right].concat()));
        }
    }
}
