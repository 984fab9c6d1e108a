// SPDX-License-Identifier: GPL-2.0

//! Flows: a table says of each what a map without bounds says, whatever happens and however much time passes.

use std::collections::{
    HashMap,
    HashSet, //
};

use ctskip_pure::flows::{
    hash::Hash,
    key::Direction,
    lifetime::{
        Lifetimes,
        Timeouts,
        SOFT,
        SWEEP,
        TOMBSTONE, //
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

use crate::source::{
    Bytes,
    Source, //
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// The most events of a run.
const EVENTS: usize = 400;
/// How many flows there may be.
const FLOWS: usize = 40;
/// The sizes of tables, in words.
const SIZES: [usize; 3] = [16, 64, 4096];

/// Steps of time, in seconds: around the bounds that there are.
const STEPS: [u64; 16] = [
    1, 3, 4, 9, 10, 16, 24, 28, 31, 59, 62, 121, 149, 239, 3600, 433_000,
];

/// Takes a table's size and a time, and then what happens.
pub fn flows(data: &[u8]) {
    let source: &mut dyn Source = &mut Bytes::new(data);
    let table: Table = Table::new(source.pick(&SIZES)).expect("memory");
    let mut run = Run::new(table, source);
    for _ in 0..EVENTS {
        if source.is_spent() {
            break;
        }
        run.event(source);
        run.compare();
    }
}

/// What was the last to happen to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    Asked,
    Answered,
    Syn,
    SynAck,
    Open,
    Fin,
    Reset,
    Buried,
}

impl Was {
    /// The seconds of a tick.
    fn unit(self) -> u64 {
        match self {
            Self::Open => 256,
            _ => 4,
        }
    }
}

/// The timeouts of a namespace's flows of one protocol.
#[derive(Clone, Copy)]
struct Namespace {
    protocol: u8,
    timeouts: Timeouts,
}

impl Namespace {
    const ALL: [Self; 5] = [
        Self::new(UDP, 0),
        Self::new(TCP, 0),
        Self::new(SCTP, 10),
        Self::new(UDP, 700),
        Self::new(TCP, 500_000),
    ];

    /// All timeouts are these, as far as there can be such.
    const fn new(protocol: u8, seconds: u32) -> Self {
        let short = match seconds < 1000 {
            true => seconds,
            false => 1000,
        };
        let timeouts = Timeouts {
            unreplied: short,
            replied: short,
            opening: short,
            open: seconds,
            closing: short,
        };
        Self { protocol, timeouts }
    }

    fn lifetimes(&self) -> Lifetimes {
        Lifetimes::new(self.protocol, &self.timeouts).expect("lifetimes that a stamp can tell")
    }

    /// The ticks for which a flow is known.
    fn ticks(&self, was: Was) -> u64 {
        let Timeouts {
            unreplied,
            replied,
            opening,
            open,
            closing,
        } = self.timeouts;
        let seconds = match was {
            Was::Asked => unreplied.max(30) + SOFT,
            Was::Answered if self.protocol == SCTP => replied.max(210) + SOFT,
            Was::Answered => replied.max(120) + SOFT,
            Was::Syn | Was::SynAck => opening.max(120),
            Was::Open => open.max(432_000),
            Was::Fin | Was::Reset => closing.max(120),
            Was::Buried => TOMBSTONE,
        };
        u64::from(seconds).div_ceil(was.unit())
    }
}

/// What the map knows of a flow.
#[derive(Clone, Copy)]
struct Known {
    was: Was,
    /// The tick, never wrapped around.
    tick: u64,
    direction: Direction,
}

impl Known {
    fn new(was: Was, direction: Direction, now: u64) -> Self {
        let tick = now / was.unit();
        Self {
            was,
            tick,
            direction,
        }
    }

    fn age(&self, now: u64) -> u64 {
        now / self.was.unit() - self.tick
    }

    fn is_alive(&self, namespace: &Namespace, now: u64) -> bool {
        self.age(now) <= namespace.ticks(self.was)
    }
}

/// A flow that there may be.
#[derive(Clone, Copy)]
struct Flow {
    hash: Hash,
    namespace: Namespace,
}

struct Run {
    table: Table,
    /// The flows, no two of which the table takes for one.
    pool: Vec<Flow>,
    map: HashMap<Hash, Known>,
    now: u64,
    swept: u64,
}

impl Run {
    fn new(table: Table, source: &mut dyn Source) -> Self {
        // The clock is anywhere, also where stamps come around.
        let now = source.number() % (1 << 40);
        // The table knows the lifetimes of all namespaces from the start.
        for namespace in Namespace::ALL {
            let (hash, kind) = (Hash::new(u64::MAX), Kind::of(namespace.protocol));
            let lifetimes = namespace.lifetimes();
            table.insert(hash, Direction::Up, kind, &lifetimes, now);
            table.remove(hash);
        }
        let mut places = HashSet::new();
        let mut pool = Vec::new();
        for number in 0..FLOWS as u64 {
            // Few tags, also the lowest and the highest ones; those of one tag lie in different buckets.
            let bits = match number % 4 {
                0 => number,
                1 => u64::MAX - number,
                2 => 0x1234_5678_9abc_0000 | number,
                _ => source.number(),
            };
            let hash = Hash::new(bits);
            let mut buckets = table.places(hash);
            buckets.sort_unstable();
            if places.insert((hash.tag(), buckets)) {
                let namespace = Namespace::ALL[number as usize % Namespace::ALL.len()];
                pool.push(Flow { hash, namespace });
            }
        }
        // More than a small table holds.
        for number in 0..FLOWS as u64 {
            let hash = Hash::new((number + 1) << 40 | number);
            let namespace = Namespace::ALL[number as usize % 2];
            let mut buckets = table.places(hash);
            buckets.sort_unstable();
            if places.insert((hash.tag(), buckets)) {
                pool.push(Flow { hash, namespace });
            }
        }
        Self {
            table,
            pool,
            map: HashMap::new(),
            now,
            swept: now,
        }
    }

    /// Whether any namespace may know the flow still: so long, its word stays.
    fn stays(&self, known: &Known) -> bool {
        let mut all = Namespace::ALL.iter();
        all.any(|namespace| known.is_alive(namespace, self.now))
    }

    /// What the map knows of a flow, where it is alive.
    fn alive(&self, flow: &Flow) -> Option<Known> {
        let known = self.map.get(&flow.hash).copied()?;
        let is_alive = match known.was {
            Was::Buried => self.stays(&known),
            _ => known.is_alive(&flow.namespace, self.now),
        };
        is_alive.then_some(known)
    }

    fn event(&mut self, source: &mut dyn Source) {
        let event = source.below(32);
        if event < 4 {
            return self.pass(source.pick(&STEPS));
        }
        let flow = source.pick(&self.pool);
        let direction = source.pick(&[Direction::Up, Direction::Down]);
        match event {
            4..=15 => {
                let bits = source.pick(&[0x10, 0x02, 0x12, 0x11, 0x04, 0x14, 0x18, 0x03]);
                let flags = match flow.namespace.protocol {
                    TCP if source.percent(95) => Some(bits),
                    _ => None,
                };
                self.look(&flow, direction, flags);
            }
            16..=25 => self.insert(&flow, direction),
            26..=28 => self.bury(&flow),
            29 => self.remove(&flow),
            30 => self.sweep(source.within(1, 600) as usize),
            _ => self.clear(),
        }
    }

    /// Lets time pass; all is swept in time.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds;
        while end - self.swept > u64::from(SWEEP) {
            self.now = self.swept + u64::from(SWEEP);
            self.sweep(usize::MAX);
        }
        self.now = end;
    }

    fn look(&mut self, flow: &Flow, direction: Direction, flags: Option<u8>) {
        let lifetimes = flow.namespace.lifetimes();
        let look = self
            .table
            .look(flow.hash, direction, flags, &lifetimes, self.now);
        let expected = self.expected(flow, direction, flags);
        assert_eq!(look, expected, "at {}", self.now);
    }

    fn expected(&mut self, flow: &Flow, direction: Direction, flags: Option<u8>) -> Look {
        let Some(known) = self.alive(flow) else {
            return Look::Miss;
        };
        let is_first = known.direction == direction;
        let was = match known.was {
            Was::Buried => return Look::Miss,
            Was::Asked | Was::Answered if is_first => {
                if known.age(self.now) < u64::from(SOFT) / 4 {
                    return Look::Hit;
                }
                let known = Known::new(known.was, known.direction, self.now);
                self.map.insert(flow.hash, known);
                return Look::Soft;
            }
            Was::Asked | Was::Answered => Was::Answered,
            was => match flags {
                Some(bits) => match tcp(was, bits, is_first) {
                    Some(was) => was,
                    None => return Look::Miss,
                },
                None => return Look::Miss,
            },
        };
        let known = Known::new(was, known.direction, self.now);
        self.map.insert(flow.hash, known);
        Look::Hit
    }

    fn insert(&mut self, flow: &Flow, direction: Direction) {
        let Flow { hash, namespace } = *flow;
        let kind = Kind::of(namespace.protocol);
        let lifetimes = namespace.lifetimes();
        let insert = self
            .table
            .insert(hash, direction, kind, &lifetimes, self.now);
        if insert == Insert::NoRoom {
            return self.has_no_room(hash);
        }
        let first = match kind {
            Kind::Tcp => Was::Syn,
            Kind::Datagram => Was::Asked,
        };
        let (was, direction, expected) = match self.alive(flow) {
            None => (first, direction, Insert::New),
            Some(known) => match known.was {
                Was::Buried => {
                    assert_eq!(insert, Insert::Buried);
                    return;
                }
                Was::Fin => (first, direction, Insert::Renewed),
                Was::Syn | Was::SynAck if known.direction != direction => {
                    (first, direction, Insert::Renewed)
                }
                was => (was, known.direction, Insert::Renewed),
            },
        };
        assert_eq!(insert, expected, "at {}", self.now);
        self.map.insert(hash, Known::new(was, direction, self.now));
    }

    fn bury(&mut self, flow: &Flow) {
        let bury = self.table.bury(flow.hash, self.now);
        if bury == Bury::NoRoom {
            return self.has_no_room(flow.hash);
        }
        let known = self.map.get(&flow.hash);
        let was_record = known.is_some_and(|known| known.was != Was::Buried && self.stays(known));
        assert_eq!(bury == Bury::Gone, was_record);
        let tombstone = Known::new(Was::Buried, Direction::Up, self.now);
        self.map.insert(flow.hash, tombstone);
    }

    fn remove(&mut self, flow: &Flow) {
        self.table.remove(flow.hash);
        if self
            .map
            .get(&flow.hash)
            .is_some_and(|known| known.was != Was::Buried)
        {
            self.map.remove(&flow.hash);
        }
    }

    /// Sweeps in pieces of so many buckets.
    fn sweep(&mut self, piece: usize) {
        let mut walk = Walk::default();
        while !self.table.sweep(&mut walk, piece, self.now) {}
        self.swept = self.now;
        let gone: Vec<Hash> = self.gone().collect();
        for hash in gone {
            self.map.remove(&hash);
        }
        let records = self.map.values().filter(|known| known.was != Was::Buried);
        assert_eq!(walk.alive, records.count());
    }

    fn clear(&mut self) {
        let mut walk = Walk::default();
        while !self.table.clear(&mut walk, 3, self.now) {}
        self.swept = self.now;
        let gone: Vec<Hash> = self.gone().collect();
        for hash in gone {
            self.map.remove(&hash);
        }
        self.map.retain(|_, known| known.was == Was::Buried);
        assert_eq!(walk.alive, 0);
    }

    /// The flows whose words nobody needs any more.
    fn gone(&self) -> impl Iterator<Item = Hash> + '_ {
        let all = self.map.iter();
        all.filter(|(_, known)| !self.stays(known))
            .map(|(hash, _)| *hash)
    }

    /// Only where both buckets are full of what is alive there is no room.
    fn has_no_room(&self, hash: Hash) {
        let places = self.table.places(hash);
        let own = self.map.get(&hash).is_some_and(|known| self.stays(known));
        assert!(!own, "a word of its own");
        let shares = |other: &Hash| {
            let others = self.table.places(*other);
            others.iter().any(|place| places.contains(place))
        };
        let there = self
            .map
            .iter()
            .filter(|(other, known)| shares(other) && self.stays(known));
        let count = there.count();
        assert!(count >= 16, "no room, with {count} near");
    }

    /// All that is alive is there, and nothing else.
    fn compare(&self) {
        for flow in &self.pool {
            let lifetimes = flow.namespace.lifetimes();
            let peek = self.table.peek(flow.hash, &lifetimes, self.now);
            let known = self.alive(flow).filter(|known| known.was != Was::Buried);
            assert_eq!(peek, known.is_some(), "{:?} at {}", flow.hash, self.now);
        }
    }
}

/// What a flow of TCP is behind a packet of these flags; [`None`] where that may begin a flow.
fn tcp(was: Was, bits: u8, is_first: bool) -> Option<Was> {
    let fin = bits & 1 != 0;
    let syn = bits & 2 != 0;
    let rst = bits & 4 != 0;
    let ack = bits & 16 != 0;
    if syn && !ack {
        return None;
    }
    Some(match was {
        Was::Open | Was::Reset => match (rst, fin) {
            (true, _) => Was::Reset,
            (false, true) => Was::Fin,
            (false, false) => Was::Open,
        },
        Was::Syn if syn && ack && !rst && !is_first => Was::SynAck,
        Was::SynAck if ack && !rst && is_first => match fin {
            true => Was::Fin,
            false => Was::Open,
        },
        was => was,
    })
}
