// SPDX-License-Identifier: GPL-2.0

//! The table of flows: one word a flow, found by the flow's hash.
//!
//! Eight words are a bucket, and a cache line. A flow has two buckets to lie in, so that nearly all of the
//! table can be used. A flow that finds no room in them is not remembered: what is alive is never put out.
//!
//! Packets on all CPUs use it at the same time, in any context. A word changes by compare-and-swap only.
//! No operation but [`Table::sweep`] and [`Table::clear`] looks at more than the 16 words of two buckets, and
//! each does it a few times at most.
//!
//! Where two CPUs make a record of one flow at once, or one makes it and another buries the flow, both words
//! may come to be. So each that has made a word looks through both buckets once more, behind a fence: one of
//! the two sees the other's word. A tombstone wins over all records, and of two records the one that a
//! search finds first.

use core::{
    array,
    sync::atomic::{
        AtomicU16,
        AtomicU64,
        Ordering, //
    },
};

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    flows::{
        hash::Hash,
        key::Direction,
        lifetime::{
            stamp,
            Age,
            Lifetimes,
            Timeouts, //
        },
        word::{
            Record,
            State,
            Word, //
        },
    },
    rule::protocol,
};

/// The words of a bucket.
const WAYS: usize = 8;
/// How often an operation begins anew because another CPU was faster.
const TRIES: usize = 4;
/// How often a word is sought to be cleared that other CPUs change. A record changes a few times in a tick
/// at most.
const CLEARS: usize = 16;

/// The kind of a flow: by which packets its record changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP: by its flags.
    Tcp,
    /// Any other protocol: by whether something comes back.
    Datagram,
}

impl Kind {
    /// Returns the kind of a protocol's flows.
    pub const fn of(protocol: u8) -> Self {
        match protocol {
            protocol::TCP => Self::Tcp,
            _ => Self::Datagram,
        }
    }

    /// Returns the state of a new record.
    const fn first_state(self) -> State {
        match self {
            Self::Tcp => State::Syn,
            Self::Datagram => State::Unreplied,
        }
    }
}

/// What a packet finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A record: the packet needs no entry.
    Hit,
    /// None, or a tombstone, or the packet begins a flow of TCP.
    Miss,
    /// A record; but nothing has come back for [`SOFT`](super::lifetime::SOFT) seconds, and this one packet
    /// is to be judged as if there were none.
    Soft,
}

/// What became of a record that was to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// It is new.
    New,
    /// It was there, and has begun anew.
    Renewed,
    /// There is no room for it.
    NoRoom,
    /// There must be none: the flow was buried lately.
    Buried,
}

/// What became of a flow that was to be buried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bury {
    /// A record that was alive has gone.
    Gone,
    /// There was no such record.
    None,
    /// There was none either, but there is no room for a tombstone.
    NoRoom,
}

/// How far a walk over the table has come, and what it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The next bucket.
    next: usize,
    /// The records that are alive.
    pub alive: usize,
    /// The words that were cleared.
    pub cleared: usize,
}

/// The words of a bucket: a cache line.
#[repr(align(64))]
struct Bucket<W>([W; WAYS]);

/// A table of flows.
pub struct Table<W = AtomicU64> {
    /// A power of two of them, two at least.
    buckets: Vec<Bucket<W>>,
    /// The longest lifetimes of all namespaces, by the states' numbers: a word does not tell whose it is.
    longest: [AtomicU16; State::COUNT],
}

