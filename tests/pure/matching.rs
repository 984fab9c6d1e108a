// SPDX-License-Identifier: GPL-2.0

//! The matcher held against the oracle, on random rules and on keys that are near to them.

use std::fmt::Write;

use ctskip_pure::{
    alloc::Arc,
    matcher::{
        oracle,
        ruleset::Ruleset,
        scope::Scope,
        Alone, //
    },
    packet::header::{
        Flags,
        Key,
        Needs,
        Transport, //
    },
    rule::{
        answering_type,
        Family,
        HookPoint,
        Netns,
        NetnsId,
        Rule, //
    },
    table::Table, //
};
use proptest::{
    collection::vec,
    option::of,
    prelude::*,
    sample::{
        select,
        Index, //
    }, //
};

use super::{
    common::{
        changed,
        cookie,
        device,
        netns,
        rule,
        table,
        Counted,
        Slot, //
    },
    specs::{
        addresses,
        flags,
        icmp_type,
        marks,
        port,
        spec_lists,
        Style, //
    }, //
};

/// What a key is made of: of parts of one of the rules where there is one, else of its own.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    rule: Index,
    element: Index,
    /// For each of the parts, whether it is taken from the rule.
    taken: u16,
    exchanged: bool,
    low_bits: u128,
    protocol: u8,
    family: Family,
    addresses: (u128, u128),
    ports: (u16, u16),
    icmp_type: u8,
    unknown: bool,
    error: bool,
    point: HookPoint,
    device: &'static str,
    mark: u32,
    flags: Option<u8>,
    /// What is added to ports and types: near misses.
    off: i8,
}

pub(super) fn seeds() -> impl Strategy<Value = Seed> {
    let from_rule = (
        any::<Index>(),
        any::<Index>(),
        prop_oneof![3 => Just(u16::MAX), 2 => any::<u16>()],
        any::<bool>(),
        prop_oneof![Just(0), Just(u128::MAX), any::<u128>()],
        prop_oneof![5 => Just(0), 1 => Just(1), 1 => Just(-1)],
    );
    let own = (
        select(vec![6u8, 17, 132, 1, 58, 47, 0, 255, 64]),
        select(vec![Family::Ipv4, Family::Ipv6]),
        (addresses(), addresses()),
        (port(), port()),
        icmp_type(),
    );
    let more = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        select(vec![HookPoint::PreRouting, HookPoint::LocalOut]),
        select(vec![
            "eth0",
            "eth1",
            "eth",
            "e",
            "lo",
            "fifteen-letters",
            "x",
            "",
        ]),
        marks(),
        of(flags()),
    );
    (from_rule, own, more).prop_map(|(from_rule, own, more)| {
        let (rule, element, taken, exchanged, low_bits, off) = from_rule;
        let (protocol, family, addresses, ports, icmp_type) = own;
        let (unknown, error, point, device, mark, flags) = more;
        Seed {
            rule,
            element,
            taken,
            exchanged,
            low_bits,
            protocol,
            family,
            addresses,
            ports,
            icmp_type,
            unknown,
            error,
            point,
            device,
            mark,
            flags,
            off,
        }
    })
}

