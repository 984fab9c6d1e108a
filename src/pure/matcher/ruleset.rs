// SPDX-License-Identifier: GPL-2.0

//! A table compiled for all network namespaces at once.
//!
//! Rules are grouped by the namespaces that they hold in, and each group has one matcher: those for
//! every namespace are compiled once however many namespaces there are, and a namespace never looks
//! at another's rules.

use crate::pure::{
    alloc::{
        Arc,
        NoMemory,
        Vec, //
    },
    bitmap,
    matcher::{
        words::{
            Probes,
            Query, //
        },
        Matcher,
        Order,
        Section, //
    },
    packet::header::Key,
    rule::{
        Netns,
        NetnsId,
        Rule, //
    },
    sort::sort_by_key,
    table::{
        same,
        Entry,
        Table, //
    },
};

/// The rules that hold in a namespace, besides those for every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The initial namespace: `netns=init`.
    Init,
    /// Any other: `netns!=init`.
    Other,
    /// One that rules name: `netns!=init`, and the group of that number.
    Named(usize),
}

/// Some rules, compiled for all namespaces.
struct Compiled {
    matcher: Matcher,
    /// How many rules are for every namespace, for the initial one, for all others.
    lens: [usize; 3],
    /// All that hold in the initial namespace, and in one that no rule names.
    init: Section,
    other: Section,
    /// Ascending by cookie.
    named: Vec<Group>,
}

/// The rules for one namespace.
struct Group {
    id: NetnsId,
    /// How many there are.
    len: usize,
    /// All that hold there.
    section: Section,
}

impl Compiled {
    /// Compiles `rules`, ascending in order; with ports numbered anew if need be, where `ranked`.
    fn new(rules: &[(Order, &Rule)], ranked: bool) -> Result<Self, NoMemory> {
        let mut matcher = Matcher::new();
        matcher.prepare(rules.iter().map(|(_, rule)| *rule), ranked)?;
        let mut section = |netns: Netns| {
            let rules = rules.iter().filter(|(_, rule)| rule.netns() == netns);
            matcher.section(rules.copied())
        };
        let (every, init) = (section(Netns::Any)?, section(Netns::Init)?);
        let not_init = section(Netns::NotInit)?;
        // The rules for single namespaces, those of each together.
        let mut single = Vec::new();
        for (order, rule) in rules {
            if let Netns::Only(id) = rule.netns() {
                single.push((id, *order, *rule))?;
            }
        }
        sort_by_key(&mut single, |(id, order, _)| (id.cookie, *order));
        let other = matcher.joined(&[every, not_init])?;
        let mut named = Vec::new();
        for group in single.chunk_by(|(a, _, _), (b, _, _)| a == b) {
            let Some((id, _, _)) = group.first() else {
                continue;
            };
            let rules = group.iter().map(|(_, order, rule)| (*order, *rule));
            let own = matcher.section(rules)?;
            named.push(Group {
                id: *id,
                len: own.len(),
                section: matcher.joined(&[other, own])?,
            })?;
        }
        Ok(Self {
            lens: [every.len(), init.len(), not_init.len()],
            init: matcher.joined(&[every, init])?,
            other,
            named,
            matcher,
        })
    }

    /// The number of the group of rules for one namespace.
    fn number(&self, id: NetnsId) -> Option<usize> {
        let found = self
            .named
            .binary_search_by_key(&id.cookie, |group| group.id.cookie);
        found.ok()
    }

    /// The rules that hold in `scope`, where `number` is the group of a namespace that is named.
    fn section(&self, scope: Scope, number: impl FnOnce(usize) -> Option<usize>) -> &Section {
        match scope {
            Scope::Init => &self.init,
            Scope::Other => &self.other,
            Scope::Named(named) => {
                let group = number(named).and_then(|number| self.named.get(number));
                group.map_or(&self.other, |group| &group.section)
            }
        }
    }
}

