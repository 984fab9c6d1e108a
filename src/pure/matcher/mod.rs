// SPDX-License-Identifier: GPL-2.0

//! Finds the first of some rules that matches a key.
//!
//! Each rule is compiled into rows, which a packet is compared with in full ([`row`](row)).
//! Which rows to compare is told in one of two ways, or both:
//!
//! - Where nearly all rules for IPv4 say the same kinds of bits, by hash tables
//!   ([`tuple`](hash)). A rule is in one of them once; a packet is looked up in both directions.
//! - Else, and for what is left, by decision trees ([`tree`](tree)), one for each group of rules
//!   that say the same kind of bits ([`group`](group)). A rule that matches both directions is
//!   in the trees twice, once as written and once exchanged, so that a packet is looked up once.
//!
//! Each table and tree knows the first of its rules, and is passed over once a rule ahead of that has
//! matched.
//!
//! One matcher holds the rules of all network namespaces; a [`Section`] is those of one group of
//! namespaces.
//!
//! # What was chosen, and against what
//!
//! Instructions a packet for match and miss of 65,536 rules, both directions, and bytes a rule with its
//! counters for two CPUs, by `make bench`. `exact` is (source, destination port), `acl` as ClassBench's
//! acl1.
//!
//! | | exact | acl | bytes: exact, acl |
//! |---|---:|---:|---:|
//! | this | 369 / 183 | 1,311 / 893 | 128, 259 |
//! | trees only | 502 / 362 | the same | 3 fewer, the same |
//! | trees only, one group of all long prefixes | | 3,196 / 354 | |
//! | one hash table, exact, in C | 270 / 166 | | 48 |
//! | nft's hash set; pipapo (16,384 rules) | 1,196 / 1,063 | 5,932 / 5,710 | 88 |
//!
//! - Rules one by one: 10 to 20 instructions each, so it stays for a few rules only
//!   ([`few`](linear)).
//! - Hash tables as far as they go and trees for the rest, for `acl`: a fifth dearer than trees only, as
//!   packets pass both. So there are tables only where next to nothing is left.
//! - Six hash tables with relaxed masks, as of TupleMerge, and binary trees for what shares a place
//!   (counted by callgrind, without the hook): 276 / 161 for `exact`, but 1,711 for `acl`, as five to six
//!   trees of 18 instructions a node are passed; and choosing tables took seconds for rules with lists.
//! - Groups chosen by how many rules say their bits: of popular sources, thousands of rules shared a
//!   cell. Now what counts is how few share one, and pairs of prefixes are tried.
//! - Memory for trees ([`tree`](tree)): 8, 16 or 32 words an item change the mean by a tenth,
//!   and the slowest packet by half.
//! - Memory and time for the parts of a tree as they come: those at the side left none for the one with
//!   most rules, and 4,096 nested prefixes of IPv6 were one list, at half a million instructions. Now
//!   each has its share ([`tree`](tree)). What no group takes is divided by direction where that
//!   is twice as good, so that all rules of a tree say the same port: then such a table costs 970.
//! - Rows of lists, IPv6 addresses, marks or devices without a look at six bits of each value first
//!   ([`filter`](filter)): 14,688 / 15,021 for 4,096 rules with lists of 16, 8 and 8, now
//!   6,207 / 5,995.
//! - Ports are ranked where rules name ranges: without, ranges that nest at odd ends made leaves of
//!   thousands of rows.
//!
//! What `acl` cost beyond a hash table when it was 1,178 / 952: four to five groups of 25 instructions
//! each, 13 nodes of 17, 12 to 15 rows of 20, which other rules of the same prefixes have left in the
//! way.

mod filter;
mod group;
mod hash;
pub mod linear;
#[cfg(not(MODULE))]
pub mod oracle;
pub mod plan;
mod row;
pub mod ruleset;
mod tree;
mod words;

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    bitmap,
    matcher::{
        hash::{
            Said,
            Tuple,
            MAX_TUPLES, //
        },
        row::{
            Part,
            RowId,
            Rows,
            ALL,
            NONE, //
        },
        tree::{
            Builder,
            Cell,
            Cost,
            Extent,
            Item,
            Source,
            Tree,
            Trees, //
        },
        words::{
            Class,
            Probe,
            Probes,
            Query, //
        },
    },
    packet::header::Key,
    rule::{
        answering_type,
        Family,
        Rule, //
    },
};

