// SPDX-License-Identifier: GPL-2.0

//! A table compiled for all network namespaces, and brought up to date with little work.

use crate::pure::{
    alloc::{
        Arc,
        NoMemory,
        Vec, //
    },
    bitmap,
    matcher::{
        compile::Section,
        dearest::Dearest,
        delta::{
            Base,
            Delta, //
        },
        found::Order,
        limits::{
            AnyBytes,
            Limits,
            Stop, //
        },
        scope::{
            Compiled,
            Scope,
            ScopeLens, //
        },
        words::{
            Probes,
            Query, //
        },
    },
    packet::{
        ends::{
            Ends,
            NoEnds, //
        },
        header::{
            Key,
            Needs, //
        },
    },
    rule::{
        Family,
        Netns,
        NetnsId, //
    },
    table::{
        Change,
        Entry,
        Table, //
    },
};

/// The rules that hold in a scope.
#[derive(Clone, Copy)]
pub struct Sections {
    base: Section,
    added: Section,
}

impl Sections {
    /// Returns the fields of keys that the rules need, or needed a few updates ago.
    pub fn needs(&self) -> Needs {
        self.base.needs().and(self.added.needs())
    }
}

/// A namespace that rules name.
struct Named {
    id: NetnsId,
    /// Its number in the base, and among the added rules.
    base: Option<usize>,
    added: Option<usize>,
    /// How many rules name it.
    len: usize,
}

/// A table, compiled.
///
/// An update of few rules shares the base with the table before: see [`delta`](super::delta).
pub struct Ruleset<S> {
    table: Arc<Table<S>>,
    base: Arc<Base<S>>,
    delta: Delta,
    /// Ascending by cookie.
    named: Vec<Named>,
    lens: ScopeLens,
}

impl<S> Ruleset<S> {
    /// Compiles `table`. Process context, may sleep.
    pub fn compile(table: Arc<Table<S>>, limits: &dyn Limits) -> Result<Self, Stop> {
        let base = Self::base(table.clone(), limits)?;
        Ok(Self::new(table, base, Delta::none())?)
    }

    /// Compiles all rules of `table`.
    #[inline(never)]
    fn base(table: Arc<Table<S>>, limits: &dyn Limits) -> Result<Arc<Base<S>>, Stop> {
        let mut base = Base {
            table,
            compiled: Compiled::new(),
        };
        let entries = base.table.entries();
        let mut rules = Vec::with_capacity(entries.len())?;
        for (position, entry) in entries.iter().enumerate() {
            rules.push((Order::compiled(position), entry.rule()))?;
        }
        base.compiled.fill(&rules, true, limits)?;
        drop(rules);
        Ok(Arc::new(base)?)
    }

    /// Compiles `table`, an update of this one's. Process context, may sleep.
    ///
    /// Takes little time where few rules differ from the last table that was compiled as a whole, unless
    /// a deleted rule may have shadowed many: then, too, all are compiled.
    pub fn updated(&self, table: Arc<Table<S>>, limits: &dyn Limits) -> Result<Self, Stop>
    where
        S: Eq,
    {
        match self.delta.updated(&self.base, &table, limits)? {
            Some(delta) => Ok(Self::new(table, self.base.clone(), delta)?),
            None => Self::compile(table, limits),
        }
    }

    /// Compiles the table of `change`, a change of this one's, as [`Self::updated()`] does.
    ///
    /// Where rules are taken out and none is added, memory is not bounded but by what there is: rules can always
    /// be deleted, though fewer of them may take more.
    pub fn changed(&self, change: Change<S>, limits: &dyn Limits) -> Result<Self, Stop>
    where
        S: Eq,
    {
        let any_bytes = AnyBytes(limits);
        let only_removes = change.only_removes();
        let table = Arc::new(change.table)?;
        match only_removes {
            true => self.updated(table, &any_bytes),
            false => self.updated(table, limits),
        }
    }

    fn new(table: Arc<Table<S>>, base: Arc<Base<S>>, delta: Delta) -> Result<Self, NoMemory> {
        let mut named: Vec<Named> = Vec::new();
        let of_added = delta
            .added
            .iter()
            .flat_map(|added| added.compiled.named.iter());
        for rules in base.compiled.named.iter().chain(of_added) {
            let id = rules.id;
            let at = named.binary_search_by_key(&id.cookie, |named| named.id.cookie);
            if let Err(at) = at {
                named.insert(
                    at,
                    Named {
                        id,
                        base: base.compiled.number(id),
                        added: delta
                            .added
                            .as_ref()
                            .and_then(|added| added.compiled.number(id)),
                        len: 0,
                    },
                )?;
            }
        }
        let mut ruleset = Self {
            table,
            base,
            delta,
            named,
            lens: ScopeLens::default(),
        };
        ruleset.count();
        Ok(ruleset)
    }

