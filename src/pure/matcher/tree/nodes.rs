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
            DEAREST_PLACE,
            NODE_COST, //
        },
        limits::{
            Limits,
            Pace,
            Stop, //
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

/// What a search costs at worst from each node on, and from each place of a list on.
pub(super) struct NodeCosts {
    nodes: Vec<Cost>,
    lists: Vec<Cost>,
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

    /// Returns the costs of all nodes and lists. `cost` gives the cost of a row. Goes through them once.
    pub(super) fn costs(
        &self,
        cost: &impl Fn(Cell) -> Cost,
        limits: &dyn Limits,
    ) -> Result<NodeCosts, Stop> {
        let mut pace = Pace::new(limits);
        let lists = self.cells.lists();
        let mut costs = NodeCosts {
            nodes: zeros(self.nodes.len())?,
            lists: zeros(lists.len())?,
        };
        // The rest of a list lies behind a place, and what lies below a node behind that.
        let mut behind = 0;
        for (row, own) in lists.iter().zip(costs.lists.iter_mut()).rev() {
            pace.work(DEAREST_PLACE)?;
            behind = match row.0 & Cell::LAST {
                0 => cost(*row).saturating_add(behind),
                _ => cost(*row),
            };
            *own = behind;
        }
        for (number, node) in self.nodes.iter().enumerate().rev() {
            let mut most = 0;
            for cell in self.cells_of(node) {
                pace.work(DEAREST_PLACE)?;
                most = most.max(self.cost_of(&costs, *cell, cost));
            }
            if let Some(own) = costs.nodes.get_mut(number) {
                *own = most.saturating_add(NODE_COST);
            }
        }
        Ok(costs)
    }

    /// Returns the cost of a search from `cell` on.
    fn cost_of(&self, costs: &NodeCosts, cell: Cell, cost: &impl Fn(Cell) -> Cost) -> Cost {
        let known = match (cell.node(), cell.list_place()) {
            (Some(number), _) => costs.nodes.get(number),
            (None, Some(place)) => costs.lists.get(place),
            (None, None) => return self.cells.rows(cell).map(cost).next().unwrap_or(0),
        };
        known.copied().unwrap_or(0)
    }

    /// Returns the leaf that is reached from `root` at most cost.
    pub(super) fn dearest_leaf(
        &self,
        costs: &NodeCosts,
        root: Cell,
        cost: &impl Fn(Cell) -> Cost,
    ) -> Cell {
        let mut cell = root;
        while let Some(node) = cell.node().and_then(|number| self.nodes.get(number)) {
            let below = self.cells_of(node).iter().copied();
            cell = below
                .max_by_key(|cell| self.cost_of(costs, *cell, cost))
                .unwrap_or(Cell::EMPTY);
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

/// Returns so many costs of nothing.
fn zeros(count: usize) -> Result<Vec<Cost>, NoMemory> {
    let mut costs = Vec::with_capacity(count)?;
    for _ in 0..count {
        costs.push(0)?;
    }
    Ok(costs)
}