impl Seed {
    /// The key, and for a whole table of rules one of them that it is near to.
    pub(super) fn key(&self, rules: &[Rule]) -> Key {
        let near = (!rules.is_empty()).then(|| self.rule.get(rules));
        // The part of that number, where it is to come from the rule and the rule says something.
        let pick = |part: u32| near.filter(|_| self.taken & 1 << part != 0);
        let family = pick(0).and_then(Rule::family).unwrap_or(self.family);
        let protocol = pick(1)
            .and_then(|r| one_of(self.element, r.protocols()))
            .unwrap_or(self.protocol);
        let inside = |p: ctskip_pure::rule::Prefix| p.value() | self.low_bits & !p.mask();
        let source = pick(2)
            .and_then(|r| one_of(self.element, r.sources()))
            .map_or(self.addresses.0, inside);
        let destination = pick(3)
            .and_then(|r| one_of(self.element, r.destinations()))
            .map_or(self.addresses.1, inside);
        let end = |first: u16, last: u16| {
            let value = if self.exchanged { first } else { last };
            value.wrapping_add_signed(self.off.into())
        };
        let source_port = pick(4)
            .and_then(|r| one_of(self.element, r.source_ports()))
            .map_or(self.ports.0, |r| end(r.first(), r.last()));
        let destination_port = pick(5)
            .and_then(|r| one_of(self.element, r.destination_ports()))
            .map_or(self.ports.1, |r| end(r.first(), r.last()));
        let icmp_type = pick(6)
            .and_then(|r| one_of(self.element, r.icmp_types()))
            .map_or(self.icmp_type, |r| r.first().wrapping_add_signed(self.off));
        let written = match protocol {
            _ if self.unknown => Transport::Unknown,
            6 | 17 | 132 => Transport::Ports(source_port, destination_port),
            1 | 58 => Transport::IcmpType(icmp_type),
            _ => Transport::Unknown,
        };
        let name = pick(7)
            .and_then(|r| one_of(self.element, r.devices()))
            .map(|d| String::from_utf8(d.name().to_vec()).unwrap());
        let mark = pick(8)
            .and_then(Rule::mark)
            .map_or(self.mark, |m| m.value() | self.mark & !m.mask());
        let mask = if family == Family::Ipv4 { !0 << 96 } else { !0 };
        let mut key = Key {
            family,
            protocol,
            source: source & mask,
            destination: destination & mask,
            transport: written,
            error: self.error && matches!(written, Transport::IcmpType(_)),
            point: self.point,
            device: name.as_deref().map_or(device(self.device), device),
            mark,
            flags: match self.flags {
                Some(own) if protocol == 6 => {
                    let flags = pick(9).and_then(Rule::flags);
                    Flags::new(flags.map_or(own, |f| f.value() | own & !f.mask()))
                }
                _ => Flags::UNKNOWN,
            },
        };
        if self.exchanged {
            (key.source, key.destination) = (key.destination, key.source);
            key.transport = match key.transport {
                Transport::Ports(a, b) => Transport::Ports(b, a),
                Transport::IcmpType(t) => {
                    Transport::IcmpType(answering_type(family, t).unwrap_or(t))
                }
                Transport::Unknown => Transport::Unknown,
            };
        }
        key
    }
}

/// One of some elements, where there are any.
fn one_of<T>(index: Index, elements: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = elements.collect();
    (!all.is_empty()).then(|| all.swap_remove(index.index(all.len())))
}

/// Where the first rule that matches stands in the table.
fn position(ruleset: &Ruleset<Slot>, scope: Scope, key: &Key) -> Option<usize> {
    let found = ruleset
        .entry(ruleset.lookup(&ruleset.sections(scope), key)?)?
        .id();
    let mut entries = ruleset.table().entries().iter();
    entries.position(|entry| entry.id() == found)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// A matcher of one rule says what the oracle says, whichever way the key leans.
    #[test]
    fn one_rule(specs in spec_lists(1..2), seeds in vec(seeds(), 60)) {
        let rules: Vec<Rule> = specs.iter().map(|s| rule(&s.text(&Style::plain()))).collect();
        let matcher = Alone::compile(rules.iter()).unwrap();
        for seed in seeds {
            let key = seed.key(&rules);
            prop_assert_eq!(
                matcher.first_match(&key),
                oracle::first_match(rules.iter(), &key),
                "{} {:?}", rules[0], key
            );
        }
    }

    /// Of many rules it finds the first.
    #[test]
    fn many_rules(specs in spec_lists(0..25), seeds in vec(seeds(), 60)) {
        let rules: Vec<Rule> = specs.iter().map(|s| rule(&s.text(&Style::plain()))).collect();
        let matcher = Alone::compile(rules.iter()).unwrap();
        for seed in seeds {
            let key = seed.key(&rules);
            prop_assert_eq!(
                matcher.first_match(&key),
                oracle::first_match(rules.iter(), &key),
                "{:?}", key
            );
        }
    }

    /// A compiled table finds in each namespace the first of the rules that hold there.
    #[test]
    fn scopes(specs in spec_lists(0..25), seeds in vec(seeds(), 20)) {
        let slots = Counted::default();
        let text: String = specs.iter().map(|s| s.text(&Style::plain()) + "\n").collect();
        let table: Table<Slot> = if text.is_empty() { Table::new() } else { table(&text, &slots) };
        let rules: Vec<Rule> = specs.iter().map(|s| rule(&s.text(&Style::plain()))).collect();
        let ruleset = Ruleset::compile(Arc::new(table).unwrap()).unwrap();
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
        for namespace in [None, Some(0), Some(1), Some(2), Some(3), Some(9)] {
            let holds = |netns: Netns| match (netns, namespace) {
                (Netns::Any, _) => true,
                (Netns::Init, n) => n.is_none(),
                (Netns::NotInit, n) => n.is_some(),
                (Netns::Only(id), n) => n.is_some_and(|n| id.cookie == cookie(n)),
            };
            let scope = ruleset.scope(namespace.is_none(), namespace.map_or(1, cookie));
            prop_assert_eq!(
                ruleset.len_in(scope),
                rules.iter().filter(|r| holds(r.netns())).count()
            );
            let named = rules.iter().filter(|rule| holds(rule.netns()));
            prop_assert_eq!(
                ruleset.sections(scope).needs(),
                named.fold(Needs::NONE, |needs, rule| needs.and(Needs::of(rule)))
            );
            for seed in &seeds {
                let key = seed.key(&rules);
                let expected = rules.iter().position(|r| holds(r.netns()) && oracle::matches(r, &key));
                prop_assert_eq!(position(&ruleset, scope, &key), expected, "{:?}", key);
            }
            for rule in &rules {
                prop_assert_eq!(ruleset.holds_in(scope, rule.netns()), holds(rule.netns()));
            }
        }
    }
}

