// SPDX-License-Identifier: GPL-2.0

//! One rule read from its words, and checked: the only maker of a [`Rule`].
//!
//! Every refusal names the column, what is wrong and what was expected.

use core::{
    net::{
        Ipv4Addr,
        Ipv6Addr, //
    },
    str::FromStr, //
};

use crate::pure::{
    alloc::Vec,
    language::{
        print::{
            family_of_protocols,
            DisplayPrefix, //
        },
        refusal::{
            Errno,
            Likely,
            Refusal, //
        },
        text::{
            column,
            Word, //
        },
    },
    rule::{
        protocol,
        Action,
        Device,
        Family,
        Local,
        Mark,
        Namespaces,
        Netns,
        Parts,
        Prefix,
        Range,
        Rule,
        Tag,
        Term, //
    },
    sort::sort_by_key, //
};

/// The most elements of one list.
pub const MAX_LIST: usize = 16;

/// The most combinations that the lists of one rule may make.
pub const MAX_PRODUCT: usize = 1024;

/// A rule as read, with the id that the text gives it.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    /// `id=`, where it stands in the text.
    pub id: Option<u32>,
    /// Where `id=` stands in the line; 0 without one.
    pub id_column: usize,
    /// The rule.
    pub rule: Rule,
}

/// What can stand once in a rule. The first ones are lists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Protocol,
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    IcmpType,
    Device,
    Action,
    Family,
    Local,
    Mark,
    Netns,
    Nat,
    Oneway,
    Any,
    Tag,
    Id,
}

impl Key {
    const COUNT: usize = Self::Id as usize + 1;
    const LISTS: usize = Self::Device as usize + 1;
}

/// The words of rules and commands, as they are spelt: what an unknown word is compared with.
const WORDS: [&str; 38] = [
    "skip",
    "track",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "gre",
    "esp",
    "ah",
    "ipip",
    "proto=",
    "ip",
    "ip6",
    "src=",
    "dst=",
    "sport=",
    "dport=",
    "type=",
    "local=",
    "dev=",
    "mark=",
    "netns=",
    "netns!=",
    "nat=ok",
    "oneway",
    "any",
    "tag=",
    "id=",
    "local=dst",
    "local=src",
    "add",
    "insert",
    "delete",
    "flush",
    "load",
    "commit",
    "abort",
];

/// What other tools call things.
const ALIASES: [(&str, &str); 22] = [
    ("notrack", "skip"),
    ("untracked", "skip"),
    ("ct", "track"),
    ("ipv4", "ip"),
    ("ip4", "ip"),
    ("inet", "ip"),
    ("ipv6", "ip6"),
    ("icmpv6", "icmp6"),
    ("ipv6-icmp", "icmp6"),
    ("saddr=", "src="),
    ("source=", "src="),
    ("daddr=", "dst="),
    ("destination=", "dst="),
    ("port=", "dport="),
    ("iif=", "dev="),
    ("iface=", "dev="),
    ("protocol=", "proto="),
    ("fwmark=", "mark="),
    ("del", "delete"),
    ("remove", "delete"),
    ("rm", "delete"),
    ("clear", "flush"),
];

/// Reads one rule.
///
/// `namespaces` finds what `netns=` names; `tag` is for a rule that names none. Process context, may
/// sleep.
pub fn parse<'a>(
    words: impl Iterator<Item = Word<'a>>,
    namespaces: &dyn Namespaces,
    tag: Option<&Tag>,
) -> Result<Parsed, Refusal> {
    let mut draft = Draft::new(namespaces, tag);
    // Most rules have no more.
    draft.rule.terms.reserve(4)?;
    for word in words {
        draft.word(word)?;
    }
    draft.finish()
}

/// A rule of which not all words were read.
struct Draft<'n> {
    namespaces: &'n dyn Namespaces,
    /// Where each key stands, if it does.
    columns: [Option<usize>; Key::COUNT],
    /// How many elements each list has as written.
    counts: [usize; Key::LISTS],
    id: Option<u32>,
    rule: Parts,
}

impl<'n> Draft<'n> {
    fn new(namespaces: &'n dyn Namespaces, tag: Option<&Tag>) -> Self {
        Self {
            namespaces,
            columns: [None; Key::COUNT],
            counts: [0; Key::LISTS],
            id: None,
            rule: Parts {
                action: Action::Skip,
                family: None,
                local: None,
                nat_ok: false,
                oneway: false,
                mark: None,
                netns: Netns::Any,
                tag: tag.copied(),
                terms: Vec::new(),
            },
        }
    }

