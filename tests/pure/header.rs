// SPDX-License-Identifier: GPL-2.0

//! Headers dissected: packets made byte by byte, and what is read of them.

use std::{
    cell::RefCell,
    net::IpAddr, //
};

use ctskip_pure::{
    packet::header::{
        device_name,
        dissect,
        dissect_plain,
        echo_identifier,
        quoted,
        quoted_echo_identifier,
        Bytes,
        Context,
        Key,
        Needs,
        Transport, //
    },
    rule::{
        Family,
        Fixed,
        FixedField, //
    },
};
use proptest::{
    collection::vec,
    prelude::*, //
};

use ctskip_testkit::world::{
    device,
    number, //
};

use super::Packet;

const A: &str = "192.0.2.1";
const B: &str = "198.51.100.2";
const A6: &str = "2001:db8::1";
const B6: &str = "2001:db8:ffff::2";

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AH: u8 = 51;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const NONE: u8 = 59;
const DESTINATION: u8 = 60;
const SCTP: u8 = 132;

/// An address's bytes.
fn octets(address: &str) -> Vec<u8> {
    match address.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An IPv4 packet: `fragment` is the field of flags and offset.
fn ipv4(
    protocol: u8,
    fragment: u16,
    options: &[u8],
    (source, destination): (&str, &str),
    payload: &[u8],
) -> Vec<u8> {
    assert!(options.len() % 4 == 0 && options.len() <= 40);
    let ihl = u8::try_from(5 + options.len() / 4).unwrap();
    let total = u16::try_from(20 + options.len() + payload.len())
        .unwrap()
        .to_be_bytes();
    let [f0, f1] = fragment.to_be_bytes();
    let mut bytes = vec![
        0x40 | ihl,
        0,
        total[0],
        total[1],
        0x12,
        0x34,
        f0,
        f1,
        64,
        protocol,
        0,
        0,
    ];
    bytes.extend(octets(source));
    bytes.extend(octets(destination));
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

/// An IPv6 packet whose payload starts with a header of type `next`.
fn ipv6(next: u8, (source, destination): (&str, &str), payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![0x60, 0, 0, 0, l0, l1, next, 64];
    bytes.extend(octets(source));
    bytes.extend(octets(destination));
    bytes.extend(payload);
    bytes
}

/// The flags of TCP in [`ports`]: SYN and CWR.
const FLAGS: u8 = 0x82;

/// A header of ports, and what follows them as of TCP up to its flags.
fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut bytes = source.to_be_bytes().to_vec();
    bytes.extend(destination.to_be_bytes());
    bytes.extend([0, 12, 0, 0, 1, 2, 3, 4, 0x50, FLAGS]);
    bytes
}

/// An ICMP or ICMPv6 message.
fn icmp(icmp_type: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![icmp_type, 1, 0, 0, 0, 0, 5, 220];
    bytes.extend(body);
    bytes
}

/// Extension headers in front of `payload`, the first of type `types[0]`, the last one followed by
/// a header of type `next`: each is as long as its own length field says.
fn chain(types: &[u8], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, kind) in types.iter().enumerate() {
        let following = types.get(i + 1).copied().unwrap_or(next);
        let len_field = u8::try_from(i % 3).unwrap();
        let (len_field, len) = match *kind {
            FRAGMENT => (0, 8),
            // In units of 4 bytes, less two.
            AH => (len_field + 4, 4 * (usize::from(len_field) + 6)),
            // In units of 8 bytes, less one.
            _ => (len_field, 8 * (usize::from(len_field) + 1)),
        };
        let mut header = vec![0; len];
        header[0] = following;
        header[1] = len_field;
        bytes.extend(header);
    }
    bytes.extend(payload);
    bytes
}

fn context(family: Family) -> Context {
    Context {
        family,
        device: device("eth7"),
        mark: 77,
        icmp_errors: true,
        needs: Needs::DEVICE,
    }
}

/// All that is read of a packet.
fn read(bytes: &(impl Bytes + ?Sized), context: &Context) -> Option<Packet> {
    let plain = dissect_plain(bytes, context);
    let key = dissect(bytes, context);
    assert!(plain.is_none() || plain == key);
    let key = key?;
    let quoted = key.error.then(|| quoted(bytes, &key)).flatten();
    Some(Packet { key, quoted })
}

fn read4(bytes: &[u8]) -> Option<Packet> {
    read(bytes, &context(Family::Ipv4))
}

fn read6(bytes: &[u8]) -> Option<Packet> {
    read(bytes, &context(Family::Ipv6))
}

/// The key of a packet that is no error, from A to B.
fn key4(protocol: u8, transport: Transport) -> Key {
    Key {
        family: Family::Ipv4,
        protocol,
        source: number(A),
        destination: number(B),
        transport,
        error: false,
        device: device("eth7"),
        fixed: Fixed::new(77),
    }
}