/// The place of a rule in the order of rules: the lower one decides.
///
/// Its upper part says behind how many rules of a compiled table it stands, its lower part tells the
/// rules that were put between two of these apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u32);

impl Order {
    const LOWER_BITS: u32 = 9;
    const LOWER: u32 = (1 << Self::LOWER_BITS) - 1;
    /// How many rules may be put between.
    const MAX_BETWEEN: usize = Self::LOWER as usize;

    /// The rule at a position of the compiled table.
    fn compiled(position: usize) -> Result<Self, NoMemory> {
        Self::between(position, Self::MAX_BETWEEN)
    }

    /// The rule of that number between, ahead of the one at `position` of the compiled table.
    fn between(position: usize, number: usize) -> Result<Self, NoMemory> {
        let upper = u32::try_from(position).map_err(|_| NoMemory)?;
        let lower = u32::try_from(number).map_err(|_| NoMemory)?;
        match upper.checked_mul(Self::LOWER.wrapping_add(1)) {
            Some(upper) if lower <= Self::LOWER => Ok(Self(upper | lower)),
            _ => Err(NoMemory),
        }
    }

    /// The position in the compiled table, or the number between.
    #[inline(always)]
    fn position(self) -> Result<usize, usize> {
        match self.0 & Self::LOWER {
            Self::LOWER => Ok((self.0 >> Self::LOWER_BITS) as usize),
            number => Err(number as usize),
        }
    }

    fn rule(order: u32) -> u32 {
        order >> Self::LOWER_BITS
    }
}

