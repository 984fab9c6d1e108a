// SPDX-License-Identifier: GPL-2.0

//! The lines of the files that list the rules, and where in the file each one starts.
//!
//! A reader asks for a page at an offset. It is found without writing the lines before it: all lines were
//! written once, and where they start is known. A line of `rules` or `tags` keeps its length while the table
//! is in force. Those of `counters` have room for the digits of their numbers, which is the same in all of
//! them, and grows where one of them needs more.

use core::fmt::{
    self,
    Display,
    Formatter,
    Write, //
};

use crate::pure::{
    alloc::{
        end_of,
        NoMemory,
        Vec, //
    },
    rule::Rule,
    sort::sort_by_key,
    table::{
        Entry,
        Table, //
    },
};

/// A line of `rules`: the rule and its id.
pub struct RuleLine<'a, S>(pub &'a Entry<S>);

impl<S> RuleLine<'_, S> {
    /// Returns its length in bytes, newline included, where the rule's text has `text` bytes.
    fn len(&self, text: usize) -> usize {
        text.saturating_add(" id=\n".len())
            .saturating_add(digits(self.0.id().into()))
    }
}

impl<S> Display for RuleLine<'_, S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} id={}", self.0.rule(), self.0.id())
    }
}

/// The counts of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of packets that it decided and that were not held.
    pub packets: u64,
    /// The bytes of these packets, from the IP header on.
    pub bytes: u64,
    /// The number of packets that it would have skipped but for NAT.
    pub held: u64,
    /// The number of packets that it would have skipped but for the mode `observe`.
    pub observed: u64,
}

/// Whether a rule is ahead that matches all that this one matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shadow {
    /// There is none.
    #[default]
    None,
    /// The first that does has this id.
    By(u32),
    /// Not known.
    Unknown,
}

impl Counts {
    /// Returns the number of digits that the lines of `counters` have room for, where this is the longest of
    /// them.
    ///
    /// There are few such numbers, as all lines change their length with them.
    pub fn room(&self) -> usize {
        /// As many as a hundred million packets have, and their bytes.
        const LEAST: usize = 24;
        const STEP: usize = 8;

        let digits = self.digits().max(LEAST);
        digits.div_ceil(STEP).saturating_mul(STEP)
    }

    /// Returns the number of digits of all of them.
    pub fn digits(&self) -> usize {
        [self.packets, self.bytes, self.held, self.observed]
            .into_iter()
            .fold(0, |sum, number| sum.saturating_add(digits(number)))
    }
}

impl Shadow {
    /// Returns the length of its text in bytes.
    fn len(self) -> usize {
        let value = match self {
            Self::None => return 0,
            Self::By(id) => digits(id.into()),
            Self::Unknown => 1,
        };
        "shadowed_by= ".len().saturating_add(value)
    }
}

impl Display for Shadow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::By(id) => write!(f, "shadowed_by={id} "),
            Self::Unknown => f.write_str("shadowed_by=? "),
        }
    }
}

/// A line of `counters`. Blanks ahead of `rule=` keep its length where the numbers grow.
pub struct CounterLine<'a, S> {
    /// The rule.
    pub entry: &'a Entry<S>,
    /// What it has counted.
    pub counts: Counts,
    /// Whether it can be the first to match.
    pub shadow: Shadow,
    /// The number of digits that there is room for.
    pub room: usize,
}

impl<S> CounterLine<'_, S> {
    /// Returns its length in bytes, newline included and the room left out, where the rule's text has `text`
    /// bytes.
    fn len(entry: &Entry<S>, shadow: Shadow, text: usize) -> usize {
        let tag = entry.rule().tag().map_or(0, str::len);
        "id= packets= bytes= held= observed= tag= rule=\"\"\n"
            .len()
            .saturating_add(digits(entry.id().into()))
            .saturating_add(shadow.len())
            .saturating_add(tag)
            .saturating_add(text)
    }
}

impl<S> Display for CounterLine<'_, S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            entry,
            counts,
            shadow,
            room,
        } = self;
        writeln!(
            f,
            "id={} packets={} bytes={} held={} observed={} tag={} {shadow}{:pad$}rule=\"{}\"",
            entry.id(),
            counts.packets,
            counts.bytes,
            counts.held,
            counts.observed,
            entry.rule().tag().unwrap_or(""),
            "",
            entry.rule(),
            pad = room.saturating_sub(counts.digits()),
        )
    }
}

/// Returns the number of decimal digits of `number`.
fn digits(number: u64) -> usize {
    number
        .checked_ilog10()
        .map_or(1, |log| usize::try_from(log).unwrap_or(0).saturating_add(1))
}

/// Returns the places of the lines of `counters`, the room for their numbers left out. `shadow` says of the
/// rule at a position whether it is shadowed.
///
/// Process context; takes as long as reading all of the rules.
pub fn counter_lines<S>(
    table: &Table<S>,
    shadow: impl Fn(usize) -> Shadow,
) -> Result<Offsets, NoMemory> {
    let entries = table.entries();
    let mut lines = Offsets::new(entries.len())?;
    for (position, entry) in entries.iter().enumerate() {
        let text = Measure::of(entry.rule()).len;
        lines.push(CounterLine::len(entry, shadow(position), text))?;
    }
    Ok(lines)
}

/// The places of the lines of `rules`, and the sum of the rules.
pub struct Listing {
    rule_lines: Offsets,
    sum: u64,
}

