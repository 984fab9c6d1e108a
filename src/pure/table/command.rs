// SPDX-License-Identifier: GPL-2.0

//! The commands of a write, carried out on a table: all of them, or none.
//!
//! A write is either a transaction by itself ([`run`]), or a piece of a `load`
//! ([`Load`](crate::pure::table::load::Load)).

#![expect(
    clippy::result_large_err,
    reason = "a boxed report would need memory to tell that there is none"
)]

use crate::pure::{
    language::{
        parse::Parsed,
        refusal::{
            Errno,
            Likely,
            Refusal, //
        },
        report::Report,
        statement::{
            arguments,
            first_word,
            lines,
            no_more_words,
            only_word,
            rule, //
        },
        text::{
            statements,
            Statement,
            Word, //
        },
        value, //
    },
    rule::Namespaces,
    table::{
        edit::Edit,
        no_space,
        replace::{
            AtLine,
            Replacement, //
        },
        selection::Done,
        Change,
        Slots,
        Table, //
    },
};

/// Returns whether `text`, a write from its start, opens a `load`.
pub fn opens_load(text: &[u8]) -> bool {
    let first = lines(text).find_map(|(_, line)| statements(line).next());
    first.is_some_and(|statement| first_word(statement).text == b"load")
}

/// Returns the report of a `load`, the write `text`, while another writer's is open.
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

/// Returns the report of a write that is no piece of a `load` and fills a page.
///
/// Of a longer write, the kernel hands over the first page only, which must not be carried out without the
/// rest.
pub fn full_page(text: &[u8]) -> Report {
    let (number, last) = lines(text).last().unwrap_or((1, text));
    let refusal = Refusal::invalid(
        last.len(),
        "a write of a page or more: the text may have been cut",
        "less than 4,096 bytes; load ... commit for more",
    );
    Report::new(refusal, number, last)
}

/// Returns the report of the write `text`, which asks for a purge while the mode lets no rule act.
pub fn idle_purge(text: &[u8]) -> Report {
    let refusal = |column| {
        Refusal::invalid(
            column,
            "a purge in the mode observe or off, in which no rule acts",
            "the mode skip",
        )
    };
    for (number, line) in lines(text) {
        for statement in statements(line) {
            let word = first_word(statement);
            if word.text == PURGE {
                return Report::new(refusal(word.column), number, line);
            }
        }
    }
    Report::new(refusal(0), 0, b"")
}

/// Carries out a write that is no piece of a `load`, on a copy of `base`.
///
/// Returns the new table, if anything changes, and the rules to purge by, if it asks for that. Process
/// context, may sleep.
#[inline(never)]
pub fn run<S: Clone + Ord>(
    base: &Table<S>,
    text: &[u8],
    namespaces: &dyn Namespaces,
    slots: &dyn Slots<S>,
) -> Result<Done<S>, Report> {
    let mut place = (0, &b""[..]);
    carry_out(base, text, namespaces, slots, &mut place)
        .map_err(|refusal| Report::new(refusal, place.0, place.1))
}

/// As [`run()`]. Where it refuses, `place` is the line that this is about: its number and its text.
fn carry_out<'t, S: Clone + Ord>(
    base: &Table<S>,
    text: &'t [u8],
    namespaces: &dyn Namespaces,
    slots: &dyn Slots<S>,
    place: &mut (u32, &'t [u8]),
) -> Result<Done<S>, Refusal> {
    let last = text.rsplit(|b| *b == b'\n').next();
    if let Some(cut) = last.filter(|rest| !rest.is_empty()) {
        let number = u32::try_from(lines(text).count()).unwrap_or(u32::MAX);
        *place = (number, cut);
        return Err(Refusal::invalid(
            cut.len(),
            "no newline at the end: the text may have been cut",
            "a newline after the last line; load ... commit for over a page",
        ));
    }
    let commands = lines(text).flat_map(|(_, line)| statements(line)).count();
    let mut edit = Edit::new(base, commands)?;
    // Where the table grew too long, if it is: what comes behind may take rules out.
    let mut too_long = None;
    for (number, line) in lines(text) {
        *place = (number, line);
        for statement in statements(line) {
            command(&mut edit, statement, namespaces, slots)?;
            match edit.is_too_long() {
                false => too_long = None,
                true => _ = too_long.get_or_insert((*place, statement.column())),
            }
        }
    }
    *place = (0, b"");
    if let Some((grown, column)) = too_long {
        *place = grown;
        return Err(no_space(column));
    }
    Ok(edit.finish()?)
}