/// A part of [`Matcher::tuples`], or of [`Matcher::groups`] for one family: what is of a section.
#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(start: usize, end: usize) -> Result<Self, NoMemory> {
        Ok(Self {
            start: u32::try_from(start).map_err(|_| NoMemory)?,
            end: u32::try_from(end).map_err(|_| NoMemory)?,
        })
    }

    fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn in_array<T>(self, array: &[T]) -> &[T] {
        array
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Some rules of a matcher.
#[derive(Clone, Copy, Default)]
pub struct Section {
    tuples: Span,
    ipv4: Span,
    ipv6: Span,
    len: u32,
    names_devices: bool,
}

impl Section {
    /// Whether a rule says `dev=`: else keys need no device.
    fn names_devices(&self) -> bool {
        self.names_devices
    }

    /// The number of rules.
    fn len(&self) -> usize {
        self.len as usize
    }
}

/// A tree of some rules.
#[derive(Clone, Copy)]
struct Group {
    /// The order of the first of them.
    first: u32,
    root: Cell,
    /// What searching it takes at worst.
    worst: u32,
}

impl Group {
    /// That of the items of these numbers.
    fn of(builder: &Builder<'_>, numbers: &[u32], tree: &Tree) -> Self {
        Self {
            first: builder.first_order(numbers),
            root: tree.root,
            worst: tree.worst,
        }
    }

    fn first(&self) -> u32 {
        self.first
    }
}

/// Compiled rules.
pub struct Matcher {
    rows: Rows,
    trees: Trees,
    tuples: Vec<Tuple>,
    groups: Vec<Group>,
    /// What stands for each port in words; none: itself.
    ranks: Vec<u16>,
    names_devices: bool,
    /// Whether all rows are single.
    is_single: bool,
}

/// How many rules must name ranges of ports for these to be ranked.
const RANGES: usize = 8;
/// The most groups of a section; the last one may have a tree for each direction.
const MAX_GROUPS: usize = 12;
/// The part of the rules for IPv4, each counted as often as it has rows, that may be left by hash
/// tables, or else there are none.
const FEW_LEFT_OF_TUPLES: usize = 32;
/// The part of the rules that may be left for a tree of those that no group takes.
const FEW_LEFT: usize = 8;
/// What such a tree may cost on the average, so that no more groups are made of its rules.
const GOOD_COST: Cost = 160;
/// How many items that are left may be divided by their direction.
const MANY_LEFT: usize = 64;
/// What a lookup takes beside the trees, in instructions, roughly.
const LOOKUP_COST: usize = 40;
/// What a tree takes beside its nodes and rows.
const GROUP_COST: usize = 16;

impl Matcher {
    /// An empty one.
    fn new() -> Self {
        Self {
            rows: Rows::new(),
            trees: Trees::new(),
            tuples: Vec::new(),
            groups: Vec::new(),
            ranks: Vec::new(),
            is_single: true,
            names_devices: false,
        }
    }

    /// Makes room in an empty one for these rules; `ranked` says that ports may be numbered anew.
    /// Process context, as all that fills it.
    fn prepare<'r>(
        &mut self,
        rules: impl Iterator<Item = &'r Rule> + Clone,
        ranked: bool,
    ) -> Result<(), NoMemory> {
        self.names_devices = rules.clone().any(names_devices);
        let count = rules.clone().count();
        self.rows.reserve(count)?;
        self.trees.reserve(count)?;
        if ranked {
            self.rank(rules)?;
        }
        Ok(())
    }

    /// Numbers the ports anew, so that ports that no rule tells apart have the same number: rules'
    /// ranges then end where bits of it do, mostly.
    fn rank<'r>(&mut self, rules: impl Iterator<Item = &'r Rule> + Clone) -> Result<(), NoMemory> {
        let mut wide = 0usize;
        for rule in rules.clone() {
            each_port_range(rule, |first, last| {
                wide = wide.saturating_add(usize::from(first < last))
            });
        }
        if wide < RANGES {
            return Ok(());
        }
        const PORTS: usize = 1 << 16;
        self.ranks.reserve(PORTS)?;
        for _ in 0..PORTS {
            self.ranks.push(0)?;
        }
        for rule in rules {
            each_port_range(rule, |first, last| {
                for start in [Some(first), last.checked_add(1)].into_iter().flatten() {
                    if let Some(starts) = self.ranks.get_mut(usize::from(start)) {
                        *starts = 1;
                    }
                }
            });
        }
        let mut rank = 0u16;
        for (port, place) in self.ranks.iter_mut().enumerate() {
            if port != 0 {
                rank = rank.wrapping_add(*place);
            }
            *place = rank;
        }
        Ok(())
    }

    #[inline(always)]
    fn rank_of(&self, port: u16) -> u16 {
        self.ranks.get(usize::from(port)).copied().unwrap_or(port)
    }

    /// Compiles a section. Its rules ascend in order; those of other sections may lie between them.
    fn section<'r>(
        &mut self,
        rules: impl Iterator<Item = (Order, &'r Rule)> + Clone,
    ) -> Result<Section, NoMemory> {
        let from = self.rows.singles();
        let mut rows = Vec::new();
        for (order, rule) in rules.clone() {
            rows.push(self.rows.push(order.0, rule)?)?;
        }
        let rules = rules.map(|(_, rule)| rule).zip(rows.iter().copied());
        let (tuples, placed) = self.tuples_of(rules.clone(), from)?;
        let is_placed = |row: RowId| {
            let number = row.index().wrapping_sub(from);
            !row.is_lists() && bitmap::is_set(&placed, number)
        };
        let section = Section {
            tuples,
            ipv4: self.trees_of(Family::Ipv4, rules.clone(), is_placed)?,
            ipv6: self.trees_of(Family::Ipv6, rules.clone(), |_| false)?,
            len: u32::try_from(rows.len()).map_err(|_| NoMemory)?,
            names_devices: rules.map(|(rule, _)| rule).any(names_devices),
        };
        self.is_single = self.rows.are_single();
        Ok(section)
    }

    /// The hash tables of a section, and which of its single rows are in them, counted from row `from`.
    fn tuples_of<'r>(
        &mut self,
        rules: impl Iterator<Item = (&'r Rule, RowId)>,
        from: usize,
    ) -> Result<(Span, Vec<u32>), NoMemory> {
        let mut said = Vec::new();
        let mut lists = 0usize;
        for (rule, first) in rules {
            if rule.family() == Some(Family::Ipv6) {
                continue;
            }
            match first.is_lists() {
                true => lists = lists.saturating_add(1),
                false => {
                    row::each_part(first, rule, |row, part, _| said.push(Said::new(part, row)))?
                }
            }
        }
        let mut placed = bitmap::empty(self.rows.singles().saturating_sub(from))?;
        let start = self.tuples.len();
        let extent = self.trees.extent();
        let of = said.len().saturating_add(lists);
        let mut count = 0usize;
        for _ in 0..MAX_TUPLES {
            let rows = &self.rows;
            let tuple = hash::split(
                &mut said,
                of,
                &mut self.trees,
                |row| rows.order(row),
                |row| {
                    count = count.saturating_add(1);
                    bitmap::set(&mut placed, row.index().wrapping_sub(from));
                },
            )?;
            match tuple {
                Some(tuple) => self.tuples.push(tuple)?,
                None => break,
            }
        }
        // Else trees cost as much with as without.
        if of.saturating_sub(count) > of / FEW_LEFT_OF_TUPLES {
            self.trees.undo(extent);
            self.tuples.truncate(start);
            return Ok((Span::default(), Vec::new()));
        }
        Ok((span_from(&mut self.tuples, start, Tuple::first)?, placed))
    }

    /// The trees of a section for one family, without the rows that are placed elsewhere.
    #[inline(never)]
    fn trees_of<'r>(
        &mut self,
        family: Family,
        rules: impl Iterator<Item = (&'r Rule, RowId)>,
        is_placed: impl Fn(RowId) -> bool,
    ) -> Result<Span, NoMemory> {
        let mut items = Vec::new();
        for (rule, first) in rules {
            if rule.family().is_some_and(|own| own != family) {
                continue;
            }
            let class = Class::of_rule(rule);
            row::each_part(first, rule, |row, part, exact| {
                if is_placed(row) {
                    return Ok(());
                }
                let of = |exchanged| (family, class, row, exchanged, exact);
                push_item(&mut items, &self.ranks, rule, part, of(false))?;
                push_item(&mut items, &self.ranks, rule, part, of(true))
            })?;
        }
        if items.is_empty() {
            return Ok(Span::default());
        }
        self.groups_of_items(family, &items)
    }

    #[inline(never)]
    fn groups_of_items(&mut self, family: Family, items: &[Item]) -> Result<Span, NoMemory> {
        let start = self.groups.len();
        let mut numbers = Vec::with_capacity(items.len())?;
        for number in 0..u32::try_from(items.len()).map_err(|_| NoMemory)? {
            numbers.push(number)?;
        }
        let ports = self
            .ranks
            .last()
            .map_or(1 << 16, |last| u32::from(*last).wrapping_add(1));
        let mut builder = Builder::new(
            family,
            &self.rows,
            items,
            &mut self.trees,
            Order::rule,
            ports,
        );
        for made in 1..=MAX_GROUPS {
            if numbers.is_empty() {
                break;
            }
            let may_be_last = numbers.len() <= items.len() / FEW_LEFT;
            let extent = builder.trees().extent();
            let mut tree = None;
            if made == MAX_GROUPS || may_be_last {
                tree = Some(builder.tree(&numbers)?);
            }
            let is_good = tree.as_ref().is_some_and(|tree| tree.mean <= GOOD_COST);
            let mut group = None;
            if made < MAX_GROUPS && !is_good {
                group = group::split(family, items, &mut numbers)?;
                if group.is_some() && tree.take().is_some() {
                    builder.trees().undo(extent);
                }
            }
            let Some(group) = group else {
                push_last(&mut self.groups, &mut builder, &numbers, extent, tree)?;
                break;
            };
            let tree = builder.tree(&group)?;
            self.groups.push(Group::of(&builder, &group, &tree))?;
        }
        span_from(&mut self.groups, start, Group::first)
    }

    /// Whether taking the rule at `position` of the compiled table out may bring others to light.
    fn hides(&self, position: usize) -> bool {
        u32::try_from(position).is_ok_and(|position| self.trees.hides(position))
    }

    /// How many rows there are to look at for [`overlapping`](Self::overlapping).
    fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The rules behind `order` that may match a packet which that one matches.
    fn overlapping(&self, order: Order) -> impl Iterator<Item = Order> + '_ {
        self.rows.overlapping(order.0).map(Order)
    }

    /// One section of the rules of several.
    fn joined(&mut self, sections: &[Section]) -> Result<Section, NoMemory> {
        let of = |span: fn(&Section) -> Span| sections.iter().map(span);
        let groups = &mut self.groups;
        Ok(Section {
            tuples: join(&mut self.tuples, of(|section| section.tuples), Tuple::first)?,
            ipv4: join(groups, of(|section| section.ipv4), Group::first)?,
            ipv6: join(groups, of(|section| section.ipv6), Group::first)?,
            len: sections
                .iter()
                .fold(0u32, |sum, section| sum.saturating_add(section.len)),
            names_devices: sections.iter().any(Section::names_devices),
        })
    }

    /// What looking a packet up in a section takes at worst, in instructions, roughly.
    fn worst(&self, section: &Section) -> usize {
        let tuples = section.tuples.in_array(&self.tuples).iter();
        let tuples = tuples.fold(LOOKUP_COST, |sum, tuple| {
            sum.saturating_add(tuple.worst() as usize)
        });
        let of = |span: Span| {
            span.in_array(&self.groups)
                .iter()
                .fold(0usize, |sum, group| {
                    sum.saturating_add(group.worst as usize)
                        .saturating_add(GROUP_COST)
                })
        };
        of(section.ipv4)
            .saturating_add(tuples)
            .max(of(section.ipv6))
    }

    /// The first rule of a section that matches `key`, if it is ahead of `best`; else `best`. Those
    /// `gone` says have been taken out since it was compiled do not count: a bit for each position.
    ///
    /// Any context.
    #[inline(always)]
    fn first_match(
        &self,
        section: &Section,
        key: &Key,
        probes: &Probes,
        gone: &[u32],
        best: Option<Order>,
    ) -> Option<Order> {
        let found = Found::new(gone, best);
        let (mut found, groups) = match key.family {
            Family::Ipv4 => (self.search_tuples(section, probes, found), section.ipv4),
            Family::Ipv6 => (found, section.ipv6),
        };
        if groups.is_empty() {
            return found.order();
        }
        let groups = groups.in_array(&self.groups);
        let query = Query::new(key, probes, self.names_devices, |port| self.rank_of(port));
        found.best = self.search_trees(groups, &query, gone, found.best);
        found.order()
    }

    /// Whether [`first_hashed`](Self::first_hashed) finds what [`first_match`](Self::first_match) does.
    fn is_hashed(&self, section: &Section) -> bool {
        section.ipv4.is_empty()
    }

    /// The first rule of a section's hash tables that matches an IPv4 packet.
    #[inline(always)]
    fn first_hashed(&self, section: &Section, probes: &Probes) -> Option<Order> {
        let found = Found::new(&[], None);
        self.search_tuples(section, probes, found).order()
    }

    /// As [`first_match`](Self::first_match) of what was prepared for a matcher with the same ranks,
    /// where none have been taken out.
    #[inline(always)]
    fn first_match_of(
        &self,
        section: &Section,
        family: Family,
        query: &Query<'_>,
        best: Option<Order>,
    ) -> Option<Order> {
        let found = Found::new(&[], best);
        let (mut found, groups) = match family {
            Family::Ipv4 => (
                self.search_tuples(section, query.probes, found),
                section.ipv4,
            ),
            Family::Ipv6 => (found, section.ipv6),
        };
        let groups = groups.in_array(&self.groups);
        found.best = self.search_trees(groups, query, &[], found.best);
        found.order()
    }

    #[inline(always)]
    fn search_tuples<'m>(
        &'m self,
        section: &Section,
        probes: &Probes,
        mut found: Found<'m>,
    ) -> Found<'m> {
        let gone = found.gone;
        for tuple in section.tuples.in_array(&self.tuples) {
            if tuple.first() >= found.best {
                break;
            }
            let [written, exchanged] = &probes.both;
            let cells = [
                tuple.cell(&self.trees, written),
                tuple.cell(&self.trees, exchanged),
            ];
            if cells == [Cell::EMPTY; 2] {
                continue;
            }
            let [as_written, as_exchanged] = cells;
            found.best = self.best_of(tuple, as_written, written, gone, found.best);
            found.best = self.best_of(tuple, as_exchanged, exchanged, gone, found.best);
        }
        found
    }

    /// The lowest order of the rows in a cell of a hash table that match, if it is below `best`.
    #[inline(always)]
    fn best_of(&self, tuple: &Tuple, cell: Cell, probe: &Probe, gone: &[u32], best: u32) -> u32 {
        if cell == Cell::EMPTY {
            return best;
        }
        if !cell.is_bare() {
            return self.best_of_more(tuple, cell, *probe, gone, best);
        }
        let mut found = Found { gone, best };
        found.take(self.rows.compare_bare(cell.0, probe, tuple.bits()));
        found.best
    }

    /// The same of a list, or a row that says more. Not inlined, so that packets that meet none need
    /// few registers.
    #[inline(never)]
    fn best_of_more(
        &self,
        tuple: &Tuple,
        cell: Cell,
        probe: Probe,
        gone: &[u32],
        best: u32,
    ) -> u32 {
        let mut found = Found { gone, best };
        let compare = |row: Cell| self.rows.compare_in(row.0, &probe, tuple.bits());
        match self.trees.list(cell) {
            None => {
                found.take(compare(cell));
            }
            Some(list) => found.look_at(list, compare),
        }
        found.best
    }

    /// The lowest order of the rows in trees that match, if it is below `best`.
    #[inline(always)]
    fn search_trees(&self, groups: &[Group], query: &Query<'_>, gone: &[u32], best: u32) -> u32 {
        match self.is_single {
            true => self.search_trees_of::<true>(groups, query, gone, best),
            false => self.search_trees_of::<false>(groups, query, gone, best),
        }
    }

    /// Not inlined: it needs all registers. `SINGLE`: all rows are single, and comparing one is no call.
    #[inline(never)]
    fn search_trees_of<const SINGLE: bool>(
        &self,
        groups: &[Group],
        query: &Query<'_>,
        gone: &[u32],
        best: u32,
    ) -> u32 {
        let mut found = Found { gone, best };
        for group in groups {
            if group.first >= found.best {
                break;
            }
            let cell = self.trees.descend(group.root, &query.words);
            if cell == Cell::EMPTY {
                continue;
            }
            match self.trees.list(cell) {
                None => {
                    found.take(self.rows.compare::<SINGLE>(cell.0, query));
                }
                Some(list) => {
                    found.look_at(list, |row| self.rows.compare::<SINGLE>(row.0, query));
                }
            }
        }
        found.best
    }
}

