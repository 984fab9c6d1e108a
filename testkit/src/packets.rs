// SPDX-License-Identifier: GPL-2.0

//! The maker of packets: each is within a rule, next to one, or made of the parts of several.
//!
//! A packet is made part by part, by the rows of [`PARTS`]. [`MISSES`] has the ways in which a packet
//! fails to match a rule by one part.

use ctskip_pure::{
    packet::header::{
        Key,
        Transport, //
    },
    rule::{
        answering_type,
        protocol,
        DeviceName,
        Family,
        Fixed,
        FixedField,
        Netns,
        Prefix,
        Range,
        Rule, //
    },
};

use crate::{
    source::Source,
    world::{
        FIRST_INUM,
        INIT_INUM,
        NAMESPACES, //
    },
};

/// A packet, and the inode number of the namespace that it passes in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// The inode number.
    pub netns: u32,
    /// What the packet is looked up by.
    pub key: Key,
}

/// A packet that is being made: in the direction in which the rule is written.
struct Draft {
    netns: u32,
    key: Key,
    ports: (u16, u16),
    icmp_type: u8,
    is_exchanged: bool,
}

/// Makes one part of a packet: of the values that the rule names, or any value where the rule names none,
/// or there is no rule.
type Part = fn(&mut Draft, Option<&Rule>, &mut dyn Source);

/// The parts of a packet, in the order in which they are made.
///
/// The packets of a seed must stay as they are. So a new part comes last, and chooses nothing by a rule
/// that does not name it. It may choose where there is no rule.
const PARTS: &[Part] = &[
    |draft, rule, source| {
        let any = source.weighted(&[(1, Family::Ipv6), (3, Family::Ipv4)]);
        draft.key.family = rule.and_then(Rule::family).unwrap_or(any);
    },
    |draft, rule, source| {
        draft.key.source = address(source, draft.key.family, each(rule, Rule::sources));
    },
    |draft, rule, source| {
        draft.key.destination = address(source, draft.key.family, each(rule, Rule::destinations));
    },
    |draft, rule, source| {
        draft.ports.0 = within(source, each(rule, Rule::source_ports), u16::MAX);
    },
    |draft, rule, source| {
        draft.ports.1 = within(source, each(rule, Rule::destination_ports), u16::MAX);
    },
    |draft, rule, source| {
        let types = each(rule, Rule::icmp_types);
        draft.icmp_type = match types.clone().next() {
            None => source.pick(&[8, 0, 3, 11, 13, 128, 129, 1, 2]),
            Some(_) => within(source, types, u8::MAX),
        };
    },
    |draft, rule, source| {
        let any = [(4, 17), (4, 6), (1, 1), (1, 58), (1, 132), (1, 47)];
        let named = source.one_of(each(rule, Rule::protocols));
        draft.key.protocol = named.unwrap_or_else(|| source.weighted(&any));
    },
    |draft, rule, source| {
        let any = source.number() as u32;
        draft.key.fixed = field(FixedField::MARK, rule, any, draft.key.fixed);
    },
    // Chosen for a field that there is no more.
    |_, _, source| {
        source.below(3);
    },
    |draft, rule, source| draft.key.device = device(source, rule),
    |draft, _, source| draft.is_exchanged = source.percent(50),
    |draft, rule, source| {
        let other = FIRST_INUM + source.below(NAMESPACES.into()) as u32;
        draft.netns = match rule.map_or(Netns::Any, Rule::netns) {
            Netns::Any => source.pick(&[INIT_INUM, other]),
            Netns::Init => INIT_INUM,
            Netns::NotInit => other,
            Netns::Only(id) => id.inum,
        };
    },
    |draft, rule, source| {
        for optional in FixedField::optional() {
            if rule.is_none_or(|rule| names(rule, optional)) {
                let any = source.number() as u32;
                draft.key.fixed = field(optional, rule, any, draft.key.fixed);
            }
        }
    },
];

/// Changes a packet by one part, so that it may not match the rule any more. `bit` is one of the bits
/// of its addresses.
type Miss = fn(&mut Probe, u32, &mut dyn Source);

/// Returns how often a way is taken for a rule, among others.
type Weight = fn(&Rule) -> u64;

