// SPDX-License-Identifier: GPL-2.0

//! Cuts: the ways in which a node can choose among its cells, and what is known in each.

use crate::pure::{
    matcher::{
        tree::item::Item,
        words::{
            pair,
            Words,
            DESTINATION_PORT_SHIFT,
            PROTOCOL_SHIFT,
            SOURCE_PORT_SHIFT,
            TRANSPORT,
            WORDS, //
        },
    },
    rule::Family, //
};

/// The ports in the word [`TRANSPORT`].
const PORT_BITS: u64 = 0xffff_ffff << DESTINATION_PORT_SHIFT;

/// The bits of a key that are known where a cell is reached.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) value: Words,
    pub(super) mask: Words,
    pub(super) class: u8,
}

impl Known {
    /// Returns the bits that are known at a root, where ports are below `ports`.
    pub(super) fn at_root(ports: u32) -> Self {
        // Types lie there too.
        let high = !u16::MAX
            .checked_shr(ports.saturating_sub(1).leading_zeros().wrapping_sub(16))
            .unwrap_or(0)
            & 0xff00;
        let mut mask = [0; WORDS];
        if let Some(word) = mask.get_mut(TRANSPORT) {
            *word = pair(high, high);
        }
        Self {
            value: [0; WORDS],
            mask,
            class: u8::MAX,
        }
    }

    /// Returns the known bits of a word.
    pub(super) fn mask(&self, word: usize) -> u64 {
        self.mask.get(word).copied().unwrap_or(0)
    }

    /// Returns the lowest and highest value of both ports.
    pub(super) fn ports(&self) -> [(u16, u16); 2] {
        let [_, _, _, _, value, ..] = self.value;
        let [_, _, _, _, mask, ..] = self.mask;
        [SOURCE_PORT_SHIFT, DESTINATION_PORT_SHIFT].map(|shift| {
            let (value, mask) = (
                value.wrapping_shr(shift) as u16,
                mask.wrapping_shr(shift) as u16,
            );
            (value & mask, value & mask | !mask)
        })
    }
}

/// The hull of a cell's items: what they have in common, and where they differ.
pub(super) struct Hull {
    /// The bits that all items specify.
    pub(super) common: Words,
    /// The bits in which two items have other values. A bit that an item does not specify has value 0.
    pub(super) differ: Words,
    /// The values of the first item.
    pub(super) value: Words,
    /// The bits that at least one item specifies.
    pub(super) any: Words,
    pub(super) ports: [(u16, u16); 2],
    pub(super) class: u8,
    /// The sum of the costs of comparing the items' rows, and at worst.
    pub(super) cost: u32,
    pub(super) worst: u32,
}

impl Hull {
    /// Returns the bits of a word that all items specify, with one value.
    pub(super) fn agreed(&self, word: usize) -> u64 {
        let at = |words: &Words| words.get(word).copied().unwrap_or(0);
        at(&self.common) & !at(&self.differ)
    }
}

/// A way in which a node can choose among its cells.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) word: usize,
    pub(super) mask: u64,
    /// The multiplier that the bits are hashed by; 0 where they are neighbours.
    pub(super) hash: u64,
    /// The number of bits of a cell's number.
    pub(super) width: u32,
    /// The lowest and highest port, where bits of a port are taken.
    pub(super) within: (u16, u16),
}

impl Cut {
    /// Returns the cut by `width` bits of a word from bit `shift` on, where a key is known as far as `known`.
    pub(super) fn slice(word: usize, shift: u32, width: u32, known: &Known) -> Self {
        let [source, destination] = known.ports();
        let bits = 1u64.wrapping_shl(width).wrapping_sub(1);
        Self {
            word,
            mask: bits.wrapping_shl(shift),
            hash: 0,
            width,
            within: match shift {
                SOURCE_PORT_SHIFT.. => source,
                _ => destination,
            },
        }
    }

    /// Returns the number of the lowest bit.
    pub(super) fn shift(&self) -> u32 {
        self.mask.trailing_zeros()
    }

