// SPDX-License-Identifier: GPL-2.0

//! The meaning of each term, by hand: packets that a rule matches, and packets that it does not.
//!
//! Both the oracle and the compiled rule must say so.

use std::cell::RefCell;

use ctskip_pure::{
    matcher::oracle,
    packet::header::{
        Key,
        Transport, //
    },
    rule::{
        Fixed,
        FixedField, //
    },
};

use ctskip_testkit::{
    compiled::Compiled,
    packets::Probe,
    world::{
        device,
        is_local,
        key,
        number,
        rule,
        INIT_INUM, //
    },
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Asserts that the rule matches each of these, and none of those.
#[track_caller]
fn assert_matches(text: &str, these: &[Key], not_those: &[Key]) {
    let rule = rule(text);
    let compiled = Compiled::of_text(&format!("{text}\n"));
    for (keys, expected) in [(these, true), (not_those, false)] {
        for key in keys {
            let probe = Probe {
                netns: INIT_INUM,
                key: *key,
            };
            let found = compiled.first_match(&probe).is_some();
            assert_eq!(
                oracle::matches(&rule, key, is_local),
                expected,
                "{text:?}: {key:?}"
            );
            assert_eq!(found, expected, "{text:?}: {key:?}");
        }
    }
}

fn udp(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Key {
    let ports = Transport::Ports(source_port, destination_port);
    key(UDP, source, destination, ports)
}

fn tcp(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Key {
    let ports = Transport::Ports(source_port, destination_port);
    key(TCP, source, destination, ports)
}

fn icmp(icmp_type: u8) -> Key {
    key(1, "10.0.0.1", "10.0.0.2", Transport::IcmpType(icmp_type))
}

fn icmp6(icmp_type: u8) -> Key {
    key(
        58,
        "2001:db8::1",
        "2001:db8::2",
        Transport::IcmpType(icmp_type),
    )
}

/// Without what lies behind the IP header.
fn fragment(key: Key) -> Key {
    Key {
        transport: Transport::Unknown,
        ..key
    }
}

fn error(key: Key) -> Key {
    Key { error: true, ..key }
}

#[test]
fn protocols() {
    let gre = key(47, "10.0.0.1", "10.0.0.2", Transport::Unknown);
    let gre6 = key(47, "::1", "::2", Transport::Unknown);
    let udp = udp("10.0.0.1", 1, "10.0.0.2", 2);
    let tcp = tcp("10.0.0.1", 1, "10.0.0.2", 2);
    assert_matches("gre any", &[gre, gre6], &[udp, tcp]);
    assert_matches("tcp,gre any", &[gre, gre6, tcp], &[udp]);
    assert_matches("proto=47 any", &[gre, gre6], &[udp]);
    assert_matches(
        "any",
        &[gre, gre6, udp, tcp, icmp(8), icmp6(128)],
        &[error(icmp(3))],
    );
    for number in 0..=255 {
        let other = number ^ 64;
        // By number as well, ICMPv6 is IPv6's and ICMP is IPv4's.
        let (source, destination) = if number == 58 {
            ("::1", "::2")
        } else {
            ("10.0.0.1", "10.0.0.2")
        };
        let key = |protocol| key(protocol, source, destination, Transport::Unknown);
        assert_matches(
            &format!("proto={number} any"),
            &[key(number)],
            &[key(other)],
        );
    }
}

#[test]
fn families() {
    let four = udp("10.0.0.1", 1, "10.0.0.2", 2);
    let six = udp("2001:db8::1", 1, "2001:db8::2", 2);
    assert_matches("udp any", &[four, six], &[]);
    assert_matches("ip udp any", &[four], &[six]);
    assert_matches("ip6 udp any", &[six], &[four]);
    // Protocols say it: IGMP is IPv4's, and the number of an extension header is no protocol of IPv6.
    for number in [2, 0, 51, 59] {
        let of = |address| key(number, address, address, Transport::Unknown);
        let (four, six) = (of("10.0.0.1"), of("2001:db8::1"));
        assert_matches(&format!("proto={number} any"), &[four], &[six]);
    }
    // Addresses say it: the same bits in the other family are others.
    assert_matches("udp dst=0.0.0.0/0 any", &[four], &[six]);
    assert_matches("udp dst=::/0 any", &[six], &[four]);
    assert_matches(
        "udp dst=10.0.0.0/8",
        &[four],
        &[udp("a00::1", 1, "a00::2", 2)],
    );
    assert_matches("udp dst=a00::/8", &[udp("a00::1", 1, "a00::2", 2)], &[four]);
    // So do ICMP and ICMPv6, each in its own family only.
    let alien = key(1, "::1", "::2", Transport::Unknown);
    let alien6 = key(58, "10.0.0.1", "10.0.0.2", Transport::Unknown);
    assert_matches("icmp any", &[icmp(8)], &[alien, icmp6(128)]);
    assert_matches("icmp6 any", &[icmp6(128)], &[alien6, icmp(8)]);
    assert_matches("icmp,icmp6 any", &[icmp(8), icmp6(128)], &[four, six]);
}

#[test]
fn addresses_and_their_direction() {
    let to = udp("192.0.2.1", 4000, "10.0.0.53", 53);
    let from = udp("10.0.0.53", 53, "192.0.2.1", 4000);
    let near = udp("192.0.2.1", 4000, "10.0.0.52", 53);
    let edge = udp("192.0.2.1", 4000, "10.255.255.255", 53);
    let out = udp("192.0.2.1", 4000, "11.0.0.0", 53);
    assert_matches("udp dst=10.0.0.53", &[to, from], &[near, edge]);
    assert_matches("udp dst=10.0.0.53 oneway", &[to], &[from, near]);
    assert_matches("udp src=10.0.0.53", &[to, from], &[near]);
    assert_matches("udp src=10.0.0.53 oneway", &[from], &[to, near]);
    assert_matches("udp dst=10.0.0.0/8", &[to, from, near, edge], &[out]);
    assert_matches("udp dst=10.0.0.52/31", &[to, from, near], &[edge, out]);
    assert_matches(
        "udp dst=10.0.0.53,11.0.0.0/8",
        &[to, from, out],
        &[near, edge],
    );
    // Both ends are exchanged together.
    assert_matches("udp src=192.0.2.1 dst=10.0.0.53", &[to, from], &[near]);
    let other_way = udp("192.0.2.2", 53, "10.0.0.53", 4000);
    assert_matches("udp src=192.0.2.1 dst=10.0.0.53", &[], &[other_way]);
    // All but the last bit, and all of them.
    let six = udp("2001:db8::1", 1, "2001:db8::2", 1);
    assert_matches(
        "udp dst=2001:db8::2/127",
        &[six],
        &[udp("::1", 1, "2001:db8::4", 1)],
    );
    assert_matches(
        "udp dst=2001:db8::2",
        &[six],
        &[udp("::1", 1, "2001:db8::3", 1)],
    );
    assert_matches("udp dst=8000::/1", &[udp("::1", 1, "ffff::", 1)], &[six]);
}

#[test]
fn ports_and_their_direction() {
    let query = udp("10.0.0.1", 4000, "10.0.0.2", 53);
    let answer = udp("10.0.0.2", 53, "10.0.0.1", 4000);
    let other = udp("10.0.0.1", 4000, "10.0.0.2", 54);
    assert_matches("udp dport=53", &[query, answer], &[other]);
    assert_matches("udp dport=53 oneway", &[query], &[answer, other]);
    assert_matches("udp sport=53 oneway", &[answer], &[query, other]);
    assert_matches("udp sport=4000 dport=53", &[query, answer], &[other]);
    assert_matches("udp sport=53 dport=4000 oneway", &[answer], &[query, other]);
    assert_matches("udp dport=50-53", &[query, answer], &[other]);
    assert_matches("udp dport=53-54 oneway", &[query, other], &[answer]);
    assert_matches("udp dport=1,2,54,3", &[other], &[query, answer]);
    // Address and port belong to one end.
    assert_matches("udp dst=10.0.0.2 dport=53", &[query, answer], &[other]);
    assert_matches("udp dst=10.0.0.1 dport=53", &[], &[query, answer, other]);
    // The protocol counts, and SCTP has ports as well.
    let tcp = tcp("10.0.0.1", 4000, "10.0.0.2", 53);
    let sctp = key(132, "10.0.0.1", "10.0.0.2", Transport::Ports(4000, 53));
    assert_matches("udp dport=53", &[query], &[tcp, sctp]);
    assert_matches("tcp,sctp dport=53", &[tcp, sctp], &[query]);
    // The ends of the numbers.
    let ends = udp("10.0.0.1", 0, "10.0.0.2", 65535);
    assert_matches("udp sport=0 dport=65535 oneway", &[ends], &[query]);
    assert_matches(
        "udp dport=0-65535 any",
        &[ends, query, answer],
        &[fragment(query)],
    );
}

/// `local=` says which end is an address of the packet's namespace: an odd one, see `world::is_local()`.
#[test]
fn local() {
    let flow = |client, server| {
        (
            udp(client, 4000, server, 53),
            udp(server, 53, client, 4000), //
        )
    };
    let (query, answer) = flow("10.0.0.2", "10.0.0.1");
    let (own_query, own_answer) = flow("10.0.0.1", "10.0.0.2");
    let (inner_query, inner_answer) = flow("10.0.0.1", "10.0.0.3");
    let (forwarded_query, forwarded_answer) = flow("10.0.0.2", "10.0.0.4");
    // A server.
    assert_matches(
        "udp dport=53 local=dst",
        &[query, answer, inner_query, inner_answer],
        &[own_query, own_answer, forwarded_query, forwarded_answer],
    );
    // A client.
    assert_matches(
        "udp dport=53 local=src",
        &[own_query, own_answer, inner_query, inner_answer],
        &[query, answer, forwarded_query, forwarded_answer],
    );
    assert_matches(
        "udp dport=53 local=dst oneway",
        &[query, inner_query],
        &[answer, own_query, inner_answer, forwarded_query],
    );
    assert_matches(
        "udp dport=53 local=src oneway",
        &[own_query, inner_query],
        &[query, own_answer, inner_answer, forwarded_query],
    );
    // Where the terms match both ways, either end will do.
    let same = |source, destination| udp(source, 53, destination, 53);
    let (to_here, from_here) = (same("10.0.0.2", "10.0.0.1"), same("10.0.0.1", "10.0.0.2"));
    assert_matches("udp dport=53 local=dst", &[to_here, from_here], &[]);
    assert_matches("udp dport=53 local=dst oneway", &[to_here], &[from_here]);
    assert_matches("udp any local=src oneway", &[from_here], &[to_here]);
    // IPv6 as well.
    let (query, answer) = flow("2001:db8::2", "2001:db8::1");
    let (own_query, own_answer) = flow("2001:db8::1", "2001:db8::2");
    assert_matches(
        "udp dport=53 local=dst",
        &[query, answer],
        &[own_query, own_answer],
    );
}

/// The first rule counts that matches with its end: one before it may have all but that.
#[test]
fn a_rule_whose_end_is_not_local_hides_no_other() {
    let text = "udp dport=53 local=dst\nudp dport=53 local=src\nudp any\n";
    let compiled = Compiled::of_text(text);
    let found = |source, destination| {
        let key = udp(source, 4000, destination, 53);
        let netns = INIT_INUM;
        compiled.first_match(&Probe { netns, key })
    };
    assert_eq!(found("10.0.0.2", "10.0.0.1"), Some(0));
    assert_eq!(found("10.0.0.1", "10.0.0.1"), Some(0));
    assert_eq!(found("10.0.0.1", "10.0.0.2"), Some(1));
    assert_eq!(found("10.0.0.2", "10.0.0.4"), Some(2));
}

/// An end is asked for once all else matches, once for each address, and never where no rule asks.
#[test]
fn an_end_is_asked_for_late_and_once() {
    let asked = |rules: &str, key: &Key| {
        let compiled = Compiled::of_text(rules);
        let asked = RefCell::new(Vec::new());
        let is_local = |address| {
            asked.borrow_mut().push(address);
            false
        };
        compiled
            .view(INIT_INUM)
            .decide(key, None, is_local, || false);
        asked.into_inner()
    };
    let query = udp("10.0.0.2", 4000, "10.0.0.1", 53);
    assert_eq!(asked("udp dport=53\n", &query), []);
    assert_eq!(asked("udp dport=54 local=dst\n", &query), []);
    assert_eq!(
        asked("udp src=10.0.0.3 dport=53 local=dst\n", &query),
        [],
        "an address that differs"
    );
    let of_destination = [number("10.0.0.1")];
    assert_eq!(asked("udp dport=53 local=dst\n", &query), of_destination);
    let rules = "udp dport=53 local=dst\nudp dst=10.0.0.0/8 local=dst oneway\n";
    assert_eq!(asked(rules, &query), of_destination);
    let answer = udp("10.0.0.1", 53, "10.0.0.2", 4000);
    assert_eq!(asked("udp dport=53 local=dst\n", &answer), of_destination);
}

#[test]
fn devices() {
    let on = |name| Key {
        device: device(name),
        ..udp("10.0.0.1", 4000, "10.0.0.2", 53)
    };
    let answer_on = |name| Key {
        device: device(name),
        ..udp("10.0.0.2", 53, "10.0.0.1", 4000)
    };
    assert_matches(
        "udp dport=53 dev=eth0",
        &[on("eth0")],
        &[on("eth"), on("eth01"), on("eth1"), on("")],
    );
    assert_matches(
        "udp dport=53 dev=eth*",
        &[on("eth"), on("eth0"), on("eth12")],
        &[on("et"), on("lo"), on("veth0")],
    );
    assert_matches(
        "udp dport=53 dev=lo,wlan*",
        &[on("lo"), on("wlan0")],
        &[on("lo1"), on("eth0")],
    );
    assert_matches(
        "udp dport=53 dev=fifteen-letters",
        &[on("fifteen-letters")],
        &[on("fifteen-letter"), on("")],
    );
    // The same in both directions.
    assert_matches(
        "udp dport=53 dev=eth0",
        &[on("eth0"), answer_on("eth0")],
        &[answer_on("eth1")],
    );
}

#[test]
fn marks() {
    let with = |mark| Key {
        fixed: Fixed::new(mark),
        ..udp("10.0.0.1", 4000, "10.0.0.2", 53)
    };
    assert_matches("udp mark=5", &[with(5)], &[with(0), with(4), with(0x105)]);
    assert_matches("udp mark=0", &[with(0)], &[with(1)]);
    assert_matches(
        "udp mark=5/15",
        &[with(5), with(0x105), with(0xffff_fff5)],
        &[with(0), with(4)],
    );
    assert_matches("udp mark=0/1", &[with(0), with(2)], &[with(1), with(3)]);
    assert_matches(
        "udp mark=0x80000000/0x80000000",
        &[with(u32::MAX)],
        &[with(0x7fff_ffff)],
    );
    // Not exchanged: a packet of the other direction has a mark of its own.
    assert_matches("udp dport=53 mark=5 oneway", &[with(5)], &[with(0)]);
}

/// Flags are looked at in both directions as they are written; a packet of which none can be read
/// matches no rule that names some.
#[test]
fn flags() {
    const FIN: u32 = 1;
    const SYN: u32 = 2;
    const RST: u32 = 4;
    const PSH: u32 = 8;
    const ACK: u32 = 16;
    const ECE: u32 = 64;
    const CWR: u32 = 128;
    let with = |flags| Key {
        fixed: Fixed::new(0).with(FixedField::FLAGS, flags),
        ..tcp("10.0.0.1", 4000, "10.0.0.2", 80)
    };
    let back = |flags| Key {
        fixed: Fixed::new(0).with(FixedField::FLAGS, flags),
        ..tcp("10.0.0.2", 80, "10.0.0.1", 4000)
    };
    let unread = tcp("10.0.0.1", 4000, "10.0.0.2", 80);
    let marked = |key: Key| Key {
        fixed: key.fixed.with(FixedField::MARK, 3),
        ..key
    };
    assert_matches(
        "tcp dport=80 flags=syn",
        &[with(SYN), with(SYN | ECE | CWR), with(SYN | PSH), back(SYN)],
        &[
            with(SYN | ACK),
            back(SYN | ACK),
            with(SYN | FIN),
            with(SYN | RST),
            with(ACK),
            with(0),
            unread,
            fragment(unread),
        ],
    );
    assert_matches(
        "tcp dport=80 flags=syn oneway",
        &[with(SYN)],
        &[back(SYN), with(ACK), unread],
    );
    assert_matches(
        "tcp any flags=syn+ack",
        &[with(SYN | ACK), back(SYN | ACK | ECE)],
        &[with(SYN), with(ACK), with(SYN | ACK | FIN)],
    );
    assert_matches(
        "tcp any flags=ack",
        &[with(ACK), with(ACK | PSH)],
        &[with(SYN | ACK), with(FIN | ACK), with(0)],
    );
    assert_matches(
        "tcp any flags=psh+ack",
        &[with(ACK | PSH)],
        &[with(ACK), with(PSH), with(FIN | PSH | ACK)],
    );
    // With a mask, nothing else is compared.
    assert_matches(
        "tcp any flags=rst/rst",
        &[with(RST), with(RST | ACK), with(0xff)],
        &[with(SYN), with(!RST), unread],
    );
    assert_matches(
        "tcp any flags=cwr/cwr+ece",
        &[with(CWR), with(CWR | SYN)],
        &[with(ECE), with(CWR | ECE)],
    );
    // Together with what is compared in the same place.
    assert_matches(
        "tcp any flags=syn mark=1/1 dev=eth*",
        &[marked(with(SYN))],
        &[
            with(SYN),
            marked(with(ACK)),
            marked(unread),
            Key {
                device: device("lo"),
                ..marked(with(SYN))
            },
        ],
    );
    assert_matches(
        "track tcp any flags=syn",
        &[with(SYN)],
        &[with(ACK), unread],
    );
}

/// A type is exchanged for the one that answers it, as conntrack pairs them.
#[test]
fn icmp_types_are_exchanged_as_conntrack_pairs_them() {
    for (one, other) in [(8, 0), (13, 14), (15, 16), (17, 18)] {
        assert_matches(
            &format!("icmp type={one}"),
            &[icmp(one), icmp(other)],
            &[icmp(3), icmp(9)],
        );
        assert_matches(
            &format!("icmp type={other}"),
            &[icmp(one), icmp(other)],
            &[icmp(5)],
        );
        assert_matches(
            &format!("icmp type={one} oneway"),
            &[icmp(one)],
            &[icmp(other)],
        );
        assert_matches(
            &format!("icmp type={other} oneway"),
            &[icmp(other)],
            &[icmp(one)],
        );
    }
    for (one, other) in [(128, 129), (139, 140)] {
        assert_matches(
            &format!("icmp6 type={one}"),
            &[icmp6(one), icmp6(other)],
            &[icmp6(1)],
        );
        assert_matches(
            &format!("icmp6 type={other}"),
            &[icmp6(one), icmp6(other)],
            &[icmp6(135)],
        );
        assert_matches(
            &format!("icmp6 type={one} oneway"),
            &[icmp6(one)],
            &[icmp6(other)],
        );
    }
    // The pairs of one family are none of the other's.
    let eight6 = icmp6(8);
    let zero6 = icmp6(0);
    assert_matches("icmp6 type=8", &[eight6], &[zero6]);
    assert_matches("icmp type=128", &[icmp(128)], &[icmp(129)]);
}

/// A type without an answer matches as written only: its addresses are not exchanged either.
#[test]
fn icmp_types_without_an_answer() {
    let to = |icmp_type| key(1, "192.0.2.1", "10.0.0.2", Transport::IcmpType(icmp_type));
    let from = |icmp_type| key(1, "10.0.0.2", "192.0.2.1", Transport::IcmpType(icmp_type));
    assert_matches("icmp type=9 dst=10.0.0.2", &[to(9)], &[from(9), to(10)]);
    assert_matches(
        "icmp type=3 dst=10.0.0.2",
        &[to(3), error(to(3))],
        &[from(3), error(from(3))],
    );
    // With one: the echo request there, its reply back, and nothing else.
    assert_matches(
        "icmp type=8 dst=10.0.0.2",
        &[to(8), from(0)],
        &[from(8), to(0)],
    );
    // A rule that names no type is exchanged whatever the type is.
    assert_matches("icmp dst=10.0.0.2", &[to(9), from(9), to(8), from(8)], &[]);
    assert_matches("icmp6 type=135", &[icmp6(135)], &[icmp6(136)]);
    // `local=` goes by the direction in which the type matches.
    let (to_here, from_here) = ("10.0.0.1", "10.0.0.2");
    let ping = |icmp_type, to: &str| {
        let from = if to == to_here { from_here } else { to_here };
        key(1, from, to, Transport::IcmpType(icmp_type))
    };
    assert_matches(
        "icmp type=8 local=dst",
        &[ping(8, to_here), ping(0, from_here)],
        &[ping(8, from_here), ping(0, to_here)],
    );
    assert_matches(
        "icmp type=9 local=dst",
        &[ping(9, to_here)],
        &[ping(9, from_here)],
    );
    // Lists and ranges of types.
    assert_matches(
        "icmp type=0-255 any",
        &[icmp(0), icmp(3), icmp(255)],
        &[fragment(icmp(0))],
    );
    assert_matches(
        "icmp type=13-14,9",
        &[icmp(13), icmp(14), icmp(9)],
        &[icmp(15), icmp(8)],
    );
}

/// ICMP errors are matched by rules that name their type, and by no others.
#[test]
fn errors() {
    let unreachable = error(icmp(3));
    for text in [
        "icmp any",
        "any",
        "ip any",
        "icmp,udp any",
        "icmp src=10.0.0.1",
        "icmp dst=10.0.0.2",
        "icmp mark=0",
        "any dev=eth0",
        "track any",
        "icmp type=4",
        "icmp type=0-2",
    ] {
        assert_matches(text, &[], &[unreachable]);
    }
    for text in [
        "icmp type=3",
        "icmp type=0-255 any",
        "track icmp type=3",
        "icmp type=3 dst=10.0.0.2 oneway",
    ] {
        assert_matches(text, &[unreachable], &[]);
    }
    assert_matches("icmp any", &[icmp(3), icmp(8)], &[error(icmp(8))]);
    assert_matches(
        "icmp6 type=2",
        &[error(icmp6(2)), icmp6(2)],
        &[error(icmp6(1))],
    );
}

/// What has no ports or type to read matches no rule that names one, `track` rules included.
#[test]
fn packets_without_ports_or_type() {
    let datagram = udp("10.0.0.1", 4000, "10.0.0.2", 53);
    let later = fragment(datagram);
    for text in [
        "udp dport=53",
        "udp sport=4000",
        "udp dport=0-65535 any",
        "udp sport=0-65535 dport=0-65535 dst=10.0.0.2",
        "track udp dport=53",
        "track udp dport=53 dst=10.0.0.2",
        "udp dport=53 local=dst",
    ] {
        assert_matches(text, &[], &[later]);
    }
    for text in [
        "udp any",
        "udp dst=10.0.0.2",
        "udp mark=0",
        "track udp src=10.0.0.2",
    ] {
        assert_matches(text, &[later, datagram], &[]);
    }
    let ping = fragment(icmp(8));
    for text in [
        "icmp type=8",
        "icmp type=0-255 any",
        "track icmp type=8",
        "icmp,icmp6 type=0",
    ] {
        assert_matches(text, &[], &[ping]);
    }
    assert_matches("icmp any", &[ping], &[]);
}

#[test]
fn the_first_rule_counts() {
    let rules = ["track udp dport=53 dst=10.0.0.9", "udp dport=53", "udp any"].map(rule);
    let first = |key: &Key| oracle::first_match(rules.iter(), key, is_local);
    assert_eq!(first(&udp("10.0.0.1", 4000, "10.0.0.9", 53)), Some(0));
    assert_eq!(first(&udp("10.0.0.9", 53, "10.0.0.1", 4000)), Some(0));
    assert_eq!(first(&udp("10.0.0.1", 4000, "10.0.0.2", 53)), Some(1));
    assert_eq!(first(&udp("10.0.0.1", 4000, "10.0.0.2", 54)), Some(2));
    assert_eq!(
        first(&fragment(udp("10.0.0.1", 4000, "10.0.0.9", 53))),
        Some(2)
    );
    assert_eq!(first(&tcp("10.0.0.1", 4000, "10.0.0.2", 53)), None);
}
