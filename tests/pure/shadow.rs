// SPDX-License-Identifier: GPL-2.0

//! Rules that are never the first to match: what it means, and that they are found.

use std::collections::BTreeSet;

use ctskip_pure::{
    alloc::Arc,
    matcher::{
        limits::Stop,
        oracle,
        shadow::{
            covers,
            ShadowedRules,
            Shadows, //
        },
    },
    packet::header::{
        Key,
        Transport, //
    },
    rule::{
        protocol,
        Family,
        Fixed,
        FixedField,
        Rule, //
    },
    table::listing::Shadow,
};
use ctskip_testkit::{
    compiled::{
        holds,
        Compiled, //
    },
    packets::exchanged,
    shapes::Shape,
    source::{
        Random,
        Source, //
    },
    world::{
        changed,
        device,
        failing_in_turn,
        lines,
        number,
        read,
        rule,
        table,
        Table,
        Unlimited,
        World,
        FIRST_INUM,
        INIT_INUM, //
    },
};

/// Terms of which rules are made here: each has one of a line, or none. [`keys`] has a packet for each way in
/// which they can overlap.
const TERMS: &[&[&str]] = &[
    &["local=dst", "local=src"],
    &["dev=eth0", "dev=eth*", "dev=e*", "dev=eth0,eth1", "dev=lo"],
    &["mark=1", "mark=1/1", "mark=0/2", "mark=3/3"],
    &[
        "netns=init",
        "netns!=init",
        "netns=4026532000",
        "netns=4026532001",
    ],
    &["oneway"],
    &["track"],
];
const ADDRESSES: &[&str] = &[
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.0.0/16,10.2.0.0/16",
    "10.1.2.3",
    "0.0.0.0/0",
    "0.0.0.0/1,128.0.0.0/1",
    "10.0.0.0/8,200.0.0.0/8",
];
const ADDRESSES_6: &[&str] = &["2001:db8::/32", "2001:db8::1", "::/0"];
const PORTS: &[&str] = &["53", "50-60", "50-52,53-60", "0-65535", "53,55", "61"];
const TYPES: &[&str] = &[
    "8", "0", "0,8", "3", "3,8", "0-255", "13-16", "128", "129", "1", "128-129", "200",
];

/// Returns the text of a rule of these terms.
fn text(source: &mut dyn Source) -> String {
    let protocols = source.pick(&[
        "",
        "udp",
        "tcp",
        "tcp,udp",
        "udp,gre",
        "icmp",
        "icmp6",
        "icmp,icmp6",
        "gre",
        "ip",
        "ip6",
    ]);
    let mut text = format!("{protocols} any");
    let mut put = |source: &mut dyn Source, percent: u64, key: &str, values: &[&str]| {
        if source.percent(percent) {
            text += &format!(" {key}{}", source.pick(values));
        }
    };
    let addresses = match protocols {
        "icmp6" | "ip6" => ADDRESSES_6,
        _ => source.weighted(&[(5, ADDRESSES), (1, ADDRESSES_6)]),
    };
    if !protocols.contains("icmp6") || protocols == "icmp6" {
        put(source, 40, "src=", addresses);
        put(source, 40, "dst=", addresses);
    }
    if matches!(protocols, "udp" | "tcp" | "tcp,udp") {
        put(source, 40, "sport=", PORTS);
        put(source, 50, "dport=", PORTS);
    }
    if protocols.starts_with("icmp") {
        put(source, 70, "type=", TYPES);
    }
    if protocols == "tcp" {
        put(source, 30, "flags=", &["syn", "syn/syn", "ack", "syn+ack"]);
    }
    for terms in TERMS {
        put(source, 12, "", terms);
    }
    text
}

/// Returns a rule of these terms, as it is, and as it matches in the direction alone that it is written in.
fn made(source: &mut dyn Source) -> (Rule, Rule) {
    loop {
        let text = text(source);
        let oneway = match text.contains("oneway") {
            true => text.clone(),
            false => format!("{text} oneway"),
        };
        if let (Ok(parsed), Ok(oneway)) = (read(&text), read(&oneway)) {
            return (parsed.rule, oneway.rule);
        }
    }
}

/// Returns all values where a rule asks for one, else one.
fn asked<T: Copy>(is_asked: bool, all: &[T]) -> Vec<T> {
    all[..if is_asked { all.len() } else { 1 }].to_vec()
}