    /// Counts the rules that hold in each scope.
    fn count(&mut self) {
        let base = &self.base.compiled;
        let added = self.delta.added.as_ref().map(|added| &added.compiled);
        let lens = added.map_or(ScopeLens::default(), |added| added.lens);
        self.lens = ScopeLens {
            every: base.lens.every.saturating_add(lens.every),
            init: base.lens.init.saturating_add(lens.init),
            not_init: base.lens.not_init.saturating_add(lens.not_init),
        };
        for named in self.named.iter_mut() {
            let of_added = added.map_or(0, |added| added.len_of(named.added));
            named.len = base.len_of(named.base).saturating_add(of_added);
        }
        // The rules of the base that do not count, or count twice.
        let entries = self.base.table.entries();
        let is_deleted = |at: &usize| bitmap::is_set(&self.delta.deleted, *at);
        let unshadowed = self.delta.unshadowed.iter().map(|at| *at as usize);
        let unshadowed = unshadowed.filter(|at| !is_deleted(at));
        for at in bitmap::numbers(&self.delta.deleted).chain(unshadowed) {
            let Some(entry) = entries.get(at) else {
                continue;
            };
            let len = match entry.rule().netns() {
                Netns::Any => Some(&mut self.lens.every),
                Netns::Init => Some(&mut self.lens.init),
                Netns::NotInit => Some(&mut self.lens.not_init),
                Netns::Only(id) => {
                    let found = self
                        .named
                        .binary_search_by_key(&id.cookie, |named| named.id.cookie);
                    let named = found.ok().and_then(|at| self.named.get_mut(at));
                    named.map(|named| &mut named.len)
                }
            };
            if let Some(len) = len {
                *len = len.saturating_sub(1);
            }
        }
        self.named.retain(|named| named.len != 0);
    }

    /// Returns the table that it was compiled from.
    pub fn table(&self) -> &Arc<Table<S>> {
        &self.table
    }