/// Makes the table of the module parameter `rules`; [`None`] where there are no rules in it.
#[inline(never)]
pub fn from_parameter<S: Clone + Ord>(
    text: &[u8],
    namespaces: &dyn Namespaces,
    slots: &dyn Slots<S>,
) -> Result<Option<Change<S>>, Report> {
    let mut replacement = Replacement::new(None);
    for (number, line) in lines(text) {
        read_parameter_line(&mut replacement, number, line, namespaces)
            .map_err(|refusal| Report::new(refusal, number, line))?;
    }
    replacement
        .apply(&Table::new(), slots)
        .map_err(|AtLine { line, refusal }| {
            let text = lines(text).find(|(number, _)| *number == line);
            Report::new(refusal, line, text.map_or(b"", |(_, text)| text))
        })
}

/// Reads the rules of a line of the parameter.
#[inline(never)]
fn read_parameter_line(
    to: &mut Replacement,
    number: u32,
    line: &[u8],
    namespaces: &dyn Namespaces,
) -> Result<(), Refusal> {
    check_parameter_line(line)?;
    for statement in statements(line) {
        parameter_rule(statement, namespaces).and_then(|parsed| to.push(number, parsed))?;
    }
    Ok(())
}

/// Reads one statement of the module parameter `rules`: a rule, with or without `add`.
fn parameter_rule(
    statement: Statement<'_>,
    namespaces: &dyn Namespaces,
) -> Result<Parsed, Refusal> {
    let command = first_word(statement);
    let text = match command.text {
        b"add" => statement.behind(command),
        b"insert" | b"delete" | b"flush" | PURGE | b"load" | b"commit" | b"abort" => {
            return Err(Refusal::invalid(
                command.column,
                "a command in the first table, which has rules only",
                "rules, with or without `add`",
            ));
        }
        _ => statement,
    };
    rule(statement, text, namespaces, None).map_err(Refusal::without_commands)
}

/// Refuses a line that a shell, a boot loader or insmod may have cut.
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

/// The command `purge`.
const PURGE: &[u8] = b"purge";

/// Carries out one statement of a transaction.
///
/// Not inlined: its frame must not lie below that of the end of the transaction.
#[inline(never)]
fn command<S: Clone + Ord>(
    edit: &mut Edit<'_, S>,
    statement: Statement<'_>,
    namespaces: &dyn Namespaces,
    slots: &dyn Slots<S>,
) -> Result<(), Refusal> {
    let command = first_word(statement);
    if edit.purges() && command.text != PURGE {
        return Err(Refusal::invalid(
            command.column,
            "a command behind a purge",
            "purge as the last command of its write; the others in a write of their own",
        ));
    }
    match command.text {
        PURGE => purge(edit, statement),
        b"add" => {
            let text = statement.behind(command);
            edit.add(rule(statement, text, namespaces, None)?, slots)
        }
        b"insert" => insert(edit, statement, namespaces, slots),
        b"delete" => delete(edit, statement),
        b"flush" => flush(edit, statement),
        b"load" => Err(Refusal::invalid(
            command.column,
            "a load behind other commands",
            "load as the first line of its write",
        )),
        b"commit" | b"abort" => Err(Refusal::invalid(
            command.column,
            "no load is open in this file",
            "load, the rules and commit through one open file: { echo load && cat FILE && echo commit; } >rules",
        )),
        _ => edit.add(rule(statement, statement, namespaces, None)?, slots),
    }
}

/// Carries out `insert [before=ID] RULE`.
fn insert<S: Clone + Ord>(
    edit: &mut Edit<'_, S>,
    statement: Statement<'_>,
    namespaces: &dyn Namespaces,
    slots: &dyn Slots<S>,
) -> Result<(), Refusal> {
    /// The word that names the place.
    const BEFORE: &[u8] = b"before=";

    let mut text = statement.behind(first_word(statement));
    check_place(text)?;
    let mut before = None;
    if let Some((word, id)) = text
        .words()
        .next()
        .and_then(|word| Some((word, word.text.strip_prefix(BEFORE)?)))
    {
        text = text.behind(word);
        let column = word.column.saturating_add(BEFORE.len());
        before = Some((value::id(id, column)?, word.column));
    }
    let parsed = rule(statement, text, namespaces, None)?;
    edit.insert(before, parsed, slots)
}