/// What has been found of the rules of a matcher.
struct Found<'m> {
    /// A bit for each position of a rule that has been taken out.
    gone: &'m [u32],
    /// The lowest order of those that match.
    best: u32,
}

impl<'m> Found<'m> {
    #[inline(always)]
    fn new(gone: &'m [u32], best: Option<Order>) -> Self {
        Self {
            gone,
            best: best.map_or(NONE, |best| best.0),
        }
    }

    /// Takes the order of a row that matches, or [`NONE`], if it is lower and has not been taken out;
    /// says whether.
    #[inline(always)]
    fn take(&mut self, order: u32) -> bool {
        let is_better =
            order < self.best && !bitmap::is_set(self.gone, Order::rule(order) as usize);
        if is_better {
            self.best = order;
        }
        is_better
    }

    /// Takes the first one of a list's rows, which ascend, that can be taken.
    #[inline(always)]
    fn look_at(&mut self, list: &[Cell], compare: impl Fn(Cell) -> u32) {
        for row in list {
            if self.take(compare(*row)) || row.0 & Cell::LAST != 0 {
                return;
            }
        }
    }

    #[inline(always)]
    fn order(&self) -> Option<Order> {
        match self.best {
            NONE => None,
            best => Some(Order(best)),
        }
    }
}