    /// Where `key` stands.
    fn at(&self, key: Key) -> Option<usize> {
        self.columns.get(key as usize).copied().flatten()
    }

    /// Notes that `key` stands at `column`: once in a rule.
    fn once(&mut self, key: Key, column: usize) -> Result<(), Refusal> {
        match self.columns.get_mut(key as usize) {
            Some(place @ None) => {
                *place = Some(column);
                Ok(())
            }
            _ if key == Key::Protocol => Err(Refusal::invalid(
                column,
                "protocols a second time",
                "one list of protocols, joined by commas",
            )),
            _ if (key as usize) < Key::LISTS => Err(Refusal::invalid(
                column,
                "a term a second time",
                "one list, joined by commas",
            )),
            _ => Err(Refusal::invalid(
                column,
                "a term a second time",
                "each term once in a rule",
            )),
        }
    }

    fn word(&mut self, word: Word<'_>) -> Result<(), Refusal> {
        let Word { text, column } = word;
        if let Some(at) = text.iter().position(|b| !b.is_ascii_graphic()) {
            return Err(Refusal::invalid(
                column.saturating_add(at),
                "a character that no rule has",
                "printable ASCII",
            ));
        }
        match text {
            b"skip" => self.action(Action::Skip, column),
            b"track" => self.action(Action::Track, column),
            b"ip" => self.family(Family::Ipv4, column),
            b"ip6" => self.family(Family::Ipv6, column),
            b"oneway" => {
                self.once(Key::Oneway, column)?;
                self.rule.oneway = true;
                Ok(())
            }
            b"any" => self.once(Key::Any, column),
            _ => self.term(word),
        }
    }

    fn action(&mut self, action: Action, column: usize) -> Result<(), Refusal> {
        self.once(Key::Action, column)?;
        self.rule.action = action;
        Ok(())
    }

    fn family(&mut self, family: Family, column: usize) -> Result<(), Refusal> {
        self.once(Key::Family, column)?;
        if *self.rule.family.get_or_insert(family) != family {
            return Err(Refusal::invalid(
                column,
                "a family that the addresses are not of",
                "one family a rule",
            ));
        }
        Ok(())
    }

    /// A word that is not a fixed one: protocols, or `key=value`.
    fn term(&mut self, word: Word<'_>) -> Result<(), Refusal> {
        let Word {
            text,
            column: start,
        } = word;
        let first = text.split(|b| *b == b',').next().unwrap_or_default();
        if protocol_number(first).is_some() {
            return self.protocols(text, start, start);
        }
        let Some(equals) = text.iter().position(|b| *b == b'=') else {
            return Err(unknown_word(word));
        };
        let (key, value) = text
            .split_at_checked(equals.saturating_add(1))
            .unwrap_or_default();
        let at = column(text, value).saturating_add(start);
        let at = if value.is_empty() {
            start.saturating_add(text.len())
        } else {
            at
        };
        match key {
            b"proto=" => self.protocols(value, start, at),
            b"src=" => self.prefixes(Key::Source, value, start, at, Term::Source),
            b"dst=" => self.prefixes(Key::Destination, value, start, at, Term::Destination),
            b"sport=" => self.ports(Key::SourcePort, value, start, at, Term::SourcePort),
            b"dport=" => self.ports(
                Key::DestinationPort,
                value,
                start,
                at,
                Term::DestinationPort,
            ),
            b"type=" => self.list(Key::IcmpType, value, start, at, |item, at| {
                let (first, last) = range(item, at, u32::from(u8::MAX), ICMP_TYPE)?;
                let range = u8::try_from(first)
                    .ok()
                    .zip(u8::try_from(last).ok())
                    .and_then(|(first, last)| Range::new(first, last));
                range
                    .map(Term::IcmpType)
                    .ok_or(Refusal::invalid(at, BACKWARDS, ICMP_TYPE))
            }),
            b"dev=" => self.list(Key::Device, value, start, at, device),
            b"local=" => {
                self.once(Key::Local, start)?;
                self.rule.local = Some(match value {
                    b"src" => Local::Source,
                    b"dst" => Local::Destination,
                    _ => {
                        return Err(Refusal::invalid(
                            at,
                            "not an end of a flow",
                            "local=dst or local=src",
                        ))
                    }
                });
                Ok(())
            }
            b"mark=" => {
                self.once(Key::Mark, start)?;
                self.rule.mark = Some(mark(value, at)?);
                Ok(())
            }
            b"netns=" => {
                self.once(Key::Netns, start)?;
                self.rule.netns = self.netns(value, at)?;
                Ok(())
            }
            b"netns!=" => {
                self.once(Key::Netns, start)?;
                if value != b"init" {
                    return Err(Refusal::invalid(
                        at,
                        "only the initial namespace can be left out",
                        "netns!=init",
                    ));
                }
                self.rule.netns = Netns::NotInit;
                Ok(())
            }
            b"nat=" => {
                self.once(Key::Nat, start)?;
                if value != b"ok" {
                    return Err(Refusal::invalid(at, "not a value of nat=", "nat=ok"));
                }
                self.rule.nat_ok = true;
                Ok(())
            }
            b"tag=" => {
                self.once(Key::Tag, start)?;
                self.rule.tag = Some(parse_tag(value, at)?);
                Ok(())
            }
            b"id=" => {
                self.once(Key::Id, start)?;
                self.id = Some(parse_id(value, at)?);
                Ok(())
            }
            _ => Err(unknown_word(word)),
        }
    }

