// SPDX-License-Identifier: GPL-2.0

//! The oracle for large tables: which rule is the first that matches, without going through all.
//!
//! Every field of a packet is cut into some hundred intervals, each with a bit for every rule that
//! could match a value there. The rules whose bits are set for all fields of a packet, in one of its
//! directions, are asked one by one whether they match, in order. So a wrong bit too many costs
//! time only; that there is none too few, the tests hold against the plain oracle. It shares no
//! thought and no code with the matcher, and takes no care of memory.

use ctskip_pure::{
    packet::header::{
        Key,
        Transport, //
    },
    rule::{
        FixedField,
        Netns,
        Prefix,
        Range,
        Rule, //
    },
};

use crate::{
    compiled,
    packets::{
        exchanged,
        Probe, //
    },
    world::INIT_INUM, //
};

/// The values of a field that a rule says; `None`: all.
type Said = Option<Vec<(u128, u128)>>;

/// The intervals of a field.
const INTERVALS: usize = 256;

/// One field of all rules.
struct Field {
    /// Where the second and later intervals start.
    starts: Vec<u128>,
    /// A row of bits for a packet that does not have the field, then one for each interval.
    bits: Vec<u64>,
    words: usize,
}

impl Field {
    /// The field of which each rule says so much; `None` where none says anything.
    fn new(said: &[Said]) -> Option<Self> {
        let mut starts: Vec<u128> = said
            .iter()
            .flatten()
            .flatten()
            .flat_map(|(first, last)| [*first, last.saturating_add(1)])
            .collect();
        if starts.is_empty() {
            return None;
        }
        starts.sort_unstable();
        starts.dedup();
        let step = starts.len().div_ceil(INTERVALS);
        let starts: Vec<u128> = starts.into_iter().step_by(step).collect();
        let words = said.len().div_ceil(64);
        let mut field = Self {
            bits: vec![0; words * (starts.len() + 2)],
            starts,
            words,
        };
        for (rule, said) in said.iter().enumerate() {
            match said {
                None => field.set(rule, 0, field.starts.len() + 1),
                Some(ranges) => {
                    for (first, last) in ranges {
                        field.set(rule, field.row(Some(*first)), field.row(Some(*last)));
                    }
                }
            }
        }
        Some(field)
    }

    fn set(&mut self, rule: usize, first_row: usize, last_row: usize) {
        for row in first_row..=last_row {
            self.bits[row * self.words + rule / 64] |= 1 << (rule % 64);
        }
    }

    fn row(&self, value: Option<u128>) -> usize {
        value.map_or(0, |value| {
            1 + self.starts.partition_point(|start| *start <= value)
        })
    }

    fn bits(&self, value: Option<u128>) -> &[u64] {
        &self.bits[self.row(value) * self.words..][..self.words]
    }
}

/// Rules to find the first match among.
pub struct Reference<'r> {
    rules: &'r [&'r Rule],
    /// In the order of [`values`].
    fields: [Option<Field>; FIELDS],
}

const FIELDS: usize = 12;

