// SPDX-License-Identifier: GPL-2.0

//! What looks like a negation. No term has one, but for `netns!=init`: a `track` rule ahead leaves out what
//! a `skip` rule is not to match.
//!
//! A likely spelling of `dport!=53` would be `dport=53`, which says the opposite. So the hint is the rule to
//! insert ahead.

use crate::pure::{
    language::{
        check,
        reader::{
            Reader,
            Term,
            Written, //
        },
        refusal::Refusal,
        terms::{
            self,
            Found, //
        },
        text::Word, //
    },
    rule::{
        Action,
        Namespaces,
        Rule, //
    }, //
};

/// The key that has a negation.
const NETNS: &[u8] = b"netns!=";

/// Returns the place of a negation that no term has in the text of a word.
pub(super) fn place(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"!") || text == b"not" {
        return Some(0);
    }
    // The element of a list.
    let element = |from: usize| {
        let behind = text.get(from..)?;
        let comma = behind.windows(2).position(|pair| pair == b",!")?;
        Some(from.saturating_add(comma).saturating_add(1))
    };
    let Some(equals) = text.iter().position(|b| *b == b'=') else {
        return element(0);
    };
    let value = equals.saturating_add(1);
    let bang = equals.checked_sub(1);
    if bang.is_some_and(|bang| text.get(bang) == Some(&b'!')) {
        return bang.filter(|_| !text.starts_with(NETNS));
    }
    match text.get(value) {
        Some(b'!') => Some(value),
        _ => element(value),
    }
}

/// Returns whether a word negates what it says, and no term says so.
pub(super) fn is_negated(text: &[u8]) -> bool {
    place(text).is_some() || text.starts_with(NETNS) && text != b"netns!=init"
}

/// Returns the refusal of a negation in `column`.
pub(super) fn refusal(column: usize) -> Refusal {
    Refusal::invalid(
        column,
        "a negation, which no term has but netns!=init",
        "the rule without this term, and ahead of it a `track` rule for what it is not to match",
    )
}

/// Returns the `track` rule for what a `skip` rule of these words is not to match, by the first of them that
/// is negated; [`None`] where that is not simple to tell, or memory ran out.
///
/// A further negated word leaves out something else, by a rule of its own. What a `track` rule does not match
/// is left to the rules behind it, so no one rule ahead of it does the same there.
///
/// Not inlined: a [`Reader`] is large, and the caller has one.
#[inline(never)]
pub(super) fn rule_ahead<'a>(
    mut words: impl Iterator<Item = Word<'a>>,
    namespaces: &dyn Namespaces,
) -> Option<Rule> {
    let mut reader = Reader::new(namespaces, None);
    let mut is_found = false;
    while let Some(word) = words.next() {
        let is_negated = is_negated(word.text);
        let (syntax, written) = match word.text {
            b"!" | b"not" => positive(words.next()?)?,
            _ if is_negated => opposite(word)?,
            _ => positive(word)?,
        };
        match syntax.term {
            Term::Action if written.key == b"track" => return None,
            Term::Action | Term::Nat | Term::Oneway | Term::Any | Term::Tag | Term::Id
                if is_negated =>
            {
                return None;
            }
            Term::Action | Term::Nat | Term::Any | Term::Id => {}
            _ if is_negated && is_found => {}
            _ => check::term(&mut reader, syntax, &written).ok()?,
        }
        is_found |= is_negated;
    }
    reader.rule.action = Action::Track;
    let rule = check::whole(&mut reader).ok()?;
    is_found.then_some(rule)
}

/// Returns the term that `word` is, unless it is negated.
fn positive(word: Word<'_>) -> Option<Found<'_>> {
    match place(word.text) {
        None => terms::find(word).ok(),
        Some(_) => None,
    }
}

/// Returns the term that `word`, which is negated, negates: `!TERM`, `KEY!=VALUE` or `KEY=!VALUE`. In
/// `KEY=!A,B` it is not plain what is negated.
fn opposite(word: Word<'_>) -> Option<Found<'_>> {
    let Word { text, column } = word;
    if let Some(text) = text.strip_prefix(b"!") {
        return positive(Word {
            text,
            column: column.saturating_add(1),
        });
    }
    let equals = text.iter().position(|b| *b == b'=')?;
    let (key, value) = text.split_at_checked(equals.saturating_add(1))?;
    let (stem, value) = match key.strip_suffix(b"!=") {
        Some(stem) => (stem, value),
        None => (
            key.strip_suffix(b"=")?,
            value
                .strip_prefix(b"!")
                .filter(|value| !value.contains(&b','))?,
        ),
    };
    if value.contains(&b'!') {
        return None;
    }
    let (syntax, key) = terms::by_stem(stem)?;
    let at = column.saturating_add(text.len().saturating_sub(value.len()));
    let written = Written {
        key: key.as_bytes(),
        value,
        start: column,
        at,
    };
    Some((syntax, written))
}
