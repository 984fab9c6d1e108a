// SPDX-License-Identifier: GPL-2.0

//! Which rules can never be the first to match: a rule ahead matches all that they match.
//!
//! Several rules that together match all of it are not looked for: that would take a search of all packets.
//!
//! To hold each rule against all ahead of it would take time that grows with the square of the table. But a
//! rule that is the first to match any one packet is not shadowed, and most rules are the first to match
//! packets of their own. So two packets of each rule are looked up as any others are. A rule that
//! shadows it matches all of them: if the first that matches one of them covers the rule, it is the first of
//! all that do. Only where neither is so, the rules ahead that match such a packet are held against it one by
//! one, which an [`Index`] finds, as long as there is [work](SHADOW_WORK_PER_RULE) for that. Lookups are made as long
//! as there is [work](SHADOW_LOOKUPS) for them, too: by a dear table, each may take milliseconds.

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use crate::pure::{
    alloc::Vec,
    bitmap,
    matcher::{
        cost::{
            SHADOW_INTERVALS,
            SHADOW_LOOKUPS,
            SHADOW_PAIR,
            SHADOW_SAMPLE,
            SHADOW_WORD,
            SHADOW_WORK_LEAST,
            SHADOW_WORK_MOST,
            SHADOW_WORK_PER_RULE, //
        },
        delta::{
            walk,
            Step, //
        },
        limits::{
            Limits,
            Pace,
            Stop, //
        },
        ruleset::Ruleset,
        scope::Scope,
        warning::Ids, //
    },
    packet::{
        ends::Ends,
        header::{
            is_error,
            Key,
            Transport, //
        },
    },
    rule::{
        self,
        answering_type,
        cover,
        protocol,
        Device,
        DeviceName,
        Family,
        Fixed,
        Local,
        Netns,
        Prefix,
        Range,
        Rule, //
    },
    sort::sort_by_key,
    table::{
        listing::Shadow,
        Entry,
        Table, //
    },
};

/// Rules of a table that are shadowed, or of which that is not known.
#[derive(Debug, PartialEq, Eq)]
pub struct Shadows {
    /// Their positions, ascending, and what is known.
    rules: Vec<(u32, Shadow)>,
}

impl Shadows {
    /// Finds those of a table. Process context; takes up to a second or two, and ends where the caller gives up.
    pub fn of<S>(ruleset: &Ruleset<S>, limits: &dyn Limits) -> Result<Self, Stop> {
        let mut search = Search::new(ruleset, limits);
        for position in 0..ruleset.table().entries().len() {
            search.look_at(position, |_| true)?;
        }
        Ok(search.found)
    }

    /// Finds those that are so since `ruleset` has taken the place of `last`: the rule is new, or the one ahead
    /// of it. Where more than a few rules are added to a large table, those ahead of old rules are left out.
    /// [`None`] where the tables have little in common. Process context, as [`Self::of()`].
    pub fn since<S: Eq>(
        ruleset: &Ruleset<S>,
        last: &Ruleset<S>,
        limits: &dyn Limits,
    ) -> Result<Option<Self>, Stop> {
        let (old, new) = (last.table().entries(), ruleset.table().entries());
        let mut added: Vec<usize> = Vec::new();
        let is_little = walk(old, new, |step| {
            if let Step::Added { position, .. } = step {
                added.push(position)?;
            }
            Ok(true)
        })?;
        if !is_little {
            return Ok(None);
        }
        let mut search = Search::new(ruleset, limits);
        for position in added.first().copied().unwrap_or(new.len())..new.len() {
            let ahead = match added.binary_search(&position) {
                Ok(_) => {
                    search.look_at(position, |_| true)?;
                    continue;
                }
                Err(count) => added.get(..count).unwrap_or_default(),
            };
            // A small change must not cost as much as a new table.
            if ahead.len() > Search::<S>::FEW && added.len().saturating_mul(64) < new.len() {
                continue;
            }
            if !search.is_left_by(position, ahead)? {
                let is_new = |id| {
                    let mut rules = ahead.iter().filter_map(|at| new.get(*at));
                    rules.any(|entry| entry.id() == id)
                };
                search.look_at(position, is_new)?;
            }
        }
        Ok(Some(search.found))
    }

