// SPDX-License-Identifier: GPL-2.0

//! The maker of rules: a rule as a value, and the texts that stand for it.
//!
//! Addresses, ports and the like come from small sets, so that rules meet each other, and packets meet
//! rules. A term is one row of [`TERMS`]: how it is made, written, and compared with a [`Rule`].

use std::{
    collections::BTreeSet,
    fmt::{
        Debug,
        Display, //
    },
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

use crate::{
    source::Source,
    world::{
        netns,
        FIRST_INUM,
        INIT_INUM, //
    },
};

/// A rule as a value. It always parses.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// `skip` or `track`, where one of them is written.
    pub action: Option<Action>,
    /// The family, where a word or an address says it.
    pub family: Option<Family>,
    /// The protocols by number; none: all.
    pub protocols: Vec<u8>,
    /// Source prefixes: address, as keys hold it, and length.
    pub sources: Vec<(u128, u8)>,
    /// Destination prefixes.
    pub destinations: Vec<(u128, u8)>,
    /// Ranges of source ports, both ends included.
    pub source_ports: Vec<(u16, u16)>,
    /// Ranges of destination ports.
    pub destination_ports: Vec<(u16, u16)>,
    /// Ranges of ICMP types.
    pub types: Vec<(u8, u8)>,
    /// The end that is this host.
    pub local: Option<Local>,
    /// Names of devices, each with whether it is the start of a name.
    pub devices: Vec<(String, bool)>,
    /// Value and mask of the mark.
    pub mark: Option<(u32, u32)>,
    /// Value and mask of the flags of TCP.
    pub flags: Option<(u8, u8)>,
    /// The namespaces.
    pub netns: Option<Netns>,
    /// Whether `nat=ok` is written.
    pub nat_ok: bool,
    /// Whether `oneway` is written.
    pub oneway: bool,
    /// The tag.
    pub tag: Option<String>,
    /// The number.
    pub id: Option<u32>,
}

/// Which rules are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of every term. The lists have this many elements at most.
    Any(usize),
    /// Of addresses and ports of IPv4, TCP and UDP, with short lists: the kind that hash tables take.
    Plain,
}

/// The protocols of IPv4 packets alone: ICMP, IGMP, and the numbers of IPv6's extension headers.
const IPV4_ONLY: [u8; 8] = [1, 2, 0, 43, 44, 51, 59, 60];

/// A rule that is being made.
struct Draft {
    spec: Spec,
    kind: Kind,
    /// The family that the rule is of in the end.
    family: Option<Family>,
    /// How many combinations the lists to come may make, as long as [`odd_len()`] says: a rule may have
    /// 1,024 in all.
    room: usize,
}

/// A term of rules.
struct Term {
    /// Adds it to a rule that may have it, if so chosen.
    make: fn(&mut Draft, &mut dyn Source),
    /// Returns its word, where the rule has it.
    write: fn(&Spec, &Style) -> Option<String>,
    /// Panics where a rule differs from the spec in it.
    check: fn(&Spec, &Rule),
}