/// Appends the group of all items that are left, or one for each direction where that is better. `tree`
/// is what was made of them, if there is one, when there were `extent` trees before.
#[inline(never)]
fn push_last(
    groups: &mut Vec<Group>,
    builder: &mut Builder<'_>,
    numbers: &[u32],
    extent: Extent,
    tree: Option<Tree>,
) -> Result<(), NoMemory> {
    let tree = match tree {
        Some(tree) => tree,
        None => builder.tree(numbers)?,
    };
    if tree.mean > GOOD_COST && numbers.len() >= MANY_LEFT {
        let mut directions = [Vec::new(), Vec::new()];
        for number in numbers {
            let direction = usize::from(builder.is_exchanged(*number));
            if let Some(own) = directions.get_mut(direction) {
                own.push(*number)?;
            }
        }
        if directions.iter().any(|own| own.is_empty()) {
            return groups.push(Group::of(builder, numbers, &tree));
        }
        let with = builder.trees().extent();
        let (mut worst, mut mean): (Cost, Cost) = (0, 0);
        for own in &directions {
            let tree = builder.tree(own)?;
            worst = worst.saturating_add(tree.worst);
            mean = mean.saturating_add(tree.mean);
        }
        builder.trees().undo(with);
        // All packets that match nothing pass both.
        if mean < tree.mean / 2 && worst < tree.worst / 2 {
            builder.trees().undo(extent);
            for own in &directions {
                let tree = builder.tree(own)?;
                groups.push(Group::of(builder, own, &tree))?;
            }
            return Ok(());
        }
    }
    groups.push(Group::of(builder, numbers, &tree))
}

