// SPDX-License-Identifier: GPL-2.0

//! The commands of a write, carried out on a table: all of them, or none.
//!
//! A write is either a transaction by itself ([`run`]), or a piece of a `load` ([`Load`]), which may
//! span writes and whose lines may lie across them.

#![expect(
    clippy::result_large_err,
    reason = "a boxed report would need memory to tell that there is none"
)]

use crate::pure::{
    alloc::Vec,
    language::{
        parse::{
            parse,
            parse_id,
            parse_tag,
            Parsed, //
        },
        refusal::{
            Errno,
            Refusal, //
        },
        report::Report,
        text::{
            statements,
            Statement,
            Word, //
        },
    },
    rule::{
        Namespaces,
        Tag, //
    },
    table::{
        Change,
        Edit,
        Replacement,
        Slots,
        Table, //
    },
};

/// The longest line, in bytes.
pub const MAX_LINE: usize = 8192;

/// Whether `text`, a write from its start, opens a `load`.
pub fn opens_load(text: &[u8]) -> bool {
    let first = lines(text).find_map(|(_, line)| statements(line).next());
    first.is_some_and(|statement| first_word(statement).text == b"load")
}

/// The report of a `load`, the write `text`, while another writer's is open.
pub fn busy(text: &[u8]) -> Report {
    let refusal = |column| {
        Refusal::new(
            Errno::Busy,
            column,
            "another writer's load is open",
            "its commit or abort, its end, or 10 s of its silence",
        )
    };
    let place = lines(text).find_map(|(number, line)| {
        let statement = statements(line).next()?;
        Some(Report::new(refusal(statement.column()), number, line))
    });
    place.unwrap_or(Report::new(refusal(0), 0, b""))
}

/// The report of a write, no piece of a `load`, that fills a page: of a longer one, the kernel hands
/// over its first page only, which must not be carried out without the rest.
pub fn full_page(text: &[u8]) -> Report {
    let (number, last) = lines(text).last().unwrap_or((1, text));
    let refusal = Refusal::invalid(
        last.len(),
        "a write of a page or more: the text may have been cut",
        "less than 4,096 bytes; load ... commit for more",
    );
    Report::new(refusal, number, last)
}

/// Whether a write that is no piece of a `load` may be the first part of a text that was cut: it
/// is refused ([`full_page`], [`run`]), and what comes behind it is not to be carried out either.
pub fn may_be_cut(text: &[u8], page: usize) -> bool {
    text.len() >= page || !matches!(text.last(), None | Some(b'\n'))
}

/// Carries out a write that is no piece of a `load`.
///
/// Gives the new table, or `None` where nothing changed. Process context, may sleep.
pub fn run<S: Clone + Ord>(
    base: &Table<S>,
    text: &[u8],
    namespaces: &dyn Namespaces,
    slots: &dyn Slots<S>,
) -> Result<Option<Change<S>>, Report> {
    if let Some(cut) = text
        .rsplit(|b| *b == b'\n')
        .next()
        .filter(|rest| !rest.is_empty())
    {
        let number = u32::try_from(lines(text).count()).unwrap_or(u32::MAX);
        let refusal = Refusal::invalid(
            cut.len(),
            "no newline at the end: the text may have been cut",
            "a newline after the last line; load ... commit for over a page",
        );
        return Err(Report::new(refusal, number, cut));
    }
    let commands = lines(text).flat_map(|(_, line)| statements(line)).count();
    let mut edit = Edit::new(base, commands)?;
    for (number, line) in lines(text) {
        for statement in statements(line) {
            command(&mut edit, statement, namespaces, slots)
                .map_err(|refusal| Report::new(refusal, number, line))?;
        }
    }
    Ok(edit.finish()?)
}

/// The table of the module parameter `rules`; `None` where it has no rules.
pub fn from_parameter<S: Clone + Ord>(
    text: &[u8],
    namespaces: &dyn Namespaces,
    slots: &dyn Slots<S>,
) -> Result<Option<Change<S>>, Report> {
    let mut replacement = Replacement::new(None);
    for (number, line) in lines(text) {
        let refused = |refusal: Refusal| Report::new(refusal, number, line);
        check_parameter_line(line).map_err(refused)?;
        for statement in statements(line) {
            let words = statement.words();
            let parsed = rule(statement, words, namespaces, None);
            parsed
                .and_then(|parsed| replacement.push(number, statement.column(), parsed))
                .map_err(refused)?;
        }
    }
    replacement
        .apply(&Table::new(), slots)
        .map_err(|(number, refusal)| {
            let line = lines(text).find(|(n, _)| *n == number);
            Report::new(refusal, number, line.map_or(b"", |(_, line)| line))
        })
}

/// What a shell, a boot loader or insmod leaves of a text that it cut is refused.
fn check_parameter_line(line: &[u8]) -> Result<(), Refusal> {
    if let Some(column) = line.iter().position(|b| *b == b'#') {
        return Err(Refusal::invalid(
            column,
            "a comment, which would hide the rest of the rules",
            "rules without `#`",
        ));
    }
    let text = line.trim_ascii_end();
    if text.ends_with(b";") || text.ends_with(b"++") {
        return Err(Refusal::invalid(
            text.len().saturating_sub(1),
            "nothing behind the last separator: the rest was cut",
            "a rule, or no separator; quote the value, or write + for a space and ++ for `;`",
        ));
    }
    Ok(())
}

