// SPDX-License-Identifier: GPL-2.0

//! Finds the first of some rules that matches a key.
//!
//! Each rule is compiled into one [`Row`] of fixed size, with what most often tells that it does not
//! match in front, and its lists in arrays shared by all rows. The rows are gone through in order:
//! the cost grows with their number.

use super::{
    alloc::Vec,
    error::NoMemory,
    header::{
        Key,
        Transport, //
    },
    rule::{
        answering_type,
        Device,
        Family,
        HookPoint,
        Local,
        Mark,
        Range,
        Rule, //
    },
};

/// Some rules of a table, compiled.
pub struct Matcher {
    rows: Vec<Row>,
    prefixes: Vec<Masked>,
    ports: Vec<Range<u16>>,
    types: Vec<Range<u8>>,
    devices: Vec<Device>,
}

/// One rule. The lists are ranges of the arrays of the [`Matcher`]; an empty one matches all.
struct Row {
    /// The position of the rule in the table.
    position: u32,
    families: Set,
    /// The directions in which it matches at each hook.
    written: Set,
    exchanged: Set,
    /// A bit for each protocol number.
    protocols: [u64; 4],
    mark: Option<Mark>,
    sources: Span,
    destinations: Span,
    source_ports: Span,
    destination_ports: Span,
    types: Span,
    devices: Span,
}

/// A set of two: families, or hooks.
#[derive(Clone, Copy)]
struct Set(u8);

impl Set {
    const NONE: Self = Self(0);
    const ALL: Self = Self(3);

    fn of_family(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self(1),
            Family::Ipv6 => Self(2),
        }
    }

    fn of_point(point: HookPoint) -> Self {
        match point {
            HookPoint::PreRouting => Self(1),
            HookPoint::LocalOut => Self(2),
        }
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// An address and the bits of it that decide.
#[derive(Clone, Copy)]
struct Masked {
    value: u128,
    mask: u128,
}

/// A part of an array.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u16,
}

impl Span {
    const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether the span is empty or one of its elements in `array` is `wanted`.
    #[inline]
    fn any_of<T>(self, array: &[T], wanted: impl Fn(&T) -> bool) -> bool {
        let Ok(start) = usize::try_from(self.start) else {
            return false;
        };
        let end = start.saturating_add(usize::from(self.len));
        self.is_empty()
            || array
                .get(start..end)
                .is_some_and(|span| span.iter().any(wanted))
    }
}

/// Appends `elements` to `array`, and gives their place there.
fn append<T>(array: &mut Vec<T>, elements: impl Iterator<Item = T>) -> Result<Span, NoMemory> {
    let start = u32::try_from(array.len()).map_err(|_| NoMemory)?;
    let mut len = 0u16;
    for element in elements {
        array.push(element)?;
        len = len.saturating_add(1);
    }
    Ok(Span { start, len })
}