/// The terms, in the order in which they are made and written.
///
/// The files of `fuzz/corpus` are rules by this order. A new term comes last, so that they mean what they
/// meant: the parser takes any order.
const TERMS: &[Term] = &[
    Term {
        make: |draft, source| {
            let all = [None, None, Some(Action::Skip), Some(Action::Track)];
            draft.spec.action = source.pick(&all);
        },
        write: |spec, _| {
            spec.action.map(|action| match action {
                Action::Skip => "skip".to_owned(),
                Action::Track => "track".to_owned(),
            })
        },
        check: |spec, rule| assert_eq!(rule.action(), spec.action.unwrap_or(Action::Skip)),
    },
    // The family is made with the protocols, below.
    Term {
        make: |_, _| (),
        write: |spec, style| {
            let is_said = !spec.sources.is_empty() || !spec.destinations.is_empty();
            let word = match spec.family.filter(|_| !is_said || style.odd)? {
                Family::Ipv4 => "ip",
                Family::Ipv6 => "ip6",
            };
            Some(word.to_owned())
        },
        check: |spec, rule| assert_eq!(rule.family(), spec.whole_family()),
    },
    Term {
        make: protocols,
        write: |spec, style| match spec.protocols.first().copied().and_then(name) {
            Some(_) if !style.odd => style.protocols(&spec.protocols),
            _ => style.list("proto=", &spec.protocols, |p| p.to_string()),
        },
        check: |spec, rule| same(rule.protocols(), &spec.protocols),
    },
    Term {
        make: |draft, source| draft.spec.sources = prefixes(draft, source),
        write: |spec, style| style.prefixes("src=", spec.family, &spec.sources),
        check: |spec, rule| same(rule.sources().map(|p| (p.value(), p.bits())), &spec.sources),
    },
    Term {
        make: |draft, source| draft.spec.destinations = prefixes(draft, source),
        write: |spec, style| style.prefixes("dst=", spec.family, &spec.destinations),
        check: |spec, rule| {
            let destinations = rule.destinations().map(|p| (p.value(), p.bits()));
            same(destinations, &spec.destinations);
        },
    },
    Term {
        make: |draft, source| draft.spec.source_ports = ports(draft, source),
        write: |spec, style| style.ranges("sport=", &spec.source_ports),
        check: |spec, rule| {
            let ports = rule.source_ports().map(|r| (r.first(), r.last()));
            same(ports, &spec.source_ports);
        },
    },
    Term {
        make: |draft, source| draft.spec.destination_ports = ports(draft, source),
        write: |spec, style| style.ranges("dport=", &spec.destination_ports),
        check: |spec, rule| {
            let ports = rule.destination_ports().map(|r| (r.first(), r.last()));
            same(ports, &spec.destination_ports);
        },
    },
    Term {
        make: |draft, source| {
            let is_icmp = |p: &u8| matches!(*p, protocol::ICMP | protocol::ICMP6);
            let may = draft.all_protocols(is_icmp);
            draft.spec.types = draft.list(source, may, 50, |source| range(source, icmp_type));
        },
        write: |spec, style| {
            let family = spec.whole_family();
            style.list("type=", &spec.types, |(first, last)| {
                let named = match family {
                    Some(Family::Ipv4) => type_name(false, *first),
                    Some(Family::Ipv6) => type_name(true, *first),
                    None => None,
                };
                match named.filter(|_| first == last && style.odd) {
                    Some(name) => name.to_owned(),
                    None => style.range(first, last),
                }
            })
        },
        check: |spec, rule| {
            same(
                rule.icmp_types().map(|r| (r.first(), r.last())),
                &spec.types,
            );
        },
    },
    Term {
        make: |draft, source| {
            let local = source.pick(&[Local::Source, Local::Destination]);
            let says = source.percent(6) && draft.kind != Kind::Plain;
            draft.spec.local = says.then_some(local);
        },
        write: |spec, _| {
            spec.local.map(|local| match local {
                Local::Source => "local=src".to_owned(),
                Local::Destination => "local=dst".to_owned(),
            })
        },
        check: |spec, rule| assert_eq!(rule.local(), spec.local),
    },
    Term {
        make: |draft, source| {
            let may = draft.kind != Kind::Plain;
            draft.spec.devices = draft.list(source, may, 20, device);
        },
        write: |spec, style| {
            style.list("dev=", &spec.devices, |(name, wildcard)| {
                format!("{name}{}", if *wildcard { "*" } else { "" })
            })
        },
        check: |spec, rule| {
            let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
            let devices: Vec<_> = rule
                .devices()
                .map(|d| (name(d.name()), d.wildcard()))
                .collect();
            assert_eq!(
                set(devices.iter().cloned()),
                set(spec.devices.iter().cloned())
            );
            assert_eq!(devices.len(), set(devices.iter().cloned()).len());
        },
    },
    Term {
        make: |draft, source| {
            if draft.kind != Kind::Plain && source.percent(20) {
                let mask = source.pick(&[u32::MAX, u32::MAX, 1, 3, 0xff, 0xff00, 0x8000_0000]);
                draft.spec.mark = Some((mark(source) & mask, mask));
            }
        },
        write: |spec, style| {
            spec.mark.map(|(value, mask)| match (mask, style.odd) {
                (u32::MAX, true) => format!("mark={value}"),
                (u32::MAX, false) => format!("mark={value:#x}"),
                (_, true) => format!("mark={value}/{mask}"),
                (_, false) => format!("mark={value:#x}/{mask:#x}"),
            })
        },
        check: |spec, rule| {
            assert_eq!(rule.mark().map(|m| (m.value(), m.mask())), spec.mark);
        },
    },
    Term {
        make: |draft, source| {
            if draft.kind != Kind::Plain {
                let only = Netns::Only(netns(source.below(4) as u32));
                let all = [(2, Netns::Init), (2, Netns::NotInit), (4, only)];
                draft.spec.netns = source.percent(40).then(|| source.weighted(&all));
            }
        },
        write: |spec, style| match spec.netns? {
            Netns::Any => None,
            Netns::Init if style.odd => Some(format!("netns={INIT_INUM}")),
            Netns::Init => Some("netns=init".to_owned()),
            Netns::NotInit => Some("netns!=init".to_owned()),
            Netns::Only(id) if style.odd => {
                Some(format!("netns=pid:{}", id.inum - FIRST_INUM + 100))
            }
            Netns::Only(id) => Some(format!("netns={}", id.inum)),
        },
        check: |spec, rule| assert_eq!(rule.netns(), spec.netns.unwrap_or(Netns::Any)),
    },
    Term {
        make: |draft, source| {
            let may = draft.spec.action != Some(Action::Track);
            draft.spec.nat_ok = source.percent(50) && may;
        },
        write: |spec, _| spec.nat_ok.then(|| "nat=ok".to_owned()),
        check: |spec, rule| assert_eq!(rule.nat_ok(), spec.nat_ok),
    },
    Term {
        make: |draft, source| draft.spec.oneway = source.percent(20),
        write: |spec, _| spec.oneway.then(|| "oneway".to_owned()),
        check: |spec, rule| assert_eq!(rule.oneway(), spec.oneway),
    },
    // Said of a rule that is not narrow; it changes nothing.
    Term {
        make: |_, _| (),
        write: |spec, style| {
            let word = if style.odd { "all" } else { "any" };
            (style.odd || !spec.is_narrow()).then(|| word.to_owned())
        },
        check: |_, _| (),
    },
    Term {
        make: |draft, source| draft.spec.tag = source.percent(50).then(|| tag(source)),
        write: |spec, _| spec.tag.as_ref().map(|tag| format!("tag={tag}")),
        check: |spec, rule| assert_eq!(rule.tag(), spec.tag.as_deref()),
    },
    // Rules have ids where a test gives them some.
    Term {
        make: |_, _| (),
        write: |spec, _| spec.id.map(|id| format!("id={id}")),
        check: |_, _| (),
    },
    Term {
        make: |draft, source| {
            let may = draft.spec.protocols == [protocol::TCP] && draft.kind != Kind::Plain;
            if may && source.percent(40) {
                let value = flags(source).max(1);
                let any = source.below(256) as u8;
                draft.spec.flags = Some((value, value | source.pick(&[0x17, 0x17, any])));
            }
        },
        write: |spec, style| {
            let (value, mask) = spec.flags?;
            let names = |bits: u8| {
                let names = TcpFlags::NAMES.iter().enumerate();
                let names = names.filter(|(bit, _)| bits >> bit & 1 != 0);
                let names = style.shuffled(names.map(|(_, name)| *name).collect());
                names.join("+")
            };
            Some(match mask == value | 0x17 && !style.odd {
                true => format!("flags={}", names(value)),
                false => format!("flags={}/{}", names(value), names(mask)),
            })
        },
        check: |spec, rule| {
            assert_eq!(rule.flags().map(|f| (f.value(), f.mask())), spec.flags);
        },
    },
];

