// SPDX-License-Identifier: GPL-2.0

//! Items: the boxes in the space of keys that trees divide.

use crate::pure::{
    matcher::{
        cells::RowId,
        combination::Combination,
        words::{
            common_bits,
            pair,
            place,
            Words,
            PROTOCOL_SHIFT, //
        },
    },
    rule::Family, //
};

/// A combination of a rule in one direction: the box in the space of keys that it matches.
#[derive(Clone, Copy)]
pub(in crate::pure::matcher) struct Item {
    /// The bits that are specified, and their values. Of a range of ports, its common first bits are.
    pub(in crate::pure::matcher) value: Words,
    pub(in crate::pure::matcher) mask: Words,
    /// Source ports and destination ports, or types, as they lie in words.
    pub(in crate::pure::matcher) ports: [(u16, u16); 2],
    /// The classes of the packets that it matches: a bit for each number, without direction.
    pub(in crate::pure::matcher) class: u8,
    /// Whether all that is in the box matches.
    pub(in crate::pure::matcher) exact: bool,
    pub(in crate::pure::matcher) row: RowId,
}

/// The parts that an [`Item`] is made of.
pub(in crate::pure::matcher) struct ItemSource<'p> {
    pub(in crate::pure::matcher) family: Family,
    pub(in crate::pure::matcher) combination: &'p Combination,
    /// See [`fixed_bits`](super::super::words::fixed_bits).
    pub(in crate::pure::matcher) fixed: (u64, u64),
    /// The ports of the packet that match, as they lie in words.
    pub(in crate::pure::matcher) ports: [(u16, u16); 2],
    /// See [`ClassSet::in_direction`](crate::pure::matcher::words::ClassSet::in_direction).
    pub(in crate::pure::matcher) class: u8,
    pub(in crate::pure::matcher) row: RowId,
    pub(in crate::pure::matcher) exchanged: bool,
    /// Whether all that is in the box matches.
    pub(in crate::pure::matcher) exact: bool,
}

impl Item {
    /// Returns the box of a combination in one direction.
    pub(in crate::pure::matcher) fn new(of: &ItemSource<'_>) -> Self {
        let ItemSource {
            family,
            combination,
            fixed,
            ports,
            class,
            row,
            exchanged,
            exact,
        } = *of;
        let (source, destination) = match exchanged {
            false => (combination.source, combination.destination),
            true => (combination.destination, combination.source),
        };
        let [source_bits, destination_bits] = ports.map(common_bits);
        let words = |source: u128, destination: u128, ports: u64, protocol: u8, fixed, device| {
            let [a, b, c, d] = place(family, source, destination, ports);
            let transport = ports | u64::from(protocol) << PROTOCOL_SHIFT;
            let [upper, lower] = [device >> 64, device & u128::from(u64::MAX)];
            [a, b, c, d, transport, fixed, upper as u64, lower as u64]
        };
        let mask = words(
            source.map_or(0, |p| p.mask()),
            destination.map_or(0, |p| p.mask()),
            pair(source_bits, destination_bits),
            combination.protocol.map_or(0, |_| u8::MAX),
            fixed.1,
            combination.device.1,
        );
        let [(source_first, _), (destination_first, _)] = ports;
        let value = words(
            source.map_or(0, |p| p.value()),
            destination.map_or(0, |p| p.value()),
            pair(
                source_first & source_bits,
                destination_first & destination_bits,
            ),
            combination.protocol.unwrap_or(0),
            fixed.0,
            combination.device.0,
        );
        Self {
            value,
            mask,
            ports,
            class,
            exact,
            row,
        }
    }

    /// Returns the values of a word's specified bits.
    pub(in crate::pure::matcher) fn value(&self, word: usize) -> u64 {
        self.value.get(word).copied().unwrap_or(0)
    }

    /// Returns the specified bits of a word.
    pub(in crate::pure::matcher) fn mask(&self, word: usize) -> u64 {
        self.mask.get(word).copied().unwrap_or(0)
    }
}
