// SPDX-License-Identifier: GPL-2.0

//! Decision trees: tell which rows a packet is to be compared with.
//!
//! Rules that specify the same kind of bits share a tree ([`group`]); its nodes ([`cut`]) are chosen from
//! the root down ([`build`]) by the boxes that the rules match ([`item`]).
//!
//! A node takes some bits of one word of the packet's key and has a cell for each value that they
//! can have, or for each hash of them. A cell is empty, a row, a list of rows, or a node again.
//!
//! Where all rules of a node say the same bits, whatever values, a node hashes these: no rule lies in
//! two cells, however sparse the values are. Else four or eight neighbouring bits are cut, and a rule
//! that does not say them lies in several cells. What a cut leaves is estimated from a sample of the
//! rules.
//!
//! Left out of a cell is what can never be the first to match there: what lies behind a rule that
//! matches all that is left, and, of long lists, what is alike to a rule before as far as the cell
//! goes. A rule behind which others were left out is noted ([`Trees::shadows`]), as these may have to
//! come back when it goes.
//!
//! Each tree has room for so many cells and places in lists ([`ROOM_PER_ITEM`]), of which each part has its
//! share, large ones more than in proportion, and takes what those before it left. Where there is no
//! more, or too much was looked at ([`WORK_PER_ITEM`]), a list stays as long as it is, and is written in any case.
//!
//! [`ROOM_PER_ITEM`]: super::cost::ROOM_PER_ITEM
//! [`WORK_PER_ITEM`]: super::cost::WORK_PER_ITEM

pub(super) mod item;

mod build;
mod cut;
mod group;

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    bitmap,
    matcher::{
        cells::{
            Cell,
            Cells,
            CellsExtent, //
        },
        cost::{
            Cost,
            GROUPS,
            REST_COST,
            REST_DIVIDED,
            REST_PART,
            TREE_COST, //
        },
        found::Found,
        row::Rows,
        slice::Slice,
        tree::{
            build::{
                BuiltTree,
                TreeBuilder, //
            },
            group::take_group,
            item::Item, //
        },
        words::{
            Query,
            Words,
            WORDS, //
        },
    },
    rule::Family, //
};

/// A choice among cells by some bits of one word.
#[derive(Clone, Copy)]
struct Node {
    mask: u64,
    /// Brings the bits to the top: a power of two, or what hashes them.
    multiplier: u64,
    /// Where its cells start.
    base: u32,
    /// How many bits are dropped behind the number of the cell.
    shift: u8,
    word: u8,
}

impl Node {
    #[inline(always)]
    fn index(&self, words: &Words) -> usize {
        let word = words
            .get(usize::from(self.word) & WORDS.wrapping_sub(1))
            .copied()
            .unwrap_or(0);
        let bits = (word & self.mask).wrapping_mul(self.multiplier);
        bits.wrapping_shr(self.shift.into()) as usize
    }
}

/// A tree of some rules.
#[derive(Clone, Copy)]
struct RootedTree {
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
    nodes: Vec<Node>,
    cells: Cells,
    roots: Vec<RootedTree>,
    /// A bit for the position of each rule behind which others were left out of some cell.
    shadowing: Vec<u32>,
}

/// How much there is of trees at some time.
#[derive(Clone, Copy)]
struct Extent {
    nodes: usize,
    cells: CellsExtent,
}

