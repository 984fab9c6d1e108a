// SPDX-License-Identifier: GPL-2.0

//! Decision trees: tell which rows a packet is to be compared with.
//!
//! Rules that specify the same kind of bits share a tree ([`group`]); its nodes ([`cut`]) are chosen from
//! the root down ([`build`]) by the boxes that the rules match ([`item`]).
//!
//! A node takes some bits of one word of a packet's key. It has a cell for each value of these bits, or
//! for each hash of them. A cell is empty, a row, a list of rows, or a node again.
//!
//! Where all rules of a node specify certain bits, whatever their values, the node hashes these: no rule
//! lies in two cells, however sparse the values are. Else four or eight neighbouring bits are cut, and a
//! rule that does not specify them lies in several cells. The items that a cut leaves in a cell are
//! estimated from a sample.
//!
//! A rule is left out of a cell where it can never be the first to match: behind a rule that matches all
//! packets of the cell, and, in long lists, behind an equal rule as far as the cell goes. The rule ahead
//! shadows it. A rule that shadows others is noted ([`Trees::shadows`]), as these may have to come back
//! when it is deleted.
//!
//! A tree has room for a number of cells and places in lists ([`ROOM_PER_ITEM`]). Each cell has a share of
//! the room, large ones more than in proportion, and may take the room that cells before it left. Where
//! there is no room, or too much work was done ([`WORK_PER_ITEM`]), a cell becomes a list of any length.
//!
//! [`ROOM_PER_ITEM`]: super::cost::ROOM_PER_ITEM
//! [`WORK_PER_ITEM`]: super::cost::WORK_PER_ITEM

pub(super) mod item;

mod build;
mod cut;
mod group;
mod nodes;

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    matcher::{
        cells::{
            Cell,
            RowId, //
        },
        cost::{
            Cost,
            GROUPS,
            REST_COST,
            REST_DIVIDED,
            REST_PART,
            TREE_COST, //
        },
        found::{
            Found,
            Order, //
        },
        limits::{
            Limits,
            Stop, //
        },
        row::Rows,
        slice::Slice,
        tree::{
            build::{
                work_for,
                BuiltTree,
                TreeBuilder, //
            },
            group::take_group,
            item::Item,
            nodes::{
                Nodes,
                NodesExtent, //
            },
        },
        words::Query, //
    },
    packet::ends::Ends,
    rule::Family, //
};

/// A tree of some rules.
#[derive(Clone, Copy)]
pub(super) struct RootedTree {
    /// The order of the first of its rules.
    first: u32,
    root: Cell,
    /// The cost of a search at worst.
    worst: Cost,
}

impl RootedTree {
    /// Returns the tree that was built of the items of these numbers.
    fn new(builder: &TreeBuilder<'_>, numbers: &[u32], tree: &BuiltTree) -> Self {
        Self {
            first: builder.first_order(numbers),
            root: tree.root,
            worst: tree.worst,
        }
    }

    /// Returns the order of the first of its rules.
    fn first(&self) -> u32 {
        self.first
    }
}

/// The trees of a matcher, section by section.
pub(super) struct Trees {
    nodes: Nodes,
    roots: Vec<RootedTree>,
}

impl Trees {
    /// Returns no trees.
    pub(super) const fn new() -> Self {
        Self {
            nodes: Nodes::new(),
            roots: Vec::new(),
        }
    }

    /// Makes room to note which of so many rules shadow others.
    pub(super) fn reserve(&mut self, rules: usize) -> Result<(), NoMemory> {
        self.nodes.reserve(rules)
    }

    /// Builds the trees of a section for one family. `items` ascend in the order of their rules; ports in
    /// them are below `ports`. Process context.
    ///
    /// The trees that stay share the work by their items, so that the last one has its part, too. What is
    /// tried and undone takes none of it: it has as much again.
    #[inline(never)]
    pub(super) fn build(
        &mut self,
        family: Family,
        rows: &Rows,
        items: &[Item],
        ports: u32,
        limits: &dyn Limits,
    ) -> Result<Slice, Stop> {
        if items.is_empty() {
            return Ok(Slice::default());
        }
        let start = self.roots.len();
        let mut numbers = Vec::with_capacity(items.len())?;
        for number in 0..items.len() {
            numbers.push(number as u32)?;
        }
        let nodes = &mut self.nodes;
        let mut builder = TreeBuilder::new(family, rows, items, nodes, ports, limits)?;
        let mut work = work_for(items.len());
        let mut trial_work = work;
        for made in 1..=GROUPS {
            if numbers.is_empty() {
                break;
            }
            let may_be_last = made < GROUPS && numbers.len() <= items.len() / REST_PART;
            let extent = builder.nodes().extent();
            let mut trial = None;
            if may_be_last && trial_work != 0 {
                let tree = builder.tree(&numbers, trial_work)?;
                trial_work = trial_work.saturating_sub(tree.spent);
                trial = Some(tree);
            }
            let is_good = trial.as_ref().is_some_and(|tree| tree.mean <= REST_COST);
            let mut group = None;
            if made < GROUPS && !is_good {
                group = take_group(family, items, &mut numbers)?;
            }
            let Some(group) = group else {
                push_rest(&mut self.roots, &mut builder, &numbers, extent, trial, work)?;
                break;
            };
            let tree = match trial {
                // The same items.
                Some(tree) if numbers.is_empty() => tree,
                _ => {
                    builder.nodes().undo(extent);
                    let tree = builder.tree(&group, share(work, &group, &numbers))?;
                    work = work.saturating_sub(tree.spent);
                    tree
                }
            };
            self.roots.push(RootedTree::new(&builder, &group, &tree))?;
        }
        Ok(Slice::sorted(&mut self.roots, start, RootedTree::first))
    }