/// Refuses a place that is named as in iptables or nft, at the start of what stands behind `insert`.
fn check_place(text: Statement<'_>) -> Result<(), Refusal> {
    let Some(word) = text.words().next() else {
        return Ok(());
    };
    let is_before = word.text == b"before";
    if !is_before && !word.text.iter().all(u8::is_ascii_digit) {
        return Ok(());
    }
    Err(Refusal::invalid(
        word.column,
        "a position, which no rule has",
        "insert before=ID RULE, ahead of the rule with that id; or insert RULE, in front of all",
    )
    .likely(is_before.then_some(Likely::Word("before="))))
}

/// Carries out `flush`.
fn flush<S: Clone + Ord>(edit: &mut Edit<'_, S>, statement: Statement<'_>) -> Result<(), Refusal> {
    let words = arguments(statement);
    let is_delete = |word: &[u8]| {
        let is_key = |key: &&[u8]| word.starts_with(key);
        [&b"tag="[..], b"id="].iter().any(is_key) || word.iter().all(u8::is_ascii_digit)
    };
    if words
        .clone()
        .next()
        .is_some_and(|word| is_delete(word.text))
    {
        return Err(Refusal::invalid(
            first_word(statement).column,
            "a flush of some rules",
            "flush alone, for all rules; delete tag=T or delete ID for some",
        )
        .likely(Some(Likely::Word("delete"))));
    }
    no_more_words(words)?;
    edit.flush();
    Ok(())
}

/// Refuses `all` and the like behind a command that has a word for that: `own`.
fn check_not_every(
    which: Word<'_>,
    own: &'static str,
    expected: &'static str,
) -> Result<(), Refusal> {
    match value::is_every(which.text) {
        false => Ok(()),
        true => Err(
            Refusal::invalid(which.column, "a value that leaves nothing out", expected)
                .likely(Some(Likely::Word(own))),
        ),
    }
}

/// Carries out `delete ID` or `delete tag=T`.
fn delete<S: Clone + Ord>(edit: &mut Edit<'_, S>, statement: Statement<'_>) -> Result<(), Refusal> {
    /// The forms that it has.
    const EXPECTED: &str = "delete ID or delete tag=T";

    let words = arguments(statement);
    let which = only_word(first_word(statement), words, "nothing to delete", EXPECTED)?;
    check_not_every(
        which,
        "flush",
        "flush, for all rules; delete ID or delete tag=T for some",
    )?;
    if let Some(tag) = which.text.strip_prefix(b"tag=") {
        let tag = value::tag(tag, which.column.saturating_add(4))?;
        return edit.delete_tag(&tag, which.column);
    }
    let (id, column) = match which.text.strip_prefix(b"id=") {
        Some(id) => (id, which.column.saturating_add(3)),
        None => (which.text, which.column),
    };
    edit.delete(value::id(id, column)?, which.column)
}

/// Carries out `purge`, `purge ID[,ID...]` or `purge tag=T`.
fn purge<S: Clone + Ord>(edit: &mut Edit<'_, S>, statement: Statement<'_>) -> Result<(), Refusal> {
    let mut words = arguments(statement);
    let Some(which) = words.next() else {
        edit.purge_all();
        return Ok(());
    };
    no_more_words(words)?;
    check_not_every(
        which,
        "purge",
        "purge alone, for all rules; purge ID or purge tag=T for some",
    )?;
    if let Some(tag) = which.text.strip_prefix(b"tag=") {
        let tag = value::tag(tag, which.column.saturating_add(4))?;
        return edit.purge_tag(&tag, which.column);
    }
    let (ids, mut column) = match which.text.strip_prefix(b"id=") {
        Some(ids) => (ids, which.column.saturating_add(3)),
        None => (which.text, which.column),
    };
    for id in ids.split(|byte| *byte == b',') {
        edit.purge(value::id(id, column)?, column)?;
        column = column.saturating_add(id.len()).saturating_add(1);
    }
    Ok(())
}