/// Carries out one statement of a transaction.
fn command<S: Clone + Ord>(
    edit: &mut Edit<'_, S>,
    statement: Statement<'_>,
    namespaces: &dyn Namespaces,
    slots: &dyn Slots<S>,
) -> Result<(), Refusal> {
    let mut words = statement.words();
    let command = first_word(statement);
    match command.text {
        b"add" => {
            words.next();
            let parsed = rule(statement, words, namespaces, None)?;
            edit.add(parsed, slots)
        }
        b"insert" => {
            words.next();
            let mut rest = words.clone();
            let before = match rest.next().map(|word| (word, word.text.strip_prefix(b"before="))) {
                Some((word, Some(id))) => {
                    words = rest;
                    Some((parse_id(id, word.column.saturating_add(7))?, word.column))
                }
                _ => None,
            };
            let parsed = rule(statement, words, namespaces, None)?;
            edit.insert(before, parsed, slots)
        }
        b"delete" => {
            words.next();
            const EXPECTED: &str = "delete ID or delete tag=T";
            let what = only_word(command, words, "nothing to delete", EXPECTED)?;
            match what.text.strip_prefix(b"tag=") {
                Some(tag) => {
                    let tag = parse_tag(tag, what.column.saturating_add(4))?;
                    edit.delete_tag(&tag, what.column)
                }
                None => {
                    let (id, column) = match what.text.strip_prefix(b"id=") {
                        Some(id) => (id, what.column.saturating_add(3)),
                        None => (what.text, what.column),
                    };
                    edit.delete(parse_id(id, column)?, what.column)
                }
            }
        }
        b"flush" => {
            words.next();
            no_more_words(words)?;
            edit.flush();
            Ok(())
        }
        b"load" => Err(Refusal::invalid(
            command.column,
            "a load behind other commands",
            "load as the first line of its write",
        )),
        b"commit" | b"abort" => Err(Refusal::invalid(
            command.column,
            "no load is open in this file",
            "load, the rules and commit through one open file: { echo load; cat FILE; echo commit; } >rules",
        )),
        _ => {
            let parsed = rule(statement, words, namespaces, None)?;
            edit.add(parsed, slots)
        }
    }
}

/// Where a [`Load`] is after a piece.
pub enum Progress {
    /// It goes on.
    Open,
    /// It came to its `commit`.
    Commit,
    /// It came to its `abort`.
    Abort,
}

/// A `load` that is open.
pub struct Load {
    replacement: Replacement,
    /// What of a line has come so far.
    partial: Vec<u8>,
    /// The number of the lines that are complete.
    line: u32,
    started: bool,
}

impl Load {
    /// A `load` of which nothing was read yet, not even its first line.
    pub fn new() -> Self {
        Self {
            replacement: Replacement::new(None),
            partial: Vec::new(),
            line: 0,
            started: false,
        }
    }

    /// Reads one more piece; a refused one ends the load. Process context, may sleep.
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
        // Nothing that means anything can follow these words, not even on the next line.
        Ok(match self.partial.trim_ascii() {
            b"commit" => Progress::Commit,
            b"abort" => Progress::Abort,
            _ => Progress::Open,
        })
    }

    /// Makes the new table; `None` where it is the old one. Process context, may sleep.
    pub fn commit<S: Clone + Ord>(
        self,
        base: &Table<S>,
        slots: &dyn Slots<S>,
    ) -> Result<Option<Change<S>>, Report> {
        self.replacement
            .apply(base, slots)
            .map_err(|(line, refusal)| Report::new(refusal, line, b""))
    }

    /// Keeps the start of a line whose end is still to come.
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
            b"load" | b"insert" | b"delete" | b"flush" => {
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

fn behind_the_end(column: usize) -> Refusal {
    Refusal::invalid(
        column,
        "text behind the commit or abort of a load",
        "the end of the write; further commands in a write of their own",
    )
}

/// The words behind `load`: nothing, or a tag.
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
    Ok(Some(parse_tag(tag, word.column.saturating_add(4))?))
}

/// Reads the rule that `words` of `statement` make.
fn rule<'a>(
    statement: Statement<'a>,
    words: impl Iterator<Item = Word<'a>> + Clone,
    namespaces: &dyn Namespaces,
    tag: Option<&Tag>,
) -> Result<Parsed, Refusal> {
    if let Some(column) = statement.stray_plus() {
        return Err(Refusal::invalid(
            column,
            "a `+` that separates nothing",
            "`+` between words, or `*` for the rest of a device's name",
        ));
    }
    if words.clone().next().is_none() {
        let last = statement.words().last().unwrap_or(first_word(statement));
        let column = last.column.saturating_add(last.text.len());
        return Err(Refusal::invalid(column, "a rule is missing", "a rule"));
    }
    parse(words, namespaces, tag)
}

/// The first word of a statement, which has one unless it is of `+` alone.
fn first_word(statement: Statement<'_>) -> Word<'_> {
    statement.words().next().unwrap_or(Word {
        text: b"",
        column: statement.column(),
    })
}

/// The one word of `words`.
fn only_word<'a>(
    command: Word<'_>,
    mut words: impl Iterator<Item = Word<'a>>,
    missing: &'static str,
    expected: &'static str,
) -> Result<Word<'a>, Refusal> {
    let column = command.column.saturating_add(command.text.len());
    let word = words
        .next()
        .ok_or(Refusal::invalid(column, missing, expected))?;
    no_more_words(words)?;
    Ok(word)
}

fn no_more_words<'a>(mut words: impl Iterator<Item = Word<'a>>) -> Result<(), Refusal> {
    words.next().map_or(Ok(()), |word| {
        Err(Refusal::invalid(
            word.column,
            "a word too many",
            "the end of the line",
        ))
    })
}

/// The lines of `text` with their numbers, counted from 1.
fn lines(text: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    (1..=u32::MAX).zip(text.split(|b| *b == b'\n'))
}
