// SPDX-License-Identifier: GPL-2.0

//! The plan of a namespace: by which engine its packets are looked up. This is the one place that
//! chooses, and the one place that carries a choice out.
//!
//! | plan | chosen where | engine |
//! |---|---|---|
//! | [`Plan::Idle`] | no rule holds, or the mode is off | none |
//! | [`Plan::Linear`] | few rules hold, and these are plain | [`linear`](super::linear) |
//! | [`Plan::LinearLocal`] | as `Linear`, and a rule says `local=` | [`linear`](super::linear) |
//! | [`Plan::Hashed`] | all rules for IPv4 are in hash tables | [`hash`](super::hash) |
//! | [`Plan::Trees`] | any rules | hash tables and [`tree`](super::tree) |
//! | [`Plan::TreesWithDevices`] | a rule names a device | the engines of `Trees` |
//! | [`Plan::Full`] | a rule needs what no other plan reads or asks for | the engines of `Changed` |
//! | [`Plan::Changed`] | rules were added or deleted since all were compiled | those engines, twice |
//! | [`Plan::Observe`] | the mode is observe | as `Changed`, on the slow path |
//!
//! The fast path is compiled once for each engine: a [`Lookup`] is an engine as a type, and
//! [`View::dispatch`] calls a [`Path`] with the lookup of the plan. The kernel's packets and the tests
//! go through that one function.

use crate::pure::{
    alloc::Arc,
    matcher::{
        linear::{
            LinearTable,
            Unsupported, //
        },
        ruleset::{
            Ruleset,
            Sections, //
        },
        scope::Scope, //
    },
    packet::{
        ends::{
            AskedEnds,
            NoEnds, //
        },
        header::{
            Key,
            Needs, //
        },
        verdict::{
            judge,
            Mode,
            Verdict, //
        },
    },
    rule::Family,
    table::Entry, //
};

/// By which engine the packets of a namespace are looked up.
///
/// Each plan but the last is one bit: see [`View::dispatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Plan {
    /// No packet is looked up.
    Idle = 1,
    /// By a linear table.
    Linear = 1 << 1,
    /// By hash tables; packets of IPv6 by trees.
    Hashed = 1 << 2,
    /// By hash tables and trees.
    Trees = 1 << 3,
    /// As [`Self::Trees`], by rules that name devices.
    TreesWithDevices = 1 << 4,
    /// By hash tables and trees, and by the tables and trees of the rules added since; deleted rules are
    /// left out.
    Changed = 1 << 5,
    /// As [`Self::Linear`], by rules that may say `local=`.
    LinearLocal = 1 << 6,
    /// As [`Self::Changed`], with every field of the key: [`Needs::ALL`].
    Full = 1 << 7,
    /// As [`Self::Changed`], and nothing is skipped. No bit: what none of the others is.
    Observe = 0,
}

impl Plan {
    /// Chooses the plan for rules of `ruleset`: those of `sections`, which are in `linear` too where
    /// there is one.
    fn choose<S>(
        ruleset: &Ruleset<S>,
        sections: &Sections,
        linear: Option<&LinearTable<S>>,
        is_idle: bool,
        mode: Mode,
    ) -> Self {
        let needs = sections.needs();

        if is_idle || mode == Mode::Off {
            Self::Idle
        } else if mode == Mode::Observe {
            Self::Observe
        } else if linear.is_some() {
            match needs.has(Needs::LOCAL) {
                true => Self::LinearLocal,
                false => Self::Linear,
            }
        } else if needs.has(Needs::RARE) {
            Self::Full
        } else if !ruleset.is_whole() {
            Self::Changed
        } else if needs.has(Needs::DEVICE) {
            Self::TreesWithDevices
        } else if ruleset.is_hashed(sections) {
            Self::Hashed
        } else {
            Self::Trees
        }
    }
}

/// The view that a namespace has of a ruleset: the rules that hold there, and the plan to look packets up.
pub struct View<S> {
    plan: Plan,
    mode: Mode,
    icmp_errors: bool,
    /// The rules of all namespaces.
    ruleset: Arc<Ruleset<S>>,
    /// The rules that hold here.
    sections: Sections,
    /// These rules again, where they are few and plain; for [`Plan::Linear`] and [`Plan::LinearLocal`].
    linear: LinearTable<S>,
}

