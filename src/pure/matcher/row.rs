// SPDX-License-Identifier: GPL-2.0

//! The last word on whether a rule matches: rules compiled to rows that a packet is compared with.
//!
//! What finds the rows that may match ([`tree`](super::tree)) may err on the side of too many only:
//! each row is compared in full. Most rules fit one or a few [`Single`]s of 32 bytes; all others
//! are [`Lists`].

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    matcher::{
        cells::RowId,
        combination::{
            device_bits,
            Combination,
            Combinations, //
        },
        cost::{
            LISTS_COST,
            LISTS_WORST,
            SINGLE_COST, //
        },
        filter::Filter,
        found::NONE,
        slice::Slice,
        words::{
            fixed_bits,
            high,
            low,
            pair,
            ClassSet,
            Probe,
            ProbeMask,
            Query,
            DEVICE,
            FIXED,
            PROTOCOL_SHIFT, //
        },
    },
    packet::ends::Ends,
    rule::{
        Family,
        Local,
        Prefix,
        Range,
        Rule, //
    },
};

/// A row of one value of each kind, no IPv6 address, no device, no end that is local, and no bits of the
/// word [`FIXED`].
#[derive(Clone, Copy)]
struct Single {
    addresses: u64,
    mask: u64,
    /// | bits | hold |
    /// |---|---|
    /// | 63 to 48, 47 to 32 | the first source port, the first destination port or type |
    /// | 31 to 24 | the protocol |
    /// | 23 to 16 | the bits of the protocol that decide |
    /// | 7 to 0 | the classes, a bit each |
    ///
    /// All but the third lie as in a [`Probe`].
    rest: u64,
    /// How many source ports there are, less one.
    source_span: u16,
    /// How many destination ports or types there are, less one.
    destination_span: u16,
    order: u32,
}

/// The lowest of the bits of the protocol that decide, in [`Single::rest`].
const PROTOCOL_MASK_SHIFT: u32 = 16;

impl Single {
    fn new(order: u32, class: ClassSet, combination: &Combination) -> Self {
        let value = |prefix: Option<Prefix>| prefix.map_or(0, |p| high(p.value()));
        let mask = |prefix: Option<Prefix>| prefix.map_or(0, |p| high(p.mask()));
        let span = |(first, last): (u16, u16)| last.wrapping_sub(first);
        let protocol = u64::from(combination.protocol.unwrap_or(0));
        let protocol_mask = u64::from(combination.protocol.map_or(0, |_| u8::MAX));
        Self {
            addresses: value(combination.source) | value(combination.destination) >> 32,
            mask: mask(combination.source) | mask(combination.destination) >> 32,
            rest: pair(combination.source_ports.0, combination.destination_ports.0)
                | protocol << PROTOCOL_SHIFT
                | protocol_mask << PROTOCOL_MASK_SHIFT
                | u64::from(class.0),
            source_span: span(combination.source_ports),
            destination_span: span(combination.destination_ports),
            order,
        }
    }

    /// Returns its values as a probe.
    #[inline(always)]
    fn rest(&self) -> Probe {
        Probe {
            addresses: self.addresses,
            rest: self.rest,
        }
    }

    #[inline(always)]
    fn protocol_mask(&self) -> u8 {
        (self.rest >> PROTOCOL_MASK_SHIFT) as u8
    }

    /// Returns whether a packet matches in the direction of `probe`. A packet of IPv6 has no addresses in a
    /// probe, and matches only rows that specify none.
    #[inline(always)]
    fn matches(&self, probe: &Probe) -> bool {
        let own = self.rest();
        (probe.addresses ^ self.addresses) & self.mask == 0
            && probe
                .destination_port()
                .wrapping_sub(own.destination_port())
                <= self.destination_span
            && probe.source_port().wrapping_sub(own.source_port()) <= self.source_span
            && (probe.protocol() ^ own.protocol()) & self.protocol_mask() == 0
            && own.class().meets(probe.class())
    }

    /// Returns whether it has the value of `probe` in `bits`, and a class in common.
    #[inline(always)]
    fn agrees(&self, probe: &Probe, bits: &ProbeMask) -> bool {
        (probe.addresses ^ self.addresses) & bits.addresses == 0
            && (probe.rest ^ self.rest) & bits.rest == 0
            && self.rest().class().meets(probe.class())
    }

