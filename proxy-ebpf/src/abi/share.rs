//! Sets that are split by weight: groups of slots, and the table by which one of them is drawn.
//!
//! The table is that of the alias method (Walker, "An Efficient Method for Generating Discrete Random
//! Variables with General Distributions", 1977): each place holds a part of its own group and is
//! filled up with a part of one other, so that drawing takes one look, however many groups there are.

use super::frontend::Choice;

/// Slots of a set that lie side by side, and how one of them is chosen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Group {
    begin: u32,
    count: u32,
    choice: u8,
    reserved: [u8; 3],
}

impl Group {
    /// `count` slots from `begin` on; none: connections are refused.
    #[inline(always)]
    pub const fn new(begin: u32, count: u32, choice: Choice) -> Self {
        Self {
            begin,
            count,
            choice: choice.byte(),
            reserved: [0; 3],
        }
    }

    /// The first slot.
    #[inline(always)]
    pub const fn begin(&self) -> u32 {
        self.begin
    }

    /// How many there are.
    #[inline(always)]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// How one is chosen.
    #[inline(always)]
    pub const fn choice(&self) -> Choice {
        Choice::of_byte(self.choice)
    }
}

/// Value of the `SHARES` map: one place of a set's table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    threshold: u32,
    own: Group,
    other: Group,
}

const _: () = assert!(size_of::<Share>() == 28, "Share must have no padding");

impl Share {
    /// Builds the value: `own` has `threshold` / 2³² of the place, `other` the rest.
    pub const fn new(threshold: u32, own: Group, other: Group) -> Self {
        Self {
            threshold,
            own,
            other,
        }
    }

    /// Who has the part of the place that a random number falls on.
    #[inline(always)]
    pub const fn drawn(&self, random: u32) -> &Group {
        if random < self.threshold {
            &self.own
        } else {
            &self.other
        }
    }
}

// SAFETY: `repr(C)`, size asserted above: no padding, and every bit pattern is a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Share {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_its_own_up_to_the_threshold() {
        let [own, other] =
            [(0, 1), (1, 3)].map(|(begin, count)| Group::new(begin, count, Choice::Random));
        let share = Share::new(5, own, other);
        assert_eq!([4, 5].map(|random| *share.drawn(random)), [own, other]);
        assert_eq!(own.choice(), Choice::Random);
    }
}
