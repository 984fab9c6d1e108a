// SPDX-License-Identifier: GPL-2.0

//! The rules in order, and the edits that make a new table of one.
//!
//! A table never changes: an [`Edit`] works on a copy of its list, and gives a new table or nothing.
//! A rule keeps its id and its slot, in which its packets are counted, for as long as it is in the
//! table: it is by its slot that an entry of the new table is known to be the old one's.

pub mod command;
pub mod listing;

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
        Netns,
        NetnsId,
        Rule,
        Tag, //
    },
    sort::sort_by_key, //
};

/// The most rules of a table.
pub const MAX_RULES: usize = 131_072;

/// Hands out what counts a rule's packets. Clones of an `S` are the same slot and compare equal; the
/// last one frees it on drop.
pub trait Slots<S> {
    /// A new one, at zero. Process context, may sleep.
    fn allocate(&self) -> Result<S, NoMemory>;
}

/// A rule in a table, with its number and its counters.
#[derive(Clone)]
pub struct Entry<S> {
    /// Has the number in it.
    rule: Rule,
    slot: S,
}

impl<S> Entry<S> {
    fn new(rule: Rule, id: u32, slots: &dyn Slots<S>) -> Result<Self, NoMemory> {
        Ok(Self {
            rule: rule.numbered(id),
            slot: slots.allocate()?,
        })
    }

    /// The rule's number.
    pub fn id(&self) -> u32 {
        self.rule.number()
    }

    /// The rule.
    #[inline]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// What counts its packets.
    #[inline]
    pub fn slot(&self) -> &S {
        &self.slot
    }
}

/// The rules of all network namespaces, in order.
///
/// # Invariants
///
/// No two entries have the same id, and `next_id` is above every id but [`u32::MAX`].
pub struct Table<S> {
    entries: Vec<Entry<S>>,
    next_id: u32,
}

impl<S> Table<S> {
    /// No rules.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            next_id: 1,
        }
    }

    /// The rules.
    #[inline]
    pub fn entries(&self) -> &[Entry<S>] {
        &self.entries
    }

    /// The entry at an index that may be none.
    fn at(&self, index: Option<u32>) -> Option<&Entry<S>> {
        self.entries.get(usize::try_from(index?).ok()?)
    }
}

impl<S: Clone + Ord> Table<S> {
    /// The table without the rules for single namespaces that are `gone`; `None` where there are
    /// none.
    pub fn without_netns(
        &self,
        gone: impl Fn(NetnsId) -> bool,
    ) -> Result<Option<Change<S>>, NoMemory> {
        let mut edit = Edit::new(self, 0)?;
        edit.remove(|rule| matches!(rule.netns(), Netns::Only(id) if gone(id)));
        edit.finish()
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
    /// How many rules were not in the old one.
    pub added: usize,
    /// How many of the old one are gone.
    pub removed: usize,
}

/// A table in the making.
pub struct Edit<'t, S> {
    base: &'t Table<S>,
    entries: Vec<Entry<S>>,
    /// So many of the first ones are those of `base`.
    front: usize,
    next_id: u32,
}

impl<'t, S: Clone + Ord> Edit<'t, S> {
    /// Starts from `base`, with room for `more` rules: memory that is kept with the table, but
    /// spares moving it all when one is added.
    pub fn new(base: &'t Table<S>, more: usize) -> Result<Self, NoMemory> {
        let mut entries = Vec::with_capacity(base.entries.len().saturating_add(more))?;
        entries.extend_from_slice(&base.entries)?;
        Ok(Self {
            base,
            front: entries.len(),
            entries,
            next_id: base.next_id,
        })
    }

    /// Puts a rule at the end. Refuses with ENOSPC, EEXIST or ENOMEM.
    pub fn add(&mut self, parsed: Parsed, slots: &dyn Slots<S>) -> Result<(), Refusal> {
        self.insert_at(self.entries.len(), parsed, slots)
    }

    /// Puts a rule in front, or ahead of the rule `before`, a number and its column. Refuses with
    /// ENOENT where there is none, and as [`add`](Self::add).
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

