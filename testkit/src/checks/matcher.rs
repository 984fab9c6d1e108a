// SPDX-License-Identifier: GPL-2.0

//! The matcher against the oracle: some rules, then packets until the bytes are used up.

use ctskip_pure::{
    matcher::shadow::Shadows,
    rule::Rule,
    table::listing::Shadow, //
};

use crate::{
    compiled::{
        self,
        Compiled, //
    },
    packets,
    rules::{
        Kind,
        Spec,
        Style, //
    },
    source::{
        Bytes,
        Source, //
    },
    world, //
};

/// How many rules a table has: often few, for which there is a plan of their own.
const RULES: [usize; 8] = [1, 1, 2, 2, 3, 5, 10, 24];
/// The most packets that are looked up in one table.
const PROBES: usize = 64;

/// Takes rules and packets.
pub fn matcher(data: &[u8]) {
    let source: &mut dyn Source = &mut Bytes::new(data);
    let count = source.pick(&RULES);
    let kind = source.pick(&[Kind::Any(5), Kind::Any(2), Kind::Plain]);
    let rules = (0..count).map(|_| Spec::make(source, kind).text(&Style::plain()));
    let compiled = Compiled::of_text(&world::lines(&rules.collect::<Vec<_>>()));
    hold(&compiled, source, PROBES);
}

/// Holds a compiled table against the oracle, with so many packets at most. No rule that is found for one of
/// them is shadowed.
pub(super) fn hold(compiled: &Compiled, source: &mut dyn Source, packets: usize) {
    let rules = world::rules(compiled.table());
    bounded(compiled, &rules);
    let shadows = Shadows::of(compiled.ruleset(), &world::Unlimited).expect("memory");
    for _ in 0..packets {
        if source.is_spent() {
            break;
        }
        let probe = packets::any(source, &rules);
        let found = compiled.first_match(&probe);
        let expected = compiled::first_match(rules.iter().copied(), &probe);
        let text = |at: Option<usize>| at.map(|at| (at, rules[at].to_string()));
        assert_eq!(text(found), text(expected), "of {}: {probe:?}", rules.len());
        // Which packets are errors is known, if not to the maker of packets.
        let is_real = probe.key.error == packets::is_error(&probe.key);
        if let Some((at, rule)) = text(expected).filter(|_| is_real) {
            let shadow = shadows.at(at);
            assert!(
                !matches!(shadow, Shadow::By(_)),
                "{shadow:?}: {rule}: {probe:?}"
            );
        }
    }
}

/// Asserts that the estimate of the worst case is no more than a look at each combination of the rules'
/// lists.
fn bounded(compiled: &Compiled, rules: &[&Rule]) {
    const EACH: usize = 200;
    const BESIDES: usize = 1000;

    let worst = compiled.ruleset().worst_cost();
    let combinations: usize = rules.iter().map(|rule| combinations(rule)).sum();
    assert!(
        worst <= BESIDES + EACH * combinations,
        "{worst} for {combinations}"
    );
}

/// Returns how many combinations the lists of a rule make, in both directions.
fn combinations(rule: &Rule) -> usize {
    let lists = [
        rule.protocols().count(),
        rule.sources().count(),
        rule.destinations().count(),
        rule.source_ports().count(),
        rule.destination_ports().count(),
        rule.icmp_types().count(),
        rule.devices().count(),
    ];
    2 * lists.into_iter().map(|len| len.max(1)).product::<usize>()
}
