// SPDX-License-Identifier: GPL-2.0

//! Rules compiled: rows, and the hash tables and trees that find them.
//!
//! One matcher holds the rules of all network namespaces; a [`Section`] is the rules of one group of
//! namespaces.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    matcher::{
        cells::RowId,
        combination::{
            Combination,
            ALL, //
        },
        cost::{
            Cost,
            LOOKUP_COST, //
        },
        found::{
            Found,
            Order, //
        },
        hash::{
            self,
            HashTables,
            Pattern, //
        },
        limits::{
            Limits,
            Stop, //
        },
        ranks::PortRanks,
        row::{
            each_combination,
            Rows, //
        },
        slice::Slice,
        tree::{
            item::{
                Item,
                ItemSource, //
            },
            RootedTree,
            Trees, //
        },
        words::{
            fixed_bits,
            ClassSet,
            Probes,
            Query, //
        },
    },
    packet::{
        ends::Ends,
        header::{
            Key,
            Needs, //
        },
    },
    rule::{
        answering_type,
        Family,
        Rule, //
    },
};

/// Some rules of a matcher.
#[derive(Clone, Copy, Default)]
pub(super) struct Section {
    tables: Slice,
    trees_ipv4: Slice,
    trees_ipv6: Slice,
    len: u32,
    needs: Needs,
}

impl Section {
    /// Returns the fields of keys that its rules need.
    pub(super) fn needs(&self) -> Needs {
        self.needs
    }

    /// Returns the number of rules.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns the trees for packets of a family.
    fn trees(&self, family: Family) -> Slice {
        match family {
            Family::Ipv4 => self.trees_ipv4,
            Family::Ipv6 => self.trees_ipv6,
        }
    }

    /// Returns whether all rules for IPv4 are in hash tables.
    pub(super) fn is_hashed(&self) -> bool {
        self.trees_ipv4.is_empty()
    }
}

/// Compiled rules.
///
/// In this order, as trees ahead of rows have a search keep the rows' address in a register: one instruction
/// less for each row, by `make bench-check`.
#[repr(C)]
pub(super) struct Matcher {
    trees: Trees,
    rows: Rows,
    tables: HashTables,
    ranks: PortRanks,
    needs: Needs,
    /// Whether all rows are single.
    is_single: bool,
}

impl Matcher {
    /// Returns a matcher without rules.
    pub(super) fn new() -> Self {
        Self {
            rows: Rows::new(),
            trees: Trees::new(),
            tables: HashTables::new(),
            ranks: PortRanks::new(),
            needs: Needs::NONE,
            is_single: true,
        }
    }