    /// Returns the number that brings the bits to the top of a word.
    pub(super) fn multiplier(&self) -> u64 {
        match self.hash {
            // The highest bit of the mask is to be the top one.
            0 => 1u64.wrapping_shl(self.mask.leading_zeros()),
            hash => hash,
        }
    }

    /// Returns how many bits of the product are dropped behind the number of the cell.
    pub(super) fn drop(&self) -> u32 {
        64u32.wrapping_sub(self.width)
    }

    /// Returns the number of cells.
    pub(super) fn cells(&self) -> usize {
        1usize.wrapping_shl(self.width)
    }

    /// Returns whether the item specifies none of the bits, and so lies in all cells; always `false` for
    /// ports, protocols and classes.
    pub(super) fn is_everywhere(&self, item: &Item) -> bool {
        self.word != TRANSPORT && item.mask(self.word) & self.mask == 0
    }

    /// Calls `with` with the number of each cell that the item lies in.
    #[inline]
    pub(super) fn each(&self, item: &Item, mut with: impl FnMut(usize)) {
        let value = item.value(self.word);
        if self.hash != 0 {
            let bits = (value & self.mask).wrapping_mul(self.hash);
            return with(bits.wrapping_shr(self.drop()) as usize);
        }
        let last = self.cells().wrapping_sub(1);
        let shift = self.shift();
        if self.word == TRANSPORT {
            let port = match shift {
                SOURCE_PORT_SHIFT.. => Some((item.ports[0], SOURCE_PORT_SHIFT)),
                DESTINATION_PORT_SHIFT.. => Some((item.ports[1], DESTINATION_PORT_SHIFT)),
                _ => None,
            };
            if let Some(((first, end), base)) = port {
                let shift = shift.wrapping_sub(base);
                let (first, end) = (first.max(self.within.0), end.min(self.within.1));
                if first > end {
                    return;
                }
                let first = usize::from(first.wrapping_shr(shift));
                let span = usize::from(end.wrapping_shr(shift)).wrapping_sub(first);
                for number in 0..=span.min(last) {
                    with(first.wrapping_add(number) & last);
                }
                return;
            }
            if shift < PROTOCOL_SHIFT {
                for number in 0..=last {
                    if item.class.wrapping_shr(number as u32) & 1 != 0 {
                        with(number);
                    }
                }
                return;
            }
        }
        let specified = (item.mask(self.word) & self.mask).wrapping_shr(shift) as usize;
        let value = (value & self.mask).wrapping_shr(shift) as usize;
        let free = last & !specified;
        // All subsets of the free bits: subtracting `free` carries through the other bits, so that this
        // counts in the free bits alone, and comes back to 0.
        let mut subset = 0usize;
        loop {
            with(value | subset);
            subset = subset.wrapping_sub(free) & free;
            if subset == 0 {
                return;
            }
        }
    }

    /// Returns the bits that are known in the cell of that number, where `known` are known at the node.
    pub(super) fn known(&self, known: &Known, number: usize) -> Known {
        let mut known = *known;
        if self.hash != 0 {
            return known;
        }
        if self.word == TRANSPORT && self.shift() < PROTOCOL_SHIFT {
            known.class = 1u8.wrapping_shl(number as u32);
        }
        if let Some(mask) = known.mask.get_mut(self.word) {
            *mask |= self.mask;
        }
        if let Some(value) = known.value.get_mut(self.word) {
            *value = *value & !self.mask | (number as u64).wrapping_shl(self.shift());
        }
        known
    }

    /// Returns whether two cells with the same items are to be filled alike.
    pub(super) fn is_uniform(&self) -> bool {
        self.hash == 0 && !(self.word == TRANSPORT && self.shift() >= DESTINATION_PORT_SHIFT)
    }
}

/// Returns the bits of a word that are judged elsewhere: ports, as ranges, and bits that another word has
/// too.
pub(super) fn judged_elsewhere(family: Family, word: usize) -> u64 {
    match (word, family) {
        (TRANSPORT, _) => PORT_BITS,
        (1 | 2, Family::Ipv4) => u64::MAX,
        _ => 0,
    }
}
