// SPDX-License-Identifier: GPL-2.0

//! Few rules, compared with one after another: what the oracle says, and which tables have that.

use ctskip_pure::{
    alloc::Arc,
    matcher::{
        linear::LinearTable,
        oracle,
        ruleset::Ruleset,
        scope::Scope, //
    },
    packet::header::Transport,
    rule::{
        Family,
        HookPoint,
        Netns,
        Rule, //
    },
    table::Table, //
};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::TestRunner, //
};

use super::{
    common::{
        cookie,
        key,
        rule,
        table,
        Counted,
        Slot, //
    },
    matching::seeds,
    specs::{
        spec_lists,
        Spec,
        Style, //
    }, //
};

fn compiled(text: &str) -> Ruleset<Slot> {
    let slots = Counted::default();
    let table = match text.is_empty() {
        true => Table::new(),
        false => table(text, &slots),
    };
    Ruleset::compile(Arc::new(table).unwrap()).unwrap()
}

fn text(specs: &[Spec]) -> String {
    specs
        .iter()
        .map(|spec| spec.text(&Style::plain()) + "\n")
        .collect()
}

/// The few rules of a table in a namespace that no rule names.
fn few(text: &str) -> Option<LinearTable<Slot>> {
    LinearTable::build(&compiled(&format!("{text}\n")), Scope::Other)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// They say what the oracle says, of those packets that they are for.
    #[test]
    fn few_rules(specs in spec_lists(0..4), seeds in vec(seeds(), 60)) {
        let ruleset = compiled(&text(&specs));
        let rules: Vec<Rule> = specs.iter().map(|s| rule(&s.text(&Style::plain()))).collect();
        for namespace in [None, Some(0), Some(1), Some(9)] {
            let holds = |netns: Netns| match (netns, namespace) {
                (Netns::Any, _) => true,
                (Netns::Init, n) => n.is_none(),
                (Netns::NotInit, n) => n.is_some(),
                (Netns::Only(id), n) => n.is_some_and(|n| id.cookie == cookie(n)),
            };
            let scope = ruleset.scope(namespace.is_none(), namespace.map_or(1, cookie));
            let Some(few) = LinearTable::build(&ruleset, scope) else { continue };
            for seed in &seeds {
                let key = seed.key(&rules);
                let are_for = key.family == Family::Ipv4
                    && matches!(key.transport, Transport::Ports(..));
                let Ok(found) = few.first_match(&key) else {
                    prop_assert!(!are_for, "{key:?}");
                    continue;
                };
                prop_assert!(are_for, "{key:?}");
                let expected = rules.iter().position(|r| holds(r.netns()) && oracle::matches(r, &key));
                let entries = ruleset.table().entries();
                let expected = expected.map(|position| entries[position].id());
                prop_assert_eq!(found.map(|entry| entry.id()), expected, "{:?}", key);
            }
        }
    }
}

/// The comparison above says something: many of the tables have it, and many of the keys match.
#[test]
fn few_rules_are_met() {
    let mut runner = TestRunner::deterministic();
    let (mut tables, mut made, mut matched, mut total) = (0, 0, 0, 0);
    for _ in 0..1000 {
        let specs = spec_lists(1..3).new_tree(&mut runner).unwrap().current();
        let rules: Vec<Rule> = specs
            .iter()
            .map(|s| rule(&s.text(&Style::plain())))
            .collect();
        tables += 1;
        let Some(few) = LinearTable::build(&compiled(&text(&specs)), Scope::Init) else {
            continue;
        };
        made += 1;
        for _ in 0..20 {
            let key = seeds().new_tree(&mut runner).unwrap().current().key(&rules);
            if let Ok(found) = few.first_match(&key) {
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
        "udp dport=1 local=dst\nudp dport=2 local=dst\nudp dport=3 local=src\ntcp dport=4 oneway",
        "udp dport=1,2,3,4",
        "udp dport=53 mark=5 netns=init",
    ] {
        assert!(few(rules).is_some(), "{rules}");
    }
    for rules in [
        "udp dport=1000-2000",
        "udp dport=53 mark=5",
        "udp dport=53 dev=eth0",
        "udp dport=1,2,3,4,5",
        "udp dport=1,2\nudp dport=3,4\ntcp dport=9 oneway",
    ] {
        assert!(few(rules).is_none(), "{rules}");
    }
    let many = (1..=65).map(|n| format!("udp dport={n} netns=init\n"));
    let many = many.collect::<Vec<_>>().concat();
    assert!(few(&many).is_none());
}

/// As many as there is room for, the last of them and none.
#[test]
fn the_last_of_them() {
    let few = few("udp dport=1,2,3\nudp dport=4").unwrap();
    let found = |port, point| {
        let mut key = key(17, "192.0.2.1", "192.0.2.2", Transport::Ports(9, port));
        key.point = point;
        few.first_match(&key).ok().unwrap().map(|entry| entry.id())
    };
    for point in [HookPoint::PreRouting, HookPoint::LocalOut] {
        assert_eq!(found(1, point), Some(1));
        assert_eq!(found(4, point), Some(2));
        assert_eq!(found(5, point), None);
    }
}
