// SPDX-License-Identifier: GPL-2.0

//! Whose addresses a packet's are, for rules that say `local=`.
//!
//! The answer is looked up only for a packet that matches all else of such a rule, and at most once for
//! each end.

use core::cell::Cell;

use crate::pure::{
    packet::header::Key,
    rule::Local, //
};

/// The ends of a packet.
pub trait Ends {
    /// Returns whether an end of the packet, as it was sent, is an address of its namespace.
    fn is_local(&self, end: Local) -> bool;
}

/// The ends of packets of which no rule asks.
#[derive(Clone, Copy)]
pub struct NoEnds;

impl Ends for NoEnds {
    #[inline(always)]
    fn is_local(&self, _end: Local) -> bool {
        false
    }
}

/// The ends of a packet of which rules may ask, with the answers so far.
pub struct AskedEnds<F> {
    source: (u128, Cell<Option<bool>>),
    destination: (u128, Cell<Option<bool>>),
    is_local: F,
}

impl<F: Fn(u128) -> bool> AskedEnds<F> {
    /// Returns the ends of `key`. `is_local` tells whether an address, as a [`Key`] has it, is one of the
    /// packet's namespace.
    #[inline]
    pub fn new(key: &Key, is_local: F) -> Self {
        Self {
            source: (key.source, Cell::new(None)),
            destination: (key.destination, Cell::new(None)),
            is_local,
        }
    }
}

impl<F: Fn(u128) -> bool> Ends for &AskedEnds<F> {
    #[inline]
    fn is_local(&self, end: Local) -> bool {
        let (address, answer) = match end {
            Local::Source => &self.source,
            Local::Destination => &self.destination,
        };
        answer.get().unwrap_or_else(|| {
            let is_local = (self.is_local)(*address);
            answer.set(Some(is_local));
            is_local
        })
    }
}
