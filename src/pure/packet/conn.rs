// SPDX-License-Identifier: GPL-2.0

//! A conntrack entry, as far as a purge looks at it: its two directions as keys, and what else uses it.

use crate::pure::{
    packet::header::{
        Key,
        Transport, //
    },
    rule::{
        protocol,
        DeviceName,
        Family,
        Fixed, //
    },
};

/// One direction of an entry: what its packets have in common when they come to the hooks.
///
/// All bytes are as in a packet. C: `struct nf_conntrack_tuple`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// The family.
    pub family: Family,
    /// The protocol behind IPv6 extension headers.
    pub protocol: u8,
    /// The source; an IPv4 address in the first four bytes.
    pub source: [u8; 16],
    /// The destination, likewise.
    pub destination: [u8; 16],
    /// The source port.
    pub source_port: [u8; 2],
    /// The destination port, or type and code of ICMP.
    pub destination_port: [u8; 2],
}

impl Tuple {
    /// Returns the key of a packet of this direction, in as far as the entry tells it.
    ///
    /// Rules whose terms an entry does not tell are not to be compared with it: see
    /// [`Rule::without_untold()`](crate::pure::rule::Rule::without_untold).
    pub fn key(&self) -> Key {
        let bits = match self.family {
            Family::Ipv4 => !(u128::MAX >> 32),
            Family::Ipv6 => u128::MAX,
        };
        let [icmp_type, _] = self.destination_port;
        Key {
            family: self.family,
            protocol: self.protocol,
            source: u128::from_be_bytes(self.source) & bits,
            destination: u128::from_be_bytes(self.destination) & bits,
            // As `transport()` of `header.rs` reads it.
            transport: match (self.family, self.protocol) {
                (_, number) if protocol::has_ports(number) => Transport::Ports(
                    u16::from_be_bytes(self.source_port),
                    u16::from_be_bytes(self.destination_port),
                ),
                (Family::Ipv4, protocol::ICMP) | (Family::Ipv6, protocol::ICMP6) => {
                    Transport::IcmpType(icmp_type)
                }
                _ => Transport::Unknown,
            },
            // Conntrack makes no entry of an error: that belongs to the entry of the packet that it quotes.
            error: false,
            device: DeviceName::default(),
            fixed: Fixed::default(),
        }
    }
}

/// What uses an entry, besides the packets of its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Addresses, ports or sequence numbers are translated. C: `IPS_NAT_MASK`, `IPS_SEQ_ADJUST`.
    pub translated: bool,
    /// Another flow has made a helper expect this one. C: `IPS_EXPECTED`.
    pub expected: bool,
    /// A helper reads the flow. C: `struct nf_conn_help`.
    pub helped: bool,
    /// A flowtable handles the flow. C: `IPS_OFFLOAD`, `IPS_HW_OFFLOAD`.
    pub offloaded: bool,
    /// Somebody has set its mark.
    pub marked: bool,
    /// Somebody has set a label.
    pub labelled: bool,
    /// Its packets had a template, which gave it a zone, timeouts or a choice of events; or act_ct or Open
    /// vSwitch has made it.
    pub templated: bool,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn {
    /// The direction of the first packet.
    pub original: Tuple,
    /// The direction of the answers.
    pub reply: Tuple,
    /// What uses it.
    pub uses: Uses,
}

/// Why an entry is kept that rules cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// See [`Uses::translated`].
    Translated,
    /// See [`Uses::expected`].
    Expected,
    /// See [`Uses::helped`].
    Helped,
    /// See [`Uses::offloaded`].
    Offloaded,
    /// See [`Uses::marked`].
    Marked,
    /// See [`Uses::labelled`].
    Labelled,
    /// See [`Uses::templated`].
    Templated,
    /// The entry does not tell whether all of its packets are skipped.
    Unsure,
}

impl Kept {
    /// All of them, in the order of their numbers: the first one that holds counts.
    pub const ALL: [Self; 8] = [
        Self::Translated,
        Self::Expected,
        Self::Helped,
        Self::Offloaded,
        Self::Marked,
        Self::Labelled,
        Self::Templated,
        Self::Unsure,
    ];

    /// The number of them.
    pub const COUNT: usize = Self::ALL.len();

    /// Returns the name in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::Expected => "expected",
            Self::Helped => "helped",
            Self::Offloaded => "offloaded",
            Self::Marked => "marked",
            Self::Labelled => "labelled",
            Self::Templated => "templated",
            Self::Unsure => "unsure",
        }
    }

    /// Returns why an entry of these uses is kept, whatever rules say; [`None`] where nothing keeps it.
    pub fn of(uses: Uses) -> Option<Self> {
        Self::ALL.into_iter().find(|kept| match kept {
            Self::Translated => uses.translated,
            Self::Expected => uses.expected,
            Self::Helped => uses.helped,
            Self::Offloaded => uses.offloaded,
            Self::Marked => uses.marked,
            Self::Labelled => uses.labelled,
            Self::Templated => uses.templated,
            Self::Unsure => false,
        })
    }
}

/// What a purge has done, or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// The number of entries that were deleted.
    pub deleted: u64,
    /// The numbers of those that were kept, by the number of the reason.
    kept: [u64; Kept::COUNT],
}

impl Purged {
    /// Counts an entry that was kept.
    pub fn keep(&mut self, why: Kept) {
        if let Some(count) = self.kept.get_mut(why as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Returns how many entries were kept for that reason.
    pub fn kept(&self, why: Kept) -> u64 {
        self.kept.get(why as usize).copied().unwrap_or(0)
    }

    /// Adds what another purge has done.
    pub fn add(&mut self, other: &Self) {
        self.deleted = self.deleted.saturating_add(other.deleted);
        for (sum, count) in self.kept.iter_mut().zip(other.kept) {
            *sum = sum.saturating_add(count);
        }
    }
}
