// SPDX-License-Identifier: GPL-2.0

//! Which conntrack entries a purge deletes: those of flows that rules surely keep out of conntrack.
//!
//! A packet is skipped by the first rule that matches it. An entry does not tell all that rules ask for: not
//! the device, the mark or the flags of its packets. Whose its addresses are (`local=`) depends on the device,
//! too. A rule with such a term is *untold*: it may match a packet of the entry, or not. So a direction of an
//! entry is surely skipped where
//!
//! - the first rule that matches, among those that are told, is a `skip` rule that acts, and
//! - no untold rule ahead of it may match that is a `track` rule, or a `skip` rule that NAT holds.
//!
//! An untold `skip` rule that acts makes no difference: its packets are skipped, too.
//!
//! The told rules are looked up in a table of their own, and so are the untold ones without their untold
//! terms, apart by what they do. Where all rules are told, as mostly, that table is the one in force.

use core::cell::Cell;

use crate::pure::{
    alloc::{
        Arc,
        Vec, //
    },
    matcher::{
        limits::{
            Limits,
            Stop, //
        },
        ruleset::Ruleset, //
    },
    packet::{
        conn::{
            Conn,
            Kept, //
        },
        ends::NoEnds,
        header::Key, //
    },
    rule::{
        Action,
        Family,
        NetnsId, //
    },
    table::{
        selection::Selection,
        Entry,
        Table, //
    },
};

/// What a purge does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: none of the selected rules covers it.
    Left,
    /// They cover it, or may, and it is kept.
    Kept(Kept),
    /// They cover it: it is to be deleted.
    Deleted,
}

/// How rules treat the packets of one direction of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    /// None of the selected rules skips one.
    None,
    /// One of them may skip some.
    Unsure,
    /// All are skipped; `selected`: by one of them.
    Sure { selected: bool },
}

/// The namespace of an entry.
#[derive(Clone, Copy)]
pub struct Home {
    /// Whether it is the initial one.
    pub is_init: bool,
    /// Its names.
    pub id: NetnsId,
}

/// Some rules of the table in force, to be looked up.
struct Part<S> {
    ruleset: Arc<Ruleset<S>>,
    /// The place of each in the table in force; empty where it is that table.
    places: Vec<u32>,
}

/// A rule that was found.
struct Match<'p, S> {
    /// Its place in the table in force; 0 where nothing is to be compared with it.
    place: u32,
    entry: &'p Entry<S>,
}

/// The limits of all parts of a purge together: each has the bytes that those before it have left.
struct Shared<'l> {
    limits: &'l dyn Limits,
    /// The bytes of the parts that are made.
    taken: Cell<usize>,
}

impl<'l> Shared<'l> {
    /// Returns the limits of parts of which none is made.
    fn new(limits: &'l dyn Limits) -> Self {
        Self {
            limits,
            taken: Cell::new(0),
        }
    }

    /// Counts the bytes of a part that was made. Fails where they are too many with those before.
    fn take(&self, bytes: usize) -> Result<(), Stop> {
        self.check_bytes(bytes)?;
        self.taken.set(self.taken.get().saturating_add(bytes));
        Ok(())
    }
}

impl Limits for Shared<'_> {
    fn is_interrupted(&self) -> bool {
        self.limits.is_interrupted()
    }

    fn most_bytes(&self) -> usize {
        self.limits.most_bytes().saturating_sub(self.taken.get())
    }
}

/// Tells what a purge takes from what the table takes that it is by.
fn of_purge(stop: Stop) -> Stop {
    match stop {
        Stop::TooLarge => Stop::PurgeTooLarge,
        stop => stop,
    }
}

impl<S: Clone> Part<S> {
    /// Makes the part of the rules of `table` that are `wanted`, without the terms that an entry does not
    /// tell; [`None`] where there are none. Not inlined: one frame serves all parts.
    #[inline(never)]
    fn new(
        table: &Table<S>,
        limits: &Shared<'_>,
        wanted: impl Fn(&Entry<S>) -> bool,
    ) -> Result<Option<Self>, Stop> {
        let (table, places) = table.picked(|entry| match wanted(entry) {
            true => Ok(Some(entry.rule().without_untold()?)),
            false => Ok(None),
        })?;
        if table.entries().is_empty() {
            return Ok(None);
        }
        let ruleset = Ruleset::compile(Arc::new(table)?, limits).map_err(of_purge)?;
        limits.take(ruleset.bytes()).map_err(of_purge)?;
        let ruleset = Arc::new(ruleset)?;
        Ok(Some(Self { ruleset, places }))
    }
}

impl<S> Part<S> {
    /// Returns the first of the rules that matches `key` in the namespace `home`.
    fn first(&self, home: Home, key: &Key) -> Option<Match<'_, S>> {
        let ruleset = &*self.ruleset;
        let scope = ruleset.scope(home.is_init, home.id.cookie);
        // No rule says `local=`: such a rule is untold.
        let order = ruleset.lookup(&ruleset.sections(scope), key, NoEnds)?;
        let entry = ruleset.entry(order)?;
        // Its ruleset is whole where places count.
        let place = order.position().ok().and_then(|at| self.places.get(at));
        Some(Match {
            place: place.copied().unwrap_or(0),
            entry,
        })
    }
}

