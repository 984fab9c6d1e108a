// SPDX-License-Identifier: GPL-2.0

//! The table of terms: how each term of a rule is spelt, read and printed.
//!
//! A new term is a variant of [`Term`], a row of [`TERMS`], a function that reads its value
//! ([`value`]) and one that prints it ([`print`]). The messages that list the terms, the likely
//! spellings, the check of the protocols and the canonical text all come from the table, and the tables of
//! `docs/rules.md` are held to it ([`table`]).

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use crate::pure::{
    language::{
        print,
        reader::{
            Reader,
            Term,
            Written, //
        },
        refusal::{
            Likely,
            Refusal, //
        },
        spelling::Nearest,
        text::{
            self,
            Word, //
        },
        value, //
    },
    rule::{
        protocol,
        Action,
        Element,
        Family,
        Rule,
        TcpFlags, //
    }, //
};

/// The header that a term is about: every protocol of the rule must have it.
pub(super) struct Header {
    /// Returns whether a protocol has the header.
    pub(super) is_of: fn(u8) -> bool,
    /// The mistake, where no protocol is named.
    pub(super) alone: &'static str,
    /// The mistake, where another protocol is named.
    pub(super) what: &'static str,
    /// The protocols that are expected.
    pub(super) expected: &'static str,
}

const PORTS: Option<Header> = Some(Header {
    is_of: protocol::has_ports,
    alone: "a port without a protocol, for which `any` does not stand",
    what: "a port where not every protocol has ports",
    expected: "tcp, udp or sctp, and no other protocol",
});

/// How a term is spelt, read and printed.
pub(super) struct Syntax {
    pub(super) term: Term,
    /// Whether the term is a list, of which there may be many combinations.
    pub(super) is_list: bool,
    /// The words of the term that messages list: a word, `KEY=` with a value behind it, or `KEY=VALUE`
    /// where that is the only value.
    listed: &'static [&'static str],
    /// Further words of the term.
    unlisted: &'static [&'static str],
    /// Words of other tools, and the words of the language for them.
    aliases: &'static [(&'static str, &'static str)],
    /// The header that the term is about, where not every protocol has it.
    pub(super) header: Option<Header>,
    /// Reads the term into the rule.
    pub(super) read: for<'a> fn(&mut Reader<'a>, &Written<'a>) -> Result<(), Refusal>,
    /// Prints the term of a rule, in the canonical form.
    print: fn(&Rule, &mut Formatter<'_>) -> fmt::Result,
}

impl Syntax {
    /// The fields that a row leaves out.
    const DEFAULT: Self = Self {
        term: Term::Any,
        is_list: false,
        listed: &[],
        unlisted: &[],
        aliases: &[],
        header: None,
        read: |_, _| Ok(()),
        print: |_, _| Ok(()),
    };

    /// Returns all words of the term.
    fn words(&self) -> impl Iterator<Item = &'static str> {
        self.listed.iter().chain(self.unlisted).copied()
    }
}