impl Spec {
    /// Makes a rule.
    pub fn make(source: &mut dyn Source, kind: Kind) -> Self {
        let mut draft = Draft {
            spec: Self::default(),
            kind,
            family: None,
            room: 1024,
        };
        for term in TERMS {
            (term.make)(&mut draft, source);
        }
        let Draft {
            mut spec, family, ..
        } = draft;
        // Where the protocols say the family, it is written beside addresses only.
        let is_said = spec.whole_family().is_some();
        let addressed = !spec.sources.is_empty() || !spec.destinations.is_empty();
        spec.family = family.filter(|_| !is_said || addressed);
        spec
    }

    /// Returns the family that the rule is of in the end.
    pub fn whole_family(&self) -> Option<Family> {
        let all = |numbers: &[u8]| {
            !self.protocols.is_empty() && self.protocols.iter().all(|p| numbers.contains(p))
        };
        if all(&IPV4_ONLY) {
            Some(Family::Ipv4)
        } else if all(&[protocol::ICMP6]) {
            Some(Family::Ipv6)
        } else {
            self.family
        }
    }

    /// Returns whether the rule need not say `any`: it names a protocol, and something that leaves
    /// packets out.
    fn is_narrow(&self) -> bool {
        let ports =
            |ranges: &[(u16, u16)]| leave_out(1, u16::MAX, ranges, |last| last.checked_add(1));
        let prefixes = |prefixes: &[(u128, u8)]| {
            let end = |(value, len): &(u128, u8)| {
                let host = u128::MAX.checked_shr((*len).into()).unwrap_or(0);
                (*value, value | host)
            };
            let ends: Vec<_> = prefixes.iter().map(end).collect();
            leave_out(0, u128::MAX, &ends, |last| last.checked_add(1))
        };
        let types = leave_out(0, u8::MAX, &self.types, |last| last.checked_add(1));
        !self.protocols.is_empty()
            && (prefixes(&self.sources)
                || prefixes(&self.destinations)
                || ports(&self.source_ports)
                || ports(&self.destination_ports)
                || types
                || self.mark.is_some())
    }

