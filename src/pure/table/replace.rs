// SPDX-License-Identifier: GPL-2.0

//! The rules of a `load`, and the table that they make.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    language::{
        parse::Parsed,
        refusal::Refusal, //
    },
    rule::Tag,
    sort::sort_by_key,
    table::{
        change,
        id_in_use,
        no_space,
        Change,
        Entry,
        Ids,
        Slots,
        Table,
        MAX_RULES, //
    },
};

/// A refusal, and the line that it is about.
#[derive(Debug)]
pub struct AtLine {
    /// The number of the line, counted from 1; 0 where it is about no line.
    pub line: u32,
    /// The reason.
    pub refusal: Refusal,
}

impl From<NoMemory> for AtLine {
    fn from(error: NoMemory) -> Self {
        Self {
            line: 0,
            refusal: error.into(),
        }
    }
}

/// The rules between `load` and `commit`: they replace the table, or the rules of one tag.
pub struct Replacement {
    tag: Option<Tag>,
    lines: Vec<Line>,
}

/// One of these rules.
struct Line {
    parsed: Parsed,
    /// The number of its line in the text.
    number: u32,
    /// The index of the entry of the old table that it takes over: that keeps its id and counters.
    old: Option<u32>,
}

impl Replacement {
    /// Makes one of no rules, for the rules of `tag` only where there is one.
    pub fn new(tag: Option<Tag>) -> Self {
        Self {
            tag,
            lines: Vec::new(),
        }
    }

    /// Returns the tag of a rule that names none.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Returns the number of rules so far.
    pub fn rules(&self) -> usize {
        self.lines.len()
    }

    /// Refuses with EINVAL a rule of another tag, which starts in `column` of its line.
    pub fn check(&self, column: usize, parsed: &Parsed) -> Result<(), Refusal> {
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
        Ok(())
    }

    /// Appends a rule of line `number`, which was [checked](Self::check).
    ///
    /// Refuses with ENOSPC over [`MAX_RULES`], and with ENOMEM.
    pub fn push(&mut self, number: u32, parsed: Parsed) -> Result<(), Refusal> {
        if self.lines.len() >= MAX_RULES {
            return Err(no_space(0));
        }
        self.lines.push(Line {
            parsed,
            number,
            old: None,
        })?;
        Ok(())
    }

    /// Makes the new table from `base`; [`None`] where nothing changes.
    ///
    /// The rules stand, one by one, where the replaced ones stood, the surplus behind the last of them.
    /// Refuses with EEXIST where two rules have the same id, with ENOSPC where there are too many rules or
    /// no id is left, and with ENOMEM.
    pub fn apply<S: Clone + Ord>(
        self,
        base: &Table<S>,
        slots: &dyn Slots<S>,
    ) -> Result<Option<Change<S>>, AtLine> {
        let Self { tag, mut lines } = self;
        let replaced =
            |entry: &Entry<S>| tag.is_none_or(|tag| entry.rule.tag() == Some(tag.as_str()));
        let mut places = base.entries.iter().filter(|entry| replaced(entry)).count();
        let kept = base.entries.len().saturating_sub(places);
        let total = kept.saturating_add(lines.len());
        if total > MAX_RULES {
            let refusal = no_space(0);
            return Err(AtLine { line: 0, refusal });
        }

        take_over(base, replaced, &mut lines)?;
        let mut ids = Ids::new(base);
        ids.note(check_ids(base, replaced, &lines)?);
        let mut make = |line: Line| {
            if let Some(entry) = base.at(line.old) {
                return Ok(entry.clone());
            }
            let id = line.parsed.id.map_or_else(|| ids.give(), Ok);
            let id = id.map_err(|refusal| AtLine {
                line: line.number,
                refusal,
            })?;
            Ok::<_, AtLine>(Entry::new(line.parsed.rule, id, slots)?)
        };

        let mut entries = Vec::with_capacity(total)?;
        let mut lines = lines.into_iter();
        for entry in &*base.entries {
            if !replaced(entry) {
                entries.push(entry.clone())?;
                continue;
            }
            places = places.saturating_sub(1);
            let here = if places == 0 { usize::MAX } else { 1 };
            for line in lines.by_ref().take(here) {
                entries.push(make(line)?)?;
            }
        }
        for line in lines {
            entries.push(make(line)?)?;
        }
        Ok(change(base, entries, 0, ids.last)?)
    }
}