/// Calls `with` for a packet of each kind that the terms of these rules tell apart: the inode number of its
/// namespace, its key, and whether its source and its destination are local.
fn each_packet(rules: [&Rule; 2], mut with: impl FnMut(u32, &Key, [bool; 2])) {
    let any = |asks: &dyn Fn(&Rule) -> bool| rules.into_iter().any(asks);
    // Two at least, where it matters which one is local.
    let addresses = any(&|r| {
        r.sources().next().is_some() || r.destinations().next().is_some() || r.local().is_some()
    });
    let ports =
        any(&|r| r.source_ports().next().is_some() || r.destination_ports().next().is_some());
    let ports = asked(ports, &[40000, 50, 53, 55, 61]);
    let types: Vec<u8> = asked(
        any(&|r| r.icmp_types().next().is_some()),
        &std::array::from_fn::<u8, 256, _>(|at| (at as u8).wrapping_add(200)),
    );
    let devices = asked(
        any(&|r| r.devices().next().is_some()),
        &["lo", "eth0", "eth1", "eth9", "e1"],
    );
    let marks = asked(any(&|r| r.mark().is_some()), &[0, 1, 2, 3]);
    let flags = asked(
        any(&|r| r.flags().is_some()),
        &[None, Some(2), Some(0x12), Some(0x10), Some(0x0a), Some(1)],
    );
    let namespaces = asked(
        any(&|r| r.netns() != Default::default()),
        &[INIT_INUM, FIRST_INUM, FIRST_INUM + 1, FIRST_INUM + 9],
    );
    let ends = asked(
        any(&|r| r.local().is_some()),
        &[[false, false], [false, true], [true, false], [true, true]],
    );
    for family in [Family::Ipv4, Family::Ipv6] {
        let all: &[&str] = match family {
            Family::Ipv4 => &[
                "10.1.2.3",
                "10.1.9.9",
                "10.2.0.1",
                "10.9.0.1",
                "20.0.0.1",
                "200.0.0.1",
                "220.0.0.1",
            ],
            Family::Ipv6 => &["2001:db8::1", "2001:db8::2", "fe80::1"],
        };
        let addresses: Vec<u128> = asked(addresses, all).into_iter().map(number).collect();
        for protocol in [6u8, 17, 1, 58, 47, 99] {
            let mut transports = vec![Transport::Unknown];
            if protocol::has_ports(protocol) {
                let pairs = ports.iter().flat_map(|a| ports.iter().map(|b| (*a, *b)));
                transports.extend(pairs.map(|(a, b)| Transport::Ports(a, b)));
            } else if matches!(protocol, 1 | 58) {
                transports.extend(types.iter().map(|t| Transport::IcmpType(*t)));
            }
            for (source, destination) in addresses
                .iter()
                .flat_map(|a| addresses.iter().map(|b| (*a, *b)))
            {
                for transport in &transports {
                    for device_name in &devices {
                        for mark in &marks {
                            for flags in &flags {
                                if protocol != 6 && flags.is_some() {
                                    continue;
                                }
                                let key = Key {
                                    family,
                                    protocol,
                                    source,
                                    destination,
                                    transport: *transport,
                                    error: is_error(family, *transport),
                                    device: device(device_name),
                                    fixed: flags.map_or(Fixed::new(*mark), |flags| {
                                        Fixed::new(*mark).with(FixedField::FLAGS, flags)
                                    }),
                                };
                                for netns in &namespaces {
                                    for ends in &ends {
                                        // One address is local or not.
                                        if source != destination || ends[0] == ends[1] {
                                            with(*netns, &key, *ends);
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn is_error(family: Family, transport: Transport) -> bool {
    match (family, transport) {
        (Family::Ipv4, Transport::IcmpType(t)) => [3, 4, 5, 11, 12].contains(&t),
        (Family::Ipv6, Transport::IcmpType(t)) => [1, 2, 3, 4, 137].contains(&t),
        _ => false,
    }
}

/// Whether `a` matches each packet that `b` matches, and one direction of it each that `b` matches as it is
/// written: told from the packets.
fn covers_by_packets((a, a_oneway): (&Rule, &Rule), (b, b_oneway): (&Rule, &Rule)) -> bool {
    let (mut all, mut straight, mut crossed) = (true, true, !a.oneway());
    each_packet([a, b], |netns, key, [source, destination]| {
        let matches = |rule: &Rule, key: &Key| {
            let is_local = |address| match address == key.source {
                true => source,
                false => destination,
            };
            holds(rule, netns) && oracle::matches(rule, key, is_local)
        };
        if matches(b, key) {
            all &= matches(a, key);
        }
        if matches(b_oneway, key) {
            straight &= matches(a_oneway, key);
            crossed &= matches(a, key) && {
                // As `a` matches it exchanged: the type that answers, or none.
                let mut other = exchanged(key);
                if other.transport == key.transport
                    && matches!(key.transport, Transport::IcmpType(_))
                {
                    other.transport = Transport::Unknown;
                }
                let is_local = |address| match address == key.source {
                    true => source,
                    false => destination,
                };
                oracle::matches(a_oneway, &other, is_local)
            };
        }
    });
    all && (straight || crossed)
}

/// A rule covers another one where, and only where, the packets say so.
#[test]
fn covers_is_what_packets_say() {
    let source: &mut dyn Source = &mut Random::new(1);
    let (mut covered, mut not) = (0, 0);
    for _ in 0..3000 {
        let (a, a_oneway) = made(source);
        let (b, b_oneway) = made(source);
        let says = covers(&a, &b);
        // Few rules cover others: most of the others are let go.
        if !says && not > 2 * covered + 50 && source.percent(90) {
            continue;
        }
        let expected = covers_by_packets((&a, &a_oneway), (&b, &b_oneway));
        assert_eq!(says, expected, "{a}\n{b}");
        covered += i32::from(expected);
        not += i32::from(!expected);
    }
    assert!(covered > 30 && not > 30, "{covered} {not}");
}

/// What each term leaves to a rule behind.
#[test]
fn covers_by_each_term() {
    for (ahead, behind, expected) in [
        ("udp dport=53", "udp dport=53", true),
        ("track udp dport=53", "udp dport=53 nat=ok tag=a", true),
        ("udp dport=53 nat=ok", "track udp dport=53", true),
        // Both directions.
        ("udp dport=53", "udp sport=53", true),
        ("udp dport=53", "udp sport=53 oneway", true),
        ("udp dport=53 oneway", "udp dport=53", false),
        ("udp oneway any", "udp dport=53", true),
        (
            "udp src=10.0.0.1 dport=53",
            "udp dst=10.0.0.1 sport=53",
            true,
        ),
        (
            "udp src=10.0.0.1 dport=53",
            "udp dst=10.0.0.1 dport=53",
            false,
        ),
        ("icmp type=8", "icmp type=0", true),
        ("icmp type=8 oneway", "icmp type=0 oneway", false),
        ("icmp any", "icmp type=8", true),
        // ICMP errors follow what they quote, unless their type is named.
        ("icmp any", "icmp type=3", false),
        ("icmp type=0-255 any", "icmp any", false),
        ("icmp type=3-8", "icmp type=3,5", true),
        // No packet is without a port, if the other one is known.
        ("udp dport=0-65535 any", "udp any", false),
        ("udp dport=0-65535 any oneway", "udp sport=53 oneway", true),
        ("udp dport=1-65535 any oneway", "udp sport=53 oneway", false),
        ("udp dport=1-65535 any", "udp sport=53", true),
        // Elements of one list together.
        ("udp dport=1-5,6-9", "udp dport=4-7", true),
        (
            "udp src=10.0.0.0/9,10.128.0.0/9 dport=1",
            "udp src=10.0.0.0/8 dport=1",
            true,
        ),
        ("udp src=0.0.0.0/0 any", "ip udp any", true),
        ("udp src=0.0.0.0/0 any", "udp any", false),
        ("tcp,udp dport=1", "udp dport=1", true),
        ("udp dport=1", "tcp,udp dport=1", false),
        ("any", "ip6 udp dport=1", true),
        ("ip any", "udp dport=1", false),
        ("udp any dev=eth*", "udp any dev=eth0", true),
        ("udp any dev=eth*", "udp any dev=eth1*,eth", true),
        ("udp any dev=eth0", "udp any dev=eth*", false),
        ("udp any dev=eth0", "udp any", false),
        ("udp any mark=1/1", "udp any mark=3", true),
        ("udp any mark=1/1", "udp any mark=1/3", true),
        ("udp any mark=1/3", "udp any mark=1/1", false),
        ("tcp any flags=syn/syn", "tcp any flags=syn", true),
        ("tcp any flags=syn", "tcp any flags=syn/syn", false),
        ("tcp any flags=syn", "tcp any", false),
        ("udp any local=src", "udp dport=1 local=dst", true),
        ("udp any local=src", "udp any local=dst oneway", true),
        (
            "udp any local=src oneway",
            "udp any local=dst oneway",
            false,
        ),
        (
            "udp src=10.0.0.1 any local=src",
            "udp src=10.0.0.1 any local=dst",
            false,
        ),
        ("udp any local=src", "udp any", false),
        ("udp any netns!=init", "udp any netns=4026532000", true),
        ("udp any netns=init", "udp any", false),
        (
            "udp any netns=4026532000",
            "udp any netns=4026532001",
            false,
        ),
        ("udp any netns=4026532000", "udp any netns!=init", false),
    ] {
        assert_eq!(
            covers(&rule(ahead), &rule(behind)),
            expected,
            "{ahead}\n{behind}"
        );
    }
}

/// The first rule ahead of each that covers it, by all pairs.
fn by_pairs(table: &Table) -> Vec<Shadow> {
    let entries = table.entries();
    let of = |at: usize| {
        let ahead = entries[..at].iter();
        let mut covering = ahead.filter(|other| covers(other.rule(), entries[at].rule()));
        covering
            .next()
            .map_or(Shadow::None, |entry| Shadow::By(entry.id()))
    };
    (0..entries.len()).map(of).collect()
}

/// What is said of each rule.
fn said(shadows: &Shadows, count: usize) -> Vec<Shadow> {
    (0..count).map(|at| shadows.at(at)).collect()
}

#[track_caller]
fn assert_found(compiled: &Compiled) -> usize {
    let table = compiled.table();
    let shadows = Shadows::of(compiled.ruleset(), &Unlimited).unwrap();
    let expected = by_pairs(table);
    for ((at, said), entry) in said(&shadows, expected.len())
        .iter()
        .enumerate()
        .zip(table.entries())
    {
        assert_eq!(*said, expected[at], "{at}: {}", entry.rule());
    }
    shadows.known().count()
}

/// In small tables of overlapping rules, all that is shadowed is found, and nothing else.
#[test]
fn shadows_of_small_tables() {
    let source: &mut dyn Source = &mut Random::new(2);
    let mut found = 0;
    for _ in 0..600 {
        let count = source.within(1, 40);
        let text = (0..count).fold(String::new(), |text, _| {
            text + &format!("{}\n", made(source).0)
        });
        found += assert_found(&Compiled::of_text(&text));
    }
    assert!(found > 1000, "{found}");
}

/// So it is in tables of every shape, whichever engine packets are looked up by.
#[test]
fn shadows_of_every_shape() {
    for (shape, name) in Shape::ALL {
        let rules = shape.rules(120, 3);
        let found = assert_found(&Compiled::of_text(&lines(&rules)));
        // A table twice: the second half is shadowed.
        let twice = [&rules[..], &rules[..]].concat();
        let both = assert_found(&Compiled::of_text(&lines(&twice)));
        assert!(both >= 120 + found, "{name}: {found} {both}");
    }
}

/// What is told of a change: rules that are shadowed since then.
#[test]
fn shadows_since_a_change() {
    let source: &mut dyn Source = &mut Random::new(4);
    let world = World::default();
    let (mut told, mut left) = (0, 0);
    for round in 0..250 {
        let count = source.within(1, 30);
        let rules: Vec<String> = (0..count).map(|_| made(source).0.to_string()).collect();
        // Small changes of larger tables are compiled aside.
        let more = match round % 10 {
            0 => Shape::Acl.rules(600, 5),
            _ => Vec::new(),
        };
        let mut compiled = Compiled::new(table(&lines(&[rules, more].concat()), &world));
        for _ in 0..4 {
            let last = compiled.table();
            let mut write = String::new();
            let most = if source.percent(10) { 30 } else { 3 };
            for _ in 0..source.within(1, most) {
                let one = source
                    .one_of(last.entries().iter())
                    .map_or(0, |entry| entry.id());
                write += &match source.below(4) {
                    0 => format!("insert {}\n", made(source).0),
                    1 => format!("insert before={one} {}\n", made(source).0),
                    2 => format!("add {}\n", made(source).0),
                    _ if write.contains(&format!("delete {one}\n")) => continue,
                    _ => format!("delete {one}\n"),
                };
            }
            let Some(next) = ctskip_testkit::world::written(last, &write, &world) else {
                continue;
            };
            let next = compiled.updated(next);
            let old: BTreeSet<u32> = last.entries().iter().map(|entry| entry.id()).collect();
            let entries = next.table().entries();
            let expected: Vec<Shadow> = by_pairs(next.table())
                .into_iter()
                .zip(entries)
                .map(|(shadow, entry)| match shadow {
                    Shadow::By(id) if old.contains(&id) && old.contains(&entry.id()) => {
                        left += 1;
                        Shadow::None
                    }
                    shadow => shadow,
                })
                .collect();
            let since = Shadows::since(next.ruleset(), compiled.ruleset(), &Unlimited).unwrap();
            let since = since.expect("tables that have much in common");
            assert_eq!(said(&since, entries.len()), expected, "{write}");
            told += since.known().count();
            compiled = next;
        }
    }
    assert!(told > 500 && left > 500, "{told} {left}");
}

/// A rule that changes its place is as good as new; a table that has little in common with the last one is
/// not compared with it.
#[test]
fn shadows_of_other_tables() {
    let world = World::default();
    let last = Compiled::new(table("udp dport=1 id=1\nudp any id=2\n", &world));
    let next = changed(last.table(), "delete 1\nadd udp dport=1 id=1\n", &world);
    let next = last.updated(next);
    let since = Shadows::since(next.ruleset(), last.ruleset(), &Unlimited)
        .unwrap()
        .unwrap();
    assert_eq!(said(&since, 2), [Shadow::None, Shadow::By(2)]);
    let same = Shadows::since(next.ruleset(), next.ruleset(), &Unlimited)
        .unwrap()
        .unwrap();
    assert_eq!(said(&same, 2), [Shadow::None; 2]);

    let many = Compiled::of_text(&"udp dport=1\n".repeat(256));
    let empty = Compiled::new(Table::new());
    assert_eq!(
        Shadows::since(many.ruleset(), empty.ruleset(), &Unlimited).unwrap(),
        None
    );
    let many = Compiled::of_text(&"udp dport=1\n".repeat(255));
    let since = Shadows::since(many.ruleset(), empty.ruleset(), &Unlimited)
        .unwrap()
        .unwrap();
    assert_eq!(since.known().count(), 254);
}

/// The log names 16 of them.
#[test]
fn shadowed_rules_are_listed() {
    let listed = |text: &str| {
        let compiled = Compiled::of_text(text);
        let shadows = Shadows::of(compiled.ruleset(), &Unlimited).unwrap();
        let table = compiled.table();
        let shadows = &shadows;
        ShadowedRules { table, shadows }.to_string()
    };
    assert_eq!(
        listed("udp dport=1 id=9\nudp dport=1 id=4\nudp dport=2 id=5\n"),
        "4"
    );
    let sixteen = "2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17";
    assert_eq!(listed(&"udp dport=1\n".repeat(17)), sixteen);
    assert_eq!(
        listed(&"udp dport=1\n".repeat(20)),
        format!("{sixteen} and 3 more")
    );
}

/// Two rules together leave nothing to any other, and by address and port all are alike: so each is held
/// against all ahead of it, as long as there is work for that.
#[test]
fn shadows_where_the_work_ends() {
    let halves = "udp src=0.0.0.0/1 any oneway\nudp src=128.0.0.0/1 any oneway\n";
    let rule = |at: u32| format!("ip udp mark={at}\n");
    let of = |count: u32| {
        let text: String = [halves.to_string()]
            .into_iter()
            .chain((0..count).map(rule))
            .collect();
        Shadows::of(Compiled::of_text(&text).ruleset(), &Unlimited).unwrap()
    };
    for (count, is_all) in [(30, true), (400, false)] {
        let shadows = of(count);
        assert_eq!(shadows.known().count(), 0);
        assert_eq!(shadows.unknown() == 0, is_all, "{count}");
        let first = (0..count as usize + 2).find(|at| shadows.at(*at) == Shadow::Unknown);
        // From where it ends, it ends for all.
        assert_eq!(
            shadows.unknown(),
            first.map_or(0, |first| count as usize + 2 - first)
        );
    }
}

#[test]
fn shadows_without_memory() {
    let text = "udp any\n".repeat(100);
    let compiled = Compiled::of_text(&text);
    let count = failing_in_turn(
        || Shadows::of(compiled.ruleset(), &Unlimited),
        |result: Result<Shadows, Stop>| result.is_ok(),
    );
    assert!(count >= 1);
    let empty = Arc::new(Compiled::new(Table::new())).unwrap();
    let count = failing_in_turn(
        || Shadows::since(compiled.ruleset(), empty.ruleset(), &Unlimited),
        |result| result.is_ok(),
    );
    assert!(count >= 2);
}