impl<'r> Reference<'r> {
    /// Prepares to look among `rules`.
    pub fn new(rules: &'r [&'r Rule]) -> Self {
        let field = |said: &dyn Fn(&Rule) -> Said| {
            let said: Vec<Said> = rules.iter().map(|rule| said(rule)).collect();
            Field::new(&said)
        };
        let mark = |byte: u32| field(&move |rule| mark(rule, byte));
        let fields = [
            field(&|rule| listed(rule.sources().map(addresses))),
            field(&|rule| listed(rule.destinations().map(addresses))),
            field(&|rule| listed(rule.source_ports().map(numbers))),
            field(&|rule| listed(rule.destination_ports().map(numbers))),
            field(&|rule| listed(rule.icmp_types().map(numbers))),
            field(&|rule| listed(rule.protocols().map(|p| (p.into(), p.into())))),
            field(&devices),
            field(&netns),
            mark(0),
            mark(1),
            mark(2),
            mark(3),
        ];
        Self { rules, fields }
    }

    /// Returns the position of the first rule that matches.
    pub fn first_match(&self, probe: &Probe) -> Option<usize> {
        let exchanged = Probe {
            key: exchanged(&probe.key),
            ..*probe
        };
        let as_written = self.first(probe, probe, self.rules.len());
        let end = as_written.unwrap_or(self.rules.len());
        self.first(&exchanged, probe, end).or(as_written)
    }

    /// The first of the rules before `end` that could match `direction` and does match `probe`.
    fn first(&self, direction: &Probe, probe: &Probe, end: usize) -> Option<usize> {
        let mut rows: [&[u64]; FIELDS] = [&[]; FIELDS];
        let mut len = 0;
        for (field, value) in self.fields.iter().zip(values(direction)) {
            if let Some(field) = field {
                rows[len] = field.bits(value);
                len += 1;
            }
        }
        for word in 0..end.div_ceil(64) {
            let all = |bits, row: &&[u64]| bits & row[word];
            let mut bits = rows[..len].iter().fold(u64::MAX, all);
            while bits != 0 {
                let rule = word * 64 + bits.trailing_zeros() as usize;
                if rule >= end {
                    return None;
                }
                if compiled::matches(self.rules[rule], probe) {
                    return Some(rule);
                }
                bits &= bits - 1;
            }
        }
        None
    }
}

/// What a packet has in each field.
fn values(probe: &Probe) -> [Option<u128>; FIELDS] {
    let Key {
        transport, fixed, ..
    } = probe.key;
    let mark = fixed.get(FixedField::MARK).unwrap_or(0);
    let (source_port, destination_port, icmp_type) = match transport {
        Transport::Ports(source, destination) => (Some(source), Some(destination), None),
        Transport::IcmpType(icmp_type) => (None, None, Some(icmp_type)),
        Transport::Unknown => (None, None, None),
    };
    let byte = |n: u32| Some(u128::from(mark >> (8 * n) & 0xff));
    [
        Some(probe.key.source),
        Some(probe.key.destination),
        source_port.map(u128::from),
        destination_port.map(u128::from),
        icmp_type.map(u128::from),
        Some(probe.key.protocol.into()),
        Some(u128::from_be_bytes(probe.key.device)),
        Some(probe.netns.into()),
        byte(0),
        byte(1),
        byte(2),
        byte(3),
    ]
}

fn listed(ranges: impl Iterator<Item = (u128, u128)>) -> Said {
    let ranges: Vec<_> = ranges.collect();
    (!ranges.is_empty()).then_some(ranges)
}

fn addresses(prefix: Prefix) -> (u128, u128) {
    (prefix.value(), prefix.value() | !prefix.mask())
}

fn numbers<T: Copy + PartialOrd + Into<u128>>(range: Range<T>) -> (u128, u128) {
    (range.first().into(), range.last().into())
}

/// Names as numbers, the first letter the most significant: those that start alike are neighbours.
fn devices(rule: &Rule) -> Said {
    listed(rule.devices().map(|device| {
        let number = |rest: u8| {
            let mut name = [rest; 16];
            name[..device.name().len()].copy_from_slice(device.name());
            u128::from_be_bytes(name)
        };
        match device.wildcard() {
            true => (number(0), number(u8::MAX)),
            false => (number(0), number(0)),
        }
    }))
}

fn netns(rule: &Rule) -> Said {
    let one = |inum: u32| Some(vec![(inum.into(), inum.into())]);
    match rule.netns() {
        Netns::Any | Netns::NotInit => None,
        Netns::Init => one(INIT_INUM),
        Netns::Only(id) => one(id.inum),
    }
}

/// The values of one byte of the mark.
fn mark(rule: &Rule, byte: u32) -> Said {
    let mark = rule.mark()?;
    let (value, mask) = (mark.value() >> (8 * byte), mark.mask() >> (8 * byte));
    let values = (0..=0xffu32).filter(|b| b & mask & 0xff == value & 0xff);
    (mask & 0xff != 0).then(|| values.map(|b| (b.into(), b.into())).collect())
}
