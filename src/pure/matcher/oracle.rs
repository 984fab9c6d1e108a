// SPDX-License-Identifier: GPL-2.0

//! What it means that a rule matches, term by term: the reference that the [`matcher`] is held
//! against.
//!
//! Written to be read, not to be fast; nothing in the packet's path calls it.
//!
//! [`matcher`]: crate::pure::matcher

use crate::pure::{
    packet::header::{
        Key,
        Transport, //
    },
    rule::{
        answering_type,
        Local,
        Prefix,
        Range,
        Rule, //
    },
};

/// Returns the index of the first of `rules` that matches `key`. `is_local` is as for [`matches`].
pub fn first_match<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    key: &Key,
    is_local: impl Fn(u128) -> bool,
) -> Option<usize> {
    let mut rules = rules.into_iter();
    rules.position(|rule| matches(rule, key, &is_local))
}

/// Returns whether `rule` matches `key` in either direction. Its namespace is not looked at.
///
/// `is_local` tells whether an address is one of the packet's namespace.
pub fn matches(rule: &Rule, key: &Key, is_local: impl Fn(u128) -> bool) -> bool {
    let has_local = |source: u128, destination: u128| match rule.local() {
        None => true,
        Some(Local::Source) => is_local(source),
        Some(Local::Destination) => is_local(destination),
    };

    matches_either_way(rule, key)
        && (has_local(key.source, key.destination) && matches_as_written(rule, key)
            || !rule.oneway()
                && has_local(key.destination, key.source)
                && matches_exchanged(rule, key))
}

/// Returns whether the terms match that are not exchanged.
fn matches_either_way(rule: &Rule, key: &Key) -> bool {
    let any_or = |mut list: &mut dyn Iterator<Item = bool>| {
        let mut empty = true;
        let found = (&mut list)
            .inspect(|_| empty = false)
            .any(|matches| matches);
        found || empty
    };
    rule.family().is_none_or(|family| family == key.family)
        && any_or(&mut rule.protocols().map(|p| p == key.protocol))
        && any_or(&mut rule.devices().map(|d| d.matches(&key.device)))
        && rule.fixed().matches(key.fixed)
        && (!key.error || rule.icmp_types().next().is_some())
}

fn matches_as_written(rule: &Rule, key: &Key) -> bool {
    prefixes_match(rule.sources(), key.source)
        && prefixes_match(rule.destinations(), key.destination)
        && match key.transport {
            Transport::Unknown => {
                ranges_match(rule.source_ports(), None)
                    && ranges_match(rule.destination_ports(), None)
                    && ranges_match(rule.icmp_types(), None)
            }
            Transport::Ports(source, destination) => {
                ranges_match(rule.source_ports(), Some(source))
                    && ranges_match(rule.destination_ports(), Some(destination))
                    && ranges_match(rule.icmp_types(), None)
            }
            Transport::IcmpType(icmp_type) => {
                ranges_match(rule.icmp_types(), Some(icmp_type))
                    && ranges_match(rule.source_ports(), None)
                    && ranges_match(rule.destination_ports(), None)
            }
        }
}

fn matches_exchanged(rule: &Rule, key: &Key) -> bool {
    let exchanged = Key {
        source: key.destination,
        destination: key.source,
        transport: match key.transport {
            Transport::Unknown => Transport::Unknown,
            Transport::Ports(source, destination) => Transport::Ports(destination, source),
            Transport::IcmpType(icmp_type) => match answering_type(key.family, icmp_type) {
                Some(answer) => Transport::IcmpType(answer),
                // No rule that names a type matches it exchanged; one that names none does.
                None => Transport::Unknown,
            },
        },
        ..*key
    };
    matches_as_written(rule, &exchanged)
}

/// Returns whether one of `prefixes` covers `address`, or there is none.
fn prefixes_match(mut prefixes: impl Iterator<Item = Prefix> + Clone, address: u128) -> bool {
    prefixes.clone().next().is_none() || prefixes.any(|p| address & p.mask() == p.value())
}

/// Returns whether one of `ranges` contains the value, or there is none. An unknown value is in no range.
fn ranges_match<T: Copy + PartialOrd>(
    mut ranges: impl Iterator<Item = Range<T>> + Clone,
    value: Option<T>,
) -> bool {
    ranges.clone().next().is_none()
        || value.is_some_and(|value| ranges.any(|range| range.contains(value)))
}