    /// Returns the first of source and destination ports, and how many more there are.
    fn spans(&self) -> [(u16, u16); 2] {
        let own = self.rest();
        [
            (own.source_port(), self.source_span),
            (own.destination_port(), self.destination_span),
        ]
    }

    /// Returns whether a packet may match both, in any directions: the one may shadow the other.
    fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: (u16, u16), b: (u16, u16)| {
            a.0 <= b.0.saturating_add(b.1) && b.0 <= a.0.saturating_add(a.1)
        };
        let [source, destination] = self.spans();
        let one_way = |addresses: u64, mask: u64, ports: [(u16, u16); 2]| {
            let [other_source, other_destination] = ports;
            (self.addresses ^ addresses) & self.mask & mask == 0
                // Which type answers another is not looked at.
                && (self.rest().class().names_type()
                    || meet(source, other_source) && meet(destination, other_destination))
        };
        let ports = other.spans();
        let [first, second] = ports;
        let (class, other_class) = (self.rest().class(), other.rest().class());
        let meet_in = |exchanged, other_exchanged| {
            class.in_direction(exchanged) & other_class.in_direction(other_exchanged) != 0
        };
        let protocols = self.rest().protocol() ^ other.rest().protocol();
        protocols & self.protocol_mask() & other.protocol_mask() == 0
            && ((meet_in(false, false) || meet_in(true, true))
                && one_way(other.addresses, other.mask, ports)
                || (meet_in(false, true) || meet_in(true, false))
                    && one_way(
                        other.addresses.rotate_left(32),
                        other.mask.rotate_left(32),
                        [second, first],
                    ))
    }
}

/// A row of any rule. Its lists are slices of the arrays of [`Rows`]; an empty list matches all.
#[derive(Clone, Copy)]
struct Lists {
    order: u32,
    class: ClassSet,
    /// The end, as the rule is written, that is an address of the packet's namespace.
    local: Option<Local>,
    /// The family of the addresses, where there are any.
    family: Family,
    /// A bit for each protocol number.
    protocols: [u64; 4],
    sources: Slice,
    destinations: Slice,
    source_ports: Slice,
    destination_ports: Slice,
    devices: Slice,
    fixed_or_device: MaskedWord,
    filters: Filters,
}

impl Lists {
    /// Returns whether a packet has the end that must be local, if any: the last question, as it is the
    /// dearest.
    #[inline]
    fn has_local_end(&self, ends: &impl Ends, exchanged: bool) -> bool {
        match (self.local, exchanged) {
            (None, _) => true,
            (Some(end), false) => ends.is_local(end),
            (Some(end), true) => ends.is_local(end.opposite()),
        }
    }
}

/// Some bits of a word of a [`Query`], and the value that they must have, whatever the direction.
#[derive(Clone, Copy)]
struct MaskedWord {
    mask: u64,
    value: u64,
    word: u8,
}

impl MaskedWord {
    /// Returns the bits of the word [`FIXED`] that a rule names, else the first half of its only device,
    /// else no bits.
    fn of(rule: &Rule) -> Self {
        let mut devices = rule.devices();
        match (fixed_bits(rule), devices.next(), devices.next()) {
            ((value, mask @ 1..), _, _) => Self {
                mask,
                value,
                word: FIXED as u8,
            },
            (_, Some(device), None) => {
                let (value, mask) = device_bits(device);
                Self {
                    mask: high(mask),
                    value: high(value),
                    word: DEVICE as u8,
                }
            }
            _ => Self {
                mask: 0,
                value: 0,
                word: 0,
            },
        }
    }

    /// Returns whether a packet has these bits: all bits of the word [`FIXED`], half of a device's.
    #[inline(always)]
    fn matches<E>(&self, query: &Query<'_, E>) -> bool {
        query.word(self.word.into()) & self.mask == self.value
    }
}

/// The first looks at a row of lists: most packets that do not match fail here.
#[derive(Clone, Copy)]
struct Filters {
    sources: AddressFilter,
    destinations: AddressFilter,
    source_ports: Filter,
    destination_ports: Filter,
}

/// A [`Filter`] of addresses.
#[derive(Clone, Copy)]
struct AddressFilter {
    filter: Filter,
    /// The word of an IPv6 packet that has the bits, in the direction as written.
    word: u8,
}