    /// Returns the rule written in that style.
    pub fn text(&self, style: &Style) -> String {
        let words = TERMS.iter().filter_map(|term| (term.write)(self, style));
        let plus = style.plus && self.devices.iter().all(|(name, _)| !name.contains('+'));
        style
            .shuffled(words.collect())
            .join(if plus { "+" } else { " " })
    }

    /// Asserts that `rule` says what this does.
    pub fn assert_is(&self, rule: &Rule) {
        for term in TERMS {
            (term.check)(self, rule);
        }
    }
}

/// One of many ways to write a rule.
#[derive(Clone, Debug)]
pub struct Style {
    /// Sorts words and list elements.
    order: Vec<u16>,
    /// Numbers in place of names, words that change nothing, and the like.
    odd: bool,
    /// `+` for the space.
    plus: bool,
}

impl Style {
    /// Makes a style.
    pub fn make(source: &mut dyn Source) -> Self {
        Self {
            odd: source.percent(50),
            plus: source.percent(50),
            order: (0..20).map(|_| source.below(1 << 16) as u16).collect(),
        }
    }

    /// Returns the style of which nothing is special.
    pub fn plain() -> Self {
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
            // One element a second time.
            items.extend(items.first().cloned());
        }
        (!items.is_empty()).then(|| format!("{key}{}", items.join(",")))
    }

    /// A list of protocols that starts with a name.
    fn protocols(&self, numbers: &[u8]) -> Option<String> {
        let text = |p: &u8| name(*p).map_or(p.to_string(), str::to_owned);
        let (first, rest) = numbers.split_first()?;
        let rest = self.shuffled(rest.iter().map(text).collect());
        let list: Vec<_> = [text(first)].into_iter().chain(rest).collect();
        Some(list.join(","))
    }

    fn prefixes(
        &self,
        key: &str,
        family: Option<Family>,
        prefixes: &[(u128, u8)],
    ) -> Option<String> {
        let (family, bits) = match family {
            Some(Family::Ipv6) => (Family::Ipv6, 128),
            _ => (Family::Ipv4, 32),
        };
        let address = |value: u128| match family {
            Family::Ipv4 => Ipv4Addr::from(u32::try_from(value >> 96).unwrap()).to_string(),
            Family::Ipv6 if self.odd => {
                let groups = Ipv6Addr::from(value).segments();
                groups.map(|group| format!("{group:04X}")).join(":")
            }
            Family::Ipv6 => Ipv6Addr::from(value).to_string(),
        };
        // A prefix is a range, too.
        let as_range = self.odd && self.order.first().is_some_and(|random| random % 2 == 0);
        let text = |(value, len): &(u128, u8)| {
            if as_range {
                let host = u128::MAX.checked_shr((*len).into()).unwrap_or(0);
                let unit = u128::MAX.checked_shr(bits).unwrap_or(0);
                format!("{}-{}", address(*value), address((value | host) & !unit))
            } else if u32::from(*len) == bits && !self.odd {
                address(*value)
            } else {
                format!("{}/{len}", address(*value))
            }
        };
        self.list(key, prefixes, text)
    }

    fn ranges<T: PartialEq + Display>(&self, key: &str, ranges: &[(T, T)]) -> Option<String> {
        self.list(key, ranges, |(first, last)| self.range(first, last))
    }

    fn range<T: PartialEq + Display>(&self, first: &T, last: &T) -> String {
        match first == last && !self.odd {
            true => format!("{first}"),
            false => format!("{first}-{last}"),
        }
    }
}

