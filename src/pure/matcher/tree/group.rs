// SPDX-License-Identifier: GPL-2.0

//! Which rules share a tree: those that say the same kind of bits.
//!
//! In one tree for all, rules that do not say what the root takes would lie in all of its cells. So
//! those that say long prefixes of the source are one group, those of the rest that say long ones of
//! the destination are another, and so on; each costs a packet one more tree.

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
            worth, //
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

/// The bits that all of a group say.
#[derive(Clone, Copy)]
struct WordMask {
    word: usize,
    mask: u64,
}

impl WordMask {
    fn is_specified_by(self, item: &Item) -> bool {
        item.mask(self.word) & self.mask == self.mask
    }
}

/// Takes the numbers of those items out that make the best group, ascending; `None` where what there
/// is makes one by itself.
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

/// The bits that tell most items apart best; `None` where none are worth a group.
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
    // Marks and names of devices as they are said.
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
        let values = distinct(&specified, value, usize::MAX);
        // A few items are worth a group only where they are far apart.
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

/// First bits of addresses.
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
            // Of both.
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