    /// Reads a list of up to [`MAX_LIST`] elements into the rule.
    ///
    /// `start` is the column of the term, `at` that of `value`.
    fn list(
        &mut self,
        key: Key,
        value: &[u8],
        start: usize,
        at: usize,
        mut element: impl FnMut(&[u8], usize) -> Result<Term, Refusal>,
    ) -> Result<(), Refusal> {
        self.once(key, start)?;
        for (i, item) in value.split(|b| *b == b',').enumerate() {
            let at = at.saturating_add(column(value, item));
            if i >= MAX_LIST {
                return Err(Refusal::invalid(
                    at,
                    "a list too long",
                    "up to 16 elements; the rest in another rule",
                ));
            }
            if item.is_empty() {
                return Err(Refusal::invalid(
                    at,
                    "a value is missing",
                    "values joined by single commas",
                ));
            }
            self.rule.terms.push(element(item, at)?)?;
            if let Some(count) = self.counts.get_mut(key as usize) {
                *count = i.saturating_add(1);
            }
        }
        Ok(())
    }

    fn protocols(&mut self, value: &[u8], start: usize, at: usize) -> Result<(), Refusal> {
        const EXPECTED: &str =
            "tcp, udp, sctp, icmp, icmp6, gre, esp, ah, ipip or a number from 0 to 255";
        self.list(Key::Protocol, value, start, at, |item, at| {
            let number = || number(item).and_then(|n| u8::try_from(n).ok());
            protocol_number(item)
                .or_else(number)
                .map(Term::Protocol)
                .ok_or_else(|| {
                    Refusal::invalid(at, "not a protocol", EXPECTED).likely(likely(item))
                })
        })
    }

    fn prefixes(
        &mut self,
        key: Key,
        value: &[u8],
        start: usize,
        at: usize,
        term: impl Fn(Prefix) -> Term,
    ) -> Result<(), Refusal> {
        // The family as other terms said it so far, and from here on as the first address says it.
        let mut family = self.rule.family;
        self.list(key, value, start, at, |item, at| {
            let (of_this, prefix) = prefix(item, at)?;
            if *family.get_or_insert(of_this) != of_this {
                return Err(Refusal::invalid(
                    at,
                    "an address of the other family",
                    "one family a rule",
                ));
            }
            Ok(term(prefix))
        })?;
        self.rule.family = family;
        Ok(())
    }

    fn ports(
        &mut self,
        key: Key,
        value: &[u8],
        start: usize,
        at: usize,
        term: impl Fn(Range<u16>) -> Term,
    ) -> Result<(), Refusal> {
        self.list(key, value, start, at, |item, at| {
            let (first, last) = range(item, at, u32::from(u16::MAX), PORT)?;
            u16::try_from(first)
                .ok()
                .zip(u16::try_from(last).ok())
                .and_then(|(first, last)| Range::new(first, last))
                .map(&term)
                .ok_or(Refusal::invalid(at, BACKWARDS, PORT))
        })
    }

