// SPDX-License-Identifier: GPL-2.0

//! The rules in order, and the texts that make a new table of one.
//!
//! A table never changes. A text works on a copy of its list, and makes a new table or none. A rule keeps
//! its id and its slot, which counts its packets, for as long as it is in the table. Two entries with the
//! same slot are the same rule: so it is known which rules a new table shares with the old one.
//!
//! A write to `rules` comes to [`session`], which says who may write what. It is a transaction by itself
//! ([`command`], which works on an [`edit`]), or a piece of a [`load`], which makes a table by [`replace`].
//! [`selection`] names the rules that a purge is about. [`listing`] and [`show`] hold what the files say.

pub mod command;
pub mod edit;
pub mod listing;
pub mod load;
pub mod replace;
pub mod selection;
pub mod session;
pub mod show;

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    language::refusal::{
        Errno,
        Refusal, //
    },
    rule::Rule,
    sort::sort_by_key, //
};

/// The most rules of a table.
pub const MAX_RULES: usize = 131_072;

/// Makes the slots that count the rules' packets. Clones of an `S` are the same slot and compare equal;
/// the last one frees it on drop.
pub trait Slots<S> {
    /// Makes a slot, at zero. Process context, may sleep.
    fn allocate(&self) -> Result<S, NoMemory>;
}

/// A rule in a table, with its id and its counters.
#[derive(Clone)]
pub struct Entry<S> {
    /// Has the id in it.
    rule: Rule,
    slot: S,
}

impl<S> Entry<S> {
    /// Makes an entry with a slot of its own.
    fn new(rule: Rule, id: u32, slots: &dyn Slots<S>) -> Result<Self, NoMemory> {
        Ok(Self {
            rule: rule.numbered(id),
            slot: slots.allocate()?,
        })
    }

    /// Returns the rule's id.
    pub fn id(&self) -> u32 {
        self.rule.number()
    }

    /// Returns the rule.
    #[inline]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Returns the slot that counts its packets.
    #[inline]
    pub fn slot(&self) -> &S {
        &self.slot
    }
}

/// The rules of all network namespaces, in order.
///
/// # Invariants
///
/// No two entries have the same id, and none has an id above `last_id`.
pub struct Table<S> {
    entries: Vec<Entry<S>>,
    /// The highest id that a rule had so far; 0 where there was none.
    last_id: u32,
}

impl<S> Table<S> {
    /// Makes a table of no rules.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            last_id: 0,
        }
    }

    /// Returns the rules in order.
    #[inline]
    pub fn entries(&self) -> &[Entry<S>] {
        &self.entries
    }

    /// Returns the table of the rules that `pick` makes of these, in this order, and the places where they
    /// stand here. Each keeps its id and its slot.
    pub fn picked(
        &self,
        mut pick: impl FnMut(&Entry<S>) -> Result<Option<Rule>, NoMemory>,
    ) -> Result<(Self, Vec<u32>), NoMemory>
    where
        S: Clone,
    {
        let (mut entries, mut places) = (Vec::new(), Vec::new());
        for (place, entry) in (0..).zip(&*self.entries) {
            if let Some(rule) = pick(entry)? {
                entries.push(Entry {
                    rule: rule.numbered(entry.id()),
                    slot: entry.slot.clone(),
                })?;
                places.push(place)?;
            }
        }
        let table = Self {
            entries,
            last_id: self.last_id,
        };
        Ok((table, places))
    }

    /// Returns the entry at `index`, if both are there.
    fn at(&self, index: Option<u32>) -> Option<&Entry<S>> {
        self.entries.get(usize::try_from(index?).ok()?)
    }
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// A new table, and how it differs from the one before.
pub struct Change<S> {
    /// The new table.
    pub table: Table<S>,
    /// The number of its rules that were not in the old one.
    pub added: usize,
    /// The number of rules of the old one that are not in it.
    pub removed: usize,
}

impl<S> Change<S> {
    /// Returns whether the new table only lacks rules of the old one.
    pub fn only_removes(&self) -> bool {
        self.added == 0 && self.removed != 0
    }
}

