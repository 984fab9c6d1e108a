// SPDX-License-Identifier: GPL-2.0

//! Which entries a purge deletes: those all of whose packets are skipped, as the oracle says of each packet
//! that may belong to one.

use ctskip_pure::rule::NetnsId;
use ctskip_pure::{
    matcher::{
        limits::Stop,
        oracle,
        purge::{
            Fate,
            Home,
            Purge, //
        },
    },
    packet::{
        conn::{
            Conn,
            Kept,
            Tuple,
            Uses, //
        },
        header::{
            Key,
            Transport, //
        },
    },
    rule::{
        Action,
        DeviceName,
        Fixed,
        FixedField,
        Rule, //
    },
    table::selection::Selection, //
};
use ctskip_testkit::{
    compiled::{
        holds,
        Compiled, //
    },
    packets::{
        any,
        exchanged,
        had, //
    },
    rules::{
        Kind,
        Spec,
        Style, //
    },
    source::{
        proptest::choices,
        Source, //
    },
    world::{
        cookie,
        failing_in_turn,
        key,
        lines,
        netns,
        purged_by,
        rules,
        table,
        Slot,
        Unlimited,
        World,
        FIRST_INUM,
        INIT_INUM, //
    },
};
use proptest::prelude::*;

/// The direction of an entry that a packet is of.
fn tuple(key: &Key) -> Tuple {
    let (source_port, destination_port) = match key.transport {
        Transport::Ports(source, destination) => (source.to_be_bytes(), destination.to_be_bytes()),
        Transport::IcmpType(icmp_type) => ([1, 2], [icmp_type, 0]),
        Transport::Unknown => ([0, 0], [0, 0]),
    };
    Tuple {
        family: key.family,
        protocol: key.protocol,
        source: key.source.to_be_bytes(),
        destination: key.destination.to_be_bytes(),
        source_port,
        destination_port,
    }
}

/// The entry of the flow of a packet.
fn conn(key: &Key, uses: Uses) -> Conn {
    Conn {
        original: tuple(key),
        reply: tuple(&exchanged(key)),
        uses,
    }
}

fn home(inum: u32) -> Home {
    Home {
        is_init: inum == INIT_INUM,
        id: NetnsId {
            cookie: cookie(inum),
            inum,
        },
    }
}

/// A purge by the rules that `command` names, of a table of these rules.
#[track_caller]
fn purge(text: &str, command: &str) -> Purge<Slot> {
    let world = World::default();
    let table = table(text, &world);
    let selection = purged_by(&table, command, &world).ok().flatten();
    Purge::new(
        Compiled::new(table).ruleset(),
        selection.expect("a purge"),
        &Unlimited,
    )
    .unwrap()
}

fn udp(source: &str, sport: u16, destination: &str, dport: u16) -> Key {
    key(17, source, destination, Transport::Ports(sport, dport))
}

const QUERY: (&str, u16, &str, u16) = ("10.0.0.1", 4000, "10.0.0.2", 53);

/// What is done with the entry of a query for DNS in a namespace of its own.
#[track_caller]
fn assert_fate(text: &str, command: &str, nat: bool, fate: Fate) {
    let query = udp(QUERY.0, QUERY.1, QUERY.2, QUERY.3);
    for key in [query, exchanged(&query)] {
        let conn = conn(&key, Uses::default());
        let seen = purge(text, command).judge(home(FIRST_INUM), &conn, |_| nat);
        assert_eq!(seen, fate, "{command:?} of {text:?}, NAT: {nat}");
    }
}

const UNSURE: Fate = Fate::Kept(Kept::Unsure);

