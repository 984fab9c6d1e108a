// SPDX-License-Identifier: GPL-2.0

//! The text of the files that list no rules, and the first line of `rules`.
//!
//! Lines are padded where a number may grow between two reads, so that a reader finds each line at the
//! same offset.

use core::fmt::{
    self,
    Display,
    Formatter,
    Write, //
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
    /// The inode number; [`None`] for the initial namespace.
    pub inum: Option<u32>,
    /// Whether conntrack is in use.
    pub conntrack: bool,
    /// The number of conntrack's entries.
    pub entries: u32,
    /// The most entries that there may be.
    pub max: u32,
    /// The number of packets that conntrack dropped.
    pub drop: u64,
    /// Of these, the number since ctskip was loaded.
    pub drop_new: u64,
    /// The number of entries that conntrack dropped early, for room.
    pub early_drop: u64,
    /// Whether NAT of IPv4 is in use.
    pub nat_ipv4: bool,
    /// Whether NAT of IPv6 is in use.
    pub nat_ipv6: bool,
    /// Whether there was no room for ctskip's hooks.
    pub no_hooks: bool,
    /// The number of rules that act there.
    pub rules: usize,
    /// The number of skipped packets.
    pub skipped: u64,
    /// The number of held packets.
    pub held: u64,
    /// The number of packets that had an entry already.
    pub left_entry: u64,
    /// The number of packets that had a template.
    pub left_template: u64,
    /// The number of packets that were untracked already.
    pub left_untracked: u64,
}

impl NetnsLine {
    /// The length of each line in bytes, its newline included, unless one [needs](Self::room) more.
    pub const LEN: usize = 120;

    /// Returns the length that lines must have for this one to fit, of which there are few.
    pub fn room(&self) -> usize {
        /// The steps of longer lines.
        const STEP: usize = 8;

        match self.len() {
            0..=Self::LEN => Self::LEN,
            longer => longer.div_ceil(STEP).saturating_mul(STEP),
        }
    }

    /// Returns its own length in bytes, with a newline.
    fn len(&self) -> usize {
        let mut len = Length(1);
        // `Length` never fails.
        let _ = write!(len, "{self}");
        len.0
    }
}

/// A sink of text that keeps its length only.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(s.len());
        Ok(())
    }
}

/// The text of the line, without blanks at its end and without the newline.
///
/// Counts that are mostly 0 stand at its end, where they are not: so it fits most terminals.
impl Display for NetnsLine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.inum {
            None => f.write_str("netns=init")?,
            Some(inum) => write!(f, "netns={inum}")?,
        }
        write!(
            f,
            " ct={} entries={} max={} drop={} nat={} rules={} skipped={}",
            if self.conntrack { "on" } else { "off" },
            self.entries,
            self.max,
            self.drop,
            match (self.nat_ipv4, self.nat_ipv6) {
                (false, false) => "no",
                (true, false) => "ipv4",
                (false, true) => "ipv6",
                (true, true) => "both",
            },
            self.rules,
            self.skipped,
        )?;
        for (name, count) in [
            ("drop_new", self.drop_new),
            ("early_drop", self.early_drop),
            ("held", self.held),
            ("left_entry", self.left_entry),
            ("left_template", self.left_template),
            ("left_untracked", self.left_untracked),
        ] {
            if count != 0 {
                write!(f, " {name}={count}")?;
            }
        }
        f.write_str(if self.no_hooks { " hooks=no" } else { "" })
    }
}

/// A line of `netns` as it stands in the file: with blanks up to that length, and a newline.
pub struct NetnsRow<'a>(pub &'a NetnsLine, pub usize);

impl Display for NetnsRow<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(line, len) = self;
        let pad = len.saturating_sub(line.len());
        writeln!(f, "{line}{:pad$}", "")
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
