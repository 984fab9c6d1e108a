// SPDX-License-Identifier: GPL-2.0

//! Rules that are written as for iptables, nft or a shell, as far as they are simple: what they say in this
//! language, for the hint.
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
        text::Word,
        value, //
    },
    rule::{
        FixedField,
        Namespaces,
        Rule,
        TcpFlags,
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

/// Words that say what no rule of this language says, and what is expected in their place: no hint has
/// another meaning for them. `fib` and `addrtype` have one in part.
const UNTOLD: &[(&[&str], &str)] = &[
    (
        &["set", "--match-set"],
        "the addresses of the set, up to 16 in a rule: dst=10.0.0.1,10.0.0.2",
    ),
    (
        &["ct", "conntrack", "--ctstate", "--state"],
        "no state of a connection: rules act before conntrack does",
    ),
    (
        &[
            "accept", "drop", "reject", "ACCEPT", "DROP", "REJECT", "RETURN",
        ],
        "skip or track: to accept and drop is left to the firewall",
    ),
    (
        &["fib", "addrtype"],
        "local=dst or local=src, for addresses of this host; no other kind of address",
    ),
    (
        &[
            "comment",
            "ether",
            "limit",
            "log",
            "owner",
            "socket",
            "statistic",
            "vlan",
        ],
        "a rule without it: no term asks for that",
    ),
];

/// The matches of iptables whose options are among [`OPTIONS`].
const MATCHES: &[&str] = &[
    "addrtype",
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
    let value = text.iter().position(|b| *b == b'=');
    let value = value.and_then(|equals| text.get(equals.saturating_add(1)..));
    is(text)
        || text.contains(&b'{')
        || stem(OWN, text).is_some()
        || value.is_some_and(value::is_every)
}

/// Returns whether `text` is a word of iptables or nft, and none of this language.
pub(super) fn is(text: &[u8]) -> bool {
    text.starts_with(b"-")
        || stem(OPTIONS, text).is_some()
        || expected_for(text).is_some()
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

/// Returns what is expected in place of `text`, a word that says what no rule of this language says.
fn expected_for(text: &[u8]) -> Option<&'static str> {
    let is_in = |words: &[&str]| words.iter().any(|word| word.as_bytes() == text);
    let mut untold = UNTOLD.iter();
    let found = match text.starts_with(b"@") {
        // The name of a set.
        true => UNTOLD.first(),
        false => untold.find(|(words, _)| is_in(words)),
    };
    found.map(|(_, expected)| *expected)
}

/// Returns the refusal of the first of `words` that says what no rule of this language says.
pub(super) fn untold<'a>(mut words: impl Iterator<Item = Word<'a>>) -> Option<Refusal> {
    words.find_map(|word| {
        let expected = expected_for(word.text)?;
        Some(Refusal {
            expected,
            ..refusal(word.column)
        })
    })
}

/// Returns the refusal of `word`, which was refused, where its form says why: quotes, a value for all of them,
/// an address with a port.
pub(super) fn form(word: Word<'_>) -> Option<Refusal> {
    let Word { text, column } = word;
    let value = match text.iter().position(|b| *b == b'=') {
        Some(equals) => equals.saturating_add(1),
        None => 0,
    };
    let is_quote = |at: &usize| text.get(*at).is_some_and(|byte| value::is_quote(*byte));
    let places = [0, value, text.len().saturating_sub(1)];
    if let Some(at) = places.into_iter().find(is_quote) {
        return Some(Refusal::invalid(
            column.saturating_add(at),
            "quotes, which no rule has",
            "the rule without quotes",
        ));
    }
    let (syntax, written) = terms::find(word).ok()?;
    // Of devices, the refusal says it.
    if syntax.term != Term::Devices && is_every(syntax, written.value) {
        return Some(Refusal::invalid(
            written.at,
            "a value that leaves nothing out",
            "a rule without the term, or a value that leaves some out",
        ));
    }
    port_of(syntax)?;
    value::address_and_port(written.value)?;
    Some(Refusal::invalid(
        written.at,
        "a port behind an address",
        match syntax.term {
            Term::Sources => "a term for each, as in: src=10.0.0.1 sport=53",
            _ => "a term for each, as in: dst=10.0.0.1 dport=53",
        },
    ))
}

