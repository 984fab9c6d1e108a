// SPDX-License-Identifier: GPL-2.0

//! Rules compiled for all network namespaces at once.
//!
//! Rules are grouped by the namespaces that they hold in. The rules for every namespace are compiled
//! once, however many namespaces there are, and no namespace looks at another's rules.

use crate::pure::{
    alloc::Vec,
    matcher::{
        compile::{
            Matcher,
            Section, //
        },
        found::Order,
        limits::{
            Limits,
            Stop, //
        },
    },
    rule::{
        Netns,
        NetnsId,
        Rule, //
    },
    sort::sort_by_key, //
};

/// The rules that hold in a namespace, besides the rules for every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The initial namespace: `netns=init`.
    Init,
    /// Any other: `netns!=init`.
    Other,
    /// One that rules name: `netns!=init`, and the rules for the namespace of that number in
    /// [`Ruleset::named`](super::ruleset::Ruleset::named).
    Named(usize),
}

/// Some rules, compiled for all namespaces.
pub(super) struct Compiled {
    /// The matcher.
    pub(super) matcher: Matcher,
    /// The numbers of rules.
    pub(super) lens: ScopeLens,
    /// The rules that hold in the initial namespace, and in one that no rule names.
    init: Section,
    other: Section,
    /// Ascending by cookie.
    pub(super) named: Vec<NetnsRules>,
}

/// The numbers of rules for every namespace, for the initial one, and for all others.
#[derive(Clone, Copy, Default)]
pub(super) struct ScopeLens {
    pub(super) every: usize,
    pub(super) init: usize,
    pub(super) not_init: usize,
}

/// The rules for one namespace.
pub(super) struct NetnsRules {
    pub(super) id: NetnsId,
    /// How many there are.
    pub(super) len: usize,
    /// All rules that hold there.
    section: Section,
}

/// Compiles the rules that are for single namespaces, namespace by namespace. `other` are those that hold
/// in all of these.
#[inline(never)]
fn named(
    matcher: &mut Matcher,
    rules: &[(Order, &Rule)],
    other: Section,
    limits: &dyn Limits,
) -> Result<Vec<NetnsRules>, Stop> {
    let mut single = Vec::new();
    for (order, rule) in rules {
        if let Netns::Only(id) = rule.netns() {
            single.push((id, *order, *rule))?;
        }
    }
    sort_by_key(&mut single, |(id, order, _)| (id.cookie, *order));
    let mut named = Vec::new();
    for group in single.chunk_by(|(a, _, _), (b, _, _)| a == b) {
        let Some((id, _, _)) = group.first() else {
            continue;
        };
        let rules = group.iter().map(|(_, order, rule)| (*order, *rule));
        let own = matcher.section(rules, limits)?;
        named.push(NetnsRules {
            id: *id,
            len: own.len(),
            section: matcher.joined(&[other, own])?,
        })?;
    }
    Ok(named)
}

impl Compiled {
    /// Returns no rules, for [`fill`](Self::fill).
    pub(super) fn new() -> Self {
        Self {
            matcher: Matcher::new(),
            lens: ScopeLens::default(),
            init: Section::default(),
            other: Section::default(),
            named: Vec::new(),
        }
    }

    /// Compiles `rules`, ascending in order; `ranked` says that their ports may be ranked. Process
    /// context.
    ///
    /// They are compiled where they stay, as what comes of it is large.
    #[inline(never)]
    pub(super) fn fill(
        &mut self,
        rules: &[(Order, &Rule)],
        ranked: bool,
        limits: &dyn Limits,
    ) -> Result<(), Stop> {
        let matcher = &mut self.matcher;
        matcher.reserve(rules.iter().map(|(_, rule)| *rule), ranked)?;
        let mut section = |netns: Netns| {
            let rules = rules.iter().filter(|(_, rule)| rule.netns() == netns);
            matcher.section(rules.copied(), limits)
        };
        let (every, init) = (section(Netns::Any)?, section(Netns::Init)?);
        let not_init = section(Netns::NotInit)?;
        self.lens = ScopeLens {
            every: every.len(),
            init: init.len(),
            not_init: not_init.len(),
        };
        self.other = matcher.joined(&[every, not_init])?;
        self.named = named(matcher, rules, self.other, limits)?;
        self.init = matcher.joined(&[every, init])?;
        Ok(())
    }

    /// Returns the number of the rules for one namespace.
    pub(super) fn number(&self, id: NetnsId) -> Option<usize> {
        let found = self
            .named
            .binary_search_by_key(&id.cookie, |rules| rules.id.cookie);
        found.ok()
    }

    /// Returns the number of rules for a namespace that has that number here.
    pub(super) fn len_of(&self, number: Option<usize>) -> usize {
        let rules = number.and_then(|number| self.named.get(number));
        rules.map_or(0, |rules| rules.len)
    }

    /// Returns the rules that hold in `scope`. `number` gives the number here of the namespace of a number
    /// in [`Scope::Named`].
    pub(super) fn section(
        &self,
        scope: Scope,
        number: impl FnOnce(usize) -> Option<usize>,
    ) -> Section {
        *match scope {
            Scope::Init => &self.init,
            Scope::Other => &self.other,
            Scope::Named(named) => {
                let rules = number(named).and_then(|number| self.named.get(number));
                rules.map_or(&self.other, |rules| &rules.section)
            }
        }
    }
}
