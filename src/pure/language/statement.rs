// SPDX-License-Identifier: GPL-2.0

//! Lines, and the words that a statement begins with.

use crate::pure::{
    language::{
        parse::{
            parse,
            Parsed, //
        },
        refusal::Refusal,
        text::{
            Statement,
            Word, //
        },
    },
    rule::{
        Namespaces,
        Tag, //
    },
};

/// Returns the lines of `text` with their numbers, counted from 1.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    (1..=u32::MAX).zip(text.split(|b| *b == b'\n'))
}

/// Returns the first word of a statement; an empty one where the statement is of `+` alone.
pub(crate) fn first_word(statement: Statement<'_>) -> Word<'_> {
    statement.words().next().unwrap_or(Word {
        text: b"",
        column: statement.column(),
    })
}

/// Returns the words of a statement behind the first one.
pub(crate) fn arguments(statement: Statement<'_>) -> impl Iterator<Item = Word<'_>> + Clone {
    let mut words = statement.words();
    words.next();
    words
}

/// Returns the one word that stands behind `command`.
///
/// Refuses with EINVAL: where there is none, by `missing` and `expected`.
pub(crate) fn only_word<'a>(
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

/// Refuses with EINVAL where a word is left.
pub(crate) fn no_more_words<'a>(mut words: impl Iterator<Item = Word<'a>>) -> Result<(), Refusal> {
    words.next().map_or(Ok(()), |word| {
        Err(Refusal::invalid(
            word.column,
            "a word too many",
            "the end of the line",
        ))
    })
}

/// Reads the rule `text`, which is `statement` or the end of it. `tag` is its tag where it names none.
///
/// Refuses as [`parse()`].
pub(crate) fn rule(
    statement: Statement<'_>,
    text: Statement<'_>,
    namespaces: &dyn Namespaces,
    tag: Option<&Tag>,
) -> Result<Parsed, Refusal> {
    if let Some(column) = statement.stray_plus().or(text.stray_plus()) {
        return Err(Refusal::invalid(
            column,
            "a `+` that separates nothing",
            "`+` between words, or `*` for the rest of a device's name",
        ));
    }
    if text.words().next().is_none() {
        return Err(Refusal::invalid(
            text.column(),
            "a rule is missing",
            "a rule",
        ));
    }
    parse(text.words(), namespaces, tag)
}