fn key6(protocol: u8, transport: Transport) -> Key {
    Key {
        family: Family::Ipv6,
        source: number(A6),
        destination: number(B6),
        ..key4(protocol, transport)
    }
}

/// What is read of a packet that quotes none.
fn plain(key: Key) -> Option<Packet> {
    Some(Packet { key, quoted: None })
}

/// The name of a device ends at its first NUL, whatever lies behind.
#[test]
fn names_of_devices() {
    let words = |bytes: &[u8; 16]| {
        let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        device_name([word(0), word(8)])
    };
    // Bytes that a borrow could come from or go to.
    for (byte, rest) in [
        (b'a', 0),
        (b'a', b'b'),
        (b'a', 1),
        (0x80, 0xff),
        (0xff, 0x80),
    ] {
        for len in 0..=16 {
            let mut name = [rest; 16];
            name[..len].fill(byte);
            if let Some(nul) = name.get_mut(len) {
                *nul = 0;
            }
            let mut expected = [0; 16];
            expected[..len].fill(byte);
            assert_eq!(words(&name), expected, "{byte} {rest} {len}");
        }
    }
}

/// What most packets are is read at one go, and nothing else is.
#[test]
fn plain_headers() {
    let v4 = |bytes: &[u8]| dissect_plain(bytes, &context(Family::Ipv4));
    let v6 = |bytes: &[u8]| dissect_plain(bytes, &context(Family::Ipv6));
    for protocol in [TCP, UDP, SCTP] {
        let transport = Transport::Ports(4000, 53);
        let bytes = ipv4(protocol, 0x4000, &[], (A, B), &ports(4000, 53));
        assert_eq!(v4(&bytes), Some(key4(protocol, transport)));
        let bytes = ipv6(protocol, (A6, B6), &ports(4000, 53));
        assert_eq!(v6(&bytes), Some(key6(protocol, transport)));
    }
    let udp = ports(4000, 53);
    for other in [
        ipv4(ICMP, 0, &[], (A, B), &icmp(8, &[])),
        ipv4(UDP, 0, &[1; 4], (A, B), &udp),
        ipv4(UDP, 185, &[], (A, B), &udp),
        ipv4(UDP, 0, &[], (A, B), &udp[..3]),
        ipv6(UDP, (A6, B6), &udp),
    ] {
        assert_eq!(v4(&other), None);
    }
    for other in [
        ipv6(ICMP6, (A6, B6), &icmp(128, &[])),
        ipv6(HOP_BY_HOP, (A6, B6), &chain(&[HOP_BY_HOP], UDP, &udp)),
        ipv6(UDP, (A6, B6), &udp[..3]),
    ] {
        assert_eq!(v6(&other), None);
    }
}

/// Flags are read of TCP only, where they are asked for and all bytes up to them are there; of a
/// quoted packet never.
#[test]
fn tcp_flags() {
    let asked = |family| Context {
        needs: Needs::ALL,
        ..context(family)
    };
    let asked4 = |bytes: &[u8]| read(bytes, &asked(Family::Ipv4)).unwrap();
    let flags_of = |key: &Key| key.fixed.get(FixedField::FLAGS);
    let syn = ports(4000, 53);
    let mut later = syn.clone();
    later[13] = 0x10;
    for (segment, flags) in [
        (&syn[..], Some(FLAGS.into())),
        (&later, Some(0x10)),
        (&syn[..13], None),
    ] {
        let options = ipv4(TCP, 0, &[1; 8], (A, B), segment);
        let plain4 = ipv4(TCP, 0, &[], (A, B), segment);
        let first_fragment = ipv4(TCP, 0x2000, &[], (A, B), segment);
        let plain6 = ipv6(TCP, (A6, B6), segment);
        let chained = ipv6(
            HOP_BY_HOP,
            (A6, B6),
            &chain(&[HOP_BY_HOP, FRAGMENT], TCP, segment),
        );
        for (family, bytes) in [
            (Family::Ipv4, options),
            (Family::Ipv4, plain4),
            (Family::Ipv4, first_fragment),
            (Family::Ipv6, plain6),
            (Family::Ipv6, chained),
        ] {
            let key = |context| read(&bytes[..], &context).unwrap().key;
            assert_eq!(flags_of(&key(asked(family))), flags);
            assert_eq!(key(asked(family)).transport, Transport::Ports(4000, 53));
            assert_eq!(flags_of(&key(context(family))), None);
        }
    }
    let later_fragment = ipv4(TCP, 2, &[], (A, B), &syn);
    assert_eq!(flags_of(&asked4(&later_fragment).key), None);
    for protocol in [UDP, SCTP] {
        let bytes = ipv4(protocol, 0, &[], (A, B), &syn);
        assert_eq!(flags_of(&asked4(&bytes).key), None);
    }
    let sent = ipv4(TCP, 0, &[], (B, A), &syn);
    let error = asked4(&ipv4(ICMP, 0, &[], (A, B), &icmp(3, &sent)));
    assert_eq!(flags_of(&error.key), None);
    assert_eq!(flags_of(&error.quoted.unwrap()), None);
}

