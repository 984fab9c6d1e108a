// SPDX-License-Identifier: GPL-2.0

//! Packets to look up among rules: within a rule, or next to one.

use ctskip_pure::{
    packet::header::{
        Flags,
        Key,
        Transport, //
    },
    rule::{
        answering_type,
        Family,
        HookPoint,
        Netns,
        Prefix,
        Range,
        Rule, //
    },
};

use super::{
    compiled::{
        Probe,
        FIRST_INUM,
        INIT_INUM, //
    },
    reference::Reference,
    Random, //
};

/// `len` packets of the initial namespace that rules match, or none of them: each as
/// [`Trace::plain_inside`] or [`Trace::plain_beside`] draws them. Where there are hardly such, it takes
/// those of [`Trace::near`], if it may.
///
/// Else it gives how many it found at most, within a thousand tries for each.
pub(crate) fn packets(
    rules: &[&Rule],
    wanted: Wanted,
    only_plain: bool,
    len: usize,
    seed: u64,
) -> Result<Vec<Key>, usize> {
    let reference = Reference::new(rules);
    let mut trace = Trace::new(seed);
    let mut keys = Vec::new();
    for tries in 0..len.saturating_mul(1000) {
        if keys.len() == len {
            return Ok(keys);
        }
        let plain = only_plain || tries < 1000 || keys.len() * 100 > tries;
        let key = match wanted {
            _ if !plain => Some(trace.near(rules).key),
            Wanted::Match => trace.plain_inside(rules),
            Wanted::Miss => trace.plain_beside(rules),
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

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A rule matches it.
    Match,
    /// None does.
    Miss,
}

/// An endless sequence of packets.
pub(crate) struct Trace(Random);

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random::new(seed ^ 0x0074_7261_6365))
    }

    /// A packet that `rule` matches, in one of the directions and anywhere within what the rule
    /// says, unless the hook or the direction stands against it.
    pub(crate) fn inside(&mut self, rule: &Rule) -> Probe {
        let random = &mut self.0;
        let family = rule.family().unwrap_or(match random.below(4) {
            0 => Family::Ipv6,
            _ => Family::Ipv4,
        });
        let source = address(random, family, rule.sources());
        let destination = address(random, family, rule.destinations());
        let ports = (
            within(random, rule.source_ports(), u16::MAX),
            within(random, rule.destination_ports(), u16::MAX),
        );
        let icmp_type = match rule.icmp_types().next() {
            None => random.pick(&[8, 0, 3, 11, 13, 128, 129, 1, 2]),
            Some(_) => within(random, rule.icmp_types(), u8::MAX),
        };
        let protocol = one_of(random, rule.protocols()).unwrap_or_else(|| {
            random.weighted(&[(4, 17), (4, 6), (1, 1), (1, 58), (1, 132), (1, 47)])
        });
        let transport = match protocol {
            6 | 17 | 132 => Transport::Ports(ports.0, ports.1),
            1 | 58 => Transport::IcmpType(icmp_type),
            _ => Transport::Unknown,
        };
        let mark = random.next() as u32;
        let mut key = Key {
            family,
            protocol,
            source,
            destination,
            transport,
            error: is_error(protocol, transport),
            point: match random.below(3) {
                0 => HookPoint::LocalOut,
                _ => HookPoint::PreRouting,
            },
            device: device(random, rule),
            mark: rule.mark().map_or(mark, |m| m.value() | mark & !m.mask()),
            flags: rule
                .flags()
                .map_or(Flags::UNKNOWN, |flags| Flags::new(flags.value())),
        };
        if random.percent(50) {
            key = exchanged(&key);
        }
        let any = [INIT_INUM, FIRST_INUM as u32 + random.below(400) as u32];
        let netns = match rule.netns() {
            Netns::Any => random.pick(&any),
            Netns::Init => INIT_INUM,
            Netns::NotInit => any[1],
            Netns::Only(id) => id.inum,
        };
        Probe { netns, key }
    }

    /// A packet that comes close to `rule` in all but one part.
    pub(crate) fn beside(&mut self, rule: &Rule) -> Probe {
        let mut probe = self.inside(rule);
        let random = &mut self.0;
        let key = &mut probe.key;
        let bit = match key.family {
            Family::Ipv4 => 96 + random.below(32),
            Family::Ipv6 => random.below(128),
        };
        match random.below(10) {
            0 => key.source ^= 1 << bit,
            1 => key.destination ^= 1 << bit,
            2..=4 => {
                let off = random.pick(&[1, 0xffff, 0x100]);
                let one = random.percent(50);
                key.transport = match key.transport {
                    Transport::Ports(a, b) if one => Transport::Ports(a.wrapping_add(off), b),
                    Transport::Ports(a, b) => Transport::Ports(a, b.wrapping_add(off)),
                    Transport::IcmpType(t) => Transport::IcmpType(t.wrapping_add(off as u8)),
                    Transport::Unknown => Transport::Unknown,
                };
            }
            5 => key.transport = Transport::Unknown,
            6 => key.mark ^= 1 << random.below(32),
            7 => probe.netns = FIRST_INUM as u32 + random.below(400) as u32,
            8 => key.protocol = random.pick(&[6, 17, 132]),
            _ => key.device[random.index(15)] ^= 1,
        }
        key.error = is_error(key.protocol, key.transport);
        probe
    }

    /// A packet within one of `rules`, or next to it.
    pub(crate) fn near(&mut self, rules: &[&Rule]) -> Probe {
        let rule = rules[self.0.index(rules.len())];
        match self.0.below(3) {
            0 => self.beside(rule),
            _ => self.inside(rule),
        }
    }

    /// A packet of a host that sees only what a plain IPv4 packet that comes in is, within one of
    /// `rules`, though perhaps of another hook, direction or namespace.
    fn plain_inside(&mut self, rules: &[&Rule]) -> Option<Key> {
        let rule = rules[self.0.index(rules.len())];
        plain(&self.inside(rule).key)
    }

    /// A packet that shares what it can with rules, mostly with two of them: the addresses of one
    /// and the ports of another, one address of each, or a port or an address right beside.
    fn plain_beside(&mut self, rules: &[&Rule]) -> Option<Key> {
        let (one, other) = (self.0.index(rules.len()), self.0.index(rules.len()));
        let mut key = plain(&self.inside(rules[one]).key)?;
        let with = plain(&self.inside(rules[other]).key)?;
        match (self.0.below(4), key.transport, with.transport) {
            (0, Transport::Ports(_, b), Transport::Ports(a, _)) => {
                key.transport = Transport::Ports(a, b);
            }
            (1, Transport::Ports(..), Transport::Ports(..)) => key.transport = with.transport,
            (2, _, _) => key.destination = with.destination,
            (3, _, _) => key.source ^= 1 << (96 + self.0.below(12)),
            _ => key = plain(&self.beside(rules[one]).key)?,
        }
        Some(key)
    }
}

