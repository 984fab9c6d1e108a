// SPDX-License-Identifier: GPL-2.0

//! Flows: their keys, their hash, and the table of their words.

use std::{
    cell::Cell,
    collections::HashSet,
    hash::{
        DefaultHasher,
        Hasher as _, //
    },
    num::NonZero,
    sync::atomic::AtomicU64,
};

use ctskip_pure::{
    alloc::NoMemory,
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
        lifetime::{
            Lifetimes,
            Timeouts,
            SWEEP, //
        },
        quota::{
            Made,
            Share, //
        },
        table::{
            Bury,
            Insert,
            Kind,
            Look,
            Table,
            Walk, //
        },
        word::Word,
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
use ctskip_testkit::{
    checks,
    source::{
        Random,
        Source, //
    },
    world::key,
};
use proptest::{
    collection::vec,
    prelude::*, //
};

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

/// A hash whose first bucket is that of its number.
fn hash(number: u64) -> Hash {
    Hash::new(number << 32 | number)
}

/// The lifetimes of a protocol by the kernel's defaults.
fn lifetimes(protocol: u8) -> Lifetimes {
    Lifetimes::new(protocol, &Timeouts::of(protocol)).unwrap()
}

/// A table, and the time.
struct Host {
    table: Table,
    now: u64,
}

impl Host {
    fn new(flows: usize) -> Self {
        let table = Table::new(flows).unwrap();
        // A tick of all states begins.
        Self {
            table,
            now: 1 << 20,
        }
    }

    /// Makes a record whose first packet goes up.
    fn insert(&self, number: u64, protocol: u8) -> Insert {
        let (up, kind) = (Direction::Up, Kind::of(protocol));
        self.table
            .insert(hash(number), up, kind, &lifetimes(protocol), self.now)
    }

    /// A packet that is not of TCP.
    fn datagram(&self, number: u64, direction: Direction) -> Look {
        let (hash, lifetimes) = (hash(number), lifetimes(UDP));
        self.table.look(hash, direction, None, &lifetimes, self.now)
    }

    fn tcp(&self, number: u64, direction: Direction, bits: u8) -> Look {
        let (hash, lifetimes) = (hash(number), lifetimes(TCP));
        self.table
            .look(hash, direction, Some(bits), &lifetimes, self.now)
    }

    fn knows(&self, number: u64, protocol: u8) -> bool {
        self.table
            .peek(hash(number), &lifetimes(protocol), self.now)
    }

    fn bury(&self, number: u64) -> Bury {
        self.table.bury(hash(number), self.now)
    }

    fn sweep(&self) -> Walk {
        let mut walk = Walk::default();
        while !self.table.sweep(&mut walk, 100, self.now) {}
        walk
    }
}

const UP: Direction = Direction::Up;
const DOWN: Direction = Direction::Down;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Opens a flow of TCP.
fn open(host: &Host, number: u64) {
    host.insert(number, TCP);
    assert_eq!(host.tcp(number, DOWN, SYN | ACK), Look::Hit);
    assert_eq!(host.tcp(number, UP, ACK), Look::Hit);
}

#[test]
fn sizes_of_tables() {
    for (flows, words) in [
        (0, 16),
        (16, 16),
        (17, 32),
        (100, 128),
        (262_144, 262_144),
        (262_145, 524_288),
    ] {
        let table: Table = Table::new(flows).unwrap();
        assert_eq!((table.words(), table.buckets()), (words, words / 8));
    }
    ctskip_pure::alloc::fail_after(Some(0));
    let table = Table::<AtomicU64>::new(16).map(|table| table.words());
    ctskip_pure::alloc::fail_after(None);
    assert_eq!(table, Err(NoMemory));
}

#[test]
fn a_syn_always_misses() {
    let host = Host::new(16);
    assert_eq!(host.insert(1, TCP), Insert::New);
    assert_eq!(host.tcp(1, UP, SYN), Look::Miss);
    open(&host, 1);
    for direction in [UP, DOWN] {
        assert_eq!(host.tcp(1, direction, SYN), Look::Miss);
        assert_eq!(host.tcp(1, direction, SYN | FIN), Look::Miss);
        assert_eq!(host.tcp(1, direction, SYN | ACK), Look::Hit);
        assert_eq!(host.tcp(1, direction, ACK), Look::Hit);
        // Flags that cannot be read may be those of a SYN.
        assert_eq!(host.datagram(1, direction), Look::Miss);
    }
}

#[test]
fn one_packet_of_the_first_direction_is_judged_anew() {
    for answered in [false, true] {
        let mut host = Host::new(16);
        assert_eq!(host.insert(1, UDP), Insert::New);
        if answered {
            assert_eq!(host.datagram(1, DOWN), Look::Hit);
        }
        for round in 0..5 {
            // Packets of the first direction do not put it off.
            for _ in 0..7 {
                assert_eq!(host.datagram(1, UP), Look::Hit, "{round}");
                host.now += 4;
            }
            assert_eq!(host.datagram(1, UP), Look::Soft, "{round}");
            assert_eq!(host.datagram(1, UP), Look::Hit, "{round}");
        }
        // Packets of the other one do.
        for _ in 0..20 {
            host.now += 10;
            assert_eq!(host.datagram(1, DOWN), Look::Hit);
            assert_eq!(host.datagram(1, UP), Look::Hit);
        }
        // A packet that only quotes one of the flow does not.
        for _ in 0..3 {
            host.now += 10;
            assert!(host.knows(1, UDP));
        }
        assert_eq!(host.datagram(1, UP), Look::Soft);
    }
}

#[test]
fn what_is_made_anew_lives_as_long_as_it_did() {
    let mut host = Host::new(16);
    host.insert(1, UDP);
    host.datagram(1, DOWN);
    host.now += 60;
    assert_eq!(host.datagram(1, UP), Look::Soft);
    assert_eq!(host.insert(1, UDP), Insert::Renewed);
    host.now += 140;
    assert!(host.knows(1, UDP));

    // A forged SYN must not end a flow of TCP that says nothing for long.
    open(&host, 2);
    assert_eq!(host.tcp(2, UP, SYN), Look::Miss);
    assert_eq!(host.insert(2, TCP), Insert::Renewed);
    host.now += 86_400;
    assert!(host.knows(2, TCP));
    // One that ends begins as a new one.
    assert_eq!(host.tcp(2, DOWN, FIN | ACK), Look::Hit);
    assert_eq!(host.insert(2, TCP), Insert::Renewed);
    assert_eq!(host.tcp(2, DOWN, SYN | ACK), Look::Hit);
    assert_eq!(host.tcp(2, UP, ACK), Look::Hit);
    host.now += 86_400;
    assert!(host.knows(2, TCP));
}

#[test]
fn tcp_is_open_when_both_sides_have_agreed() {
    const DAY: u64 = 86_400;
    for (packets, lives) in [
        (&[][..], 120),
        (&[(UP, ACK), (UP, ACK)], 120),
        (&[(DOWN, ACK)], 120),
        (&[(UP, SYN | ACK)], 120),
        (&[(DOWN, SYN | ACK)], 120),
        (&[(DOWN, SYN | ACK), (DOWN, ACK)], 120),
        (&[(DOWN, SYN | ACK | RST), (UP, ACK)], 120),
        (&[(DOWN, SYN | ACK), (UP, ACK | RST)], 120),
        (&[(DOWN, SYN | ACK), (UP, ACK)], 5 * DAY),
        (&[(DOWN, SYN | ACK), (UP, ACK | FIN)], 120),
        (&[(DOWN, SYN | ACK), (UP, ACK), (DOWN, FIN | ACK)], 120),
        (
            &[(DOWN, SYN | ACK), (UP, ACK), (UP, FIN | ACK), (DOWN, ACK)],
            120,
        ),
        (&[(DOWN, SYN | ACK), (UP, ACK), (UP, RST)], 120),
        // Nobody must end it by a forged one.
        (
            &[(DOWN, SYN | ACK), (UP, ACK), (UP, RST), (UP, ACK)],
            5 * DAY,
        ),
        (
            &[(DOWN, SYN | ACK), (UP, ACK), (UP, RST), (DOWN, ACK)],
            5 * DAY,
        ),
        (
            &[
                (DOWN, SYN | ACK),
                (UP, ACK),
                (UP, RST),
                (UP, FIN | ACK),
                (UP, ACK),
            ],
            120,
        ),
    ] {
        let mut host = Host::new(16);
        host.insert(1, TCP);
        for (direction, bits) in packets {
            assert_eq!(host.tcp(1, *direction, *bits), Look::Hit, "{packets:?}");
        }
        host.now += lives;
        assert!(host.knows(1, TCP), "{packets:?}");
        host.now += 512;
        assert!(!host.knows(1, TCP), "{packets:?}");
    }
}

/// A packet of either direction keeps TCP alive.
#[test]
fn tcp_is_refreshed_by_both_directions() {
    for direction in [UP, DOWN] {
        let mut host = Host::new(16);
        open(&host, 1);
        for _ in 0..5 {
            host.now += 4 * 86_400;
            assert_eq!(host.tcp(1, direction, ACK), Look::Hit);
        }
        host.tcp(1, direction, FIN | ACK);
        for _ in 0..5 {
            host.now += 100;
            assert_eq!(host.tcp(1, direction, ACK), Look::Hit);
        }
    }
}

#[test]
fn tombstones() {
    let mut host = Host::new(16);
    for (made, expected) in [(false, Bury::None), (true, Bury::Gone)] {
        if made {
            assert_eq!(host.insert(1, UDP), Insert::New);
        }
        assert_eq!(host.bury(1), expected);
        for _ in 0..=10 {
            assert_eq!(host.insert(1, UDP), Insert::Buried);
            for direction in [UP, DOWN] {
                assert_eq!(host.datagram(1, direction), Look::Miss);
                assert_eq!(host.tcp(1, direction, ACK), Look::Miss);
            }
            assert!(!host.knows(1, UDP));
            host.table.remove(hash(1));
            host.table.clear(&mut Walk::default(), 100, host.now);
            host.sweep();
            host.now += 1;
        }
        host.now += 5;
    }
    assert_eq!(host.insert(1, UDP), Insert::New);
    // Buried again, it is so from then on.
    assert_eq!(host.bury(1), Bury::Gone);
    host.now += 8;
    assert_eq!(host.bury(1), Bury::None);
    host.now += 8;
    assert_eq!(host.insert(1, UDP), Insert::Buried);
    host.now += 16;
    assert_eq!((host.sweep().cleared, host.sweep().cleared), (1, 0));
}

#[test]
fn a_flow_is_removed() {
    let host = Host::new(16);
    host.insert(1, UDP);
    host.insert(2, UDP);
    host.table.remove(hash(1));
    host.table.remove(hash(3));
    assert!(!host.knows(1, UDP) && host.knows(2, UDP));
    assert_eq!(host.sweep().alive, 1);
    host.table.clear(&mut Walk::default(), 100, host.now);
    assert!(!host.knows(2, UDP));
}

/// What is alive is never put out, also where words of others have no room.
#[test]
fn a_full_table() {
    let mut host = Host::new(16);
    for number in 0..16 {
        assert_eq!(host.insert(number, UDP), Insert::New);
    }
    for number in 16..40 {
        assert_eq!(host.insert(number, UDP), Insert::NoRoom);
        assert_eq!(host.bury(number), Bury::NoRoom);
    }
    assert_eq!(host.sweep().alive, 16);
    assert!((0..16).all(|number| host.knows(number, UDP)));
    // Its own word, a flow may have.
    assert_eq!(host.insert(3, UDP), Insert::Renewed);
    host.datagram(5, DOWN);
    host.now += 100;
    for number in 40..55 {
        assert_eq!(host.insert(number, UDP), Insert::New);
    }
    assert_eq!(host.insert(55, UDP), Insert::NoRoom);
    assert!(host.knows(5, UDP));
}

/// Seconds for which a flow is known, driven to each state; `None`: of TCP.
type Driven = (u8, &'static [(Direction, u8)], fn(&Timeouts) -> u32);

const STATES: [Driven; 9] = [
    (UDP, &[], |timeouts| timeouts.unreplied),
    (UDP, &[(DOWN, 0)], |timeouts| timeouts.replied),
    (SCTP, &[(DOWN, 0)], |timeouts| timeouts.replied),
    (ICMP, &[(DOWN, 0)], |timeouts| timeouts.replied),
    (TCP, &[], |timeouts| timeouts.opening),
    (TCP, &[(DOWN, SYN | ACK)], |timeouts| timeouts.opening),
    (TCP, &[(DOWN, SYN | ACK), (UP, ACK)], |timeouts| {
        timeouts.open
    }),
    (
        TCP,
        &[(DOWN, SYN | ACK), (UP, ACK), (UP, FIN)],
        |timeouts| timeouts.closing,
    ),
    (
        TCP,
        &[(DOWN, SYN | ACK), (UP, ACK), (UP, RST)],
        |timeouts| timeouts.closing,
    ),
];

/// Drives a new flow of that number to a state.
fn drive(host: &Host, number: u64, (protocol, packets, _): &Driven, lifetimes: &Lifetimes) {
    let (hash, kind) = (hash(number), Kind::of(*protocol));
    let insert = host.table.insert(hash, UP, kind, lifetimes, host.now);
    assert_eq!(insert, Insert::New);
    for (direction, bits) in *packets {
        let flags = match kind {
            Kind::Tcp => Some(*bits),
            Kind::Datagram => None,
        };
        let look = host
            .table
            .look(hash, *direction, flags, lifetimes, host.now);
        assert_eq!(look, Look::Hit);
    }
}

#[test]
fn no_lifetime_is_shorter_than_conntracks() {
    let longer = Timeouts {
        unreplied: 301,
        replied: 602,
        opening: 903,
        open: 700_001,
        closing: 1204,
    };
    let zero = Timeouts {
        unreplied: 0,
        replied: 0,
        opening: 0,
        open: 0,
        closing: 0,
    };
    for driven in &STATES {
        let (protocol, _, timeout) = driven;
        let default = Timeouts::of(*protocol);
        // Those of the namespace, and the seconds of conntrack that count.
        for (timeouts, seconds) in [
            (default, timeout(&default)),
            (zero, timeout(&default)),
            (longer, timeout(&longer)),
        ] {
            let lifetimes = Lifetimes::new(*protocol, &timeouts).unwrap();
            for phase in [0, 1, 3, 4, 255, 256, 16_383, 1_048_575] {
                let mut host = Host::new(16);
                host.now += phase;
                drive(&host, 1, driven, &lifetimes);
                let knows = |host: &Host| host.table.peek(hash(1), &lifetimes, host.now);
                // An entry would have been refreshed by packets of the first direction until then.
                let unseen = if *protocol == TCP { 0 } else { 27 };
                let seconds = u64::from(seconds);
                host.now += seconds + unseen;
                assert!(knows(&host), "{driven:?} {phase}");
                host.sweep();
                assert!(knows(&host), "{driven:?} {phase}");
                host.now += if seconds > 100_000 { 512 } else { 9 };
                assert!(!knows(&host), "{driven:?} {phase}");
            }
        }
    }
}

/// The longest timeouts that a stamp can tell.
const LONGEST: Timeouts = Timeouts {
    unreplied: 11_780,
    replied: 11_780,
    opening: 11_808,
    open: 1_039_360,
    closing: 11_808,
};

#[test]
fn timeouts_that_no_stamp_tells() {
    for protocol in [TCP, UDP, SCTP] {
        assert!(Lifetimes::new(protocol, &LONGEST).is_some());
        for longer in [1, 1 << 30, u32::MAX - LONGEST.open] {
            let more: [fn(&mut Timeouts) -> &mut u32; 5] = [
                |timeouts| &mut timeouts.unreplied,
                |timeouts| &mut timeouts.replied,
                |timeouts| &mut timeouts.opening,
                |timeouts| &mut timeouts.open,
                |timeouts| &mut timeouts.closing,
            ];
            for field in more {
                let mut timeouts = LONGEST;
                *field(&mut timeouts) += longer;
                assert_eq!(Lifetimes::new(protocol, &timeouts), None);
            }
        }
    }
}

/// Once a word's life has ended, it never seems to be alive again, though its stamp comes around: all is swept
/// in time. Without that, it would.
#[test]
fn stamps_that_come_around() {
    for driven in &STATES {
        let (protocol, _, timeout) = driven;
        let lifetimes = Lifetimes::new(*protocol, &LONGEST).unwrap();
        let is_open = timeout(&LONGEST) == LONGEST.open;
        let (unit, life) = match is_open {
            true => (256, u64::from(LONGEST.open)),
            false => (4, 11_808),
        };
        for phase in [0, unit - 1] {
            for swept in [true, false] {
                let mut host = Host::new(16);
                host.now += phase;
                drive(&host, 1, driven, &lifetimes);
                let start = host.now;
                // The last sweep comes right ahead of its end: the next one as late as can be.
                let mut last = start + life;
                let mut came_back = false;
                while host.now < start + 3 * 4096 * unit {
                    host.now += unit;
                    if swept && host.now - last.min(host.now) >= u64::from(SWEEP) {
                        host.sweep();
                        last = host.now;
                    }
                    let known = host.table.peek(hash(1), &lifetimes, host.now);
                    let age = host.now - start;
                    assert!(known || age > life, "{driven:?} after {age}");
                    came_back |= known && age > life + 2 * unit;
                }
                assert_eq!(came_back, !swept, "{driven:?}");
            }
        }
    }
}

/// A word does not tell whose it is: one with a long life keeps its place among those of other namespaces.
#[test]
fn lifetimes_of_other_namespaces() {
    let mut host = Host::new(16);
    let longer = Timeouts {
        unreplied: 3000,
        ..Timeouts::of(UDP)
    };
    let longer = Lifetimes::new(UDP, &longer).unwrap();
    let insert = host
        .table
        .insert(hash(1), UP, Kind::Datagram, &longer, host.now);
    assert_eq!(insert, Insert::New);
    for number in 2..10 {
        host.insert(number, UDP);
    }
    host.now += 2500;
    assert_eq!(host.sweep().cleared, 0);
    for number in 20..40 {
        host.insert(number, UDP);
    }
    assert!(host.table.peek(hash(1), &longer, host.now));
    // Those of another one are not used longer than it may be.
    assert!((2..10).all(|number| !host.knows(number, UDP)));
    assert_eq!(host.insert(2, UDP), Insert::New);
}

/// A CPU whose clock is behind takes nothing for old that is new.
#[test]
fn clocks_of_other_cpus() {
    for driven in &STATES {
        let mut host = Host::new(16);
        let lifetimes = lifetimes(driven.0);
        drive(&host, 1, driven, &lifetimes);
        host.now -= 60;
        assert!(host.table.peek(hash(1), &lifetimes, host.now));
        assert_eq!(host.sweep().cleared, 0);
        // It does not set the stamp back, either.
        for direction in [UP, DOWN] {
            host.table
                .look(hash(1), direction, Some(ACK), &lifetimes, host.now);
        }
        host.now += 60 + 58;
        assert!(host.table.peek(hash(1), &lifetimes, host.now));
    }
}

thread_local! {
    static WRITES: Cell<u32> = const { Cell::new(0) };
}

/// A word that counts how often it is written to.
struct Counted(AtomicU64);

impl Word for Counted {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn load(&self) -> u64 {
        Word::load(&self.0)
    }

    fn replace(&self, old: u64, new: u64) -> bool {
        WRITES.set(WRITES.get() + 1);
        Word::replace(&self.0, old, new)
    }

    fn fence() {
        AtomicU64::fence();
    }
}

/// Counts the writes of packets that come in each second for so long, each of which is a hit.
fn writes(protocol: u8, direction: Direction, seconds: u64) -> u32 {
    let table: Table<Counted> = Table::new(16).unwrap();
    let (lifetimes, flags) = (lifetimes(protocol), Some(ACK));
    table.insert(hash(1), UP, Kind::of(protocol), &lifetimes, 0);
    // The state is the last one.
    table.look(hash(1), DOWN, Some(SYN | ACK), &lifetimes, 0);
    table.look(hash(1), UP, flags, &lifetimes, 0);
    WRITES.set(0);
    for now in 0..seconds {
        for _ in 0..3 {
            assert_eq!(
                table.look(hash(1), direction, flags, &lifetimes, now),
                Look::Hit
            );
        }
    }
    WRITES.get()
}

#[test]
fn a_word_is_written_once_in_a_tick() {
    assert_eq!(writes(UDP, UP, 28), 0);
    assert_eq!(writes(UDP, DOWN, 401), 100);
    for direction in [UP, DOWN] {
        assert_eq!(writes(TCP, direction, 2561), 10);
    }
}

/// What lies in either bucket is told apart by the same bits: with the same tag, both buckets are the same two
/// ones, or other ones.
#[test]
fn places_of_a_flow() {
    let table: Table = Table::new(1 << 14).unwrap();
    let mut random = Random::new(1);
    for _ in 0..1000 {
        let bits = random.number();
        let places = table.places(Hash::new(bits));
        let [first, second] = places;
        assert_eq!(first, bits as usize % table.buckets());
        assert_ne!(first, second);
        // The buckets of a small table are told by bits that are not of the tag.
        for other in 0..table.buckets() as u64 {
            let other = Hash::new(bits & !0xffff | other);
            let [a, b] = table.places(other);
            let same = [a, b] == places || [b, a] == places;
            let shares = places.contains(&a) || places.contains(&b);
            assert_eq!(same, shares);
        }
    }
}

/// Fills a table with flows of any hashes up to that part of it; returns how many find no room.
fn left_out(words: usize, percent: usize, seed: u64) -> usize {
    let table: Table = Table::new(words).unwrap();
    let lifetimes = lifetimes(UDP);
    let mut random = Random::new(seed);
    let count = words * percent / 100;
    let inserts = (0..count).map(|_| {
        let hash = Hash::new(random.number());
        table.insert(hash, UP, Kind::Datagram, &lifetimes, 0)
    });
    let left_out = inserts.filter(|insert| *insert == Insert::NoRoom).count();
    let mut walk = Walk::default();
    assert!(table.sweep(&mut walk, table.buckets(), 0));
    assert_eq!(walk.alive + left_out, count);
    left_out
}

/// With one bucket a flow, some of 10,000 find no room where a third of the words is taken.
#[test]
fn a_table_can_be_filled() {
    for seed in 0..3 {
        assert_eq!(left_out(1 << 15, 50, seed), 0);
        assert_eq!(left_out(1 << 15, 60, seed), 0);
    }
    assert_eq!(left_out(1 << 17, 50, 3), 0);
}

#[test]
fn a_quarter_in_30_seconds() {
    assert_eq!(Share::of(262_144).records(), 65_536);
    assert_eq!(
        Share::among(262_144, NonZero::new(4).unwrap()).records(),
        16_384
    );
    assert_eq!(Share::among(16, NonZero::new(4096).unwrap()).records(), 1);
    assert_eq!(Share::of(1 << 26).records(), (1 << 22) - 1);

    let share = Share::of(64);
    let random: &mut dyn Source = &mut Random::new(1);
    let mut made = Made::default();
    let (mut now, mut times) = (1u64 << 33, Vec::new());
    for _ in 0..20_000 {
        now += random.pick(&[0, 0, 0, 0, 0, 1, 2, 29, 30, 31, 61]);
        if let Some(more) = made.one_more(share, now) {
            made = Made::of(more.number());
            times.push(now);
        }
    }
    assert!(times.len() > 5000);
    for many in times.windows(17) {
        assert!(many[16] - many[0] >= 30, "{many:?}");
    }
}

#[test]
fn the_quarter_comes_back() {
    let share = Share::of(64);
    let all = |mut made: Made, now: u64| {
        let mut count = 0;
        while let Some(more) = made.one_more(share, now) {
            made = more;
            count += 1;
        }
        (made, count)
    };
    let (made, count) = all(Made::default(), 3000);
    assert_eq!(count, 16);
    assert_eq!(all(made, 3029).1, 0);
    // Another CPU's clock is behind.
    assert_eq!(all(made, 2999).1, 0);
    assert_eq!(all(made, 3059).1, 0);
    assert_eq!(all(made, 3060).1, 16);
    assert_eq!(all(made, 1 << 30).1, 16);
    let (made, _) = all(Made::default(), 3000 + 7);
    assert_eq!(all(made, u64::MAX).1, 16);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The table says of each flow what a map without bounds says.
    #[test]
    fn a_table_agrees_with_a_map(choices in vec(any::<u8>(), 0..1200)) {
        checks::flows(&choices);
    }
}
