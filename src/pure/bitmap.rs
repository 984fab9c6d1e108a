// SPDX-License-Identifier: GPL-2.0

//! Sets of numbers, as bits of words. A number beyond the words is in none.

use crate::pure::alloc::{
    NoMemory,
    Vec, //
};

/// Room for the numbers below `len`, none of them set.
pub(super) fn empty(len: usize) -> Result<Vec<u32>, NoMemory> {
    let words = len.div_ceil(32);
    let mut bits = Vec::with_capacity(words)?;
    for _ in 0..words {
        bits.push(0)?;
    }
    Ok(bits)
}

/// Sets `number`.
pub(super) fn set(bits: &mut [u32], number: usize) {
    if let Some(word) = bits.get_mut(number / 32) {
        *word |= 1u32.wrapping_shl((number % 32) as u32);
    }
}

/// Whether `number` is set.
#[inline(always)]
pub(super) fn is_set(bits: &[u32], number: usize) -> bool {
    bits.get(number / 32)
        .is_some_and(|word| word.wrapping_shr((number % 32) as u32) & 1 != 0)
}

/// The numbers that are set, ascending.
pub(super) fn numbers(bits: &[u32]) -> impl Iterator<Item = usize> + '_ {
    let words = bits.iter().enumerate().filter(|(_, word)| **word != 0);
    words.flat_map(|(at, word)| {
        let set = (0..32usize).filter(|bit| word.wrapping_shr(*bit as u32) & 1 != 0);
        set.map(move |bit| at.saturating_mul(32).saturating_add(bit))
    })
}