/// A table, compiled: what packets are matched against until one is compiled again.
struct Base<S> {
    table: Arc<Table<S>>,
    compiled: Compiled,
}

/// What has changed since.
struct Side {
    compiled: Compiled,
    /// Where the rules stand in the table, in the order of their numbers.
    positions: Vec<u32>,
}

/// The rules that hold in a scope.
#[derive(Clone, Copy)]
pub struct Sections {
    base: Section,
    side: Section,
}

impl Sections {
    /// Whether a rule says `dev=`, or one did a few changes ago: else keys need no device.
    pub fn names_devices(&self) -> bool {
        self.base.names_devices() || self.side.names_devices()
    }
}

/// A namespace that rules name.
struct Named {
    id: NetnsId,
    /// Its group in the base, and in the side.
    base: Option<usize>,
    side: Option<usize>,
    /// How many rules name it.
    len: usize,
}

/// A table, compiled.
///
/// A change of few rules does not compile the others again: they stay in the base, which it shares
/// with the table before, those taken out are marked there, and those put in, few, are compiled by
/// themselves.
pub struct Ruleset<S> {
    table: Arc<Table<S>>,
    base: Arc<Base<S>>,
    /// A bit for each rule of the base that is not in the table any more; none: all are.
    gone: Vec<u32>,
    /// Apart, as it is large and mostly there is none.
    side: Option<Arc<Side>>,
    /// The rules of the base that are in the side too, unless they are gone themselves: one that hid
    /// them is gone, or was. Ascending.
    bared: Vec<u32>,
    /// Ascending by cookie.
    named: Vec<Named>,
    /// How many rules are for every namespace, for the initial one, for all others.
    lens: [usize; 3],
}

/// The most rules of a side.
const MAX_SIDE: usize = 255;
/// A table of no more rules is compiled whenever it changes.
const SMALL: usize = 512;
/// What part of the compiled rules may be gone.
const MUCH: usize = 4;
/// How many rows may be looked at for those that a rule which goes has hid: all, for each.
const MAX_LOOKED: usize = 1 << 21;

impl<S> Ruleset<S> {
    /// Compiles `table`. Process context, may sleep.
    pub fn compile(table: Arc<Table<S>>) -> Result<Self, NoMemory> {
        let mut rules = Vec::with_capacity(table.entries().len())?;
        for (position, entry) in table.entries().iter().enumerate() {
            rules.push((Order::compiled(position)?, entry.rule()))?;
        }
        let compiled = Compiled::new(&rules, true)?;
        drop(rules);
        let base = Arc::new(Base {
            table: table.clone(),
            compiled,
        })?;
        Self::new(table, base, Vec::new(), None, Vec::new())
    }

    /// Compiles `table`, which is this one's changed. Process context, may sleep.
    ///
    /// Takes little time where few rules differ from the last table that was compiled as a whole, unless
    /// one that goes may have hid many: then, too, all are compiled.
    pub fn updated(&self, table: Arc<Table<S>>) -> Result<Self, NoMemory>
    where
        S: Eq,
    {
        match self.changed(&table)? {
            Some((gone, side, bared)) => Self::new(table, self.base.clone(), gone, side, bared),
            None => Self::compile(table),
        }
    }

