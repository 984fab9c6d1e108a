// SPDX-License-Identifier: GPL-2.0

//! One rule: the packets that it matches, and what it does with them.
//!
//! | file | holds |
//! |---|---|
//! | [`value`] | the values that rules are made of |
//! | [`fixed`] | the fields that no direction exchanges, as bits |
//! | [`draft`] | the contents of a rule before it is packed |
//! | [`packed`] | the 16 bytes of a rule |
//!
//! A [`Rule`] is made by [`parse`] only, so each rule is checked and in canonical order: equal rules
//! print alike and compare equal.
//!
//! [`parse`]: crate::pure::language::parse

mod draft;
mod fixed;
mod packed;
mod value;

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    rule::packed::{
        Head,
        Kind,
        Packed, //
    }, //
};

pub(in crate::pure) use draft::{
    Element,
    RuleDraft,
    MAX_LIST,
    MAX_PRODUCT, //
};
pub use fixed::{
    Fixed,
    FixedBits, //
    FixedField,
};
pub use value::*;

/// One rule. Equal rules compare equal; the number is no part of that.
#[derive(Clone, PartialEq, Eq)]
pub struct Rule(Packed);

impl Rule {
    /// Returns the rule of `draft`, with the number 0. See the invariants of [`RuleDraft`].
    pub(super) fn new(draft: &RuleDraft) -> Result<Self, NoMemory> {
        Ok(Self(Packed::new(draft)?))
    }

    /// Returns the number that the rule was given, 0 before.
    pub(super) fn number(&self) -> u32 {
        self.0.number()
    }

    /// Returns the rule with that number.
    pub(super) fn numbered(self, number: u32) -> Self {
        Self(self.0.numbered(number))
    }

    /// Returns a hash of the rule; equal rules have equal hashes.
    pub(super) fn hash(&self) -> u32 {
        self.0.hash()
    }

    /// Returns the data of the run of `kind`; empty where there is none.
    fn run(&self, kind: Kind) -> &[u8] {
        self.0.runs().of(kind)
    }

    /// Returns whether the rule names a protocol, and an address, port, type or mark. A rule that does
    /// not must say `any`.
    ///
    /// A list that leaves nothing out does not count, as it only looks like a limit.
    pub(super) fn is_narrow(&self) -> bool {
        let mut fields = self.0.runs().fields();
        let (mut protocol, mut other) = (false, fields.any(|(field, _)| field.is_narrow()));
        for (kind, _) in self.0.runs() {
            match kind {
                Kind::Protocol => protocol = true,
                Kind::Source => other = other || !are_all_addresses(self.sources()),
                Kind::Destination => other = other || !are_all_addresses(self.destinations()),
                Kind::SourcePort | Kind::SourcePorts => {
                    other = other || !are_all_ports(self.source_ports());
                }
                Kind::DestinationPort | Kind::DestinationPorts => {
                    other = other || !are_all_ports(self.destination_ports());
                }
                Kind::IcmpType => {
                    let types = self.icmp_types();
                    let types = types.map(|range| (range.first().into(), range.last().into()));
                    other = other || !cover(types, (0, u8::MAX.into()));
                }
                Kind::End
                | Kind::Named
                | Kind::Device
                | Kind::Fixed
                | Kind::Init
                | Kind::NotInit
                | Kind::Only
                | Kind::Tag => {}
            }
        }
        protocol && other
    }

    /// Returns what the rule does with the packets that it matches.
    #[inline]
    pub fn action(&self) -> Action {
        match self.0.head().has(Head::TRACK) {
            true => Action::Track,
            false => Action::Skip,
        }
    }

    /// Returns the family of the packets that the rule matches; [`None`]: both.
    pub fn family(&self) -> Option<Family> {
        match self.0.head() {
            head if head.has(Head::IPV4) => Some(Family::Ipv4),
            head if head.has(Head::IPV6) => Some(Family::Ipv6),
            _ => None,
        }
    }

    /// Returns the end of the flow that is this host, where the rule says it.
    pub fn local(&self) -> Option<Local> {
        match self.0.head() {
            head if head.has(Head::LOCAL_SOURCE) => Some(Local::Source),
            head if head.has(Head::LOCAL_DESTINATION) => Some(Local::Destination),
            _ => None,
        }
    }

    /// Returns whether the flows of the rule are never translated (`nat=ok`).
    #[inline]
    pub fn nat_ok(&self) -> bool {
        self.0.head().has(Head::NAT_OK)
    }

    /// Returns whether the rule matches packets in the direction as written only.
    pub fn oneway(&self) -> bool {
        self.0.head().has(Head::ONEWAY)
    }

