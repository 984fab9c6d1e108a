// SPDX-License-Identifier: GPL-2.0

//! The key of a flow: what all of its packets have in common, in both directions.
//!
//! Both ends are sorted, so that a packet and its answer have one key. Where conntrack tells flows apart by
//! what is read here in part only, or not at all, there is no key: such flows are left to conntrack.

use crate::pure::{
    packet::{
        conn::Tuple,
        header::{
            self,
            is_echo,
            Transport, //
        },
    },
    rule::Family, //
};

/// The direction of a packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lower end to the higher one. So are all packets of a flow whose ends are equal.
    Up,
    /// From the higher end to the lower one.
    Down,
}

impl Direction {
    /// Returns the direction of a packet, by whether it comes from the higher end.
    #[inline(always)]
    pub(super) const fn new(is_down: bool) -> Self {
        match is_down {
            false => Self::Up,
            true => Self::Down,
        }
    }

    /// Returns the other direction.
    pub const fn opposite(self) -> Self {
        Self::new(matches!(self, Self::Up))
    }
}

/// The key of a flow.
///
/// An end is an address and a port; both ports of an ICMP echo are its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The ends.
    pub(super) ends: Ends,
    /// The protocol.
    pub(super) protocol: u8,
}

/// The ends of a flow, the lower one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ends {
    /// IPv4: in each 48 bits, the address above the port.
    Ipv4([u64; 2]),
    /// IPv6: the addresses, and the ports in the same order.
    Ipv6([u128; 2], [u16; 2]),
}

impl FlowKey {
    /// Returns the key of a packet's flow, and the packet's direction; [`None`] where it has none.
    ///
    /// Those with a key have ports, or are an ICMP echo. `identifier` reads the identifier of such an echo
    /// ([`header::echo_identifier`], [`header::quoted_echo_identifier`]).
    ///
    /// Of an ICMP error, the flow is that of the packet that it quotes: `packet` is then the key of that.
    #[inline(always)]
    pub fn new(
        packet: &header::Key,
        identifier: impl FnOnce() -> Option<u16>,
    ) -> Option<(Self, Direction)> {
        let (source_port, destination_port) = match packet.transport {
            Transport::Ports(source, destination) => (source, destination),
            transport if is_echo(packet.family, transport) => {
                let identifier = identifier()?;
                (identifier, identifier)
            }
            _ => return None,
        };
        let (ends, is_down) = match packet.family {
            Family::Ipv4 => {
                // The address is in the top 32 bits.
                let end = |address: u128, port: u16| (address >> 80) as u64 | u64::from(port);
                let source = end(packet.source, source_port);
                let destination = end(packet.destination, destination_port);
                let is_down = source > destination;
                let ends = match is_down {
                    false => [source, destination],
                    true => [destination, source],
                };
                (Ends::Ipv4(ends), is_down)
            }
            Family::Ipv6 => {
                let source = (packet.source, source_port);
                let destination = (packet.destination, destination_port);
                let is_down = source > destination;
                let (low, high) = match is_down {
                    false => (source, destination),
                    true => (destination, source),
                };
                (Ends::Ipv6([low.0, high.0], [low.1, high.1]), is_down)
            }
        };
        let key = Self {
            ends,
            protocol: packet.protocol,
        };
        Some((key, Direction::new(is_down)))
    }

    /// Returns the key of the flow that has this direction of a conntrack entry, and that direction.
    ///
    /// It is what [`Self::new()`] returns of a packet of that direction.
    pub fn of_tuple(tuple: &Tuple) -> Option<(Self, Direction)> {
        Self::new(&tuple.key(), || Some(u16::from_be_bytes(tuple.source_port)))
    }
}
