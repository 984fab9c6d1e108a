// SPDX-License-Identifier: GPL-2.0

//! A packet's key as words, from which decision trees take bits, and as two probes, one for each
//! direction, which rows are compared with.

use crate::pure::{
    packet::header::{
        Key,
        Transport, //
    },
    rule::{
        answering_type,
        Family,
        Rule, //
    },
};

/// The number of words of a key.
pub(super) const WORDS: usize = 8;

/// A key as words. The most significant bit of an address comes first.
///
/// | word | IPv4 | IPv6 |
/// |---|---|---|
/// | 0 | source, destination | source, upper half |
/// | 1 | source, ports | source, lower half |
/// | 2 | destination, ports | destination, upper half |
/// | 3 | 0 | destination, lower half |
/// | 4 | ports, protocol, class | the same |
/// | 5 | mark, flags of TCP | the same |
/// | 6, 7 | device | the same |
///
/// IPv4 has its addresses beside the ports too, so that one word holds any two of them.
pub(super) type Words = [u64; WORDS];

/// The word of ports, protocol and class.
pub(super) const TRANSPORT: usize = 4;
/// The word of the fields that no direction exchanges ([`Fixed`](crate::pure::rule::Fixed)).
pub(super) const FIXED: usize = 5;
/// The words of the device.
pub(super) const DEVICE: usize = 6;
/// The lowest bit of the source port in the word [`TRANSPORT`]; 16 bits.
pub(super) const SOURCE_PORT_SHIFT: u32 = 48;
/// The lowest bit of the destination port or the ICMP type; 16 bits.
pub(super) const DESTINATION_PORT_SHIFT: u32 = 32;
/// The lowest bit of the protocol; 8 bits.
pub(super) const PROTOCOL_SHIFT: u32 = 24;
/// The lowest bit of the number of the class, without its direction; [`CLASS_WIDTH`] bits.
pub(super) const CLASS_SHIFT: u32 = 20;
/// The number of bits of that number.
pub(super) const CLASS_WIDTH: u32 = 2;

/// Returns the bits of the word [`FIXED`] that `rule` names, and a mask of them; 0 where it names none.
pub(super) fn fixed_bits(rule: &Rule) -> (u64, u64) {
    let bits = rule.fixed();
    (bits.value(), bits.mask())
}

/// Puts the addresses and, for IPv4, the ports beside them where they belong. `ports` has them in
/// the upper half.
#[inline(always)]
pub(super) fn place(family: Family, source: u128, destination: u128, ports: u64) -> [u64; 4] {
    match family {
        Family::Ipv4 => {
            let (source, destination) = (high(source), high(destination));
            let ports = ports >> 32;
            [
                source | destination >> 32,
                source | ports,
                destination | ports,
                0,
            ]
        }
        Family::Ipv6 => [
            high(source),
            low(source),
            high(destination),
            low(destination),
        ],
    }
}

/// Returns the first 64 bits of an address.
#[inline(always)]
pub(super) fn high(address: u128) -> u64 {
    (address >> 64) as u64
}

/// Returns the last 64 bits of an address.
#[inline(always)]
pub(super) fn low(address: u128) -> u64 {
    address as u64
}

/// Returns a pair of ports as it lies in the word [`TRANSPORT`].
#[inline(always)]
pub(super) fn pair(source: u16, destination: u16) -> u64 {
    u64::from(source) << SOURCE_PORT_SHIFT | u64::from(destination) << DESTINATION_PORT_SHIFT
}

/// Returns the first bits that all ports of a range have in common, as a mask.
pub(super) fn common_bits((first, last): (u16, u16)) -> u16 {
    let differ = first ^ last;
    !u16::MAX.checked_shr(differ.leading_zeros()).unwrap_or(0)
}

/// A set of classes. A class is a way in which a packet can be looked at.
///
/// The number of a class says, from its lowest bit on, what is known of the transport header (2
/// bits: ports, type, type of an error, nothing), and in which direction the packet is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClassSet(pub(super) u8);