    /// Returns what is known of the rule at `position`.
    pub fn at(&self, position: usize) -> Shadow {
        let rules = &self.rules;
        let found = u32::try_from(position)
            .ok()
            .and_then(|position| rules.binary_search_by_key(&position, |(at, _)| *at).ok());
        found
            .and_then(|found| rules.get(found))
            .map_or(Shadow::None, |(_, shadow)| *shadow)
    }

    /// Returns the positions of the rules that are shadowed.
    pub fn known(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        let known = self
            .rules
            .iter()
            .filter(|(_, shadow)| *shadow != Shadow::Unknown);
        known.filter_map(|(position, _)| usize::try_from(*position).ok())
    }

    /// Returns the number of rules of which it is not known.
    pub fn unknown(&self) -> usize {
        self.rules.len().saturating_sub(self.known().count())
    }
}

/// The shadowed rules of a table, printed as their ids and the number of further ones.
pub struct ShadowedRules<'a, S> {
    /// The table.
    pub table: &'a Table<S>,
    /// Its shadowed rules.
    pub shadows: &'a Shadows,
}

impl<S> Display for ShadowedRules<'_, S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let entries = self.table.entries();
        let shadowed = self.shadows.known().filter_map(|at| entries.get(at));
        Ids(shadowed.map(Entry::id)).fmt(f)
    }
}

/// A search for shadowed rules.
struct Search<'a, S> {
    ruleset: &'a Ruleset<S>,
    /// Made for the first rule that needs it.
    index: Option<Index>,
    /// The work that may still be done with it.
    work: usize,
    /// What a lookup costs at worst, and what all that are still made may cost.
    lookup: usize,
    lookups: usize,
    pace: Pace<'a>,
    found: Shadows,
}

impl<'a, S> Search<'a, S> {
    /// The new rules that each rule behind them is held against. Where there are more, packets of it are
    /// looked up.
    const FEW: usize = 8;

    /// Starts one that has found nothing.
    fn new(ruleset: &'a Ruleset<S>, limits: &'a dyn Limits) -> Self {
        let rules = ruleset.table().entries().len();
        let work = rules.saturating_mul(SHADOW_WORK_PER_RULE);
        Self {
            ruleset,
            index: None,
            work: work.clamp(SHADOW_WORK_LEAST, SHADOW_WORK_MOST),
            lookup: ruleset.worst_cost(),
            lookups: SHADOW_LOOKUPS,
            pace: Pace::new(limits),
            found: Shadows { rules: Vec::new() },
        }
    }

    /// Returns whether none of the rules at the positions `ahead`, which must be few to be seen, covers the one
    /// at `position`.
    fn is_left_by(&mut self, position: usize, ahead: &[usize]) -> Result<bool, Stop> {
        let entries = self.ruleset.table().entries();
        let Some(entry) = entries.get(position) else {
            return Ok(true);
        };
        if ahead.len() > Self::FEW {
            return Ok(false);
        }
        self.pace_pairs(ahead.len())?;
        let mut others = ahead.iter().filter_map(|at| entries.get(*at));
        Ok(!others.any(|other| covers(other.rule(), entry.rule())))
    }

    /// Counts so many pairs of rules. Fails where the caller gives up.
    fn pace_pairs(&mut self, pairs: usize) -> Result<(), Stop> {
        let words = pairs.saturating_mul(SHADOW_PAIR);
        self.pace.work(words.saturating_mul(SHADOW_WORD))
    }

    /// Notes the rule at `position` if it is shadowed by a rule whose id `is_meant`, or that is not known.
    /// Positions must ascend.
    fn look_at(&mut self, position: usize, is_meant: impl Fn(u32) -> bool) -> Result<(), Stop> {
        let shadow = self.find(position)?;
        let is_noted = match shadow {
            Shadow::None => false,
            Shadow::By(id) => is_meant(id),
            Shadow::Unknown => true,
        };
        match u32::try_from(position) {
            Ok(position) if is_noted => Ok(self.found.rules.push((position, shadow))?),
            _ => Ok(()),
        }
    }