impl<S: Clone> View<S> {
    /// Returns the view that a namespace of `scope` has of `ruleset`. Allocates nothing.
    ///
    /// With `icmp_errors`, an ICMP error is decided by the packet that it quotes. Not inlined: its frame must
    /// not lie below that of an allocation.
    #[inline(never)]
    pub fn new(ruleset: Arc<Ruleset<S>>, scope: Scope, mode: Mode, icmp_errors: bool) -> Self {
        let sections = ruleset.sections(scope);
        let linear = LinearTable::build(&ruleset, scope);
        let is_idle = ruleset.len_in(scope) == 0;

        Self {
            plan: Plan::choose(&ruleset, &sections, linear.as_ref(), is_idle, mode),
            mode,
            icmp_errors,
            sections,
            linear: linear.unwrap_or_else(LinearTable::empty),
            ruleset,
        }
    }
}

impl<S> View<S> {
    /// Returns the plan.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Returns the mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns whether an ICMP error is decided by the packet that it quotes.
    #[inline(always)]
    pub fn icmp_errors(&self) -> bool {
        self.icmp_errors
    }

    /// Returns the fields that a key on the slow path needs.
    pub fn needs(&self) -> Needs {
        self.sections.needs()
    }

    /// Has `path` go by the plan. Any context.
    #[inline(always)]
    pub fn dispatch<P: Path<S>>(&self, path: P) -> P::Output {
        // The most frequent and the cheapest plans come first. Bits are tested, as compilers make a tree
        // of comparisons out of a `match`, which costs these more.
        let is = |plan: Plan| self.plan as u8 & plan as u8 != 0;

        if is(Plan::Linear) {
            return path.fast::<LinearLookup<false>>(self);
        }
        if is(Plan::Idle) {
            return path.idle();
        }
        if is(Plan::Hashed) {
            return path.fast::<HashedLookup>(self);
        }
        if is(Plan::Trees) {
            return path.fast::<TreeLookup<false>>(self);
        }
        if is(Plan::TreesWithDevices) {
            return path.fast::<TreeLookup<true>>(self);
        }
        if is(Plan::Changed) {
            return path.fast::<ChangedLookup<false>>(self);
        }
        if is(Plan::LinearLocal) {
            return path.fast::<LinearLookup<true>>(self);
        }
        if is(Plan::Full) {
            return path.fast::<ChangedLookup<true>>(self);
        }
        path.slow(self)
    }

    /// Returns the verdict on a packet on the slow path: any packet, by any plan but [`Plan::Idle`].
    ///
    /// `quoted` is the packet that an ICMP error quotes. `is_local` tells whether an address of either is
    /// one of the namespace, and is called only for rules that ask. `nat_in_use` tells whether the namespace
    /// translates packets of the key's family; it is called only where the answer matters. Any
    /// context.
    #[inline(always)]
    pub fn decide(
        &self,
        key: &Key,
        quoted: Option<&Key>,
        is_local: impl Fn(u128) -> bool,
        nat_in_use: impl FnOnce() -> bool,
    ) -> Verdict<'_, S> {
        let look_up = |key: &Key| {
            let ends = AskedEnds::new(key, &is_local);
            self.ruleset.lookup(&self.sections, key, &ends)
        };
        let quoted = quoted.and_then(look_up);
        let (first, followed) = match (look_up(key), quoted) {
            (Some(own), Some(quoted)) => (own.min(quoted), quoted < own),
            (Some(own), None) => (own, false),
            (None, Some(quoted)) => (quoted, true),
            (None, None) => return Verdict::NoRule,
        };
        match self.ruleset.entry(first) {
            Some(entry) => judge(entry, followed, nat_in_use),
            None => Verdict::NoRule,
        }
    }
}

/// The paths of a packet; the plan of its namespace chooses one.
pub trait Path<S>: Sized {
    /// The result.
    type Output;

    /// Goes on without a look at the packet.
    fn idle(self) -> Self::Output;