/// Returns whether `text` stands for all values of a term.
fn is_every(syntax: &Syntax, text: &[u8]) -> bool {
    let has_values = matches!(
        syntax.term,
        Term::Protocols
            | Term::Sources
            | Term::Destinations
            | Term::SourcePorts
            | Term::DestinationPorts
            | Term::IcmpTypes
            | Term::Local
            | Term::Devices
            | Term::Mark
            | Term::Netns
    );
    has_values && value::is_every(text)
}

/// Returns the stem of the term for the port of the address that a term is.
fn port_of(syntax: &Syntax) -> Option<&'static [u8]> {
    match syntax.term {
        Term::Sources => Some(b"sport"),
        Term::Destinations => Some(b"dport"),
        _ => None,
    }
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
    words: impl Iterator<Item = Word<'a>> + Clone,
    namespaces: &dyn Namespaces,
) -> Option<Rule> {
    let is_text = |word: Word<'_>| word.text.iter().all(u8::is_ascii_graphic);
    if !words.clone().all(is_text) {
        return None;
    }
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
    let says = [
        Term::Protocols,
        Term::Sources,
        Term::Destinations,
        Term::Local,
        Term::Devices,
        Term::Mark,
        Term::Any,
    ];
    says.iter().find_map(|term| reading.reader.column(*term))?;
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
            b"--dst-type" | b"--src-type" => {
                let kind = words.next()?.text;
                let end = text.strip_prefix(b"--")?.strip_suffix(b"-type")?;
                return match kind {
                    b"LOCAL" => self.own_term(b"local", end, column),
                    _ => None,
                };
            }
            b"fib" => {
                let end = match words.next()?.text {
                    b"saddr" => b"src",
                    b"daddr" => b"dst",
                    _ => return None,
                };
                return match [words.next()?.text, words.next()?.text] {
                    [b"type", b"local"] => self.own_term(b"local", end, column),
                    _ => None,
                };
            }
            b"--syn" => return self.own_term(b"flags", b"syn", column),
            b"--tcp-flags" => {
                let (mask, flags) = (flags(words.next()?.text)?, flags(words.next()?.text)?);
                let flags = TcpFlags::new(flags, Some(mask))?;
                let (value, mask) = (flags.value().into(), flags.mask().into());
                self.reader.rule.fixed.set(FixedField::FLAGS, value, mask);
                return self.reader.note(Term::Flags, column).then_some(());
            }
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
            // It may be a word of its own.
            if value::is_every(value.text) && self::stem(OPTIONS, option).is_none() {
                return None;
            }
            return self.term(syntax, key.as_bytes(), column, value, words);
        }
        let text = terms::protocol_alias(value::unquoted(text));
        let (syntax, written) = terms::find(Word { text, column }).ok()?;
        let value = Word {
            text: value::unquoted(written.value),
            column: written.at,
        };
        self.term(syntax, written.key, column, value, words)
    }

    /// Reads the term whose key is `stem` and a `=`, with a value of this language.
    fn own_term(&mut self, stem: &[u8], value: &'a [u8], column: usize) -> Option<()> {
        let (syntax, key) = terms::by_stem(stem)?;
        let written = Written {
            key: key.as_bytes(),
            value,
            start: column,
            at: column,
        };
        check::term(&mut self.reader, syntax, &written).ok()
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
        if is_every(syntax, value.text) {
            // There may be a namespace of that name.
            let is_name = syntax.term == Term::Netns
                && value::netns(value.text, value.column, self.reader.namespaces).is_ok();
            return (!is_name).then_some(());
        }
        if let (Some(stem), Some((address, port))) =
            (port_of(syntax), value::address_and_port(value.text))
        {
            check::term(&mut self.reader, syntax, &written(address, value.column)).ok()?;
            return self.own_term(stem, port, value.column);
        }
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
                    _ => value::unquoted(item),
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
        text: value::unquoted(value.text),
        ..value
    })
}

/// Returns the flags of TCP that iptables calls so.
fn flags(names: &[u8]) -> Option<u8> {
    /// FIN, SYN, RST, PSH, ACK and URG.
    const ALL: u8 = 0x3f;

    if names == b"ALL" {
        return Some(ALL);
    }
    names.split(|b| *b == b',').try_fold(0, |flags, name| {
        let mut known = TcpFlags::NAMES.iter();
        let place = known.position(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
        let bit = 1u8.checked_shl(u32::try_from(place).ok()?)?;
        Some(flags | bit)
    })
}
