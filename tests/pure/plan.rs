// SPDX-License-Identifier: GPL-2.0

//! The way of a packet through the plan of its namespace, held against the oracle; and which plan is
//! chosen.

use std::collections::BTreeMap;

use ctskip_pure::{
    matcher::{
        plan::{
            Plan,
            View, //
        },
        scope::Scope, //
    },
    packet::{
        header::{
            Key,
            Transport, //
        },
        verdict::Mode, //
    },
    rule::{
        Fixed,
        FixedField, //
    },
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
    rules::{
        Kind,
        Spec,
        Style, //
    },
    source::{
        proptest::{
            choices,
            made,
            Choices, //
        },
        Random,
        Source, //
    },
    world::{
        self,
        changed,
        key,
        lines,
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

/// Makes the text of a rule.
pub(super) fn rule_text(source: &mut dyn Source, kind: Kind) -> String {
    Spec::make(source, kind).text(&Style::plain())
}

/// Returns the strategy of a rule's text.
pub(super) fn rules_of(kind: Kind) -> impl Strategy<Value = String> {
    made(160, move |source| rule_text(source, kind))
}

/// Returns the strategy of the choices of a packet.
pub(super) fn a_packet() -> impl Strategy<Value = Choices> {
    choices(48)
}

/// Holds a compiled table against the oracle, with packets near to its rules.
pub(super) fn hold(compiled: &Compiled, packets: &[Choices]) -> Result<(), TestCaseError> {
    let rules = world::rules(compiled.table());
    for packet in packets {
        let probe = packets::any(&mut packet.source(), &rules);
        let expected = compiled::first_match(rules.iter().copied(), &probe);
        let text = |at: Option<usize>| at.map(|at| (at, rules[at].to_string()));
        let found = compiled.first_match(&probe);
        prop_assert_eq!(
            text(found),
            text(expected),
            "of {}: {:?}",
            rules.len(),
            probe
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Of one rule, it says what the oracle says.
    #[test]
    fn one_rule(rule in rules_of(Kind::Any(3)), packets in vec(a_packet(), 60)) {
        hold(&Compiled::of_text(&lines(&[rule])), &packets)?;
    }

    /// Of many rules, it finds the first.
    #[test]
    fn many_rules(rules in vec(rules_of(Kind::Any(3)), 0..25), packets in vec(a_packet(), 60)) {
        hold(&Compiled::of_text(&lines(&rules)), &packets)?;
    }
}

/// The packets of the tests above do meet the rules: else the comparison would say nothing.
#[test]
fn packets_meet_rules() {
    let source: &mut dyn Source = &mut Random::new(1);
    let (mut hits, mut total) = (0, 0);
    for _ in 0..500 {
        let rule = world::rule(&rule_text(source, Kind::Any(3)));
        for _ in 0..20 {
            let probe = packets::any(source, &[&rule]);
            hits += usize::from(compiled::matches(&rule, &probe));
            total += 1;
        }
    }
    let percent = hits * 100 / total;
    assert!(
        (25..=75).contains(&percent),
        "{percent} % of the packets match"
    );
}

/// The tables of the tests above have every plan that a compiled table has.
#[test]
fn tables_have_every_plan() {
    let source: &mut dyn Source = &mut Random::new(2);
    let mut plans = BTreeMap::<String, usize>::new();
    for round in 0..600 {
        let kind = [Kind::Any(3), Kind::Plain][round % 2];
        let rules: Vec<_> = (0..source.below(40))
            .map(|_| rule_text(source, kind))
            .collect();
        let compiled = Compiled::of_text(&lines(&rules));
        for netns in [INIT_INUM, FIRST_INUM, FIRST_INUM + 9] {
            let plan = compiled.view(netns).plan();
            *plans.entry(format!("{plan:?}")).or_default() += 1;
        }
    }
    for plan in [
        "Idle",
        "Linear",
        "Hashed",
        "Trees",
        "TreesWithDevices",
        "Full",
    ] {
        let count = plans.get(plan).copied().unwrap_or(0);
        assert!(count >= 20, "{plan}: {plans:?}");
    }
}

/// The tables of one rule have the plans for few rules.
#[test]
fn one_rule_has_a_plan_for_few() {
    let source: &mut dyn Source = &mut Random::new(4);
    let mut plans = BTreeMap::<String, usize>::new();
    for _ in 0..1000 {
        let compiled = Compiled::of_text(&lines(&[rule_text(source, Kind::Any(3))]));
        let plan = compiled.view(INIT_INUM).plan();
        *plans.entry(format!("{plan:?}")).or_default() += 1;
    }
    for plan in ["Linear", "LinearLocal", "Full"] {
        let count = plans.get(plan).copied().unwrap_or(0);
        assert!(count >= 10, "{plan}: {plans:?}");
    }
}

/// Returns so many rules that hash tables take, with other rules behind them.
fn hosts(count: u32, more: &str) -> String {
    let host = |n: u32| format!("udp src=10.{}.{}.1 dport=53\n", n / 256, n % 256);
    (0..count).map(host).collect::<String>() + more
}

/// Which plan is chosen for which rules.
#[test]
fn plans() {
    let in_mode = |compiled: &Compiled, mode| {
        let view = View::new(compiled.ruleset().clone(), Scope::Init, mode, true);
        view.plan()
    };
    let plan = |text: &str| in_mode(&Compiled::of_text(text), Mode::Skip);

    assert_eq!(plan(""), Plan::Idle);
    assert_eq!(plan("udp dport=53 netns=4026532001\n"), Plan::Idle);
    assert_eq!(plan("udp dport=53\n"), Plan::Linear);
    assert_eq!(plan("udp dport=53 local=dst\n"), Plan::LinearLocal);
    assert_eq!(plan("udp dport=1000-2000 local=dst\n"), Plan::Full);
    assert_eq!(plan("udp dport=53 dev=eth0\n"), Plan::TreesWithDevices);
    assert_eq!(plan("tcp dport=80 flags=syn\n"), Plan::Full);
    assert_eq!(plan("udp dport=1000-2000\n"), Plan::Trees);
    assert_eq!(plan(&hosts(200, "")), Plan::Hashed);
    assert_eq!(plan(&hosts(200, "udp dport=5000-6000\n")), Plan::Trees);
    let with_device = hosts(200, "udp dport=53 dev=eth0\n");
    assert_eq!(plan(&with_device), Plan::TreesWithDevices);

    // Flags are read, whatever changed since all rules were compiled.
    let world = World::default();
    let flags = "tcp dport=80 flags=syn\n";
    for (text, update) in [
        (hosts(600, ""), format!("insert {flags}")),
        (hosts(600, flags), "delete 7\n".to_string()),
    ] {
        let base = Compiled::new(table(&text, &world));
        let new = base.updated(changed(base.table(), &update, &world));
        assert!(!new.ruleset().is_whole());
        assert_eq!(in_mode(&new, Mode::Skip), Plan::Full);
        let syn = Key {
            fixed: Fixed::new(0).with(FixedField::FLAGS, 0x02),
            ..key(6, "10.0.0.1", "10.0.0.2", Transport::Ports(4000, 80))
        };
        let probe = |key| Probe {
            netns: INIT_INUM,
            key,
        };
        assert!(new.first_match(&probe(syn)).is_some());
        let data = Key {
            fixed: Fixed::new(0).with(FixedField::FLAGS, 0x10),
            ..syn
        };
        assert_eq!(new.first_match(&probe(data)), None);
    }

    // Of few rules, all are compiled again when one changes.
    for (count, after) in [(200, Plan::Hashed), (600, Plan::Changed)] {
        let world = World::default();
        let base = Compiled::new(table(&hosts(count, ""), &world));
        assert_eq!(in_mode(&base, Mode::Skip), Plan::Hashed);
        let new = changed(base.table(), "delete 7\n", &world);
        assert_eq!(in_mode(&base.updated(new), Mode::Skip), after);
    }

    for text in ["udp dport=53\n", "udp dport=1000-2000\n", &with_device] {
        let compiled = Compiled::of_text(text);
        assert_eq!(in_mode(&compiled, Mode::Observe), Plan::Observe);
        assert_eq!(in_mode(&compiled, Mode::Off), Plan::Idle);
    }
    assert_eq!(in_mode(&Compiled::of_text(""), Mode::Observe), Plan::Idle);
}
