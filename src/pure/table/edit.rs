// SPDX-License-Identifier: GPL-2.0

//! A table in the making, changed command by command.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    language::{
        parse::Parsed,
        refusal::{
            Errno,
            Refusal, //
        },
    },
    rule::{
        Action,
        Netns,
        NetnsId,
        Rule,
        Tag, //
    },
    table::{
        change,
        id_in_use,
        selection::{
            Done,
            Selecting, //
        },
        Change,
        Entry,
        Ids,
        Slots,
        Table,
        MAX_RULES, //
    },
};

/// A copy of a table's list, which commands change.
pub struct Edit<'t, S> {
    base: &'t Table<S>,
    entries: Vec<Entry<S>>,
    /// The length of the common start with `base`, at least.
    front: usize,
    ids: Ids,
    purge: Selecting,
}

impl<'t, S: Clone + Ord> Edit<'t, S> {
    /// Starts from `base`, with room for `more` rules.
    ///
    /// That memory is kept with the table, but adding to it moves no entries.
    pub fn new(base: &'t Table<S>, more: usize) -> Result<Self, NoMemory> {
        let mut entries = Vec::with_capacity(base.entries.len().saturating_add(more))?;
        entries.extend_from_slice(&base.entries)?;
        Ok(Self {
            base,
            front: entries.len(),
            entries,
            ids: Ids::new(base),
            purge: Selecting::default(),
        })
    }

    /// Puts a rule at the end.
    ///
    /// Refuses with EEXIST where its id is in use, ENOSPC where no id is left, and ENOMEM.
    pub fn add(&mut self, parsed: Parsed, slots: &dyn Slots<S>) -> Result<(), Refusal> {
        self.insert_at(self.entries.len(), parsed, slots)
    }

    /// Puts a rule at the start, or ahead of the rule `before`: its id, and the column of that.
    ///
    /// Refuses with ENOENT where no rule has that id, and as [`add`](Self::add).
    pub fn insert(
        &mut self,
        before: Option<(u32, usize)>,
        parsed: Parsed,
        slots: &dyn Slots<S>,
    ) -> Result<(), Refusal> {
        let index = match before {
            None => 0,
            Some((id, column)) => self.position(id).ok_or(no_such_id(column))?,
        };
        self.insert_at(index, parsed, slots)
    }

    /// Puts a rule ahead of the entry at `index`, or at the end.
    fn insert_at(
        &mut self,
        index: usize,
        parsed: Parsed,
        slots: &dyn Slots<S>,
    ) -> Result<(), Refusal> {
        let id = match parsed.id {
            Some(id) if self.is_in_use(id) => return Err(id_in_use(parsed.id_column)),
            Some(id) => {
                self.ids.note(id);
                id
            }
            None => self.ids.give()?,
        };
        let entry = Entry::new(parsed.rule, id, slots)?;
        self.front = self.front.min(index);
        self.entries.insert(index, entry)?;
        Ok(())
    }

    /// Returns whether there are more rules than a table may have.
    pub fn is_too_long(&self) -> bool {
        self.entries.len() > MAX_RULES
    }

    /// Takes out the rule `id`, which stands in `column`. Refuses with ENOENT where there is none.
    pub fn delete(&mut self, id: u32, column: usize) -> Result<(), Refusal> {
        let index = self.position(id).ok_or(no_such_id(column))?;
        self.front = self.front.min(index);
        self.entries.remove(index);
        Ok(())
    }

    /// Takes out all rules of `tag`, which stands in `column`. Refuses with ENOENT where there are none.
    pub fn delete_tag(&mut self, tag: &Tag, column: usize) -> Result<(), Refusal> {
        let before = self.entries.len();
        self.remove(|rule| rule.tag() == Some(tag.as_str()));
        if self.entries.len() == before {
            return Err(no_such_tag(column));
        }
        Ok(())
    }

    /// Takes out all rules.
    pub fn flush(&mut self) {
        self.front = 0;
        self.entries.clear();
    }

    /// Has the purge be by all rules.
    pub fn purge_all(&mut self) {
        self.purge.all();
    }

    /// Has the purge be by the rule `id`, too, which stands in `column`.
    ///
    /// Refuses with ENOENT where there is none, with EINVAL where it is a `track` rule, and with ENOMEM.
    pub fn purge(&mut self, id: u32, column: usize) -> Result<(), Refusal> {
        let entry = self.position(id).and_then(|index| self.entries.get(index));
        match entry.ok_or(no_such_id(column))?.rule().action() {
            Action::Skip => Ok(self.purge.id(id)?),
            Action::Track => Err(Refusal::invalid(
                column,
                "a track rule, which keeps no flow out of conntrack",
                "the id= of a skip rule",
            )),
        }
    }

    /// Has the purge be by all rules of `tag`, too, which stands in `column`.
    ///
    /// Refuses with ENOENT where there are none, and with ENOMEM.
    pub fn purge_tag(&mut self, tag: &Tag, column: usize) -> Result<(), Refusal> {
        let mut found = false;
        for entry in &*self.entries {
            if entry.rule().tag() == Some(tag.as_str()) {
                self.purge.id(entry.id())?;
                found = true;
            }
        }
        found.then_some(()).ok_or(no_such_tag(column))
    }

    /// Returns whether a purge was asked for.
    pub fn purges(&self) -> bool {
        self.purge.is_some()
    }

    /// Takes out all rules that are `which`.
    pub(super) fn remove(&mut self, which: impl Fn(&Rule) -> bool) {
        self.front = 0;
        self.entries.retain(|entry| !which(&entry.rule));
    }

    /// Returns whether a rule has this id. Ascending ids, as a saved table has them, need no search.
    fn is_in_use(&self, id: u32) -> bool {
        id <= self.ids.last && self.position(id).is_some()
    }

    /// Returns the place of the rule `id`.
    fn position(&self, id: u32) -> Option<usize> {
        // Ids ascend where no rule was inserted or given an id of its own.
        let guess = self.entries.binary_search_by_key(&id, Entry::id);
        guess
            .ok()
            .or_else(|| self.entries.iter().position(|entry| entry.id() == id))
    }

    /// Makes the new table, if anything has changed. It must not be [too long](Self::is_too_long).
    pub fn finish(self) -> Result<Done<S>, NoMemory> {
        Ok(Done {
            change: change(self.base, self.entries, self.front, self.ids.last)?,
            purge: self.purge.finish(),
        })
    }
}

/// Returns the refusal of an id, in `column`, that no rule has.
fn no_such_id(column: usize) -> Refusal {
    Refusal::new(
        Errno::NoEnt,
        column,
        "no rule has this id",
        "the id= of a rule in the table",
    )
}

/// Returns the refusal of a tag, in `column`, that no rule has.
fn no_such_tag(column: usize) -> Refusal {
    Refusal::new(
        Errno::NoEnt,
        column,
        "no rule has this tag",
        "the tag of a rule in the table",
    )
}

impl<S: Clone + Ord> Table<S> {
    /// Makes the table without the rules for single namespaces that are `gone`; [`None`] where there are
    /// no such rules.
    pub fn without_netns(
        &self,
        gone: impl Fn(NetnsId) -> bool,
    ) -> Result<Option<Change<S>>, NoMemory> {
        let mut edit = Edit::new(self, 0)?;
        edit.remove(|rule| matches!(rule.netns(), Netns::Only(id) if gone(id)));
        Ok(edit.finish()?.change)
    }
}
