// SPDX-License-Identifier: GPL-2.0

//! A term read for the first time, and a rule checked as a whole.

use crate::pure::{
    alloc::Vec,
    language::{
        reader::{
            Reader,
            Term,
            Written, //
        },
        refusal::Refusal,
        terms::{
            Syntax,
            TERMS, //
        }, //
    },
    rule::{
        protocol,
        Action,
        Element,
        Family,
        Rule,
        MAX_LIST,
        MAX_PRODUCT, //
    },
    sort::sort_by_key, //
};

/// Reads a term. Refuses one that stands a second time.
pub(super) fn term<'a>(
    reader: &mut Reader<'a>,
    syntax: &Syntax,
    written: &Written<'a>,
) -> Result<(), Refusal> {
    if !reader.note(syntax.term, written.start) {
        return Err(second(syntax, written.start));
    }
    (syntax.read)(reader, written)
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

/// Checks the rule as a whole, brings it into canonical order and returns it.
pub(super) fn whole(reader: &mut Reader<'_>) -> Result<Rule, Refusal> {
    check_family(reader)?;
    check_protocols(reader)?;
    reader.read_icmp_types()?;
    if let (Some(at), Action::Track) = (reader.column(Term::Nat), reader.rule.action) {
        return Err(Refusal::invalid(
            at,
            "nat=ok on a track rule, which leaves packets to NAT anyway",
            "skip, or no nat=ok",
        ));
    }
    sort_by_key(&mut reader.rule.elements, |element| *element);
    check_product(reader)?;
    dedup(&mut reader.rule.elements);
    Ok(Rule::new(&reader.rule)?)
}

/// Checks that words, addresses and protocols say one family. Gives the rule that family.
fn check_family(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    let address = reader
        .column(Term::Sources)
        .max(reader.column(Term::Destinations));
    let protocols = reader.column(Term::Protocols);
    let is_extension =
        |number| reader.rule.family == Some(Family::Ipv6) && protocol::is_extension_header(number);
    if reader.protocols().any(is_extension) {
        return Err(Refusal::invalid(
            protocols.unwrap_or(0),
            "an IPv6 extension header, which is never the protocol",
            "the protocol that follows the extension headers",
        ));
    }
    if let Some(implied) = protocol::family(reader.protocols()) {
        if *reader.rule.family.get_or_insert(implied) != implied {
            return Err(Refusal::invalid(
                address.or(protocols).unwrap_or(0),
                "a family that the protocol is not of",
                "icmp and igmp with IPv4, icmp6 with IPv6",
            ));
        }
    }
    for number in reader.protocols() {
        let own = protocol::family_of(number);
        if own.is_none() || reader.rule.family.is_none() || own == reader.rule.family {
            continue;
        }
        let (what, expected) = match number {
            protocol::ICMP6 => ("icmp6 in an IPv4 rule", "icmp, or IPv6 addresses"),
            protocol::IGMP => ("igmp in an IPv6 rule", "icmp6, or IPv4 addresses"),
            _ => ("icmp in an IPv6 rule", "icmp6, or IPv4 addresses"),
        };
        return Err(Refusal::invalid(protocols.unwrap_or(0), what, expected));
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
        let what = match is_named {
            true => header.what,
            false => header.alone,
        };
        if !is_named || !reader.protocols().all(header.is_of) {
            return Err(Refusal::invalid(at, what, header.expected));
        }
    }
    Ok(())
}

/// Checks how many combinations the lists make as they are written. The elements are sorted.
fn check_product(reader: &Reader<'_>) -> Result<(), Refusal> {
    let lists = reader.rule.elements.chunk_by(Element::is_of_list_of);
    let product = lists.fold(1usize, |product, list| match list.len() {
        len @ ..=MAX_LIST => product.saturating_mul(len),
        // Not written as one list, which would have been refused when it was read.
        _ => usize::MAX,
    });
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
