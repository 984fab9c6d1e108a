// SPDX-License-Identifier: GPL-2.0

//! Finds the first of some rules that matches a key.
//!
//! Each rule is compiled into rows, which a packet is compared with in full ([`row`](super::row)).
//! Which rows to compare is told by decision trees ([`tree`](super::tree)), one for each group of
//! rules that say the same kind of bits ([`group`](super::group)). A rule that matches both
//! directions is in the trees twice, once as written and once exchanged, so that a packet is looked up
//! once. Each tree knows the first of its rules, and is passed over once a rule ahead of that has
//! matched.
//!
//! One matcher holds the rules of all network namespaces; a [`Section`] is those of one group of
//! namespaces.
//!
//! # What was chosen, and against what
//!
//! Instructions a packet for match and miss of 65,536 rules, both directions, by `make bench` unless
//! said otherwise. `exact` is (source, destination port), `acl` as ClassBench's acl1.
//!
//! | | exact | acl | bytes a rule, acl |
//! |---|---:|---:|---:|
//! | this | 502 / 362 | 1,218 / 1,037 | 98 |
//! | the same, one group of all long prefixes | | 3,196 / 354 | 267 |
//! | nft's hash set, pipapo (16,384 rules) | 1,197 / 1,022 | 5,932 / 5,710 | |
//!
//! - Rules one by one: 10 to 20 instructions each, so it stays for a few rules only
//!   ([`few`](super::few)).
//! - Six hash tables with relaxed masks, as of TupleMerge, and binary trees for what shares a place
//!   (counted by callgrind, without the hook): 276 / 161 for `exact`, but 1,711 for tables like `acl`,
//!   as five to six trees of 18 instructions a node are passed; and choosing tables took seconds for
//!   rules with lists.
//! - Groups chosen by how many rules say their bits: of popular sources, thousands of rules shared a
//!   cell. Now what counts is how few share one, and pairs of prefixes are tried.
//! - Memory for trees ([`tree`](super::tree)): 8, 16 or 32 words an item change the mean by a tenth,
//!   and the slowest packet by half.
//! - Ports are ranked where rules name ranges: without, ranges that nest at odd ends made leaves of
//!   thousands of rows.
//!
//! A lookup of the straight way passes about 320 instructions: 45 read the headers, 60 prepare words
//! and probes, 45 to 75 are for each tree, 25 for the frame, 20 to mark and count.