/// A packet as it comes in by an ordinary device; `None` for those of IPv6, of addresses that no
/// packet comes from or goes to, errors, and those whose ports are not there.
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
        point: HookPoint::PreRouting,
        device: [0; 16],
        mark: 0,
        flags: Flags::UNKNOWN,
        ..*key
    })
}

fn is_error(protocol: u8, transport: Transport) -> bool {
    match (protocol, transport) {
        (1, Transport::IcmpType(t)) => matches!(t, 3..=5 | 11 | 12),
        (58, Transport::IcmpType(t)) => matches!(t, 1..=4 | 137),
        _ => false,
    }
}

fn address(
    random: &mut Random,
    family: Family,
    prefixes: impl Iterator<Item = Prefix> + Clone,
) -> u128 {
    let any = random.wide();
    // Often the lowest or the highest address, where borders are.
    let any = random.weighted(&[(7, any), (2, 0), (1, u128::MAX)]);
    let of = |prefix: Prefix| prefix.value() | any & !prefix.mask();
    let family_mask = match family {
        Family::Ipv4 => !0 << 96,
        Family::Ipv6 => !0,
    };
    one_of(random, prefixes).map_or(any, of) & family_mask
}

/// A value in one of the ranges, often an end of it; any up to `most` where there is none.
fn within<T>(random: &mut Random, ranges: impl Iterator<Item = Range<T>> + Clone, most: T) -> T
where
    T: Copy + PartialOrd + Into<u64> + TryFrom<u64>,
{
    let number = |number| T::try_from(number).unwrap_or(most);
    match one_of(random, ranges) {
        None => number(random.below(most.into() + 1)),
        Some(range) => {
            let (first, last) = (range.first().into(), range.last().into());
            let any = first + random.below(last - first + 1);
            number(random.weighted(&[(2, any), (1, first), (1, last)]))
        }
    }
}

fn device(random: &mut Random, rule: &Rule) -> [u8; 16] {
    let mut name = [0; 16];
    if let Some(device) = one_of(random, rule.devices()) {
        let len = device.name().len();
        name[..len].copy_from_slice(device.name());
        if device.wildcard() && random.percent(80) {
            name[len] = b'0' + random.below(10) as u8;
        }
    }
    name
}

/// The same flow's other direction.
pub(super) fn exchanged(key: &Key) -> Key {
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

fn one_of<T>(random: &mut Random, mut all: impl Iterator<Item = T> + Clone) -> Option<T> {
    match all.clone().count() {
        0 => None,
        count => all.nth(random.index(count)),
    }
}
