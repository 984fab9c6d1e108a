// SPDX-License-Identifier: GPL-2.0

//! The rules of a table by the namespaces in which they hold.

use std::fmt::Write;

use ctskip_pure::{
    alloc::Arc,
    matcher::{
        ruleset::Ruleset,
        scope::Scope, //
    },
    packet::{
        ends::NoEnds,
        header::{
            Needs,
            Transport, //
        },
    },
    rule::{
        Netns,
        NetnsId, //
    }, //
};
use ctskip_testkit::{
    compiled::{
        self,
        holds,
        Compiled, //
    },
    packets::{
        self,
        Probe, //
    },
    rules::Kind,
    world::{
        self,
        changed,
        key,
        lines,
        netns,
        table,
        World,
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
    rules_of, //
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// A compiled table finds in each namespace the first of the rules that hold there.
    #[test]
    fn scopes(rules in vec(rules_of(Kind::Any(3)), 0..25), packets in vec(a_packet(), 20)) {
        let compiled = Compiled::of_text(&lines(&rules));
        let ruleset = compiled.ruleset();
        let rules = world::rules(compiled.table());
        let mut named: Vec<NetnsId> = rules
            .iter()
            .filter_map(|rule| match rule.netns() {
                Netns::Only(id) => Some(id),
                _ => None,
            })
            .collect();
        named.sort_by_key(|id| id.cookie);
        named.dedup();
        prop_assert_eq!(&ruleset.named().collect::<Vec<_>>(), &named);
        for (group, id) in named.iter().enumerate() {
            prop_assert_eq!(ruleset.scope(false, id.cookie), Scope::Named(group));
        }

        // The initial namespace, those that rules may name, and one that none names.
        let others = [0, 1, 2, 3, 9].map(|n| FIRST_INUM + n);
        for inum in [INIT_INUM].into_iter().chain(others) {
            let scope = compiled.scope(inum);
            let held = || rules.iter().copied().filter(|rule| holds(rule, inum));
            prop_assert_eq!(ruleset.len_in(scope), held().count());
            prop_assert_eq!(
                ruleset.sections(scope).needs(),
                held().fold(Needs::NONE, |needs, rule| needs.and(Needs::of(rule)))
            );
            for packet in &packets {
                let Probe { key, .. } = packets::any(&mut packet.source(), &rules);
                let probe = Probe { netns: inum, key };
                let expected = compiled::first_match(rules.iter().copied(), &probe);
                prop_assert_eq!(compiled.first_match(&probe), expected, "{:?}", probe);
            }
            for rule in &rules {
                prop_assert_eq!(ruleset.holds_in(scope, rule.netns()), holds(rule, inum));
            }
        }
    }
}

/// Ids, positions and scopes of a small table, by hand.
#[test]
fn positions_are_those_of_the_table() {
    let world = World::default();
    let table = table(
        "udp dport=53 netns=4026532001 id=9\n\
         udp dport=53 netns!=init id=4\n\
         udp dport=53 netns=init id=7\n\
         udp dport=53 id=1\n",
        &world,
    );
    let ruleset = Ruleset::compile(Arc::new(table).unwrap()).unwrap();
    let key = key(17, "10.0.0.1", "10.0.0.2", Transport::Ports(4000, 53));
    let id = |scope| {
        ruleset
            .entry(
                ruleset
                    .lookup(&ruleset.sections(scope), &key, NoEnds)
                    .unwrap(),
            )
            .unwrap()
            .id()
    };
    assert_eq!(id(ruleset.scope(true, 1)), 7);
    assert_eq!(id(ruleset.scope(false, netns(1).cookie)), 9);
    assert_eq!(id(ruleset.scope(false, netns(2).cookie)), 4);
    assert_eq!(ruleset.scope(false, netns(2).cookie), Scope::Other);
}

/// A namespace whose rules have all been deleted is one that none names, before all is compiled
/// again, too.
#[test]
fn a_namespace_that_no_rule_names_any_more() {
    let world = World::default();
    let mut text = "udp src=10.0.0.1 netns=4026532000\n".to_owned();
    for port in 1..=600 {
        writeln!(text, "udp dport={port}").unwrap();
    }
    let base = Arc::new(table(&text, &world)).unwrap();
    let named = netns(0);
    let ruleset = Ruleset::compile(base.clone()).unwrap();
    assert_eq!(ruleset.named().collect::<Vec<_>>(), [named]);

    let shorter = changed(&base, "delete 1\n", &world);
    let ruleset = ruleset.updated(Arc::new(shorter).unwrap()).unwrap();
    assert!(!ruleset.is_whole());
    assert_eq!(ruleset.named().count(), 0);
    assert_eq!(ruleset.scope(false, named.cookie), Scope::Other);
}
