// SPDX-License-Identifier: GPL-2.0

//! Groups: rules that share a tree, as they specify the same kind of bits.
//!
//! In one tree of all rules, a rule that does not specify the root's bits would lie in all of its cells.
//! So rules with a long prefix of the source are one group, the others with a long prefix of the
//! destination are another, and so on. Each group costs a packet one more tree.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    matcher::{
        cost::{
            GROUP_FEW,
            GROUP_OWN_MASKS,
            GROUP_PAIRS,
            GROUP_PART,
            GROUP_PREFIXES,
            GROUP_PREFIXES_LOWER,
            GROUP_PREFIXES_UPPER,
            GROUP_SAMPLE,
            GROUP_VALUES, //
        },
        estimate::{
            distinct,
            worth,
            Seen, //
        },
        tree::item::Item,
        words::{
            DESTINATION_PORT_SHIFT,
            DEVICE,
            FIXED,
            SOURCE_PORT_SHIFT,
            TRANSPORT, //
        },
    },
    rule::Family, //
};

/// The bits of one word that all items of a group specify.
#[derive(Clone, Copy)]
struct WordMask {
    word: usize,
    mask: u64,
}

impl WordMask {
    /// Returns whether `item` specifies all of the bits.
    fn is_specified_by(self, item: &Item) -> bool {
        item.mask(self.word) & self.mask == self.mask
    }
}

/// Takes the items of the best group out of `numbers`. Returns their numbers, ascending; [`None`] where no
/// group is better than one tree of all.
#[inline(never)]
pub(super) fn take_group(
    family: Family,
    items: &[Item],
    numbers: &mut Vec<u32>,
) -> Result<Option<Vec<u32>>, NoMemory> {
    if numbers.len() <= GROUP_FEW {
        return Ok(None);
    }
    let Some(bits) = choose_mask(family, items, numbers)? else {
        return Ok(None);
    };
    let specifies = |number: &u32| {
        items
            .get(*number as usize)
            .is_some_and(|item| bits.is_specified_by(item))
    };
    let mut group = Vec::with_capacity(numbers.len())?;
    for number in numbers.iter().filter(|number| specifies(number)) {
        group.push(*number)?;
    }
    numbers.retain(|number| !specifies(number));
    Ok(Some(group))
}

/// Returns the mask that most items specify and that tells these apart best; [`None`] where none is worth a
/// group.
#[inline(never)]
fn choose_mask(
    family: Family,
    items: &[Item],
    numbers: &[u32],
) -> Result<Option<WordMask>, NoMemory> {
    let mut candidates = Vec::new();
    let mut sample = Vec::new();
    let stride = numbers.len().div_ceil(GROUP_SAMPLE);
    for number in numbers.iter().step_by(stride) {
        sample.push(*number)?;
    }
    address_candidates(family, &mut candidates)?;
    let ports = [SOURCE_PORT_SHIFT, DESTINATION_PORT_SHIFT];
    for shift in ports {
        candidates.push(WordMask {
            word: TRANSPORT,
            mask: 0xffffu64.wrapping_shl(shift),
        })?;
    }
    // The masks of marks, flags and devices that items have.
    for number in sample
        .iter()
        .step_by(sample.len().div_ceil(GROUP_OWN_MASKS).max(1))
    {
        let Some(item) = items.get(*number as usize) else {
            continue;
        };
        for word in [FIXED, DEVICE, DEVICE.wrapping_add(1)] {
            let mask = item.mask(word);
            let is_new = |c: &WordMask| c.word != word || c.mask != mask;
            if mask != 0 && candidates.iter().all(is_new) {
                candidates.push(WordMask { word, mask })?;
            }
        }
    }
    let mut best: Option<(usize, WordMask)> = None;
    let mut specified = Vec::with_capacity(sample.len())?;
    let mut seen = Seen::new()?;
    for bits in candidates.iter().copied() {
        specified.clear();
        for number in &*sample {
            let item = items.get(*number as usize);
            if item.is_some_and(|item| bits.is_specified_by(item)) {
                specified.push(*number)?;
            }
        }
        let value = |number: u32| {
            let item = items.get(number as usize);
            item.map_or(0, |item| item.value(bits.word) & bits.mask)
        };
        let values = distinct(&mut seen, &specified, value, usize::MAX);
        // Few items are worth a group only where they have many values.
        if values < GROUP_VALUES || specified.len().saturating_mul(GROUP_PART) < sample.len() {
            continue;
        }
        let worth = worth(specified.len().saturating_mul(stride), values);
        if best.is_none_or(|(most, _)| worth > Some(most)) {
            best = worth.map(|worth| (worth, bits));
        }
    }
    Ok(best.map(|(_, bits)| bits))
}

/// Appends the masks of first bits of addresses.
fn address_candidates(family: Family, to: &mut Vec<WordMask>) -> Result<(), NoMemory> {
    match family {
        Family::Ipv4 => {
            for len in GROUP_PREFIXES {
                let mask = !u32::MAX.checked_shr(len).unwrap_or(0);
                let mask = u64::from(mask);
                to.push(WordMask {
                    word: 0,
                    mask: mask << 32,
                })?;
                to.push(WordMask { word: 0, mask })?;
            }
            // Of both addresses.
            let masks = GROUP_PAIRS.map(|len| u64::from(!u32::MAX.checked_shr(len).unwrap_or(0)));
            for source in masks {
                for destination in masks {
                    to.push(WordMask {
                        word: 0,
                        mask: source << 32 | destination,
                    })?;
                }
            }
        }
        Family::Ipv6 => {
            for len in GROUP_PREFIXES_UPPER {
                let mask = !u64::MAX.checked_shr(len).unwrap_or(0);
                to.push(WordMask { word: 0, mask })?;
                to.push(WordMask { word: 2, mask })?;
            }
            for len in GROUP_PREFIXES_LOWER {
                let mask = !u64::MAX.checked_shr(len).unwrap_or(0);
                to.push(WordMask { word: 1, mask })?;
                to.push(WordMask { word: 3, mask })?;
            }
        }
    }
    Ok(())
}