/// The terms, in the order in which messages list them and rules print them.
pub(super) static TERMS: [Syntax; Term::COUNT] = [
    Syntax {
        term: Term::Action,
        listed: &["skip", "track"],
        aliases: &[("notrack", "skip"), ("untracked", "skip")],
        read: |reader, written| {
            reader.rule.action = match written.key {
                b"track" => Action::Track,
                _ => Action::Skip,
            };
            Ok(())
        },
        print: print::action,
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Protocols,
        is_list: true,
        // The names are read without a key.
        unlisted: &protocol_words(),
        aliases: &[
            ("icmpv6", "icmp6"),
            ("ipv6-icmp", "icmp6"),
            ("protocol=", "proto="),
        ],
        read: |reader, written| reader.list(written, read_protocol),
        // The family stands ahead of the protocols.
        print: print::family_and_protocols,
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Family,
        listed: &["ip", "ip6"],
        aliases: &[
            ("ipv4", "ip"),
            ("ip4", "ip"),
            ("inet", "ip"),
            ("ipv6", "ip6"),
        ],
        read: read_family,
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Sources,
        is_list: true,
        listed: &["src="],
        aliases: &[
            ("saddr=", "src="),
            ("sip=", "src="),
            ("source=", "src="),
            ("srcip=", "src="),
        ],
        read: |reader, written| reader.prefixes(written, Element::Source),
        print: |rule, f| print::prefixes(f, " src=", rule, rule.sources()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Destinations,
        is_list: true,
        listed: &["dst="],
        aliases: &[
            ("daddr=", "dst="),
            ("dip=", "dst="),
            ("dest=", "dst="),
            ("destination=", "dst="),
            ("dstip=", "dst="),
        ],
        read: |reader, written| reader.prefixes(written, Element::Destination),
        print: |rule, f| print::prefixes(f, " dst=", rule, rule.destinations()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::SourcePorts,
        is_list: true,
        listed: &["sport="],
        aliases: &[("sports=", "sport="), ("srcport=", "sport=")],
        header: PORTS,
        read: |reader, written| reader.ports(written, Element::SourcePort),
        print: |rule, f| print::list(f, " sport=", rule.source_ports()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::DestinationPorts,
        is_list: true,
        listed: &["dport="],
        aliases: &[
            ("port=", "dport="),
            ("ports=", "dport="),
            ("dports=", "dport="),
            ("dstport=", "dport="),
        ],
        header: PORTS,
        read: |reader, written| reader.ports(written, Element::DestinationPort),
        print: |rule, f| print::list(f, " dport=", rule.destination_ports()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::IcmpTypes,
        is_list: true,
        listed: &["type="],
        aliases: &[("icmp-type=", "type="), ("icmpv6-type=", "type=")],
        header: Some(Header {
            is_of: |number| matches!(number, protocol::ICMP | protocol::ICMP6),
            alone: "a type without a protocol, for which `any` does not stand",
            what: "a type where not every protocol is ICMP",
            expected: "icmp or icmp6, and no other protocol",
        }),
        read: |reader, written| {
            reader.icmp_types = Some(*written);
            Ok(())
        },
        print: |rule, f| print::list(f, " type=", rule.icmp_types()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Flags,
        listed: &[text::FLAGS],
        aliases: &[("tcp-flags=", "flags=")],
        header: Some(Header {
            is_of: |number| number == protocol::TCP,
            alone: "flags without a protocol, for which `any` does not stand",
            what: "flags where not every protocol is TCP",
            expected: "tcp, and no other protocol",
        }),
        read: |reader, written| {
            reader.rule.flags = Some(value::flags(written.value, written.at)?);
            Ok(())
        },
        print: |rule, f| print::list(f, " flags=", rule.flags().into_iter()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Local,
        listed: &["local="],
        unlisted: &["local=dst", "local=src"],
        read: |reader, written| {
            reader.rule.local = Some(value::local(written.value, written.at)?);
            Ok(())
        },
        print: print::local,
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Devices,
        is_list: true,
        listed: &["dev="],
        aliases: &[
            ("in=", "dev="),
            ("out=", "dev="),
            ("if=", "dev="),
            ("iif=", "dev="),
            ("oif=", "dev="),
            ("iifname=", "dev="),
            ("oifname=", "dev="),
            ("ifname=", "dev="),
            ("iface=", "dev="),
            ("interface=", "dev="),
            ("device=", "dev="),
        ],
        read: |reader, written| reader.devices(written),
        print: |rule, f| print::list(f, " dev=", rule.devices()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Mark,
        listed: &["mark="],
        aliases: &[("fwmark=", "mark=")],
        read: |reader, written| {
            reader.rule.mark = Some(value::mark(written.value, written.at)?);
            Ok(())
        },
        print: |rule, f| print::list(f, " mark=", rule.mark().into_iter()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Netns,
        listed: &["netns="],
        unlisted: &["netns!="],
        aliases: &[("ns=", "netns="), ("pid=", "netns=pid:")],
        read: |reader, written| {
            let Written { key, value, at, .. } = *written;
            reader.rule.netns = match key {
                b"netns!=" => value::not_netns(value, at)?,
                _ => value::netns(value, at, reader.namespaces)?,
            };
            Ok(())
        },
        print: print::netns,
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Nat,
        listed: &["nat=ok"],
        read: |reader, written| {
            if written.value != b"ok" {
                let Written { at, .. } = *written;
                return Err(Refusal::invalid(at, "not a value of nat=", "nat=ok"));
            }
            reader.rule.nat_ok = true;
            Ok(())
        },
        print: |rule, f| print::word(f, " nat=ok", rule.nat_ok()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Oneway,
        listed: &["oneway"],
        read: |reader, _| {
            reader.rule.oneway = true;
            Ok(())
        },
        print: |rule, f| print::word(f, " oneway", rule.oneway()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Any,
        listed: &["any"],
        unlisted: &["all"],
        print: |rule, f| print::word(f, " any", !rule.is_narrow()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Tag,
        listed: &["tag="],
        read: |reader, written| {
            reader.rule.tag = Some(value::tag(written.value, written.at)?);
            Ok(())
        },
        print: |rule, f| print::list(f, " tag=", rule.tag().into_iter()),
        ..Syntax::DEFAULT
    },
    Syntax {
        term: Term::Id,
        listed: &["id="],
        read: |reader, written| {
            reader.id = Some(value::id(written.value, written.at)?);
            Ok(())
        },
        ..Syntax::DEFAULT
    },
];

// The rows stand in the order of `Term`.
const _: () = {
    let (mut rows, mut place): (&[Syntax], usize) = (&TERMS, 0);
    while let [row, rest @ ..] = rows {
        assert!(row.term as usize == place);
        (rows, place) = (rest, place.wrapping_add(1));
    }
};

/// The words that begin a command, and what other tools call them.
const COMMANDS: [&str; 8] = [
    "add", "insert", "delete", "flush", "purge", "load", "commit", "abort",
];
const COMMAND_ALIASES: [(&str, &str); 4] = [
    ("del", "delete"),
    ("remove", "delete"),
    ("rm", "delete"),
    ("clear", "flush"),
];

/// Returns the words of a list of protocols.
const fn protocol_words() -> [&'static str; protocol::NAMES.len() + 1] {
    let mut words = ["proto="; protocol::NAMES.len() + 1];
    let (mut room, mut names): (&mut [&str], &[&str]) = (&mut words, &protocol::NAMES);
    while let ([place, rest @ ..], [name, behind @ ..]) = (room, names) {
        *place = *name;
        (room, names) = (rest, behind);
    }
    words
}

// `+` joins two flags of TCP, where it stands for a space otherwise: so no flag is a word.
const _: () = {
    let mut rows: &[Syntax] = &TERMS;
    let mut words: &[&str] = &COMMANDS;
    let mut others: &[&str] = &[];
    loop {
        (words, others) = match (words, others, rows) {
            ([word, rest @ ..], ..) => {
                assert!(TcpFlags::bit(word.as_bytes()).is_none(), "a word is a flag");
                (rest, others)
            }
            ([], [_, ..], _) => (others, words),
            ([], [], [row, rest @ ..]) => {
                rows = rest;
                (row.listed, row.unlisted)
            }
            ([], [], []) => break,
        };
    }
};

/// A term as it is written, and its row.
pub(super) type Found<'w> = (&'static Syntax, Written<'w>);

/// Returns the term that `word` is, and the parts of the word; refuses an unknown word.
pub(super) fn find(word: Word<'_>) -> Result<Found<'_>, Refusal> {
    let Word { text, column } = word;
    let first = text.split(|b| *b == b',').next().unwrap_or_default();
    let (key, value) = match text.iter().position(|b| *b == b'=') {
        // A list of protocols needs no key.
        _ if protocol::number(first).is_some() => (first, text),
        Some(equals) => text
            .split_at_checked(equals.saturating_add(1))
            .unwrap_or_default(),
        None => (text, &[][..]),
    };
    // A key is a whole word, or all of it up to its `=`.
    let has_value = key.ends_with(b"=");
    let is_key = |word: &&str| {
        let word = word.as_bytes();
        // Most words differ in their first letter.
        word.first() == key.first() && (word == key || has_value && word.starts_with(key))
    };
    let has_key = |row: &&Syntax| row.listed.iter().any(is_key) || row.unlisted.iter().any(is_key);
    let syntax = TERMS.iter().find(has_key);
    let written = Written {
        key,
        value,
        start: column,
        at: column.saturating_add(match value.len() == text.len() {
            true => 0,
            false => key.len(),
        }),
    };
    Ok((syntax.ok_or_else(|| unknown_word(word))?, written))
}

/// Returns the term whose word is `stem` and a `=`, and the word; also where another tool calls it so.
pub(super) fn by_stem(stem: &[u8]) -> Option<(&'static Syntax, &'static str)> {
    let is = |word: &str| word.strip_suffix('=').map(str::as_bytes) == Some(stem);
    let alias = aliases().find(|(alias, _)| is(alias));
    TERMS.iter().find_map(|row| {
        let mut words = row.words();
        let word = words.find(|word| is(word) || alias.is_some_and(|(_, own)| own == *word))?;
        Some((row, word))
    })
}

/// Returns the word of the language for the protocol that other tools call `name`; else the name itself.
pub(super) fn protocol_alias(name: &[u8]) -> &[u8] {
    let mut names = aliases().filter(|(_, own)| protocol::number(own.as_bytes()).is_some());
    let own = names.find(|(alias, _)| alias.as_bytes() == name);
    own.map_or(name, |(_, own)| own.as_bytes())
}

/// Returns the words of other tools, each with the word of the language for it.
fn aliases() -> impl Iterator<Item = (&'static str, &'static str)> {
    TERMS.iter().flat_map(|row| row.aliases).copied()
}

/// Reads an element of a list of protocols.
fn read_protocol(item: &[u8], at: usize) -> Result<Element, Refusal> {
    let number = || value::number(item).and_then(|n| u8::try_from(n).ok());
    let meant = || match value::likely_numbers(item, u8::MAX.into()) {
        Some(Likely::Numbers(number)) if number.first() == number.last() => {
            Some(Likely::Numbers(number))
        }
        _ => likely(item),
    };
    protocol::number(item)
        .or_else(number)
        .map(Element::Protocol)
        .ok_or_else(|| Refusal::invalid(at, "not a protocol", PROTOCOLS).likely(meant()))
}

/// Reads `ip` or `ip6`.
fn read_family(reader: &mut Reader<'_>, written: &Written<'_>) -> Result<(), Refusal> {
    let family = match written.key {
        b"ip6" => Family::Ipv6,
        _ => Family::Ipv4,
    };
    if *reader.rule.family.get_or_insert(family) != family {
        return Err(Refusal::invalid(
            written.start,
            "a family that the addresses are not of",
            "one family a rule",
        ));
    }
    Ok(())
}

/// Words of what is set elsewhere: what is wrong with them in a rule, and where they are set.
const ELSEWHERE: &[(&[&str], &str, &str)] = &[
    (
        &["mode", "mode=", "off", "observe"],
        "a word of the mode, which no rule has",
        "skip, observe or off, written to /sys/kernel/ctskip/mode; or the parameter mode=",
    ),
    (
        &["rules=", "icmp_errors=", "worst_lookup="],
        "a parameter of the module, which no rule has",
        "a rule; parameters stand behind `modprobe ctskip`",
    ),
];

fn unknown_word(word: Word<'_>) -> Refusal {
    let key = key(word.text);
    let is_key = |word: &&str| word.as_bytes() == key;
    let mut elsewhere = ELSEWHERE.iter();
    match elsewhere.find(|(words, _, _)| words.iter().any(is_key)) {
        Some((_, what, expected)) => Refusal::invalid(word.column, what, expected),
        None => {
            Refusal::invalid(word.column, "an unknown word", EXPECTED).likely(likely(word.text))
        }
    }
}

/// Returns `text` up to its `=`.
fn key(text: &[u8]) -> &[u8] {
    match text.iter().position(|b| *b == b'=') {
        Some(equals) => text.get(..=equals).unwrap_or(text),
        None => text,
    }
}

/// Returns the word of the language that `text` was probably meant to be.
fn likely(text: &[u8]) -> Option<Likely> {
    let key = key(text);
    let mut is_known = false;
    let mut nearest = Nearest::to(key);
    each_word(|word| {
        is_known |= word.as_bytes() == key;
        nearest.offer(word);
    });
    // A command where none can stand.
    if is_known {
        return None;
    }
    let mut aliases = aliases().chain(COMMAND_ALIASES);
    let alias = aliases.find(|(alias, _)| alias.as_bytes().eq_ignore_ascii_case(key));
    let word = match alias {
        Some((_, word)) => Some(word),
        // Another operator than `=` says something else.
        None if key.iter().any(|b| b"!<>~".contains(b)) => None,
        None => nearest.word(),
    };
    word.map(Likely::Word)
}

/// Calls `with` with each word of rules and commands, in the order of the table.
fn each_word(mut with: impl FnMut(&'static str)) {
    TERMS.iter().for_each(|row| row.words().for_each(&mut with));
    COMMANDS.into_iter().for_each(with);
}

/// The words that are expected in place of an unknown one: the commands, and the words of the table.
const EXPECTED: &str = match core::str::from_utf8(&EXPECTED_BYTES) {
    Ok(text) => text,
    Err(_) => "",
};
const EXPECTED_START: &str = "add insert delete flush purge load, a protocol, or one of";
const EXPECTED_BYTES: [u8; EXPECTED_LEN] = {
    let mut bytes = [0; EXPECTED_LEN];
    let mut room = put(&mut bytes, EXPECTED_START);
    let mut rows: &[Syntax] = &TERMS;
    while let [row, behind @ ..] = rows {
        let mut words = row.listed;
        while let [word, rest @ ..] = words {
            room = put(put(room, " "), word);
            words = rest;
        }
        rows = behind;
    }
    assert!(room.is_empty());
    bytes
};
const EXPECTED_LEN: usize = {
    let mut len = EXPECTED_START.len();
    let mut rows: &[Syntax] = &TERMS;
    while let [row, behind @ ..] = rows {
        let mut words = row.listed;
        while let [word, rest @ ..] = words {
            len = len.wrapping_add(1).wrapping_add(word.len());
            words = rest;
        }
        rows = behind;
    }
    len
};

/// The protocols that are expected in place of an unknown one.
const PROTOCOLS: &str = match core::str::from_utf8(&PROTOCOLS_BYTES) {
    Ok(text) => text,
    Err(_) => "",
};
const PROTOCOLS_END: &str = "or a number from 0 to 255";
const PROTOCOLS_BYTES: [u8; PROTOCOLS_LEN] = {
    let mut bytes = [0; PROTOCOLS_LEN];
    let (mut room, mut names): (&mut [u8], &[&str]) = (&mut bytes, &protocol::NAMES);
    while let [name, rest @ ..] = names {
        room = put(put(room, name), ", ");
        names = rest;
    }
    assert!(put(room, PROTOCOLS_END).is_empty());
    bytes
};
const PROTOCOLS_LEN: usize = {
    let mut len = PROTOCOLS_END.len();
    let mut names: &[&str] = &protocol::NAMES;
    while let [name, rest @ ..] = names {
        len = len.wrapping_add(name.len()).wrapping_add(2);
        names = rest;
    }
    len
};

/// Writes `text` to the start of `room`. Returns the room behind it.
const fn put<'r>(mut room: &'r mut [u8], text: &str) -> &'r mut [u8] {
    let mut text = text.as_bytes();
    while let [byte, behind @ ..] = text {
        let [first, rest @ ..] = room else {
            return &mut [];
        };
        *first = *byte;
        room = rest;
        text = behind;
    }
    room
}

/// The canonical text: read again, it gives an equal rule. The id is no part of it.
impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        TERMS.iter().try_for_each(|row| (row.print)(self, f))
    }
}

/// A term's words, for the test that holds the document to them.
#[cfg(not(MODULE))]
pub struct Row {
    /// Whether the term is a list.
    pub is_list: bool,
    /// The words that messages list.
    pub listed: &'static [&'static str],
    /// Further words.
    pub unlisted: &'static [&'static str],
    /// Words of other tools, and the words of the language for them.
    pub aliases: &'static [(&'static str, &'static str)],
}

/// Returns the words of each term, in the order of the table.
#[cfg(not(MODULE))]
pub fn table() -> impl Iterator<Item = Row> {
    TERMS.iter().map(|row| Row {
        is_list: row.is_list,
        listed: row.listed,
        unlisted: row.unlisted,
        aliases: row.aliases,
    })
}