impl ClassSet {
    const PORTS: u8 = 0x11;
    const TYPE: u8 = 0x22;
    const ERROR: u8 = 0x44;
    const WRITTEN: u8 = 0x0f;
    /// The numbers of classes in these sets: their bits are added.
    const PORTS_NUMBER: u32 = 0;
    const TYPE_NUMBER: u32 = 1;
    const ERROR_NUMBER: u32 = 2;
    const UNKNOWN_NUMBER: u32 = 3;
    const EXCHANGED_NUMBER: u32 = 4;

    /// No class: it meets none.
    const NONE: Self = Self(0);

    /// Returns the set of one class.
    #[inline(always)]
    const fn of_number(number: u32) -> Self {
        Self(1u8.wrapping_shl(number))
    }

    /// Returns the classes of the packets that `rule` can match.
    pub(super) fn of_rule(rule: &Rule) -> Self {
        let ports =
            rule.source_ports().next().is_some() || rule.destination_ports().next().is_some();
        let types = rule.icmp_types().next().is_some();
        // Only a rule that names a type matches errors; what is not known is no port and no type.
        let transport = match (ports, types) {
            (true, _) => Self::PORTS,
            (false, true) => Self::TYPE | Self::ERROR,
            (false, false) => !Self::ERROR,
        };
        let directions = match rule.oneway() {
            true => Self::WRITTEN,
            false => u8::MAX,
        };
        Self(transport & directions)
    }

    /// Returns the classes of one direction, as a set of the four numbers without direction.
    pub(super) fn in_direction(self, exchanged: bool) -> u8 {
        match exchanged {
            true => self.0.wrapping_shr(Self::EXCHANGED_NUMBER),
            false => self.0 & Self::WRITTEN,
        }
    }

    /// Returns whether the rule names an ICMP type.
    pub(super) fn names_type(self) -> bool {
        self.0 & Self::ERROR != 0
    }

    /// Returns whether the sets have a class in common.
    #[inline(always)]
    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// One direction of a packet.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    /// Source and destination of IPv4.
    pub(super) addresses: u64,
    /// Source port, destination port or ICMP type, and protocol as they lie in the word
    /// [`TRANSPORT`], zero where there is none; lowest, a class of 8 bits.
    pub(super) rest: u64,
}

impl Probe {
    #[inline(always)]
    fn new(addresses: u64, ports: u64, protocol: u8, class: ClassSet) -> Self {
        Self {
            addresses,
            rest: ports | u64::from(protocol) << PROTOCOL_SHIFT | u64::from(class.0),
        }
    }

    /// Returns all of its bits.
    #[inline(always)]
    pub(super) fn bits(&self) -> ProbeMask {
        ProbeMask {
            addresses: self.addresses,
            rest: self.rest,
        }
    }

    #[inline(always)]
    pub(super) fn source_port(&self) -> u16 {
        (self.rest >> SOURCE_PORT_SHIFT) as u16
    }

    #[inline(always)]
    pub(super) fn destination_port(&self) -> u16 {
        (self.rest >> DESTINATION_PORT_SHIFT) as u16
    }

    #[inline(always)]
    pub(super) fn protocol(&self) -> u8 {
        (self.rest >> PROTOCOL_SHIFT) as u8
    }

    /// Returns the one class, or none where no rule can match in this direction.
    #[inline(always)]
    pub(super) fn class(&self) -> ClassSet {
        ClassSet(self.rest as u8)
    }
}

/// Some bits of a [`Probe`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ProbeMask {
    pub(super) addresses: u64,
    pub(super) rest: u64,
}

impl ProbeMask {
    #[inline(always)]
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            addresses: self.addresses & other.addresses,
            rest: self.rest & other.rest,
        }
    }

    /// Returns a hash of the bits, best in its upper bits.
    #[inline(always)]
    pub(super) fn hash(self) -> u64 {
        (self.addresses.wrapping_mul(HASH) ^ self.rest).wrapping_mul(HASH)
    }
}

/// Multiplied with, spreads bits to the top: 2^64 divided by the golden ratio.
pub(super) const HASH: u64 = 0x9e37_79b9_7f4a_7c15;

/// Both directions of a packet: as written, and exchanged.
#[derive(Clone, Copy)]
pub(super) struct Probes {
    pub(super) both: [Probe; 2],
    /// The class as written, without direction.
    number: u32,
}

