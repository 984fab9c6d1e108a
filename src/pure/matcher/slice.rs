// SPDX-License-Identifier: GPL-2.0

//! A part of an array, by its numbers.

use crate::pure::{
    alloc::{
        end_of,
        NoMemory,
        Vec, //
    },
    sort::sort_by_key, //
};

/// The elements of an array from number `start` to ahead of number `end`.
#[derive(Clone, Copy, Default)]
pub(super) struct Slice {
    start: u32,
    end: u32,
}

impl Slice {
    /// Returns the elements of `array` from number `start` on, after sorting them by `first`.
    pub(super) fn sorted<T>(array: &mut Vec<T>, start: usize, first: fn(&T) -> u32) -> Self {
        sort_by_key(array.get_mut(start..).unwrap_or_default(), first);
        Self::from(array, start)
    }

    /// Returns the elements of `array` from number `start` on.
    fn from<T>(array: &[T], start: usize) -> Self {
        Self {
            start: start as u32,
            end: end_of(array),
        }
    }

    /// Appends `elements` to `array`. Returns them as a part of it.
    pub(super) fn append<T>(
        array: &mut Vec<T>,
        elements: impl Iterator<Item = T>,
    ) -> Result<Self, NoMemory> {
        let start = array.len();
        for element in elements {
            array.push(element)?;
        }
        Ok(Self::from(array, start))
    }

    /// Returns all elements of `slices` as one part, sorted by `first`: copies, at the end of `array`,
    /// where more than one is not empty.
    pub(super) fn joined<T: Copy>(
        array: &mut Vec<T>,
        slices: impl Iterator<Item = Self> + Clone,
        first: fn(&T) -> u32,
    ) -> Result<Self, NoMemory> {
        let mut filled = slices.filter(|slice| !slice.is_empty());
        let (one, more) = (filled.clone().next(), filled.clone().nth(1));
        if more.is_none() {
            return Ok(one.unwrap_or_default());
        }
        let start = array.len();
        filled.try_for_each(|slice| {
            for at in slice.start..slice.end {
                if let Some(element) = array.get(at as usize).copied() {
                    array.push(element)?;
                }
            }
            Ok(())
        })?;
        Ok(Self::sorted(array, start, first))
    }

    /// Returns the number of elements.
    pub(super) fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Returns whether there are no elements.
    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Returns the elements.
    #[inline(always)]
    pub(super) fn of<T>(self, array: &[T]) -> &[T] {
        array
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Returns whether there are no elements, or one of those in `array` is `wanted`.
    #[inline]
    pub(super) fn any_of<T>(self, array: &[T], wanted: impl Fn(&T) -> bool) -> bool {
        self.is_empty() || self.of(array).iter().any(wanted)
    }
}
