// SPDX-License-Identifier: GPL-2.0

//! The `load` command: rules that replace the table, or the rules of a tag.
//!
//! Its text may come in many pieces, and its lines may lie across them. Which open file may send them, and
//! when, says [`session`](crate::pure::table::session).
//!
//! Lines are counted from the first one behind the `load`, where that stands on a line of its own: the
//! rules then have the numbers that they have in their file, `{ echo load && cat FILE && echo commit; }`.

#![expect(
    clippy::result_large_err,
    reason = "a boxed report would need memory to tell that there is none"
)]

use core::cell::Cell;

use crate::pure::{
    alloc::Vec,
    language::{
        refusal::Refusal,
        report::Report,
        statement::{
            arguments,
            first_word,
            no_more_words,
            rule, //
        },
        text::{
            statements,
            without_comment,
            Statement,
            Word, //
        },
        value, //
    },
    rule::{
        Namespaces,
        Netns,
        NoNetns,
        Tag, //
    },
    table::{
        replace::{
            AtLine,
            Replacement, //
        },
        Change,
        Slots,
        Table, //
    },
};

/// The longest line, in bytes.
pub const MAX_LINE: usize = 8192;

/// How far a [`Load`] has come with a piece.
pub enum Progress {
    /// More pieces are to come.
    Open,
    /// The piece ends in its `commit`.
    Commit,
    /// The piece ends in its `abort`.
    Abort,
}

/// The rules that a `load lenient` leaves out, as their namespaces do not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The number of rules.
    pub rules: usize,
    /// The number of the first one's line; 0 where there is none.
    pub line: u32,
}

/// A `load` that is open.
pub struct Load {
    replacement: Replacement,
    /// The start of a line whose end is still to come.
    partial: Vec<u8>,
    /// The number of complete lines so far.
    line: u32,
    /// Whether its first word, `load`, was read.
    started: bool,
    /// Whether its end is `commit purge`.
    purges: bool,
    /// Whether rules are left out whose namespaces do not exist.
    lenient: bool,
    left_out: LeftOut,
}

impl Load {
    /// Makes a `load` of which nothing was read yet, not even its first line.
    pub fn new() -> Self {
        Self {
            replacement: Replacement::new(None),
            partial: Vec::new(),
            line: 0,
            started: false,
            purges: false,
            lenient: false,
            left_out: LeftOut::default(),
        }
    }

    /// Returns the number of rules so far.
    pub fn rules(&self) -> usize {
        self.replacement.rules()
    }