    fn netns(&self, value: &[u8], at: usize) -> Result<Netns, Refusal> {
        const EXPECTED: &str = "init, an inode number, or pid:N";
        const MISSING: &str = "no such network namespace";
        if value == b"init" {
            return Ok(Netns::Init);
        }
        let (pid, digits) = match value.strip_prefix(b"pid:") {
            Some(digits) => (true, digits),
            None => (false, value),
        };
        let Some(number) = number(digits) else {
            return Err(Refusal::invalid(at, "not a network namespace", EXPECTED));
        };
        if pid {
            self.namespaces.by_pid(number).ok_or(Refusal::new(
                Errno::Srch,
                at,
                MISSING,
                "the number of a process that runs",
            ))
        } else {
            self.namespaces.by_inum(number).ok_or(Refusal::new(
                Errno::Srch,
                at,
                MISSING,
                "an inode number as lsns -t net prints it",
            ))
        }
    }

    /// Checks the rule as a whole and brings it into canonical order.
    fn finish(mut self) -> Result<Parsed, Refusal> {
        self.check_family()?;
        self.check_protocols()?;
        if let (Some(at), Action::Track) = (self.at(Key::Nat), self.rule.action) {
            return Err(Refusal::invalid(
                at,
                "nat=ok on a track rule, which leaves packets to NAT anyway",
                "skip, or no nat=ok",
            ));
        }
        self.check_product()?;
        sort_by_key(&mut self.rule.terms, |term| *term);
        dedup(&mut self.rule.terms);
        let rule = Rule::new(&self.rule)?;
        if !rule.is_narrow() && self.at(Key::Any).is_none() {
            return Err(Refusal::invalid(
                self.columns.iter().flatten().copied().min().unwrap_or(0),
                "a rule that matches a great deal; it may have been cut at a space",
                "a protocol and an address, port, type or mark (quote what has spaces); or `any`, to say \
                 it on purpose",
            ));
        }
        Ok(Parsed {
            id: self.id,
            id_column: self.at(Key::Id).unwrap_or(0),
            rule,
        })
    }

    /// The protocols read so far.
    fn protocols_read(&self) -> impl Iterator<Item = u8> + '_ {
        self.rule.terms.iter().filter_map(|term| match term {
            Term::Protocol(protocol) => Some(*protocol),
            _ => None,
        })
    }

    /// The family that words, addresses and protocols say is one, and no protocol is of the other.
    fn check_family(&mut self) -> Result<(), Refusal> {
        let address = self.at(Key::Source).max(self.at(Key::Destination));
        let protocols = self.at(Key::Protocol);
        if let Some(implied) = family_of_protocols(self.protocols_read()) {
            if *self.rule.family.get_or_insert(implied) != implied {
                return Err(Refusal::invalid(
                    address.or(protocols).unwrap_or(0),
                    "a family that the protocol is not of",
                    "icmp with IPv4, icmp6 with IPv6",
                ));
            }
        }
        for number in self.protocols_read() {
            let (never, what, expected) = match self.rule.family {
                Some(Family::Ipv4) => (
                    number == protocol::ICMP6,
                    "icmp6 in an IPv4 rule",
                    "icmp, or IPv6 addresses",
                ),
                Some(Family::Ipv6) if number == protocol::ICMP => {
                    (true, "icmp in an IPv6 rule", "icmp6, or IPv4 addresses")
                }
                Some(Family::Ipv6) => (
                    protocol::is_extension_header(number),
                    "an IPv6 extension header, which is never the protocol",
                    "the protocol that follows the extension headers",
                ),
                None => (false, "", ""),
            };
            if never {
                return Err(Refusal::invalid(protocols.unwrap_or(0), what, expected));
            }
        }
        Ok(())
    }

    /// Ports and types stand only where every protocol has them.
    fn check_protocols(&self) -> Result<(), Refusal> {
        let named = self.at(Key::Protocol).is_some();
        let port = self.at(Key::SourcePort).or(self.at(Key::DestinationPort));
        if let Some(at) = port {
            if !named || !self.protocols_read().all(protocol::has_ports) {
                return Err(Refusal::invalid(
                    at,
                    "a port where not every protocol has ports",
                    "tcp, udp or sctp, and no other protocol",
                ));
            }
        }
        if let Some(at) = self.at(Key::IcmpType) {
            let icmp = |p| matches!(p, protocol::ICMP | protocol::ICMP6);
            if !named || !self.protocols_read().all(icmp) {
                return Err(Refusal::invalid(
                    at,
                    "a type where not every protocol is ICMP",
                    "icmp or icmp6, and no other protocol",
                ));
            }
        }
        Ok(())
    }

    fn check_product(&self) -> Result<(), Refusal> {
        let counts = self.counts.iter();
        let product = counts.fold(1usize, |product, len| product.saturating_mul((*len).max(1)));
        if product <= MAX_PRODUCT {
            return Ok(());
        }
        Err(Refusal::invalid(
            self.columns
                .iter()
                .take(Key::LISTS)
                .flatten()
                .copied()
                .max()
                .unwrap_or(0),
            "lists that multiply to over 1,024 combinations",
            "shorter lists, in several rules",
        ))
    }
}