    fn insert_at(
        &mut self,
        index: usize,
        parsed: Parsed,
        slots: &dyn Slots<S>,
    ) -> Result<(), Refusal> {
        if self.entries.len() >= MAX_RULES {
            return Err(no_space());
        }
        let id = match parsed.id {
            Some(id) if self.is_in_use(id) => return Err(id_in_use(parsed.id_column)),
            Some(id) => {
                self.next_id = self.next_id.max(id.saturating_add(1));
                id
            }
            None => self.give_id()?,
        };
        let entry = Entry::new(parsed.rule, id, slots)?;
        self.front = self.front.min(index);
        self.entries.insert(index, entry)?;
        Ok(())
    }

    fn give_id(&mut self) -> Result<u32, NoMemory> {
        let mut taken = Vec::new();
        if self.next_id == u32::MAX {
            taken.reserve(self.entries.len())?;
            for entry in &*self.entries {
                taken.push(entry.id())?;
            }
            sort_by_key(&mut taken, |id| *id);
        }
        Ok(give_id(&mut self.next_id, &mut 1, &taken))
    }

    /// Takes out the rule `id`, whose column is `column`.
    pub fn delete(&mut self, id: u32, column: usize) -> Result<(), Refusal> {
        let index = self.position(id).ok_or(no_such_id(column))?;
        self.front = self.front.min(index);
        self.entries.remove(index);
        Ok(())
    }

    /// Takes out all rules of `tag`, whose column is `column`.
    pub fn delete_tag(&mut self, tag: &Tag, column: usize) -> Result<(), Refusal> {
        let before = self.entries.len();
        self.remove(|rule| rule.tag() == Some(tag.as_str()));
        if self.entries.len() == before {
            return Err(Refusal::new(
                Errno::NoEnt,
                column,
                "no rule has this tag",
                "the tag of a rule in the table",
            ));
        }
        Ok(())
    }

    /// Takes out all rules.
    pub fn flush(&mut self) {
        self.front = 0;
        self.entries.clear();
    }

    fn remove(&mut self, which: impl Fn(&Rule) -> bool) {
        self.front = 0;
        self.entries.retain(|entry| !which(&entry.rule));
    }

    /// Whether a rule has this number. Ascending ones, as of a saved table, need no search.
    fn is_in_use(&self, id: u32) -> bool {
        (id < self.next_id || id == u32::MAX) && self.position(id).is_some()
    }

    fn position(&self, id: u32) -> Option<usize> {
        // They ascend where no rule was inserted or given a number of its own.
        let guess = self.entries.binary_search_by_key(&id, Entry::id);
        guess
            .ok()
            .or_else(|| self.entries.iter().position(|entry| entry.id() == id))
    }

    /// The new table; `None` where it is the old one.
    pub fn finish(self) -> Result<Option<Change<S>>, NoMemory> {
        change(self.base, self.entries, self.front, self.next_id)
    }
}

/// The rules between `load` and `commit`: what the table, or those of one tag, is to be.
pub struct Replacement {
    tag: Option<Tag>,
    lines: Vec<Line>,
}

/// One of those rules.
struct Line {
    parsed: Parsed,
    number: u32,
    /// Where the entry stands in the old table that the line takes over.
    old: Option<u32>,
}

impl Replacement {
    /// No lines yet; of the rules of `tag` only, where there is one.
    pub fn new(tag: Option<Tag>) -> Self {
        Self {
            tag,
            lines: Vec::new(),
        }
    }

    /// The tag of a line that names none.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Appends the rule that starts in `column` of line `number`.
    pub fn push(&mut self, number: u32, column: usize, parsed: Parsed) -> Result<(), Refusal> {
        if self
            .tag
            .is_some_and(|tag| parsed.rule.tag() != Some(tag.as_str()))
        {
            return Err(Refusal::invalid(
                column,
                "a rule of another tag than the load's",
                "no tag=, or that of `load tag=`",
            ));
        }
        if self.lines.len() >= MAX_RULES {
            return Err(no_space());
        }
        self.lines.push(Line {
            parsed,
            number,
            old: None,
        })?;
        Ok(())
    }