#[test]
fn ipv4_transports() {
    for protocol in [TCP, UDP, SCTP] {
        let bytes = ipv4(protocol, 0, &[], (A, B), &ports(4000, 53));
        assert_eq!(
            read4(&bytes),
            plain(key4(protocol, Transport::Ports(4000, 53)))
        );
    }
    let bytes = ipv4(ICMP, 0, &[], (A, B), &icmp(8, &[]));
    assert_eq!(read4(&bytes), plain(key4(ICMP, Transport::IcmpType(8))));
    // No ports, even if four bytes are there; ICMPv6 is none of IPv4's.
    for protocol in [0, 4, 47, ESP, AH, ICMP6, 136, 255] {
        let bytes = ipv4(protocol, 0, &[], (A, B), &ports(4000, 53));
        assert_eq!(
            read4(&bytes),
            plain(key4(protocol, Transport::Unknown)),
            "{protocol}"
        );
    }
}

#[test]
fn ipv4_options_are_skipped() {
    for words in 0..=10 {
        let bytes = ipv4(UDP, 0, &vec![1; words * 4], (A, B), &ports(4000, 53));
        assert_eq!(
            read4(&bytes),
            plain(key4(UDP, Transport::Ports(4000, 53))),
            "{words}"
        );
    }
}

#[test]
fn no_ip_header() {
    let good = ipv4(UDP, 0, &[], (A, B), &ports(4000, 53));
    for len in 0..20 {
        assert_eq!(read4(&good[..len]), None);
    }

    let good = ipv6(UDP, (A6, B6), &ports(4000, 53));
    for len in 0..40 {
        assert_eq!(read6(&good[..len]), None);
    }
}

/// Conntrack takes a raw socket's packet for one of the socket's family, whatever version it says.
#[test]
fn any_version() {
    let (ipv4, ipv6) = (
        ipv4(UDP, 0, &[], (A, B), &ports(4000, 53)),
        ipv6(UDP, (A6, B6), &ports(4000, 53)),
    );
    for version in 0..16 {
        let mut bytes = ipv4.clone();
        bytes[0] = version << 4 | 5;
        assert_eq!(read4(&bytes), read4(&ipv4), "{version}");
        // The rest of an IPv6 header's first byte belongs to the traffic class.
        let mut bytes = ipv6.clone();
        bytes[0] = version << 4 | 0xf;
        assert_eq!(read6(&bytes), read6(&ipv6), "{version}");
    }
}

/// Nor does it ask whether an IPv4 header ends where one can.
#[test]
fn ipv4_header_of_any_length() {
    let good = ipv4(UDP, 0, &[], (A, B), &ports(4000, 53));
    for ihl in 0..=15 {
        let mut bytes = good.clone();
        bytes[0] = 0x40 | ihl;
        let transport = match bytes.get(usize::from(ihl) * 4..) {
            Some([s0, s1, d0, d1, ..]) => {
                let port = |high: &u8, low: &u8| u16::from_be_bytes([*high, *low]);
                Transport::Ports(port(s0, s1), port(d0, d1))
            }
            _ => Transport::Unknown,
        };
        assert_eq!(read4(&bytes), plain(key4(UDP, transport)), "{ihl}");
    }
}

#[test]
fn ipv4_fragments() {
    const MORE: u16 = 0x2000;
    const DONT: u16 = 0x4000;
    for first in [0, MORE, DONT, MORE | DONT, 0x8000] {
        let bytes = ipv4(UDP, first, &[], (A, B), &ports(4000, 53));
        assert_eq!(
            read4(&bytes),
            plain(key4(UDP, Transport::Ports(4000, 53))),
            "{first:#x}"
        );
    }
    for later in [1, 185, MORE | 1, 0x1fff, 0x1000, 0x0100] {
        for (protocol, payload) in [
            (UDP, ports(4000, 53)),
            (ICMP, icmp(8, &[])),
            (ICMP, icmp(3, &[0; 60])),
        ] {
            let bytes = ipv4(protocol, later, &[], (A, B), &payload);
            assert_eq!(
                read4(&bytes),
                plain(key4(protocol, Transport::Unknown)),
                "{later:#x}"
            );
        }
    }
}