fn name(number: u8) -> Option<&'static str> {
    match number {
        1 => Some("icmp"),
        2 => Some("igmp"),
        4 => Some("ipip"),
        6 => Some("tcp"),
        17 => Some("udp"),
        33 => Some("dccp"),
        41 => Some("sit"),
        47 => Some("gre"),
        50 => Some("esp"),
        51 => Some("ah"),
        58 => Some("icmp6"),
        89 => Some("ospf"),
        97 => Some("etherip"),
        103 => Some("pim"),
        108 => Some("ipcomp"),
        112 => Some("vrrp"),
        115 => Some("l2tp"),
        132 => Some("sctp"),
        136 => Some("udplite"),
        _ => None,
    }
}

/// Returns the name of an ICMP type, of ICMPv6 or else of ICMP.
fn type_name(is_icmp6: bool, number: u8) -> Option<&'static str> {
    Some(match (is_icmp6, number) {
        (false, 0) | (true, 129) => "echo-reply",
        (false, 3) | (true, 1) => "destination-unreachable",
        (false, 8) | (true, 128) => "echo-request",
        (false, 11) | (true, 3) => "time-exceeded",
        (false, 5) | (true, 137) => "redirect",
        (false, 13) => "timestamp-request",
        (true, 2) => "packet-too-big",
        (true, 143) => "mld2-listener-report",
        _ => return None,
    })
}

/// Returns whether there are ranges, and a number from `least` to `most` that is in none of them: if there
/// is one, then `least`, or one behind the end of a range.
fn leave_out<T: Copy + Ord>(
    least: T,
    most: T,
    ranges: &[(T, T)],
    next: impl Fn(T) -> Option<T>,
) -> bool {
    let behind = ranges.iter().filter_map(|(_, last)| next(*last));
    let mut candidates = [least].into_iter().chain(behind);
    let is_out = |n: &T| !ranges.iter().any(|(first, last)| first <= n && n <= last);
    !ranges.is_empty() && candidates.any(|n| (least..=most).contains(&n) && is_out(&n))
}

fn set<T: Ord>(elements: impl Iterator<Item = T>) -> BTreeSet<T> {
    elements.collect()
}

/// Asserts that a rule's list has the elements of the spec: sorted, and each once.
#[track_caller]
fn same<T: Ord + Clone + Debug>(rule: impl Iterator<Item = T>, spec: &[T]) {
    let spec: Vec<T> = set(spec.iter().cloned()).into_iter().collect();
    assert_eq!(rule.collect::<Vec<_>>(), spec);
}