/// The keys above do meet the rules: else the comparison would say nothing.
#[test]
fn keys_meet_rules() {
    use proptest::{
        strategy::ValueTree,
        test_runner::TestRunner, //
    };

    let mut runner = TestRunner::deterministic();
    let (mut hits, mut total) = (0, 0);
    for _ in 0..500 {
        let specs = spec_lists(1..2).new_tree(&mut runner).unwrap().current();
        let rules = [rule(&specs[0].text(&Style::plain()))];
        for _ in 0..20 {
            let key = seeds().new_tree(&mut runner).unwrap().current().key(&rules);
            hits += usize::from(oracle::matches(&rules[0], &key));
            total += 1;
        }
    }
    let percent = hits * 100 / total;
    assert!(
        (25..=75).contains(&percent),
        "{percent} % of the keys match"
    );
}

/// Ids, positions and scopes of a small table, by hand.
#[test]
fn positions_are_those_of_the_table() {
    let slots = Counted::default();
    let table = table(
        "udp dport=53 netns=4026532001 id=9\n\
         udp dport=53 netns!=init id=4\n\
         udp dport=53 netns=init id=7\n\
         udp dport=53 id=1\n",
        &slots,
    );
    let ruleset = Ruleset::compile(Arc::new(table).unwrap()).unwrap();
    let key = super::common::key(17, "10.0.0.1", "10.0.0.2", Transport::Ports(4000, 53));
    let id = |scope| {
        ruleset
            .entry(ruleset.lookup(&ruleset.sections(scope), &key).unwrap())
            .unwrap()
            .id()
    };
    assert_eq!(id(ruleset.scope(true, 1)), 7);
    assert_eq!(id(ruleset.scope(false, cookie(1))), 9);
    assert_eq!(id(ruleset.scope(false, cookie(2))), 4);
    assert_eq!(ruleset.scope(false, cookie(2)), Scope::Other);
}

/// A namespace whose rules have all been deleted is one that none names, before all is compiled
/// again, too.
#[test]
fn a_namespace_that_no_rule_names_any_more() {
    let slots = Counted::default();
    let mut text = "udp src=10.0.0.1 netns=4026532000\n".to_owned();
    for port in 1..=600 {
        writeln!(text, "udp dport={port}").unwrap();
    }
    let base = Arc::new(table(&text, &slots)).unwrap();
    let named = netns(0);
    let ruleset = Ruleset::compile(base.clone()).unwrap();
    assert_eq!(ruleset.named().collect::<Vec<_>>(), [named]);

    let shorter = changed(&base, "delete 1\n", &slots);
    let ruleset = ruleset.updated(Arc::new(shorter).unwrap()).unwrap();
    assert!(!ruleset.is_whole());
    assert_eq!(ruleset.named().count(), 0);
    assert_eq!(ruleset.scope(false, named.cookie), Scope::Other);
}