impl AddressFilter {
    /// Returns the filter of a list of sources or destinations, all of one family.
    fn new(
        family: Family,
        is_source: bool,
        prefixes: impl Iterator<Item = Prefix> + Clone,
    ) -> Self {
        let of = |word: fn(u128) -> u64, shifts| {
            let ends = |p: Prefix| (word(p.value()), word(p.value() | !p.mask()));
            Filter::new(prefixes.clone().map(ends), shifts)
        };
        let (first, is_upper, filter) = match (family, is_source) {
            (Family::Ipv4, true) => (0, true, of(high, 32..=58)),
            (Family::Ipv4, false) => (0, true, of(|address| high(address) >> 32, 0..=26)),
            (Family::Ipv6, _) => {
                let upper = of(high, 0..=58);
                // The lower half is no better where the upper one has one value, or where it is not
                // specified by all.
                let has_lower = prefixes.clone().all(|p| p.bits() > 64);
                let lower = match has_lower && upper.lets_pass() > 1 {
                    true => of(low, 0..=58),
                    false => upper,
                };
                let first = if is_source { 0 } else { 2 };
                match lower.lets_pass() < upper.lets_pass() {
                    true => (first, false, lower),
                    false => (first, true, upper),
                }
            }
        };
        Self {
            filter,
            word: if is_upper { first } else { first | 1 },
        }
    }

    /// Returns whether the address of a packet in the direction of `probe` may be in the list.
    #[inline(always)]
    fn passes<E>(
        &self,
        family: Family,
        query: &Query<'_, E>,
        probe: &Probe,
        exchanged: u32,
    ) -> bool {
        let bits = match family {
            Family::Ipv4 => probe.addresses,
            Family::Ipv6 => query.word(u32::from(self.word) ^ exchanged.wrapping_shl(1)),
        };
        self.filter.passes(bits)
    }
}

/// An address or a name, and the bits of it that decide.
#[derive(Clone, Copy)]
struct Masked {
    value: u128,
    mask: u128,
}

/// Calls `with` for each combination of a rule, with its row, and whether it is no more than the rule
/// matches. `first` is the row that [`Rows::push`] has returned for the rule.
pub(super) fn each_combination(
    first: RowId,
    rule: &Rule,
    mut with: impl FnMut(RowId, &Combination, bool) -> Result<(), NoMemory>,
) -> Result<(), NoMemory> {
    let combinations = Combinations::of(rule);
    let exact = combinations.is_exact() && rule.local().is_none();
    let mut row = first;
    for combination in combinations {
        with(row, &combination, exact)?;
        if !first.is_lists() {
            row = RowId(row.0.wrapping_add(1));
        }
    }
    Ok(())
}

/// The rows of a matcher.
pub(super) struct Rows {
    singles: Vec<Single>,
    lists: Vec<Lists>,
    prefixes: Vec<Masked>,
    ports: Vec<Range<u16>>,
    devices: Vec<Masked>,
}

impl Rows {
    pub(super) const fn new() -> Self {
        Self {
            singles: Vec::new(),
            lists: Vec::new(),
            prefixes: Vec::new(),
            ports: Vec::new(),
            devices: Vec::new(),
        }
    }

    /// Returns the number of rows.
    pub(super) fn len(&self) -> usize {
        self.singles.len().saturating_add(self.lists.len())
    }

    /// Returns the number of single rows.
    pub(super) fn singles(&self) -> usize {
        self.singles.len()
    }

    /// Makes room for the rows of `rules` more rules that are one row each.
    pub(super) fn reserve(&mut self, rules: usize) -> Result<(), NoMemory> {
        self.singles.reserve(rules)
    }

    /// Appends the rows of a rule of that order. Returns the row of its first combination,
    /// for [`each_combination`].
    pub(super) fn push(&mut self, order: u32, rule: &Rule) -> Result<RowId, NoMemory> {
        let combinations = Combinations::of(rule);
        let addresses = || rule.sources().next().is_some() || rule.destinations().next().is_some();
        let is_plain = fixed_bits(rule).1 == 0
            && rule.devices().next().is_none()
            && rule.local().is_none()
            && !(rule.family() == Some(Family::Ipv6) && addresses());
        if is_plain && combinations.is_exact() {
            let id = RowId::new(self.singles.len());
            let class = ClassSet::of_rule(rule);
            for combination in combinations {
                self.singles.push(Single::new(order, class, &combination))?;
            }
            return Ok(id);
        }
        let id = RowId::new(self.lists.len()).lists();
        let row = self.lists_of(order, rule)?;
        self.lists.push(row)?;
        Ok(id)
    }

