// SPDX-License-Identifier: GPL-2.0

//! The table of flows, with two CPUs at it: whatever the order is, what holds of one after the other holds.

use ctskip_interleavings::Modelled;
use ctskip_pure::flows::{
    hash::Hash,
    key::Direction,
    lifetime::{
        Lifetimes,
        Timeouts, //
    },
    table::{
        Bury,
        Insert,
        Kind,
        Look,
        Table,
        Walk, //
    },
};
use loom::{
    sync::Arc,
    thread, //
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 16;
const SYN_ACK: u8 = 18;

const NOW: u64 = 1 << 20;

/// A flow, and others that share its buckets.
const FLOW: Hash = Hash::new(1 << 16);
const OTHER: Hash = Hash::new(2 << 16);

/// The table, as the CPUs share it.
#[derive(Clone)]
struct Host(Arc<Table<Modelled>>);

impl Host {
    /// A table of two buckets.
    fn new() -> Self {
        Self(Arc::new(Table::new(16).unwrap()))
    }

    fn insert(&self, hash: Hash, protocol: u8, now: u64) -> Insert {
        let (up, kind) = (Direction::Up, Kind::of(protocol));
        self.0.insert(hash, up, kind, &lifetimes(protocol), now)
    }

    fn datagram(&self, hash: Hash, direction: Direction, now: u64) -> Look {
        self.0.look(hash, direction, None, &lifetimes(UDP), now)
    }

    fn tcp(&self, direction: Direction, bits: u8) -> Look {
        self.0
            .look(FLOW, direction, Some(bits), &lifetimes(TCP), NOW)
    }

    fn bury(&self, hash: Hash, now: u64) -> Bury {
        self.0.bury(hash, now)
    }

    fn knows(&self, hash: Hash, now: u64) -> bool {
        self.0.peek(hash, &lifetimes(UDP), now)
    }

    /// Sweeps, and returns how many records are alive.
    fn sweep(&self, now: u64) -> usize {
        let mut walk = Walk::default();
        self.0.sweep(&mut walk, 2, now);
        walk.alive
    }

    /// Fills all words but so many with flows that are known for longer than others.
    fn fill_but(&self, free: u64) {
        let timeouts = Timeouts {
            unreplied: 1000,
            ..Timeouts::of(UDP)
        };
        let longer = Lifetimes::new(UDP, &timeouts).unwrap();
        for number in 10..26 - free {
            let (hash, kind) = (Hash::new(number << 16), Kind::Datagram);
            let insert = self.0.insert(hash, Direction::Up, kind, &longer, NOW);
            assert_eq!(insert, Insert::New);
        }
    }
}

fn lifetimes(protocol: u8) -> Lifetimes {
    Lifetimes::new(protocol, &Timeouts::of(protocol)).unwrap()
}

/// Runs both at the same time, in all orders, each on a CPU of its own; `prepare` runs ahead of them, `check`
/// behind them with what they returned.
fn race<T: 'static, U: 'static>(
    prepare: impl Fn(&Host) + Sync + Send + 'static,
    one: impl Fn(&Host) -> T + Copy + Sync + Send + 'static,
    other: impl Fn(&Host) -> U + Sync + Send + 'static,
    check: impl Fn(&Host, T, U) + Sync + Send + 'static,
) {
    let mut model = loom::model::Builder::new();
    // More than it takes to fill a table.
    model.max_branches = 10_000;
    model.check(move || {
        let host = Host::new();
        prepare(&host);
        let shared = host.clone();
        let thread = thread::spawn(move || one(&shared));
        let second = other(&host);
        let first = thread.join().unwrap();
        check(&host, first, second);
    });
}

#[test]
fn two_make_one_record() {
    race(
        |_| {},
        |host| host.insert(FLOW, UDP, NOW),
        |host| host.insert(FLOW, UDP, NOW),
        |host, first, second| {
            let made = [first, second];
            assert!(made
                .iter()
                .all(|made| matches!(made, Insert::New | Insert::Renewed)));
            assert!(host.knows(FLOW, NOW));
            assert_eq!(host.sweep(NOW), 1);
        },
    );
}

#[test]
fn a_tombstone_wins() {
    race(
        |_| {},
        |host| host.insert(FLOW, UDP, NOW),
        |host| host.bury(FLOW, NOW),
        |host, _, bury| {
            assert_ne!(bury, Bury::NoRoom);
            assert!(!host.knows(FLOW, NOW));
            assert_eq!(host.sweep(NOW), 0);
            assert_eq!(host.insert(FLOW, UDP, NOW), Insert::Buried);
        },
    );
}

/// A word is good in the last tick of its life, and not in the next one: so CPUs that read the clock at different
/// times choose different words.
const LAST: u64 = NOW + 60;
const NEXT: u64 = NOW + 64;

fn ends_between(host: &Host) {
    assert_eq!(host.insert(OTHER, UDP, NOW), Insert::New);
}

#[test]
fn two_make_one_record_in_different_words() {
    race(
        ends_between,
        |host| host.insert(FLOW, UDP, LAST),
        |host| host.insert(FLOW, UDP, NEXT),
        |host, _, _| {
            assert!(host.knows(FLOW, NEXT));
            assert_eq!(host.sweep(NEXT), 1);
        },
    );
}

#[test]
fn a_tombstone_wins_in_another_word() {
    for (made, buried) in [(LAST, NEXT), (NEXT, LAST)] {
        race(
            ends_between,
            move |host| host.insert(FLOW, UDP, made),
            move |host| host.bury(FLOW, buried),
            |host, _, bury| {
                assert_ne!(bury, Bury::NoRoom);
                assert!(!host.knows(FLOW, NEXT));
                assert_eq!(host.sweep(NEXT), 0);
                assert_eq!(host.insert(FLOW, UDP, NEXT), Insert::Buried);
            },
        );
    }
}

#[test]
fn a_tombstone_wins_over_a_record_made_anew() {
    race(
        |host| assert_eq!(host.insert(FLOW, UDP, NOW), Insert::New),
        |host| host.insert(FLOW, UDP, NOW),
        |host| host.bury(FLOW, NOW),
        |host, _, bury| {
            assert_eq!(bury, Bury::Gone);
            assert_eq!(host.sweep(NOW), 0);
            assert_eq!(host.insert(FLOW, UDP, NOW), Insert::Buried);
        },
    );
}

#[test]
fn a_tombstone_is_not_refreshed_away() {
    race(
        |host| assert_eq!(host.insert(FLOW, UDP, NOW), Insert::New),
        |host| host.datagram(FLOW, Direction::Down, NOW + 4),
        |host| host.bury(FLOW, NOW + 4),
        |host, look, bury| {
            assert!(matches!(look, Look::Hit | Look::Miss));
            assert_eq!(bury, Bury::Gone);
            assert!(!host.knows(FLOW, NOW + 4));
        },
    );
}

#[test]
fn one_packet_is_judged_anew() {
    let look = |host: &Host| host.datagram(FLOW, Direction::Up, NOW + 28);
    race(
        |host| assert_eq!(host.insert(FLOW, UDP, NOW), Insert::New),
        look,
        look,
        |_, first, second| {
            let looks = [first, second];
            assert!(
                looks.contains(&Look::Soft) && looks.contains(&Look::Hit),
                "{looks:?}"
            );
        },
    );
}

#[test]
fn an_answer_is_not_lost() {
    race(
        |host| assert_eq!(host.insert(FLOW, UDP, NOW), Insert::New),
        |host| host.datagram(FLOW, Direction::Down, NOW + 28),
        |host| host.datagram(FLOW, Direction::Up, NOW + 28),
        |host, answer, _| {
            assert_eq!(answer, Look::Hit);
            assert!(host.knows(FLOW, NOW + 28));
            assert_eq!(host.datagram(FLOW, Direction::Up, NOW + 28), Look::Hit);
        },
    );
}

#[test]
fn a_place_is_given_once() {
    race(
        |host| host.fill_but(1),
        |host| host.insert(FLOW, UDP, NOW),
        |host| host.insert(OTHER, UDP, NOW),
        |host, first, second| {
            for (hash, made) in [(FLOW, first), (OTHER, second)] {
                assert_eq!(host.knows(hash, NOW), made == Insert::New, "{made:?}");
            }
            assert_eq!(host.sweep(NOW), 16);
        },
    );
}

#[test]
fn a_sweep_clears_nothing_that_is_alive() {
    race(
        |host| assert_eq!(host.insert(OTHER, UDP, NOW), Insert::New),
        |host| host.insert(FLOW, UDP, NOW + 100),
        |host| host.sweep(NOW + 100),
        |host, made, _| {
            assert_eq!(made, Insert::New);
            assert!(host.knows(FLOW, NOW + 100));
            assert_eq!(host.sweep(NOW + 100), 1);
        },
    );
}

#[test]
fn a_tombstone_outlives_a_clear() {
    race(
        |host| assert_eq!(host.insert(FLOW, UDP, NOW), Insert::New),
        |host| host.bury(FLOW, NOW),
        |host| host.0.clear(&mut Walk::default(), 2, NOW),
        |host, _, _| assert_eq!(host.insert(FLOW, UDP, NOW), Insert::Buried),
    );
}

#[test]
fn a_removed_record_stays_away() {
    race(
        |host| assert_eq!(host.insert(FLOW, UDP, NOW), Insert::New),
        |host| host.datagram(FLOW, Direction::Down, NOW + 4),
        |host| host.0.remove(FLOW),
        |host, _, ()| assert_eq!(host.sweep(NOW + 4), 0),
    );
}

#[test]
fn a_handshake_is_seen() {
    race(
        |host| {
            host.insert(FLOW, TCP, NOW);
            host.tcp(Direction::Down, SYN_ACK);
        },
        |host| host.tcp(Direction::Up, ACK),
        |host| host.tcp(Direction::Down, ACK),
        |host, first, second| {
            assert_eq!([first, second], [Look::Hit; 2]);
            assert!(host.0.peek(FLOW, &lifetimes(TCP), NOW + 100_000));
        },
    );
}