/// Gives ids to the rules of a new table that name none.
///
/// Each is above all that were given before, so that no id is given twice. Where the highest one of all was
/// given, they go on behind the highest one that the old table has: an id that the same text takes out is
/// not given again.
struct Ids {
    /// No id above this one was given.
    last: u32,
}

impl Ids {
    /// Starts behind the ids of `base`.
    fn new<S>(base: &Table<S>) -> Self {
        let last = match base.last_id {
            u32::MAX => base.entries.iter().map(Entry::id).max().unwrap_or(0),
            last => last,
        };
        Self { last }
    }

    /// Takes note that a rule has `id`.
    fn note(&mut self, id: u32) {
        self.last = self.last.max(id);
    }

    /// Gives an id. Refuses with ENOSPC where the highest one of all is taken.
    fn give(&mut self) -> Result<u32, Refusal> {
        self.last = self.last.checked_add(1).ok_or(Refusal::new(
            Errno::NoSpc,
            0,
            "no number is left: a rule has the highest one, 4294967295",
            "id= and a number that is not in use; or delete 4294967295 first, in a write of its own",
        ))?;
        Ok(self.last)
    }
}

/// Makes the table of `entries`; [`None`] where they are the entries of `base`. The first `front` are known
/// to be.
fn change<S: Ord>(
    base: &Table<S>,
    entries: Vec<Entry<S>>,
    front: usize,
    last_id: u32,
) -> Result<Option<Change<S>>, NoMemory> {
    let kept = kept(&base.entries, &entries, front)?;
    if kept == entries.len()
        && kept == base.entries.len()
        && entries.iter().zip(&*base.entries).all(same)
    {
        return Ok(None);
    }
    Ok(Some(Change {
        added: entries.len().saturating_sub(kept),
        removed: base.entries.len().saturating_sub(kept),
        table: Table { entries, last_id },
    }))
}

/// Returns whether both are the same rule, not only equal ones.
pub(super) fn same<S: Eq>((a, b): (&Entry<S>, &Entry<S>)) -> bool {
    a.slot == b.slot
}

/// Returns the number of entries that are in both lists. The first `front` are known to be.
fn kept<S: Ord>(old: &[Entry<S>], new: &[Entry<S>], front: usize) -> Result<usize, NoMemory> {
    let same = |(a, b): &(&Entry<S>, &Entry<S>)| same((a, b));
    let further = old.iter().zip(new).skip(front).take_while(same).count();
    let front = front.saturating_add(further);
    let old = old.get(front..).unwrap_or_default();
    let new = new.get(front..).unwrap_or_default();
    let back = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(same)
        .count();

    // The entries between the equal ends: in one list there are none where rules were added or deleted.
    let old = slots(old, back)?;
    if old.is_empty() {
        return Ok(front.saturating_add(back));
    }
    let between = slots(new, back)?
        .iter()
        .filter(|slot| old.binary_search(slot).is_ok())
        .count();
    Ok(front.saturating_add(back).saturating_add(between))
}

/// Returns the slots of all entries but the last `back`, sorted.
fn slots<S: Ord>(entries: &[Entry<S>], back: usize) -> Result<Vec<&S>, NoMemory> {
    let mut slots = Vec::new();
    for entry in entries.iter().rev().skip(back) {
        slots.push(&entry.slot)?;
    }
    sort_by_key(&mut slots, |slot| *slot);
    Ok(slots)
}

/// Returns the refusal of one rule too many, which starts in `column`.
fn no_space(column: usize) -> Refusal {
    Refusal::new(
        Errno::NoSpc,
        column,
        "over 131,072 rules",
        "fewer rules, with lists or prefixes",
    )
}

/// Returns the refusal of an id, in `column`, that another rule has.
fn id_in_use(column: usize) -> Refusal {
    Refusal::new(
        Errno::Exist,
        column,
        "the id of another rule",
        "a number that is not in use, or no id=",
    )
}