/// An entry of the old table that a line may take over.
struct Candidate {
    /// The hash of its rule.
    hash: u32,
    id: u32,
    /// Its index in the old table.
    index: u32,
    /// Whether a line has taken it over.
    taken: bool,
    /// In the first candidate of a hash: the number of candidates, from it on, that are taken.
    passed: u32,
}

impl Candidate {
    /// Returns whether `line`, whose rule has the same hash, may take it over.
    fn is_free_for<S>(&self, line: &Line, base: &Table<S>) -> bool {
        let entry = base.at(Some(self.index));
        !self.taken && entry.is_some_and(|entry| entry.rule == line.parsed.rule)
    }
}

/// Finds an entry for each line to take over: one of those in `base` that are `replaced`, with the same
/// rule, and with the same id where the line gives one.
fn take_over<S>(
    base: &Table<S>,
    replaced: impl Fn(&Entry<S>) -> bool,
    lines: &mut [Line],
) -> Result<(), NoMemory> {
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

    // Lines that give an id go first, so that no other line takes their entry.
    take_over_by_id(base, &mut candidates, lines);
    candidates.retain(|candidate| !candidate.taken);
    take_over_in_order(base, &mut candidates, lines);
    Ok(())
}

/// The lines that give an id take over the entry of that id.
fn take_over_by_id<S>(base: &Table<S>, candidates: &mut [Candidate], lines: &mut [Line]) {
    sort_by_key(candidates, |candidate| (candidate.hash, candidate.id));
    for line in lines {
        let Some(id) = line.parsed.id else { continue };
        let key = (line.parsed.rule.hash(), id);
        let at = candidates.partition_point(|candidate| (candidate.hash, candidate.id) < key);
        let found = candidates
            .get_mut(at)
            .filter(|candidate| candidate.id == id && candidate.is_free_for(line, base));
        if let Some(candidate) = found {
            candidate.taken = true;
            line.old = Some(candidate.index);
        }
    }
}

/// The lines that give no id each take over the first entry of their rule that is free.
///
/// A table may have many equal rules: those at the front that are taken are skipped, not compared.
fn take_over_in_order<S>(base: &Table<S>, candidates: &mut [Candidate], lines: &mut [Line]) {
    sort_by_key(candidates, |candidate| (candidate.hash, candidate.index));
    for line in lines.iter_mut().filter(|line| line.parsed.id.is_none()) {
        let hash = line.parsed.rule.hash();
        let start = candidates.partition_point(|candidate| candidate.hash < hash);
        let passed = candidates.get(start).map_or(0, |first| first.passed);
        let skipped = usize::try_from(passed).unwrap_or(usize::MAX);
        let rest = candidates.iter_mut().skip(start).skip(skipped);
        let mut equal = rest
            .take_while(|candidate| candidate.hash == hash)
            .enumerate();
        let found = equal.find(|(_, candidate)| candidate.is_free_for(line, base));
        if let Some((ahead, candidate)) = found {
            candidate.taken = true;
            line.old = Some(candidate.index);
            if let Some(first) = candidates.get_mut(start).filter(|_| ahead == 0) {
                first.passed = passed.saturating_add(1);
            }
        }
    }
}

/// Returns the highest of all ids that are kept, taken over or given by lines; 0 where there are none.
///
/// Refuses with EEXIST where two are equal, and with ENOMEM.
fn check_ids<S>(
    base: &Table<S>,
    replaced: impl Fn(&Entry<S>) -> bool,
    lines: &[Line],
) -> Result<u32, AtLine> {
    let mut ids = Vec::new();
    for entry in base.entries.iter().filter(|entry| !replaced(entry)) {
        ids.push(entry.id())?;
    }
    for line in lines {
        if let Some(id) = base.at(line.old).map(|entry| entry.id()).or(line.parsed.id) {
            ids.push(id)?;
        }
    }
    sort_by_key(&mut ids, |id| *id);
    let Some((id, _)) = ids.iter().zip(ids.iter().skip(1)).find(|(a, b)| a == b) else {
        return Ok(ids.last().copied().unwrap_or(0));
    };
    let line = lines.iter().rfind(|line| line.parsed.id == Some(*id));
    Err(AtLine {
        line: line.map_or(0, |line| line.number),
        refusal: id_in_use(line.map_or(0, |line| line.parsed.id_column)),
    })
}