    /// Makes room for `rules`, and ranks their ports where `ranked` says that these may be. Called once.
    ///
    /// Process context, as for all that fills the matcher.
    #[inline(never)]
    pub(super) fn reserve<'r>(
        &mut self,
        rules: impl Iterator<Item = &'r Rule> + Clone,
        ranked: bool,
    ) -> Result<(), NoMemory> {
        self.needs = needs(rules.clone());
        let count = rules.clone().count();
        self.rows.reserve(count)?;
        self.trees.reserve(count)?;
        if ranked {
            self.ranks = PortRanks::build(rules)?;
        }
        Ok(())
    }

    /// Compiles a section. Its rules ascend in order; rules of other sections may lie between them.
    #[inline(never)]
    pub(super) fn section<'r>(
        &mut self,
        rules: impl Iterator<Item = (Order, &'r Rule)> + Clone,
        limits: &dyn Limits,
    ) -> Result<Section, Stop> {
        limits.check()?;
        let first_row = self.rows.singles();
        let mut rows = Vec::new();
        for (order, rule) in rules.clone() {
            rows.push(self.rows.push(order.to_row(), rule)?)?;
        }
        let rules = rules.map(|(_, rule)| rule).zip(rows.iter().copied());
        let built = self.hash_tables(rules.clone(), first_row)?;
        let section = Section {
            tables: built.tables,
            trees_ipv4: self.trees(Family::Ipv4, rules.clone(), |row| built.has(row), limits)?,
            trees_ipv6: self.trees(Family::Ipv6, rules.clone(), |_| false, limits)?,
            len: rows.len() as u32,
            needs: needs(rules.map(|(rule, _)| rule)),
        };
        self.is_single = self.rows.are_single();
        Ok(section)
    }

    /// Builds the hash tables of a section, whose single rows start at `first_row`.
    #[inline(never)]
    fn hash_tables<'r>(
        &mut self,
        rules: impl Iterator<Item = (&'r Rule, RowId)>,
        first_row: usize,
    ) -> Result<hash::Built, NoMemory> {
        let mut patterns = Vec::new();
        let mut lists = 0usize;
        for (rule, first) in rules {
            if rule.family() == Some(Family::Ipv6) {
                continue;
            }
            match first.is_lists() {
                true => lists = lists.saturating_add(1),
                false => each_combination(first, rule, |row, combination, _| {
                    patterns.push(Pattern::new(combination, row))
                })?,
            }
        }
        self.tables.build(patterns, lists, first_row, &self.rows)
    }

    /// Builds the trees of a section for one family, without the rows that are in hash tables.
    #[inline(never)]
    fn trees<'r>(
        &mut self,
        family: Family,
        rules: impl Iterator<Item = (&'r Rule, RowId)>,
        is_hashed: impl Fn(RowId) -> bool,
        limits: &dyn Limits,
    ) -> Result<Slice, Stop> {
        let mut items = Vec::new();
        for (rule, first) in rules {
            if rule.family().is_some_and(|own| own != family) {
                continue;
            }
            let class = ClassSet::of_rule(rule);
            each_combination(first, rule, |row, combination, exact| {
                if is_hashed(row) {
                    return Ok(());
                }
                for exchanged in [false, true] {
                    let direction = Direction {
                        family,
                        class: class.in_direction(exchanged),
                        row,
                        exchanged,
                        exact,
                    };
                    push_item(&mut items, &self.ranks, rule, combination, &direction)?;
                }
                Ok(())
            })?;
        }
        self.trees
            .build(family, &self.rows, &items, self.ranks.end(), limits)
    }

    /// Returns one section of the rules of several.
    #[inline(never)]
    pub(super) fn joined(&mut self, sections: &[Section]) -> Result<Section, NoMemory> {
        let of = |slice: fn(&Section) -> Slice| sections.iter().map(slice);
        Ok(Section {
            tables: self.tables.joined(of(|section| section.tables))?,
            trees_ipv4: self.trees.joined(of(|section| section.trees_ipv4))?,
            trees_ipv6: self.trees.joined(of(|section| section.trees_ipv6))?,
            len: sections
                .iter()
                .fold(0u32, |sum, section| sum.saturating_add(section.len)),
            needs: sections
                .iter()
                .fold(Needs::NONE, |needs, section| needs.and(section.needs)),
        })
    }

    /// Returns whether deleting the rule at `position` of the compiled table may bring others to light.
    pub(super) fn shadows(&self, position: usize) -> bool {
        self.trees.shadows(position)
    }

    /// Returns how many bytes its trees take: what [`Limits::most_bytes`] bounds.
    pub(super) fn bytes(&self) -> usize {
        self.trees.bytes()
    }

    /// Returns how many rows [`shadowed`](Self::shadowed) looks at.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Returns the rules behind `order` that may match a packet which that one matches.
    pub(super) fn shadowed(&self, order: Order) -> impl Iterator<Item = Order> + '_ {
        self.rows
            .overlapping(order.to_row())
            .filter_map(Order::of_row)
    }

    /// Returns the cost of a lookup in a section at worst, in instructions, roughly.
    pub(super) fn worst_cost(&self, section: &Section, family: Family) -> usize {
        let tables = match family {
            Family::Ipv4 => self.tables.worst_cost(section.tables),
            Family::Ipv6 => 0,
        };
        let trees = self.trees.worst_cost(section.trees(family));
        trees.saturating_add(tables).saturating_add(LOOKUP_COST)
    }

    /// Appends the rows that trees have packets of `family` compared with one by one where that costs most:
    /// the order of each, and its cost.
    pub(super) fn dearest_rows(
        &self,
        section: &Section,
        family: Family,
        to: &mut Vec<(Order, Cost)>,
        limits: &dyn Limits,
    ) -> Result<(), Stop> {
        self.trees
            .dearest_rows(section.trees(family), &self.rows, to, limits)
    }

    /// Returns the first rule of a section that matches `key`, if it is ahead of `best`; else `best`.
    ///
    /// `deleted` has a bit for each position of a rule that was deleted since it was compiled. Any
    /// context.
    #[inline(always)]
    pub(super) fn first_match(
        &self,
        section: &Section,
        key: &Key,
        probes: &Probes,
        ends: impl Ends,
        deleted: &[u32],
        best: Option<Order>,
    ) -> Option<Order> {
        let found = Found::new(deleted, best);
        let (found, trees) = self.search_tables(section, key.family, probes, found);
        if trees.is_empty() {
            return found.order();
        }
        let query = Query::new(key, probes, self.needs.has(Needs::DEVICE), ends, |port| {
            self.ranks.rank(port)
        });
        self.search_trees(trees, &query, found)
    }

    /// Returns the first rule of a section's hash tables that matches a packet of IPv4: all rules, where
    /// the section [is hashed](Section::is_hashed). Any context.
    #[inline(always)]
    pub(super) fn first_hashed(&self, section: &Section, probes: &Probes) -> Option<Order> {
        let found = Found::new(&[], None);
        self.tables
            .first_match(section.tables, &self.rows, probes, found)
            .order()
    }

    /// Returns what [`first_match`](Self::first_match) does, for a query made with this matcher's ranks and
    /// devices. No rule was deleted. Any context.
    #[inline(always)]
    pub(super) fn first_match_of(
        &self,
        section: &Section,
        family: Family,
        query: &Query<'_, impl Ends>,
        best: Option<Order>,
    ) -> Option<Order> {
        let found = Found::new(&[], best);
        let (found, trees) = self.search_tables(section, family, query.probes, found);
        self.search_trees(trees, query, found)
    }

    /// Searches the hash tables of a section. Returns the trees that are still to be searched, too.
    #[inline(always)]
    fn search_tables<'m>(
        &'m self,
        section: &Section,
        family: Family,
        probes: &Probes,
        found: Found<'m>,
    ) -> (Found<'m>, Slice) {
        match family {
            Family::Ipv4 => (
                self.tables
                    .first_match(section.tables, &self.rows, probes, found),
                section.trees_ipv4,
            ),
            Family::Ipv6 => (found, section.trees_ipv6),
        }
    }

    /// Searches trees.
    #[inline(always)]
    fn search_trees<E: Ends>(
        &self,
        trees: Slice,
        query: &Query<'_, E>,
        mut found: Found<'_>,
    ) -> Option<Order> {
        let (trees, deleted, best) = (self.trees.of(trees), found.deleted(), found.best());
        found.set_best(match self.is_single {
            true => self.first_in_trees::<true, E>(trees, query, deleted, best),
            false => self.first_in_trees::<false, E>(trees, query, deleted, best),
        });
        found.order()
    }

    /// Returns the order of the first row in `trees` that matches, if it is below `best`; else `best`. With
    /// `SINGLE`, all rows are single.
    ///
    /// Not inlined, as it needs all registers. For that, too, it takes no more arguments.
    #[inline(never)]
    fn first_in_trees<const SINGLE: bool, E: Ends>(
        &self,
        trees: &[RootedTree],
        query: &Query<'_, E>,
        deleted: &[u32],
        best: u32,
    ) -> u32 {
        self.trees
            .first_match::<SINGLE, E>(trees, &self.rows, query, deleted, best)
    }
}