impl Draft {
    /// Makes a list for a rule that may have it, in `percent` of 100 cases.
    fn list<T>(
        &mut self,
        source: &mut dyn Source,
        may: bool,
        percent: u64,
        mut element: impl FnMut(&mut dyn Source) -> T,
    ) -> Vec<T> {
        let most = match self.kind {
            Kind::Any(most) => most,
            Kind::Plain => 2,
        };
        let most = (1..=most).rev().find(|len| odd_len(*len) <= self.room);
        let Some(most) = most.filter(|_| may && source.percent(percent)) else {
            return Vec::new();
        };
        let len = source.within(1, most as u64) as usize;
        self.room /= odd_len(len);
        (0..len).map(|_| element(source)).collect()
    }

    /// Returns whether the rule names protocols, and all are such.
    fn all_protocols(&self, such: impl Fn(&u8) -> bool) -> bool {
        !self.spec.protocols.is_empty() && self.spec.protocols.iter().all(such)
    }
}

/// Returns how many elements a list of `len` has at most, written in an odd [`Style`]; 1 of none.
fn odd_len(len: usize) -> usize {
    match len {
        1..4 => len + 1,
        _ => len.max(1),
    }
}

/// The protocols, and which family they leave.
fn protocols(draft: &mut Draft, source: &mut dyn Source) {
    const PORTS: [&[u8]; 7] = [
        &[17],
        &[6],
        &[132],
        &[6, 17],
        &[6, 132],
        &[17, 132],
        &[6, 17, 132],
    ];
    const ICMP: [&[u8]; 4] = [&[1], &[58], &[1, 58], &[58, 1]];
    const NAMED: [u8; 19] = [
        47, 4, 50, 51, 1, 6, 17, 58, 132, 2, 33, 41, 89, 97, 103, 108, 112, 115, 136,
    ];
    const OTHERS: [u8; 10] = [0, 43, 44, 59, 60, 63, 64, 127, 128, 255];

    let wanted = source.pick(&[None, None, Some(Family::Ipv4), Some(Family::Ipv6)]);
    draft.spec.protocols = match source.below(9) {
        _ if draft.kind == Kind::Plain => source.pick(&[&[17][..], &[6], &[6, 17]]).to_vec(),
        0..4 => source.pick(&PORTS).to_vec(),
        4..6 => source.pick(&ICMP).to_vec(),
        6..8 => {
            let number = |source: &mut dyn Source| match source.below(3) {
                0 => source.pick(&NAMED),
                1 => source.pick(&OTHERS),
                _ => source.below(256) as u8,
            };
            (0..source.within(1, 5)).map(|_| number(source)).collect()
        }
        _ => Vec::new(),
    };
    draft.room /= odd_len(draft.spec.protocols.len());
    let protocols = &draft.spec.protocols;
    draft.family = match draft.kind {
        Kind::Plain => Some(Family::Ipv4),
        // The protocols say it.
        _ if draft.spec.whole_family().is_some() => draft.spec.whole_family(),
        _ => wanted.filter(|family| match family {
            Family::Ipv4 => !protocols.contains(&protocol::ICMP6),
            Family::Ipv6 => !protocols.iter().any(|p| IPV4_ONLY.contains(p)),
        }),
    };
}

fn prefixes(draft: &mut Draft, source: &mut dyn Source) -> Vec<(u128, u8)> {
    const LENS_4: [u8; 11] = [32, 32, 32, 31, 30, 16, 15, 14, 8, 1, 0];
    const LENS_6: [u8; 16] = [
        128, 128, 128, 127, 126, 64, 63, 62, 33, 32, 31, 30, 14, 8, 1, 0,
    ];

    let family = draft.family;
    let one = |source: &mut dyn Source| {
        let any = source.percent(20);
        let len = match family {
            Some(Family::Ipv6) if any => source.below(129) as u8,
            Some(Family::Ipv6) => source.pick(&LENS_6),
            _ if any => source.below(33) as u8,
            _ => source.pick(&LENS_4),
        };
        let mask = !u128::MAX.checked_shr(len.into()).unwrap_or(0);
        let value = address(source) & mask;
        // No rule has an IPv4 address in the form of IPv6.
        let is_mapped = family == Some(Family::Ipv6) && len >= 96 && value >> 32 == 0xffff;
        (value ^ u128::from(is_mapped) << 127, len)
    };
    draft.list(source, family.is_some(), 50, one)
}

