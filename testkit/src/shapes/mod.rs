// SPDX-License-Identifier: GPL-2.0

//! Tables of many shapes and any size, and packets to look up in them.
//!
//! A seed makes all of it: with one seed, the table and the packets are always the same ones. Recorded
//! figures depend on that. The shapes [`Acl`](Shape::Acl), [`Firewall`](Shape::Firewall) and
//! [`Chains`](Shape::Chains) follow ClassBench ([`classbench`]); the others are the simple case, or
//! made to be bad for one way of searching or another. Packets come from [`trace`].

mod classbench;
pub mod trace;

use std::{
    fmt::Write,
    net::{
        Ipv4Addr,
        Ipv6Addr, //
    }, //
};

use crate::{
    source::{
        Random,
        Source, //
    },
    world::FIRST_INUM, //
};

/// The shape of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Source address and destination port of UDP, all different.
    Exact,
    /// The same of IPv6.
    Exact6,
    /// Access control lists: long prefixes, exact destination ports.
    Acl,
    /// Firewalls: one address left out, hosts of a few networks, ranges of ports.
    Firewall,
    /// IP chains: prefixes of all lengths on both sides.
    Chains,
    /// The three of them, IPv6, and every other kind of term, with lists.
    Mixed,
    /// Random prefixes of all 33 x 33 pairs of lengths.
    Pairs,
    /// The same, but all on one path: each contains the next.
    NestedPairs,
    /// Random pairs of lengths of IPv6, on few paths.
    Pairs6,
    /// Ranges of both ports, each within others.
    NestedPorts,
    /// Random ranges of both ports.
    RandomPorts,
    /// Every list as long as it may be.
    LongLists,
    /// Only the device tells rules apart, some by its first letters.
    Devices,
    /// Only the mark, by several masks.
    Marks,
    /// Half of the rules wide in one address, half in the other: each meets each.
    Crossing,
    /// Rules that differ in hook, direction, family and type only.
    Classes,
    /// Every rule for one of hundreds of namespaces, for the initial one, for all others, or for all.
    Namespaces,
}