#[test]
fn cut_short() {
    for protocol in [TCP, UDP, SCTP] {
        for options in [0, 8] {
            let bytes = ipv4(protocol, 0, &vec![1; options], (A, B), &ports(4000, 53));
            let header = 20 + options;
            for len in 20..header + 4 {
                assert_eq!(
                    read4(&bytes[..len]),
                    plain(key4(protocol, Transport::Unknown)),
                    "{len}"
                );
            }
            // The ports are all that is needed.
            let whole = plain(key4(protocol, Transport::Ports(4000, 53)));
            assert_eq!(read4(&bytes[..header + 4]), whole);
        }
        let bytes = ipv6(protocol, (A6, B6), &ports(4000, 53));
        for len in 40..44 {
            assert_eq!(
                read6(&bytes[..len]),
                plain(key6(protocol, Transport::Unknown))
            );
        }
        assert_eq!(
            read6(&bytes[..44]),
            plain(key6(protocol, Transport::Ports(4000, 53)))
        );
    }
    let bytes = ipv4(ICMP, 0, &[], (A, B), &icmp(8, &[]));
    assert_eq!(read4(&bytes[..20]), plain(key4(ICMP, Transport::Unknown)));
    assert_eq!(
        read4(&bytes[..21]),
        plain(key4(ICMP, Transport::IcmpType(8)))
    );
}

#[test]
fn ipv6_transports() {
    for protocol in [TCP, UDP, SCTP] {
        let bytes = ipv6(protocol, (A6, B6), &ports(4000, 53));
        assert_eq!(
            read6(&bytes),
            plain(key6(protocol, Transport::Ports(4000, 53)))
        );
    }
    let bytes = ipv6(ICMP6, (A6, B6), &icmp(128, &[]));
    assert_eq!(read6(&bytes), plain(key6(ICMP6, Transport::IcmpType(128))));
    // ICMP is none of IPv6's.
    for protocol in [ICMP, 4, 47, ESP, 255] {
        let bytes = ipv6(protocol, (A6, B6), &icmp(8, &[]));
        assert_eq!(
            read6(&bytes),
            plain(key6(protocol, Transport::Unknown)),
            "{protocol}"
        );
    }
}

#[test]
fn ipv6_extension_headers_are_skipped() {
    let whole = plain(key6(UDP, Transport::Ports(4000, 53)));
    let chains: &[&[u8]] = &[
        &[HOP_BY_HOP],
        &[ROUTING],
        &[DESTINATION],
        &[AH],
        &[FRAGMENT],
        &[HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, AH, DESTINATION],
        &[AH, AH, AH],
        &[FRAGMENT, DESTINATION],
        &[DESTINATION; 12],
        &[AH; 12],
    ];
    for types in chains {
        let bytes = ipv6(types[0], (A6, B6), &chain(types, UDP, &ports(4000, 53)));
        assert_eq!(read6(&bytes), whole, "{types:?}");
        let bytes = ipv6(types[0], (A6, B6), &chain(types, ICMP6, &icmp(129, &[])));
        assert_eq!(
            read6(&bytes),
            plain(key6(ICMP6, Transport::IcmpType(129))),
            "{types:?}"
        );
        // Cut short ahead of the ports: still that protocol.
        let whole = ipv6(types[0], (A6, B6), &chain(types, UDP, &[0, 53]));
        assert_eq!(
            read6(&whole),
            plain(key6(UDP, Transport::Unknown)),
            "{types:?}"
        );
    }
    // The 13th is one too many, as for the kernel: what the packet is cannot be known.
    let bytes = ipv6(
        DESTINATION,
        (A6, B6),
        &chain(&[DESTINATION; 13], UDP, &ports(4000, 53)),
    );
    assert_eq!(read6(&bytes), None);
    let bytes = ipv6(DESTINATION, (A6, B6), &chain(&[DESTINATION; 12], NONE, &[]));
    assert_eq!(read6(&bytes), plain(key6(NONE, Transport::Unknown)));
    // Behind ESP nothing is read, and nothing follows `no next header`.
    let bytes = ipv6(
        DESTINATION,
        (A6, B6),
        &chain(&[DESTINATION], ESP, &ports(4000, 53)),
    );
    assert_eq!(read6(&bytes), plain(key6(ESP, Transport::Unknown)));
    for types in [&[NONE][..], &[HOP_BY_HOP, NONE]] {
        let bytes = ipv6(types[0], (A6, B6), &chain(types, UDP, &ports(4000, 53)));
        assert_eq!(read6(&bytes), plain(key6(NONE, Transport::Unknown)));
    }
}