impl Matcher {
    /// Compiles `rules`, each with its position in the table, ascending. Process context.
    pub fn compile<'a>(rules: impl Iterator<Item = (usize, &'a Rule)>) -> Result<Self, NoMemory> {
        let mut matcher = Self {
            rows: Vec::new(),
            prefixes: Vec::new(),
            ports: Vec::new(),
            types: Vec::new(),
            devices: Vec::new(),
        };
        for (position, rule) in rules {
            let position = u32::try_from(position).map_err(|_| NoMemory)?;
            let row = matcher.row(position, rule)?;
            matcher.rows.push(row)?;
        }
        Ok(matcher)
    }

    fn row(&mut self, position: u32, rule: &Rule) -> Result<Row, NoMemory> {
        let mut protocols = [0u64; 4];
        for number in rule.protocols() {
            let (word, bit) = protocol_bit(number);
            if let Some(word) = protocols.get_mut(word) {
                *word |= bit;
            }
        }
        if rule.protocols().next().is_none() {
            protocols = [u64::MAX; 4];
        }
        let written = match rule.local() {
            None => Set::ALL,
            Some(Local::Destination) => Set::of_point(HookPoint::PreRouting),
            Some(Local::Source) => Set::of_point(HookPoint::LocalOut),
        };
        let exchanged = match rule.local() {
            _ if rule.oneway() => Set::NONE,
            None => Set::ALL,
            Some(Local::Destination) => Set::of_point(HookPoint::LocalOut),
            Some(Local::Source) => Set::of_point(HookPoint::PreRouting),
        };
        let masked = |prefix: super::rule::Prefix| Masked {
            value: prefix.value(),
            mask: prefix.mask(),
        };
        Ok(Row {
            position,
            families: rule.family().map_or(Set::ALL, Set::of_family),
            written,
            exchanged,
            protocols,
            mark: rule.mark(),
            sources: append(&mut self.prefixes, rule.sources().map(masked))?,
            destinations: append(&mut self.prefixes, rule.destinations().map(masked))?,
            source_ports: append(&mut self.ports, rule.source_ports())?,
            destination_ports: append(&mut self.ports, rule.destination_ports())?,
            types: append(&mut self.types, rule.icmp_types())?,
            devices: append(&mut self.devices, rule.devices())?,
        })
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The position in the table of the first rule that matches `key`.
    ///
    /// Any context.
    pub fn first_match(&self, key: &Key) -> Option<u32> {
        let family = Set::of_family(key.family);
        let point = Set::of_point(key.point);
        let (word, bit) = protocol_bit(key.protocol);
        let row = self.rows.iter().find(|row| {
            row.protocols.get(word).is_some_and(|word| word & bit != 0)
                && row.families.meets(family)
                && (row.written.meets(point) && self.tuple_matches(row, key, Direction::Written)
                    || row.exchanged.meets(point)
                        && self.tuple_matches(row, key, Direction::Exchanged))
                && row.mark.is_none_or(|mark| mark.matches(key.mark))
                && row
                    .devices
                    .any_of(&self.devices, |d| d.matches(&key.device))
                && !(key.error && row.types.is_empty())
        })?;
        Some(row.position)
    }

    /// Whether addresses and ports or type match in one direction.
    #[inline]
    fn tuple_matches(&self, row: &Row, key: &Key, direction: Direction) -> bool {
        let (source, destination) = match direction {
            Direction::Written => (key.source, key.destination),
            Direction::Exchanged => (key.destination, key.source),
        };
        let covers = |address: u128| move |p: &Masked| address & p.mask == p.value;
        row.sources.any_of(&self.prefixes, covers(source))
            && row.destinations.any_of(&self.prefixes, covers(destination))
            && self.transport_matches(row, key, direction)
    }

    /// Whether ports or type match in one direction. Parsing lets no rule name both.
    #[inline]
    fn transport_matches(&self, row: &Row, key: &Key, direction: Direction) -> bool {
        if row.source_ports.is_empty() && row.destination_ports.is_empty() && row.types.is_empty() {
            return true;
        }
        match (key.transport, direction) {
            (Transport::Unknown, _) => false,
            (Transport::Ports(source, destination), Direction::Written) => {
                self.ports_match(row, source, destination)
            }
            (Transport::Ports(source, destination), Direction::Exchanged) => {
                self.ports_match(row, destination, source)
            }
            (Transport::IcmpType(icmp_type), Direction::Written) => {
                self.type_matches(row, icmp_type)
            }
            (Transport::IcmpType(icmp_type), Direction::Exchanged) => {
                answering_type(key.family, icmp_type)
                    .is_some_and(|answer| self.type_matches(row, answer))
            }
        }
    }

    #[inline]
    fn ports_match(&self, row: &Row, source: u16, destination: u16) -> bool {
        row.types.is_empty()
            && row.source_ports.any_of(&self.ports, |r| r.contains(source))
            && row
                .destination_ports
                .any_of(&self.ports, |r| r.contains(destination))
    }

    #[inline]
    fn type_matches(&self, row: &Row, icmp_type: u8) -> bool {
        row.source_ports.is_empty()
            && row.destination_ports.is_empty()
            && row.types.any_of(&self.types, |r| r.contains(icmp_type))
    }
}

/// In which direction a packet is compared with a rule.
#[derive(Clone, Copy)]
enum Direction {
    Written,
    Exchanged,
}

/// The word of a bitmap of 256 that `number` lies in, and its bit there.
fn protocol_bit(number: u8) -> (usize, u64) {
    (usize::from(number >> 6), 1u64 << (number & 63))
}