/// The ways to change a packet by one part, each with how often it is taken.
///
/// The packets of a seed must stay as they are. So a new way comes last, and has the weight 0 but for
/// rules that name its part.
const MISSES: &[(Weight, Miss)] = &[
    (|_| 1, |probe, bit, _| probe.key.source ^= 1 << bit),
    (|_| 1, |probe, bit, _| probe.key.destination ^= 1 << bit),
    (
        |_| 3,
        |probe, _, source| {
            let off = source.pick(&[1, 0xffff, 0x100]);
            let one = source.percent(50);
            probe.key.transport = match probe.key.transport {
                Transport::Ports(a, b) if one => Transport::Ports(a.wrapping_add(off), b),
                Transport::Ports(a, b) => Transport::Ports(a, b.wrapping_add(off)),
                Transport::IcmpType(t) => Transport::IcmpType(t.wrapping_add(off as u8)),
                Transport::Unknown => Transport::Unknown,
            };
        },
    ),
    (
        |_| 1,
        |probe, _, _| probe.key.transport = Transport::Unknown,
    ),
    (
        |_| 1,
        |probe, _, source| flip(&mut probe.key.fixed, FixedField::MARK, source),
    ),
    (
        |_| 1,
        |probe, _, source| {
            probe.netns = FIRST_INUM + source.below(NAMESPACES.into()) as u32;
        },
    ),
    (
        |_| 1,
        |probe, _, source| probe.key.protocol = source.pick(&[6, 17, 132]),
    ),
    (
        |_| 1,
        |probe, _, source| probe.key.device[source.index(15)] ^= 1,
    ),
];

/// A way to change a packet by one part.
#[derive(Clone, Copy)]
enum Way {
    Part(Miss),
    /// A field that not every packet has: one bit of it, or all.
    Field(FixedField),
}

/// Returns whether `rule` compares bits of `field`.
fn names(rule: &Rule, field: FixedField) -> bool {
    rule.fixed().get(field).is_some()
}

/// Returns `fixed` with `field` as `rule` wants it, and the bits that the rule does not compare of `any`.
fn field(field: FixedField, rule: Option<&Rule>, any: u32, fixed: Fixed) -> Fixed {
    let bits = rule.and_then(|rule| rule.fixed().get(field));
    let (value, mask) = bits.unwrap_or((0, 0));
    fixed.with(field, value | any & !mask)
}

/// Changes one bit of `field`.
fn flip(fixed: &mut Fixed, field: FixedField, source: &mut dyn Source) {
    let bit = 1 << source.below(field.bits().into());
    *fixed = fixed.with(field, fixed.get(field).unwrap_or(0) ^ bit);
}

/// Returns a packet of parts that [`PARTS`] makes, each of the rule that `rule` gives for its number.
fn made<'r>(source: &mut dyn Source, rule: impl Fn(usize) -> Option<&'r Rule>) -> Probe {
    let mut draft = Draft {
        netns: INIT_INUM,
        key: Key {
            family: Family::Ipv4,
            protocol: 0,
            source: 0,
            destination: 0,
            transport: Transport::Unknown,
            error: false,
            device: DeviceName::default(),
            fixed: Fixed::default(),
        },
        ports: (0, 0),
        icmp_type: 0,
        is_exchanged: false,
    };
    for (number, part) in PARTS.iter().enumerate() {
        part(&mut draft, rule(number), source);
    }
    let mut key = draft.key;
    key.transport = match key.protocol {
        protocol::ICMP | protocol::ICMP6 => Transport::IcmpType(draft.icmp_type),
        number if protocol::has_ports(number) => Transport::Ports(draft.ports.0, draft.ports.1),
        _ => Transport::Unknown,
    };
    settle(&mut key);
    if draft.is_exchanged {
        key = exchanged(&key);
    }
    Probe {
        netns: draft.netns,
        key,
    }
}

/// Returns a packet that `rule` matches: in one of the directions, and anywhere within the values that
/// the rule names. But the direction, or an end that is not local, may stand against it.
pub fn inside(source: &mut dyn Source, rule: &Rule) -> Probe {
    made(source, |_| Some(rule))
}

/// Returns a packet that comes close to `rule` in all but one part.
pub fn beside(source: &mut dyn Source, rule: &Rule) -> Probe {
    let mut probe = inside(source, rule);
    let bit = match probe.key.family {
        Family::Ipv4 => 96 + source.below(32),
        Family::Ipv6 => source.below(128),
    };
    let parts = MISSES
        .iter()
        .map(|(often, way)| (often(rule), Way::Part(*way)));
    let fields = FixedField::optional().map(|field| (names(rule, field).into(), Way::Field(field)));
    let ways: Vec<(u64, Way)> = parts.chain(fields).collect();
    let fixed = &mut probe.key.fixed;
    match source.weighted(&ways) {
        Way::Part(miss) => miss(&mut probe, bit as u32, source),
        Way::Field(field) if source.percent(10) => *fixed = fixed.without(field),
        Way::Field(field) => flip(fixed, field, source),
    }
    settle(&mut probe.key);
    probe
}

