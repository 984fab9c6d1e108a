// SPDX-License-Identifier: GPL-2.0

//! Rules of iptables and nft, as far as they are simple: what they say in this language, for the hint.
//!
//! A word that is not known here makes an end of it: a hint leaves nothing out.

use crate::pure::{
    language::{
        check,
        negation,
        reader::{
            Reader,
            Term,
            Written, //
        },
        refusal::Refusal,
        terms::{
            self,
            Syntax, //
        },
        text::Word, //
    },
    rule::{
        Namespaces,
        Rule,
        MAX_LIST, //
    }, //
};

/// The words behind which a value stands, and the keys of this language for them.
const OPTIONS: &[(&str, &str)] = &[
    // iptables
    ("-p", "proto"),
    ("--protocol", "proto"),
    ("-s", "src"),
    ("--src", "src"),
    ("--source", "src"),
    ("-d", "dst"),
    ("--dst", "dst"),
    ("--destination", "dst"),
    ("-i", "dev"),
    ("--in-interface", "dev"),
    ("-o", "dev"),
    ("--out-interface", "dev"),
    ("--sport", "sport"),
    ("--sports", "sport"),
    ("--source-port", "sport"),
    ("--source-ports", "sport"),
    ("--dport", "dport"),
    ("--dports", "dport"),
    ("--destination-port", "dport"),
    ("--destination-ports", "dport"),
    ("--icmp-type", "type"),
    ("--icmpv6-type", "type"),
    ("--mark", "mark"),
    // nft
    ("l4proto", "proto"),
    ("protocol", "proto"),
    ("nexthdr", "proto"),
    ("saddr", "src"),
    ("daddr", "dst"),
    ("iif", "dev"),
    ("iifname", "dev"),
    ("oif", "dev"),
    ("oifname", "dev"),
];

/// Likewise the words that may as well be of this language, with blanks around the `=` or without it.
const OWN: &[(&str, &str)] = &[
    ("type", "type"),
    ("mark", "mark"),
    ("port", "dport"),
    ("sport", "sport"),
    ("dport", "dport"),
    ("src", "src"),
    ("dst", "dst"),
    ("dev", "dev"),
];

/// The words that say nothing that a rule of this language does not say.
const FILLERS: &[&str] = &["meta", "th", "counter", "notrack", "--notrack"];

/// Words of nft that say what no rule of this language says: no hint has another meaning for them.
const UNTOLD: &[&str] = &[
    "accept", "comment", "ct", "drop", "ether", "fib", "limit", "log", "reject", "socket", "vlan",
];

/// The matches of iptables whose options are among [`OPTIONS`].
const MATCHES: &[&str] = &[
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "icmpv6",
    "multiport",
    "mark",
];

/// Returns whether `text`, a word that was refused, may be of a rule of iptables or nft.
///
/// Not `notrack`: [`terms`] knows what it is called here.
pub(super) fn may_be(text: &[u8]) -> bool {
    is(text) || text.contains(&b'{') || stem(OWN, text).is_some()
}

/// Returns whether `text` is a word of iptables or nft, and none of this language.
pub(super) fn is(text: &[u8]) -> bool {
    text.starts_with(b"-")
        || stem(OPTIONS, text).is_some()
        || UNTOLD.iter().any(|word| word.as_bytes() == text)
        || matches!(
            text,
            b"iptables" | b"ip6tables" | b"nft" | b"rule" | b"meta" | b"th" | b"counter"
        )
}