#[test]
fn ipv6_extension_headers_cut_short() {
    for kind in [HOP_BY_HOP, ROUTING, DESTINATION, AH, FRAGMENT] {
        let bytes = ipv6(kind, (A6, B6), &chain(&[kind], UDP, &ports(4000, 53)));
        // Two bytes say what follows; whether it is a later fragment, the next two.
        let least = if kind == FRAGMENT { 44 } else { 42 };
        for len in 40..48 {
            let known = plain(key6(UDP, Transport::Unknown));
            let expected = if len < least { None } else { known };
            assert_eq!(read6(&bytes[..len]), expected, "{kind} {len}");
        }
        // Longer than the packet is.
        let mut bytes = ipv6(kind, (A6, B6), &chain(&[kind], UDP, &ports(4000, 53)));
        bytes[41] = 255;
        if kind != FRAGMENT {
            assert_eq!(
                read6(&bytes),
                plain(key6(UDP, Transport::Unknown)),
                "{kind}"
            );
        }
    }
}

#[test]
fn ipv6_fragments() {
    // The offset is the upper 13 bits of the field, the lowest one says that more follow.
    for (field, first) in [
        (0u16, true),
        (1, true),
        (6, true),
        (8, false),
        (9, false),
        (0x0100, false),
        (0xfff8, false),
    ] {
        for types in [&[FRAGMENT][..], &[HOP_BY_HOP, FRAGMENT]] {
            let mut bytes = ipv6(types[0], (A6, B6), &chain(types, UDP, &ports(4000, 53)));
            // The hop-by-hop header is of 8 bytes; the fragment header of the second chain too.
            let at = 40 + 8 * (types.len() - 1) + 2;
            bytes[at..at + 2].copy_from_slice(&field.to_be_bytes());
            // A fragment header has no length: the byte where others have it is reserved.
            bytes[at - 1] = 1;
            let transport = if first {
                Transport::Ports(4000, 53)
            } else {
                Transport::Unknown
            };
            assert_eq!(
                read6(&bytes),
                plain(key6(UDP, transport)),
                "{field:#x} {types:?}"
            );
        }
    }
}

/// A later fragment has no more than the type of the header that it starts with.
#[test]
fn ipv6_later_fragments_that_start_with_an_extension_header() {
    for (following, known) in [(UDP, true), (ESP, true), (DESTINATION, false), (AH, false)] {
        let mut bytes = ipv6(FRAGMENT, (A6, B6), &chain(&[FRAGMENT], following, &[7; 40]));
        bytes[42..44].copy_from_slice(&8u16.to_be_bytes());
        let expected = match known {
            true => plain(key6(following, Transport::Unknown)),
            false => None,
        };
        assert_eq!(read6(&bytes), expected, "{following}");
    }
}

/// The key of the packet from `source` to `destination` that an error to `source` quotes.
fn quoted4(protocol: u8, (source, destination): (&str, &str), transport: Transport) -> Key {
    Key {
        source: number(source),
        destination: number(destination),
        ..key4(protocol, transport)
    }
}

fn error4(icmp_type: u8) -> Key {
    Key {
        error: true,
        ..key4(ICMP, Transport::IcmpType(icmp_type))
    }
}

fn error6(icmp_type: u8) -> Key {
    Key {
        error: true,
        ..key6(ICMP6, Transport::IcmpType(icmp_type))
    }
}

/// Errors go from A, a router or host on the way, to B, who sent the packet that they quote.
#[test]
fn icmp_errors_quote_a_packet() {
    const FAR: &str = "203.0.113.3";
    let sent = ipv4(UDP, 0, &[], (B, FAR), &ports(4000, 53));
    let quoted = quoted4(UDP, (B, FAR), Transport::Ports(4000, 53));
    for icmp_type in 0..=255 {
        let bytes = ipv4(ICMP, 0, &[], (A, B), &icmp(icmp_type, &sent));
        let expected = match icmp_type {
            3 | 4 | 5 | 11 | 12 => Some(Packet {
                key: error4(icmp_type),
                quoted: Some(quoted),
            }),
            _ => plain(key4(ICMP, Transport::IcmpType(icmp_type))),
        };
        assert_eq!(read4(&bytes), expected, "{icmp_type}");
    }

    let far6 = "2001:db8:3::3";
    let sent = ipv6(TCP, (B6, far6), &ports(4000, 443));
    let quoted = Key {
        source: number(B6),
        destination: number(far6),
        ..key6(TCP, Transport::Ports(4000, 443))
    };
    for icmp_type in 0..=255 {
        let bytes = ipv6(ICMP6, (A6, B6), &icmp(icmp_type, &sent));
        let expected = match icmp_type {
            1..=4 => Some(Packet {
                key: error6(icmp_type),
                quoted: Some(quoted),
            }),
            // In a redirect it lies elsewhere.
            137 => plain(error6(icmp_type)),
            _ => plain(key6(ICMP6, Transport::IcmpType(icmp_type))),
        };
        assert_eq!(read6(&bytes), expected, "{icmp_type}");
    }
}

