// SPDX-License-Identifier: GPL-2.0

//! Entries of conntrack: the key of each direction, and why an entry is kept.

use ctskip_pure::{
    packet::{
        conn::{
            Kept,
            Purged,
            Tuple,
            Uses, //
        },
        header::{
            Key,
            Transport, //
        },
    },
    rule::{
        DeviceName,
        Family, //
    },
};
use ctskip_testkit::world::key;

/// An address of IPv4 as the kernel keeps it. What lies behind it does not count.
fn v4(octets: [u8; 4]) -> [u8; 16] {
    let mut address = [0xee; 16];
    address[..4].copy_from_slice(&octets);
    address
}

fn tuple(family: Family, protocol: u8, source: [u8; 16], destination: [u8; 16]) -> Tuple {
    Tuple {
        family,
        protocol,
        source,
        destination,
        source_port: [0x0f, 0xa0],
        destination_port: [0, 53],
    }
}

/// What an entry does not tell is not in its key.
fn untold(key: Key) -> Key {
    Key {
        device: DeviceName::default(),
        ..key
    }
}

#[test]
fn keys_of_entries() {
    let (a, b) = ("10.0.0.1", "10.0.0.2");
    let (source, destination) = (v4([10, 0, 0, 1]), v4([10, 0, 0, 2]));
    for (protocol, transport) in [
        (6, Transport::Ports(4000, 53)),
        (17, Transport::Ports(4000, 53)),
        (132, Transport::Ports(4000, 53)),
        (1, Transport::IcmpType(0)),
        // ICMPv6 over IPv4, and protocols whose tuples have other numbers than ports.
        (58, Transport::Unknown),
        (47, Transport::Unknown),
        (33, Transport::Unknown),
    ] {
        let made = tuple(Family::Ipv4, protocol, source, destination).key();
        assert_eq!(made, untold(key(protocol, a, b, transport)), "{protocol}");
    }

    let mut source = [0; 16];
    source[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    let mut destination = source;
    (source[15], destination[15]) = (1, 2);
    let (a, b) = ("2001:db8::1", "2001:db8::2");
    let mut echo = tuple(Family::Ipv6, 58, source, destination);
    echo.destination_port = [128, 7];
    let expected = key(58, a, b, Transport::IcmpType(128));
    assert_eq!(echo.key(), untold(expected));
    let datagram = tuple(Family::Ipv6, 17, source, destination).key();
    assert_eq!(datagram, untold(key(17, a, b, Transport::Ports(4000, 53))));
}

#[test]
fn reasons_to_keep_an_entry() {
    let all = Uses {
        translated: true,
        expected: true,
        helped: true,
        offloaded: true,
        marked: true,
        labelled: true,
        templated: true,
    };
    assert_eq!(Kept::of(Uses::default()), None);
    assert_eq!(Kept::of(all), Some(Kept::Translated));
    let none = Uses::default;
    #[rustfmt::skip]
    let each = [
        (Uses { translated: true, ..none() }, Kept::Translated, "translated"),
        (Uses { expected: true, ..none() }, Kept::Expected, "expected"),
        (Uses { helped: true, ..none() }, Kept::Helped, "helped"),
        (Uses { offloaded: true, ..none() }, Kept::Offloaded, "offloaded"),
        (Uses { marked: true, ..none() }, Kept::Marked, "marked"),
        (Uses { labelled: true, ..none() }, Kept::Labelled, "labelled"),
        (Uses { templated: true, ..none() }, Kept::Templated, "templated"),
    ];
    for (place, (uses, kept, name)) in each.into_iter().enumerate() {
        assert_eq!(Kept::of(uses), Some(kept));
        assert_eq!((kept.name(), Kept::ALL[place]), (name, kept));
    }
    assert_eq!(Kept::ALL.last(), Some(&Kept::Unsure));
}

#[test]
fn purges_are_summed() {
    let mut one = Purged::default();
    one.deleted = 2;
    one.keep(Kept::Marked);
    let mut sum = one;
    sum.keep(Kept::Marked);
    sum.keep(Kept::Unsure);
    sum.add(&one);
    assert_eq!(sum.deleted, 4);
    for kept in Kept::ALL {
        let expected = match kept {
            Kept::Marked => 3,
            Kept::Unsure => 1,
            _ => 0,
        };
        assert_eq!(sum.kept(kept), expected, "{}", kept.name());
    }
}