/// Returns the key of this language, without its `=`, for the word `text` of a list.
fn stem(list: &[(&str, &'static str)], text: &[u8]) -> Option<&'static str> {
    let mut list = list.iter();
    let found = list.find(|(word, _)| word.as_bytes() == text);
    found.map(|(_, stem)| *stem)
}

/// Returns the refusal of a word of iptables or nft, in `column`.
pub(super) fn refusal(column: usize) -> Refusal {
    Refusal::invalid(
        column,
        "a word of iptables or nft",
        "KEY=VALUE and words, as in: udp dst=10.0.0.1 dport=53",
    )
}

/// Returns the rule that `words`, of iptables, nft or this language, say; [`None`] where that is not simple
/// to tell, or memory ran out.
///
/// Not inlined: a [`Reader`] is large, and the caller has one.
#[inline(never)]
pub(super) fn rule<'a>(
    words: impl Iterator<Item = Word<'a>>,
    namespaces: &dyn Namespaces,
) -> Option<Rule> {
    // As words that live no longer than `namespaces`.
    let mut words = words.map(|Word { text, column }| Word { text, column });
    let mut reading = Reading {
        reader: Reader::lenient(namespaces),
        protocol: &[],
        family: &[],
    };
    while let Some(word) = words.next() {
        if negation::is_negated(word.text) {
            return None;
        }
        reading.word(word, &mut words)?;
    }
    reading.reader.column(Term::Protocols).or(reading
        .reader
        .column(Term::Sources)
        .or(reading.reader.column(Term::Destinations)))?;
    check::whole(&mut reading.reader).ok()
}

/// A rule of which not all words are read.
struct Reading<'a> {
    reader: Reader<'a>,
    /// The protocol, which nft may say several times.
    protocol: &'a [u8],
    /// The word for the family, which nft may say several times.
    family: &'a [u8],
}

impl<'a> Reading<'a> {
    /// Reads `word`, and of `words`, those behind it, what belongs to it.
    fn word(&mut self, word: Word<'a>, words: &mut impl Iterator<Item = Word<'a>>) -> Option<()> {
        let Word { text, column } = word;
        match text {
            b"iptables" => return self.family(b"ip", column),
            b"ip6tables" => return self.family(b"ip6", column),
            b"nft" => {
                let command = words.next()?;
                return matches!(command.text, b"add" | b"insert").then_some(());
            }
            b"rule" => {
                let family = words.next()?;
                if matches!(family.text, b"ip" | b"ip6" | b"inet") {
                    words.next()?;
                }
                return words.next().map(drop);
            }
            b"-A" | b"--append" | b"-I" | b"--insert" | b"-t" | b"--table" => {
                return words.next().map(drop);
            }
            b"-m" | b"--match" => {
                let name = words.next()?;
                let mut known = MATCHES.iter();
                return known
                    .any(|known| known.as_bytes() == name.text)
                    .then_some(());
            }
            b"-j" | b"--jump" => {
                let target = words.next()?;
                return matches!(target.text, b"NOTRACK" | b"CT").then_some(());
            }
            b"ip" | b"ip6" => return self.family(text, column),
            _ => {}
        }
        if FILLERS.iter().any(|filler| filler.as_bytes() == text) {
            return Some(());
        }
        // `--dport=53` is `--dport 53`.
        let equals = text.iter().position(|b| *b == b'=');
        let (option, value) = match equals.filter(|_| text.starts_with(b"--")) {
            Some(equals) => (text.get(..equals)?, text.get(equals.saturating_add(1)..)),
            None => (text, None),
        };
        if let Some(stem) = stem(OPTIONS, option).or(stem(OWN, option)) {
            let (syntax, key) = terms::by_stem(stem.as_bytes())?;
            let value = match value {
                Some(text) => Word { text, column },
                None => value_behind(words)?,
            };
            return self.term(syntax, key.as_bytes(), column, value, words);
        }
        let text = terms::protocol_alias(text);
        let (syntax, written) = terms::find(Word { text, column }).ok()?;
        let value = Word {
            text: written.value,
            column: written.at,
        };
        self.term(syntax, written.key, column, value, words)
    }

    /// Reads the family.
    fn family(&mut self, text: &'a [u8], column: usize) -> Option<()> {
        if core::mem::replace(&mut self.family, text) == text {
            return Some(());
        }
        let (syntax, written) = terms::find(Word { text, column }).ok()?;
        check::term(&mut self.reader, syntax, &written).ok()
    }

    /// Reads a term that stands in column `start`. Its value may go on in `words`.
    fn term(
        &mut self,
        syntax: &'static Syntax,
        key: &'a [u8],
        start: usize,
        value: Word<'a>,
        words: &mut impl Iterator<Item = Word<'a>>,
    ) -> Option<()> {
        let written = |value: &'a [u8], at| Written {
            key,
            value,
            start,
            at,
        };
        if syntax.term == Term::Protocols && !value.text.starts_with(b"{") {
            let name = terms::protocol_alias(value.text);
            if core::mem::replace(&mut self.protocol, name) == name {
                return Some(());
            }
            return check::term(&mut self.reader, syntax, &written(name, value.column)).ok();
        }
        let Some(mut text) = value.text.strip_prefix(b"{") else {
            return check::term(&mut self.reader, syntax, &written(value.text, value.column)).ok();
        };
        // A list in braces, perhaps with blanks in it. Types are read later, all at once.
        if !syntax.is_list
            || syntax.term == Term::IcmpTypes
            || !self.reader.note(syntax.term, start)
        {
            return None;
        }
        let mut left = MAX_LIST;
        loop {
            let inner = text.strip_suffix(b"}");
            let items = inner.unwrap_or(text).split(|b| *b == b',');
            for item in items.filter(|item| !item.is_empty()) {
                left = left.checked_sub(1)?;
                let item = match syntax.term {
                    Term::Protocols => terms::protocol_alias(item),
                    _ => unquoted(item),
                };
                (syntax.read)(&mut self.reader, &written(item, value.column)).ok()?;
            }
            if inner.is_some() {
                return Some(());
            }
            text = words.next()?.text;
        }
    }
}

/// Returns the value that `words` begin with, behind a `=` that may stand ahead of it.
fn value_behind<'a>(words: &mut impl Iterator<Item = Word<'a>>) -> Option<Word<'a>> {
    let value = words.find(|word| !matches!(word.text, b"=" | b"=="))?;
    (!negation::is_negated(value.text)).then_some(Word {
        text: unquoted(value.text),
        ..value
    })
}

/// Returns a text without the quotes around it.
fn unquoted(text: &[u8]) -> &[u8] {
    let inner = text
        .strip_prefix(b"\"")
        .and_then(|text| text.strip_suffix(b"\""));
    inner.unwrap_or(text)
}