/// Returns a packet within one of `rules`, or in one of three cases beside it.
pub fn near(source: &mut dyn Source, rules: &[&Rule]) -> Probe {
    let rule = rules[source.index(rules.len())];
    match source.below(3) {
        0 => beside(source, rule),
        _ => inside(source, rule),
    }
}

/// Returns a packet of parts of two of `rules`, or of one rule and of no rule; where there are no
/// rules, of none. It may lack its ports or its type, and a type may be an error or not.
pub fn across(source: &mut dyn Source, rules: &[&Rule]) -> Probe {
    let one = source.one_of(rules.iter()).copied();
    let other = match source.percent(40) {
        true => source.one_of(rules.iter()).copied(),
        false => None,
    };
    let of_other = source.below(1 << PARTS.len());
    let mut probe = made(source, |number| match of_other >> number & 1 {
        0 => one,
        _ => other,
    });
    let key = &mut probe.key;
    if source.percent(10) {
        key.transport = Transport::Unknown;
    }
    key.error = matches!(key.transport, Transport::IcmpType(_)) && key.error ^ source.percent(20);
    probe
}

/// Returns a packet near to `rules`, in any of these ways.
pub fn any(source: &mut dyn Source, rules: &[&Rule]) -> Probe {
    match source.below(5) {
        0..2 if !rules.is_empty() => near(source, rules),
        _ => across(source, rules),
    }
}

/// Returns the packet of the other direction of a flow.
pub fn exchanged(key: &Key) -> Key {
    Key {
        source: key.destination,
        destination: key.source,
        transport: match key.transport {
            Transport::Ports(a, b) => Transport::Ports(b, a),
            Transport::IcmpType(t) => {
                Transport::IcmpType(answering_type(key.family, t).unwrap_or(t))
            }
            Transport::Unknown => Transport::Unknown,
        },
        ..*key
    }
}

/// Gives a packet what its protocol and its type say: whether it is an ICMP error, and the fields that it can
/// have.
fn settle(key: &mut Key) {
    key.error = is_error(key);
    key.fixed = had(key.fixed, key.protocol);
}

/// Returns the fields that packets of `protocol` have: flags, of TCP only.
pub fn had(fixed: Fixed, protocol: u8) -> Fixed {
    match protocol {
        protocol::TCP => fixed,
        _ => fixed.without(FixedField::FLAGS),
    }
}

/// Returns whether a packet is an ICMP error, by its type.
pub(crate) fn is_error(key: &Key) -> bool {
    match (key.protocol, key.transport) {
        (protocol::ICMP, Transport::IcmpType(t)) => matches!(t, 3..=5 | 11 | 12),
        (protocol::ICMP6, Transport::IcmpType(t)) => matches!(t, 1..=4 | 137),
        _ => false,
    }
}

/// Returns what a rule names of a part; nothing where there is no rule.
fn each<'r, I: Iterator + Clone>(
    rule: Option<&'r Rule>,
    named: impl Fn(&'r Rule) -> I,
) -> impl Iterator<Item = I::Item> + Clone {
    rule.map(named).into_iter().flatten()
}

/// Returns an address within one of the prefixes; any address where there is none.
fn address(
    source: &mut dyn Source,
    family: Family,
    prefixes: impl Iterator<Item = Prefix> + Clone,
) -> u128 {
    let any = source.wide();
    // Often the lowest or the highest address, where borders are.
    let any = source.weighted(&[(7, any), (2, 0), (1, u128::MAX)]);
    let of = |prefix: Prefix| prefix.value() | any & !prefix.mask();
    let family_mask = match family {
        Family::Ipv4 => !0 << 96,
        Family::Ipv6 => !0,
    };
    source.one_of(prefixes).map_or(any, of) & family_mask
}

/// Returns a value of one of the ranges, often an end of it; any up to `most` where there is none.
fn within<T>(source: &mut dyn Source, ranges: impl Iterator<Item = Range<T>> + Clone, most: T) -> T
where
    T: Copy + PartialOrd + Into<u64> + TryFrom<u64>,
{
    let number = |number| T::try_from(number).unwrap_or(most);
    match source.one_of(ranges) {
        None => number(source.below(most.into() + 1)),
        Some(range) => {
            let (first, last) = (range.first().into(), range.last().into());
            let any = source.within(first, last);
            number(source.weighted(&[(2, any), (1, first), (1, last)]))
        }
    }
}

/// Returns the name of a device that the rule names; an empty one where it names none.
fn device(source: &mut dyn Source, rule: Option<&Rule>) -> DeviceName {
    let mut name = DeviceName::default();
    if let Some(device) = source.one_of(each(rule, Rule::devices)) {
        let len = device.name().len();
        name[..len].copy_from_slice(device.name());
        if device.wildcard() && source.percent(80) {
            name[len] = b'0' + source.below(10) as u8;
        }
    }
    name
}