impl Shape {
    /// All shapes, each with its name on command lines.
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::Exact, "exact"),
        (Self::Exact6, "exact6"),
        (Self::Acl, "acl"),
        (Self::Firewall, "firewall"),
        (Self::Chains, "chains"),
        (Self::Mixed, "mixed"),
        (Self::Pairs, "pairs"),
        (Self::NestedPairs, "nested-pairs"),
        (Self::Pairs6, "pairs6"),
        (Self::NestedPorts, "nested-ports"),
        (Self::RandomPorts, "random-ports"),
        (Self::LongLists, "long-lists"),
        (Self::Devices, "devices"),
        (Self::Marks, "marks"),
        (Self::Crossing, "crossing"),
        (Self::Classes, "classes"),
        (Self::Namespaces, "namespaces"),
    ];

    /// Returns the shape of that name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(shape, _)| *shape)
    }

    /// Returns the texts of `count` rules.
    pub fn rules(self, count: usize, seed: u64) -> Vec<String> {
        let random: &mut dyn Source = &mut Random::new(seed ^ 0x6374_736b_6970);
        match self {
            Self::Acl => classbench::rules(&classbench::ACL, count, random),
            Self::Firewall => classbench::rules(&classbench::FIREWALL, count, random),
            Self::Chains => classbench::rules(&classbench::CHAINS, count, random),
            Self::Mixed => mixture(count, random),
            _ => (0..count).map(|i| self.rule(i, count, random)).collect(),
        }
    }

    /// One rule of a shape whose rules are made one by one.
    fn rule(self, index: usize, count: usize, random: &mut dyn Source) -> String {
        match self {
            Self::Exact => {
                let n = index as u32;
                let source = Ipv4Addr::from(0x0a09_0001 + n);
                format!("udp src={source} dport={}", 1024 + n % 50_021)
            }
            Self::Exact6 => {
                let (high, low) = (index >> 16, index & 0xffff);
                format!("udp src=2001:db8::{high:x}:{low:x} dport=53")
            }
            Self::Pairs | Self::NestedPairs => {
                // Long prefixes first, or else the short ones would hide them.
                let pair = index * 1089 / count.max(1089);
                let (s, d) = (pair % 33, pair / 33);
                let nested = self == Self::NestedPairs;
                let mut of = |len: usize| {
                    let random = random.number() as u32;
                    prefix4(if nested { 0x0a14_1e28 } else { random }, 32 - len as u32)
                };
                let (source, destination) = (of(s), of(d));
                let ports = 7.max(count / 1089);
                format!(
                    "udp src={source} dst={destination} dport={}",
                    1 + index % ports
                )
            }
            Self::Pairs6 => {
                let path =
                    0x2001_0db8u128 << 96 | u128::from(random.below(3)) << 90 | 0x1234_5678_9abc;
                let (s, d) = (random.below(129) as u32, random.below(129) as u32);
                format!(
                    "ip6 udp src={} dst={} dport=53",
                    prefix6(path, s),
                    prefix6(path, d)
                )
            }
            Self::NestedPorts => {
                let side = (count as f64).sqrt().ceil() as usize;
                let range =
                    |i: usize| format!("{}-{}", 32_767 - i * 64 % 32_767, 32_768 + i * 61 % 32_767);
                format!(
                    "udp sport={} dport={}",
                    range(index % side),
                    range(index / side)
                )
            }
            Self::RandomPorts => {
                let mut range = || {
                    let (a, b) = (random.below(65_536), random.below(65_536));
                    format!("{}-{}", a.min(b), a.max(b))
                };
                format!("udp sport={} dport={}", range(), range())
            }
            Self::LongLists => long_lists(random),
            Self::Devices => match random.below(8) {
                0 => format!("udp dport=53 dev=v{:x}*", random.below(4096)),
                _ => format!("udp dport=53 dev=v{:x}", index as u64 + random.below(3)),
            },
            Self::Marks => {
                let mask = random.weighted(&[
                    (8, 0xffff_ffffu32),
                    (2, 0xffff_0000),
                    (2, 0x0000_ffff),
                    (1, 0x00ff_ff00),
                    (1, 0xf0f0_f0f0),
                    (1, 0x8000_0001),
                ]);
                let value = random.number() as u32 & mask;
                format!("udp dport=53 mark={value:#x}/{mask:#x}")
            }
            Self::Crossing => {
                let mut prefix = |least, most: u64| {
                    let len = least + random.below(most - least + 1);
                    prefix4(random.number() as u32, len as u32)
                };
                let (long, short) = (prefix(9, 16), prefix(1, 8));
                match index % 2 {
                    0 => format!("udp src={long} dst={short} dport=1000-2000"),
                    _ => format!("udp src={short} dst={long} dport=1500-3000"),
                }
            }
            Self::Classes => classes(random),
            Self::Namespaces => {
                let netns = match random.below(10) {
                    0 => String::new(),
                    1 => " netns=init".to_string(),
                    2 => " netns!=init".to_string(),
                    _ => format!(" netns={}", u64::from(FIRST_INUM) + random.below(400)),
                };
                let source = prefix4(
                    0x0a00_0000 | random.number() as u32 & 0xfff,
                    22 + random.below(11) as u32,
                );
                format!("udp src={source} dport={}{netns}", 53 + random.below(8))
            }
            Self::Acl | Self::Firewall | Self::Chains | Self::Mixed => {
                unreachable!("made as a whole")
            }
        }
    }
}

fn prefix4(address: u32, len: u32) -> String {
    let mask = !u32::MAX.checked_shr(len).unwrap_or(0);
    format!("{}/{len}", Ipv4Addr::from(address & mask))
}

fn prefix6(address: u128, len: u32) -> String {
    let mask = !u128::MAX.checked_shr(len).unwrap_or(0);
    format!("{}/{len}", Ipv6Addr::from(address & mask))
}

/// `len` elements, joined as lists are; an element that is there already is left out.
fn list(len: usize, mut element: impl FnMut() -> String) -> String {
    let mut elements: Vec<String> = Vec::new();
    for _ in 0..len {
        let new = element();
        if !elements.contains(&new) {
            elements.push(new);
        }
    }
    elements.join(",")
}