    /// Returns the rules that were left out so far.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// Reads one more piece of the text.
    ///
    /// A refused piece ends the load: it is not to be fed any more. Process context, may sleep.
    pub fn feed(&mut self, text: &[u8], namespaces: &dyn Namespaces) -> Result<Progress, Report> {
        let mut progress = Progress::Open;
        let mut rest = text;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            let (end, after) = rest.split_at_checked(at).unwrap_or_default();
            rest = after.strip_prefix(b"\n").unwrap_or_default();
            if !self.partial.is_empty() || end.len() > MAX_LINE {
                self.keep(end)?;
            }
            self.line = self.line.saturating_add(1);
            if self.partial.is_empty() {
                self.read_line(end, &mut progress, namespaces)?;
            } else {
                let line = core::mem::take(&mut self.partial);
                self.read_line(&line, &mut progress, namespaces)?;
            }
        }
        if !matches!(progress, Progress::Open) {
            // A comment would not do: the rest of it may come with the next piece.
            return match rest.iter().position(|byte| !byte.is_ascii_whitespace()) {
                None => Ok(progress),
                Some(column) => {
                    let refusal = behind_the_end(column);
                    Err(Report::new(refusal, self.line.saturating_add(1), rest))
                }
            };
        }
        self.keep(rest)?;
        self.read_end(&mut progress, namespaces)?;
        Ok(progress)
    }

    /// Reads the line whose newline has not come, where `commit` or `abort` stands in it.
    ///
    /// Nobody may send a newline: the writer of `printf 'load; udp dport=53; commit'` is done. Nothing that
    /// means anything can follow that word. Where something has begun to, it may have been cut: it is
    /// refused, as the rest of it would come as a write of its own.
    fn read_end(
        &mut self,
        progress: &mut Progress,
        namespaces: &dyn Namespaces,
    ) -> Result<(), Report> {
        let is_end = |statement| matches!(first_word(statement).text, b"commit" | b"abort");
        if !statements(&self.partial).any(is_end) {
            return Ok(());
        }
        if is_start_of_purge(&self.partial) {
            return Ok(());
        }
        self.line = self.line.saturating_add(1);
        let line = core::mem::take(&mut self.partial);
        let text = without_comment(&line).trim_ascii_end();
        let more = match line.get(text.len()..).unwrap_or_default().trim_ascii() {
            [] if text.ends_with(b";") || text.ends_with(b"++") => {
                Some(text.len().saturating_sub(1))
            }
            [] => None,
            _ => Some(without_comment(&line).len()),
        };
        if let Some(column) = more {
            let refusal = Refusal::invalid(
                column,
                "no newline at the end, and more than the commit or abort: the text may have been cut",
                "commit or abort as the last word, or a newline behind it",
            );
            return Err(Report::new(refusal, self.line, &line));
        }
        self.read_line(&line, progress, namespaces)
    }

    /// Returns whether its end is `commit purge`.
    pub fn purges(&self) -> bool {
        self.purges
    }

    /// Makes the new table from `base`; [`None`] where nothing changes. Process context, may sleep.
    ///
    /// Not inlined: its frame must not lie below those of reading a piece.
    #[inline(never)]
    pub fn commit<S: Clone + Ord>(
        self,
        base: &Table<S>,
        slots: &dyn Slots<S>,
    ) -> Result<Option<Change<S>>, Report> {
        self.replacement
            .apply(base, slots)
            .map_err(|AtLine { line, refusal }| Report::new(refusal, line, b""))
    }

    /// Appends to the start of a line whose end is still to come. Refuses a line that is too long.
    fn keep(&mut self, start: &[u8]) -> Result<(), Report> {
        let number = self.line.saturating_add(1);
        if self.partial.len().saturating_add(start.len()) > MAX_LINE {
            let refusal = Refusal::invalid(0, "a line too long", "lines of up to 8,192 bytes");
            let shown = if self.partial.is_empty() {
                start
            } else {
                &self.partial
            };
            return Err(Report::new(refusal, number, shown));
        }
        self.partial
            .extend_from_slice(start)
            .map_err(|error| Report::new(error.into(), number, start))
    }

    /// Reads a complete line.
    fn read_line(
        &mut self,
        line: &[u8],
        progress: &mut Progress,
        namespaces: &dyn Namespaces,
    ) -> Result<(), Report> {
        let was_started = self.started;
        for statement in statements(line) {
            self.statement(statement, progress, namespaces)
                .map_err(|refusal| Report::new(refusal, self.line, line))?;
        }
        if self.started && !was_started && statements(line).nth(1).is_none() {
            self.line = 0;
        }
        Ok(())
    }

    /// Reads one statement of a line: a rule, or the end.
    fn statement(
        &mut self,
        statement: Statement<'_>,
        progress: &mut Progress,
        namespaces: &dyn Namespaces,
    ) -> Result<(), Refusal> {
        let command = first_word(statement);
        if !matches!(progress, Progress::Open) {
            return Err(behind_the_end(command.column));
        }
        match command.text {
            b"load" if !self.started => {
                self.started = true;
                let (tag, lenient) = load_options(arguments(statement))?;
                self.replacement = Replacement::new(tag);
                self.lenient = lenient;
                Ok(())
            }
            b"commit" => {
                let mut words = arguments(statement);
                let mut behind = words.clone();
                if behind.next().is_some_and(|word| word.text == b"purge") {
                    (words, self.purges) = (behind, true);
                }
                no_more_words(words)?;
                *progress = Progress::Commit;
                Ok(())
            }
            b"abort" => {
                no_more_words(arguments(statement))?;
                *progress = Progress::Abort;
                Ok(())
            }
            b"insert" => Err(Refusal::invalid(
                command.column,
                "an insert inside a load, whose rules stand in the order of its lines",
                "the rule alone, on a line ahead of those that it is to go in front of",
            )),
            b"load" | b"delete" | b"flush" | b"purge" => Err(Refusal::invalid(
                command.column,
                "a command inside a load",
                "rules, then commit or abort",
            )),
            b"add" => self.add(statement, statement.behind(command), namespaces),
            _ => self.add(statement, statement, namespaces),
        }
    }

    /// Adds the rule of `text`, which `statement` has, perhaps behind `add`.
    fn add(
        &mut self,
        statement: Statement<'_>,
        text: Statement<'_>,
        namespaces: &dyn Namespaces,
    ) -> Result<(), Refusal> {
        let known = Known {
            namespaces,
            lenient: self.lenient,
            missing: Cell::new(false),
        };
        let parsed = rule(statement, text, &known, self.replacement.tag())
            .map_err(Refusal::without_commands)?;
        self.replacement
            .check(first_word(statement).column, &parsed)?;
        if known.missing.get() {
            self.left_out.rules = self.left_out.rules.saturating_add(1);
            if self.left_out.line == 0 {
                self.left_out.line = self.line;
            }
            return Ok(());
        }
        self.replacement.push(self.line, parsed)
    }
}