use super::{
    alloc::Vec,
    error::NoMemory,
    group,
    header::Key,
    row::{
        Part,
        RowId,
        Rows,
        ALL, //
    },
    rule::{
        answering_type,
        Family,
        Rule, //
    },
    tree::{
        Builder,
        Cell,
        Item,
        Source,
        Trees, //
    },
    words::{
        Class,
        Probes,
        Query, //
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
    pub(super) const MAX_BETWEEN: usize = Self::LOWER as usize;

    /// The rule at a position of the compiled table.
    pub(super) fn compiled(position: usize) -> Result<Self, NoMemory> {
        Self::between(position, Self::MAX_BETWEEN)
    }

    /// The rule of that number between, ahead of the one at `position` of the compiled table.
    pub(super) fn between(position: usize, number: usize) -> Result<Self, NoMemory> {
        let upper = u32::try_from(position).map_err(|_| NoMemory)?;
        let lower = u32::try_from(number).map_err(|_| NoMemory)?;
        match upper.checked_mul(Self::LOWER.wrapping_add(1)) {
            Some(upper) if lower <= Self::LOWER => Ok(Self(upper | lower)),
            _ => Err(NoMemory),
        }
    }

    /// The position in the compiled table, or the number between.
    #[inline(always)]
    pub(super) fn position(self) -> Result<usize, usize> {
        match self.0 & Self::LOWER {
            Self::LOWER => Ok((self.0 >> Self::LOWER_BITS) as usize),
            number => Err(number as usize),
        }
    }

    fn rule(order: u32) -> u32 {
        order >> Self::LOWER_BITS
    }
}

/// Behind all rules.
const NONE: u32 = u32::MAX;

/// The trees of a section, for one family: a part of [`Matcher::groups`].
#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

/// Some rules of a matcher.
#[derive(Clone, Copy, Default)]
pub struct Section {
    ipv4: Span,
    ipv6: Span,
    len: u32,
}

impl Section {
    /// The number of rules.
    pub(super) fn len(&self) -> usize {
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

/// Compiled rules.
pub struct Matcher {
    rows: Rows,
    trees: Trees,
    groups: Vec<Group>,
    /// What stands for each port in words; none: itself.
    ranks: Vec<u16>,
    names_devices: bool,
    /// Whether all is lists of single rows.
    is_plain: bool,
}

/// How many rules must name ranges of ports for these to be ranked.
const RANGES: usize = 8;
/// The most trees of a section.
const MAX_GROUPS: usize = 12;
/// The part of the rules that may be left for a tree of those that no group takes.
const FEW_LEFT: usize = 8;
/// What such a tree may cost on the average, so that no more groups are made of its rules.
const GOOD_COST: u32 = 150;
/// What a lookup takes beside the trees, in instructions, roughly.
const LOOKUP_COST: usize = 40;
/// What a tree takes beside its nodes and rows.
const GROUP_COST: usize = 16;

impl Matcher {
    /// An empty one, for these rules; `ranked` says that ports may be numbered anew. Process context,
    /// as all that makes it.
    pub(super) fn new<'r>(
        rules: impl Iterator<Item = &'r Rule> + Clone,
        ranked: bool,
    ) -> Result<Self, NoMemory> {
        let mut matcher = Self {
            rows: Rows::new(),
            trees: Trees::new(),
            groups: Vec::new(),
            ranks: Vec::new(),
            is_plain: true,
            names_devices: rules.clone().any(|rule| rule.devices().next().is_some()),
        };
        let count = rules.clone().count();
        matcher.rows.reserve(count)?;
        matcher.trees.reserve(count)?;
        if ranked {
            matcher.rank(rules)?;
        }
        Ok(matcher)
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

    /// Compiles a section. Rules ascend in order, and are ahead of those of later sections in no way.
    pub(super) fn section<'r>(
        &mut self,
        rules: impl Iterator<Item = (Order, &'r Rule)>,
    ) -> Result<Section, NoMemory> {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        let mut len = 0u32;
        for (order, rule) in rules {
            len = len.saturating_add(1);
            let class = Class::of_rule(rule);
            let ranks = &self.ranks;
            self.rows.push(order.0, rule, |row, part, exact| {
                for (family, items) in [(Family::Ipv4, &mut ipv4), (Family::Ipv6, &mut ipv6)] {
                    if rule.family().is_none_or(|own| own == family) {
                        let of = |exchanged| (family, class, row, exchanged, exact);
                        push_item(items, ranks, rule, part, of(false))?;
                        push_item(items, ranks, rule, part, of(true))?;
                    }
                }
                Ok(())
            })?;
        }
        let section = Section {
            ipv4: self.trees_of(Family::Ipv4, &ipv4)?,
            ipv6: self.trees_of(Family::Ipv6, &ipv6)?,
            len,
        };
        self.is_plain = self.rows.are_single() && self.trees.are_lists();
        Ok(section)
    }

    #[inline(never)]
    fn trees_of(&mut self, family: Family, items: &[Item]) -> Result<Span, NoMemory> {
        let start = self.groups.len();
        if items.is_empty() {
            return self.span_from(start);
        }
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
            let extent = builder.extent();
            let mut tree = None;
            if made == MAX_GROUPS || may_be_last {
                tree = Some(builder.tree(&numbers)?);
            }
            let is_good = tree.as_ref().is_some_and(|tree| tree.mean <= GOOD_COST);
            let mut group = Vec::new();
            if made < MAX_GROUPS && !is_good {
                if let Some(split) = group::split(family, items, &mut numbers)? {
                    if tree.take().is_some() {
                        builder.undo(extent);
                    }
                    group = split;
                }
            }
            if group.is_empty() {
                group = core::mem::take(&mut numbers);
            }
            let tree = match tree {
                Some(tree) => tree,
                None => builder.tree(&group)?,
            };
            let first = group.first().and_then(|n| items.get(*n as usize));
            self.groups.push(Group {
                first: first.map_or(0, |item| self.rows.order(item.row())),
                root: tree.root,
                worst: tree.worst,
            })?;
        }
        self.span_from(start)
    }

    /// Whether a rule says `dev=`: else keys need no device.
    #[inline(always)]
    pub(super) fn names_devices(&self) -> bool {
        self.names_devices
    }

    /// Whether taking the rule at `position` of the compiled table out may bring others to light.
    pub(super) fn hides(&self, position: usize) -> bool {
        u32::try_from(position).is_ok_and(|position| self.trees.hides(position))
    }

    /// The rules behind `order` that may match a packet which that one matches.
    pub(super) fn overlapping(&self, order: Order) -> impl Iterator<Item = Order> + '_ {
        self.rows.overlapping(order.0).map(Order)
    }

    /// One section of the rules of several.
    pub(super) fn joined(&mut self, sections: &[Section]) -> Result<Section, NoMemory> {
        let mut of = |span: fn(&Section) -> Span| {
            let mut filled = sections.iter().map(span).filter(|s| s.start != s.end);
            match (filled.next(), filled.next()) {
                (None, _) => Ok(Span::default()),
                (Some(only), None) => Ok(only),
                _ => self.join(sections.iter().map(span)),
            }
        };
        Ok(Section {
            ipv4: of(|section| section.ipv4)?,
            ipv6: of(|section| section.ipv6)?,
            len: sections
                .iter()
                .fold(0u32, |sum, section| sum.saturating_add(section.len)),
        })
    }

    fn join(&mut self, spans: impl Iterator<Item = Span>) -> Result<Span, NoMemory> {
        let start = self.groups.len();
        for span in spans {
            for at in span.start..span.end {
                if let Some(group) = self.groups.get(at as usize).copied() {
                    self.groups.push(group)?;
                }
            }
        }
        self.span_from(start)
    }

    /// The groups from number `start` on, those with the first rules in front.
    fn span_from(&mut self, start: usize) -> Result<Span, NoMemory> {
        let groups = self.groups.get_mut(start..).unwrap_or_default();
        super::sort::sort_by_key(groups, |group| group.first);
        Ok(Span {
            start: u32::try_from(start).map_err(|_| NoMemory)?,
            end: u32::try_from(self.groups.len()).map_err(|_| NoMemory)?,
        })
    }

    /// What looking a packet up in a section takes at worst, in instructions, roughly.
    pub(super) fn worst(&self, section: &Section) -> usize {
        let of = |span: Span| {
            let groups = self.groups.get(span.start as usize..span.end as usize);
            let groups = groups.unwrap_or_default().iter();
            groups.fold(LOOKUP_COST, |sum, group| {
                sum.saturating_add(group.worst as usize)
                    .saturating_add(GROUP_COST)
            })
        };
        of(section.ipv4).max(of(section.ipv6))
    }

    /// The first rule of a section that matches `key`, if it is ahead of `best`; else `best`. Those
    /// `gone` says have been taken out since it was compiled do not count: a bit for each position.
    ///
    /// Any context.
    #[inline(always)]
    pub(super) fn first_match(
        &self,
        section: &Section,
        key: &Key,
        probes: &Probes,
        gone: &[u32],
        best: Option<Order>,
    ) -> Option<Order> {
        if !self.is_plain {
            let query = Query::new(key, probes, self.names_devices, |port| self.rank_of(port));
            return self.first_match_of(section, key.family, &query, gone, best);
        }
        let groups = self.groups_of(section, key.family);
        let compare = |row: Cell| self.rows.compare_single(row.0, probes);
        self.search(groups, gone, best, |cell| cell, compare)
    }

    /// As [`first_match`](Self::first_match) of what was prepared for a matcher with the same ranks.
    #[inline(always)]
    pub(super) fn first_match_of(
        &self,
        section: &Section,
        family: Family,
        query: &Query<'_>,
        gone: &[u32],
        best: Option<Order>,
    ) -> Option<Order> {
        let groups = self.groups_of(section, family);
        let descend = |cell| self.trees.descend(cell, &query.words);
        let compare = |row: Cell| self.rows.compare(row.0, query);
        self.search(groups, gone, best, descend, compare)
    }

    #[inline(always)]
    fn groups_of(&self, section: &Section, family: Family) -> &[Group] {
        let span = match family {
            Family::Ipv4 => section.ipv4,
            Family::Ipv6 => section.ipv6,
        };
        let groups = self.groups.get(span.start as usize..span.end as usize);
        groups.unwrap_or_default()
    }

    /// The lowest order of the rows that `descend` finds in each group and that `compare` finds to
    /// match, if it is below `best`.
    #[inline(always)]
    fn search(
        &self,
        groups: &[Group],
        gone: &[u32],
        best: Option<Order>,
        descend: impl Fn(Cell) -> Cell,
        compare: impl Fn(Cell) -> Option<u32>,
    ) -> Option<Order> {
        let mut best = best.map_or(NONE, |best| best.0);
        let better = |row: Cell, best: u32| {
            compare(row).filter(|order| *order < best && !is_gone(gone, *order))
        };
        for group in groups {
            if group.first >= best {
                break;
            }
            let cell = descend(group.root);
            if cell == Cell::EMPTY {
                continue;
            }
            let Some(list) = self.trees.list(cell) else {
                best = better(cell, best).unwrap_or(best);
                continue;
            };
            for row in list {
                if let Some(better) = better(*row, best) {
                    best = better;
                    break;
                }
                if row.0 & Cell::LAST != 0 {
                    break;
                }
            }
        }
        match best {
            NONE => None,
            best => Some(Order(best)),
        }
    }
}

/// Whether the bit of a rule's position is set.
#[inline(always)]
fn is_gone(gone: &[u32], order: u32) -> bool {
    let rule = Order::rule(order);
    gone.get((rule >> 5) as usize)
        .is_some_and(|word| word.wrapping_shr(rule & 31) & 1 != 0)
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
        let mut matcher = Matcher::new(rules.clone(), true)?;
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