/// Copies parts of an array to its end, sorted by `first`, if they are more than one; gives them all
/// as one.
fn join<T: Copy>(
    array: &mut Vec<T>,
    spans: impl Iterator<Item = Span> + Clone,
    first: fn(&T) -> u32,
) -> Result<Span, NoMemory> {
    let mut filled = spans.filter(|span| !span.is_empty());
    let (one, more) = (filled.clone().next(), filled.clone().nth(1));
    if more.is_none() {
        return Ok(one.unwrap_or_default());
    }
    let start = array.len();
    filled.try_for_each(|span| {
        for at in span.start..span.end {
            if let Some(element) = array.get(at as usize).copied() {
                array.push(element)?;
            }
        }
        Ok(())
    })?;
    span_from(array, start, first)
}

/// What an array has from number `start` on, sorted by `first`.
fn span_from<T>(array: &mut Vec<T>, start: usize, first: fn(&T) -> u32) -> Result<Span, NoMemory> {
    let own = array.get_mut(start..).unwrap_or_default();
    crate::pure::sort::sort_by_key(own, first);
    Span::of(start, array.len())
}

fn names_devices(rule: &Rule) -> bool {
    rule.devices().next().is_some()
}

/// Calls `with` for all ranges of ports that a rule says.
fn each_port_range(rule: &Rule, mut with: impl FnMut(u16, u16)) {
    for range in rule.source_ports() {
        with(range.first(), range.last());
    }
    for range in rule.destination_ports() {
        with(range.first(), range.last());
    }
}

