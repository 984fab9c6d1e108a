// SPDX-License-Identifier: GPL-2.0

//! Verdicts: which rule decides, what NAT holds back, which ICMP errors follow a flow.

use std::cell::Cell;

use ctskip_pure::{
    alloc::Arc,
    matcher::{
        plan::View,
        ruleset::Ruleset, //
    },
    packet::{
        header::{
            Key,
            Transport, //
        },
        verdict::{
            Mode,
            Verdict, //
        },
    },
    rule::Fixed,
};

use ctskip_testkit::world::{
    is_local,
    key,
    netns,
    table,
    Slot,
    Unlimited,
    World, //
};

use super::Packet;

/// What a verdict says, in a form that compares.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    NoRule,
    Track(u32),
    Held(u32),
    Skip(u32),
    Followed(u32),
}
use Said::{
    Followed,
    Held,
    NoRule,
    Skip,
    Track, //
};

fn compiled(rules: &str) -> Arc<Ruleset<Slot>> {
    let table = Arc::new(table(rules, &World::default())).unwrap();
    Arc::new(Ruleset::compile(table, &Unlimited).unwrap()).unwrap()
}

/// The verdict in a namespace other than the initial one, and whether it asked for NAT.
fn verdict(rules: &Arc<Ruleset<Slot>>, packet: &Packet, nat: bool) -> (Said, bool) {
    let asked = Cell::new(false);
    let scope = rules.scope(false, netns(5).cookie);
    let view = View::new(rules.clone(), scope, Mode::Skip, true);
    let nat_in_use = || {
        assert!(!asked.replace(true), "asked twice");
        nat
    };
    let said = match view.decide(&packet.key, packet.quoted.as_ref(), is_local, nat_in_use) {
        Verdict::NoRule => NoRule,
        Verdict::Track(entry) => Track(entry.id()),
        Verdict::Held(entry) => Held(entry.id()),
        Verdict::Skip {
            entry,
            followed: false,
        } => Skip(entry.id()),
        Verdict::Skip {
            entry,
            followed: true,
        } => Followed(entry.id()),
    };
    (said, asked.get())
}

/// The verdict where there is no NAT.
fn said(rules: &str, packet: &Packet) -> Said {
    verdict(&compiled(rules), packet, false).0
}

fn query() -> Packet {
    Packet {
        key: key(17, "10.0.0.1", "10.0.0.53", Transport::Ports(4000, 53)),
        quoted: None,
    }
}

/// A router's error about [`query`], on its way back to where that came from.
fn error() -> Packet {
    Packet {
        key: Key {
            error: true,
            ..key(1, "192.0.2.254", "10.0.0.1", Transport::IcmpType(3))
        },
        quoted: Some(query().key),
    }
}

/// [`error`] about a query of this host to another one.
fn from_here() -> Packet {
    let quoted = key(17, "10.0.0.1", "10.0.0.54", Transport::Ports(4000, 53));
    assert!(is_local(quoted.source) && !is_local(quoted.destination));
    Packet {
        quoted: Some(quoted),
        ..error()
    }
}

#[test]
fn the_first_rule_decides() {
    assert_eq!(said("tcp dport=53\n", &query()), NoRule);
    assert_eq!(said("udp dport=53\n", &query()), Skip(1));
    assert_eq!(said("track udp dport=53\n", &query()), Track(1));
    assert_eq!(
        said("track udp dst=10.0.0.53\nudp dport=53\n", &query()),
        Track(1)
    );
    assert_eq!(
        said("udp dport=53\ntrack udp dst=10.0.0.53\n", &query()),
        Skip(1)
    );
    // The order is that of the table, not of the ids.
    assert_eq!(
        said("udp dport=53 id=9\ntrack udp any id=3\n", &query()),
        Skip(9)
    );
    assert_eq!(
        said("udp dport=53\ninsert track udp any\n", &query()),
        Track(2)
    );
    // Rules of other namespaces do not count.
    assert_eq!(
        said(
            "track udp any netns=init\nudp dport=53 netns!=init\n",
            &query()
        ),
        Skip(2)
    );
    assert_eq!(
        said(
            "track udp any netns=4026532001\nudp any netns=4026532005\n",
            &query()
        ),
        Skip(2)
    );
}