    /// Finds the rule that shadows the one at `position`.
    fn find(&mut self, position: usize) -> Result<Shadow, Stop> {
        let entries = self.ruleset.table().entries();
        let Some(entry) = entries.get(position) else {
            return Ok(Shadow::None);
        };
        let rule = entry.rule();
        let mut random = Random::new(position);
        for is_first in [true, false] {
            let Some(left) = self.lookups.checked_sub(self.lookup) else {
                return Ok(Shadow::Unknown);
            };
            self.lookups = left;
            self.pace.work(self.lookup)?;
            let key = packet(rule, is_first, &mut random);
            let scope = self.scope(rule.netns(), is_first);
            let sections = self.ruleset.sections(scope);
            let found = self.ruleset.lookup(&sections, &key, OneEnd(rule.local()));
            // It is found itself, if no other rule is.
            let Some(first) = found.and_then(|order| self.ruleset.entry(order)) else {
                continue;
            };
            if first.id() == entry.id() {
                return Ok(Shadow::None);
            }
            self.pace_pairs(1)?;
            if covers(first.rule(), rule) {
                return Ok(Shadow::By(first.id()));
            }
        }
        self.compare(position, rule)
    }

    /// Finds the rule that shadows `rule`, the one at `position`, among those ahead that match a packet of it.
    #[inline(never)]
    fn compare(&mut self, position: usize, rule: &Rule) -> Result<Shadow, Stop> {
        let entries = self.ruleset.table().entries();
        let index = match &mut self.index {
            Some(index) => index,
            none => none.insert(Index::new(entries, &mut self.pace)?),
        };
        let key = packet(rule, true, &mut Random::new(position));
        let rows = index.rows(&key);
        for word in 0..=position / WORD {
            let Some(left) = self.work.checked_sub(1) else {
                return Ok(Shadow::Unknown);
            };
            self.work = left;
            self.pace.work(SHADOW_WORD)?;
            for at in index.candidates(word, &rows) {
                let Some(other) = entries.get(at).filter(|_| at < position) else {
                    return Ok(Shadow::None);
                };
                let Some(left) = self.work.checked_sub(SHADOW_PAIR) else {
                    return Ok(Shadow::Unknown);
                };
                self.work = left;
                self.pace.work(SHADOW_PAIR.saturating_mul(SHADOW_WORD))?;
                if covers(other.rule(), rule) {
                    return Ok(Shadow::By(other.id()));
                }
            }
        }
        Ok(Shadow::None)
    }

    /// Returns the scope of a namespace in which a rule of `netns` holds.
    fn scope(&self, netns: Netns, is_first: bool) -> Scope {
        match netns {
            Netns::Any if !is_first => Scope::Init,
            Netns::Any | Netns::NotInit => Scope::Other,
            Netns::Init => Scope::Init,
            Netns::Only(id) => self.ruleset.scope(false, id.cookie),
        }
    }
}

/// The number of bits in a word of a bitmap.
const WORD: usize = 32;

/// Which rules may match a packet, by the addresses and ports that they name: too many, never too few.
struct Index {
    /// Of source, destination, source port and destination port.
    fields: [Field; 4],
    /// The number of words for all rules.
    words: usize,
}

/// A field of the rules. It is cut into intervals.
struct Field {
    /// Where the second and the later ones start, ascending.
    starts: Vec<u128>,
    /// A bit for each rule that names nothing.
    all: Vec<u32>,
    /// For each interval, a bit for each rule that names something in it.
    rows: Vec<u32>,
}

impl Index {
    /// Goes through all rules.
    fn new<S>(entries: &[Entry<S>], pace: &mut Pace<'_>) -> Result<Self, Stop> {
        let addresses = |prefix: Prefix| (prefix.value(), prefix.value() | !prefix.mask());
        let ports = |range: Range<u16>| (range.first().into(), range.last().into());
        Ok(Self {
            fields: [
                Field::new(entries, pace, |rule| hull(rule.sources().map(addresses)))?,
                Field::new(entries, pace, |rule| {
                    hull(rule.destinations().map(addresses))
                })?,
                Field::new(entries, pace, |rule| hull(rule.source_ports().map(ports)))?,
                Field::new(entries, pace, |rule| {
                    hull(rule.destination_ports().map(ports))
                })?,
            ],
            words: entries.len().div_ceil(WORD),
        })
    }

    /// Returns where the rows of the values of `key` begin, in each direction; [`None`] where it has no such
    /// value.
    fn rows(&self, key: &Key) -> [[Option<usize>; 4]; 2] {
        let ports = match key.transport {
            Transport::Ports(source, destination) => Some((source.into(), destination.into())),
            Transport::IcmpType(_) | Transport::Unknown => None,
        };
        let (source, destination) = (Some(key.source), Some(key.destination));
        let (source_port, destination_port): (Option<u128>, Option<u128>) = ports.unzip();
        let ways = [
            [source, destination, source_port, destination_port],
            [destination, source, destination_port, source_port],
        ];
        ways.map(|values| {
            let mut fields = self.fields.iter();
            values.map(|value| Some(fields.next()?.row(value?).saturating_mul(self.words)))
        })
    }