    /// Takes the fast path, on which the packet is looked up by `L`.
    fn fast<L: Lookup>(self, view: &View<S>) -> Self::Output;

    /// Takes the slow path, on which [`View::decide`] looks the packet up.
    fn slow(self, view: &View<S>) -> Self::Output;
}

/// An engine, as a type.
pub trait Lookup {
    /// The fields that keys need.
    const NEEDS: Needs;

    /// Returns the first rule of `view` that matches `key`, a packet that is no ICMP error. Any context.
    ///
    /// `is_local` tells whether an address is one of the namespace, and is called only for rules that ask.
    fn first_match<'v, S>(
        view: &'v View<S>,
        key: &Key,
        is_local: impl Fn(u128) -> bool,
    ) -> Option<&'v Entry<S>>;
}

/// Looks a packet up for [`Plan::Linear`], or with `LOCAL` for [`Plan::LinearLocal`].
pub struct LinearLookup<const LOCAL: bool>;

impl<const LOCAL: bool> Lookup for LinearLookup<LOCAL> {
    const NEEDS: Needs = Needs::NONE;

    #[inline(always)]
    fn first_match<'v, S>(
        view: &'v View<S>,
        key: &Key,
        is_local: impl Fn(u128) -> bool,
    ) -> Option<&'v Entry<S>> {
        let found = match LOCAL {
            true => {
                let ends = AskedEnds::new(key, &is_local);
                view.linear.first_match::<true>(key, &ends)
            }
            false => view.linear.first_match::<false>(key, NoEnds),
        };
        match (found, LOCAL) {
            (Ok(found), _) => found,
            (Err(Unsupported), true) => ChangedLookup::<true>::first_match(view, key, is_local),
            (Err(Unsupported), false) => ChangedLookup::<false>::first_match(view, key, is_local),
        }
    }
}

/// Looks a packet up for [`Plan::Hashed`].
pub struct HashedLookup;

impl Lookup for HashedLookup {
    const NEEDS: Needs = Needs::NONE;

    #[inline(always)]
    fn first_match<'v, S>(
        view: &'v View<S>,
        key: &Key,
        _: impl Fn(u128) -> bool,
    ) -> Option<&'v Entry<S>> {
        let found = match key.family {
            Family::Ipv4 => view.ruleset.lookup_hashed(&view.sections, key),
            Family::Ipv6 => view.ruleset.lookup_whole(&view.sections, key),
        };

        view.ruleset.entry(found?)
    }
}

/// Looks a packet up for [`Plan::Trees`], or with `DEVICES` for [`Plan::TreesWithDevices`].
pub struct TreeLookup<const DEVICES: bool>;

impl<const DEVICES: bool> Lookup for TreeLookup<DEVICES> {
    const NEEDS: Needs = match DEVICES {
        true => Needs::DEVICE,
        false => Needs::NONE,
    };

    #[inline(always)]
    fn first_match<'v, S>(
        view: &'v View<S>,
        key: &Key,
        _: impl Fn(u128) -> bool,
    ) -> Option<&'v Entry<S>> {
        let found = view.ruleset.lookup_whole(&view.sections, key);

        view.ruleset.entry(found?)
    }
}

/// Looks a packet up for [`Plan::Changed`], or with `FULL` for [`Plan::Full`]. Is right for any
/// other plan.
pub struct ChangedLookup<const FULL: bool>;

impl<const FULL: bool> Lookup for ChangedLookup<FULL> {
    const NEEDS: Needs = match FULL {
        true => Needs::ALL,
        false => Needs::DEVICE,
    };

    #[inline(always)]
    fn first_match<'v, S>(
        view: &'v View<S>,
        key: &Key,
        is_local: impl Fn(u128) -> bool,
    ) -> Option<&'v Entry<S>> {
        let found = match FULL {
            true => {
                let ends = AskedEnds::new(key, is_local);
                view.ruleset.lookup(&view.sections, key, &ends)
            }
            false => view.ruleset.lookup(&view.sections, key, NoEnds),
        };

        view.ruleset.entry(found?)
    }
}