/// The untold rules: those that may match ahead of what is looked for.
struct Untold<S> {
    /// `track` rules.
    track: Option<Part<S>>,
    /// `skip` rules that NAT may hold.
    guarded: Option<Part<S>>,
    /// `skip` rules that NAT may hold, and that are selected.
    selected_guarded: Option<Part<S>>,
    /// `skip` rules that NAT never holds, and that are selected.
    selected_free: Option<Part<S>>,
}

/// A purge: the rules in force, and those that are selected.
pub struct Purge<S> {
    selection: Selection,
    /// [`None`] where there are none.
    told: Option<Part<S>>,
    /// [`None`] where there are none.
    untold: Option<Untold<S>>,
}

impl<S: Clone> Purge<S> {
    /// Prepares a purge by the selected rules of `ruleset`. Process context, may sleep.
    ///
    /// Where rules are untold, it takes as long as several compiles of the table: without their untold terms,
    /// rules may overlap more. Not inlined: its frame is large.
    #[inline(never)]
    pub fn new(
        ruleset: &Arc<Ruleset<S>>,
        selection: Selection,
        limits: &dyn Limits,
    ) -> Result<Self, Stop> {
        let table = &**ruleset.table();
        if !table.entries().iter().any(|e| e.rule().is_untold()) {
            let told = Part {
                ruleset: ruleset.clone(),
                places: Vec::new(),
            };
            return Ok(Self {
                selection,
                told: Some(told),
                untold: None,
            });
        }
        let limits = Shared::new(limits);
        let untold = |wanted: &dyn Fn(&Entry<S>) -> bool| {
            Part::new(table, &limits, |entry| {
                entry.rule().is_untold() && wanted(entry)
            })
        };
        let skips = |entry: &Entry<S>| entry.rule().action() == Action::Skip;
        let is_free = |entry: &Entry<S>| entry.rule().nat_ok();
        Ok(Self {
            told: Part::new(table, &limits, |entry| !entry.rule().is_untold())?,
            untold: Some(Untold {
                track: untold(&|entry| !skips(entry))?,
                guarded: untold(&|entry| skips(entry) && !is_free(entry))?,
                selected_guarded: untold(&|entry| selection.skips(entry) && !is_free(entry))?,
                selected_free: untold(&|entry| selection.skips(entry) && is_free(entry))?,
            }),
            selection,
        })
    }
}

impl<S> Purge<S> {
    /// Returns what is done with an entry in the namespace `home`, where the rules act.
    ///
    /// `nat_in_use` tells whether that namespace translates packets of a family. Process context.
    pub fn judge(&self, home: Home, conn: &Conn, nat_in_use: impl Fn(Family) -> bool) -> Fate {
        let cover = |key: Key| self.cover(home, &key, || nat_in_use(key.family));
        let both = [cover(conn.original.key()), cover(conn.reply.key())];

        match both {
            [Cover::Sure { selected: one }, Cover::Sure { selected: other }] => {
                match (one || other, Kept::of(conn.uses)) {
                    (false, _) => Fate::Left,
                    (true, Some(kept)) => Fate::Kept(kept),
                    (true, None) => Fate::Deleted,
                }
            }
            // The packets of the other direction may need the entry.
            _ if both.iter().any(|cover| cover.may_be_selected()) => {
                Fate::Kept(Kept::of(conn.uses).unwrap_or(Kept::Unsure))
            }
            _ => Fate::Left,
        }
    }

    /// Returns how rules treat packets of that key.
    fn cover(&self, home: Home, key: &Key, nat_in_use: impl Fn() -> bool) -> Cover {
        let told = self.told.as_ref().and_then(|part| part.first(home, key));
        // Whether a told rule skips all packets that no untold rule ahead of it decides.
        let skips = told.as_ref().is_some_and(|found| {
            let rule = found.entry.rule();
            rule.action() == Action::Skip && (rule.nat_ok() || !nat_in_use())
        });
        let selected = skips
            && told
                .as_ref()
                .is_some_and(|found| self.selection.skips(found.entry));
        let Some(untold) = &self.untold else {
            return match skips {
                true => Cover::Sure { selected },
                false => Cover::None,
            };
        };

        let end = told.map_or(u32::MAX, |found| found.place);
        let is_ahead = |part: &Option<Part<S>>| {
            let found = part.as_ref().and_then(|part| part.first(home, key));
            found.is_some_and(|found| found.place < end)
        };
        let may_be_tracked =
            !skips || is_ahead(&untold.track) || (is_ahead(&untold.guarded) && nat_in_use());
        if !may_be_tracked {
            return Cover::Sure { selected };
        }
        let may_be_selected = selected
            || is_ahead(&untold.selected_free)
            || (is_ahead(&untold.selected_guarded) && !nat_in_use());
        match may_be_selected {
            true => Cover::Unsure,
            false => Cover::None,
        }
    }
}

impl Cover {
    /// Returns whether one of the selected rules skips packets, or may.
    fn may_be_selected(self) -> bool {
        match self {
            Self::None => false,
            Self::Unsure => true,
            Self::Sure { selected } => selected,
        }
    }
}
