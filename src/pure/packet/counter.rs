// SPDX-License-Identifier: GPL-2.0

//! What a namespace counts.

/// A counter of a namespace. Each packet counts in one of them, and perhaps in [`Self::Followed`].
#[derive(Clone, Copy)]
pub enum Counter {
    /// Packets kept out of conntrack.
    Skipped,
    /// Packets that no rule matches.
    NoRule,
    /// Packets that a `skip` rule matches, in `mode=observe`.
    Observed,
    /// Packets that a `skip` rule matches, held by the NAT guard.
    Held,
    /// Packets that a `track` rule left to conntrack.
    Tracked,
    /// Packets that had an entry already.
    Entry,
    /// Packets that had a template.
    Template,
    /// Packets that were untracked already.
    Untracked,
    /// Packets whose headers cannot be read as far as the protocol.
    Unread,
    /// ICMP errors that followed a skipped flow. They count as what was made of them, too.
    Followed,
}

impl Counter {
    /// The number of counters.
    pub const COUNT: usize = Self::Followed as usize + 1;

    /// Returns the count of this counter among `counts`, which are in the order of the counters.
    pub fn of(self, counts: &[u64; Self::COUNT]) -> u64 {
        counts.get(self as usize).copied().unwrap_or(0)
    }

    /// Returns the number of packets that were looked at while rules held.
    pub fn seen(counts: &[u64; Self::COUNT]) -> u64 {
        let all = counts
            .iter()
            .fold(0u64, |sum, count| sum.wrapping_add(*count));
        all.wrapping_sub(Self::Followed.of(counts))
    }
}
