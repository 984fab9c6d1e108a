// SPDX-License-Identifier: GPL-2.0

//! Tells most values that are not in a list by one look at six of their bits.

use core::ops::RangeInclusive;

/// A bit for each value that six neighbouring bits of a list's elements can have.
#[derive(Clone, Copy)]
pub(super) struct Filter {
    bits: u64,
    /// How far up the six bits are.
    shift: u8,
}

impl Filter {
    /// Lets every value pass.
    const ALL: Self = Self {
        bits: u64::MAX,
        shift: 0,
    };

    /// Lets the elements of a list pass, and as few others as it can: each element is the first and
    /// the last of its values, and `shifts` says how far up the six bits may be. An empty list lets
    /// all pass, as one of a rule does.
    pub(super) fn new(
        elements: impl Iterator<Item = (u64, u64)> + Clone,
        shifts: RangeInclusive<u8>,
    ) -> Self {
        let mut best = Self::ALL;
        for shift in shifts {
            let mut bits = 0u64;
            for (first, last) in elements.clone() {
                let [first, last] = [first, last].map(|end| end.wrapping_shr(shift.into()));
                bits |= between(first, last);
            }
            let filter = Self { bits, shift };
            if bits != 0 && filter.lets_pass() < best.lets_pass() {
                best = filter;
            }
            if best.lets_pass() == 1 {
                break;
            }
        }
        best
    }

    /// How many of the 64 values pass.
    pub(super) fn lets_pass(&self) -> u32 {
        self.bits.count_ones()
    }

    /// Whether `value` may be in the list.
    #[inline(always)]
    pub(super) fn passes(&self, value: u64) -> bool {
        let six = value.wrapping_shr(self.shift.into());
        self.bits.wrapping_shr(six as u32) & 1 != 0
    }
}

/// The bits of all that the last six bits of the numbers from `first` to `last` can be.
fn between(first: u64, last: u64) -> u64 {
    let more = last.wrapping_sub(first).min(63);
    // As many as there are, then turned to where they start.
    let ones = u64::MAX.wrapping_shr(63u32.wrapping_sub(more as u32));
    ones.rotate_left(first as u32 & 63)
}