    /// What is gone, the side and what is bared of the base for `table`; `None` where that is too
    /// much.
    ///
    /// Not inlined: its frame is not to lie below those of compiling all.
    #[inline(never)]
    #[expect(clippy::type_complexity, reason = "named where it is taken apart")]
    fn changed(
        &self,
        table: &Table<S>,
    ) -> Result<Option<(Vec<u32>, Option<Arc<Side>>, Vec<u32>)>, NoMemory>
    where
        S: Eq,
    {
        let base = self.base.table.entries();
        let len = table.entries().len();
        if base.len() <= SMALL || len <= SMALL || len < base.len().saturating_sub(base.len() / MUCH)
        {
            return Ok(None);
        }
        let mut gone = Vec::new();
        let mut bared = Vec::from_slice(&self.bared)?;
        let (mut count, mut looked) = (0usize, 0usize);
        let is_little = walk(base, table.entries(), |step| {
            let Step::Gone(at) = step else {
                return Ok(true);
            };
            count = count.saturating_add(1);
            if gone.is_empty() {
                gone = bitmap::empty(base.len())?;
            }
            bitmap::set(&mut gone, at);
            // Those that it hid are known if it has been gone before.
            if !bitmap::is_set(&self.gone, at) && self.base.compiled.matcher.hides(at) {
                looked = looked.saturating_add(self.base.compiled.matcher.rows());
                if looked > MAX_LOOKED || !self.bare(at, &mut bared)? {
                    return Ok(false);
                }
            }
            Ok(count <= base.len() / MUCH)
        })?;
        if !is_little {
            return Ok(None);
        }
        let mut rules = Vec::new();
        let mut positions = Vec::new();
        let mut add = |at: usize, position: usize| {
            let Some(entry) = table.entries().get(position) else {
                return Ok(true);
            };
            let order = Order::between(at, positions.len().min(MAX_SIDE))?;
            positions.push(u32::try_from(position).map_err(|_| NoMemory)?)?;
            rules.push((order, entry.rule()))?;
            Ok(true)
        };
        let mut next = bared.iter().peekable();
        walk(base, table.entries(), |step| match step {
            Step::New { at, position } => add(at, position),
            Step::Kept { at, position, len } => {
                let end = at.saturating_add(len);
                while let Some(bare) = next.next_if(|bare| (**bare as usize) < end) {
                    // Else it is gone, and needs no baring.
                    if let Some(ahead) = (*bare as usize).checked_sub(at) {
                        add(*bare as usize, position.saturating_add(ahead))?;
                    }
                }
                Ok(true)
            }
            Step::Gone(_) => Ok(true),
        })?;
        if rules.len() > MAX_SIDE {
            return Ok(None);
        }
        let side = match rules.is_empty() {
            true => None,
            false => Some(Arc::new(Side {
                compiled: Compiled::new(&rules, false)?,
                positions,
            })?),
        };
        Ok(Some((gone, side, bared)))
    }

    /// Adds those that may be hidden by the rule at a position of the base to `bared`. Says whether
    /// they are few.
    fn bare(&self, at: usize, bared: &mut Vec<u32>) -> Result<bool, NoMemory> {
        let order = Order::compiled(at)?;
        for other in self.base.compiled.matcher.overlapping(order) {
            let Ok(at) = other.position() else { continue };
            let at = u32::try_from(at).map_err(|_| NoMemory)?;
            if let Err(place) = bared.binary_search(&at) {
                if bared.len() >= MAX_SIDE {
                    return Ok(false);
                }
                bared.insert(place, at)?;
            }
        }
        Ok(true)
    }

    fn new(
        table: Arc<Table<S>>,
        base: Arc<Base<S>>,
        gone: Vec<u32>,
        side: Option<Arc<Side>>,
        bared: Vec<u32>,
    ) -> Result<Self, NoMemory> {
        let mut named: Vec<Named> = Vec::new();
        let of_side = side.iter().flat_map(|side| side.compiled.named.iter());
        for Group { id, .. } in base.compiled.named.iter().chain(of_side) {
            let at = named.binary_search_by_key(&id.cookie, |named| named.id.cookie);
            if let Err(at) = at {
                named.insert(
                    at,
                    Named {
                        id: *id,
                        base: base.compiled.number(*id),
                        side: side.as_ref().and_then(|side| side.compiled.number(*id)),
                        len: 0,
                    },
                )?;
            }
        }
        let mut ruleset = Self {
            table,
            base,
            gone,
            side,
            bared,
            named,
            lens: [0; 3],
        };
        ruleset.count();
        Ok(ruleset)
    }