    /// Makes the new table of `base`; `None` where it is the old one.
    ///
    /// The lines stand, one by one, where the old rules stood, the surplus behind the last of them.
    /// A refusal comes with the number of the line that it is about, or 0.
    pub fn apply<S: Clone + Ord>(
        self,
        base: &Table<S>,
        slots: &dyn Slots<S>,
    ) -> Result<Option<Change<S>>, (u32, Refusal)> {
        let Self { tag, mut lines } = self;
        let replaced =
            |entry: &Entry<S>| tag.is_none_or(|tag| entry.rule.tag() == Some(tag.as_str()));
        let mut places = base.entries.iter().filter(|entry| replaced(entry)).count();
        let kept = base.entries.len().saturating_sub(places);
        if kept.saturating_add(lines.len()) > MAX_RULES {
            return Err((0, no_space()));
        }

        take_over(base, replaced, &mut lines).map_err(no_memory)?;
        let ids = check_ids(base, replaced, &lines)?;
        let highest = ids.last().copied().unwrap_or(0);
        let mut next = base.next_id.max(highest.saturating_add(1));
        let mut gap = 1;
        let mut make = |line: Line| {
            if let Some(entry) = base.at(line.old) {
                return Ok(entry.clone());
            }
            let given = line.parsed.id;
            let id = given.unwrap_or_else(|| give_id(&mut next, &mut gap, &ids));
            Entry::new(line.parsed.rule, id, slots)
        };

        let total = kept.saturating_add(lines.len());
        let mut entries = Vec::with_capacity(total).map_err(no_memory)?;
        let mut lines = lines.into_iter();
        for entry in &*base.entries {
            if !replaced(entry) {
                entries.push(entry.clone()).map_err(no_memory)?;
                continue;
            }
            places = places.saturating_sub(1);
            let take = if places == 0 { usize::MAX } else { 1 };
            for line in lines.by_ref().take(take) {
                let entry = make(line).map_err(no_memory)?;
                entries.push(entry).map_err(no_memory)?;
            }
        }
        for line in lines {
            let entry = make(line).map_err(no_memory)?;
            entries.push(entry).map_err(no_memory)?;
        }
        change(base, entries, 0, next).map_err(no_memory)
    }
}

/// Finds for each line the entry, among those of `base` that are `replaced`, that has the same rule,
/// and the same number where the line gives one.
fn take_over<S>(
    base: &Table<S>,
    replaced: impl Fn(&Entry<S>) -> bool,
    lines: &mut [Line],
) -> Result<(), NoMemory> {
    struct Candidate {
        hash: u32,
        id: u32,
        index: u32,
        taken: bool,
        /// In the first one of a hash: how many of that hash, from it on, are taken.
        passed: u32,
    }

    let mut candidates = Vec::new();
    for (index, entry) in (0..).zip(&*base.entries) {
        if replaced(entry) {
            candidates.push(Candidate {
                hash: entry.rule.hash(),
                id: entry.id(),
                index,
                taken: false,
                passed: 0,
            })?;
        }
    }
    let same = |candidate: &Candidate, line: &Line| {
        let entry = base.at(Some(candidate.index));
        !candidate.taken && entry.is_some_and(|entry| entry.rule == line.parsed.rule)
    };

    // Lines that give a number go first, so that no other line takes their entry.
    sort_by_key(&mut candidates, |candidate| (candidate.hash, candidate.id));
    for line in &mut *lines {
        let Some(id) = line.parsed.id else { continue };
        let key = (line.parsed.rule.hash(), id);
        let at = candidates.partition_point(|candidate| (candidate.hash, candidate.id) < key);
        let found = candidates
            .get_mut(at)
            .filter(|c| c.id == id && same(c, line));
        if let Some(candidate) = found {
            candidate.taken = true;
            line.old = Some(candidate.index);
        }
    }

    candidates.retain(|candidate| !candidate.taken);
    sort_by_key(&mut candidates, |candidate| {
        (candidate.hash, candidate.index)
    });
    for line in lines.iter_mut().filter(|line| line.parsed.id.is_none()) {
        let hash = line.parsed.rule.hash();
        let start = candidates.partition_point(|candidate| candidate.hash < hash);
        let passed = candidates.get(start).map_or(0, |first| first.passed);
        let skipped = usize::try_from(passed).unwrap_or(usize::MAX);
        let rest = candidates.iter_mut().skip(start).skip(skipped);
        let mut equal = rest
            .take_while(|candidate| candidate.hash == hash)
            .enumerate();
        if let Some((ahead, candidate)) = equal.find(|(_, candidate)| same(candidate, line)) {
            candidate.taken = true;
            line.old = Some(candidate.index);
            if let Some(first) = candidates.get_mut(start).filter(|_| ahead == 0) {
                first.passed = passed.saturating_add(1);
            }
        }
    }
    Ok(())
}