#[test]
fn entries_that_rules_cover() {
    for (text, fate) in [
        ("udp dport=53\n", Fate::Deleted),
        ("udp dst=10.0.0.2 dport=53\n", Fate::Deleted),
        ("udp dport=54\n", Fate::Left),
        ("tcp dport=53\n", Fate::Left),
        ("ip6 udp dport=53\n", Fate::Left),
        ("track udp dport=53\nudp any\n", Fate::Left),
        ("udp any\ntrack udp dport=53\n", Fate::Deleted),
        ("udp dport=53 netns=init\n", Fate::Left),
        ("udp dport=53 netns!=init\n", Fate::Deleted),
        ("udp dport=53 netns=4026532000\n", Fate::Deleted),
        ("udp dport=53 netns=4026532001\n", Fate::Left),
        // One direction only: the packets of the other one are tracked.
        ("udp dport=53 oneway\n", UNSURE),
        ("udp dport=53 oneway\nudp sport=53 oneway\n", Fate::Deleted),
        ("udp dport=53 oneway\ntrack udp any\n", UNSURE),
        // What an entry does not tell.
        ("udp dport=53 dev=eth0\n", UNSURE),
        ("udp dport=53 mark=1\n", UNSURE),
        ("udp dport=53 local=dst\n", UNSURE),
        ("udp dport=53 local=dst\nudp dport=53\n", Fate::Deleted),
        ("udp dport=54 dev=eth0\nudp dport=53\n", Fate::Deleted),
        ("udp dport=53\ntrack udp dport=53 mark=1\n", Fate::Deleted),
        ("track udp dport=53 mark=1\nudp dport=53\n", UNSURE),
        ("track udp dport=53 dev=eth*\nudp dport=53\n", UNSURE),
        ("track udp any local=src\nudp dport=53\n", UNSURE),
        ("track udp dport=54 mark=1\nudp dport=53\n", Fate::Deleted),
        ("track tcp flags=syn any\nudp dport=53\n", Fate::Deleted),
        ("track udp any mark=1\ntrack udp dport=53\n", Fate::Left),
        (
            "track udp any mark=1 netns=init\nudp dport=53\n",
            Fate::Deleted,
        ),
    ] {
        assert_fate(text, "purge\n", false, fate);
    }
}

#[test]
fn entries_of_held_rules_are_left() {
    for (text, fate) in [
        ("udp dport=53\n", Fate::Left),
        ("udp dport=53 nat=ok\n", Fate::Deleted),
        ("udp dport=53\nudp dport=53 nat=ok\n", Fate::Left),
        ("udp dport=53 dev=eth0\n", Fate::Left),
        ("udp dport=53 dev=eth0 nat=ok\n", UNSURE),
        ("udp dport=53 dev=eth0\nudp dport=53 nat=ok\n", UNSURE),
        (
            "udp dport=53 dev=eth0 nat=ok\nudp dport=53 nat=ok\n",
            Fate::Deleted,
        ),
    ] {
        assert_fate(text, "purge\n", true, fate);
    }
    // One family's NAT is none of the other's.
    let purge = purge("udp dport=53\n", "purge\n");
    for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let query = udp(source, 4000, destination, 53);
        for nat in [true, false] {
            let in_use = |family| nat == (family == query.family);
            let fate = purge.judge(home(INIT_INUM), &conn(&query, Uses::default()), in_use);
            assert_eq!(fate == Fate::Left, nat);
        }
    }
}

#[test]
fn selected_rules() {
    let two = "udp dport=53 tag=a\nudp dport=54 tag=b\nudp any tag=c\n";
    for (command, fate) in [
        ("purge\n", Fate::Deleted),
        ("purge 1\n", Fate::Deleted),
        ("purge 2\n", Fate::Left),
        // Shadowed for this flow.
        ("purge 3\n", Fate::Left),
        ("purge 2,1\n", Fate::Deleted),
        ("purge tag=a\n", Fate::Deleted),
        ("purge tag=b\npurge tag=c\n", Fate::Left),
    ] {
        assert_fate(two, command, false, fate);
    }
    // Each direction by a rule of its own: one of them is enough.
    let halves = "udp dport=53 oneway\nudp sport=53 oneway\n";
    assert_fate(halves, "purge 1\n", false, Fate::Deleted);
    assert_fate(halves, "purge 2\n", false, Fate::Deleted);
    // A rule that may match in front of one that is not selected, and skips as well.
    let both = "udp dport=53 dev=eth0\nudp dport=53\n";
    assert_fate(both, "purge 1\n", false, Fate::Left);
    assert_fate(both, "purge 2\n", false, Fate::Deleted);
    let tracked = "udp dport=53 dev=eth0\nudp dport=53 mark=1\ntrack udp any\n";
    assert_fate(tracked, "purge 2\n", false, UNSURE);
}

