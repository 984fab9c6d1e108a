// SPDX-License-Identifier: GPL-2.0

//! How a table differs from the one that was compiled.
//!
//! An update of few rules does not compile the others anew. Of the table that was compiled as a whole,
//! the base, some rules are deleted; others were added since, and are compiled aside.
//!
//! A tree leaves out what never is the first to match: a rule there shadows others. Where a rule that
//! shadows others is deleted, these may come to light. They are unshadowed: compiled aside, too,
//! with their order.

use crate::pure::{
    alloc::{
        Arc,
        NoMemory,
        Vec, //
    },
    bitmap,
    matcher::{
        cost::{
            ADDED_RULES,
            UPDATE_AHEAD,
            UPDATE_DELETED,
            UPDATE_ROWS,
            UPDATE_SMALL, //
        },
        found::Order,
        limits::{
            Limits,
            Stop, //
        },
        scope::Compiled, //
    },
    rule::Rule,
    table::{
        same,
        Entry,
        Table, //
    },
};

/// A table compiled as a whole: what packets are matched against until one is compiled again.
pub(super) struct Base<S> {
    pub(super) table: Arc<Table<S>>,
    pub(super) compiled: Compiled,
}

/// The rules that are compiled aside: added since, or unshadowed.
pub(super) struct Added {
    pub(super) compiled: Compiled,
    /// Where the rules stand in the table, in the order of their numbers.
    pub(super) positions: Vec<u32>,
}

/// The differences between an updated table and its base.
pub(super) struct Delta {
    /// A bit for each rule of the base that is not in the table any more; empty where all are.
    pub(super) deleted: Vec<u32>,
    /// Apart, as it is large and mostly there is none.
    pub(super) added: Option<Arc<Added>>,
    /// The positions in the base of its rules that are in `added` too, unless they are deleted
    /// themselves: a rule that shadowed them is deleted, or was. Ascending.
    pub(super) unshadowed: Vec<u32>,
}

impl Delta {
    /// Returns the delta of a table that is its base.
    pub(super) const fn none() -> Self {
        Self {
            deleted: Vec::new(),
            added: None,
            unshadowed: Vec::new(),
        }
    }

    /// Returns whether the table is its base.
    pub(super) fn is_none(&self) -> bool {
        self.deleted.is_empty() && self.added.is_none()
    }

    /// Returns the delta of `table`, where this is the one of the table before it; [`None`] where that
    /// differs too much from the base. Process context.
    ///
    /// Not inlined: its frame is not to lie below the frames of compiling all.
    #[inline(never)]
    pub(super) fn updated<S: Eq>(
        &self,
        base: &Base<S>,
        table: &Table<S>,
        limits: &dyn Limits,
    ) -> Result<Option<Self>, Stop> {
        let compiled = base.table.entries();
        let len = table.entries().len();
        let fewest = compiled
            .len()
            .saturating_sub(compiled.len() / UPDATE_DELETED);
        if compiled.len() <= UPDATE_SMALL || len <= UPDATE_SMALL || len < fewest {
            return Ok(None);
        }
        let Some(mut delta) = self.deletions(base, table)? else {
            return Ok(None);
        };
        let Some(rules) = AddedRules::find(base, table, &delta.unshadowed)? else {
            return Ok(None);
        };
        delta.added = rules.compiled(limits)?;
        Ok(Some(delta))
    }

    /// Returns the delta of `table` without its added rules; [`None`] where too many rules are deleted or
    /// unshadowed.
    fn deletions<S: Eq>(&self, base: &Base<S>, table: &Table<S>) -> Result<Option<Self>, NoMemory> {
        let (old, matcher) = (base.table.entries(), &base.compiled.matcher);
        let mut deleted = Vec::new();
        let mut unshadowed = Vec::from_slice(&self.unshadowed)?;
        let (mut count, mut looked) = (0usize, 0usize);
        let is_little = walk(old, table.entries(), |step| {
            let Step::Deleted(at) = step else {
                return Ok(true);
            };
            count = count.saturating_add(1);
            if deleted.is_empty() {
                deleted = bitmap::empty(old.len())?;
            }
            bitmap::set(&mut deleted, at);
            // The rules that it shadowed are known if it was deleted before.
            if !bitmap::is_set(&self.deleted, at) && matcher.shadows(at) {
                looked = looked.saturating_add(matcher.rows());
                if looked > UPDATE_ROWS || !unshadow(base, at, &mut unshadowed)? {
                    return Ok(false);
                }
            }
            Ok(count <= old.len() / UPDATE_DELETED)
        })?;
        Ok(is_little.then_some(Self {
            deleted,
            added: None,
            unshadowed,
        }))
    }
}

