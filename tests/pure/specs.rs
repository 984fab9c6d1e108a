// SPDX-License-Identifier: GPL-2.0

//! Rules as values, the text that stands for each, and proptest's strategies that make them.
//!
//! Addresses, ports and the like are drawn from small sets, so that rules and keys meet often.

use std::{
    collections::BTreeSet,
    net::{
        Ipv4Addr,
        Ipv6Addr, //
    },
};

use ctskip_pure::rule::{
    protocol,
    Action,
    Family,
    Local,
    Netns,
    Rule,
    TcpFlags, //
};
use proptest::{
    collection::vec,
    option::{
        of,
        weighted, //
    },
    prelude::*,
    sample::{
        select,
        subsequence, //
    }, //
};

use super::common::{
    netns,
    FIRST_INUM,
    INIT_INUM, //
};

/// A rule as a value; always one that parses.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) action: Option<Action>,
    pub(crate) family: Option<Family>,
    pub(crate) protocols: Vec<u8>,
    pub(crate) sources: Vec<(u128, u8)>,
    pub(crate) destinations: Vec<(u128, u8)>,
    pub(crate) source_ports: Vec<(u16, u16)>,
    pub(crate) destination_ports: Vec<(u16, u16)>,
    pub(crate) types: Vec<(u8, u8)>,
    pub(crate) local: Option<Local>,
    pub(crate) devices: Vec<(String, bool)>,
    pub(crate) mark: Option<(u32, u32)>,
    pub(crate) flags: Option<(u8, u8)>,
    pub(crate) netns: Netns,
    pub(crate) nat_ok: bool,
    pub(crate) oneway: bool,
    pub(crate) tag: Option<String>,
    pub(crate) id: Option<u32>,
}

/// How the same rule is written in one of many ways.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    /// Sorts words and list elements.
    order: Vec<u16>,
    /// Numbers where names would do, superfluous words, and the like.
    odd: bool,
    /// `+` for the space.
    plus: bool,
}

impl Style {
    /// In no special way.
    pub(crate) fn plain() -> Self {
        Self {
            order: Vec::new(),
            odd: false,
            plus: false,
        }
    }

    fn shuffled<T>(&self, mut items: Vec<T>) -> Vec<T> {
        for (i, random) in self.order.iter().enumerate().take(items.len()) {
            let other = usize::from(*random) % items.len();
            items.swap(i, other);
        }
        items
    }

    fn list<T>(&self, key: &str, items: &[T], text: impl Fn(&T) -> String) -> Option<String> {
        let mut items = self.shuffled(items.iter().map(text).collect());
        if self.odd && items.len() < 4 {
            // Once more what is there already.
            items.extend(items.first().cloned());
        }
        (!items.is_empty()).then(|| format!("{key}{}", items.join(",")))
    }
}

pub(crate) fn styles() -> impl Strategy<Value = Style> {
    (vec(any::<u16>(), 20), any::<bool>(), any::<bool>()).prop_map(|(order, odd, plus)| Style {
        order,
        odd,
        plus,
    })
}

impl Spec {
    /// The family that the rule is of in the end.
    pub(crate) fn whole_family(&self) -> Option<Family> {
        let icmp =
            |number| !self.protocols.is_empty() && self.protocols.iter().all(|p| *p == number);
        if icmp(protocol::ICMP) {
            Some(Family::Ipv4)
        } else if icmp(protocol::ICMP6) {
            Some(Family::Ipv6)
        } else {
            self.family
        }
    }

    fn is_narrow(&self) -> bool {
        let narrowing = [
            self.sources.len(),
            self.destinations.len(),
            self.source_ports.len(),
            self.destination_ports.len(),
            self.types.len(),
            usize::from(self.mark.is_some()),
        ];
        !self.protocols.is_empty() && narrowing.iter().any(|len| *len > 0)
    }