/// Returns the fields of keys that `rules` need.
fn needs<'r>(rules: impl Iterator<Item = &'r Rule>) -> Needs {
    rules.fold(Needs::NONE, |needs, rule| needs.and(Needs::of(rule)))
}

/// One direction of a combination.
struct Direction {
    family: Family,
    /// See [`ClassSet::in_direction`].
    class: u8,
    row: RowId,
    exchanged: bool,
    /// Whether the combination is no more than the rule matches.
    exact: bool,
}

/// Appends the box of a rule's combination in one direction, if the rule matches in that.
fn push_item(
    items: &mut Vec<Item>,
    ranks: &PortRanks,
    rule: &Rule,
    combination: &Combination,
    direction: &Direction,
) -> Result<(), NoMemory> {
    if direction.class == 0 {
        return Ok(());
    }
    let ranked = |range: (u16, u16)| match range {
        ALL => ALL,
        (first, last) => (ranks.rank(first), ranks.rank(last)),
    };
    let mut push = |ports: [(u16, u16); 2]| {
        items.push(Item::new(&ItemSource {
            family: direction.family,
            combination,
            fixed: fixed_bits(rule),
            ports,
            class: direction.class,
            row: match direction.exchanged {
                true => direction.row.exchanged(),
                false => direction.row,
            },
            exchanged: direction.exchanged,
            exact: direction.exact,
        }))
    };
    let source_ports = combination.source_ports;
    let destination_ports = combination.destination_ports;
    let names_types = rule.icmp_types().next().is_some();
    match (names_types, direction.exchanged) {
        (false, false) => push([ranked(source_ports), ranked(destination_ports)]),
        (false, true) => push([ranked(destination_ports), ranked(source_ports)]),
        (true, false) => push([ALL, destination_ports]),
        (true, true) => {
            // The types that are answered so, one by one.
            let (first, last) = destination_ports;
            for icmp_type in 0..=u8::MAX {
                let answer = answering_type(direction.family, icmp_type).map(u16::from);
                if answer.is_some_and(|answer| first <= answer && answer <= last) {
                    let icmp_type = u16::from(icmp_type);
                    push([ALL, (icmp_type, icmp_type)])?;
                }
            }
            Ok(())
        }
    }
}
