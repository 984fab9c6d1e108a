// SPDX-License-Identifier: GPL-2.0

//! The lines of the files that list the rules, and where in the file each one starts.
//!
//! A reader asks for a page at an offset. Lines have a length that does not change while the table
//! is in force, whatever the counters do, so a page is found without writing out those before it.

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use super::{
    alloc::Vec,
    error::NoMemory,
    table::Entry, //
};

/// A line of `rules`: the rule and its id.
pub struct RuleLine<'a, S>(pub &'a Entry<S>);

impl<S> RuleLine<'_, S> {
    /// Its length in bytes, the newline included.
    pub fn len(entry: &Entry<S>) -> usize {
        entry
            .text_len()
            .saturating_add(" id=\n".len())
            .saturating_add(digits(entry.id().into()))
    }
}

impl<S> Display for RuleLine<'_, S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} id={}", self.0.rule(), self.0.id())
    }
}

/// What a rule's counters say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The packets that it decided and that were not held.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    /// The packets that it would have skipped but for NAT.
    pub held: u64,
}

/// A line of `counters`. Blanks ahead of `rule=` make up for the lengths of the numbers.
pub struct CounterLine<'a, S>(pub &'a Entry<S>, pub Counts);

impl<S> CounterLine<'_, S> {
    /// The digits of three numbers of 64 bits.
    const DIGITS: usize = 60;

    /// Its length in bytes, the newline included.
    pub fn len(entry: &Entry<S>) -> usize {
        let tag = entry.rule().tag().map_or(0, |tag| tag.as_str().len());
        "id= packets= bytes= held= tag= rule=\"\"\n"
            .len()
            .saturating_add(Self::DIGITS)
            .saturating_add(digits(entry.id().into()))
            .saturating_add(tag)
            .saturating_add(entry.text_len())
    }
}

impl<S> Display for CounterLine<'_, S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(entry, counts) = self;
        let numbers = [counts.packets, counts.bytes, counts.held];
        let used = numbers
            .iter()
            .fold(0usize, |sum, n| sum.saturating_add(digits(*n)));
        writeln!(
            f,
            "id={} packets={} bytes={} held={} tag={} {:pad$}rule=\"{}\"",
            entry.id(),
            counts.packets,
            counts.bytes,
            counts.held,
            entry.rule().tag().map_or("", |tag| tag.as_str()),
            "",
            entry.rule(),
            pad = Self::DIGITS.saturating_sub(used),
        )
    }
}

/// How many decimal digits `number` has.
fn digits(number: u64) -> usize {
    number
        .checked_ilog10()
        .map_or(1, |log| usize::try_from(log).unwrap_or(0).saturating_add(1))
}

/// Where the lines of a file start: of every [`STEP`](Self::STEP)-th one.
pub struct Offsets {
    starts: Vec<u64>,
}

impl Offsets {
    const STEP: usize = 64;

    /// Of lines of these lengths, one behind the other.
    pub fn new(lengths: impl Iterator<Item = usize>) -> Result<Self, NoMemory> {
        let mut starts = Vec::new();
        let mut start = 0u64;
        for (index, len) in lengths.enumerate() {
            if index % Self::STEP == 0 {
                starts.push(start)?;
            }
            start = start.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        }
        Ok(Self { starts })
    }

    /// A line at or ahead of `offset`, and where it starts.
    pub fn line_before(&self, offset: u64) -> (usize, u64) {
        let step = self
            .starts
            .partition_point(|start| *start <= offset)
            .saturating_sub(1);
        let start = self.starts.get(step).copied().unwrap_or(0);
        (step.saturating_mul(Self::STEP), start)
    }
}