    /// The rule written in that style.
    pub(crate) fn text(&self, style: &Style) -> String {
        let mut words = Vec::new();
        words.extend(self.action.map(|action| match action {
            Action::Skip => "skip".to_owned(),
            Action::Track => "track".to_owned(),
        }));
        let addresses = !self.sources.is_empty() || !self.destinations.is_empty();
        match self.family {
            Some(Family::Ipv4) if !addresses || style.odd => words.push("ip".to_owned()),
            Some(Family::Ipv6) if !addresses || style.odd => words.push("ip6".to_owned()),
            _ => {}
        }
        let named = self.protocols.first().copied().and_then(name);
        words.extend(match named {
            Some(_) if !style.odd => style.protocols(&self.protocols),
            _ => style.list("proto=", &self.protocols, |p| p.to_string()),
        });
        let family = self.family.unwrap_or(Family::Ipv4);
        words.extend(style.list("src=", &self.sources, |p| prefix(family, *p, style.odd)));
        words.extend(style.list("dst=", &self.destinations, |p| {
            prefix(family, *p, style.odd)
        }));
        words.extend(style.list("sport=", &self.source_ports, |r| range(*r, style.odd)));
        words.extend(style.list("dport=", &self.destination_ports, |r| range(*r, style.odd)));
        words.extend(style.list("type=", &self.types, |r| range(*r, style.odd)));
        words.extend(self.local.map(|local| match local {
            Local::Source => "local=src".to_owned(),
            Local::Destination => "local=dst".to_owned(),
        }));
        let device = |(name, wildcard): &(String, bool)| {
            format!("{name}{}", if *wildcard { "*" } else { "" })
        };
        words.extend(style.list("dev=", &self.devices, device));
        words.extend(self.mark.map(|(value, mask)| match (mask, style.odd) {
            (u32::MAX, true) => format!("mark={value}"),
            (u32::MAX, false) => format!("mark={value:#x}"),
            (_, true) => format!("mark={value}/{mask}"),
            (_, false) => format!("mark={value:#x}/{mask:#x}"),
        }));
        words.extend(self.flags.map(|(value, mask)| {
            let names = |bits: u8| {
                let names = TcpFlags::NAMES.iter().enumerate();
                let names = names.filter(|(bit, _)| bits >> bit & 1 != 0);
                let names = style.shuffled(names.map(|(_, name)| *name).collect());
                names.join("+")
            };
            match mask == value | 0x17 && !style.odd {
                true => format!("flags={}", names(value)),
                false => format!("flags={}/{}", names(value), names(mask)),
            }
        }));
        words.extend(match self.netns {
            Netns::Any => None,
            Netns::Init if style.odd => Some(format!("netns={INIT_INUM}")),
            Netns::Init => Some("netns=init".to_owned()),
            Netns::NotInit => Some("netns!=init".to_owned()),
            Netns::Only(id) if style.odd => {
                Some(format!("netns=pid:{}", id.inum - FIRST_INUM + 100))
            }
            Netns::Only(id) => Some(format!("netns={}", id.inum)),
        });
        words.extend(self.nat_ok.then(|| "nat=ok".to_owned()));
        words.extend(self.oneway.then(|| "oneway".to_owned()));
        words.extend((style.odd || !self.is_narrow()).then(|| "any".to_owned()));
        words.extend(self.tag.as_ref().map(|tag| format!("tag={tag}")));
        words.extend(self.id.map(|id| format!("id={id}")));
        let plus = style.plus && self.devices.iter().all(|(name, _)| !name.contains('+'));
        style.shuffled(words).join(if plus { "+" } else { " " })
    }

    /// Whether `rule` says what this does.
    pub(crate) fn assert_is(&self, rule: &Rule) {
        let set = |prefixes: &[(u128, u8)]| prefixes.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(rule.action(), self.action.unwrap_or(Action::Skip));
        assert_eq!(rule.family(), self.whole_family());
        let protocols: Vec<_> = self
            .protocols
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        assert_eq!(rule.protocols().collect::<Vec<_>>(), protocols);
        let sources: Vec<_> = rule.sources().map(|p| (p.value(), p.bits())).collect();
        assert_eq!(sources, set(&self.sources).into_iter().collect::<Vec<_>>());
        let destinations: Vec<_> = rule.destinations().map(|p| (p.value(), p.bits())).collect();
        assert_eq!(
            destinations,
            set(&self.destinations).into_iter().collect::<Vec<_>>()
        );
        let ports = |ranges: &[(u16, u16)]| {
            ranges
                .iter()
                .copied()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        };
        let source_ports: Vec<_> = rule.source_ports().map(|r| (r.first(), r.last())).collect();
        assert_eq!(source_ports, ports(&self.source_ports));
        let destination_ports: Vec<_> = rule
            .destination_ports()
            .map(|r| (r.first(), r.last()))
            .collect();
        assert_eq!(destination_ports, ports(&self.destination_ports));
        let types: BTreeSet<_> = self.types.iter().copied().collect();
        assert_eq!(
            rule.icmp_types()
                .map(|r| (r.first(), r.last()))
                .collect::<Vec<_>>(),
            types.into_iter().collect::<Vec<_>>()
        );
        assert_eq!(rule.local(), self.local);
        let devices: BTreeSet<_> = rule
            .devices()
            .map(|d| (String::from_utf8(d.name().to_vec()).unwrap(), d.wildcard()))
            .collect();
        assert_eq!(devices, self.devices.iter().cloned().collect());
        assert_eq!(rule.devices().count(), devices.len());
        assert_eq!(rule.mark().map(|m| (m.value(), m.mask())), self.mark);
        assert_eq!(rule.flags().map(|f| (f.value(), f.mask())), self.flags);
        assert_eq!(rule.netns(), self.netns);
        assert_eq!(rule.nat_ok(), self.nat_ok);
        assert_eq!(rule.oneway(), self.oneway);
        assert_eq!(rule.tag(), self.tag.as_deref());
    }
}