impl Trees {
    /// Returns no trees.
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            cells: Cells::new(),
            roots: Vec::new(),
            shadowing: Vec::new(),
        }
    }

    /// Makes room to note which of so many rules shadow others.
    pub(super) fn reserve(&mut self, rules: usize) -> Result<(), NoMemory> {
        self.shadowing = bitmap::empty(rules)?;
        Ok(())
    }

    /// Builds the trees of a section for one family. `items` ascend in the order of their rules; ports in
    /// them are below `ports`. Process context.
    #[inline(never)]
    pub(super) fn build(
        &mut self,
        family: Family,
        rows: &Rows,
        items: &[Item],
        ports: u32,
    ) -> Result<Slice, NoMemory> {
        if items.is_empty() {
            return Ok(Slice::default());
        }
        let start = self.roots.len();
        let mut numbers = Vec::with_capacity(items.len())?;
        for number in 0..items.len() {
            numbers.push(number as u32)?;
        }
        let mut builder = TreeBuilder::new(family, rows, items, self, ports);
        for made in 1..=GROUPS {
            if numbers.is_empty() {
                break;
            }
            let may_be_last = numbers.len() <= items.len() / REST_PART;
            let extent = builder.trees().extent();
            let mut tree = None;
            if made == GROUPS || may_be_last {
                tree = Some(builder.tree(&numbers)?);
            }
            let is_good = tree.as_ref().is_some_and(|tree| tree.mean <= REST_COST);
            let mut group = None;
            if made < GROUPS && !is_good {
                group = take_group(family, items, &mut numbers)?;
                if group.is_some() && tree.take().is_some() {
                    builder.trees().undo(extent);
                }
            }
            let Some(group) = group else {
                push_rest(&mut builder, &numbers, extent, tree)?;
                break;
            };
            let tree = builder.tree(&group)?;
            let root = RootedTree::new(&builder, &group, &tree);
            builder.trees().roots.push(root)?;
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

    /// Returns whether rules behind that of number `rule` were left out of some cell.
    pub(super) fn shadows(&self, rule: usize) -> bool {
        bitmap::is_set(&self.shadowing, rule)
    }

    /// Searches the trees of a section for the first rule that matches, if it is below `best`. Any
    /// context.
    ///
    /// Returns the order of a row, or `best`. `SINGLE` says that all rows are single: comparing one is no
    /// call then. Not inlined, as it needs all registers.
    #[inline(never)]
    pub(super) fn first_match<const SINGLE: bool>(
        &self,
        trees: Slice,
        rows: &Rows,
        query: &Query<'_>,
        deleted: &[u32],
        best: u32,
    ) -> u32 {
        let mut found = Found::from_best(deleted, best);
        for tree in trees.of(&self.roots) {
            if tree.first >= found.best() {
                break;
            }
            let cell = self.descend(tree.root, &query.words);
            if cell == Cell::EMPTY {
                continue;
            }
            match self.cells.list(cell) {
                None => {
                    found.take(rows.compare::<SINGLE>(cell.0, query));
                }
                Some(list) => {
                    found.take_first(list, |row| rows.compare::<SINGLE>(row.0, query));
                }
            }
        }
        found.best()
    }

    /// Goes from `cell` down to a cell that is no node: an empty one, a row, or a list of rows.
    #[inline(always)]
    fn descend(&self, mut cell: Cell, words: &Words) -> Cell {
        while let Some(number) = cell.node() {
            let Some(node) = self.nodes.get(number) else {
                return Cell::EMPTY;
            };
            let index = (node.base as usize).wrapping_add(node.index(words));
            cell = self.cells.get(index);
        }
        cell
    }

    /// Returns how much there is, for [`undo`](Self::undo).
    fn extent(&self) -> Extent {
        Extent {
            nodes: self.nodes.len(),
            cells: self.cells.extent(),
        }
    }

    /// Drops what was built since, but for roots.
    fn undo(&mut self, to: Extent) {
        self.nodes.truncate(to.nodes);
        self.cells.undo(to.cells);
    }
}

/// Appends the tree of all items that no group has taken, or one tree for each direction where these cost
/// half of it. `tree` is what was built of the items, if it was, when there were `extent` trees before.
#[inline(never)]
fn push_rest(
    builder: &mut TreeBuilder<'_>,
    numbers: &[u32],
    extent: Extent,
    tree: Option<BuiltTree>,
) -> Result<(), NoMemory> {
    let tree = match tree {
        Some(tree) => tree,
        None => builder.tree(numbers)?,
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
            let root = RootedTree::new(builder, numbers, &tree);
            return builder.trees().roots.push(root);
        }
        let with = builder.trees().extent();
        let (mut worst, mut mean): (Cost, Cost) = (0, 0);
        for own in &directions {
            let tree = builder.tree(own)?;
            worst = worst.saturating_add(tree.worst);
            mean = mean.saturating_add(tree.mean);
        }
        builder.trees().undo(with);
        // Packets that match no rule pass both.
        if mean < tree.mean / 2 && worst < tree.worst / 2 {
            builder.trees().undo(extent);
            for own in &directions {
                let tree = builder.tree(own)?;
                let root = RootedTree::new(builder, own, &tree);
                builder.trees().roots.push(root)?;
            }
            return Ok(());
        }
    }
    let root = RootedTree::new(builder, numbers, &tree);
    builder.trees().roots.push(root)
}