#[test]
fn used_entries_are_kept() {
    let query = udp(QUERY.0, QUERY.1, QUERY.2, QUERY.3);
    let marked = Uses {
        marked: true,
        ..Uses::default()
    };
    for (text, fate) in [
        ("udp dport=53\n", Fate::Kept(Kept::Marked)),
        ("udp dport=53 oneway\n", Fate::Kept(Kept::Marked)),
        ("udp dport=54\n", Fate::Left),
    ] {
        let seen = purge(text, "purge\n").judge(home(INIT_INUM), &conn(&query, marked), |_| false);
        assert_eq!(seen, fate, "{text:?}");
    }
}

/// A table that was changed since it was compiled is looked up as it is.
#[test]
fn purge_by_an_updated_table() {
    let world = World::default();
    let rules: Vec<String> = (1..600).map(|port| format!("udp dport={port}")).collect();
    let base = Compiled::new(table(&lines(&rules), &world));
    let change = "delete 53\ninsert track udp dport=54\nudp dport=999\n";
    let next = base.updated(ctskip_testkit::world::changed(base.table(), change, &world));
    assert!(!next.ruleset().is_whole());
    let purge = Purge::new(next.ruleset(), Selection::All, &Unlimited).unwrap();
    for (port, fate) in [
        (52, Fate::Deleted),
        (53, Fate::Left),
        (54, Fate::Left),
        (999, Fate::Deleted),
    ] {
        let conn = conn(&udp("10.0.0.1", 4000, "10.0.0.2", port), Uses::default());
        assert_eq!(purge.judge(home(INIT_INUM), &conn, |_| false), fate);
    }
}

#[test]
fn purge_without_memory() {
    let world = World::default();
    let compiled = Compiled::new(table("track udp any mark=1\nudp dport=53\n", &world));
    let count = failing_in_turn(
        || Purge::new(compiled.ruleset(), Selection::All, &Unlimited),
        |result| match result {
            Ok(_) => true,
            Err(stop) => {
                assert_eq!(stop, Stop::NoMemory);
                false
            }
        },
    );
    assert!(count > 3);
}

/// The packets of one direction of an entry, as different as rules may tell them apart, and whether source
/// and destination of each are local.
fn packets(key: Key, rules: &[&Rule]) -> Vec<(Key, [bool; 2])> {
    let mut devices = vec![DeviceName::default()];
    for rule in rules {
        for device in rule.devices() {
            let mut name = DeviceName::default();
            name[..device.name().len()].copy_from_slice(device.name());
            devices.push(name);
        }
    }
    let mut fixed = vec![Fixed::default()];
    for field in FixedField::ALL {
        let bits = rules.iter().filter_map(|rule| rule.fixed().get(field));
        let named = bits.flat_map(|(value, mask)| [value, value | !mask]);
        let values: Vec<u32> = named.chain([0, u32::MAX]).collect();
        fixed = fixed
            .iter()
            .flat_map(|fixed| values.iter().map(|value| fixed.with(field, *value)))
            .collect();
    }
    let mut all = Vec::new();
    for local in [[false, false], [false, true], [true, false], [true, true]] {
        for device in &devices {
            for fixed in &fixed {
                let packet = Key {
                    device: *device,
                    fixed: had(*fixed, key.protocol),
                    ..key
                };
                all.push((packet, local));
            }
        }
    }
    all
}

