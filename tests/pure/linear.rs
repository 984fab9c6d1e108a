// SPDX-License-Identifier: GPL-2.0

//! The linear table: what the oracle says, for which packets, and which tables have one.

use ctskip_pure::{
    matcher::{
        linear::LinearTable,
        scope::Scope, //
    },
    packet::{
        ends::{
            AskedEnds,
            NoEnds, //
        },
        header::{
            Key,
            Transport, //
        },
    },
    rule::Family, //
};
use ctskip_testkit::{
    compiled::{
        self,
        Compiled, //
    },
    packets::{
        self,
        Probe, //
    },
    rules::Kind,
    source::{
        Random,
        Source, //
    },
    world::{
        self,
        is_local,
        key,
        lines,
        Slot,
        FIRST_INUM,
        INIT_INUM, //
    },
};
use proptest::{
    collection::vec,
    prelude::*, //
};

use super::plan::{
    a_packet,
    rule_text,
    rules_of, //
};

/// The linear table of rules in a namespace that no rule names.
fn linear(text: &str) -> Option<LinearTable<Slot>> {
    LinearTable::build(
        Compiled::of_text(&format!("{text}\n")).ruleset(),
        Scope::Other,
    )
}

/// Whether a linear table is made for such a packet.
fn is_for(key: &Key) -> bool {
    key.family == Family::Ipv4 && matches!(key.transport, Transport::Ports(..))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// It says what the oracle says, of packets that it is made for, and of others nothing.
    #[test]
    fn few_rules(rules in vec(rules_of(Kind::Any(3)), 0..4), packets in vec(a_packet(), 60)) {
        let compiled = Compiled::of_text(&lines(&rules));
        let rules = world::rules(compiled.table());
        for netns in [INIT_INUM, FIRST_INUM, FIRST_INUM + 1, FIRST_INUM + 9] {
            let table = LinearTable::build(compiled.ruleset(), compiled.scope(netns));
            let Some(table) = table else { continue };
            for packet in &packets {
                let Probe { key, .. } = packets::any(&mut packet.source(), &rules);
                let ends = AskedEnds::new(&key, is_local);
                let found = table.first_match::<true>(&key, &ends);
                prop_assert_eq!(found.is_ok(), is_for(&key), "{:?}", key);
                let Ok(found) = found else { continue };
                let expected = compiled::first_match(rules.iter().copied(), &Probe { netns, key });
                let expected = expected.map(|at| compiled.table().entries()[at].id());
                prop_assert_eq!(found.map(|entry| entry.id()), expected, "{:?}", key);
            }
        }
    }
}

/// The comparison above says something: many of the tables have one, and many of the packets match.
#[test]
fn few_rules_are_met() {
    let source: &mut dyn Source = &mut Random::new(3);
    let (mut tables, mut made, mut matched, mut total) = (0, 0, 0, 0);
    for _ in 0..1000 {
        let rules: Vec<_> = (0..source.within(1, 2))
            .map(|_| rule_text(source, Kind::Any(3)))
            .collect();
        let compiled = Compiled::of_text(&lines(&rules));
        let rules = world::rules(compiled.table());
        tables += 1;
        let Some(table) = LinearTable::build(compiled.ruleset(), Scope::Init) else {
            continue;
        };
        made += 1;
        for _ in 0..20 {
            let probe = packets::any(source, &rules);
            let ends = AskedEnds::new(&probe.key, is_local);
            if let Ok(found) = table.first_match::<true>(&probe.key, &ends) {
                matched += usize::from(found.is_some());
                total += 1;
            }
        }
    }
    assert!(made * 5 > tables, "{made} of {tables} tables");
    assert!(total > 1000 && matched * 20 > total, "{matched} of {total}");
}

#[test]
fn which_tables_have_them() {
    for rules in [
        "udp src=10.9.0.1 dport=5000",
        "udp,tcp dst=10.0.0.0/8 dport=53",
        "udp dport=1024-2047",
        "icmp any",
        "icmp type=8\ntcp dst=2001:db8::/32\nudp dport=53",
        "udp dport=1\nudp dport=2 oneway\nudp dport=3 local=dst\ntcp dport=4 oneway local=src",
        "udp dport=1,2,3,4",
        "udp dport=53 mark=5 netns=init",
    ] {
        assert!(linear(rules).is_some(), "{rules}");
    }
    for rules in [
        "udp dport=1000-2000",
        "udp dport=53 mark=5",
        "udp dport=53 dev=eth0",
        "udp dport=1,2,3,4,5",
        "udp dport=1,2\nudp dport=3,4\ntcp dport=9 oneway",
    ] {
        assert!(linear(rules).is_none(), "{rules}");
    }
    let many = (1..=65).map(|n| format!("udp dport={n} netns=init\n"));
    let many = many.collect::<Vec<_>>().concat();
    assert!(linear(&many).is_none());
}

/// As many as there is room for, the last of them and none.
#[test]
fn the_last_of_them() {
    let linear = linear("udp dport=1,2,3\nudp dport=4").unwrap();
    let found = |port| {
        let key = key(17, "192.0.2.1", "192.0.2.2", Transport::Ports(9, port));
        linear
            .first_match::<false>(&key, NoEnds)
            .ok()
            .unwrap()
            .map(|entry| entry.id())
    };
    assert_eq!(found(1), Some(1));
    assert_eq!(found(4), Some(2));
    assert_eq!(found(5), None);
}
