// SPDX-License-Identifier: GPL-2.0

//! Flows: their keys and their hash.

use std::{
    collections::HashSet,
    hash::{
        DefaultHasher,
        Hasher as _, //
    },
};

use ctskip_pure::{
    flows::{
        hash::{
            siphash13,
            Hash,
            Hasher, //
        },
        key::{
            Direction,
            FlowKey, //
        },
    },
    packet::{
        conn::Tuple,
        header::{
            Key,
            Transport, //
        },
    },
    rule::Family,
};
use ctskip_testkit::world::key;
use proptest::prelude::*;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;

/// The flow of a packet that is no echo.
fn flow(key: &Key) -> Option<(FlowKey, Direction)> {
    FlowKey::new(key, || panic!("not asked for"))
}

/// The packet the other way.
fn answer(key: &Key) -> Key {
    Key {
        source: key.destination,
        destination: key.source,
        transport: match key.transport {
            Transport::Ports(source, destination) => Transport::Ports(destination, source),
            Transport::IcmpType(0) => Transport::IcmpType(8),
            Transport::IcmpType(8) => Transport::IcmpType(0),
            Transport::IcmpType(128) => Transport::IcmpType(129),
            Transport::IcmpType(129) => Transport::IcmpType(128),
            other => other,
        },
        ..*key
    }
}

#[test]
fn a_packet_and_its_answer_are_of_one_flow() {
    let pairs = [
        ("10.0.0.1", "10.0.0.2"),
        ("10.0.0.200", "9.255.255.255"),
        ("255.255.255.255", "0.0.0.0"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8::1", "2001:db8::2"),
        ("ffff::", "::ffff"),
        ("::1", "::1"),
    ];
    let mut flows = HashSet::new();
    for (source, destination) in pairs {
        for protocol in [TCP, UDP, SCTP] {
            for ports in [(4000, 53), (53, 4000), (0, 0xffff)] {
                let sent = key(
                    protocol,
                    source,
                    destination,
                    Transport::Ports(ports.0, ports.1),
                );
                let (one, direction) = flow(&sent).unwrap();
                let (other, back) = flow(&answer(&sent)).unwrap();
                assert_eq!(one, other, "{sent:?}");
                assert_eq!(back, direction.opposite(), "{sent:?}");
                flows.insert(one);
            }
        }
    }
    // Of equal addresses, (4000, 53) and (53, 4000) are one flow.
    assert_eq!(flows.len(), 3 * (5 * 3 + 2 * 2));
}

/// An end is the higher one by its address first.
#[test]
fn directions() {
    for (source, destination, ports, direction) in [
        ("10.0.0.1", "10.0.0.2", (9, 1), Direction::Up),
        ("10.0.0.2", "10.0.0.1", (1, 9), Direction::Down),
        ("10.0.0.1", "10.0.0.1", (1, 9), Direction::Up),
        ("10.0.0.1", "10.0.0.1", (9, 1), Direction::Down),
        ("10.0.0.1", "10.0.0.1", (9, 9), Direction::Up),
        ("2001:db8::1", "2001:db8::2", (9, 1), Direction::Up),
        ("2001:db8::2", "2001:db8::1", (1, 9), Direction::Down),
        ("2001:db8::2", "2001:db8::2", (1, 9), Direction::Up),
        ("2001:db8::2", "2001:db8::2", (9, 1), Direction::Down),
    ] {
        let sent = key(UDP, source, destination, Transport::Ports(ports.0, ports.1));
        assert_eq!(flow(&sent).unwrap().1, direction, "{sent:?}");
    }
}

/// Ports belong to their addresses.
#[test]
fn exchanged_ports_are_another_flow() {
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
        let one = key(UDP, a, b, Transport::Ports(4000, 53));
        let other = key(UDP, a, b, Transport::Ports(53, 4000));
        assert_ne!(flow(&one).unwrap().0, flow(&other).unwrap().0);
    }
}