    /// Counts the rules that hold in each scope.
    fn count(&mut self) {
        let base = &self.base.compiled;
        let side = self.side.as_ref().map(|side| &side.compiled);
        let [every, init, not_init] = side.map_or([0; 3], |side| side.lens);
        let [base_every, base_init, base_not_init] = base.lens;
        self.lens = [
            base_every.saturating_add(every),
            base_init.saturating_add(init),
            base_not_init.saturating_add(not_init),
        ];
        for named in self.named.iter_mut() {
            let len = |compiled: &Compiled, number: Option<usize>| {
                let group = number.and_then(|number| compiled.named.get(number));
                group.map_or(0, |group| group.len)
            };
            let of_side = side.map_or(0, |side| len(side, named.side));
            named.len = len(base, named.base).saturating_add(of_side);
        }
        // Those that are in the base and do not count, or count twice.
        let entries = self.base.table.entries();
        let is_gone = |at: &usize| bitmap::is_set(&self.gone, *at);
        let bared = self.bared.iter().map(|at| *at as usize);
        let bared = bared.filter(|at| !is_gone(at));
        for at in bitmap::numbers(&self.gone).chain(bared) {
            let Some(entry) = entries.get(at) else {
                continue;
            };
            let [every, init, not_init] = &mut self.lens;
            let len = match entry.rule().netns() {
                Netns::Any => Some(every),
                Netns::Init => Some(init),
                Netns::NotInit => Some(not_init),
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

    /// The table that it was compiled from.
    pub fn table(&self) -> &Arc<Table<S>> {
        &self.table
    }

    /// The namespaces that rules name, in the order of [`Scope::Named`].
    pub fn named(&self) -> impl Iterator<Item = NetnsId> + '_ {
        self.named.iter().map(|named| named.id)
    }

    /// The scope of the namespace of that cookie.
    pub fn scope(&self, is_init: bool, cookie: u64) -> Scope {
        if is_init {
            return Scope::Init;
        }
        match self.named.binary_search_by_key(&cookie, |g| g.id.cookie) {
            Ok(group) => Scope::Named(group),
            Err(_) => Scope::Other,
        }
    }

    /// Whether a rule of `netns` holds in `scope`.
    pub fn holds_in(&self, scope: Scope, netns: Netns) -> bool {
        match netns {
            Netns::Any => true,
            Netns::Init => scope == Scope::Init,
            Netns::NotInit => scope != Scope::Init,
            Netns::Only(id) => matches!(
                scope,
                Scope::Named(group) if self.named.get(group).is_some_and(|g| g.id == id)
            ),
        }
    }

    /// How many rules hold in `scope`.
    pub fn len_in(&self, scope: Scope) -> usize {
        let [every, init, not_init] = self.lens;
        let (second, third) = match scope {
            Scope::Init => (init, 0),
            Scope::Other => (not_init, 0),
            Scope::Named(group) => (not_init, self.named.get(group).map_or(0, |named| named.len)),
        };
        every.saturating_add(second).saturating_add(third)
    }

    /// The rules that hold in `scope`, for [`lookup`](Self::lookup) in this.
    pub fn sections(&self, scope: Scope) -> Sections {
        let base = &self.base.compiled;
        let side = self.side.as_ref().map(|side| {
            let compiled = &side.compiled;
            *compiled.section(scope, |named| self.named.get(named)?.side)
        });
        Sections {
            base: *base.section(scope, |named| self.named.get(named)?.base),
            side: side.unwrap_or_default(),
        }
    }

    /// Whether nothing has changed since all was compiled: [`lookup_whole`](Self::lookup_whole) finds
    /// what [`lookup`](Self::lookup) does.
    pub fn is_whole(&self) -> bool {
        self.gone.is_empty() && self.side.is_none()
    }

    /// The first of the rules of `sections` that matches `key`, where nothing has changed since all
    /// was compiled.
    ///
    /// Any context.
    #[inline(always)]
    pub fn lookup_whole(&self, sections: &Sections, key: &Key) -> Option<Order> {
        let matcher = &self.base.compiled.matcher;
        matcher.first_match(&sections.base, key, &Probes::new(key), &[], None)
    }

    /// Whether IPv4 packets need no more than [`lookup_hashed`](Self::lookup_hashed), where nothing has
    /// changed since all was compiled.
    pub fn is_hashed(&self, sections: &Sections) -> bool {
        self.base.compiled.matcher.is_hashed(&sections.base)
    }

    /// As [`lookup_whole`](Self::lookup_whole), of an IPv4 packet by rules that
    /// [are hashed](Self::is_hashed).
    ///
    /// Any context.
    #[inline(always)]
    pub fn lookup_hashed(&self, sections: &Sections, key: &Key) -> Option<Order> {
        let matcher = &self.base.compiled.matcher;
        matcher.first_hashed(&sections.base, &Probes::new(key))
    }

    /// The first of the rules of `sections` that matches `key`.
    ///
    /// Any context.
    #[inline]
    pub fn lookup(&self, sections: &Sections, key: &Key) -> Option<Order> {
        let matcher = &self.base.compiled.matcher;
        let probes = Probes::new(key);
        let best = matcher.first_match(&sections.base, key, &probes, &self.gone, None);
        match &self.side {
            None => best,
            Some(side) => {
                let query = Query::new(key, &probes, true, |port| port);
                let matcher = &side.compiled.matcher;
                matcher.first_match_of(&sections.side, key.family, &query, best)
            }
        }
    }

    /// The rule that [`lookup`](Self::lookup) gave.
    #[inline(always)]
    pub fn entry(&self, order: Order) -> Option<&Entry<S>> {
        let entry = match order.position() {
            Ok(position) => self.base.table.entries().get(position)?,
            Err(number) => {
                let position = self.side.as_ref()?.positions.get(number)?;
                self.table.entries().get(*position as usize)?
            }
        };
        Some(entry)
    }

    /// What looking a packet up takes at worst, in whatever namespace, in instructions, roughly.
    pub fn worst(&self) -> usize {
        let of = |scope: Scope| {
            let sections = self.sections(scope);
            let side = self
                .side
                .as_ref()
                .map_or(0, |side| side.compiled.matcher.worst(&sections.side));
            let base = self.base.compiled.matcher.worst(&sections.base);
            base.saturating_add(side)
        };
        let named = (0..self.named.len()).map(Scope::Named);
        let scopes = [Scope::Init, Scope::Other].into_iter().chain(named);
        scopes.map(of).max().unwrap_or(0)
    }
}

/// How a table differs from the one that was compiled.
enum Step {
    /// The `len` rules from `at` on of the compiled one are those from `position` on.
    Kept {
        at: usize,
        position: usize,
        len: usize,
    },
    /// The rule at that place of the compiled one is not there.
    Gone(usize),
    /// The rule at `position` is new, ahead of the one at `at` of the compiled one.
    New { at: usize, position: usize },
}

/// How far to look for a rule that is not where it is expected.
const LOOK_AHEAD: usize = 256;

/// Compares two tables until `with` says no. Gives whether that was done to the end: `false` where
/// they differ too much.
fn walk<S: Eq>(
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
        let mut ahead = rest.iter().take(LOOK_AHEAD);
        match ahead.position(|other| same((other, entry))) {
            Some(ahead) => {
                for _ in 0..ahead {
                    if !with(Step::Gone(at))? {
                        return Ok(false);
                    }
                    at = at.saturating_add(1);
                }
            }
            None => {
                added = added.saturating_add(1);
                if added > MAX_SIDE || !with(Step::New { at, position })? {
                    return Ok(false);
                }
                position = position.saturating_add(1);
            }
        }
    }
    for gone in at..old.len() {
        if !with(Step::Gone(gone))? {
            return Ok(false);
        }
    }
    Ok(true)
}
