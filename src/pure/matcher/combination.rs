// SPDX-License-Identifier: GPL-2.0

//! The combinations of a rule's lists: one value of each.
//!
//! A rule with `tcp,udp`, two sources and three ports is 12 combinations. Lists that would make too many
//! are not told apart: a combination has one value that covers the whole list.

use crate::pure::{
    matcher::cost::COMBINATIONS,
    rule::{
        Device,
        Prefix,
        Range,
        Rule, //
    },
};

/// One value of each of a rule's lists; of a list that is not told apart, one that covers all of it.
#[derive(Clone, Copy)]
pub(super) struct Combination {
    pub(super) protocol: Option<u8>,
    pub(super) source: Option<Prefix>,
    pub(super) destination: Option<Prefix>,
    pub(super) source_ports: (u16, u16),
    /// Destination ports, or ICMP types.
    pub(super) destination_ports: (u16, u16),
    /// The device's name and the bits of it that decide.
    pub(super) device: (u128, u128),
}

/// All ports, and more than all types.
pub(super) const ALL: (u16, u16) = (0, u16::MAX);

/// The combinations of a rule, which together match all packets that it does, and perhaps more.
pub(super) struct Combinations<'r> {
    rule: &'r Rule,
    /// How many values of each list are told apart: protocols, sources, destinations, source ports,
    /// destination ports or types, devices. The number of a combination is written in these radices; 0 is
    /// a list that is not told apart, and has no digit.
    radix: [usize; 6],
    /// The number of the next combination.
    next: usize,
    /// How many there are.
    pub(super) total: usize,
}

impl<'r> Combinations<'r> {
    /// Returns the combinations of `rule`.
    pub(super) fn of(rule: &'r Rule) -> Self {
        let mut total = 1usize;
        let lens = Self::lens(rule);
        let mut radix = lens.map(|len| len.min(1));
        // The lists that tell most rules apart come first.
        for list in [1, 2, 4, 3, 0, 5] {
            let len = lens.get(list).copied().unwrap_or(0);
            let product = total.saturating_mul(len.max(1));
            if product <= COMBINATIONS {
                total = product;
                if let Some(radix) = radix.get_mut(list) {
                    *radix = len.max(1);
                }
            } else if let Some(radix) = radix.get_mut(list) {
                *radix = 0;
            }
        }
        Self {
            rule,
            radix,
            next: 0,
            total,
        }
    }

    /// Returns the lengths of a rule's lists.
    fn lens(rule: &Rule) -> [usize; 6] {
        [
            rule.protocols().count(),
            rule.sources().count(),
            rule.destinations().count(),
            rule.source_ports().count(),
            rule.destination_ports()
                .count()
                .wrapping_add(rule.icmp_types().count()),
            rule.devices().count(),
        ]
    }

    /// Returns whether all lists are told apart: then the combinations together are the rule.
    pub(super) fn is_exact(&self) -> bool {
        self.radix.iter().all(|radix| *radix != 0)
    }
}

impl Iterator for Combinations<'_> {
    type Item = Combination;

    fn next(&mut self) -> Option<Combination> {
        if self.next >= self.total {
            return None;
        }
        let mut rest = self.next;
        self.next = self.next.wrapping_add(1);
        // The number of the value in each list; none where the list is not told apart.
        let [protocol, source, destination, source_port, destination_port, device] =
            self.radix.map(|radix| {
                let number = rest.checked_rem(radix)?;
                rest = rest.checked_div(radix)?;
                Some(number)
            });
        let rule = self.rule;
        let types = rule
            .icmp_types()
            .map(|range| (range.first().into(), range.last().into()));
        Some(Combination {
            protocol: protocol.and_then(|n| rule.protocols().nth(n)),
            source: match source {
                Some(n) => rule.sources().nth(n),
                None => rule.sources().reduce(common_prefix),
            },
            destination: match destination {
                Some(n) => rule.destinations().nth(n),
                None => rule.destinations().reduce(common_prefix),
            },
            source_ports: range_of(rule.source_ports().map(ends), source_port),
            destination_ports: range_of(
                rule.destination_ports().map(ends).chain(types),
                destination_port,
            ),
            device: device
                .and_then(|n| rule.devices().nth(n))
                .map_or((0, 0), device_bits),
        })
    }
}

/// Returns the name of a device, its first letter in the highest bits, and the bits of it that decide.
pub(super) fn device_bits(device: Device) -> (u128, u128) {
    let bits = |number: u128| u128::from_be_bytes(number.to_ne_bytes());
    (bits(device.value()), bits(device.mask()))
}

/// Returns the ends of a range.
fn ends(range: Range<u16>) -> (u16, u16) {
    (range.first(), range.last())
}

/// Returns the range of number `n`, or without a number one that covers all.
fn range_of(mut ranges: impl Iterator<Item = (u16, u16)>, n: Option<usize>) -> (u16, u16) {
    let range = match n {
        Some(n) => ranges.nth(n),
        None => ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))),
    };
    range.unwrap_or(ALL)
}

/// Returns the longest prefix that covers both.
fn common_prefix(a: Prefix, b: Prefix) -> Prefix {
    let equal = (a.value() ^ b.value()).leading_zeros();
    let len = u8::try_from(equal).unwrap_or(0).min(a.bits()).min(b.bits());
    let mask = !u128::MAX.checked_shr(len.into()).unwrap_or(0);
    let address = (a.value() & mask).to_be_bytes();
    Prefix::new(address, len).unwrap_or(a)
}
