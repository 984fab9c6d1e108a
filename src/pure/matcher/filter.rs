// SPDX-License-Identifier: GPL-2.0

//! A filter of a list: most values that are not in the list are found out by one look at six bits.

use core::ops::RangeInclusive;

/// A bit for each value that six neighbouring bits of a list's elements can have.
#[derive(Clone, Copy)]
pub(super) struct Filter {
    bits: u64,
    /// The lowest of the six bits.
    shift: u8,
}

impl Filter {
    /// The filter that all values pass.
    const ALL: Self = Self {
        bits: u64::MAX,
        shift: 0,
    };

    /// Returns the filter that the elements of a list pass, and as few other values as can be.
    ///
    /// Each element is the first and the last of its values. `shifts` has the numbers that the lowest of the
    /// six bits may have. All values pass the filter of an empty list, as a rule without the list matches
    /// all.
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

    /// Returns how many of the 64 values pass.
    pub(super) fn lets_pass(&self) -> u32 {
        self.bits.count_ones()
    }

    /// Returns whether `value` may be in the list.
    #[inline(always)]
    pub(super) fn passes(&self, value: u64) -> bool {
        let six = value.wrapping_shr(self.shift.into());
        self.bits.wrapping_shr(six as u32) & 1 != 0
    }
}

/// Returns a bit for each value that the last six bits of the numbers from `first` to `last` can have.
fn between(first: u64, last: u64) -> u64 {
    let more = last.wrapping_sub(first).min(63);
    // As many ones as there are numbers, then turned to where these start.
    let ones = u64::MAX.wrapping_shr(63u32.wrapping_sub(more as u32));
    ones.rotate_left(first as u32 & 63)
}