/// All ids that are kept, taken over or given by lines, ascending; EEXIST where two are the same.
fn check_ids<S>(
    base: &Table<S>,
    replaced: impl Fn(&Entry<S>) -> bool,
    lines: &[Line],
) -> Result<Vec<u32>, (u32, Refusal)> {
    let mut ids = Vec::new();
    for entry in base.entries.iter().filter(|entry| !replaced(entry)) {
        ids.push(entry.id()).map_err(no_memory)?;
    }
    for line in lines {
        if let Some(id) = base.at(line.old).map(|entry| entry.id()).or(line.parsed.id) {
            ids.push(id).map_err(no_memory)?;
        }
    }
    sort_by_key(&mut ids, |id| *id);
    match ids.iter().zip(ids.iter().skip(1)).find(|(a, b)| a == b) {
        None => Ok(ids),
        Some((id, _)) => {
            let line = lines.iter().rfind(|line| line.parsed.id == Some(*id));
            Err(line.map_or((0, id_in_use(0)), |line| {
                (line.number, id_in_use(line.parsed.id_column))
            }))
        }
    }
}

/// The next id: ascending, and when those have run out the lowest from `gap` on that is not in
/// `taken`, which is sorted then.
fn give_id(next: &mut u32, gap: &mut u32, taken: &[u32]) -> u32 {
    if *next < u32::MAX {
        let id = *next;
        *next = next.saturating_add(1);
        return id;
    }
    loop {
        let id = *gap;
        *gap = gap.saturating_add(1);
        if taken.binary_search(&id).is_err() {
            return id;
        }
    }
}

/// The table of `entries`, of which `front` are known to be the first ones of `base`; `None` where it
/// is `base`.
fn change<S: Ord>(
    base: &Table<S>,
    entries: Vec<Entry<S>>,
    front: usize,
    next_id: u32,
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
        table: Table { entries, next_id },
    }))
}

/// Whether both are the same rule, not only equal ones.
pub(super) fn same<S: Eq>((a, b): (&Entry<S>, &Entry<S>)) -> bool {
    a.slot == b.slot
}

/// How many entries both lists hold, of which `front` are known to be the first ones of both.
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

    // What lies between the equal ends: nothing of one of them where a rule was added or deleted.
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

/// The slots of all entries but the last `back`, sorted.
fn slots<S: Ord>(entries: &[Entry<S>], back: usize) -> Result<Vec<&S>, NoMemory> {
    let mut slots = Vec::new();
    for entry in entries.iter().rev().skip(back) {
        slots.push(&entry.slot)?;
    }
    sort_by_key(&mut slots, |slot| *slot);
    Ok(slots)
}

fn no_memory(error: NoMemory) -> (u32, Refusal) {
    (0, error.into())
}

fn no_space() -> Refusal {
    Refusal::new(
        Errno::NoSpc,
        0,
        "over 131,072 rules",
        "fewer rules, with lists or prefixes",
    )
}

fn no_such_id(column: usize) -> Refusal {
    Refusal::new(
        Errno::NoEnt,
        column,
        "no rule has this number",
        "the id= of a rule in the table",
    )
}

fn id_in_use(column: usize) -> Refusal {
    Refusal::new(
        Errno::Exist,
        column,
        "the number of another rule",
        "a number that is not in use, or no id=",
    )
}