/// A table, a packet near to it, and the rules to purge by.
fn made(source: &mut dyn Source) -> (String, String, Key, u32) {
    let count = source.below(8) + 1;
    let specs: Vec<Spec> = (0..count)
        .map(|_| {
            let mut spec = Spec::make(source, Kind::Any(2));
            spec.id = None;
            if source.percent(60) {
                (spec.local, spec.mark, spec.flags) = (None, None, None);
                spec.devices.clear();
            }
            spec
        })
        .collect();
    let text: String = specs
        .iter()
        .map(|spec| spec.text(&Style::plain()) + "\n")
        .collect();
    let table = table(&text, &World::default());
    let skips: Vec<u32> = table
        .entries()
        .iter()
        .filter(|entry| entry.rule().action() == Action::Skip && source.percent(70))
        .map(|entry| entry.id())
        .collect();
    let ids: Vec<String> = skips.iter().map(u32::to_string).collect();
    let command = match ids.is_empty() {
        true => "purge\n".to_owned(),
        false => format!("purge {}\n", ids.join(",")),
    };
    let probe = any(source, &rules(&table));
    (text, command, probe.key, probe.netns)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// An entry goes only where the oracle skips each of its packets; where all rules are told, just then.
    #[test]
    fn purge_agrees_with_the_oracle(choices in choices(600), nat: bool) {
        let (text, command, key, inum) = made(&mut choices.source());
        let world = World::default();
        let table = table(&text, &world);
        let selection = purged_by(&table, &command, &world).ok().flatten().unwrap();
        let selected: Vec<bool> = table.entries().iter().map(|e| selection.skips(e)).collect();
        let compiled = Compiled::new(table);
        let rules = rules(compiled.table());
        let conn = conn(&key, Uses::default());

        // By the oracle: what becomes of each packet.
        let acts = |rule: &Rule| rule.action() == Action::Skip && (rule.nat_ok() || !nat);
        let (mut all_skipped, mut by_selected, mut may_be, mut matters) = (true, false, false, false);
        for direction in [conn.original.key(), conn.reply.key()] {
            for (packet, [source, destination]) in packets(direction, &rules) {
                let is_local = |address| match address == packet.source {
                    true => source,
                    false => destination,
                };
                let matches =
                    |rule: &Rule| holds(rule, inum) && oracle::matches(rule, &packet, is_local);
                let skips = |at: usize| acts(rules[at]);
                let mut found = (0..rules.len()).filter(|at| matches(rules[*at])).peekable();
                let first = found.peek().copied();
                all_skipped &= first.is_some_and(skips);
                may_be |= found.clone().any(|at| selected[at] && skips(at));
                if first.is_some_and(|at| selected[at] && skips(at)) {
                    by_selected = true;
                    // Whether it is tracked once the selected rules are taken back.
                    matters |= !found.find(|at| !selected[*at]).is_some_and(skips);
                }
            }
        }

        let purge = Purge::new(compiled.ruleset(), selection, &Unlimited).unwrap();
        let said = format!("{command}{text}{key:?} in {inum}");
        let fate = purge.judge(home(inum), &conn, |_| nat);
        match fate {
            Fate::Deleted => prop_assert!(all_skipped && may_be, "{said}"),
            Fate::Kept(kept) => prop_assert!(kept == Kept::Unsure && may_be, "{said}"),
            Fate::Left => prop_assert!(!matters, "{said}"),
        }
        if matters && !all_skipped {
            prop_assert_eq!(fate, UNSURE, "{}", said);
        }
        if !rules.iter().any(|rule| rule.is_untold()) {
            let expected = match (by_selected, all_skipped) {
                (false, _) => Fate::Left,
                (true, false) => UNSURE,
                (true, true) => Fate::Deleted,
            };
            prop_assert_eq!(fate, expected, "{}", said);
        }
        // In one namespace alone.
        let other = home(netns(399).inum);
        prop_assert!(holds_nowhere(&rules, 399) <= (purge.judge(other, &conn, |_| nat) == Fate::Left));
    }
}

/// Whether no rule holds in a namespace.
fn holds_nowhere(rules: &[&Rule], n: u32) -> bool {
    !rules.iter().any(|rule| holds(rule, netns(n).inum))
}
