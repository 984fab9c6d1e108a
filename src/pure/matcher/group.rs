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
        tree::{
            values,
            Item, //
        },
        words::{
            DESTINATION_PORT_SHIFT,
            DEVICE,
            MARK,
            SOURCE_PORT_SHIFT,
            TRANSPORT, //
        },
    },
    rule::Family, //
};

/// Of how few items a group is made no more.
const FEW: usize = 8;
/// How many values there must be in a group.
const APART: usize = 8;
/// How many items are looked at to choose.
const SAMPLE: usize = 1024;

/// The bits that all of a group say.
#[derive(Clone, Copy)]
struct Bits {
    word: usize,
    mask: u64,
}

impl Bits {
    fn are_said_by(self, item: &Item) -> bool {
        item.mask(self.word) & self.mask == self.mask
    }
}

/// Takes the numbers of those items out that make the best group, ascending; `None` where what there
/// is makes one by itself.
#[inline(never)]
pub(super) fn split(
    family: Family,
    items: &[Item],
    numbers: &mut Vec<u32>,
) -> Result<Option<Vec<u32>>, NoMemory> {
    if numbers.len() <= FEW {
        return Ok(None);
    }
    let Some(bits) = choose(family, items, numbers)? else {
        return Ok(None);
    };
    let said = |number: &u32| {
        items
            .get(*number as usize)
            .is_some_and(|item| bits.are_said_by(item))
    };
    let mut group = Vec::with_capacity(numbers.len())?;
    for number in numbers.iter().filter(|number| said(number)) {
        group.push(*number)?;
    }
    numbers.retain(|number| !said(number));
    Ok(Some(group))
}

/// The bits that tell most items apart best; `None` where none are worth a group.
#[inline(never)]
fn choose(family: Family, items: &[Item], numbers: &[u32]) -> Result<Option<Bits>, NoMemory> {
    let mut candidates = Vec::new();
    let mut sample = Vec::new();
    let stride = numbers.len().div_ceil(SAMPLE);
    for number in numbers.iter().step_by(stride) {
        sample.push(*number)?;
    }
    address_candidates(family, &mut candidates)?;
    let ports = [SOURCE_PORT_SHIFT, DESTINATION_PORT_SHIFT];
    for shift in ports {
        candidates.push(Bits {
            word: TRANSPORT,
            mask: 0xffffu64.wrapping_shl(shift),
        })?;
    }
    // Marks and names of devices as they are said.
    for number in sample.iter().step_by(sample.len().div_ceil(16).max(1)) {
        let Some(item) = items.get(*number as usize) else {
            continue;
        };
        for word in [MARK, DEVICE, DEVICE.wrapping_add(1)] {
            let mask = item.mask(word);
            let is_new = |c: &Bits| c.word != word || c.mask != mask;
            if mask != 0 && candidates.iter().all(is_new) {
                candidates.push(Bits { word, mask })?;
            }
        }
    }
    let mut best: Option<(usize, Bits)> = None;
    let mut said = Vec::with_capacity(sample.len())?;
    for bits in candidates.iter().copied() {
        said.clear();
        for number in &*sample {
            let item = items.get(*number as usize);
            if item.is_some_and(|item| bits.are_said_by(item)) {
                said.push(*number)?;
            }
        }
        let value = |number: u32| {
            let item = items.get(number as usize);
            item.map_or(0, |item| item.value(bits.word) & bits.mask)
        };
        let apart = values(&said, value, usize::MAX);
        // A few items are worth a group only where they are far apart.
        if apart < APART || said.len().saturating_mul(32) < sample.len() {
            continue;
        }
        // How many will share a place.
        let items = said.len().saturating_mul(stride);
        let shared = items.checked_div(apart).unwrap_or(items);
        let worth = items
            .saturating_mul(4)
            .checked_div(shared.saturating_add(4));
        if best.is_none_or(|(most, _)| worth > Some(most)) {
            best = worth.map(|worth| (worth, bits));
        }
    }
    Ok(best.map(|(_, bits)| bits))
}

/// The lengths of prefixes of both addresses that are tried together.
const LENS: [u32; 6] = [12, 16, 20, 24, 28, 32];

/// First bits of addresses.
fn address_candidates(family: Family, to: &mut Vec<Bits>) -> Result<(), NoMemory> {
    match family {
        Family::Ipv4 => {
            for len in [8, 12, 16, 20, 22, 24, 28, 32u32] {
                let mask = !u32::MAX.checked_shr(len).unwrap_or(0);
                let mask = u64::from(mask);
                to.push(Bits {
                    word: 0,
                    mask: mask << 32,
                })?;
                to.push(Bits { word: 0, mask })?;
            }
            // Of both.
            let masks = LENS.map(|len| u64::from(!u32::MAX.checked_shr(len).unwrap_or(0)));
            for source in masks {
                for destination in masks {
                    to.push(Bits {
                        word: 0,
                        mask: source << 32 | destination,
                    })?;
                }
            }
        }
        Family::Ipv6 => {
            for len in [32, 48, 56, 64u32] {
                let mask = !u64::MAX.checked_shr(len).unwrap_or(0);
                to.push(Bits { word: 0, mask })?;
                to.push(Bits { word: 2, mask })?;
            }
            for len in [32, 64u32] {
                let mask = !u64::MAX.checked_shr(len).unwrap_or(0);
                to.push(Bits { word: 1, mask })?;
                to.push(Bits { word: 3, mask })?;
            }
        }
    }
    Ok(())
}
