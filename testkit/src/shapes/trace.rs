// SPDX-License-Identifier: GPL-2.0

//! The packets that benchmarks send and look up.

use ctskip_pure::{
    packet::header::{
        Key,
        Transport, //
    },
    rule::{
        Family,
        Fixed,
        Rule, //
    },
};

use crate::{
    packets::{
        beside,
        inside,
        near,
        Probe, //
    },
    reference::Reference,
    source::{
        Random,
        Source, //
    },
    world::INIT_INUM, //
};

/// Returns the source of the packets of a seed, apart from that of its rules.
pub fn trace(seed: u64) -> Random {
    Random::new(seed ^ 0x0074_7261_6365)
}

/// Returns `len` packets of the initial namespace that a rule matches, or none of them.
///
/// They are plain: a host sees no more of them than of an IPv4 packet that comes in. Unless `only_plain`,
/// they are any packets [`near()`] the rules where there are hardly any plain ones. The error is how many
/// were found in a thousand tries for each.
pub fn packets(
    rules: &[&Rule],
    wanted: Wanted,
    only_plain: bool,
    len: usize,
    seed: u64,
) -> Result<Vec<Key>, usize> {
    let reference = Reference::new(rules);
    let trace: &mut dyn Source = &mut trace(seed);
    let mut keys = Vec::new();
    for tries in 0..len.saturating_mul(1000) {
        if keys.len() == len {
            return Ok(keys);
        }
        let plain = only_plain || tries < 1000 || keys.len() * 100 > tries;
        let key = match wanted {
            _ if !plain => Some(near(trace, rules).key),
            Wanted::Match => plain_inside(trace, rules),
            Wanted::Miss => plain_beside(trace, rules),
        };
        let Some(key) = key else { continue };
        let netns = INIT_INUM;
        let matched = reference.first_match(&Probe { netns, key }).is_some();
        if matched == (wanted == Wanted::Match) {
            keys.push(key);
        }
    }
    Err(keys.len())
}

/// Whether packets are to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A rule matches them.
    Match,
    /// No rule matches them.
    Miss,
}

/// Returns a plain packet within one of `rules`, though perhaps of another hook, direction or namespace;
/// `None` where the packet that was made is not plain.
fn plain_inside(trace: &mut dyn Source, rules: &[&Rule]) -> Option<Key> {
    let rule = rules[trace.index(rules.len())];
    plain(&inside(trace, rule).key)
}

/// Returns a plain packet next to rules, mostly to two of them: the addresses of one and the ports of
/// another, one address of each, or a port or an address right beside.
fn plain_beside(trace: &mut dyn Source, rules: &[&Rule]) -> Option<Key> {
    let (one, other) = (trace.index(rules.len()), trace.index(rules.len()));
    let mut key = plain(&inside(trace, rules[one]).key)?;
    let with = plain(&inside(trace, rules[other]).key)?;
    match (trace.below(4), key.transport, with.transport) {
        (0, Transport::Ports(_, b), Transport::Ports(a, _)) => {
            key.transport = Transport::Ports(a, b);
        }
        (1, Transport::Ports(..), Transport::Ports(..)) => key.transport = with.transport,
        (2, _, _) => key.destination = with.destination,
        (3, _, _) => key.source ^= 1 << (96 + trace.below(12)),
        _ => key = plain(&beside(trace, rules[one]).key)?,
    }
    Some(key)
}

/// Returns a packet as it comes in by an ordinary device. `None` for a packet of IPv6, an ICMP error, one
/// whose ports are not there, and for addresses that no packet comes from or goes to.
fn plain(key: &Key) -> Option<Key> {
    let has_transport = key.transport != Transport::Unknown;
    let needs_transport = matches!(key.protocol, 1 | 6 | 17 | 58 | 132);
    let unicast = |address: u128| matches!(address >> 120, 1..=126 | 128..=223);
    let plain = key.family == Family::Ipv4
        && unicast(key.source)
        && unicast(key.destination)
        && has_transport == needs_transport
        && !key.error;
    plain.then_some(Key {
        device: [0; 16],
        fixed: Fixed::default(),
        ..*key
    })
}