const PORT: &str = "a port from 0 to 65535, or a range P-P that runs upwards";
const ICMP_TYPE: &str = "a type from 0 to 255, or a range N-N that runs upwards";
const BACKWARDS: &str = "a range that runs backwards";

/// The tag that `value` names. `at` is its column.
pub(crate) fn parse_tag(value: &[u8], at: usize) -> Result<Tag, Refusal> {
    Tag::new(value).ok_or(Refusal::invalid(
        at,
        "not a tag",
        "1 to 31 of A-Z, a-z, 0-9, `.`, `_` and `-`",
    ))
}

/// The rule number that `value` is. `at` is its column.
pub(crate) fn parse_id(value: &[u8], at: usize) -> Result<u32, Refusal> {
    number(value).filter(|id| *id != 0).ok_or(Refusal::invalid(
        at,
        "not the number of a rule",
        "a number from 1 to 4294967295",
    ))
}

fn unknown_word(word: Word<'_>) -> Refusal {
    Refusal::invalid(
        word.column,
        "an unknown word",
        "add insert delete flush load, a protocol, or one of skip track ip ip6 src= dst= sport= dport= type= local= \
         dev= mark= netns= nat=ok oneway any tag= id=",
    )
    .likely(likely(word.text))
}

fn protocol_number(name: &[u8]) -> Option<u8> {
    protocol::NAMES
        .iter()
        .find(|(known, _)| known.as_bytes() == name)
        .map(|(_, number)| *number)
}

/// A decimal number without sign; `None` where it is none or does not fit.
fn number(text: &[u8]) -> Option<u32> {
    digits(text, 10)
}

fn digits(text: &[u8], radix: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |value, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        value.checked_mul(radix)?.checked_add(digit)
    })
}

/// `N` or `N-N`, each at most `max`.
fn range(item: &[u8], at: usize, max: u32, expected: &'static str) -> Result<(u32, u32), Refusal> {
    let mut ends = item.splitn(2, |b| *b == b'-');
    let mut end = |or: Option<u32>| match ends.next() {
        None => or.ok_or(at),
        Some(text) => number(text)
            .filter(|n| *n <= max)
            .ok_or_else(|| at.saturating_add(column(item, text))),
    };
    let wrong = |at| Refusal::invalid(at, "not a number in range", expected);
    let first = end(None).map_err(wrong)?;
    let last = end(Some(first)).map_err(wrong)?;
    Ok((first, last))
}

fn prefix(item: &[u8], at: usize) -> Result<(Family, Prefix), Refusal> {
    const EXPECTED: &str = "an IPv4 or IPv6 address, no name, with /LEN for a prefix";
    let mut parts = item.splitn(2, |b| *b == b'/');
    let text = core::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let (family, address, bits) = if let Ok(v4) = Ipv4Addr::from_str(text) {
        let mut address = [0; 16];
        for (to, from) in address.iter_mut().zip(v4.octets()) {
            *to = from;
        }
        (Family::Ipv4, address, 32)
    } else if let Ok(v6) = Ipv6Addr::from_str(text) {
        (Family::Ipv6, v6.octets(), 128)
    } else {
        return Err(Refusal::invalid(at, "not an address", EXPECTED));
    };
    let len = match parts.next() {
        None => bits,
        Some(len) => number(len)
            .and_then(|len| u8::try_from(len).ok())
            .filter(|len| *len <= bits)
            .ok_or(Refusal::invalid(
                at.saturating_add(text.len()).saturating_add(1),
                "not a prefix length",
                "0 to 32 for IPv4, 0 to 128 for IPv6, in decimal",
            ))?,
    };
    let Some(prefix) = Prefix::new(address, len) else {
        let cut = u128::from_be_bytes(address) & !u128::MAX.checked_shr(len.into()).unwrap_or(0);
        let likely = Prefix::new(cut.to_be_bytes(), len)
            .map(|prefix| Likely::Prefix(DisplayPrefix(family, prefix)));
        return Err(Refusal::invalid(
            at,
            "an address with a bit set below the prefix length",
            "the first address of the prefix",
        )
        .likely(likely));
    };
    Ok((family, prefix))
}

