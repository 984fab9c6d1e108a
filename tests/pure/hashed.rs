// SPDX-License-Identifier: GPL-2.0

//! Rules in hash tables: what the oracle says, and which tables have that.

use ctskip_pure::{
    alloc::Arc,
    matcher::{
        oracle,
        ruleset::Ruleset,
        scope::Scope, //
    },
    rule::{
        Family,
        Rule, //
    },
    table::Table, //
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select, //
};

use super::{
    common::{
        changed,
        rule,
        Counted,
        Slot, //
    },
    matching::seeds,
};

/// Rules that meet each other a lot: of four hosts, four networks and four ports.
fn a_rule() -> impl Strategy<Value = String> {
    let host = select(vec![
        "",
        " {}=10.0.0.1",
        " {}=10.0.0.2",
        " {}=10.0.0.0/31",
        " {}=10.0.0.0/8",
    ]);
    let port = select(vec![
        "",
        " {}=53",
        " {}=53,54",
        " {}=52-53",
        " {}=1024-2047",
        " {}=53-60000",
    ]);
    let ends = (host.clone(), host, port.clone(), port);
    let more = select(vec![
        "",
        "",
        " oneway",
        " local=dst",
        " local=src",
        " nat=ok",
        " tag=a",
        " tag=b",
    ]);
    (
        select(vec!["skip", "track"]),
        select(vec!["udp", "tcp", "udp,tcp"]),
        ends,
        more,
    )
        .prop_map(
            |(action, protocol, (source, destination, sport, dport), more)| {
                let [source, destination] = [(source, "src"), (destination, "dst")].map(named);
                let [sport, dport] = [(sport, "sport"), (dport, "dport")].map(named);
                let ends = source + &destination + &sport + &dport;
                let any = if ends.is_empty() { " any" } else { "" };
                let more = if action == "track" {
                    more.replace(" nat=ok", "")
                } else {
                    more.to_string()
                };
                format!("{action} {protocol}{any}{ends}{more}")
            },
        )
}

fn named((text, name): (&str, &str)) -> String {
    text.replace("{}", name)
}

/// The same with addresses that tell them apart, so that they are worth a table.
fn hashed_rules() -> impl Strategy<Value = Vec<String>> {
    let apart = (0..40u32, 0..3u32, select(vec!["udp", "tcp", "icmp"])).prop_map(
        |(host, port, protocol)| {
            let last = match protocol {
                "icmp" => format!("type={}", [0, 3, 8][port as usize]),
                _ => format!("dport={}", 52 + port),
            };
            format!("{protocol} src=10.0.1.{host} {last}")
        },
    );
    (vec(apart, 20..120), vec(a_rule(), 0..3)).prop_map(|(apart, more)| {
        let mut rules = Vec::new();
        for rule in apart.into_iter().chain(more) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        rules
    })
}

fn compiled(rules: &[String]) -> Ruleset<Slot> {
    let table = changed(
        &Table::new(),
        &(rules.join("\n") + "\n"),
        &Counted::default(),
    );
    Ruleset::compile(Arc::new(table).unwrap()).unwrap()
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

fn hold(
    rules: &[String],
    seeds: impl Iterator<Item = ctskip_pure::packet::header::Key>,
) -> Result<(), TestCaseError> {
    let ruleset = compiled(rules);
    let sections = ruleset.sections(Scope::Init);
    let parsed: Vec<Rule> = rules.iter().map(|text| rule(text)).collect();
    for key in seeds {
        let expected = oracle::first_match(parsed.iter(), &key);
        let at = |order| {
            let entry = ruleset.entry(order)?;
            ruleset
                .table()
                .entries()
                .iter()
                .position(|other| other.id() == entry.id())
        };
        let found = ruleset.lookup_whole(&sections, &key).and_then(at);
        prop_assert_eq!(found, expected, "{:?} of {:?}", key, rules);
        if ruleset.is_hashed(&sections) && key.family == Family::Ipv4 {
            let found = ruleset.lookup_hashed(&sections, &key).and_then(at);
            prop_assert_eq!(found, expected, "hashed: {:?} of {:?}", key, rules);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn hashed(rules in hashed_rules(), seeds in vec(seeds(), 80)) {
        let parsed: Vec<Rule> = rules.iter().map(|text| rule(text)).collect();
        hold(&rules, seeds.iter().map(|seed| seed.key(&parsed)))?;
    }

    #[test]
    fn rules_that_meet(rules in vec(a_rule(), 9..40), seeds in vec(seeds(), 60)) {
        let mut rules = rules;
        rules.sort();
        rules.dedup();
        let parsed: Vec<Rule> = rules.iter().map(|text| rule(text)).collect();
        hold(&rules, seeds.iter().map(|seed| seed.key(&parsed)))?;
    }

    /// What has no room in a cell is found all the same.
    #[test]
    fn crowded_cells(say_more: bool, seeds in vec(seeds(), 60)) {
        let rules = crowd(say_more);
        let parsed: Vec<Rule> = rules.iter().map(|text| rule(text)).collect();
        hold(&rules, seeds.iter().map(|seed| seed.key(&parsed)))?;
    }
}

#[test]
fn which_tables_are_hashed() {
    let is_hashed = |rules: &[String]| {
        let ruleset = compiled(rules);
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
