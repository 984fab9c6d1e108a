// SPDX-License-Identifier: GPL-2.0

//! Rules that the log warns of: in which namespaces, for which families, and how they are listed.

use ctskip_pure::{
    alloc::{
        Arc,
        NoMemory, //
    },
    matcher::{
        ruleset::Ruleset,
        scope::Scope,
        warning::{
            Families,
            Warned,
            WarnedRules,
            Warning, //
        },
    },
};

use ctskip_testkit::world::{
    failing_in_turn,
    netns,
    table,
    Slot,
    World, //
};

const NONE: Families = families(false, false);
const IPV4: Families = families(true, false);
const IPV6: Families = families(false, true);
const BOTH: Families = families(true, true);

const fn families(ipv4: bool, ipv6: bool) -> Families {
    Families { ipv4, ipv6 }
}

fn compiled(text: &str) -> Ruleset<Slot> {
    let table = table(text, &World::default());
    Ruleset::compile(Arc::new(table).unwrap()).unwrap()
}

/// The initial namespace, one that no rule names, and two that rules may name.
fn scopes(ruleset: &Ruleset<Slot>) -> [Scope; 4] {
    [
        ruleset.scope(true, 1),
        ruleset.scope(false, netns(9).cookie),
        ruleset.scope(false, netns(0).cookie),
        ruleset.scope(false, netns(1).cookie),
    ]
}

/// The ids that are listed where NAT is in use for `families`.
fn listed(ruleset: &Ruleset<Slot>, scope: Scope, families: Families) -> String {
    WarnedRules {
        warning: Warning::Held,
        ruleset,
        scope,
        families,
    }
    .to_string()
}

/// Whether rules are held in a namespace is seen from the sums, and they are the ones that are listed.
#[track_caller]
fn assert_held(text: &str, expected: [Families; 4]) {
    let ruleset = compiled(text);
    let sums = Warned::new(Warning::Held, &ruleset).unwrap();
    for (scope, expected) in scopes(&ruleset).into_iter().zip(expected) {
        assert_eq!(sums.in_scope(scope), expected, "{text}: {scope:?}");
        assert_eq!(expected.is_empty(), expected == NONE);
        for nat in [NONE, IPV4, IPV6, BOTH] {
            let ids = listed(&ruleset, scope, nat);
            assert_eq!(expected.meet(nat), !ids.is_empty(), "{text}: {nat:?} {ids}");
        }
    }
}

#[test]
fn held_rules_of_each_family_and_namespace() {
    for (rule, family) in [
        ("udp dport=1", BOTH),
        ("ip udp dport=1", IPV4),
        ("udp src=::1 dport=1", IPV6),
        ("track udp dport=1", NONE),
        ("udp dport=1 nat=ok", NONE),
    ] {
        for (netns, scopes) in [
            ("", [true, true, true, true]),
            (" netns=init", [true, false, false, false]),
            (" netns!=init", [false, true, true, true]),
            (" netns=4026532000", [false, false, true, false]),
            (" netns=4026532001", [false, false, false, true]),
        ] {
            let expected = scopes.map(|holds| if holds { family } else { NONE });
            assert_held(&format!("{rule}{netns}\n"), expected);
            // With rules for both named namespaces that nothing holds.
            let named = "track udp any netns=4026532000\ntrack udp any netns=4026532001\n";
            assert_held(&format!("{named}{rule}{netns}\n"), expected);
        }
    }
}

#[test]
fn held_rules_are_summed() {
    assert_held(
        "ip udp dport=1\nip6 udp dport=2 netns=4026532000\nip6 udp dport=3 netns=init\n",
        [BOTH, IPV4, BOTH, IPV4],
    );
    assert_held(
        "ip udp dport=1 netns=4026532000\nip6 udp dport=2 netns!=init\n",
        [NONE, IPV6, BOTH, IPV6],
    );
}

#[test]
fn held_rules_are_listed_by_their_ids() {
    let rules = |count: usize| "udp dport=1\n".repeat(count);
    let all = |text: &str| listed(&compiled(text), Scope::Init, BOTH);
    assert_eq!(all("udp any nat=ok\n"), "");
    assert_eq!(all("udp any id=7\ntrack udp any\nip udp any id=3\n"), "7,3");
    let sixteen = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16";
    assert_eq!(all(&rules(16)), sixteen);
    assert_eq!(all(&rules(17)), format!("{sixteen} and 1 more"));
    assert_eq!(all(&rules(99)), format!("{sixteen} and 83 more"));
    let ruleset = compiled("ip udp any\nip6 udp any\nudp any\n");
    assert_eq!(listed(&ruleset, Scope::Init, IPV4), "1,3");
    assert_eq!(listed(&ruleset, Scope::Init, IPV6), "2,3");
}

#[test]
fn held_rules_without_memory() {
    let ruleset = compiled("udp any netns=4026532000\n");
    let count = failing_in_turn(
        || Warned::new(Warning::Held, &ruleset),
        |result| match result {
            Ok(_) => true,
            Err(NoMemory) => false,
        },
    );
    assert_eq!(count, 1);
}

/// Asserts which of the rules, which have the ids 1, 2, ..., a warning is about.
#[track_caller]
fn assert_warned(warning: Warning, text: &str, expected: &str) {
    let ruleset = compiled(text);
    let warned = WarnedRules {
        warning,
        ruleset: &ruleset,
        scope: Scope::Init,
        families: BOTH,
    };
    assert_eq!(warned.to_string(), expected, "{text}");
    let sums = Warned::new(warning, &ruleset).unwrap();
    assert_eq!(sums.in_scope(Scope::Init).is_empty(), expected.is_empty());
    let needs = ruleset.sections(Scope::Init).needs();
    assert!(expected.is_empty() || warning.may_be_about(needs));
}

#[test]
fn rules_that_say_nat_ok() {
    let text = "udp dport=1 nat=ok\nudp dport=2\ntrack udp dport=3\nip6 udp dport=4 nat=ok\n";
    assert_warned(Warning::NatOk, text, "1,4");
    assert_warned(Warning::NatOk, "udp dport=2\n", "");
}

#[test]
fn rules_that_name_one_device() {
    let text = "udp dport=1 dev=eth0\ntrack udp dport=2 dev=eth1\nudp dport=3 dev=eth0 oneway\n\
                udp dport=4 dev=eth0,eth1\nudp dport=5 dev=eth*\nudp dport=6 dev=lo\nudp dport=7\n";
    assert_warned(Warning::OneDevice, text, "1,2");
    assert_warned(Warning::OneDevice, "udp dport=3 dev=eth0 oneway\n", "");
    let without = compiled("udp dport=3\n").sections(Scope::Init).needs();
    assert!(!Warning::OneDevice.may_be_about(without));
}