/// Lists of 16, 8 and 8: their product is the most that a rule may have.
fn long_lists(random: &mut dyn Source) -> String {
    let sources = list(16, || {
        prefix4(random.number() as u32, 8 + random.below(25) as u32)
    });
    let destinations = list(8, || {
        prefix4(random.number() as u32, 8 + random.below(25) as u32)
    });
    let ports = list(8, || {
        let first = random.below(60_000);
        format!("{first}-{}", first + random.below(2000))
    });
    format!("tcp src={sources} dst={destinations} dport={ports}")
}

fn classes(random: &mut dyn Source) -> String {
    let what = random.pick(&[
        "icmp type=8",
        "icmp type=13-14",
        "icmp type=3",
        "icmp any",
        "icmp6 type=128-129",
        "icmp6 type=1,135-136",
        "ip6 udp dport=53",
        "ip udp dport=53",
        "udp dport=53,123",
        "udp any",
        "ip any",
        "sctp sport=1000-2000",
        "gre any",
    ]);
    let local = random.pick(&["", " local=src", " local=dst"]);
    let oneway = random.pick(&["", "", " oneway"]);
    let mark = random.pick(&["", " mark=1/3", " mark=2/3", " mark=0x10/0xf0"]);
    let track = random.pick(&["", "", "track "]);
    format!("{track}{what}{local}{oneway}{mark}")
}

/// Rules with every kind of term, among ClassBench's three kinds.
fn mixture(count: usize, random: &mut dyn Source) -> Vec<String> {
    let mut rules: Vec<String> = [&classbench::ACL, &classbench::FIREWALL, &classbench::CHAINS]
        .into_iter()
        .flat_map(|kind| classbench::rules(kind, count / 5, random))
        .collect();
    while rules.len() < count {
        let rule = odd_rule(random);
        // Some stand before the narrow ones, most behind them.
        let at = match random.percent(30) {
            true => random.index(rules.len() + 1),
            false => rules.len(),
        };
        rules.insert(at, rule);
    }
    rules
}

fn odd_rule(random: &mut dyn Source) -> String {
    let address = 0x2001_0db8u128 << 96
        | u128::from(random.below(256)) << 84
        | u128::from(random.below(16)) << 64
        | u128::from(random.below(4096));
    let six = prefix6(
        address,
        random.weighted(&[(2, 32), (3, 48), (5, 64), (4, 128)]),
    );
    let network = 0x0a00_0000 | random.number() as u32 & 0xf_ffff;
    let four = list(1 + random.index(4), || {
        prefix4(
            network ^ random.number() as u32 & 0x3ff,
            22 + random.below(11) as u32,
        )
    });
    let ports = list(1 + random.index(5), || match random.below(4) {
        0 => format!("{}-65535", 1024 + random.below(60_000)),
        _ => random.below(2000).to_string(),
    });
    let mut rule = match random.below(8) {
        0 => format!("ip6 tcp,udp dst={six} dport={ports}"),
        1 => format!("ip6 tcp src={six}"),
        2 => format!("ip6 udp src={six} dst=2001:db8::/32 sport={ports}"),
        3 => format!("tcp,udp dport={ports}"),
        4 => format!("udp,sctp src={four} sport={ports} dport=1024-65535"),
        5 => format!("proto={} dst={four}", 100 + random.below(20)),
        6 => format!("icmp src={four} type=0,8,{}", 9 + random.below(10)),
        _ => format!("icmp6 src={six} type=128-137"),
    };
    let more = [
        (15, " dev=eth0,eth1".to_string()),
        (10, format!(" dev=v{}*", random.below(4))),
        (10, format!(" mark={:#x}/0xff", random.below(4))),
        (10, " local=src".to_string()),
        (10, " oneway".to_string()),
        (
            10,
            format!(" netns={}", u64::from(FIRST_INUM) + random.below(4)),
        ),
    ];
    for (percent, term) in more {
        let key = term.split('=').next().unwrap_or_default();
        if random.percent(percent) && !rule.contains(key) {
            let _ = write!(rule, "{term}");
        }
    }
    match random.percent(15) {
        true => format!("track {rule}"),
        false => rule,
    }
}
