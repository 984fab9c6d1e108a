// SPDX-License-Identifier: GPL-2.0

//! Estimates of how well some bits tell items apart, from a sample of them.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    matcher::{
        cost::DISTINCT_SAMPLE,
        words::HASH, //
    },
};

/// The memory of [`distinct`]: a bit for each hash, too much for a stack.
#[derive(Default)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    const HASH_BITS: u32 = 14;
    /// The words of a bitmap of all hashes.
    const WORDS: usize = 1 << (Self::HASH_BITS - 6);

    /// Allocates it.
    pub(super) fn new() -> Result<Self, NoMemory> {
        let mut words = Vec::with_capacity(Self::WORDS)?;
        for _ in 0..Self::WORDS {
            words.push(0)?;
        }
        Ok(Self(words))
    }
}

/// Returns how many different values there are, roughly, where there may be `most`: all numbers, or all
/// that the numbers are a sample of.
///
/// Values are told apart by 14 bits of a hash. Of a sample, the estimate is that of birthdays: of `n`
/// values drawn from `d`, about `n * n / (2 * d)` pairs are equal.
///
/// Not inlined, as are others here that take much of the stack: their callers go deeper elsewhere.
#[inline(never)]
pub(super) fn distinct(
    seen: &mut Seen,
    numbers: &[u32],
    value: impl Fn(u32) -> u64,
    most: usize,
) -> usize {
    let Seen(seen) = seen;
    seen.iter_mut().for_each(|word| *word = 0);
    let stride = numbers.len().div_ceil(DISTINCT_SAMPLE).max(1);
    let (mut sample, mut distinct) = (0usize, 0usize);
    for number in numbers.iter().step_by(stride) {
        sample = sample.wrapping_add(1);
        let hash = value(*number).wrapping_mul(HASH) >> (u64::BITS - Seen::HASH_BITS);
        let (word, bit) = ((hash >> 6) as usize, 1u64.wrapping_shl(hash as u32 & 63));
        if let Some(word) = seen.get_mut(word) {
            distinct = distinct.wrapping_add(usize::from(*word & bit == 0));
            *word |= bit;
        }
    }
    // All values were looked at, and there are no more.
    if stride == 1 && most == distinct.max(numbers.len()) {
        return distinct;
    }
    let equal = sample.saturating_sub(distinct);
    if equal > distinct {
        return distinct;
    }
    let pairs = sample.saturating_mul(sample);
    let estimate = pairs.checked_div(equal.saturating_mul(2)).unwrap_or(pairs);
    estimate.max(distinct).min(most)
}

/// Returns what a table or tree of `count` items is worth whose bits have `distinct` values: more with
/// each item, less with the items that share a value.
pub(super) fn worth(count: usize, distinct: usize) -> Option<usize> {
    let shared = count.checked_div(distinct).unwrap_or(count);
    count
        .saturating_mul(4)
        .checked_div(shared.saturating_add(4))
}

/// Returns `a` divided by `b`, or by 1 where that is 0.
pub(super) fn ratio(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(a)
}