#[test]
fn nat_holds_what_does_not_say_that_it_is_ok() {
    let asked = |rules: &str, nat| verdict(&compiled(rules), &query(), nat);
    assert_eq!(asked("udp dport=53\n", true), (Held(1), true));
    assert_eq!(asked("udp dport=53\n", false), (Skip(1), true));
    assert_eq!(asked("udp dport=53 nat=ok\n", true), (Skip(1), false));
    assert_eq!(asked("track udp dport=53\n", true), (Track(1), false));
    assert_eq!(asked("tcp dport=53\n", true), (NoRule, false));
    // A rule that is held still decides: later ones are not asked.
    assert_eq!(
        asked("udp dport=53\nudp any nat=ok\n", true),
        (Held(1), true)
    );
    // Errors are held as their flow is.
    assert_eq!(
        verdict(&compiled("udp dport=53\n"), &error(), true),
        (Held(1), true)
    );
    assert_eq!(
        verdict(&compiled("udp dport=53 nat=ok\n"), &error(), true),
        (Followed(1), false)
    );
}

#[test]
fn errors_follow_the_flow_that_they_are_about() {
    assert_eq!(said("udp dport=53\n", &error()), Followed(1));
    assert_eq!(said("track udp dport=53\nudp any\n", &error()), Track(1));
    assert_eq!(said("tcp dport=53\n", &error()), NoRule);
    assert_eq!(said("udp dport=53 oneway\n", &error()), Followed(1));
    assert_eq!(said("udp sport=53 oneway\n", &error()), NoRule);
    // The ends are those of the flow, not those of the error.
    assert_eq!(said("udp dport=53 local=src\n", &from_here()), Followed(1));
    assert_eq!(said("udp dport=53 local=dst\n", &from_here()), NoRule);
    // Rules about ICMP do not reach them, unless they name the type.
    assert_eq!(said("icmp any\n", &error()), NoRule);
    assert_eq!(said("icmp any\nudp dport=53\n", &error()), Followed(2));
    assert_eq!(
        said("track icmp any\nudp dport=53\n", &error()),
        Followed(2)
    );
    assert_eq!(said("icmp type=3\n", &error()), Skip(1));
    assert_eq!(said("icmp type=11\n", &error()), NoRule);
    assert_eq!(said("track icmp type=3\n", &error()), Track(1));
    // Which of the two comes first in the table, decides.
    assert_eq!(said("icmp type=3\nudp dport=53\n", &error()), Skip(1));
    assert_eq!(said("udp dport=53\nicmp type=3\n", &error()), Followed(1));
    assert_eq!(
        said("track icmp type=3\nudp dport=53\n", &error()),
        Track(1)
    );
    assert_eq!(
        said("track udp dport=53\nicmp type=3\n", &error()),
        Track(1)
    );
    // One that quotes nothing that can be read follows nothing.
    let unreadable = Packet {
        quoted: None,
        ..error()
    };
    assert_eq!(said("udp dport=53\nicmp any\nany\n", &unreadable), NoRule);
    assert_eq!(said("udp dport=53\nicmp type=3\n", &unreadable), Skip(2));
}

/// `dev=` and `mark=` of an error are its own.
#[test]
fn errors_have_a_device_and_mark_of_their_own() {
    let mut packet = error();
    packet.key.fixed = Fixed::new(5);
    packet.quoted.as_mut().unwrap().fixed = Fixed::new(5);
    assert_eq!(said("udp dport=53 mark=5\n", &packet), Followed(1));
    assert_eq!(said("udp dport=53 dev=eth0\n", &packet), Followed(1));
    assert_eq!(said("udp dport=53 dev=eth1\n", &packet), NoRule);
}

#[test]
fn modes() {
    for (name, mode) in [
        ("skip", Mode::Skip),
        ("observe", Mode::Observe),
        ("off", Mode::Off),
    ] {
        assert_eq!(Mode::parse(name.as_bytes()), Some(mode));
        assert_eq!(mode.name(), name);
    }
    for none in ["", "Skip", "on", "skip ", "skip\n", "0"] {
        assert_eq!(Mode::parse(none.as_bytes()), None);
    }
    assert_eq!(Mode::default(), Mode::Skip);
}
