// SPDX-License-Identifier: GPL-2.0

//! Hash tables: what the oracle says, and which tables have their rules in them.

use ctskip_pure::{
    matcher::scope::Scope,
    packet::header::Needs,
    rule::Family, //
};
use ctskip_testkit::{
    compiled::Compiled,
    packets,
    rules::Kind,
    source::{
        proptest::{
            made,
            Choices, //
        },
        Source, //
    },
    world::{
        self,
        lines,
        INIT_INUM, //
    },
};
use proptest::{
    collection::vec,
    prelude::*, //
};

use super::plan::{
    a_packet,
    hold,
    rules_of, //
};

/// Makes a rule of a host and a port or a type, of forty hosts: many of them are worth a table.
fn host_rule(source: &mut dyn Source) -> String {
    let host = source.below(40);
    let rest = match source.below(3) {
        0 => format!("type={}", source.pick(&[0, 3, 8])),
        _ => format!("dport={}", source.within(52, 54)),
    };
    let protocol = match rest.starts_with("type") {
        true => "icmp",
        false => source.pick(&["udp", "tcp"]),
    };
    format!("{protocol} src=10.0.1.{host} {rest}")
}

/// Returns the strategy of such rules, each once, and of a few plain ones behind them.
fn hashed_rules() -> impl Strategy<Value = Vec<String>> {
    let hosts = vec(made(4, host_rule), 20..120);
    (hosts, vec(rules_of(Kind::Plain), 0..3)).prop_map(|(hosts, more)| {
        let mut rules = Vec::new();
        for rule in hosts.into_iter().chain(more) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        rules
    })
}

/// Rules that all share a cell, more than one has room for, and as many that say no more than that.
fn crowd(say_more: bool) -> Vec<String> {
    let mut rules: Vec<String> = (0..64)
        .map(|n| format!("udp src=10.1.{n}.1 dport=53"))
        .collect();
    for n in 0..20 {
        rules.push(match say_more {
            true => format!("udp src=10.0.0.1 dport=53 dst=10.9.{n}.0/24"),
            false => format!("udp src=10.0.0.1 dport=53 tag=t{n}"),
        });
    }
    rules
}

/// Holds the rules against the oracle: on the way of the plan, and by each engine.
fn hold_engines(rules: &[String], packets: &[Choices]) -> Result<(), TestCaseError> {
    let compiled = Compiled::of_text(&lines(rules));
    hold(&compiled, packets)?;
    let ruleset = compiled.ruleset();
    let rules = world::rules(compiled.table());
    let sections = ruleset.sections(Scope::Init);
    for packet in packets {
        let mut probe = packets::any(&mut packet.source(), &rules);
        probe.netns = INIT_INUM;
        let key = &probe.key;
        let expected = compiled.first_match(&probe);
        let expected = expected.map(|at| compiled.table().entries()[at].id());
        let id = |order| Some(ruleset.entry(order)?.id());
        if !sections.needs().has(Needs::LOCAL) {
            let found = ruleset.lookup_whole(&sections, key).and_then(id);
            prop_assert_eq!(found, expected, "{:?} of {:?}", key, rules);
        }
        if ruleset.is_hashed(&sections) && key.family == Family::Ipv4 {
            let found = ruleset.lookup_hashed(&sections, key).and_then(id);
            prop_assert_eq!(found, expected, "hashed: {:?} of {:?}", key, rules);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn hashed(rules in hashed_rules(), packets in vec(a_packet(), 80)) {
        hold_engines(&rules, &packets)?;
    }

    #[test]
    fn rules_that_meet(rules in vec(rules_of(Kind::Plain), 9..40), packets in vec(a_packet(), 60)) {
        let mut rules = rules;
        rules.sort();
        rules.dedup();
        hold_engines(&rules, &packets)?;
    }

    /// What has no room in a cell is found all the same.
    #[test]
    fn crowded_cells(say_more: bool, packets in vec(a_packet(), 60)) {
        hold_engines(&crowd(say_more), &packets)?;
    }
}

#[test]
fn which_tables_are_hashed() {
    let is_hashed = |rules: &[String]| {
        let compiled = Compiled::of_text(&lines(rules));
        let ruleset = compiled.ruleset();
        ruleset.is_hashed(&ruleset.sections(Scope::Init))
    };
    let hosts = |rest: &str| -> Vec<String> {
        (0..200)
            .map(|n| format!("udp src=10.0.{n}.1{rest}"))
            .collect()
    };

    assert!(is_hashed(&hosts("")));
    assert!(is_hashed(&hosts(" dport=53")));
    assert!(is_hashed(&hosts(" dport=53,5353 dst=10.9.0.0/16")));
    assert!(is_hashed(&hosts(" dport=1000-2000")));
    assert!(is_hashed(
        &[hosts(" dport=53"), hosts(" sport=53 oneway")].concat()
    ));
    assert!(!is_hashed(&hosts(" mark=5")));
    assert!(!is_hashed(&hosts(" dev=eth0")));
    assert!(!is_hashed(
        &[hosts(" dport=53"), vec!["udp dport=5000-6000".into()]].concat()
    ));
    assert!(!is_hashed(&crowd(false)));
}
