// SPDX-License-Identifier: GPL-2.0

//! For how long a flow's word is good, and how its stamp tells.
//!
//! A stamp has 12 bits: it comes around after 4,096 ticks, and then a word that was never cleared would seem
//! to be new. So all words are swept within [`SWEEP`], and none may live longer than leaves room for that.
//!
//! | state | tick | comes around after |
//! |---|---|---|
//! | [`State::Open`] | 256 s | 12 days |
//! | all others | 4 s | 4.5 hours |
//!
//! A word lives at least as long as its lifetime is, and two ticks longer at most.

use crate::pure::{
    flows::word::{
        Record,
        State,
        STAMP, //
    },
    rule::protocol, //
};

/// After so many seconds without a packet of the other direction, a packet of the first one is judged anew.
/// Not before 24 s have passed, not later than after 28 s.
///
/// Less than that, the first direction does not refresh a record, though it does an entry of conntrack.
pub const SOFT: u32 = 28;
/// The seconds of a tombstone.
pub const TOMBSTONE: u32 = 10;
/// The most seconds from one sweep's start to the next one's end. It is planned every hour.
pub const SWEEP: u32 = 4500;

/// The ticks of [`SOFT`].
pub(super) const SOFT_TICKS: u32 = SOFT >> FINE;

/// A tick's seconds, as a power of two: in [`State::Open`], and in all other states.
const COARSE: u32 = 8;
const FINE: u32 = 2;

/// The ticks by which a stamp may be ahead of a packet: another CPU has read the clock later, or this one was
/// kept from going on since it read the clock. They are 64 s at least.
const AHEAD: u32 = 16;

/// The longest lifetimes, in ticks: what the stamp's range leaves besides [`AHEAD`] and [`SWEEP`].
const MAX_COARSE: u32 = STAMP - AHEAD - (SWEEP >> COARSE) - 2;
const MAX_FINE: u32 = STAMP - AHEAD - (SWEEP >> FINE) - 2;

/// Returns a tick's seconds in a state, as a power of two.
#[inline(always)]
const fn unit(state: State) -> u32 {
    match state {
        State::Open => COARSE,
        _ => FINE,
    }
}

/// Returns the stamp of a packet that comes at second `now`, in ticks of `state`.
#[inline(always)]
pub(super) const fn stamp(state: State, now: u64) -> u32 {
    now.wrapping_shr(unit(state)) as u32 & STAMP
}

/// The ticks since a record's stamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age(u32);

impl Age {
    /// Returns the age at second `now`.
    #[inline(always)]
    pub(super) fn of(record: Record, now: u64) -> Self {
        let ticks = stamp(record.state(), now).wrapping_sub(record.stamp());
        Self(ticks.wrapping_add(AHEAD) & STAMP)
    }

    /// Returns whether a tick at least has passed.
    #[inline(always)]
    pub(super) const fn is_past(self) -> bool {
        self.0 > AHEAD
    }

    /// Returns whether that is at most the greatest age at which a word is alive.
    #[inline(always)]
    pub(super) fn is_within(self, oldest: u16) -> bool {
        self.0 <= u32::from(oldest)
    }

    /// Returns whether the first direction is to be judged anew.
    #[inline(always)]
    pub(super) const fn is_soft(self) -> bool {
        self.0 >= AHEAD + SOFT_TICKS
    }
}

/// Conntrack's timeouts of a protocol, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Not of TCP: nothing has come back.
    pub unreplied: u32,
    /// Not of TCP: something has come back. The longest of the protocol's states.
    pub replied: u32,
    /// TCP: SYN_SENT, SYN_RECV. The longer one.
    pub opening: u32,
    /// TCP: ESTABLISHED.
    pub open: u32,
    /// TCP: FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE. The longest one.
    pub closing: u32,
}

impl Timeouts {
    /// Returns the kernel's defaults.
    pub const fn of(protocol: u8) -> Self {
        Self {
            unreplied: 30,
            replied: match protocol {
                protocol::SCTP => 210,
                _ => 120,
            },
            opening: 120,
            open: 5 * 24 * 60 * 60,
            closing: 120,
        }
    }
}

/// For how long words are good, by their states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// For each state, the greatest [`Age`] at which a word is alive.
    ages: [u16; State::COUNT],
}

impl Lifetimes {
    /// Returns the lifetimes of a protocol's flows in a namespace that has these timeouts: those of the
    /// kernel's defaults where these are longer, so that no flow is forgotten that conntrack would know.
    ///
    /// [`None`] where a stamp cannot tell them: above 3.2 hours, and 12 days of open TCP. There, no flow may
    /// be remembered.
    pub fn new(protocol: u8, namespace: &Timeouts) -> Option<Self> {
        let default = Timeouts::of(protocol);
        let lifetime = |timeout: u32, default: u32, refreshed_by_all: bool| {
            let timeout = timeout.max(default);
            match refreshed_by_all {
                true => Some(timeout),
                false => timeout.checked_add(SOFT),
            }
        };
        let unreplied = lifetime(namespace.unreplied, default.unreplied, false)?;
        let replied = lifetime(namespace.replied, default.replied, false)?;
        let opening = lifetime(namespace.opening, default.opening, true)?;
        let open = lifetime(namespace.open, default.open, true)?;
        let closing = lifetime(namespace.closing, default.closing, true)?;
        Some(Self {
            ages: [
                age(State::Unreplied, unreplied)?,
                age(State::Replied, replied)?,
                age(State::Syn, opening)?,
                age(State::SynAck, opening)?,
                age(State::Open, open)?,
                age(State::Fin, closing)?,
                age(State::Reset, closing)?,
                age(State::Buried, TOMBSTONE)?,
            ],
        })
    }

    /// Returns whether a word is alive.
    #[inline(always)]
    pub(super) fn has(&self, record: Record, now: u64) -> bool {
        let oldest = self.ages.get(record.state() as usize);
        oldest.is_some_and(|oldest| Age::of(record, now).is_within(*oldest))
    }

    /// Returns the greatest ages, by the states' numbers.
    pub(super) fn ages(&self) -> [u16; State::COUNT] {
        self.ages
    }
}

/// Returns the age of a word of `state` after `seconds` at least; [`None`] where that is more than it may be.
fn age(state: State, seconds: u32) -> Option<u16> {
    let most = match state {
        State::Open => MAX_COARSE,
        _ => MAX_FINE,
    };
    let ticks = seconds.div_ceil(1u32.wrapping_shl(unit(state)));
    let age = (ticks <= most).then(|| ticks.wrapping_add(AHEAD))?;
    u16::try_from(age).ok()
}