/// Appends the box of a rule's part in one direction, if the rule matches in that.
fn push_item(
    items: &mut Vec<Item>,
    ranks: &[u16],
    rule: &Rule,
    part: &Part,
    (family, class, row, exchanged, exact): (Family, Class, RowId, bool, bool),
) -> Result<(), NoMemory> {
    let class = class.in_direction(exchanged);
    if class == 0 {
        return Ok(());
    }
    let rank = |port: u16| ranks.get(usize::from(port)).copied().unwrap_or(port);
    let ranked = |range: (u16, u16)| match range {
        ALL => ALL,
        (first, last) => (rank(first), rank(last)),
    };
    let mut push = |ports: [(u16, u16); 2]| {
        items.push(Item::new(&Source {
            family,
            part,
            mark: rule.mark(),
            ports,
            class,
            row: if exchanged { row.exchanged() } else { row },
            exchanged,
            exact,
        }))
    };
    let names_types = rule.icmp_types().next().is_some();
    match (names_types, exchanged) {
        (false, false) => push([ranked(part.source_ports), ranked(part.destination_ports)]),
        (false, true) => push([ranked(part.destination_ports), ranked(part.source_ports)]),
        (true, false) => push([ALL, part.destination_ports]),
        (true, true) => {
            // Types that are answered so, one by one.
            let (first, last) = part.destination_ports;
            for icmp_type in 0..=u8::MAX {
                let answer = answering_type(family, icmp_type).map(u16::from);
                if answer.is_some_and(|answer| first <= answer && answer <= last) {
                    let icmp_type = u16::from(icmp_type);
                    push([ALL, (icmp_type, icmp_type)])?;
                }
            }
            Ok(())
        }
    }
}

/// Rules by themselves, whatever namespaces they are for: for tests.
#[cfg(not(MODULE))]
pub struct Alone {
    matcher: Matcher,
    section: Section,
}

#[cfg(not(MODULE))]
impl Alone {
    /// Compiles `rules`.
    pub fn compile<'r>(rules: impl Iterator<Item = &'r Rule> + Clone) -> Result<Self, NoMemory> {
        let mut matcher = Matcher::new();
        matcher.prepare(rules.clone(), true)?;
        let mut ordered = Vec::new();
        for (position, rule) in rules.enumerate() {
            ordered.push((Order::compiled(position)?, rule))?;
        }
        let section = matcher.section(ordered.iter().copied())?;
        Ok(Self { matcher, section })
    }

    /// Which of the rules is the first to match.
    pub fn first_match(&self, key: &Key) -> Option<usize> {
        let order = {
            let probes = Probes::new(key);
            self.matcher
                .first_match(&self.section, key, &probes, &[], None)?
        };
        order.position().ok()
    }
}
