// SPDX-License-Identifier: GPL-2.0

//! The nodes of trees, their cells, and which rules shadow others.

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
            NODE_COST, //
        },
        words::{
            Words,
            WORDS, //
        },
    },
};

/// A choice among cells by some bits of one word.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) mask: u64,
    /// Brings the bits to the top: a power of two, or a number that hashes them.
    pub(super) multiplier: u64,
    /// The number of its first cell.
    pub(super) base: u32,
    /// How many bits of the product are dropped behind the number of the cell.
    pub(super) shift: u8,
    pub(super) word: u8,
}

impl Node {
    /// Returns the number of a key's cell, from the first cell of the node on.
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

/// The nodes of all trees.
pub(super) struct Nodes {
    nodes: Vec<Node>,
    pub(super) cells: Cells,
    /// A bit for the position of each rule behind which others were left out of some cell.
    shadowing: Vec<u32>,
}

/// How many nodes and cells there are at some time.
#[derive(Clone, Copy)]
pub(super) struct NodesExtent {
    nodes: usize,
    cells: CellsExtent,
}

impl Nodes {
    /// Returns no nodes.
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            cells: Cells::new(),
            shadowing: Vec::new(),
        }
    }

    /// Makes room to note which of so many rules shadow others.
    pub(super) fn reserve(&mut self, rules: usize) -> Result<(), NoMemory> {
        self.shadowing = bitmap::empty(rules)?;
        Ok(())
    }

    /// Returns how many bytes the nodes and cells take.
    pub(super) fn bytes(&self) -> usize {
        let nodes = self.nodes.len().saturating_mul(size_of::<Node>());
        let cells = self.cells.total().saturating_mul(size_of::<Cell>());
        nodes.saturating_add(cells)
    }

    /// Appends a node. Returns its cell.
    pub(super) fn push(&mut self, node: Node) -> Result<Cell, NoMemory> {
        let cell = Cell::of_node(self.nodes.len())?;
        self.nodes.push(node)?;
        Ok(cell)
    }

    /// Notes that the rule of that number shadows others.
    pub(super) fn note_shadowing(&mut self, rule: u32) {
        bitmap::set(&mut self.shadowing, rule as usize);
    }

    /// Returns whether the rule of that number shadows others.
    pub(super) fn shadows(&self, rule: usize) -> bool {
        bitmap::is_set(&self.shadowing, rule)
    }

    /// Goes from `cell` down to a cell that is no node: an empty one, a row, or a list of rows.
    #[inline(always)]
    pub(super) fn descend(&self, mut cell: Cell, words: &Words) -> Cell {
        while let Some(number) = cell.node() {
            let Some(node) = self.nodes.get(number) else {
                return Cell::EMPTY;
            };
            let index = (node.base as usize).wrapping_add(node.index(words));
            cell = self.cells.get(index);
        }
        cell
    }

    /// Returns the cells of a node.
    fn cells_of(&self, node: &Node) -> &[Cell] {
        let count = 1usize.wrapping_shl(u64::BITS.wrapping_sub(node.shift.into()));
        let start = node.base as usize;
        self.cells.range(start, start.saturating_add(count))
    }

    /// Returns the leaf that is reached from `root` at most cost. `cost` gives the cost of a row.
    pub(super) fn dearest_leaf(
        &self,
        root: Cell,
        cost: impl Fn(Cell) -> Cost,
    ) -> Result<Cell, NoMemory> {
        let of_rows = |cell: Cell| {
            let rows = self.cells.rows(cell);
            rows.fold(0u32, |sum, row| sum.saturating_add(cost(row)))
        };
        // Of each node, with all that lies below. These come behind it.
        let mut costs: Vec<Cost> = Vec::with_capacity(self.nodes.len())?;
        for _ in 0..self.nodes.len() {
            costs.push(0)?;
        }
        let of = |costs: &[Cost], cell: Cell| match cell.node() {
            Some(number) => costs.get(number).copied().unwrap_or(0),
            None => of_rows(cell),
        };
        for (number, node) in self.nodes.iter().enumerate().rev() {
            let below = self.cells_of(node).iter().map(|cell| of(&costs, *cell));
            let most = below.max().unwrap_or(0);
            if let Some(own) = costs.get_mut(number) {
                *own = most.saturating_add(NODE_COST);
            }
        }
        let mut cell = root;
        while let Some(node) = cell.node().and_then(|number| self.nodes.get(number)) {
            let below = self.cells_of(node).iter().copied();
            cell = below
                .max_by_key(|cell| of(&costs, *cell))
                .unwrap_or(Cell::EMPTY);
        }
        Ok(cell)
    }

    /// Returns how much there is, for [`undo`](Self::undo).
    pub(super) fn extent(&self) -> NodesExtent {
        NodesExtent {
            nodes: self.nodes.len(),
            cells: self.cells.extent(),
        }
    }

    /// Drops the nodes and cells that were appended since.
    pub(super) fn undo(&mut self, to: NodesExtent) {
        self.nodes.truncate(to.nodes);
        self.cells.undo(to.cells);
    }
}