    /// Returns the bits that the rule compares of fields that no direction exchanges.
    pub fn fixed(&self) -> FixedBits {
        let mut bits = FixedBits::default();
        for (field, data) in self.0.runs().fields() {
            let (value, mask) = data
                .split_at_checked(field.size().into())
                .unwrap_or_default();
            bits.set(field, number_of(value), number_of(mask));
        }
        bits
    }

    /// Returns the packet mark, where the rule names one.
    pub fn mark(&self) -> Option<Mark> {
        let (value, mask) = self.fixed().get(FixedField::MARK)?;
        // INVARIANT: As the mark that was packed.
        Some(Mark { value, mask })
    }

    /// Returns the flags of TCP, where the rule names them.
    pub fn flags(&self) -> Option<TcpFlags> {
        let (value, mask) = self.fixed().get(FixedField::FLAGS)?;
        // INVARIANT: As the flags that were packed.
        Some(TcpFlags {
            value: value.try_into().ok()?,
            mask: mask.try_into().ok()?,
        })
    }

    /// Returns whether the rule has a term that a conntrack entry does not tell of its packets.
    pub fn is_untold(&self) -> bool {
        self.local().is_some() || self.devices().next().is_some() || self.fixed().mask() != 0
    }

    /// Returns the rule without the terms that a conntrack entry does not tell of its packets, and without its
    /// tag: it matches a packet where the rule matches that one, or another one of the same entry.
    pub fn without_untold(&self) -> Result<Self, NoMemory> {
        let mut elements = Vec::new();
        let lists = self
            .protocols()
            .map(Element::Protocol)
            .chain(self.sources().map(Element::Source))
            .chain(self.destinations().map(Element::Destination))
            .chain(self.source_ports().map(Element::SourcePort))
            .chain(self.destination_ports().map(Element::DestinationPort))
            .chain(self.icmp_types().map(Element::IcmpType));
        for element in lists {
            elements.push(element)?;
        }
        Self::new(&RuleDraft {
            action: self.action(),
            family: self.family(),
            nat_ok: self.nat_ok(),
            oneway: self.oneway(),
            netns: self.netns(),
            elements,
            ..RuleDraft::new(None)
        })
    }

    /// Returns the namespaces in which the rule holds.
    pub fn netns(&self) -> Netns {
        let mut place = self.0.runs_of_place();
        let place = place.find_map(|(kind, data)| match kind {
            Kind::Init => Some(Netns::Init),
            Kind::NotInit => Some(Netns::NotInit),
            Kind::Only => {
                let (cookie, inum) = data.split_first_chunk()?;
                Some(Netns::Only(NetnsId {
                    cookie: u64::from_ne_bytes(*cookie),
                    inum: u32::from_ne_bytes(*inum.first_chunk()?),
                }))
            }
            _ => None,
        });
        place.unwrap_or(Netns::Any)
    }

    /// Returns the name of the group that the rule belongs to.
    pub fn tag(&self) -> Option<&str> {
        let (_, name) = self.run(Kind::Tag).split_first()?;
        core::str::from_utf8(name).ok()
    }