fn device(item: &[u8], at: usize) -> Result<Term, Refusal> {
    const EXPECTED: &str = "a device's name, or the start of one and `*`";
    let (name, wildcard) = match item.strip_suffix(b"*") {
        Some(name) => (name, true),
        None => (item, false),
    };
    if item.ends_with(b"+") {
        return Err(Refusal::invalid(
            at,
            "`+` for any ending, as iptables writes it",
            "`*`, as in eth*",
        )
        .likely(Some(Likely::Word("*"))));
    }
    let forbidden = |b: &u8| matches!(b, b'/' | b':' | b'*' | b'"');
    if name.iter().any(forbidden) || matches!(name, b"." | b"..") {
        return Err(Refusal::invalid(at, "not the name of a device", EXPECTED));
    }
    Device::new(name, wildcard)
        .map(Term::Device)
        .ok_or(Refusal::invalid(
            at,
            "not the name of a device: it has 1 to 15 characters",
            EXPECTED,
        ))
}

fn mark(value: &[u8], at: usize) -> Result<Mark, Refusal> {
    let number = |text: &[u8]| match text.strip_prefix(b"0x").or(text.strip_prefix(b"0X")) {
        Some(hex) => digits(hex, 16),
        None => digits(text, 10),
    };
    let mut parts = value.splitn(2, |b| *b == b'/');
    let bits = parts.next().and_then(number);
    let mask = parts.next().map_or(Some(u32::MAX), number);
    let (Some(bits), Some(mask)) = (bits, mask) else {
        return Err(Refusal::invalid(
            at,
            "not a mark",
            "V or V/M, each of 32 bits, decimal or 0x",
        ));
    };
    Mark::new(bits, mask).ok_or(Refusal::invalid(
        at,
        "a mark with bits outside its mask, or a mask of zero",
        "V/M where M covers all bits of V",
    ))
}

/// Takes out all but the first of equal neighbours.
fn dedup(terms: &mut Vec<Term>) {
    let mut last = None;
    terms.retain(|term| last.replace(*term) != Some(*term));
}

/// The word of the language that `text` was probably meant to be.
fn likely(text: &[u8]) -> Option<Likely> {
    let key = match text.iter().position(|b| *b == b'=') {
        Some(equals) => text.get(..=equals).unwrap_or(text),
        None => text,
    };
    // A command where none can stand.
    if WORDS.iter().any(|word| word.as_bytes() == key) {
        return None;
    }
    for (alias, word) in ALIASES {
        if alias.as_bytes().eq_ignore_ascii_case(key) {
            return Some(Likely::Word(word));
        }
    }
    let distance_to = |word: &str| match is_transposed(key, word.as_bytes()) {
        true => 1,
        false => distance(key, word.as_bytes()),
    };
    let distances = WORDS.iter().map(|word| (distance_to(word), *word));
    let (distance, word) = distances.min_by_key(|(distance, _)| *distance)?;
    // A short word is near to everything: at most a third of it may differ, and one letter always.
    let most = (word.len() / 3).clamp(1, 2);
    (distance <= most && word.len() > 2).then_some(Likely::Word(word))
}

/// Whether two neighbours of `a` have to change places to give `b`.
fn is_transposed(a: &[u8], b: &[u8]) -> bool {
    let differ = |(_, (x, y)): &(usize, (&u8, &u8))| x != y;
    let mut differences = a.iter().zip(b).enumerate().filter(differ);
    match (differences.next(), differences.next(), differences.next()) {
        (Some((i, (a0, b0))), Some((j, (a1, b1))), None) => {
            a.len() == b.len() && j == i.saturating_add(1) && a0 == b1 && a1 == b0
        }
        _ => false,
    }
}

/// The edit distance of two words, letter case apart; large where one is long.
fn distance(a: &[u8], b: &[u8]) -> usize {
    const MAX: usize = 12;
    if a.len() >= MAX || b.len() >= MAX {
        return MAX;
    }
    let mut row = [0usize; MAX];
    for (i, cell) in row.iter_mut().enumerate() {
        *cell = i;
    }
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let differs = usize::from(!x.eq_ignore_ascii_case(y));
            let above = *cell;
            left = diagonal
                .saturating_add(differs)
                .min(above.saturating_add(1))
                .min(left.saturating_add(1));
            *cell = left;
            diagonal = above;
        }
    }
    row.get(b.len()).copied().unwrap_or(MAX)
}
