// SPDX-License-Identifier: GPL-2.0

//! The word of a flow: all that is remembered of it.
//!
//! | bits | what |
//! |---|---|
//! | 63 to 16 | the tag, 48 bits of the flow's hash; never 0 |
//! | 15 to 4 | the stamp: the tick of the last packet that counts, in ticks of the state |
//! | 3 to 1 | the state |
//! | 0 | the direction of the first packet: set where it is [`Direction::Down`] |
//!
//! A free word is 0.

use core::sync::atomic::{
    fence,
    AtomicU64,
    Ordering, //
};

use crate::pure::flows::{
    hash::Hash,
    key::Direction, //
};

/// A word of memory that packets on all CPUs read and replace.
///
/// A word holds all that is to be known of a flow, and leads to no other memory: so its accesses need no
/// order among those of other words, but where a [`fence`](Self::fence) says it.
pub trait Word {
    /// Returns a word that holds 0.
    fn new() -> Self;

    /// Returns what the word holds.
    fn load(&self) -> u64;

    /// Puts `new` in the place of `old`; returns whether the word held that.
    fn replace(&self, old: u64, new: u64) -> bool;

    /// Orders all accesses ahead of it before all that follow. Of two CPUs that each write one word, then
    /// call this, then read the other's word, one at least reads what the other has written. C: `smp_mb()`.
    fn fence();
}

impl Word for AtomicU64 {
    fn new() -> Self {
        Self::new(0)
    }

    #[inline(always)]
    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn replace(&self, old: u64, new: u64) -> bool {
        self.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}

/// The state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not of TCP: no packet has come back.
    Unreplied,
    /// Not of TCP: a packet has come back.
    Replied,
    /// TCP: nothing but SYNs so far.
    Syn,
    /// TCP: a SYN-ACK has come back.
    SynAck,
    /// TCP: the first side has acknowledged that. Its ticks are the coarse ones.
    Open,
    /// TCP: a FIN was seen.
    Fin,
    /// TCP: the last packet was an RST. It may be forged, so the next one of another kind opens the flow again.
    Reset,
    /// The tombstone of a flow: it must have no record for a while.
    Buried,
}

impl State {
    /// The number of states.
    pub(super) const COUNT: usize = Self::Buried as usize + 1;

    /// Returns the state of that number: its lower three bits count.
    #[inline(always)]
    const fn of(number: u64) -> Self {
        match number & 7 {
            0 => Self::Unreplied,
            1 => Self::Replied,
            2 => Self::Syn,
            3 => Self::SynAck,
            4 => Self::Open,
            5 => Self::Fin,
            6 => Self::Reset,
            _ => Self::Buried,
        }
    }
}

/// The bits of a stamp, shifted to the lowest ones.
pub(super) const STAMP: u32 = (1 << 12) - 1;

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record(pub(super) u64);

impl Record {
    /// A free word.
    pub(super) const FREE: Self = Self(0);

    const STAMP_SHIFT: u32 = 4;
    const STATE_SHIFT: u32 = 1;

    /// Returns the record of a flow whose first packet has that direction. Of the stamp, the lower 12 bits
    /// count.
    #[inline(always)]
    pub(super) fn new(hash: Hash, stamp: u32, state: State, direction: Direction) -> Self {
        Self(
            hash.tag()
                | u64::from(stamp & STAMP) << Self::STAMP_SHIFT
                | (state as u64) << Self::STATE_SHIFT
                | direction as u64,
        )
    }

    /// Returns the record of the same flow with another stamp and state.
    #[inline(always)]
    pub(super) fn with(self, stamp: u32, state: State) -> Self {
        Self::new(Hash::new(self.0), stamp, state, self.direction())
    }

    /// Returns whether it is of the flow of that hash, or of one with the same tag.
    #[inline(always)]
    pub(super) fn is_of(self, hash: Hash) -> bool {
        (self.0 ^ hash.bits()) & Hash::TAG == 0
    }

    /// Returns whether the word is free.
    #[inline(always)]
    pub(super) fn is_free(self) -> bool {
        self.0 == Self::FREE.0
    }

    /// Returns the stamp.
    #[inline(always)]
    pub(super) fn stamp(self) -> u32 {
        (self.0 >> Self::STAMP_SHIFT) as u32 & STAMP
    }

    /// Returns the state.
    #[inline(always)]
    pub(super) fn state(self) -> State {
        State::of(self.0 >> Self::STATE_SHIFT)
    }

    /// Returns the direction of the first packet.
    #[inline(always)]
    pub(super) fn direction(self) -> Direction {
        Direction::new(self.0 & 1 != 0)
    }
}
