// SPDX-License-Identifier: GPL-2.0

//! The text of the files that list no rules, and the first line of `rules`.
//!
//! Columns are padded where a number may grow between two reads, so that a reader finds each line at the
//! same offset.

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use crate::pure::language::report::Report;

/// The first line of `rules`.
pub struct RulesHead<'a> {
    /// The version of ctskip.
    pub version: &'a str,
    /// The name of the mode.
    pub mode: &'a str,
    /// The number of commits.
    pub generation: u64,
    /// The number of rules.
    pub rules: usize,
    /// The sum of the rules' text.
    pub sum: u64,
}

impl Display for RulesHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# ctskip {} mode={} generation={} rules={} sum={:016x}",
            self.version, self.mode, self.generation, self.rules, self.sum,
        )
    }
}

/// A line of `netns`: one network namespace.
#[derive(Clone, Copy, Default)]
pub struct NetnsLine {
    /// The inode number.
    pub inum: u32,
    /// Whether conntrack is in use.
    pub conntrack: bool,
    /// The number of conntrack's entries.
    pub entries: u32,
    /// The most entries that there may be.
    pub max: u32,
    /// The number of packets that conntrack dropped.
    pub drop: u64,
    /// The number of entries that conntrack dropped early, for room.
    pub early_drop: u64,
    /// Whether NAT is in use.
    pub nat: bool,
    /// The number of rules that hold there.
    pub rules: usize,
    /// The number of skipped packets.
    pub skipped: u64,
    /// The number of held packets.
    pub held: u64,
}

impl NetnsLine {
    /// The length of each line in bytes: the words, the columns, the newline.
    pub const LEN: u64 = "netns= ct= entries= max= drop= early_drop= nat= rules= skipped= held=\n"
        .len() as u64
        + (10 + 3 + 10 + 10 + 20 + 20 + 3 + 6 + 20 + 20);
}

impl Display for NetnsLine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "netns={:<10} ct={:<3} entries={:<10} max={:<10} drop={:<20} early_drop={:<20} \
             nat={:<3} rules={:<6} skipped={:<20} held={:<20}",
            self.inum,
            if self.conntrack { "on" } else { "off" },
            self.entries,
            self.max,
            self.drop,
            self.early_drop,
            if self.nat { "yes" } else { "no" },
            self.rules,
            self.skipped,
            self.held,
        )
    }
}

/// A line of `stats` that is a name and a number.
pub struct StatsLine<'a>(pub &'a str, pub u64);

impl Display for StatsLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(name, number) = self;
        writeln!(f, "{name}={number:<20}")
    }
}

/// A line of `stats`: how many entries purges have kept, and why.
pub struct KeptLine<'a>(pub &'a str, pub u64);

impl Display for KeptLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(why, number) = self;
        writeln!(f, "kept_{why}={number:<20}")
    }
}

/// The last line of `stats`: how many entries of conntrack's hash lie in a bucket on the average.
pub struct AverageChain {
    /// The number of conntrack's entries.
    pub entries: u64,
    /// The number of buckets; 0 where there is no hash.
    pub buckets: u64,
}

impl Display for AverageChain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // An entry is in the hash twice, once for each direction.
        let tuples = self.entries.saturating_mul(2);
        let hundredths = tuples.saturating_mul(100).checked_div(self.buckets);
        let hundredths = hundredths.unwrap_or(0);
        let (whole, part) = (hundredths / 100, hundredths % 100);
        writeln!(f, "average_chain={whole}.{part:02}")
    }
}

/// The text of `last_error`.
pub struct LastError<'a, W> {
    /// Why the text was refused.
    pub report: &'a Report,
    /// The generation of the table that it left as it was.
    pub generation: u64,
    /// The task that wrote it.
    pub writer: W,
}

impl<W: Display> Display for LastError<'_, W> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.report;
        writeln!(f, "errno={}", report.refusal().errno.name())?;
        writeln!(f, "line={}", report.line())?;
        writeln!(f, "column={}", report.column())?;
        writeln!(f, "generation={}", self.generation)?;
        writeln!(f, "writer={}", self.writer)?;
        write!(f, "{report}")
    }
}