    /// Returns the protocols; none: every protocol.
    pub fn protocols(&self) -> impl Iterator<Item = u8> + Clone + '_ {
        self.run(Kind::Protocol).iter().copied()
    }

    /// Returns the source prefixes; none: every source.
    pub fn sources(&self) -> impl Iterator<Item = Prefix> + Clone + '_ {
        self.prefixes(Kind::Source)
    }

    /// Returns the destination prefixes; none: every destination.
    pub fn destinations(&self) -> impl Iterator<Item = Prefix> + Clone + '_ {
        self.prefixes(Kind::Destination)
    }

    fn prefixes(&self, kind: Kind) -> impl Iterator<Item = Prefix> + Clone + '_ {
        let runs = self.0.runs();
        let size = runs.prefix_size();
        runs.of(kind).chunks_exact(size).filter_map(prefix_of)
    }

    /// Returns the source ports; none: every source port.
    pub fn source_ports(&self) -> impl Iterator<Item = Range<u16>> + Clone + '_ {
        self.ports(Kind::SourcePort, Kind::SourcePorts)
    }

    /// Returns the destination ports; none: every destination port.
    pub fn destination_ports(&self) -> impl Iterator<Item = Range<u16>> + Clone + '_ {
        self.ports(Kind::DestinationPort, Kind::DestinationPorts)
    }

    fn ports(&self, single: Kind, ranges: Kind) -> impl Iterator<Item = Range<u16>> + Clone + '_ {
        let mut runs = self.0.runs();
        let (size, data) = runs
            .find_map(|(kind, data)| match kind {
                kind if kind == single => Some((2, data)),
                kind if kind == ranges => Some((4, data)),
                _ => None,
            })
            .unwrap_or((2, &[]));
        data.chunks_exact(size).filter_map(ports_of)
    }

    /// Returns the ICMP types; none: every type.
    pub fn icmp_types(&self) -> impl Iterator<Item = Range<u8>> + Clone + '_ {
        self.run(Kind::IcmpType)
            .chunks_exact(2)
            .filter_map(types_of)
    }

    /// Returns the first or the last element of its lists, by one walk over all of them.
    pub(super) fn ends(&self, is_first: bool) -> Ends {
        let mut ends = Ends::default();
        let runs = self.0.runs();
        let size = runs.prefix_size();
        for (kind, data) in runs {
            let size = match kind {
                Kind::Protocol => 1,
                Kind::Source | Kind::Destination => size,
                Kind::SourcePort | Kind::DestinationPort | Kind::IcmpType => 2,
                Kind::SourcePorts | Kind::DestinationPorts => 4,
                _ => continue,
            };
            let at = match is_first {
                true => 0,
                false => data.len().saturating_sub(size),
            };
            let Some(bytes) = data.get(at..).and_then(|rest| rest.get(..size)) else {
                continue;
            };
            match kind {
                Kind::Source => ends.source = prefix_of(bytes),
                Kind::Destination => ends.destination = prefix_of(bytes),
                Kind::SourcePort | Kind::SourcePorts => ends.source_port = ports_of(bytes),
                Kind::DestinationPort | Kind::DestinationPorts => {
                    ends.destination_port = ports_of(bytes);
                }
                Kind::IcmpType => ends.icmp_type = types_of(bytes),
                _ => ends.protocol = bytes.first().copied(),
            }
        }
        ends
    }

    /// Returns the devices; none: every device.
    pub fn devices(&self) -> impl Iterator<Item = Device> + Clone + '_ {
        let devices = self.0.runs_of_place().of(Kind::Device).chunks_exact(17);
        devices.filter_map(|bytes| {
            let (len, name) = bytes.split_first()?;
            // INVARIANT: As the device that was packed.
            Some(Device {
                name: *name.first_chunk()?,
                len: len & 0x7f,
                wildcard: len >> 7 != 0,
            })
        })
    }
}

/// One element of each list of a rule, but of devices; [`None`] where there is no list.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) protocol: Option<u8>,
    pub(super) source: Option<Prefix>,
    pub(super) destination: Option<Prefix>,
    pub(super) source_port: Option<Range<u16>>,
    pub(super) destination_port: Option<Range<u16>>,
    pub(super) icmp_type: Option<Range<u8>>,
}

/// Returns the prefix that was packed as `bytes`.
fn prefix_of(bytes: &[u8]) -> Option<Prefix> {
    let (len, bytes) = bytes.split_first()?;
    let mut address = [0; 16];
    address.get_mut(..bytes.len())?.copy_from_slice(bytes);
    // INVARIANT: As the prefix that was packed.
    Some(Prefix { address, len: *len })
}

/// Returns the number that was packed as `bytes`, at most four.
fn number_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number: u32, byte| {
        number.wrapping_shl(8) | u32::from(*byte)
    })
}

/// Returns the port, or the range of ports, that was packed as `bytes`.
fn ports_of(bytes: &[u8]) -> Option<Range<u16>> {
    // INVARIANT: As the range that was packed.
    Some(Range {
        first: u16::from_ne_bytes(*bytes.first_chunk()?),
        last: u16::from_ne_bytes(*bytes.last_chunk()?),
    })
}

/// Returns the range of types that was packed as `bytes`.
fn types_of(bytes: &[u8]) -> Option<Range<u8>> {
    match bytes {
        // INVARIANT: As the range that was packed.
        [first, last] => Some(Range {
            first: *first,
            last: *last,
        }),
        _ => None,
    }
}

/// Returns whether `prefixes`, sorted, leave no address out.
fn are_all_addresses(prefixes: impl Iterator<Item = Prefix>) -> bool {
    let ends = prefixes.map(|prefix| (prefix.value(), prefix.value() | !prefix.mask()));
    cover(ends, (0, u128::MAX))
}

/// Returns whether `ranges`, sorted, leave no port out. No packet needs the port 0.
fn are_all_ports(ranges: impl Iterator<Item = Range<u16>>) -> bool {
    let ends = ranges.map(|range| (range.first().into(), range.last().into()));
    cover(ends, (1, u16::MAX.into()))
}

/// Returns whether `parts`, the first and the last number of each, in ascending order, leave none of `all`
/// out.
pub(super) fn cover(parts: impl Iterator<Item = (u128, u128)>, all: (u128, u128)) -> bool {
    let (mut next, end) = all;
    for (first, last) in parts {
        if first > next {
            return false;
        }
        if last >= end {
            return true;
        }
        next = next.max(last.saturating_add(1));
    }
    false
}

impl core::fmt::Debug for Rule {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