impl Style {
    /// A list of protocols that starts with a name.
    fn protocols(&self, numbers: &[u8]) -> Option<String> {
        let text = |p: &u8| name(*p).map_or(p.to_string(), str::to_owned);
        let (first, rest) = numbers.split_first()?;
        let rest = self.shuffled(rest.iter().map(text).collect());
        let list: Vec<_> = [text(first)].into_iter().chain(rest).collect();
        Some(list.join(","))
    }
}

fn name(number: u8) -> Option<&'static str> {
    match number {
        1 => Some("icmp"),
        4 => Some("ipip"),
        6 => Some("tcp"),
        17 => Some("udp"),
        47 => Some("gre"),
        50 => Some("esp"),
        51 => Some("ah"),
        58 => Some("icmp6"),
        132 => Some("sctp"),
        _ => None,
    }
}

fn prefix(family: Family, (value, len): (u128, u8), odd: bool) -> String {
    let (address, bits) = match family {
        Family::Ipv4 => {
            let top = u32::try_from(value >> 96).unwrap();
            (Ipv4Addr::from(top).to_string(), 32)
        }
        Family::Ipv6 if odd => {
            let groups = Ipv6Addr::from(value).segments();
            (groups.map(|group| format!("{group:04X}")).join(":"), 128)
        }
        Family::Ipv6 => (Ipv6Addr::from(value).to_string(), 128),
    };
    if len == bits && !odd {
        address
    } else {
        format!("{address}/{len}")
    }
}

fn range<T: PartialEq + std::fmt::Display>((first, last): (T, T), odd: bool) -> String {
    if first == last && !odd {
        format!("{first}")
    } else {
        format!("{first}-{last}")
    }
}

fn mask(len: u8) -> u128 {
    if len == 0 {
        0
    } else {
        u128::MAX << (128 - u32::from(len))
    }
}

/// Addresses near to each other, the top bits of both families alike.
pub(crate) fn addresses() -> impl Strategy<Value = u128> {
    const NET: u128 = 0x0a00_0000_2001_0db8_0000_0000_0000_0000;
    prop_oneof![
        8 => (0u128..4, 0u128..4, 0u128..4, 0u128..4)
            .prop_map(|(a, b, c, d)| NET | a << 112 | b << 96 | c << 64 | d),
        1 => any::<u128>(),
        1 => select(vec![0, u128::MAX, 0xffff_0a00_0001]),
    ]
}

fn prefixes(family: Family, count: usize) -> impl Strategy<Value = Vec<(u128, u8)>> {
    let lens: Vec<u8> = match family {
        Family::Ipv4 => vec![0, 1, 8, 14, 15, 16, 30, 31, 32, 32, 32],
        Family::Ipv6 => vec![
            0, 1, 8, 14, 30, 31, 32, 33, 62, 63, 64, 126, 127, 128, 128, 128,
        ],
    };
    let one = (addresses(), prop_oneof![4 => select(lens), 1 => 0..=32u8]);
    vec(
        one.prop_map(|(address, len)| (address & mask(len), len)),
        1..=count,
    )
}