impl Listing {
    /// Writes all of the text, keeping only the lengths and the sum.
    ///
    /// Process context; takes as long as reading all of it.
    pub fn new<S>(table: &Table<S>) -> Result<Self, NoMemory> {
        let entries = table.entries();
        let mut listing = Self {
            rule_lines: Offsets::new(entries.len())?,
            sum: 0,
        };
        let mut sum = Fnv::new();
        for entry in entries {
            let measure = Measure::of(entry.rule());
            sum.add(&measure.hash.0.to_be_bytes());
            let rule_line = RuleLine(entry).len(measure.len);
            listing.rule_lines.push(rule_line)?;
        }
        listing.sum = sum.0;
        Ok(listing)
    }

    /// Returns the places of the lines of `rules`, counted from the end of its first line.
    pub fn rule_lines(&self) -> &Offsets {
        &self.rule_lines
    }

    /// Returns a hash of the rules' texts in order, without ids: equal for equal tables.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// A line of `tags`.
struct TagLine<'a> {
    /// The tag; empty for the rules that have none.
    tag: &'a str,
    rules: usize,
    sum: u64,
}

impl Display for TagLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { tag, rules, sum } = self;
        writeln!(f, "tag={tag} rules={rules} sum={sum:016x}")
    }
}

/// The lines of `tags`: one for each tag of a table, sorted, the rules without a tag first.
pub struct Tags {
    tags: Vec<OfTag>,
    lines: Offsets,
}

/// The rules of a tag.
struct OfTag {
    /// The position of the first of them.
    first: u32,
    rules: u32,
    sum: u64,
}

impl Tags {
    /// Goes through the rules of `table`, tag by tag.
    ///
    /// Process context; takes as long as reading all of the rules.
    pub fn new<S>(table: &Table<S>) -> Result<Self, NoMemory> {
        let entries = table.entries();
        let mut rules = Vec::with_capacity(entries.len())?;
        for (position, entry) in (0u32..).zip(entries) {
            rules.push((entry.rule().tag().unwrap_or(""), position, entry.rule()))?;
        }
        sort_by_key(&mut rules, |(tag, position, _)| (*tag, *position));
        let mut tags = Self {
            tags: Vec::new(),
            lines: Offsets::new(0)?,
        };
        for group in rules.chunk_by(|(tag, _, _), (next, _, _)| tag == next) {
            let Some((tag, first, _)) = group.first() else {
                continue;
            };
            let mut sum = Fnv::new();
            for (_, _, rule) in group {
                sum.add(&Measure::of(rule).hash.0.to_be_bytes());
            }
            let mut line = Measure::default();
            let (rules, sum) = (group.len(), sum.0);
            // `Measure` never fails to write.
            let _ = write!(line, "{}", TagLine { tag, rules, sum });
            tags.lines.push(line.len)?;
            tags.tags.push(OfTag {
                first: *first,
                rules: end_of(group),
                sum,
            })?;
        }
        Ok(tags)
    }

    /// Returns the places of the lines.
    pub fn lines(&self) -> &Offsets {
        &self.lines
    }

    /// Returns the line at `index`, newline included; [`None`] behind the last one. `table` is the one that
    /// they were made of.
    pub fn line<'a, S>(&self, index: usize, table: &'a Table<S>) -> Option<impl Display + 'a> {
        let of_tag = self.tags.get(index)?;
        let first = usize::try_from(of_tag.first).ok()?;
        Some(TagLine {
            tag: table.entries().get(first)?.rule().tag().unwrap_or(""),
            rules: usize::try_from(of_tag.rules).ok()?,
            sum: of_tag.sum,
        })
    }
}

/// The length and the hash of a text.
#[derive(Default)]
struct Measure {
    len: usize,
    hash: Fnv,
}

impl Measure {
    /// Returns those of the text of `rule`.
    fn of(rule: &Rule) -> Self {
        let mut measure = Self::default();
        // Neither the rule nor `Measure` ever fails to write.
        let _ = write!(measure, "{rule}");
        measure
    }
}

impl Write for Measure {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.len = self.len.saturating_add(s.len());
        self.hash.add(s.as_bytes());
        Ok(())
    }
}

/// The 64-bit FNV-1a hash.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Fnv {
    /// Makes the hash of no bytes.
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds bytes to the hash.
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// The places where the lines of a file start: every [`STEP`](Self::STEP)-th is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Offsets {
    starts: Vec<u64>,
    lines: usize,
    end: u64,
}

impl Offsets {
    /// The number of lines from one place that is kept to the next.
    const STEP: usize = 64;

    /// Makes a list of no lines, with room for `lines`.
    pub fn new(lines: usize) -> Result<Self, NoMemory> {
        Ok(Self {
            starts: Vec::with_capacity(lines.div_ceil(Self::STEP))?,
            lines: 0,
            end: 0,
        })
    }

    /// Appends a line of `len` bytes.
    pub fn push(&mut self, len: usize) -> Result<(), NoMemory> {
        if self.lines % Self::STEP == 0 {
            self.starts.push(self.end)?;
        }
        self.lines = self.lines.saturating_add(1);
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        self.end = self.end.saturating_add(len);
        Ok(())
    }

    /// Returns a line that starts at `offset` or before, and where it starts, in bytes. Each line is `more`
    /// bytes longer than was said when it was appended.
    pub fn line_before(&self, offset: u64, more: usize) -> (usize, u64) {
        let more = u64::try_from(more.saturating_mul(Self::STEP)).unwrap_or(u64::MAX);
        let mut found = (0, 0);
        // The first `low` places are at `offset` or before, and those from `high` on are behind it.
        let (mut low, mut high) = (0, self.starts.len());
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low) / 2);
            let ahead = u64::try_from(middle).unwrap_or(u64::MAX);
            let start = self.starts.get(middle).copied().unwrap_or(u64::MAX);
            let start = start.saturating_add(ahead.saturating_mul(more));
            if start <= offset {
                found = (middle.saturating_mul(Self::STEP), start);
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        found
    }
}
