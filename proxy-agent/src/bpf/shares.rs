//! The table by which a group of a set is drawn by weight: [`proxy_ebpf::Share`], filled by Vose's
//! method ("A Linear Algorithm for Generating Random Numbers with a Given Distribution", 1991).

use proxy_ebpf::{Choice, Group, Share};

/// Endpoints with a share of a set's connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirectGroup {
    /// Its share, of the sum of all.
    pub weight: u64,
    /// Endpoints; none: its share is refused.
    pub count: u32,
    /// How one is chosen.
    pub choice: Choice,
}

/// What a whole place of the table is, of which a threshold is a part.
const WHOLE: u128 = 1 << 32;

/// The table of some groups, one place for each. Where none has a weight all have the same.
pub(super) fn shares(groups: &[DirectGroup]) -> Vec<Share> {
    let total: u128 = groups.iter().map(|one| u128::from(one.weight)).sum();
    let number = groups.len() as u128;
    // What each has to place, in parts of which a place holds `total`.
    let mut left: Vec<u128> = match total {
        0 => vec![1; groups.len()],
        _ => groups
            .iter()
            .map(|one| u128::from(one.weight) * number)
            .collect(),
    };
    let place = total.max(1);
    let kernel = in_slots(groups);
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..groups.len()).partition(|index| left[*index] < place);
    let mut table: Vec<_> = kernel
        .iter()
        .map(|own| Share::new(u32::MAX, *own, *own))
        .collect();
    while let (Some(few), Some(many)) = (small.pop(), large.last().copied()) {
        // Less than a whole, since there was less than a place of it.
        let threshold = u32::try_from(left[few] * WHOLE / place).unwrap_or(u32::MAX);
        table[few] = Share::new(threshold, kernel[few], kernel[many]);
        left[many] -= place - left[few];
        if left[many] < place {
            large.pop();
            small.push(many);
        }
    }
    table
}

/// The groups, where they lie one after the other.
fn in_slots(groups: &[DirectGroup]) -> Vec<Group> {
    let placed = groups.iter().scan(0_u32, |begin, one| {
        let group = Group::new(*begin, one.count, one.choice);
        *begin = begin.saturating_add(one.count);
        Some(group)
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of all draws that each group gets, as the kernel draws, in 2³²nds.
    fn drawn(weights: &[u64]) -> Vec<f64> {
        let group = |weight: &u64| DirectGroup {
            weight: *weight,
            count: 1,
            choice: Choice::default(),
        };
        let groups: Vec<_> = weights.iter().map(group).collect();
        let table = shares(&groups);
        let mut parts = vec![0.0; groups.len()];
        // Where the threshold lies is found out by asking, as the programs do.
        for share in &table {
            let (mut low, mut high) = (0_u64, 1 << 32);
            let own = *share.drawn(0);
            while low < high {
                let middle = u64::midpoint(low, high);
                if u32::try_from(middle).is_ok_and(|random| *share.drawn(random) == own) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            let part = f64::from(u32::try_from(low).unwrap_or(u32::MAX)) / 2_f64.powi(32);
            parts[own.begin() as usize] += part;
            parts[share.drawn(u32::MAX).begin() as usize] += 1.0 - part;
        }
        let places = f64::from(u32::try_from(table.len()).unwrap());
        parts.into_iter().map(|part| part / places).collect()
    }

    #[test]
    fn each_group_is_drawn_as_often_as_its_weight_says() {
        for weights in [
            &[1][..],
            &[1, 1],
            &[90, 10],
            &[1, 999_999],
            &[5, 0, 5],
            &[7, 1, 1, 1, 90, 3, 8, 2, 2],
            &[0, 0],
            &[u64::MAX, 1, u64::MAX],
        ] {
            let parts = drawn(weights);
            #[expect(clippy::cast_precision_loss, reason = "compared with a margin")]
            let of = |weight: u64| weight as f64;
            let total: f64 = weights.iter().map(|weight| of(*weight)).sum();
            for (weight, part) in weights.iter().zip(&parts) {
                let expected = if total > 0.0 {
                    of(*weight) / total
                } else {
                    1.0 / of(weights.len() as u64)
                };
                assert!((part - expected).abs() < 1e-8, "{weights:?}: {parts:?}");
            }
        }
    }

    #[test]
    fn groups_lie_one_after_the_other() {
        let group = |count| DirectGroup {
            weight: 1,
            count,
            choice: Choice::RoundRobin,
        };
        let placed = in_slots(&[group(2), group(0), group(3)]);
        let expected = [(0, 2), (2, 0), (2, 3)];
        let expected = expected.map(|(begin, count)| Group::new(begin, count, Choice::RoundRobin));
        assert_eq!(placed, expected);
    }
}