pub(crate) fn port() -> impl Strategy<Value = u16> {
    prop_oneof![6 => 50..58u16, 2 => select(vec![0, 1, 65534, 65535]), 1 => any::<u16>()]
}

pub(crate) fn icmp_type() -> impl Strategy<Value = u8> {
    prop_oneof![
        8 => select(vec![0, 1, 2, 3, 4, 5, 8, 11, 12, 13, 14, 15, 16, 17, 18, 128, 129, 139, 140]),
        1 => any::<u8>()
    ]
}

fn ranges<T: Ord + Copy + std::fmt::Debug>(
    value: impl Strategy<Value = T>,
    count: usize,
) -> impl Strategy<Value = Vec<(T, T)>> {
    let one = (value, any::<bool>());
    let pair = vec(one, 2..=2).prop_map(|ends| {
        let (a, single) = ends[0];
        let b = if single { a } else { ends[1].0 };
        (a.min(b), a.max(b))
    });
    vec(pair, 1..=count)
}

fn devices(count: usize) -> impl Strategy<Value = Vec<(String, bool)>> {
    let name = prop_oneof![
        6 => select(vec!["eth0", "eth1", "eth", "e", "lo", "veth-abc", "br0.100", "a+b", "fifteen-letters"])
            .prop_map(str::to_owned),
        1 => "[a-zA-Z0-9._=@!-]{3,14}",
    ];
    vec((name, any::<bool>()), 1..=count)
}

pub(crate) fn marks() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..8u32, 1 => select(vec![0x100, u32::MAX, 0x8000_0000]), 1 => any::<u32>()]
}

fn mark_terms() -> impl Strategy<Value = (u32, u32)> {
    let mask = select(vec![u32::MAX, u32::MAX, 1, 3, 0xff, 0x8000_0000]);
    (marks(), mask).prop_map(|(value, mask)| (value & mask, mask))
}

pub(crate) fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![4 => select(vec![2, 0x12, 0x10, 0x18, 0x11, 4, 0x14, 0xc2]), 1 => any::<u8>()]
}

fn flag_terms() -> impl Strategy<Value = (u8, u8)> {
    let mask = prop_oneof![2 => Just(0x17), 1 => any::<u8>()];
    (flags(), mask).prop_map(|(value, mask)| (value.max(1), value.max(1) | mask))
}

pub(crate) fn netns_terms() -> impl Strategy<Value = Netns> {
    prop_oneof![
        4 => Just(Netns::Any),
        1 => Just(Netns::Init),
        1 => Just(Netns::NotInit),
        2 => (0..4u32).prop_map(|n| Netns::Only(netns(n))),
    ]
}

pub(crate) fn tags() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(vec!["dns", "web", "a.b_c-D", "a-name-of-thirty-one-characters"]).prop_map(str::to_owned),
        1 => "[A-Za-z0-9._-]{1,31}",
    ]
}

/// What protocols a rule names, as far as the other terms depend on it.
#[derive(Clone, Debug)]
enum Shape {
    Every,
    Ports(Vec<u8>),
    Icmp(Vec<u8>),
    Numbers(Vec<u8>),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let ports = subsequence(vec![protocol::TCP, protocol::UDP, protocol::SCTP], 1..=3);
    let icmp = select(vec![vec![1], vec![58], vec![1, 58], vec![58, 1]]);
    let number = prop_oneof![
        select(vec![1u8, 4, 6, 17, 47, 50, 51, 58, 132]),
        select(vec![0u8, 43, 44, 59, 60, 63, 64, 127, 128, 255]),
        any::<u8>(),
    ];
    prop_oneof![
        1 => Just(Shape::Every),
        4 => ports.prop_map(Shape::Ports),
        2 => icmp.prop_map(Shape::Icmp),
        2 => vec(number, 1..=5).prop_map(Shape::Numbers),
    ]
}

fn families() -> impl Strategy<Value = Family> {
    select(vec![Family::Ipv4, Family::Ipv6])
}

/// Half of the time a list, where the rule may have it.
fn perhaps<T: std::fmt::Debug>(
    allowed: bool,
    list: impl Strategy<Value = Vec<T>>,
) -> impl Strategy<Value = Option<Vec<T>>> {
    of(list).prop_map(move |list| list.filter(|_| allowed))
}