    /// Returns the trees of several sections as those of one.
    pub(super) fn joined(
        &mut self,
        trees: impl Iterator<Item = Slice> + Clone,
    ) -> Result<Slice, NoMemory> {
        Slice::joined(&mut self.roots, trees, RootedTree::first)
    }

    /// Returns the cost of a search of some trees at worst.
    pub(super) fn worst_cost(&self, trees: Slice) -> usize {
        let costs = trees.of(&self.roots).iter().map(|tree| tree.worst as usize);
        costs.fold(0usize, |sum, cost| {
            sum.saturating_add(cost).saturating_add(TREE_COST)
        })
    }

    /// Appends the rows that are compared one by one where a search of `trees` costs most: the order of
    /// each, and its cost.
    pub(super) fn dearest_rows(
        &self,
        trees: Slice,
        rows: &Rows,
        to: &mut Vec<(Order, Cost)>,
        limits: &dyn Limits,
    ) -> Result<(), Stop> {
        let cost = |row: Cell| rows.cost(RowId(row.0)).1;
        let costs = self.nodes.costs(&cost, limits)?;
        for tree in self.of(trees) {
            let leaf = self.nodes.dearest_leaf(&costs, tree.root, &cost);
            for row in self.nodes.cells.rows(leaf) {
                if let Some(order) = Order::of_row(rows.order(RowId(row.0))) {
                    to.push((order, cost(row)))?;
                }
            }
        }
        Ok(())
    }

    /// Returns how many bytes the trees take.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.bytes()
    }

    /// Returns whether rules behind that of number `rule` were left out of some cell.
    pub(super) fn shadows(&self, rule: usize) -> bool {
        self.nodes.shadows(rule)
    }

    /// Returns the trees of a section.
    #[inline(always)]
    pub(super) fn of(&self, trees: Slice) -> &[RootedTree] {
        trees.of(&self.roots)
    }

    /// Searches `trees` for the first rule that matches, if it is below `best`. Any context.
    ///
    /// Returns the order of a row, or `best`. `SINGLE` says that all rows are single: comparing one is no
    /// call then.
    #[inline(always)]
    pub(super) fn first_match<const SINGLE: bool, E: Ends>(
        &self,
        trees: &[RootedTree],
        rows: &Rows,
        query: &Query<'_, E>,
        deleted: &[u32],
        best: u32,
    ) -> u32 {
        let mut found = Found::from_best(deleted, best);
        for tree in trees {
            if tree.first >= found.best() {
                break;
            }
            let cell = self.nodes.descend(tree.root, &query.words);
            if cell == Cell::EMPTY {
                continue;
            }
            match self.nodes.cells.list(cell) {
                None => {
                    found.take(rows.compare::<SINGLE, E>(cell.0, query));
                }
                Some(list) => {
                    found.take_first(list, |row| rows.compare::<SINGLE, E>(row.0, query));
                }
            }
        }
        found.best()
    }
}

/// Returns the part of `work` that the tree of `numbers` may take, where one of `others` is still to be
/// built.
fn share(work: usize, numbers: &[u32], others: &[u32]) -> usize {
    let all = numbers.len().saturating_add(others.len());
    work.saturating_mul(numbers.len())
        .checked_div(all)
        .unwrap_or(work)
}

/// Appends the tree of all items that no group has taken, or one tree for each direction where these cost
/// half of it. `trial` is what was built of the items, if it was, when there were `extent` trees before.
/// Each way may take all of `work`.
#[inline(never)]
fn push_rest(
    roots: &mut Vec<RootedTree>,
    builder: &mut TreeBuilder<'_>,
    numbers: &[u32],
    extent: NodesExtent,
    trial: Option<BuiltTree>,
    work: usize,
) -> Result<(), Stop> {
    let tree = match trial {
        Some(tree) => tree,
        None => builder.tree(numbers, work)?,
    };
    if tree.mean > REST_COST && numbers.len() >= REST_DIVIDED {
        let mut directions = [Vec::new(), Vec::new()];
        for number in numbers {
            let direction = usize::from(builder.is_exchanged(*number));
            if let Some(own) = directions.get_mut(direction) {
                own.push(*number)?;
            }
        }
        if directions.iter().any(|own| own.is_empty()) {
            roots.push(RootedTree::new(builder, numbers, &tree))?;
            return Ok(());
        }
        let with = builder.nodes().extent();
        let (mut worst, mut mean): (Cost, Cost) = (0, 0);
        for own in &directions {
            let tree = builder.tree(own, work / 2)?;
            worst = worst.saturating_add(tree.worst);
            mean = mean.saturating_add(tree.mean);
        }
        builder.nodes().undo(with);
        // Packets that match no rule pass both.
        if mean < tree.mean / 2 && worst < tree.worst / 2 {
            builder.nodes().undo(extent);
            for own in &directions {
                let tree = builder.tree(own, work / 2)?;
                roots.push(RootedTree::new(builder, own, &tree))?;
            }
            return Ok(());
        }
    }
    roots.push(RootedTree::new(builder, numbers, &tree))?;
    Ok(())
}
