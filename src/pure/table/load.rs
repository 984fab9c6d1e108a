// SPDX-License-Identifier: GPL-2.0

//! The `load` command: rules that replace the table, or the rules of a tag.
//!
//! Its text may come in many pieces, and its lines may lie across them. Which open file may send them, and
//! when, says [`session`](crate::pure::table::session).

#![expect(
    clippy::result_large_err,
    reason = "a boxed report would need memory to tell that there is none"
)]

use crate::pure::{
    alloc::Vec,
    language::{
        refusal::Refusal,
        report::Report,
        statement::{
            first_word,
            no_more_words,
            rule, //
        },
        text::{
            statements,
            Statement,
            Word, //
        },
        value, //
    },
    rule::{
        Namespaces,
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
        }
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
                self.hold(end)?;
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
        self.hold(rest)?;
        // Nothing that means anything can follow these words, not even on the next line; but where a write
        // was cut behind `commit`, its `purge` is the next write.
        Ok(match self.partial.trim_ascii() {
            b"commit" => Progress::Commit,
            b"commit purge" => {
                self.purges = true;
                Progress::Commit
            }
            b"abort" => Progress::Abort,
            _ => Progress::Open,
        })
    }

    /// Returns whether its end is `commit purge`.
    pub fn purges(&self) -> bool {
        self.purges
    }

    /// Makes the new table from `base`; [`None`] where nothing changes. Process context, may sleep.
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
    fn hold(&mut self, start: &[u8]) -> Result<(), Report> {
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
        for statement in statements(line) {
            self.statement(statement, progress, namespaces)
                .map_err(|refusal| Report::new(refusal, self.line, line))?;
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
        let mut words = statement.words();
        let command = first_word(statement);
        if !matches!(progress, Progress::Open) {
            return Err(behind_the_end(command.column));
        }
        match command.text {
            b"load" if !self.started => {
                words.next();
                self.started = true;
                self.replacement = Replacement::new(load_tag(words)?);
                return Ok(());
            }
            b"commit" => {
                words.next();
                let mut behind = words.clone();
                if behind.next().is_some_and(|word| word.text == b"purge") {
                    (words, self.purges) = (behind, true);
                }
                no_more_words(words)?;
                *progress = Progress::Commit;
                return Ok(());
            }
            b"abort" => {
                words.next();
                no_more_words(words)?;
                *progress = Progress::Abort;
                return Ok(());
            }
            b"load" | b"insert" | b"delete" | b"flush" | b"purge" => {
                return Err(Refusal::invalid(
                    command.column,
                    "a command inside a load",
                    "rules, then commit or abort",
                ));
            }
            b"add" => {
                words.next();
            }
            _ => {}
        }
        let parsed = rule(statement, words, namespaces, self.replacement.tag())?;
        self.replacement.push(self.line, command.column, parsed)
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the refusal of text behind the end of a load.
fn behind_the_end(column: usize) -> Refusal {
    Refusal::invalid(
        column,
        "text behind the commit or abort of a load",
        "the end of the write; further commands in a write of their own",
    )
}

/// Returns the tag that `words`, those behind `load`, name; [`None`] where there are none.
fn load_tag<'a>(mut words: impl Iterator<Item = Word<'a>>) -> Result<Option<Tag>, Refusal> {
    let Some(word) = words.next() else {
        return Ok(None);
    };
    let Some(tag) = word.text.strip_prefix(b"tag=") else {
        return Err(Refusal::invalid(
            word.column,
            "not what a load may have",
            "load or load tag=T, and the rules on lines of their own",
        ));
    };
    no_more_words(words)?;
    Ok(Some(value::tag(tag, word.column.saturating_add(4))?))
}
