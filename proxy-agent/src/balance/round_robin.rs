//! Each endpoint in turn.

use std::cell::Cell;

/// A worker's place in the round of one cluster.
#[derive(Debug)]
pub struct RoundRobin(Cell<usize>);

impl RoundRobin {
    /// Starts at `offset`: workers that start at different places do not all favour the first.
    pub const fn new(offset: usize) -> Self {
        Self(Cell::new(offset))
    }

    /// Index of the endpoint for the next request; `None` only when `len` is 0.
    pub fn pick(&self, len: usize) -> Option<usize> {
        let turn = self.0.get();
        let index = turn.checked_rem(len)?;
        self.0.set(turn.wrapping_add(1));
        Some(index)
    }

    /// Where the round stands, to go on from in a rebuilt cluster.
    pub const fn turn(&self) -> usize {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_gets_its_turn() {
        let round = RoundRobin::new(2);
        let picks: Vec<_> = (0..6).filter_map(|_| round.pick(3)).collect();
        assert_eq!(picks, [2, 0, 1, 2, 0, 1]);
        assert_eq!(round.pick(0), None);
    }

    #[test]
    fn a_cluster_that_shrinks_is_still_served() {
        let round = RoundRobin::new(0);
        for _ in 0..5 {
            round.pick(5);
        }
        assert!(round.pick(2).is_some_and(|index| index < 2));
    }
}