#[test]
fn echoes_are_of_one_flow_by_their_identifier() {
    for (protocol, a, b, types) in [
        (ICMP, "10.0.0.1", "10.0.0.2", [8, 0]),
        (ICMP6, "2001:db8::2", "2001:db8::1", [128, 129]),
    ] {
        let [request, reply] = types;
        let sent = key(protocol, a, b, Transport::IcmpType(request));
        let back = key(protocol, b, a, Transport::IcmpType(reply));
        let (one, direction) = FlowKey::new(&sent, || Some(7)).unwrap();
        assert_eq!(
            FlowKey::new(&back, || Some(7)),
            Some((one, direction.opposite()))
        );
        assert_ne!(FlowKey::new(&sent, || Some(8)).unwrap().0, one);
        assert_eq!(FlowKey::new(&sent, || None), None);
        // Not the flow of a protocol with these ports.
        let ports = key(UDP, a, b, Transport::Ports(7, 7));
        assert_ne!(flow(&ports).unwrap().0, one);
    }
}

#[test]
fn what_has_no_ports_has_no_key() {
    for icmp_type in 0..=255 {
        let transport = Transport::IcmpType(icmp_type);
        if !matches!(icmp_type, 0 | 8) {
            assert_eq!(flow(&key(ICMP, "10.0.0.1", "10.0.0.2", transport)), None);
        }
        if !matches!(icmp_type, 128 | 129) {
            assert_eq!(
                flow(&key(ICMP6, "2001:db8::1", "2001:db8::2", transport)),
                None
            );
        }
    }
    for protocol in [TCP, UDP, ICMP, 47, 50] {
        let unknown = key(protocol, "10.0.0.1", "10.0.0.2", Transport::Unknown);
        assert_eq!(flow(&unknown), None);
    }
}

#[test]
fn keys_of_entries_are_those_of_their_packets() {
    let mut source = [0; 16];
    source[..4].copy_from_slice(&[10, 0, 0, 2]);
    let mut destination = [0; 16];
    destination[..4].copy_from_slice(&[10, 0, 0, 1]);
    let datagram = Tuple {
        family: Family::Ipv4,
        protocol: UDP,
        source,
        destination,
        source_port: [0x0f, 0xa0],
        destination_port: [0, 53],
    };
    let sent = key(UDP, "10.0.0.2", "10.0.0.1", Transport::Ports(4000, 53));
    assert_eq!(FlowKey::of_tuple(&datagram), flow(&sent));

    // The identifier stands where the source port does, type and code where the destination port does.
    for icmp_type in [0, 8, 13] {
        let message = Tuple {
            protocol: ICMP,
            destination_port: [icmp_type, 0],
            ..datagram
        };
        let sent = key(ICMP, "10.0.0.2", "10.0.0.1", Transport::IcmpType(icmp_type));
        let expected = FlowKey::new(&sent, || Some(4000));
        assert_eq!(FlowKey::of_tuple(&message), expected);
        assert_eq!(expected.is_some(), icmp_type != 13);
    }
    let other = Tuple {
        protocol: 47,
        ..datagram
    };
    assert_eq!(FlowKey::of_tuple(&other), None);
}

/// The seed 00 01 .. 0f.
fn seed() -> [u8; 16] {
    std::array::from_fn(|at| at as u8)
}

/// The eight bytes from `first` on, each one more than the one before.
fn counted(first: u64) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|at| first as u8 + at as u8))
}

/// Vectors of the reference's SipHash-1-3: of the bytes 00 01 .. of that length, with the seed of these bytes.
/// These lengths are those of words and a tail.
#[test]
fn hashes_of_the_reference() {
    for (len, expected) in [
        (7, 0xd392_7d98_9bb1_1140),
        (15, 0xd320_d86d_2a51_9956),
        (23, 0x525a_0e7f_dae6_c123),
        (31, 0x2370_dd1f_8c21_d1bc),
        (39, 0x626b_5754_7b10_8392),
        (47, 0x49fb_169c_8b51_14fd),
        (55, 0xa27a_bf36_70a7_e980),
        (63, 0x9d19_9062_b7bb_b3a8),
    ] {
        let words: Vec<u64> = (0..len / 8).map(|at| counted(at * 8)).collect();
        // The eighth byte does not count.
        let tail = counted(len / 8 * 8);
        let hash = siphash13(seed(), &words, tail);
        assert_eq!(hash, expected, "{len}");
    }
}