/// What the buckets of a flow have.
struct Survey<'a, W> {
    /// A tombstone of the flow, still good.
    is_buried: bool,
    /// The first word that is of the flow: a record or a tombstone, alive or not.
    own: Option<(&'a W, Record)>,
    /// A word that is free, or of a flow that is not alive any more.
    room: Option<(&'a W, Record)>,
}

impl<W: Word> Table<W> {
    /// The most words of a table: 512 MiB.
    pub const MAX_WORDS: usize = 1 << 26;

    /// Returns an empty table for so many flows: a power of two, from 16 to [`Self::MAX_WORDS`]; the next
    /// one above. Process context; may sleep.
    pub fn new(flows: usize) -> Result<Self, NoMemory> {
        let count = flows
            .clamp(2 * WAYS, Self::MAX_WORDS)
            .next_power_of_two()
            .div_ceil(WAYS);
        let mut buckets = Vec::with_capacity(count)?;
        for _ in 0..count {
            buckets.push(Bucket(array::from_fn(|_| W::new())))?;
        }
        let table = Self {
            buckets,
            longest: [const { AtomicU16::new(0) }; State::COUNT],
        };
        // Tombstones are nobody's.
        if let Some(lifetimes) = Lifetimes::new(protocol::TCP, &Timeouts::of(protocol::TCP)) {
            table.note(&lifetimes);
        }
        Ok(table)
    }

    /// Returns the number of words.
    pub fn words(&self) -> usize {
        self.buckets.len().saturating_mul(WAYS)
    }

    /// Returns the number of buckets, for [`Self::sweep`] and [`Self::clear`].
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Returns the places of a flow's buckets; the first one is looked at first.
    ///
    /// The second one follows from the first one and the tag: so what lies in either is told apart by the
    /// same bits.
    #[inline(always)]
    pub fn places(&self, hash: Hash) -> [usize; 2] {
        let mask = self.buckets.len().wrapping_sub(1);
        let first = hash.bits() as usize & mask;
        // The lowest bit is set: the second bucket is another one.
        let mixed = (hash.tag().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize | 1;
        [first, (first ^ mixed) & mask]
    }

    /// Returns the words of both buckets, in the order of a search.
    #[inline(always)]
    fn words_of(&self, hash: Hash) -> impl Iterator<Item = &W> {
        let places = self.places(hash);
        let buckets = places.into_iter().filter_map(|at| self.buckets.get(at));
        buckets.flat_map(|bucket| &bucket.0)
    }

    /// Returns the first word that is of the flow.
    #[inline(always)]
    fn find(&self, hash: Hash) -> Option<(&W, Record)> {
        for at in self.places(hash) {
            for word in &self.buckets.get(at)?.0 {
                let record = Record(word.load());
                if record.is_of(hash) {
                    return Some((word, record));
                }
            }
        }
        None
    }

    /// Returns what a packet of a flow finds, and keeps the record up to date.
    ///
    /// `direction` is the packet's. `flags` are byte 13 of the header of TCP, without which a packet of TCP
    /// finds nothing. `lifetimes` are those of its namespace and protocol; `now` is the time in seconds, of a
    /// clock that does not go back. Any context.
    ///
    /// A record is written to where its state changes, and where a packet comes back (or any one of TCP) in
    /// another tick than that of the last one.
    #[inline(always)]
    pub fn look(
        &self,
        hash: Hash,
        direction: Direction,
        flags: Option<u8>,
        lifetimes: &Lifetimes,
        now: u64,
    ) -> Look {
        let Some((word, record)) = self.find(hash) else {
            return Look::Miss;
        };
        if !lifetimes.has(record, now) {
            return Look::Miss;
        }
        let is_first = record.direction() == direction;
        let age = Age::of(record, now);
        let state = match record.state() {
            State::Buried => return Look::Miss,
            State::Unreplied | State::Replied if is_first => {
                if !age.is_soft() {
                    return Look::Hit;
                }
                // One packet takes it upon itself; the others go on.
                let new = record.with(stamp(record.state(), now), record.state());
                return match word.replace(record.0, new.0) {
                    true => Look::Soft,
                    false => Look::Hit,
                };
            }
            State::Unreplied | State::Replied => State::Replied,
            // Whether its entry is needed may be another question than it was for the last one.
            _ if may_begin(flags) => return Look::Miss,
            state => next(state, flags, is_first),
        };
        if age.is_past() || state != record.state() {
            self.refresh(word, record, state, lifetimes, now);
        }
        Look::Hit
    }

    /// Returns whether a flow has a record. It stays as it is: for packets that only quote one of the flow.
    pub fn peek(&self, hash: Hash, lifetimes: &Lifetimes, now: u64) -> bool {
        self.find(hash).is_some_and(|(_, record)| {
            lifetimes.has(record, now) && record.state() != State::Buried
        })
    }

    /// Puts a record into another state, with the stamp of `now`. Where it has changed meanwhile, another CPU
    /// has done that, or it is gone.
    #[inline(never)]
    fn refresh(&self, word: &W, record: Record, state: State, lifetimes: &Lifetimes, now: u64) {
        self.note(lifetimes);
        let is_late = !Age::of(record, now).is_past();
        let same_ticks = (record.state() == State::Open) == (state == State::Open);
        let stamp = match is_late && same_ticks {
            true => record.stamp(),
            false => stamp(state, now),
        };
        word.replace(record.0, record.with(stamp, state).0);
    }

    /// Makes a record of a flow whose first packet has that direction, or begins it anew.
    ///
    /// The namespace's share of the table is the caller's to see to: see [`super::quota`]. Any context.
    pub fn insert(
        &self,
        hash: Hash,
        direction: Direction,
        kind: Kind,
        lifetimes: &Lifetimes,
        now: u64,
    ) -> Insert {
        self.note(lifetimes);
        for _ in 0..TRIES {
            let survey = self.survey(hash, now);
            if survey.is_buried {
                return Insert::Buried;
            }
            let Some((word, old)) = survey.own.or(survey.room) else {
                return Insert::NoRoom;
            };
            let is_alive =
                old.is_of(hash) && old.state() != State::Buried && lifetimes.has(old, now);
            let (new, done) = match is_alive {
                true => (begun_anew(old, hash, direction, now), Insert::Renewed),
                false => {
                    let state = kind.first_state();
                    let new = Record::new(hash, stamp(state, now), state, direction);
                    (new, Insert::New)
                }
            };
            if word.replace(old.0, new.0) {
                W::fence();
                return match self.leave_one(hash, now) {
                    true => done,
                    false => Insert::Buried,
                };
            }
        }
        Insert::NoRoom
    }

    /// Leaves one record of a flow; none where the flow is buried. Returns whether it is not.
    fn leave_one(&self, hash: Hash, now: u64) -> bool {
        let records = self.words_of(hash).map(|word| Record(word.load()));
        let mut own = records.filter(|record| record.is_of(hash));
        let is_alone = own
            .next()
            .is_none_or(|record| record.state() != State::Buried);
        if is_alone && own.next().is_none() {
            return true;
        }
        let is_buried = self.survey(hash, now).is_buried;
        self.clear_all(hash, usize::from(!is_buried));
        !is_buried
    }

    /// Clears the records of a flow but for the first ones, as many as are to stay. Tombstones stay.
    fn clear_all(&self, hash: Hash, mut stay: usize) {
        for word in self.words_of(hash) {
            for _ in 0..CLEARS {
                let record = Record(word.load());
                if !record.is_of(hash) || record.state() == State::Buried {
                    break;
                }
                if let Some(left) = stay.checked_sub(1) {
                    stay = left;
                    break;
                }
                if word.replace(record.0, Record::FREE.0) {
                    break;
                }
            }
        }
    }

    /// Buries a flow: its record goes, and for [`TOMBSTONE`](super::lifetime::TOMBSTONE) seconds none can be
    /// made. Any context.
    pub fn bury(&self, hash: Hash, now: u64) -> Bury {
        for _ in 0..TRIES {
            let survey = self.survey(hash, now);
            let Some((word, old)) = survey.own.or(survey.room) else {
                return Bury::NoRoom;
            };
            let state = State::Buried;
            let new = Record::new(hash, stamp(state, now), state, old.direction());
            if word.replace(old.0, new.0) {
                W::fence();
                self.clear_all(hash, 0);
                let was_alive = old.is_of(hash) && old.state() != state && self.has(old, now);
                return match was_alive {
                    true => Bury::Gone,
                    false => Bury::None,
                };
            }
        }
        self.clear_all(hash, 0);
        Bury::NoRoom
    }

    /// Removes the record of a flow; a tombstone stays. Any context.
    pub fn remove(&self, hash: Hash) {
        self.clear_all(hash, 0);
    }

    /// Returns what the buckets of a flow have.
    fn survey(&self, hash: Hash, now: u64) -> Survey<'_, W> {
        let mut survey = Survey {
            is_buried: false,
            own: None,
            room: None,
        };
        let mut most = 0;
        for at in self.places(hash) {
            let Some(bucket) = self.buckets.get(at) else {
                continue;
            };
            let (mut count, mut room) = (0usize, None);
            for word in &bucket.0 {
                let record = Record(word.load());
                if record.is_of(hash) {
                    survey.is_buried |= record.state() == State::Buried && self.has(record, now);
                    survey.own.get_or_insert((word, record));
                } else if !self.has(record, now) {
                    count = count.saturating_add(1);
                    room.get_or_insert((word, record));
                }
            }
            // The bucket with more room; but the first one, where a search finds sooner, while half of it is.
            if count > most && most < WAYS / 2 {
                most = count;
                survey.room = room;
            }
        }
        survey
    }

    /// Walks over the next buckets, at most `count`, and clears the words that are not good any more.
    /// Returns whether this was the end of the table. To be done for all of it once an hour: see
    /// [`lifetime`](super::lifetime). Any context.
    pub fn sweep(&self, walk: &mut Walk, count: usize, now: u64) -> bool {
        self.walk(walk, count, |record| !self.has(record, now), now)
    }

    /// Walks over the next buckets, at most `count`, and clears all words but the tombstones that are still
    /// good: what these keep from being remembered may be on its way. Returns whether this was the end of
    /// the table. Any context.
    pub fn clear(&self, walk: &mut Walk, count: usize, now: u64) -> bool {
        let goes = |record: Record| record.state() != State::Buried || !self.has(record, now);
        self.walk(walk, count, goes, now)
    }

    /// Walks over the next buckets and clears the words that `goes` says it of.
    fn walk(&self, walk: &mut Walk, count: usize, goes: impl Fn(Record) -> bool, now: u64) -> bool {
        for bucket in self.buckets.iter().skip(walk.next).take(count) {
            for word in &bucket.0 {
                for _ in 0..CLEARS {
                    let record = Record(word.load());
                    if record.is_free() {
                        break;
                    }
                    if !goes(record) {
                        let is_record = record.state() != State::Buried && self.has(record, now);
                        walk.alive = walk.alive.saturating_add(usize::from(is_record));
                        break;
                    }
                    if word.replace(record.0, Record::FREE.0) {
                        walk.cleared = walk.cleared.saturating_add(1);
                        break;
                    }
                }
            }
        }
        walk.next = walk.next.saturating_add(count);
        walk.next >= self.buckets.len()
    }

    /// Notes the lifetimes of a namespace, ahead of a record of it that is written.
    ///
    /// Another CPU may see the record and not these. That does no harm: it would have to be so for as long as
    /// the defaults let the record live.
    #[inline]
    fn note(&self, lifetimes: &Lifetimes) {
        for (longest, age) in self.longest.iter().zip(lifetimes.ages()) {
            if longest.load(Ordering::Relaxed) < age {
                longest.fetch_max(age, Ordering::Relaxed);
            }
        }
    }

    /// Returns whether a word is alive, whosesoever it is.
    fn has(&self, record: Record, now: u64) -> bool {
        let oldest = self.longest.get(record.state() as usize);
        let is_young = |oldest: &AtomicU16| {
            let oldest = oldest.load(Ordering::Relaxed);
            Age::of(record, now).is_within(oldest)
        };
        !record.is_free() && oldest.is_some_and(is_young)
    }
}

/// Returns whether a packet of TCP may begin a flow: a SYN without ACK, or flags that are not known.
#[inline(always)]
fn may_begin(flags: Option<u8>) -> bool {
    flags.is_none_or(|bits| bits & (SYN | ACK) == SYN)
}

const FIN: u8 = 1;
const SYN: u8 = 1 << 1;
const RST: u8 = 1 << 2;
const ACK: u8 = 1 << 4;

/// Returns the state of a flow of TCP behind a packet, which `is_first` says is of the first direction.
///
/// It is open only when both sides have agreed: what one of them sends alone must not live for days.
#[inline(always)]
fn next(state: State, flags: Option<u8>, is_first: bool) -> State {
    let bits = flags.unwrap_or(0);
    let has = |flag: u8| bits & flag != 0;
    match state {
        State::Open | State::Reset if has(RST) => State::Reset,
        State::Open | State::Reset if has(FIN) => State::Fin,
        State::Reset => State::Open,
        State::Syn if !is_first && has(SYN) && has(ACK) && !has(RST) => State::SynAck,
        State::SynAck if is_first && has(ACK) && !has(RST) && has(FIN) => State::Fin,
        State::SynAck if is_first && has(ACK) && !has(RST) => State::Open,
        state => state,
    }
}

/// Returns the record of a flow that is alive and begins anew with a packet of that direction.
///
/// What it was stays: nobody must shorten its life by a packet that looks like a first one.
fn begun_anew(old: Record, hash: Hash, direction: Direction, now: u64) -> Record {
    let is_turned = direction != old.direction();
    match old.state() {
        // There, another one could never come to be open.
        State::Fin => Record::new(hash, stamp(State::Syn, now), State::Syn, direction),
        State::Syn | State::SynAck if is_turned => {
            Record::new(hash, stamp(State::Syn, now), State::Syn, direction)
        }
        state => old.with(stamp(state, now), state),
    }
}
