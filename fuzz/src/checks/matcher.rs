// SPDX-License-Identifier: GPL-2.0

//! The matcher against the oracle: some rules, then packets until the bytes are used up.

use arbitrary::{
    Result,
    Unstructured, //
};
use ctskip_pure::{
    language::{
        parse::parse,
        text::statements, //
    },
    rule::Rule, //
};

use super::draw;
use crate::shapes::compiled::{
    self,
    Compiled,
    Probe,
    Table,
    World, //
};

/// How many rules a table has: often few, for which there is another way.
const RULES: [usize; 8] = [1, 1, 2, 2, 3, 5, 10, 24];
/// The most packets that are looked up in one.
const PROBES: usize = 64;

/// Rules and packets.
pub(crate) fn matcher(data: &[u8]) {
    // The bytes are always enough: those that are missing are zeros.
    let _ = checked(&mut Unstructured::new(data));
}

fn checked(u: &mut Unstructured<'_>) -> Result<()> {
    let mut text = String::new();
    for _ in 0..*u.choose(&RULES)? {
        let rule = draw::rule(u)?;
        if is_taken(&rule) {
            text.push_str(&rule);
            text.push('\n');
        }
    }
    let table = compiled::written(&Table::new(), &text).unwrap_or_default();
    held(&Compiled::new(table), u, PROBES)
}

/// Whether a rule is not refused, as where two of its terms cannot hold together.
fn is_taken(rule: &str) -> bool {
    let mut all = statements(rule.as_bytes());
    all.all(|statement| parse(statement.words(), &World, None).is_ok())
}

/// Holds a compiled table against the oracle, with so many packets.
pub(super) fn held(compiled: &Compiled, u: &mut Unstructured<'_>, packets: usize) -> Result<()> {
    let rules = compiled::rules(compiled.table());
    bounded(compiled, &rules);
    for _ in 0..packets {
        if u.is_empty() {
            break;
        }
        hold(compiled, &rules, &draw::probe(u, &rules)?);
    }
    Ok(())
}

/// Holds what is found for one packet against the oracle.
fn hold(compiled: &Compiled, rules: &[&Rule], probe: &Probe) {
    let found = compiled.first_match(probe);
    let expected = rules.iter().position(|rule| compiled::matches(rule, probe));
    let text = |at: Option<usize>| at.map(|at| (at, rules[at].to_string()));
    assert_eq!(text(found), text(expected), "of {}: {probe:?}", rules.len());
    assert!(!compiled.few_differ(probe, expected), "few: {probe:?}");
}

/// The estimate of the worst case is no more than going through all that the rules' lists make.
fn bounded(compiled: &Compiled, rules: &[&Rule]) {
    const EACH: usize = 200;
    const BESIDES: usize = 1000;

    let worst = compiled.worst();
    let combinations: usize = rules.iter().map(|rule| combinations(rule)).sum();
    assert!(
        worst <= BESIDES + EACH * combinations,
        "{worst} for {combinations}"
    );
}

/// How many combinations the lists of a rule make, in both directions.
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