/// An ICMPv6 redirect quotes the packet in an option, as conntrack expects it to be: the first.
#[test]
fn icmpv6_redirects_quote_a_packet() {
    let sent = ipv6(UDP, (B6, "2001:db8:3::3"), &ports(4000, 53));
    let redirect = |option: &[u8]| {
        // Target and destination address come first.
        let mut body = vec![7; 32];
        body.extend(option);
        body.extend([0; 6]);
        body.extend(&sent);
        ipv6(ICMP6, (A6, B6), &icmp(137, &body))
    };
    let packet = read6(&redirect(&[4, 8])).unwrap();
    assert_eq!(packet.key, error6(137));
    let quoted = packet.quoted.as_ref().unwrap();
    assert_eq!(quoted.transport, Transport::Ports(4000, 53));
    assert_eq!(quoted.destination, number("2001:db8:3::3"));
    // Behind the target's link-layer address, as Linux writes it, and behind seven more options.
    let option = |kind, len: u8| {
        let mut option = vec![kind, len];
        option.extend(vec![9; usize::from(len) * 8 - 2]);
        option
    };
    for before in [
        option(2, 1),
        option(2, 3),
        option(1, 1).repeat(7), //
    ] {
        let options = [&before[..], &[4, 8]].concat();
        assert_eq!(read6(&redirect(&options)), Some(packet), "{before:?}");
    }
    // Too many, another option alone, and one without a length.
    let late = [&option(1, 1).repeat(8)[..], &[4, 8]].concat();
    for options in [
        &late[..],
        &option(2, 1),
        &[4, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0, 4, 8],
    ] {
        assert_eq!(read6(&redirect(options)), plain(error6(137)), "{options:?}");
    }
    let whole = redirect(&[4, 8]);
    for len in 41..whole.len() - ports(0, 0).len() {
        assert_eq!(read6(&whole[..len]), plain(error6(137)), "{len}");
    }
    // Not IPv4's.
    let bytes = ipv4(ICMP, 0, &[], (A, B), &icmp(137, &[]));
    assert_eq!(read4(&bytes), plain(key4(ICMP, Transport::IcmpType(137))));
}

/// Headers may have options, the error's and those that it quotes.
#[test]
fn quoted_packets_lie_behind_options() {
    let sent = ipv4(UDP, 0, &[1, 1, 1, 1], (B, A), &ports(4000, 53));
    let bytes = ipv4(ICMP, 0, &[1; 8], (A, B), &icmp(3, &sent));
    let quoted = quoted4(UDP, (B, A), Transport::Ports(4000, 53));
    assert_eq!(read4(&bytes).unwrap().quoted, Some(quoted));
}

#[test]
fn icmp_errors_can_be_left_alone() {
    let sent = ipv4(UDP, 0, &[], (B, A), &ports(4000, 53));
    let bytes = ipv4(ICMP, 0, &[], (A, B), &icmp(3, &sent));
    let context = Context {
        icmp_errors: false,
        ..context(Family::Ipv4)
    };
    assert_eq!(
        read(&bytes[..], &context),
        plain(key4(ICMP, Transport::IcmpType(3)))
    );
}

/// An error that is addressed to another than the one who sent what it quotes follows no flow.
#[test]
fn forged_errors_quote_nothing() {
    for source in [A, "198.51.100.3", "0.0.0.0"] {
        let sent = ipv4(UDP, 0, &[], (source, "203.0.113.3"), &ports(4000, 53));
        let bytes = ipv4(ICMP, 0, &[], (A, B), &icmp(3, &sent));
        assert_eq!(read4(&bytes), plain(error4(3)));
        // Not even where it quotes a packet to B.
        let sent = ipv4(UDP, 0, &[], (source, B), &ports(4000, 53));
        let bytes = ipv4(ICMP, 0, &[], (A, B), &icmp(3, &sent));
        assert_eq!(read4(&bytes), plain(error4(3)));
    }
    let sent = ipv6(UDP, ("2001:db8:ffff::3", A6), &ports(4000, 53));
    assert_eq!(
        read6(&ipv6(ICMP6, (A6, B6), &icmp(2, &sent))),
        plain(error6(2))
    );
}

