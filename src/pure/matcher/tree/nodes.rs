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