    /// Returns the positions in a word of the rules that may match the packet of these rows.
    fn candidates(
        &self,
        word: usize,
        rows: &[[Option<usize>; 4]; 2],
    ) -> impl Iterator<Item = usize> {
        let [as_written, exchanged] = rows;
        let mut bits = self.bits(word, as_written) | self.bits(word, exchanged);
        core::iter::from_fn(move || {
            let bit = bits.trailing_zeros();
            bits &= bits.checked_sub(1)?;
            Some(word.saturating_mul(WORD).saturating_add(bit as usize))
        })
    }

    /// Returns the bits of the rules that may match one direction.
    fn bits(&self, word: usize, rows: &[Option<usize>; 4]) -> u32 {
        let mut bits = u32::MAX;
        for (field, row) in self.fields.iter().zip(rows) {
            let named = row.and_then(|row| field.rows.get(row.saturating_add(word)));
            let all = field.all.get(word).copied().unwrap_or(0);
            bits &= all | named.copied().unwrap_or(0);
            if bits == 0 {
                break;
            }
        }
        bits
    }
}

impl Field {
    /// Goes through what all rules name of it: the first and the last value.
    fn new<S>(
        entries: &[Entry<S>],
        pace: &mut Pace<'_>,
        named: impl Fn(&Rule) -> Option<(u128, u128)>,
    ) -> Result<Self, Stop> {
        let mut sample = Vec::new();
        let step = entries.len() / SHADOW_SAMPLE;
        for entry in entries.iter().step_by(step.saturating_add(1)) {
            if let Some((first, _)) = named(entry.rule()) {
                sample.push(first)?;
            }
        }
        sort_by_key(&mut sample, |start| *start);
        let mut starts: Vec<u128> = Vec::new();
        let step = sample.len() / SHADOW_INTERVALS;
        for start in sample.iter().step_by(step.saturating_add(1)) {
            if starts.last() != Some(start) {
                starts.push(*start)?;
            }
        }
        let bits = entries.len().div_ceil(WORD).saturating_mul(WORD);
        let rows = starts.len().saturating_add(1);
        let mut field = Self {
            starts,
            all: bitmap::empty(bits)?,
            rows: bitmap::empty(bits.saturating_mul(rows))?,
        };
        for (position, entry) in entries.iter().enumerate() {
            let Some((first, last)) = named(entry.rule()) else {
                bitmap::set(&mut field.all, position);
                continue;
            };
            let (first, last) = (field.row(first), field.row(last));
            let rows = last.saturating_sub(first).saturating_add(1);
            pace.work(rows.saturating_mul(SHADOW_WORD))?;
            for row in first..=last {
                let at = row.saturating_mul(bits).saturating_add(position);
                bitmap::set(&mut field.rows, at);
            }
        }
        Ok(field)
    }

    /// Returns the number of the interval of a value.
    fn row(&self, value: u128) -> usize {
        self.starts.partition_point(|start| *start <= value)
    }
}

/// Returns the first and the last value of a list of ranges; [`None`] where it is empty.
fn hull(ranges: impl Iterator<Item = (u128, u128)>) -> Option<(u128, u128)> {
    ranges.reduce(|(first, last), range| (first.min(range.0), last.max(range.1)))
}

/// The ends of a packet of which one is local, or none.
#[derive(Clone, Copy)]
struct OneEnd(Option<Local>);

impl Ends for OneEnd {
    fn is_local(&self, end: Local) -> bool {
        self.0 == Some(end)
    }
}

/// Numbers that look random, and are the same each time (SplitMix64).
struct Random(u64);

impl Random {
    /// Starts the numbers for the packets of the rule at `position`.
    fn new(position: usize) -> Self {
        Self(position as u64)
    }