/// Rules, each list of up to `count` elements.
pub(crate) fn specs(count: usize) -> impl Strategy<Value = Spec> {
    (shapes(), of(families())).prop_flat_map(move |(shape, wanted)| {
        let (protocols, ports, types) = match shape {
            Shape::Every => (vec![], false, false),
            Shape::Ports(numbers) => (numbers, true, false),
            Shape::Icmp(numbers) => (numbers, false, true),
            Shape::Numbers(numbers) => (numbers, false, false),
        };
        let extension = |p: &u8| protocol::is_extension_header(*p);
        let all = |number| !protocols.is_empty() && protocols.iter().all(|p| *p == number);
        let family = if all(protocol::ICMP) {
            Some(Family::Ipv4)
        } else if all(protocol::ICMP6) {
            Some(Family::Ipv6)
        } else {
            wanted.filter(|family| match family {
                Family::Ipv4 => !protocols.contains(&protocol::ICMP6),
                Family::Ipv6 => {
                    !protocols.contains(&protocol::ICMP) && !protocols.iter().any(extension)
                }
            })
        };
        let addressed = family.is_some();
        let of_family = family.unwrap_or(Family::Ipv4);
        let lists = (
            perhaps(addressed, prefixes(of_family, count)),
            perhaps(addressed, prefixes(of_family, count)),
            perhaps(ports, ranges(port(), count)),
            perhaps(ports, ranges(port(), count)),
            perhaps(types, ranges(icmp_type(), count)),
            weighted(0.2, devices(count)),
        );
        let rest = (
            of(select(vec![Action::Skip, Action::Track])),
            weighted(0.3, select(vec![Local::Source, Local::Destination])),
            weighted(0.2, mark_terms()),
            weighted(0.4, flag_terms()),
            netns_terms(),
            any::<bool>(),
            weighted(0.2, Just(())),
            of(tags()),
        );
        (lists, rest).prop_map(move |(lists, rest)| {
            let (sources, destinations, source_ports, destination_ports, types, devices) = lists;
            let (action, local, mark, flags, netns, nat_ok, oneway, tag) = rest;
            let is_tcp = protocols == [protocol::TCP];
            let mut spec = Spec {
                action,
                // Written where it is said by nothing else, or may be said again.
                family: family.filter(|_| {
                    !all_icmp(&protocols) || sources.is_some() || destinations.is_some()
                }),
                protocols: protocols.clone(),
                sources: sources.unwrap_or_default(),
                destinations: destinations.unwrap_or_default(),
                source_ports: source_ports.unwrap_or_default(),
                destination_ports: destination_ports.unwrap_or_default(),
                types: types.unwrap_or_default(),
                local,
                devices: devices.unwrap_or_default(),
                mark,
                flags: flags.filter(|_| is_tcp),
                netns,
                nat_ok: nat_ok && action != Some(Action::Track),
                oneway: oneway.is_some(),
                tag,
                id: None,
            };
            spec.shorten();
            spec
        })
    })
}

/// Whether the protocols alone say the family.
fn all_icmp(protocols: &[u8]) -> bool {
    [protocol::ICMP, protocol::ICMP6]
        .iter()
        .any(|number| !protocols.is_empty() && protocols.iter().all(|p| p == number))
}

impl Spec {
    /// Cuts lists until they multiply to no more than a rule may have, with room for [`Style`].
    fn shorten(&mut self) {
        loop {
            let lens = [
                self.protocols.len(),
                self.sources.len(),
                self.destinations.len(),
                self.source_ports.len(),
                self.destination_ports.len(),
                self.types.len(),
                self.devices.len(),
            ];
            // As written in an odd style, where a short list has one more.
            let long = |len: &usize| {
                if *len < 4 && *len > 0 {
                    len + 1
                } else {
                    (*len).max(1)
                }
            };
            if lens.iter().map(long).product::<usize>() <= 1024 {
                return;
            }
            let longest = lens.iter().max().copied().unwrap_or(0);
            let keep = longest - 1;
            self.sources.truncate(keep);
            self.destinations.truncate(keep);
            self.source_ports.truncate(keep);
            self.destination_ports.truncate(keep);
            self.types.truncate(keep);
            self.devices.truncate(keep);
            if self.protocols.len() > keep && longest > 3 {
                self.protocols.truncate(keep);
            }
        }
    }
}

/// A list of specs, now and then with an id of its own each.
pub(crate) fn spec_lists(rules: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Spec>> {
    vec(specs(3), rules)
}
