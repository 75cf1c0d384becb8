//! A worker's source of random words.

use std::cell::Cell;

/// SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2714064.2660195): one addition and three
/// multiplications a word, every seed is good, and equal seeds give equal words.
#[derive(Debug)]
pub struct Draw(Cell<u64>);

impl Draw {
    /// Starts the sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next word, uniform over all of `u32`.
    pub fn word(&self) -> u32 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (z ^ (z >> 31)).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// A number below `bound`, which must not be 0 (0 gives 0).
    pub fn below(&self, bound: usize) -> usize {
        // Multiply-shift instead of a remainder (Lemire 2019, doi:10.1145/3230636); the bias is
        // below 2^-10 for a million endpoints.
        let wide = u64::from(self.word()) * bound as u64;
        usize::try_from(wide >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_draw_equal_words() {
        let (a, b) = (Draw::new(7), Draw::new(7));
        assert!((0..100).all(|_| a.word() == b.word()));
        assert_ne!(Draw::new(7).word(), Draw::new(8).word());
    }

    #[test]
    fn below_stays_below_and_reaches_every_number() {
        let draw = Draw::new(1);
        let mut seen = [false; 5];
        for _ in 0..1_000 {
            seen[draw.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(draw.below(0), 0);
    }
}
