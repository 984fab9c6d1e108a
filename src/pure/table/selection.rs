// SPDX-License-Identifier: GPL-2.0

//! The rules that a purge is about.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    rule::Action,
    sort::sort_by_key,
    table::{
        Change,
        Entry,
        Table, //
    },
};

/// Some rules of the table that a write leaves in force.
#[derive(Debug)]
pub enum Selection {
    /// All rules of the table that a `load` has made: `commit purge`.
    Loaded,
    /// All rules: `purge`.
    All,
    /// Those with these ids, ascending: `purge ID`, `purge tag=T`.
    Ids(Vec<u32>),
}

impl Selection {
    /// Returns the selection of these ids, in whatever order they are.
    pub(super) fn of_ids(mut ids: Vec<u32>) -> Self {
        sort_by_key(&mut ids, |id| *id);
        Self::Ids(ids)
    }

    /// Returns whether the rule of that id is selected.
    pub fn has(&self, id: u32) -> bool {
        match self {
            Self::Loaded | Self::All => true,
            Self::Ids(ids) => ids.binary_search(&id).is_ok(),
        }
    }

    /// Returns whether `entry` is a `skip` rule that is selected.
    pub fn skips<S>(&self, entry: &Entry<S>) -> bool {
        entry.rule().action() == Action::Skip && self.has(entry.id())
    }

    /// Returns how many `skip` rules of `table` are selected.
    pub fn count<S>(&self, table: &Table<S>) -> usize {
        let entries = table.entries().iter();
        entries.filter(|entry| self.skips(entry)).count()
    }
}

/// What a write does.
pub struct Done<S> {
    /// The new table; [`None`] where nothing changes.
    pub change: Option<Change<S>>,
    /// The rules to purge by once that is in force; [`None`] where the write asks for no purge.
    pub purge: Option<Selection>,
}

impl<S> Done<S> {
    /// A write that does nothing.
    pub const NOTHING: Self = Self {
        change: None,
        purge: None,
    };

    /// Returns whether there is something to be done.
    pub fn is_something(&self) -> bool {
        self.change.is_some() || self.purge.is_some()
    }
}

/// The selection in the making: what the `purge` commands of one write name.
#[derive(Default)]
pub(super) struct Selecting {
    is_all: bool,
    ids: Vec<u32>,
    is_some: bool,
}

impl Selecting {
    /// Selects all rules.
    pub(super) fn all(&mut self) {
        (self.is_some, self.is_all) = (true, true);
    }

    /// Selects one rule more.
    pub(super) fn id(&mut self, id: u32) -> Result<(), NoMemory> {
        self.is_some = true;
        self.ids.push(id)
    }

    /// Returns whether anything was selected.
    pub(super) fn is_some(&self) -> bool {
        self.is_some
    }

    /// Returns what was selected.
    pub(super) fn finish(self) -> Option<Selection> {
        self.is_some.then(|| match self.is_all {
            true => Selection::All,
            false => Selection::of_ids(self.ids),
        })
    }
}
