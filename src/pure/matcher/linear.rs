// SPDX-License-Identifier: GPL-2.0

//! The linear table: a few rules, for packets of IPv4 with ports, as most packets are.
//!
//! Where few rules hold, a packet is compared with each of them sooner than it is told which of them
//! to compare it with. What is compared are two words under a mask each. Rules that say more than
//! these hold, and other packets, are left to [`Ruleset::lookup`].

use crate::pure::{
    matcher::{
        cost::{
            LINEAR_ROWS,
            LINEAR_RULES, //
        },
        ruleset::Ruleset,
        scope::Scope,
        words::fixed_bits, //
    },
    packet::{
        ends::Ends,
        header::{
            Key,
            Transport, //
        },
    },
    rule::{
        protocol,
        Family,
        Local,
        Prefix,
        Range, //
    },
    table::Entry, //
};

/// A row, which a packet of IPv4 with ports is compared with: a rule in one direction.
struct LinearRow<S> {
    /// Source and destination.
    addresses: u64,
    address_bits: u64,
    /// See [`rest`].
    rest: u64,
    rest_bits: u64,
    /// The end of the packet that must be an address of its namespace.
    local: Option<Local>,
    /// `None` ends the rows, and matches all.
    entry: Option<Entry<S>>,
}

/// Protocol, source port and destination port.
#[inline(always)]
fn rest(protocol: u8, source_port: u16, destination_port: u16) -> u64 {
    u64::from(protocol) << 32 | (u64::from(source_port) << 16 | u64::from(destination_port))
}

/// Source and destination, each of the top bits of an address.
#[inline(always)]
fn addresses(source: u128, destination: u128) -> u64 {
    let half = |address: u128| (address >> 96) as u64;
    half(source) << 32 | half(destination)
}

/// The rows, in the order of the rules.
///
/// The last row is always an end: so a search needs no length.
struct RowList<S>([LinearRow<S>; LINEAR_ROWS + 1]);

impl<S> RowList<S> {
    fn new() -> Self {
        Self(core::array::from_fn(|_| LinearRow {
            addresses: 0,
            address_bits: 0,
            rest: 0,
            rest_bits: 0,
            local: None,
            entry: None,
        }))
    }

    /// Appends `row`; [`None`] where there is no room.
    fn push(&mut self, row: LinearRow<S>) -> Option<()> {
        let mut free = self.0.iter_mut().take(LINEAR_ROWS);
        *free.find(|row| row.entry.is_none())? = row;
        Some(())
    }
}

/// A few rules that hold in one scope.
pub struct LinearTable<S>(RowList<S>);

/// A packet that these rules are not made for.
pub struct Unsupported;

impl<S: Clone> LinearTable<S> {
    /// Returns a table of no rules.
    pub fn empty() -> Self {
        Self(RowList::new())
    }

    /// Returns the rules of `ruleset` that hold in `scope`; [`None`] where they are too many, or specify more
    /// than a row can.
    pub fn build(ruleset: &Ruleset<S>, scope: Scope) -> Option<Self> {
        let entries = ruleset.table().entries();
        if entries.len() > LINEAR_RULES {
            return None;
        }
        let mut table = Self::empty();
        for entry in entries {
            if ruleset.holds_in(scope, entry.rule().netns()) {
                table.push(entry)?;
            }
        }
        Some(table)
    }

    /// Appends a rule; [`None`] where there is no room, or where it specifies more than a row can.
    fn push(&mut self, entry: &Entry<S>) -> Option<()> {
        let rule = entry.rule();
        if fixed_bits(rule).1 != 0 || rule.devices().next().is_some() {
            return None;
        }
        if rule.family() == Some(Family::Ipv6) || rule.icmp_types().next().is_some() {
            return Some(());
        }
        for protocol in or_any(rule.protocols()) {
            // Rules for other protocols match no packet with ports.
            if !protocol.is_none_or(protocol::has_ports) {
                continue;
            }
            for source in or_any(rule.sources()) {
                for destination in or_any(rule.destinations()) {
                    for source_port in or_any(rule.source_ports()) {
                        for destination_port in or_any(rule.destination_ports()) {
                            let source = (bits(source), port_bits(source_port)?);
                            let destination = (bits(destination), port_bits(destination_port)?);
                            self.0.push(LinearRow {
                                local: rule.local(),
                                ..row(entry, protocol, source, destination)
                            })?;
                            if !rule.oneway() {
                                self.0.push(LinearRow {
                                    local: rule.local().map(Local::opposite),
                                    ..row(entry, protocol, destination, source)
                                })?;
                            }
                        }
                    }
                }
            }
        }
        Some(())
    }
}

impl<S> LinearTable<S> {
    /// Returns the first rule that matches `key`, whose ends are `ends`: asked for only if `LOCAL`, which
    /// must be true where a rule says `local=`. Any context.
    ///
    /// Fails for a packet that the table is not made for: [`Ruleset::lookup`] finds its rule.
    #[inline(always)]
    pub fn first_match<const LOCAL: bool>(
        &self,
        key: &Key,
        ends: impl Ends,
    ) -> Result<Option<&Entry<S>>, Unsupported> {
        let (Family::Ipv4, Transport::Ports(source, destination)) = (key.family, key.transport)
        else {
            return Err(Unsupported);
        };
        let Self(RowList(rows)) = self;
        let addresses = addresses(key.source, key.destination);
        let rest = rest(key.protocol, source, destination);
        let found = rows.iter().find(|row| {
            (addresses ^ row.addresses) & row.address_bits == 0
                && (rest ^ row.rest) & row.rest_bits == 0
                && (!LOCAL || row.local.is_none_or(|end| ends.is_local(end)))
        });
        Ok(found.and_then(|row| row.entry.as_ref()))
    }
}

/// Returns all of `values`, or [`None`] once where there are none.
fn or_any<T>(values: impl Iterator<Item = T> + Clone) -> impl Iterator<Item = Option<T>> {
    let any = values.clone().next().is_none().then_some(None);
    values.map(Some).chain(any)
}

/// A value, and the bits of it that decide.
type ValueAndMask<T> = (T, T);

fn bits(prefix: Option<Prefix>) -> ValueAndMask<u128> {
    prefix.map_or((0, 0), |prefix| (prefix.value(), prefix.mask()))
}

/// Returns the bits that all ports of a range have in common; [`None`] where another port has them, too.
fn port_bits(range: Option<Range<u16>>) -> Option<ValueAndMask<u16>> {
    let Some(range) = range else {
        return Some((0, 0));
    };
    let differ = range.first() ^ range.last();
    let free = u16::MAX.checked_shr(differ.leading_zeros()).unwrap_or(0);
    (range.first() & free == 0 && range.last() & free == free).then_some((range.first(), !free))
}

fn row<S: Clone>(
    entry: &Entry<S>,
    protocol: Option<u8>,
    (source, source_port): (ValueAndMask<u128>, ValueAndMask<u16>),
    (destination, destination_port): (ValueAndMask<u128>, ValueAndMask<u16>),
) -> LinearRow<S> {
    let protocol_bits = protocol.map_or(0, |_| u8::MAX);
    LinearRow {
        addresses: addresses(source.0, destination.0),
        address_bits: addresses(source.1, destination.1),
        rest: rest(protocol.unwrap_or(0), source_port.0, destination_port.0),
        rest_bits: rest(protocol_bits, source_port.1, destination_port.1),
        local: None,
        entry: Some(entry.clone()),
    }
}
