// SPDX-License-Identifier: GPL-2.0

//! A compiled table, and packets looked up in it as the kernel does it: by the view of a namespace, and
//! on the path that the view's plan has chosen.

use std::{
    cell::OnceCell,
    collections::HashMap, //
};

use ctskip_pure::{
    alloc::Arc,
    matcher::{
        limits::Stop,
        oracle,
        plan::{
            Lookup,
            Path,
            View, //
        },
        ruleset::Ruleset,
        scope::Scope, //
    },
    packet::{
        header::{
            Key,
            Needs, //
        },
        verdict::{
            Mode,
            Verdict, //
        },
    },
    rule::{
        DeviceName,
        FixedField,
        Netns,
        Rule, //
    },
};

use crate::{
    packets::Probe,
    world::{
        cookie,
        is_local,
        table,
        Slot,
        Table,
        Unlimited,
        World,
        INIT_INUM, //
    },
};

/// Returns whether a rule holds in the namespace of an inode number.
pub fn holds(rule: &Rule, inum: u32) -> bool {
    match rule.netns() {
        Netns::Any => true,
        Netns::Init => inum == INIT_INUM,
        Netns::NotInit => inum != INIT_INUM,
        Netns::Only(id) => inum == id.inum,
    }
}

/// Returns whether a rule matches a packet, as the oracle says: what compiled tables are held against.
pub fn matches(rule: &Rule, probe: &Probe) -> bool {
    holds(rule, probe.netns) && oracle::matches(rule, &probe.key, is_local)
}

/// Returns the position of the first of the rules that matches a packet, as the oracle says.
pub fn first_match<'r>(rules: impl IntoIterator<Item = &'r Rule>, probe: &Probe) -> Option<usize> {
    rules.into_iter().position(|rule| matches(rule, probe))
}

/// A compiled table.
pub struct Compiled {
    ruleset: Arc<Ruleset<Slot>>,
    /// The view of the initial namespace, of namespaces that no rule names, and of each that rules name.
    views: OnceCell<Vec<View<Slot>>>,
    /// The place of each id in the table.
    positions: OnceCell<HashMap<u32, usize>>,
}

impl Compiled {
    /// Compiles a table.
    pub fn new(table: Table) -> Self {
        Self::try_new(&Arc::new(table).unwrap()).unwrap()
    }

    /// Compiles the table of these rules, one a line.
    #[track_caller]
    pub fn of_text(text: &str) -> Self {
        Self::new(table(text, &World::default()))
    }

    /// As [`Self::new()`]; fails where memory runs out.
    pub fn try_new(table: &Arc<Table>) -> Result<Self, Stop> {
        Self::of(Ruleset::compile(table.clone(), &Unlimited)?)
    }

    /// Compiles a table that differs from the one of this by a few rules.
    pub fn updated(&self, table: Table) -> Self {
        self.try_updated(&Arc::new(table).unwrap()).unwrap()
    }

    /// As [`Self::updated()`]; fails where memory runs out.
    pub fn try_updated(&self, table: &Arc<Table>) -> Result<Self, Stop> {
        Self::of(self.ruleset.updated(table.clone(), &Unlimited)?)
    }

    fn of(ruleset: Ruleset<Slot>) -> Result<Self, Stop> {
        Ok(Self {
            ruleset: Arc::new(ruleset)?,
            views: OnceCell::new(),
            positions: OnceCell::new(),
        })
    }

    /// Returns what was compiled.
    pub fn ruleset(&self) -> &Arc<Ruleset<Slot>> {
        &self.ruleset
    }

    /// Returns the table.
    pub fn table(&self) -> &Table {
        self.ruleset.table()
    }

    /// Returns the scope of the namespace of an inode number.
    pub fn scope(&self, inum: u32) -> Scope {
        self.ruleset.scope(inum == INIT_INUM, cookie(inum))
    }

    /// Returns the view of the namespace of an inode number, in the mode in which matches are skipped.
    pub fn view(&self, inum: u32) -> &View<Slot> {
        let index = |scope| match scope {
            Scope::Init => 0,
            Scope::Other => 1,
            Scope::Named(group) => group + 2,
        };
        let views = self.views.get_or_init(|| {
            let named = (0..self.ruleset.named().count()).map(Scope::Named);
            let scopes = [Scope::Init, Scope::Other].into_iter().chain(named);
            let view = |scope| View::new(self.ruleset.clone(), scope, Mode::Skip, true);
            scopes.map(view).collect()
        });
        &views[index(self.scope(inum))]
    }

    /// Returns the position in the table of the first rule that matches, after the fast path and the
    /// slow path have found one rule, or both none.
    #[track_caller]
    pub fn first_match(&self, probe: &Probe) -> Option<usize> {
        let view = self.view(probe.netns);
        // A path has no more of a packet than it asks for.
        let found = look_up(view, &cut(probe.key, view.dispatch(PlanNeeds)));
        let slow = view.dispatch(Slow(&cut(probe.key, view.needs())));
        assert_eq!(found, slow, "{:?}, {probe:?}", view.plan());
        let positions = self.positions.get_or_init(|| {
            let ids = self.table().entries().iter().map(|entry| entry.id());
            ids.zip(0..).collect()
        });
        Some(positions[&found?])
    }
}

/// Returns the id of the first rule of a view that matches a packet.
#[inline(always)]
pub fn look_up(view: &View<Slot>, key: &Key) -> Option<u32> {
    view.dispatch(Search(key))
}

/// A packet on the path that the plan chooses.
struct Search<'k>(&'k Key);

impl Path<Slot> for Search<'_> {
    type Output = Option<u32>;

    #[inline(always)]
    fn idle(self) -> Option<u32> {
        None
    }

    #[inline(always)]
    fn fast<L: Lookup>(self, view: &View<Slot>) -> Option<u32> {
        // The fast path leaves ICMP errors to the slow one.
        match self.0.error {
            true => self.slow(view),
            false => Some(L::first_match(view, self.0, is_local)?.id()),
        }
    }

    #[inline(always)]
    fn slow(self, view: &View<Slot>) -> Option<u32> {
        Slow(self.0).slow(view)
    }
}

/// A packet on the slow path, whatever the plan is.
struct Slow<'k>(&'k Key);

impl Path<Slot> for Slow<'_> {
    type Output = Option<u32>;

    fn idle(self) -> Option<u32> {
        None
    }

    fn fast<L: Lookup>(self, view: &View<Slot>) -> Option<u32> {
        self.slow(view)
    }

    #[inline(never)]
    fn slow(self, view: &View<Slot>) -> Option<u32> {
        match view.decide(self.0, None, is_local, || false) {
            Verdict::NoRule => None,
            Verdict::Track(entry) | Verdict::Held(entry) | Verdict::Skip { entry, .. } => {
                Some(entry.id())
            }
        }
    }
}

/// Returns a key without the fields that nobody asks for.
fn cut(mut key: Key, needs: Needs) -> Key {
    if !needs.has(Needs::DEVICE) {
        key.device = DeviceName::default();
    }
    for field in FixedField::optional() {
        if !needs.has(Needs::field(field)) {
            key.fixed = key.fixed.without(field);
        }
    }
    key
}

/// Returns the fields that a key needs, by the plan.
struct PlanNeeds;

impl Path<Slot> for PlanNeeds {
    type Output = Needs;

    fn idle(self) -> Needs {
        Needs::NONE
    }

    fn fast<L: Lookup>(self, _view: &View<Slot>) -> Needs {
        L::NEEDS
    }

    fn slow(self, view: &View<Slot>) -> Needs {
        view.needs()
    }
}