fn ports(draft: &mut Draft, source: &mut dyn Source) -> Vec<(u16, u16)> {
    let may = draft.all_protocols(|p| protocol::has_ports(*p));
    draft.list(source, may, 50, |source| range(source, port))
}

/// Addresses near to each other. The top bits of both families are alike.
fn address(source: &mut dyn Source) -> u128 {
    const NET: u128 = 0x0a00_0000_2001_0db8_0000_0000_0000_0000;
    const OTHERS: [u128; 4] = [0, u128::MAX, 0xfffe_0a00_0001, 0xc0a8_0001 << 96];

    match source.below(10) {
        0..8 => {
            let bits = u128::from(source.below(256));
            let [a, b, c, d] = [0, 2, 4, 6].map(|at| bits >> at & 3);
            NET | a << 112 | b << 96 | c << 64 | d
        }
        8 => source.pick(&OTHERS),
        _ => {
            let any = source.wide();
            source.pick(&[NET, any]) ^ 1 << source.below(128)
        }
    }
}

fn port(source: &mut dyn Source) -> u16 {
    const EDGES: [u16; 12] = [
        0, 1, 53, 255, 256, 1023, 1024, 2047, 0x7fff, 60_000, 65_534, 65_535,
    ];

    match source.below(9) {
        0..6 => source.within(50, 57) as u16,
        6 | 7 => source.pick(&EDGES),
        _ => source.below(1 << 16) as u16,
    }
}

fn icmp_type(source: &mut dyn Source) -> u8 {
    const TYPES: [u8; 22] = [
        8, 0, 1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16, 17, 18, 128, 129, 137, 139, 140, 254, 255,
    ];

    match source.below(9) {
        0..8 => source.pick(&TYPES),
        _ => source.below(256) as u8,
    }
}

/// Returns a range, in half of the cases of one value.
fn range<T: Ord + Copy>(source: &mut dyn Source, value: impl Fn(&mut dyn Source) -> T) -> (T, T) {
    let a = value(source);
    let b = match source.percent(50) {
        true => value(source),
        false => a,
    };
    (a.min(b), a.max(b))
}

/// Returns the name of a device, and whether it is the start of a name.
fn device(source: &mut dyn Source) -> (String, bool) {
    const NAMES: [&str; 9] = [
        "eth0",
        "eth1",
        "eth",
        "e",
        "lo",
        "veth-abc",
        "br0.100",
        "a+b",
        "fifteen-letters",
    ];

    let name = match source.below(7) {
        0..6 => source.pick(&NAMES).to_owned(),
        _ => letters(source, (3, 14), b"abcABC019._=~%-"),
    };
    (name, source.percent(50))
}

fn mark(source: &mut dyn Source) -> u32 {
    match source.below(6) {
        0..4 => source.below(8) as u32,
        4 => source.pick(&[0x100, u32::MAX, 0x8000_0000]),
        _ => source.number() as u32,
    }
}

fn flags(source: &mut dyn Source) -> u8 {
    match source.below(5) {
        0..4 => source.pick(&[2, 0x12, 0x10, 0x18, 0x11, 4, 0x14, 0xc2]),
        _ => source.below(256) as u8,
    }
}

fn tag(source: &mut dyn Source) -> String {
    match source.below(4) {
        0..3 => source
            .pick(&["dns", "web", "a.b_c-D", "kube-system/coredns:7"])
            .to_owned(),
        _ => letters(source, (1, 63), b"abcxyzABCXYZ0189.:/_-"),
    }
}

/// Returns a text of so many of these letters, at least and at most.
fn letters(source: &mut dyn Source, (least, most): (u64, u64), from: &[u8]) -> String {
    let len = source.within(least, most);
    (0..len).map(|_| char::from(source.pick(from))).collect()
}