/// The namespaces as a `load` sees them: to a lenient one, each exists.
///
/// So the rest of a rule whose namespace does not exist is checked like any other rule.
struct Known<'n> {
    namespaces: &'n dyn Namespaces,
    lenient: bool,
    /// Whether one was asked for that does not exist, to a lenient `load`.
    missing: Cell<bool>,
}

impl Known<'_> {
    /// Returns `found`, or any namespace in the place of one that does not exist.
    fn or_missing(&self, found: Option<Netns>) -> Option<Netns> {
        if found.is_none() && self.lenient {
            self.missing.set(true);
            return Some(Netns::Init);
        }
        found
    }
}

impl Namespaces for Known<'_> {
    fn by_inum(&self, inum: u32) -> Option<Netns> {
        self.or_missing(self.namespaces.by_inum(inum))
    }

    fn by_pid(&self, pid: u32) -> Option<Netns> {
        self.or_missing(self.namespaces.by_pid(pid))
    }

    fn by_path(&self, folder: &str, name: &[u8]) -> Result<Netns, NoNetns> {
        match self.namespaces.by_path(folder, name) {
            Err(NoNetns::Missing) => self.or_missing(None).ok_or(NoNetns::Missing),
            found => found,
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns whether the end of `text` is that of a `commit purge` whose last letters are still to come.
fn is_start_of_purge(text: &[u8]) -> bool {
    let Some(statement) = statements(text).last() else {
        return false;
    };
    let mut words = arguments(statement);
    words.next().is_some_and(|word| {
        first_word(statement).text == b"commit"
            && b"purge".starts_with(word.text)
            && word.text != b"purge"
            && text.ends_with(word.text)
    }) && words.next().is_none()
}

/// Returns the refusal of text behind the end of a load.
fn behind_the_end(column: usize) -> Refusal {
    Refusal::invalid(
        column,
        "text behind the commit or abort of a load",
        "the end of the write; further commands in a write of their own",
    )
}

/// Returns what `words`, those behind `load`, say: the tag, if they name one, and whether it is lenient.
fn load_options<'a>(words: impl Iterator<Item = Word<'a>>) -> Result<(Option<Tag>, bool), Refusal> {
    let (mut tag, mut lenient) = (None, false);
    for word in words {
        match word.text.strip_prefix(b"tag=") {
            Some(name) if tag.is_none() => {
                tag = Some(value::tag(name, word.column.saturating_add(4))?);
            }
            None if word.text == b"lenient" && !lenient => lenient = true,
            _ => {
                return Err(Refusal::invalid(
                    word.column,
                    "not what a load may have",
                    "load, load tag=T, lenient behind them, and the rules on lines of their own",
                ));
            }
        }
    }
    Ok((tag, lenient))
}
