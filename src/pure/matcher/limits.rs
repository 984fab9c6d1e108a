// SPDX-License-Identifier: GPL-2.0

//! What bounds the compiling of a table, beside the amount of work: memory, and a caller that gives up.
//! The caller ends other searches of a table, too.

use crate::pure::{
    alloc::NoMemory,
    matcher::cost::{
        MOST_BYTES,
        WORK_UNCHECKED, //
    },
};

/// Why a table was not compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An allocation failed.
    NoMemory,
    /// The caller [gave up](Limits::is_interrupted).
    Interrupted,
    /// Its trees take more memory than [they may](Limits::most_bytes).
    TooLarge,
    /// The trees that a purge needs take more memory than that together.
    PurgeTooLarge,
}

impl From<NoMemory> for Stop {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// The bounds of a compile, as its caller sets them.
pub trait Limits {
    /// Returns whether the caller gives up, so that the table is not needed any more. Called every
    /// few milliseconds.
    fn is_interrupted(&self) -> bool;

    /// Returns how many bytes the trees of the table may take, and the work on them.
    fn most_bytes(&self) -> usize {
        MOST_BYTES
    }

    /// Fails where the caller gives up.
    fn check(&self) -> Result<(), Stop> {
        match self.is_interrupted() {
            true => Err(Stop::Interrupted),
            false => Ok(()),
        }
    }

    /// Fails where so many bytes are more than there may be.
    fn check_bytes(&self, bytes: usize) -> Result<(), Stop> {
        match bytes > self.most_bytes() {
            true => Err(Stop::TooLarge),
            false => Ok(()),
        }
    }
}

/// The limits of a caller, but any number of bytes.
pub(super) struct AnyBytes<'l>(pub(super) &'l dyn Limits);

impl Limits for AnyBytes<'_> {
    fn is_interrupted(&self) -> bool {
        self.0.is_interrupted()
    }

    fn most_bytes(&self) -> usize {
        usize::MAX
    }
}

/// Looks after the limits each time that [so much work](WORK_UNCHECKED) was done.
pub(super) struct Pace<'l> {
    limits: &'l dyn Limits,
    /// The work since then.
    unchecked: usize,
}

impl<'l> Pace<'l> {
    /// Returns one that has seen no work.
    pub(super) fn new(limits: &'l dyn Limits) -> Self {
        Self {
            limits,
            unchecked: 0,
        }
    }

    /// Counts work, in instructions, roughly. Fails where the caller gives up.
    #[inline]
    pub(super) fn work(&mut self, instructions: usize) -> Result<(), Stop> {
        self.unchecked = self.unchecked.saturating_add(instructions);
        if self.unchecked < WORK_UNCHECKED {
            return Ok(());
        }
        self.unchecked = 0;
        self.limits.check()
    }
}