/// Adds the positions of the rules that the one at `at` may shadow to `unshadowed`. Returns whether these
/// are few.
fn unshadow<S>(base: &Base<S>, at: usize, unshadowed: &mut Vec<u32>) -> Result<bool, NoMemory> {
    for other in base.compiled.matcher.shadowed(Order::compiled(at)) {
        let Ok(at) = other.position() else { continue };
        let at = at as u32;
        if let Err(place) = unshadowed.binary_search(&at) {
            if unshadowed.len() >= ADDED_RULES {
                return Ok(false);
            }
            unshadowed.insert(place, at)?;
        }
    }
    Ok(true)
}

/// The rules of a table that are not in its base, and the unshadowed ones.
struct AddedRules<'t> {
    rules: Vec<(Order, &'t Rule)>,
    positions: Vec<u32>,
}

impl<'t> AddedRules<'t> {
    /// Finds them in `table`; [`None`] where they are too many. `unshadowed` has the positions in the
    /// base.
    fn find<S: Eq>(
        base: &Base<S>,
        table: &'t Table<S>,
        unshadowed: &[u32],
    ) -> Result<Option<Self>, NoMemory> {
        let mut found = Self {
            rules: Vec::new(),
            positions: Vec::new(),
        };
        let mut next = unshadowed.iter().peekable();
        walk(base.table.entries(), table.entries(), |step| {
            match step {
                Step::Added { at, position } => found.push(table, at, position)?,
                Step::Kept { at, position, len } => {
                    let end = at.saturating_add(len);
                    while let Some(rule) = next.next_if(|rule| (**rule as usize) < end) {
                        // Else it is deleted.
                        if let Some(ahead) = (*rule as usize).checked_sub(at) {
                            found.push(table, *rule as usize, position.saturating_add(ahead))?;
                        }
                    }
                }
                Step::Deleted(_) => {}
            }
            Ok(true)
        })?;
        Ok((found.rules.len() <= ADDED_RULES).then_some(found))
    }

    /// Appends the rule at `position` of `table`, ahead of the one at `at` of the base.
    fn push<S>(&mut self, table: &'t Table<S>, at: usize, position: usize) -> Result<(), NoMemory> {
        if let Some(entry) = table.entries().get(position) {
            let number = self.positions.len().min(ADDED_RULES);
            self.positions.push(position as u32)?;
            self.rules
                .push((Order::between(at, number), entry.rule()))?;
        }
        Ok(())
    }

    /// Compiles them; [`None`] where there are none.
    fn compiled(self, limits: &dyn Limits) -> Result<Option<Arc<Added>>, Stop> {
        if self.rules.is_empty() {
            return Ok(None);
        }
        let mut added = Added {
            compiled: Compiled::new(),
            positions: self.positions,
        };
        added.compiled.fill(&self.rules, false, limits)?;
        Ok(Some(Arc::new(added)?))
    }
}

/// A part of the way from one table to another.
pub(super) enum Step {
    /// The `len` rules from `at` on of the old table are those from `position` on of the new one.
    Kept {
        at: usize,
        position: usize,
        len: usize,
    },
    /// The rule at that place of the old table is not in the new one.
    Deleted(usize),
    /// The rule at `position` of the new table is new, ahead of the one at `at` of the old one.
    Added { at: usize, position: usize },
}

/// Compares two tables until `with` says no. Returns whether that was done to the end: `false` where
/// they differ too much.
pub(super) fn walk<S: Eq>(
    old: &[Entry<S>],
    new: &[Entry<S>],
    mut with: impl FnMut(Step) -> Result<bool, NoMemory>,
) -> Result<bool, NoMemory> {
    let (mut at, mut position) = (0usize, 0usize);
    let mut added = 0usize;
    loop {
        let rest = old.get(at..).unwrap_or_default();
        let here = new.get(position..).unwrap_or_default();
        let len = rest.iter().zip(here).take_while(|pair| same(*pair)).count();
        if len != 0 {
            if !with(Step::Kept { at, position, len })? {
                return Ok(false);
            }
            at = at.saturating_add(len);
            position = position.saturating_add(len);
            continue;
        }
        let Some(entry) = here.first() else {
            break;
        };
        let mut ahead = rest.iter().take(UPDATE_AHEAD);
        match ahead.position(|other| same((other, entry))) {
            Some(ahead) => {
                for _ in 0..ahead {
                    if !with(Step::Deleted(at))? {
                        return Ok(false);
                    }
                    at = at.saturating_add(1);
                }
            }
            None => {
                added = added.saturating_add(1);
                if added > ADDED_RULES || !with(Step::Added { at, position })? {
                    return Ok(false);
                }
                position = position.saturating_add(1);
            }
        }
    }
    for deleted in at..old.len() {
        if !with(Step::Deleted(deleted))? {
            return Ok(false);
        }
    }
    Ok(true)
}