    /// Returns the namespaces that rules name, in the order of [`Scope::Named`].
    pub fn named(&self) -> impl Iterator<Item = NetnsId> + '_ {
        self.named.iter().map(|named| named.id)
    }

    /// Returns the scope of the namespace of that cookie.
    pub fn scope(&self, is_init: bool, cookie: u64) -> Scope {
        if is_init {
            return Scope::Init;
        }
        match self.named.binary_search_by_key(&cookie, |g| g.id.cookie) {
            Ok(number) => Scope::Named(number),
            Err(_) => Scope::Other,
        }
    }

    /// Returns whether a rule of `netns` holds in `scope`.
    pub fn holds_in(&self, scope: Scope, netns: Netns) -> bool {
        match netns {
            Netns::Any => true,
            Netns::Init => scope == Scope::Init,
            Netns::NotInit => scope != Scope::Init,
            Netns::Only(id) => matches!(
                scope,
                Scope::Named(number) if self.named.get(number).is_some_and(|g| g.id == id)
            ),
        }
    }

    /// Returns how many rules hold in `scope`.
    pub fn len_in(&self, scope: Scope) -> usize {
        let ScopeLens {
            every,
            init,
            not_init,
        } = self.lens;
        let (second, third) = match scope {
            Scope::Init => (init, 0),
            Scope::Other => (not_init, 0),
            Scope::Named(number) => {
                let named = self.named.get(number);
                (not_init, named.map_or(0, |named| named.len))
            }
        };
        every.saturating_add(second).saturating_add(third)
    }

    /// Returns the rules that hold in `scope`, for lookups in this ruleset.
    pub fn sections(&self, scope: Scope) -> Sections {
        let added = self.delta.added.as_ref().map(|added| {
            added
                .compiled
                .section(scope, |named| self.named.get(named)?.added)
        });
        Sections {
            base: self
                .base
                .compiled
                .section(scope, |named| self.named.get(named)?.base),
            added: added.unwrap_or_default(),
        }
    }

    /// Returns whether nothing has changed since all rules were compiled.
    pub fn is_whole(&self) -> bool {
        self.delta.is_none()
    }

    /// Returns whether all rules for IPv4 are in hash tables, where the ruleset
    /// [is whole](Self::is_whole).
    pub fn is_hashed(&self, sections: &Sections) -> bool {
        sections.base.is_hashed()
    }

    /// Returns the first rule that matches `key`, where the ruleset [is whole](Self::is_whole) and no rule
    /// says `local=`. Any context.
    #[inline(always)]
    pub fn lookup_whole(&self, sections: &Sections, key: &Key) -> Option<Order> {
        let matcher = &self.base.compiled.matcher;
        matcher.first_match(&sections.base, key, &Probes::new(key), NoEnds, &[], None)
    }

    /// Returns the first rule that matches a packet of IPv4, where the ruleset [is whole](Self::is_whole)
    /// and the rules [are hashed](Self::is_hashed). Any context.
    #[inline(always)]
    pub fn lookup_hashed(&self, sections: &Sections, key: &Key) -> Option<Order> {
        let matcher = &self.base.compiled.matcher;
        matcher.first_hashed(&sections.base, &Probes::new(key))
    }

    /// Returns the first rule of `sections` that matches `key`, whose ends are `ends`. Any context.
    #[inline]
    pub fn lookup<E: Ends + Copy>(&self, sections: &Sections, key: &Key, ends: E) -> Option<Order> {
        let matcher = &self.base.compiled.matcher;
        let probes = Probes::new(key);
        let deleted = &self.delta.deleted;
        let best = matcher.first_match(&sections.base, key, &probes, ends, deleted, None);
        match &self.delta.added {
            None => best,
            Some(added) => {
                let query = Query::new(key, &probes, true, ends, |port| port);
                let matcher = &added.compiled.matcher;
                matcher.first_match_of(&sections.added, key.family, &query, best)
            }
        }
    }

    /// Returns the rule that a lookup has found.
    #[inline(always)]
    pub fn entry(&self, order: Order) -> Option<&Entry<S>> {
        let entry = match order.position() {
            Ok(position) => self.base.table.entries().get(position)?,
            Err(number) => {
                let position = self.delta.added.as_ref()?.positions.get(number)?;
                self.table.entries().get(*position as usize)?
            }
        };
        Some(entry)
    }

    /// Returns how many bytes the trees take of all rules that were compiled as a whole.
    pub(super) fn bytes(&self) -> usize {
        self.base.compiled.matcher.bytes()
    }

    /// Returns the cost of a lookup at worst, in whatever namespace, in instructions, roughly.
    pub fn worst_cost(&self) -> usize {
        self.worst().0
    }

    /// Returns the cost of a lookup at worst, and where it costs that.
    fn worst(&self) -> (usize, Scope, Family) {
        let of = |scope: Scope, family: Family| {
            let sections = self.sections(scope);
            let added = self.delta.added.as_ref().map_or(0, |added| {
                added.compiled.matcher.worst_cost(&sections.added, family)
            });
            let base = &self.base.compiled.matcher;
            let base = base.worst_cost(&sections.base, family);
            (base.saturating_add(added), scope, family)
        };
        let named = (0..self.named.len()).map(Scope::Named);
        // Of equal ones, the last is taken.
        let scopes = named.chain([Scope::Other, Scope::Init]);
        let each = scopes.flat_map(|scope| [Family::Ipv6, Family::Ipv4].map(|f| of(scope, f)));
        let none = (0, Scope::Init, Family::Ipv4);
        each.max_by_key(|(cost, _, _)| *cost).unwrap_or(none)
    }

    /// Returns the lookup for which the table is to be refused, where one may cost `most`, and the table in
    /// force is `last`; [`None`] where it costs no more, or no more than by `last`.
    pub fn too_dear(
        &self,
        last: &Self,
        most: usize,
        limits: &dyn Limits,
    ) -> Result<Option<Dearest>, Stop> {
        match self.worst_cost() > most.max(last.worst_cost()) {
            true => self.dearest(limits).map(Some),
            false => Ok(None),
        }
    }

    /// Returns the lookup that costs most, and the rules that make it so. Process context; goes through
    /// all that was compiled, once.
    pub fn dearest(&self, limits: &dyn Limits) -> Result<Dearest, Stop> {
        let (cost, scope, family) = self.worst();
        let sections = self.sections(scope);
        let mut rows = Vec::new();
        let base = &self.base.compiled.matcher;
        base.dearest_rows(&sections.base, family, &mut rows, limits)?;
        if let Some(added) = &self.delta.added {
            let added = &added.compiled.matcher;
            added.dearest_rows(&sections.added, family, &mut rows, limits)?;
        }
        rows.retain(|(order, _)| match order.position() {
            Ok(position) => !bitmap::is_set(&self.delta.deleted, position),
            Err(_) => true,
        });
        let netns = match scope {
            Scope::Init => Netns::Init,
            Scope::Other => Netns::NotInit,
            Scope::Named(number) => {
                let named = self.named.get(number);
                named.map_or(Netns::NotInit, |named| Netns::Only(named.id))
            }
        };
        let id = |order| Some(self.entry(order)?.id());
        Ok(Dearest::new(cost, netns, family, rows, id)?)
    }
}