    fn lists_of(&mut self, order: u32, rule: &Rule) -> Result<Lists, NoMemory> {
        let mut protocols = [0u64; 4];
        for number in rule.protocols() {
            if let Some(word) = protocols.get_mut(usize::from(number >> 6)) {
                *word |= protocol_bit(number);
            }
        }
        if rule.protocols().next().is_none() {
            protocols = [u64::MAX; 4];
        }
        let masked = |prefix: Prefix| Masked {
            value: prefix.value(),
            mask: prefix.mask(),
        };
        // No rule names both ports and types.
        let types = rule
            .icmp_types()
            .filter_map(|range| Range::new(range.first().into(), range.last().into()));
        let ports = |range: Range<u16>| (range.first().into(), range.last().into());
        let family = rule.family().unwrap_or(Family::Ipv4);
        let filters = Filters {
            sources: AddressFilter::new(family, true, rule.sources()),
            destinations: AddressFilter::new(family, false, rule.destinations()),
            source_ports: Filter::new(rule.source_ports().map(ports), 0..=10),
            destination_ports: Filter::new(
                rule.destination_ports().chain(types.clone()).map(ports),
                0..=10,
            ),
        };
        Ok(Lists {
            order,
            class: ClassSet::of_rule(rule),
            local: rule.local(),
            family,
            protocols,
            sources: Slice::append(&mut self.prefixes, rule.sources().map(masked))?,
            destinations: Slice::append(&mut self.prefixes, rule.destinations().map(masked))?,
            source_ports: Slice::append(&mut self.ports, rule.source_ports())?,
            destination_ports: Slice::append(
                &mut self.ports,
                rule.destination_ports().chain(types),
            )?,
            devices: Slice::append(
                &mut self.devices,
                rule.devices().map(|device| {
                    let (value, mask) = device_bits(device);
                    Masked { value, mask }
                }),
            )?,
            fixed_or_device: MaskedWord::of(rule),
            filters,
        })
    }

    /// Returns whether all rows are single.
    pub(super) fn are_single(&self) -> bool {
        self.lists.is_empty()
    }

    /// Returns the order of a tree's row that matches, or [`NONE`]. `SINGLE` says that all rows are single.
    #[inline(always)]
    pub(super) fn compare<const SINGLE: bool, E: Ends>(
        &self,
        id: u32,
        query: &Query<'_, E>,
    ) -> u32 {
        if !SINGLE && id & RowId::LISTS != 0 {
            return self.compare_lists(id, query);
        }
        let exchanged = id.wrapping_shr(RowId::EXCHANGED_SHIFT) & 1;
        let probe = query.probes.both.get(exchanged as usize);
        let row = self.singles.get((id & RowId::INDEX) as usize);
        match (row, probe) {
            (Some(row), Some(probe)) if row.matches(probe) => row.order,
            _ => NONE,
        }
    }

    /// Returns the order of a hash table's [whole](RowId::whole) row that matches in the direction of `probe`,
    /// or [`NONE`]. `bits` is the table's mask.
    #[inline(always)]
    pub(super) fn compare_whole(&self, id: u32, probe: &Probe, bits: &ProbeMask) -> u32 {
        match self.singles.get((id & RowId::INDEX) as usize) {
            Some(row) if row.agrees(probe, bits) => row.order,
            _ => NONE,
        }
    }

    /// Returns the order of a hash table's row that matches, or [`NONE`]. The row is compared in `bits`, and
    /// in full unless it is [`RowId::whole`].
    #[inline(always)]
    pub(super) fn compare_in(&self, id: u32, probe: &Probe, bits: &ProbeMask) -> u32 {
        let is_whole = id & RowId::WHOLE != 0;
        match self.singles.get((id & RowId::INDEX) as usize) {
            Some(row) if row.agrees(probe, bits) && (is_whole || row.matches(probe)) => row.order,
            _ => NONE,
        }
    }

