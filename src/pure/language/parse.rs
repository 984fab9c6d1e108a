// SPDX-License-Identifier: GPL-2.0

//! One rule read from its words, and checked: the only maker of a [`Rule`].
//!
//! Every refusal names the column, what is wrong and what was expected.
//!
//! # Examples
//!
//! ```
//! use ctskip_pure::{
//!     language::{parse::parse, text::statements},
//!     rule::{Namespaces, Netns, NoNetns},
//! };
//!
//! /// A host without network namespaces.
//! struct Host;
//!
//! impl Namespaces for Host {
//!     fn by_inum(&self, _: u32) -> Option<Netns> {
//!         None
//!     }
//!
//!     fn by_pid(&self, _: u32) -> Option<Netns> {
//!         None
//!     }
//!
//!     fn by_path(&self, _: &str, _: &[u8]) -> Result<Netns, NoNetns> {
//!         Err(NoNetns::Missing)
//!     }
//! }
//!
//! let line = b"dport=53,53 udp # DNS";
//! let statement = statements(line).next().unwrap();
//! let parsed = parse(statement.words(), &Host, None).unwrap();
//! assert_eq!(parsed.rule.to_string(), "skip udp dport=53");
//! ```

use crate::pure::{
    language::{
        check,
        foreign,
        negation,
        reader::{
            Reader,
            Term, //
        },
        refusal::{
            Errno,
            Likely,
            Refusal, //
        },
        terms,
        text::Word, //
    },
    rule::{
        Namespaces,
        Rule,
        Tag, //
    }, //
};

/// A rule, and the id that its text gives it.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    /// `id=`, where it stands in the text.
    pub id: Option<u32>,
    /// The column of `id=` in the line; 0 without one.
    pub id_column: usize,
    /// The rule.
    pub rule: Rule,
}

/// Reads one rule.
///
/// `namespaces` finds what `netns=` names; `tag` is for a rule that names none. Process context, may
/// sleep.
pub fn parse<'a>(
    words: impl Iterator<Item = Word<'a>> + Clone,
    namespaces: &dyn Namespaces,
    tag: Option<&Tag>,
) -> Result<Parsed, Refusal> {
    let mut reader = Reader::new(namespaces, tag);
    // Most rules have no more.
    reader.rule.elements.reserve(4)?;
    for word in words.clone() {
        if let Err(refusal) = read_word(&mut reader, word) {
            return Err(explained(refusal, word, words, namespaces));
        }
    }
    let rule = match check::whole(&mut reader) {
        Ok(rule) => rule,
        Err(refusal) => {
            let ahead = |word: &Word<'_>| word.column <= refusal.column;
            let last = words.clone().take_while(ahead).last();
            return Err(match last {
                Some(word) => explained(refusal, word, words, namespaces),
                None => refusal,
            });
        }
    };
    if !rule.is_narrow() && reader.column(Term::Any).is_none() {
        return Err(Refusal::invalid(
            reader.first_column(),
            "a rule that matches a great deal; it may have been cut at a space",
            "a protocol and an address, port, type or mark that leaves some out (quote what has spaces); \
             or `any`, to say it on purpose",
        ));
    }
    Ok(Parsed {
        id: reader.id,
        id_column: reader.column(Term::Id).unwrap_or(0),
        rule,
    })
}

/// Reads one term.
fn read_word<'a>(reader: &mut Reader<'a>, word: Word<'a>) -> Result<(), Refusal> {
    if let Some(at) = word.text.iter().position(|b| !b.is_ascii_graphic()) {
        return Err(Refusal::invalid(
            word.column.saturating_add(at),
            "a character that no rule has",
            "printable ASCII",
        ));
    }
    if let Some(at) = negation::place(word.text) {
        return Err(negation::refusal(word.column.saturating_add(at)));
    }
    let (syntax, written) = terms::find(word)?;
    check::term(reader, syntax, &written)
}

/// Returns the refusal of `word`, one of `words`, with a rule that says what was probably meant, where
/// that is simple to tell.
///
/// Where there is no memory for the rule, the refusal does without.
#[inline(never)]
fn explained<'a>(
    refusal: Refusal,
    word: Word<'a>,
    words: impl Iterator<Item = Word<'a>> + Clone,
    namespaces: &dyn Namespaces,
) -> Refusal {
    if refusal.errno == Errno::NoMem {
        return refusal;
    }
    let likely = |rule: Option<Rule>, likely: fn(Rule) -> Likely| {
        rule.map(likely).and_then(Likely::if_short)
    };
    if negation::is_negated(word.text) {
        let rule = negation::rule_ahead(words, namespaces);
        return refusal.likely(likely(rule, Likely::Ahead));
    }
    let form = foreign::form(word);
    if form.is_none() && !foreign::may_be(word.text) {
        return refusal;
    }
    let rule = likely(foreign::rule(words.clone(), namespaces), Likely::Rule);
    if let Some(form) = form {
        return form.likely(rule);
    }
    let is_known = terms::find(word).is_ok();
    match rule {
        None if is_known || !foreign::is(word.text) => refusal,
        None => foreign::untold(words).unwrap_or(foreign::refusal(word.column)),
        Some(rule) if is_known => refusal.likely(Some(rule)),
        rule => foreign::refusal(word.column).likely(rule),
    }
}
