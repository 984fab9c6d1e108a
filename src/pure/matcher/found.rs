// SPDX-License-Identifier: GPL-2.0

//! The order of rules, and the first rule that a search has found.

use crate::pure::{
    bitmap,
    matcher::cells::Cell,
    table::MAX_RULES, //
};

/// The priority of a rule: the lower one decides.
///
/// Its upper part is the number of rules of the compiled table ahead of the rule. Its lower part tells
/// apart the rules that were added between two of these since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u32);

/// The order of no rule: behind all.
pub(super) const NONE: u32 = u32::MAX;

impl Order {
    const LOWER_BITS: u32 = 9;
    const LOWER: u32 = (1 << Self::LOWER_BITS) - 1;
    /// The most rules that may be added between.
    pub(super) const MAX_BETWEEN: usize = Self::LOWER as usize;

    /// Returns the order of the rule at a position of the compiled table.
    pub(super) fn compiled(position: usize) -> Self {
        Self::between(position, Self::MAX_BETWEEN)
    }

    /// Returns the order of an added rule, which has that number, ahead of the rule at `position` of the
    /// compiled table.
    pub(super) fn between(position: usize, number: usize) -> Self {
        // No table has a position beyond these.
        const { assert!(MAX_RULES < 1 << (u32::BITS - Self::LOWER_BITS)) };
        let upper = position.min(MAX_RULES) as u32;

        Self(upper << Self::LOWER_BITS | number.min(Self::MAX_BETWEEN) as u32)
    }

    /// Returns the position in the compiled table, or the number of an added rule.
    #[inline(always)]
    pub(super) fn position(self) -> Result<usize, usize> {
        match self.0 & Self::LOWER {
            Self::LOWER => Ok(Self::rule(self.0) as usize),
            number => Err(number as usize),
        }
    }

    /// Returns the order as rows have it.
    pub(super) fn to_row(self) -> u32 {
        self.0
    }

    /// Returns the order of a row; [`None`] for [`NONE`].
    #[inline(always)]
    pub(super) fn of_row(order: u32) -> Option<Self> {
        (order != NONE).then_some(Self(order))
    }

    /// Returns the upper part of a row's order.
    #[inline(always)]
    pub(super) fn rule(order: u32) -> u32 {
        order >> Self::LOWER_BITS
    }
}

/// The first rule that a search has found so far.
pub(super) struct Found<'m> {
    /// A bit for each position of a rule that has been deleted since it was compiled.
    deleted: &'m [u32],
    /// The lowest order of a row that matches, or [`NONE`].
    best: u32,
}

impl<'m> Found<'m> {
    /// Returns a search in which `best` was found elsewhere.
    #[inline(always)]
    pub(super) fn new(deleted: &'m [u32], best: Option<Order>) -> Self {
        Self {
            deleted,
            best: best.map_or(NONE, |best| best.0),
        }
    }

    /// Returns a search in which a row of order `best` was found.
    #[inline(always)]
    pub(super) fn from_best(deleted: &'m [u32], best: u32) -> Self {
        Self { deleted, best }
    }

    /// Returns the lowest order found.
    #[inline(always)]
    pub(super) fn best(&self) -> u32 {
        self.best
    }

    /// Sets the lowest order found.
    #[inline(always)]
    pub(super) fn set_best(&mut self, best: u32) {
        self.best = best;
    }

    /// Returns the deleted rules.
    #[inline(always)]
    pub(super) fn deleted(&self) -> &'m [u32] {
        self.deleted
    }

    /// Takes the order of a row that matches, or [`NONE`], if it is lower and its rule was not deleted.
    /// Returns whether it did.
    #[inline(always)]
    pub(super) fn take(&mut self, order: u32) -> bool {
        let is_better =
            order < self.best && !bitmap::is_set(self.deleted, Order::rule(order) as usize);
        if is_better {
            self.best = order;
        }
        is_better
    }

    /// Takes the first row of a list, which ascends, that can be taken. `compare` gives a row's order, or
    /// [`NONE`] where it does not match.
    #[inline(always)]
    pub(super) fn take_first(&mut self, list: &[Cell], compare: impl Fn(Cell) -> u32) {
        for row in list {
            if self.take(compare(*row)) || row.0 & Cell::LAST != 0 {
                return;
            }
        }
    }

    /// Returns the order of the rule found.
    #[inline(always)]
    pub(super) fn order(&self) -> Option<Order> {
        Order::of_row(self.best)
    }
}
