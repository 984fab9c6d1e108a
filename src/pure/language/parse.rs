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
//!     rule::{Namespaces, Netns},
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
//! }
//!
//! let line = b"dport=53,53 udp # DNS";
//! let statement = statements(line).next().unwrap();
//! let parsed = parse(statement.words(), &Host, None).unwrap();
//! assert_eq!(parsed.rule.to_string(), "skip udp dport=53");
//! ```

use crate::pure::{
    alloc::Vec,
    language::{
        reader::{
            Reader,
            Term, //
        },
        refusal::Refusal,
        terms::{
            self,
            Syntax,
            TERMS, //
        },
        text::Word, //
    },
    rule::{
        protocol,
        Action,
        Element,
        Family,
        Namespaces,
        Rule,
        Tag,
        MAX_PRODUCT, //
    },
    sort::sort_by_key, //
};

/// A rule, and the number that its text gives it.
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
    words: impl Iterator<Item = Word<'a>>,
    namespaces: &dyn Namespaces,
    tag: Option<&Tag>,
) -> Result<Parsed, Refusal> {
    let mut reader = Reader::new(namespaces, tag);
    // Most rules have no more.
    reader.rule.elements.reserve(4)?;
    for word in words {
        read_word(&mut reader, word)?;
    }
    finish(reader)
}

/// Reads one term.
fn read_word(reader: &mut Reader<'_>, word: Word<'_>) -> Result<(), Refusal> {
    if let Some(at) = word.text.iter().position(|b| !b.is_ascii_graphic()) {
        return Err(Refusal::invalid(
            word.column.saturating_add(at),
            "a character that no rule has",
            "printable ASCII",
        ));
    }
    let (syntax, written) = terms::find(word)?;
    if !reader.note(syntax.term, word.column) {
        return Err(second(syntax, word.column));
    }
    (syntax.read)(reader, &written)
}

/// Returns the refusal of a term that stands a second time, at `column`.
fn second(syntax: &Syntax, column: usize) -> Refusal {
    let (what, expected) = match syntax.term {
        Term::Protocols => (
            "protocols a second time",
            "one list of protocols, joined by commas",
        ),
        _ if syntax.is_list => ("a term a second time", "one list, joined by commas"),
        _ => ("a term a second time", "each term once in a rule"),
    };
    Refusal::invalid(column, what, expected)
}

/// Checks the rule as a whole and brings it into canonical order.
fn finish(mut reader: Reader<'_>) -> Result<Parsed, Refusal> {
    check_family(&mut reader)?;
    check_protocols(&reader)?;
    if let (Some(at), Action::Track) = (reader.column(Term::Nat), reader.rule.action) {
        return Err(Refusal::invalid(
            at,
            "nat=ok on a track rule, which leaves packets to NAT anyway",
            "skip, or no nat=ok",
        ));
    }
    sort_by_key(&mut reader.rule.elements, |element| *element);
    check_product(&reader)?;
    dedup(&mut reader.rule.elements);
    let rule = Rule::new(&reader.rule)?;
    if !rule.is_narrow() && reader.column(Term::Any).is_none() {
        return Err(Refusal::invalid(
            reader.first_column(),
            "a rule that matches a great deal; it may have been cut at a space",
            "a protocol and an address, port, type or mark (quote what has spaces); or `any`, to say \
             it on purpose",
        ));
    }
    Ok(Parsed {
        id: reader.id,
        id_column: reader.column(Term::Id).unwrap_or(0),
        rule,
    })
}

/// Checks that words, addresses and protocols say one family. Gives the rule that family.
fn check_family(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    let address = reader
        .column(Term::Sources)
        .max(reader.column(Term::Destinations));
    let protocols = reader.column(Term::Protocols);
    if let Some(implied) = protocol::family(reader.protocols()) {
        if *reader.rule.family.get_or_insert(implied) != implied {
            return Err(Refusal::invalid(
                address.or(protocols).unwrap_or(0),
                "a family that the protocol is not of",
                "icmp with IPv4, icmp6 with IPv6",
            ));
        }
    }
    for number in reader.protocols() {
        let (never, what, expected) = match reader.rule.family {
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

/// Checks that terms about a protocol's header stand only where every protocol has that header.
fn check_protocols(reader: &Reader<'_>) -> Result<(), Refusal> {
    let is_named = reader.column(Term::Protocols).is_some();
    for syntax in &TERMS {
        let (Some(at), Some(header)) = (reader.column(syntax.term), &syntax.header) else {
            continue;
        };
        if !is_named || !reader.protocols().all(header.is_of) {
            return Err(Refusal::invalid(at, header.what, header.expected));
        }
    }
    Ok(())
}

/// Checks how many combinations the lists make as they are written. The elements are sorted.
fn check_product(reader: &Reader<'_>) -> Result<(), Refusal> {
    let lists = reader.rule.elements.chunk_by(Element::is_of_list_of);
    let product = lists.fold(1usize, |product, list| product.saturating_mul(list.len()));
    if product <= MAX_PRODUCT {
        return Ok(());
    }
    let lists = TERMS.iter().filter(|syntax| syntax.is_list);
    let columns = lists.filter_map(|syntax| reader.column(syntax.term));
    Err(Refusal::invalid(
        columns.max().unwrap_or(0),
        "lists that multiply to over 1,024 combinations",
        "shorter lists, in several rules",
    ))
}

/// Takes out all but the first of equal neighbours.
fn dedup(elements: &mut Vec<Element>) {
    let mut last = None;
    elements.retain(|element| last.replace(*element) != Some(*element));
}