#[test]
fn errors_about_errors_quote_nothing() {
    let sent = ipv4(ICMP, 0, &[], (B, A), &icmp(11, &[0; 28]));
    assert_eq!(
        read4(&ipv4(ICMP, 0, &[], (A, B), &icmp(3, &sent))),
        plain(error4(3))
    );
    // About an echo request, they do.
    let sent = ipv4(ICMP, 0, &[], (B, A), &icmp(8, &[]));
    let quoted = quoted4(ICMP, (B, A), Transport::IcmpType(8));
    let expected = Some(Packet {
        key: error4(3),
        quoted: Some(quoted),
    });
    assert_eq!(
        read4(&ipv4(ICMP, 0, &[], (A, B), &icmp(3, &sent))),
        expected
    );
    let sent = ipv6(ICMP6, (B6, A6), &icmp(1, &[0; 48]));
    assert_eq!(
        read6(&ipv6(ICMP6, (A6, B6), &icmp(2, &sent))),
        plain(error6(2))
    );
}

#[test]
fn quoted_packets_cut_short() {
    let sent = ipv4(TCP, 0, &[], (B, A), &ports(4000, 443));
    let bytes = ipv4(ICMP, 0, &[], (A, B), &icmp(11, &sent));
    for len in 21..48 {
        // Ahead of the end of the quoted IP header nothing can be told.
        assert_eq!(read4(&bytes[..len]), plain(error4(11)), "{len}");
    }
    for len in 48..52 {
        let quoted = Some(quoted4(TCP, (B, A), Transport::Unknown));
        assert_eq!(
            read4(&bytes[..len]),
            Some(Packet {
                key: error4(11),
                quoted
            }),
            "{len}"
        );
    }
    // RFC 792: eight bytes behind the header come along; four are needed.
    let quoted = Some(quoted4(TCP, (B, A), Transport::Ports(4000, 443)));
    assert_eq!(
        read4(&bytes[..52]),
        Some(Packet {
            key: error4(11),
            quoted
        })
    );

    // Here, too, the version is that of the family.
    let mut other = bytes.clone();
    other[28] = 0x65;
    assert_eq!(read4(&other), read4(&bytes));
}

#[test]
fn quoted_fragments_have_no_ports() {
    let sent = ipv4(UDP, 185, &[], (B, A), &ports(4000, 53));
    let quoted = Some(quoted4(UDP, (B, A), Transport::Unknown));
    let bytes = ipv4(ICMP, 0, &[], (A, B), &icmp(11, &sent));
    assert_eq!(
        read4(&bytes),
        Some(Packet {
            key: error4(11),
            quoted
        })
    );

    // The first of them has; and in IPv6 they lie behind the extension headers.
    let sent = ipv6(
        FRAGMENT,
        (B6, A6),
        &chain(&[FRAGMENT, DESTINATION], UDP, &ports(4000, 53)),
    );
    let packet = read6(&ipv6(
        HOP_BY_HOP,
        (A6, B6),
        &chain(&[HOP_BY_HOP], ICMP6, &icmp(2, &sent)),
    ))
    .unwrap();
    assert_eq!(packet.key, error6(2));
    assert_eq!(packet.quoted.unwrap().transport, Transport::Ports(4000, 53));
    assert_eq!(packet.quoted.unwrap().protocol, UDP);
}

/// Bytes that note where they were read.
struct Watched<'a> {
    bytes: &'a [u8],
    end: RefCell<usize>,
}

impl Bytes for Watched<'_> {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let read = self.bytes.read(offset);
        if read.is_some() {
            assert!(offset + N <= self.bytes.len());
            let mut end = self.end.borrow_mut();
            *end = (*end).max(offset + N);
        }
        read
    }
}

/// An ICMP message with that identifier.
fn echo(icmp_type: u8, identifier: u16) -> Vec<u8> {
    let mut bytes = icmp(icmp_type, &[]);
    bytes[4..6].copy_from_slice(&identifier.to_be_bytes());
    bytes
}

/// The identifier of a packet, and where it is an error, of what it quotes.
fn identifiers(bytes: &[u8], family: Family) -> (Option<u16>, Option<u16>) {
    let packet = read(bytes, &context(family)).unwrap();
    let quoted = packet.quoted.as_ref();
    let quoted = quoted.and_then(|quoted| quoted_echo_identifier(bytes, &packet.key, quoted));
    (echo_identifier(bytes, &packet.key), quoted)
}