    /// Returns the next one.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Returns the next one, of 128 bits.
    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

/// Returns a packet that `rule` matches as it is written: of the first elements of its lists, or of the last
/// ones.
///
/// Where the rule says nothing, the packet has what few rules name.
fn packet(rule: &Rule, is_first: bool, random: &mut Random) -> Key {
    let ends = rule.ends(is_first);
    let protocol = ends.protocol.unwrap_or(OTHER_PROTOCOL);
    let either = match is_first {
        true => Family::Ipv4,
        false => Family::Ipv6,
    };
    let family = rule.family().or(protocol::family_of(protocol));
    let family = family.unwrap_or(either);
    let transport = transport(&ends, protocol, is_first, random);
    let any_mark = Fixed::new(random.next() as u32);
    Key {
        family,
        protocol,
        source: address(ends.source, family, is_first, random),
        destination: address(ends.destination, family, is_first, random),
        transport,
        error: is_error(family, transport),
        device: device(rule.devices().next(), is_first),
        fixed: rule.fixed().packet(any_mark),
    }
}

/// A protocol that is for experiments (RFC 3692).
const OTHER_PROTOCOL: u8 = 253;

/// A type of ICMP and ICMPv6 that is for experiments (RFC 4727, RFC 4443).
const OTHER_TYPE: u8 = 200;

/// Returns the first or the last address that `prefix` covers.
fn address(prefix: Option<Prefix>, family: Family, is_first: bool, random: &mut Random) -> u128 {
    let bits = match family {
        Family::Ipv4 => u128::from(u32::MAX) << 96,
        Family::Ipv6 => u128::MAX,
    };
    match prefix {
        None => random.wide() & bits,
        Some(prefix) if is_first => prefix.value(),
        Some(prefix) => prefix.value() | !prefix.mask() & bits,
    }
}

/// Returns ports, or a type, of these. Where there are none, the first packet has none.
fn transport(named: &rule::Ends, protocol: u8, is_first: bool, random: &mut Random) -> Transport {
    match protocol {
        protocol::ICMP | protocol::ICMP6 => match named.icmp_type {
            Some(types) if is_first => Transport::IcmpType(types.first()),
            Some(types) => Transport::IcmpType(types.last()),
            None if is_first => Transport::Unknown,
            None => Transport::IcmpType(OTHER_TYPE),
        },
        _ if protocol::has_ports(protocol) => {
            let ranges = [named.source_port, named.destination_port];
            if is_first && ranges == [None, None] {
                return Transport::Unknown;
            }
            let [source, destination] = ranges.map(|range| match range {
                None => random.next() as u16,
                Some(range) if is_first => range.first(),
                Some(range) => range.last(),
            });
            Transport::Ports(source, destination)
        }
        _ => Transport::Unknown,
    }
}

/// Returns the name of a device that `element` matches.
fn device(element: Option<Device>, is_first: bool) -> DeviceName {
    let mut name = DeviceName::default();
    let (start, is_longer) = element.as_ref().map_or((&b"~"[..], false), |device| {
        (device.name(), device.wildcard() && !is_first)
    });
    for (to, from) in name.iter_mut().zip(start) {
        *to = *from;
    }
    if let Some(next) = name.get_mut(start.len()).filter(|_| is_longer) {
        *next = b'~';
    }
    name
}

/// Returns whether `rule` matches each packet that `other` matches, wherever that holds.
///
/// Looks for one direction of `rule` that matches all packets of `other` as it is written, not for both
/// together.
pub fn covers(rule: &Rule, other: &Rule) -> bool {
    covers_either_way(rule, other)
        && match (rule.oneway(), other.oneway()) {
            (true, true) => covers_in(rule, other, Way::AsWritten),
            (true, false) => {
                covers_in(rule, other, Way::AsWritten) && covers_in(rule, other, Way::Answers)
            }
            (false, _) => {
                covers_in(rule, other, Way::AsWritten) || covers_in(rule, other, Way::Exchanged)
            }
        }
}

/// Returns whether the terms of `rule` that are not exchanged match all packets of `other`.
fn covers_either_way(rule: &Rule, other: &Rule) -> bool {
    let mut protocols = rule.protocols().peekable();
    let has = |number: u8| rule.protocols().any(|own| own == number);
    let is_within = |device: Device, own: Device| {
        own.mask() & !device.mask() == 0 && device.value() & own.mask() == own.value()
    };
    (rule.family().is_none() || rule.family() == other.family())
        && (protocols.peek().is_none()
            || other.protocols().next().is_some() && other.protocols().all(has))
        && covers_netns(rule.netns(), other.netns())
        && rule.fixed().covers(&other.fixed())
        && (rule.devices().next().is_none()
            || other.devices().next().is_some()
                && other
                    .devices()
                    .all(|device| rule.devices().any(|own| is_within(device, own))))
}

/// Returns whether `netns` has all namespaces of `other`.
fn covers_netns(netns: Netns, other: Netns) -> bool {
    match netns {
        Netns::Any => true,
        Netns::NotInit => matches!(other, Netns::NotInit | Netns::Only(_)),
        Netns::Init | Netns::Only(_) => netns == other,
    }
}

/// Which packets of a rule are to match which direction of another one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Those that it matches as it is written, the other as written.
    AsWritten,
    /// Those that it matches as it is written, the other exchanged.
    Exchanged,
    /// Those that it matches exchanged, the other as written.
    Answers,
}