/// What the hash of a packet of that namespace is made of: cookie, ends, protocol.
fn message(cookie: u64, sent: &Key) -> Vec<u8> {
    let mut message = cookie.to_le_bytes().to_vec();
    let (source_port, destination_port) = match sent.transport {
        Transport::Ports(source, destination) => (source, destination),
        _ => (7, 7),
    };
    let mut ends = [
        (sent.source, source_port),
        (sent.destination, destination_port),
    ];
    ends.sort();
    match sent.family {
        Family::Ipv4 => {
            let [low, high] = ends.map(|(address, port)| (address >> 80) as u64 | u64::from(port));
            message.extend(low.to_le_bytes());
            message.extend(&high.to_le_bytes()[..6]);
        }
        Family::Ipv6 => {
            let [(low, low_port), (high, high_port)] = ends;
            message.extend(low.to_le_bytes());
            message.extend(high.to_le_bytes());
            message.extend(high_port.to_le_bytes());
            message.extend(low_port.to_le_bytes());
            message.extend([0, 0]);
        }
    }
    message.push(sent.protocol);
    message
}

/// A packet of any flow.
fn packets() -> impl Strategy<Value = Key> {
    let sent = (
        any::<u128>(),
        any::<u128>(),
        any::<(u16, u16)>(),
        any::<bool>(),
    );
    (
        sent,
        proptest::sample::select(vec![TCP, UDP, SCTP, ICMP, ICMP6]),
    )
        .prop_map(|((source, destination, ports, is_ipv6), protocol)| {
            let (family, mask, icmp_type) = match is_ipv6 {
                false => (Family::Ipv4, !(u128::MAX >> 32), 8),
                true => (Family::Ipv6, u128::MAX, 128),
            };
            let (protocol, transport) = match (protocol, family) {
                (ICMP | ICMP6, Family::Ipv4) => (ICMP, Transport::IcmpType(icmp_type)),
                (ICMP | ICMP6, Family::Ipv6) => (ICMP6, Transport::IcmpType(icmp_type)),
                _ => (protocol, Transport::Ports(ports.0, ports.1)),
            };
            Key {
                family,
                source: source & mask,
                destination: destination & mask,
                ..key(protocol, "10.0.0.1", "10.0.0.2", transport)
            }
        })
}

proptest! {
    /// The standard library's hasher is SipHash-1-3 with the seed 0.
    #[test]
    fn hashes_of_the_standard_library(sent in packets(), cookie in any::<u64>()) {
        let (flow, _) = FlowKey::new(&sent, || Some(7)).unwrap();
        let mut library = DefaultHasher::new();
        library.write(&message(cookie, &sent));
        let hash = Hasher::new([0; 16], cookie).hash(&flow);
        prop_assert_eq!(hash, Hash::new(library.finish()));
        let back = FlowKey::new(&answer(&sent), || Some(7)).unwrap().0;
        prop_assert_eq!(flow, back);
        prop_assert_ne!(hash, Hasher::new([0; 16], cookie ^ 1).hash(&flow));
        prop_assert_ne!(hash, Hasher::new(seed(), cookie).hash(&flow));
    }
}

#[test]
fn a_tag_is_never_that_of_a_free_word() {
    for bits in [0, 1, 0xffff, 1 << 16, u64::MAX] {
        let hash = Hash::new(bits);
        assert_ne!(hash.tag(), 0, "{bits:#x}");
        assert_eq!(hash.bits() & 0xffff, bits & 0xffff);
    }
    assert_eq!(Hash::new(0x1234_5678).bits(), 0x1234_5678);
}