#[test]
fn identifiers_of_echoes() {
    for icmp_type in 0..=255 {
        let expected4 = matches!(icmp_type, 0 | 8).then_some(0xabcd);
        let expected6 = matches!(icmp_type, 128 | 129).then_some(0xabcd);
        let message = echo(icmp_type, 0xabcd);
        for options in [&[][..], &[1; 8]] {
            let bytes = ipv4(ICMP, 0, options, (B, A), &message);
            assert_eq!(identifiers(&bytes, Family::Ipv4), (expected4, None));
        }
        // ICMPv6 over IPv4, and what is none of both.
        for protocol in [ICMP6, UDP, TCP] {
            let bytes = ipv4(protocol, 0, &[], (B, A), &message);
            assert_eq!(identifiers(&bytes, Family::Ipv4), (None, None));
        }
        let headers = chain(&[DESTINATION], ICMP6, &message);
        for bytes in [
            ipv6(ICMP6, (B6, A6), &message),
            ipv6(DESTINATION, (B6, A6), &headers),
        ] {
            assert_eq!(identifiers(&bytes, Family::Ipv6), (expected6, None));
        }

        let sent = ipv4(ICMP, 0, &[1; 4], (B, A), &message);
        let error = ipv4(ICMP, 0, &[1; 8], (A, B), &icmp(3, &sent));
        assert_eq!(identifiers(&error, Family::Ipv4), (None, expected4));
        let sent = ipv6(ICMP6, (B6, A6), &message);
        let error = ipv6(ICMP6, (A6, B6), &icmp(1, &sent));
        assert_eq!(identifiers(&error, Family::Ipv6), (None, expected6));
    }
}

#[test]
fn identifiers_cut_short() {
    let whole = ipv4(ICMP, 0, &[], (B, A), &echo(8, 0xabcd));
    for len in 21..26 {
        assert_eq!(identifiers(&whole[..len], Family::Ipv4), (None, None));
    }
    assert_eq!(identifiers(&whole[..26], Family::Ipv4).0, Some(0xabcd));
    let later = ipv4(ICMP, 185, &[], (B, A), &echo(8, 0xabcd));
    assert_eq!(identifiers(&later, Family::Ipv4), (None, None));
}

#[test]
fn slices_are_read_within_their_ends() {
    let bytes: &[u8] = &[1, 2, 3, 4];
    assert_eq!(bytes.read::<4>(0), Some([1, 2, 3, 4]));
    assert_eq!(bytes.read::<2>(2), Some([3, 4]));
    assert_eq!(bytes.read::<0>(4), Some([]));
    assert_eq!(bytes.read::<2>(3), None);
    assert_eq!(bytes.read::<1>(4), None);
    assert_eq!(bytes.read::<1>(usize::MAX), None);
    assert_eq!(bytes.read::<2>(usize::MAX), None);
    assert_eq!(bytes.read::<5>(0), None);
}

/// Packets that are nearly right: their first bytes say a version, the rest says anything.
fn odd_packets() -> impl Strategy<Value = Vec<u8>> {
    let chain_of = vec(
        proptest::sample::select(vec![0u8, 43, 44, 51, 60, 59, 17, 58]),
        0..15,
    );
    prop_oneof![
        vec(any::<u8>(), 0..200),
        (
            vec(any::<u8>(), 20..200),
            0x45..=0x4fu8,
            proptest::sample::select(vec![ICMP, UDP, TCP])
        )
            .prop_map(|(mut bytes, first, protocol)| {
                bytes[0] = first;
                bytes[9] = protocol;
                bytes
            }),
        (chain_of, vec(any::<u8>(), 0..60), any::<u8>(), 0..300usize).prop_map(
            |(types, rest, icmp_type, len)| {
                let quoted = ipv6(
                    types.first().copied().unwrap_or(UDP),
                    (B6, A6),
                    &chain(&types, UDP, &rest),
                );
                let first = types.first().copied().unwrap_or(ICMP6);
                let body = chain(&types, ICMP6, &icmp(icmp_type % 6, &quoted));
                let mut bytes = ipv6(first, (A6, B6), &body);
                bytes.truncate(len);
                bytes
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Nothing panics, nothing is read beyond the end, and what lies behind the bytes that were
    /// read does not count.
    #[test]
    fn any_bytes(bytes in odd_packets(), icmp_errors in any::<bool>()) {
        for family in [Family::Ipv4, Family::Ipv6] {
            let context = Context { icmp_errors, ..context(family) };
            let watched = Watched { bytes: &bytes, end: RefCell::new(0) };
            let packet = read(&watched, &context);
            prop_assert_eq!(packet, read(&bytes[..], &context));
            if let Some(packet) = packet {
                prop_assert!(packet.quoted.is_none() || packet.key.error && icmp_errors);
                if let Some(quoted) = packet.quoted {
                    prop_assert_eq!(quoted.source, packet.key.destination);
                    prop_assert!(!quoted.error);
                }
            }
            // Changing what follows changes nothing, so long as nothing more can be read.
            let end = *watched.end.borrow();
            let mut changed = bytes.clone();
            for byte in &mut changed[end..] {
                *byte = !*byte;
            }
            prop_assert_eq!(packet, read(&changed[..], &context));
        }
    }
}
