// SPDX-License-Identifier: GPL-2.0

//! How many records a namespace may make lately, so that no single one uses up the table.

use core::num::NonZero;

/// In so many seconds, a namespace makes at most its share of records.
pub const SECONDS: u64 = 30;

/// The part of the table that is the share of a namespace.
const PARTS: usize = 4;

/// How many records a namespace has made lately: a number that the caller keeps.
///
/// Time is cut into windows of [`SECONDS`]. In any stretch as long, which lies in two windows at most, no more
/// records are made than in these two.
///
/// | bits | what |
/// |---|---|
/// | 63 to 44 | the window of the last record |
/// | 43 to 22 | the records of the window ahead of it |
/// | 21 to 0 | the records of that window |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made(u64);

impl Made {
    const COUNT_BITS: u32 = 22;
    const COUNT: u64 = (1 << Self::COUNT_BITS) - 1;
    const WINDOW_SHIFT: u32 = 2 * Self::COUNT_BITS;
    const WINDOW: u64 = u64::MAX >> Self::WINDOW_SHIFT;

    /// Returns what a number means that [`Self::number()`] was.
    pub const fn of(number: u64) -> Self {
        Self(number)
    }

    /// Returns it as a number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Returns what it is with one more record, at second `now`; [`None`] where that is above `share`.
    pub fn one_more(self, share: Share, now: u64) -> Option<Self> {
        let window = now.wrapping_div(SECONDS) & Self::WINDOW;
        let last = self.0 >> Self::WINDOW_SHIFT;
        let (before, count) = match window.wrapping_sub(last) & Self::WINDOW {
            0 => (
                self.0 >> Self::COUNT_BITS & Self::COUNT,
                self.0 & Self::COUNT,
            ),
            1 => (self.0 & Self::COUNT, 0),
            // Another CPU's clock was ahead: its window goes on.
            ahead if ahead == Self::WINDOW => {
                return Self::within(self.0, share);
            }
            _ => (0, 0),
        };
        let number = window << Self::WINDOW_SHIFT | before << Self::COUNT_BITS | count;
        Self::within(number, share)
    }

    /// Counts a record of the last window, where both windows' are below the share.
    fn within(number: u64, share: Share) -> Option<Self> {
        let before = number >> Self::COUNT_BITS & Self::COUNT;
        let sum = before.wrapping_add(number & Self::COUNT);
        (sum < u64::from(share.0.get())).then(|| Self(number.wrapping_add(1)))
    }
}

/// The most records that a namespace makes in [`SECONDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(NonZero<u32>);

impl Share {
    /// Returns the share of a table of so many words: a quarter of them.
    pub fn of(words: usize) -> Self {
        Self::among(words, NonZero::<u32>::MIN)
    }

    /// Returns the part of such a share that each of `counters` has, where a namespace counts in several:
    /// one for each CPU. One record at least.
    pub fn among(words: usize, counters: NonZero<u32>) -> Self {
        let most = usize::try_from(Made::COUNT).unwrap_or(usize::MAX);
        let share = words.wrapping_div(PARTS).min(most);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let part = share / counters;
        Self(NonZero::new(part).unwrap_or(NonZero::<u32>::MIN))
    }

    /// Returns the number of records.
    pub fn records(self) -> u32 {
        self.0.get()
    }
}