impl Probes {
    /// Returns the probes of `key`.
    #[inline(always)]
    pub(super) fn new(key: &Key) -> Self {
        let (number, [ports, exchanged_ports], exchanged_class) = match key.transport {
            Transport::Ports(source, destination) => (
                ClassSet::PORTS_NUMBER,
                [pair(source, destination), pair(destination, source)],
                ClassSet::of_number(ClassSet::PORTS_NUMBER | ClassSet::EXCHANGED_NUMBER),
            ),
            _ => of_others(key),
        };
        let addresses = high(key.source) | high(key.destination) >> 32;
        let class = ClassSet::of_number(number);
        Self {
            both: [
                Probe::new(addresses, ports, key.protocol, class),
                Probe::new(
                    addresses.rotate_left(32),
                    exchanged_ports,
                    key.protocol,
                    exchanged_class,
                ),
            ],
            number,
        }
    }
}

/// A packet as trees and rows look it up.
pub(super) struct Query<'p, E> {
    pub(super) words: Words,
    pub(super) probes: &'p Probes,
    /// Whose addresses the packet's are, for rules that say `local=`.
    pub(super) ends: E,
}

impl<'p, E> Query<'p, E> {
    /// Prepares to look `key` up. `rank` gives what stands for a port in the words.
    #[inline(always)]
    pub(super) fn new(
        key: &Key,
        probes: &'p Probes,
        devices: bool,
        ends: E,
        rank: impl Fn(u16) -> u16,
    ) -> Self {
        let ports = match key.transport {
            Transport::Ports(source, destination) => pair(rank(source), rank(destination)),
            Transport::IcmpType(icmp_type) => pair(0, icmp_type.into()),
            Transport::Unknown => 0,
        };
        let [a, b, c, d] = place(key.family, key.source, key.destination, ports);
        let (upper, lower) = match devices {
            true => {
                let name = u128::from_be_bytes(key.device);
                (high(name), low(name))
            }
            false => (0, 0),
        };
        let transport = ports
            | u64::from(key.protocol) << PROTOCOL_SHIFT
            | u64::from(probes.number).wrapping_shl(CLASS_SHIFT);
        Self {
            words: [a, b, c, d, transport, key.fixed.word(), upper, lower],
            probes,
            ends,
        }
    }

    /// Returns the word of that number, which is below [`WORDS`].
    #[inline(always)]
    pub(super) fn word(&self, number: u32) -> u64 {
        let number = number as usize & WORDS.wrapping_sub(1);
        self.words.get(number).copied().unwrap_or(0)
    }

    /// Returns source and destination, as a [`Key`] has them.
    pub(super) fn addresses(&self, family: Family) -> (u128, u128) {
        let [a, b, c, d, ..] = self.words;
        let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        match family {
            Family::Ipv4 => (wide(a & !0 << 32, 0), wide(a << 32, 0)),
            Family::Ipv6 => (wide(a, b), wide(c, d)),
        }
    }

    /// Returns the name of the device, its first letter in the highest bits.
    pub(super) fn device(&self) -> u128 {
        let [.., upper, lower] = self.words;
        u128::from(upper) << 64 | u128::from(lower)
    }
}

/// The number of the class of a packet without ports, its type in both directions as ports lie, and
/// its class exchanged: none where no rule can match that.
#[inline(never)]
fn of_others(key: &Key) -> (u32, [u64; 2], ClassSet) {
    let exchanged = |number: u32| ClassSet::of_number(number | ClassSet::EXCHANGED_NUMBER);
    let Transport::IcmpType(icmp_type) = key.transport else {
        let number = ClassSet::UNKNOWN_NUMBER;
        return (number, [0; 2], exchanged(number));
    };
    let number = match key.error {
        true => ClassSet::ERROR_NUMBER,
        false => ClassSet::TYPE_NUMBER,
    };
    let ports = pair(0, icmp_type.into());
    let (answer, class) = match answering_type(key.family, icmp_type) {
        Some(answer) => (pair(0, answer.into()), exchanged(number)),
        // It matches no rule that names a type, and an error no other.
        None if key.error => (0, ClassSet::NONE),
        None => (0, exchanged(ClassSet::UNKNOWN_NUMBER)),
    };
    (number, [ports, answer], class)
}
