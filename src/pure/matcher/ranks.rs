// SPDX-License-Identifier: GPL-2.0

//! Ranks of ports: numbers that stand for ports in the words that trees take bits from.
//!
//! Ports that no rule tells apart have one rank. So the ranges of rules end where bits of a rank do,
//! mostly.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    matcher::cost::RANKED_RANGES,
    rule::Rule, //
};

/// The number of ports.
const PORTS: usize = 1 << 16;

/// The ranks of ports in a matcher.
pub(super) struct PortRanks {
    /// The rank of each port; empty where each port is its own rank.
    ranks: Vec<u16>,
}

impl PortRanks {
    /// Returns the ranks in which each port is its own.
    pub(super) const fn new() -> Self {
        Self { ranks: Vec::new() }
    }

    /// Returns the ranks for `rules`, if enough of them name ranges. Process context.
    pub(super) fn build<'r>(
        rules: impl Iterator<Item = &'r Rule> + Clone,
    ) -> Result<Self, NoMemory> {
        let mut wide = 0usize;
        for rule in rules.clone() {
            each_range(rule, |first, last| {
                wide = wide.saturating_add(usize::from(first < last))
            });
        }
        if wide < RANKED_RANGES {
            return Ok(Self::new());
        }
        let mut ranks = Vec::with_capacity(PORTS)?;
        for _ in 0..PORTS {
            ranks.push(0)?;
        }
        for rule in rules {
            each_range(rule, |first, last| {
                for start in [Some(first), last.checked_add(1)].into_iter().flatten() {
                    if let Some(starts) = ranks.get_mut(usize::from(start)) {
                        *starts = 1;
                    }
                }
            });
        }
        let mut rank = 0u16;
        for (port, place) in ranks.iter_mut().enumerate() {
            if port != 0 {
                rank = rank.wrapping_add(*place);
            }
            *place = rank;
        }
        Ok(Self { ranks })
    }

    /// Returns the rank of a port.
    #[inline(always)]
    pub(super) fn rank(&self, port: u16) -> u16 {
        self.ranks.get(usize::from(port)).copied().unwrap_or(port)
    }

    /// Returns the number that all ranks are below.
    pub(super) fn end(&self) -> u32 {
        self.ranks
            .last()
            .map_or(PORTS as u32, |last| u32::from(*last).wrapping_add(1))
    }
}

/// Calls `with` for all ranges of ports that a rule names.
fn each_range(rule: &Rule, mut with: impl FnMut(u16, u16)) {
    for range in rule.source_ports().chain(rule.destination_ports()) {
        with(range.first(), range.last());
    }
}