/// Returns whether the terms of `rule` that are exchanged match all packets of `other` that way.
fn covers_in(rule: &Rule, other: &Rule, way: Way) -> bool {
    let knows_ports =
        other.source_ports().next().is_some() || other.destination_ports().next().is_some();
    if way == Way::AsWritten {
        return (rule.local().is_none() || rule.local() == other.local())
            && covers_addresses(rule.sources(), other.sources())
            && covers_addresses(rule.destinations(), other.destinations())
            && covers_ports(rule.source_ports(), other.source_ports(), knows_ports)
            && covers_ports(
                rule.destination_ports(),
                other.destination_ports(),
                knows_ports,
            )
            && covers_types(rule, other, way);
    }
    (rule.local().is_none() || rule.local() == other.local().map(Local::opposite))
        && covers_addresses(rule.sources(), other.destinations())
        && covers_addresses(rule.destinations(), other.sources())
        && covers_ports(rule.source_ports(), other.destination_ports(), knows_ports)
        && covers_ports(rule.destination_ports(), other.source_ports(), knows_ports)
        && covers_types(rule, other, way)
}

/// Returns whether `prefixes`, or none, leave no address of `others`, or of none, out.
fn covers_addresses(
    prefixes: impl Iterator<Item = Prefix> + Clone,
    others: impl Iterator<Item = Prefix> + Clone,
) -> bool {
    let ends = |prefix: Prefix| (prefix.value(), prefix.value() | !prefix.mask());
    covers_list(prefixes.map(ends), others.map(ends), Some((0, u128::MAX)))
}

/// Returns the same of ports. `are_known`: whether packets without ports are not among the others.
fn covers_ports(
    ports: impl Iterator<Item = Range<u16>> + Clone,
    others: impl Iterator<Item = Range<u16>> + Clone,
    are_known: bool,
) -> bool {
    let ends = |range: Range<u16>| (range.first().into(), range.last().into());
    let all = are_known.then_some((0, u16::MAX.into()));
    covers_list(ports.map(ends), others.map(ends), all)
}

/// Returns whether `parts`, sorted, or none, leave nothing of `others` out; of no others, nothing of `all`.
fn covers_list(
    parts: impl Iterator<Item = (u128, u128)> + Clone,
    mut others: impl Iterator<Item = (u128, u128)> + Clone,
    all: Option<(u128, u128)>,
) -> bool {
    if parts.clone().next().is_none() {
        return true;
    }
    match others.clone().next() {
        None => all.is_some_and(|all| cover(parts, all)),
        Some(_) => others.all(|other| cover(parts.clone(), other)),
    }
}

/// Returns whether the types of `rule`, or none, have all of `other` that way.
fn covers_types(rule: &Rule, other: &Rule, way: Way) -> bool {
    if other.icmp_types().next().is_none() {
        return rule.icmp_types().next().is_none();
    }
    let names_none = rule.icmp_types().next().is_none();
    let has = |icmp_type: u8| rule.icmp_types().any(|range| range.contains(icmp_type));
    let is_of_other = |family: &Family| other.family().is_none_or(|own| own == *family);
    let mut families = [Family::Ipv4, Family::Ipv6].into_iter().filter(is_of_other);
    families.all(|family| {
        let mut types = other
            .icmp_types()
            .flat_map(|range| range.first()..=range.last());
        types.all(|icmp_type| {
            // An error is matched by rules that name a type, and is never exchanged.
            if names_none {
                return way == Way::Answers || !is_error(family, Transport::IcmpType(icmp_type));
            }
            match (way, answering_type(family, icmp_type)) {
                (Way::AsWritten, _) => has(icmp_type),
                (_, Some(answer)) => has(answer),
                (Way::Exchanged, None) => false,
                (Way::Answers, None) => true,
            }
        })
    })
}