    /// Returns the order of a row of lists that matches, or [`NONE`]. Not inlined, as single rows need none of
    /// it.
    #[inline(never)]
    fn compare_lists<E: Ends>(&self, id: u32, query: &Query<'_, E>) -> u32 {
        let Some(row) = self.lists.get((id & RowId::INDEX) as usize) else {
            return NONE;
        };
        let exchanged = id.wrapping_shr(RowId::EXCHANGED_SHIFT) & 1;
        let Some(probe) = query.probes.both.get(exchanged as usize) else {
            return NONE;
        };
        let filters = &row.filters;
        let may_match = row.class.meets(probe.class())
            && row.fixed_or_device.matches(query)
            && filters
                .destination_ports
                .passes(probe.destination_port().into())
            && filters
                .destinations
                .passes(row.family, query, probe, exchanged)
            && filters.sources.passes(row.family, query, probe, exchanged)
            && filters.source_ports.passes(probe.source_port().into());
        let matches = may_match
            && self.matches_lists(row, probe, query, exchanged)
            && row.has_local_end(&query.ends, exchanged != 0);
        match matches {
            true => row.order,
            false => NONE,
        }
    }

    /// Returns whether a packet that passed a row's filters is in its lists.
    #[inline(never)]
    fn matches_lists<E>(
        &self,
        row: &Lists,
        probe: &Probe,
        query: &Query<'_, E>,
        exchanged: u32,
    ) -> bool {
        let (mut source, mut destination) = query.addresses(row.family);
        if exchanged != 0 {
            core::mem::swap(&mut source, &mut destination);
        }
        let protocol = probe.protocol();
        let word = row.protocols.get(usize::from(protocol >> 6));
        let covers = |address: u128| move |p: &Masked| address & p.mask == p.value;
        let contains = |port: u16| move |r: &Range<u16>| r.contains(port);
        word.is_some_and(|word| word & protocol_bit(protocol) != 0)
            && row.destinations.any_of(&self.prefixes, covers(destination))
            && row.sources.any_of(&self.prefixes, covers(source))
            && row
                .destination_ports
                .any_of(&self.ports, contains(probe.destination_port()))
            && row
                .source_ports
                .any_of(&self.ports, contains(probe.source_port()))
            && row.devices.any_of(&self.devices, covers(query.device()))
    }

    /// Returns the cost of comparing a row: where it fails early, as most do, and at worst.
    pub(super) fn cost(&self, id: RowId) -> (u32, u32) {
        match self.lists.get(id.index()) {
            Some(row) if id.is_lists() => {
                let lists = [
                    row.sources,
                    row.destinations,
                    row.source_ports,
                    row.destination_ports,
                    row.devices,
                ];
                let values = lists
                    .iter()
                    .fold(0u32, |sum, list| sum.saturating_add(list.len()));
                let (row, value) = LISTS_WORST;
                (LISTS_COST, values.saturating_mul(value).saturating_add(row))
            }
            _ => SINGLE_COST,
        }
    }

    /// Returns the order of a row.
    pub(super) fn order(&self, id: RowId) -> u32 {
        let order = match id.is_lists() {
            true => self.lists.get(id.index()).map(|row| row.order),
            false => self.singles.get(id.index()).map(|row| row.order),
        };
        order.unwrap_or(NONE)
    }

    /// Returns the orders of the rows behind `order` that rule `order` may shadow: a packet may match both.
    /// An order may come more than once.
    pub(super) fn overlapping(&self, order: u32) -> impl Iterator<Item = u32> + '_ {
        // Rows stand section by section, the rows of one rule together.
        let from = self.singles.iter().position(|row| row.order == order);
        let rest = self.singles.get(from.unwrap_or(self.singles.len())..);
        let rest = rest.unwrap_or_default();
        let end = rest.iter().take_while(|row| row.order == order).count();
        let own = rest.get(..end).unwrap_or_default();
        // A rule with lists is taken to overlap any other.
        let singles = self.singles.iter().filter(move |row| {
            row.order > order && (own.is_empty() || own.iter().any(|other| other.overlaps(row)))
        });
        let lists = self.lists.iter().filter(move |row| row.order > order);
        singles
            .map(|row| row.order)
            .chain(lists.map(|row| row.order))
    }
}

/// Returns the bit of `number` in its word of a bitmap of 256.
#[inline(always)]
fn protocol_bit(number: u8) -> u64 {
    1u64.wrapping_shl(u32::from(number & 63))
}
