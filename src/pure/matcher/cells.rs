// SPDX-License-Identifier: GPL-2.0

//! The memory in which hash tables and trees lie: cells, the rows that cells name, and lists of rows.

use crate::pure::{
    alloc::{
        end_of,
        NoMemory,
        Vec, //
    },
    matcher::cost::COMBINATIONS,
    table::MAX_RULES, //
};

/// A row's number, and how a packet is to be compared with it.
///
/// | bit | in a tree | in a hash table |
/// |---|---|---|
/// | 25 | the packet is compared exchanged | the table's mask is all that the rule specifies |
/// | 24 | a row of lists | never set |
/// | 23 to 0 | the index | the index |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowId(pub(super) u32);

impl RowId {
    /// The lowest bit of [`Self::exchanged`].
    pub(super) const EXCHANGED_SHIFT: u32 = 25;
    /// The bit of a row that is compared in the table's mask only. Trees use the bit otherwise.
    pub(super) const WHOLE: u32 = 1 << Self::EXCHANGED_SHIFT;
    /// The bit of a row of lists.
    pub(super) const LISTS: u32 = 1 << 24;
    /// The bits of the index.
    pub(super) const INDEX: u32 = Self::LISTS - 1;

    /// Returns the single row of that index.
    pub(super) fn new(index: usize) -> Self {
        // No table has more rows.
        const { assert!(MAX_RULES * COMBINATIONS < Self::LISTS as usize) };

        Self(index as u32 & Self::INDEX)
    }

    /// Returns the row of lists of that index.
    pub(super) fn lists(self) -> Self {
        Self(self.0 | Self::LISTS)
    }

    /// Returns this row of a tree, to be compared with packets exchanged.
    pub(super) fn exchanged(self) -> Self {
        Self(self.0 | 1 << Self::EXCHANGED_SHIFT)
    }

    /// Returns whether this row of a tree is compared with packets exchanged.
    pub(super) fn is_exchanged(self) -> bool {
        self.0 & 1 << Self::EXCHANGED_SHIFT != 0
    }

    /// Returns this row of a hash table whose mask is all that its rule specifies.
    pub(super) fn whole(self) -> Self {
        Self(self.0 | Self::WHOLE)
    }

    /// Returns the index of the row among single rows, or among rows of lists.
    pub(super) fn index(self) -> usize {
        (self.0 & Self::INDEX) as usize
    }

    /// Returns whether it is a row of lists.
    pub(super) fn is_lists(self) -> bool {
        self.0 & Self::LISTS != 0
    }
}

/// A cell: empty, a row, the start of a list of rows, or a node of a tree.
///
/// | bits 31, 30 | kind | bits 29 to 0 |
/// |---|---|---|
/// | 00 | empty | 0 |
/// | 01 | a row | 29: the last of a list, or alone; the others: a [`RowId`] |
/// | 10 | a list | the place of its first row |
/// | 11 | a node | its number |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell(pub(super) u32);

impl Cell {
    pub(super) const EMPTY: Self = Self(0);
    const ROW: u32 = 1 << 30;
    const LIST: u32 = 2 << 30;
    const NODE: u32 = 3 << 30;
    const KIND: u32 = 3 << 30;
    /// The numbers that a list or a node can have.
    const NUMBERS: usize = 1 << 30;
    /// Marks the last row of a list, and a row alone.
    pub(super) const LAST: u32 = 1 << 29;

    /// Returns the cell of a row.
    pub(super) fn row(id: RowId) -> Self {
        Self(Self::ROW | id.0)
    }

    /// Returns the row's cell, marked as the last one.
    pub(super) fn last(self) -> Self {
        Self(self.0 | Self::LAST)
    }

    /// Returns the cell of the list that starts at `place`. Fails where there can be no more lists.
    pub(super) fn list(place: usize) -> Result<Self, NoMemory> {
        Self::of(Self::LIST, place)
    }

    /// Returns the cell of a node. Fails where there can be no more nodes.
    pub(super) fn of_node(number: usize) -> Result<Self, NoMemory> {
        Self::of(Self::NODE, number)
    }

    /// Returns the cell of a kind. 2^30 lists or nodes would take 4 GiB and more, so that their memory
    /// fails first.
    fn of(kind: u32, number: usize) -> Result<Self, NoMemory> {
        match u32::try_from(number) {
            Ok(small) if number < Self::NUMBERS => Ok(Self(kind | small)),
            _ => Err(NoMemory),
        }
    }

    /// Returns whether it is one row, [`RowId::whole`].
    #[inline(always)]
    pub(super) fn is_whole(self) -> bool {
        self.0 & (Self::LIST | RowId::WHOLE) == RowId::WHOLE
    }

    /// Returns whether it is a row: alone, or in a list.
    fn is_row(self) -> bool {
        self.0 & Self::KIND == Self::ROW
    }

    /// Returns the number of the node, if it is one.
    #[inline(always)]
    pub(super) fn node(self) -> Option<usize> {
        (self.0 >= Self::NODE).then_some((self.0 & !Self::KIND) as usize)
    }

    /// Returns the place of the list, if it is one. A node is none.
    #[inline(always)]
    pub(super) fn list_place(self) -> Option<usize> {
        (self.0 & Self::LIST != 0).then_some((self.0 & !Self::KIND) as usize)
    }
}

/// Cells by their numbers, and lists by their places.
pub(super) struct Cells {
    cells: Vec<Cell>,
    lists: Vec<Cell>,
}

/// How many cells and places of lists there are at some time.
#[derive(Clone, Copy)]
pub(super) struct CellsExtent {
    cells: usize,
    lists: usize,
}

impl Cells {
    /// Returns no cells.
    pub(super) const fn new() -> Self {
        Self {
            cells: Vec::new(),
            lists: Vec::new(),
        }
    }

    /// Returns the number of cells.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Returns the number of cells, as a cell of its own would have it.
    pub(super) fn end(&self) -> u32 {
        end_of(&self.cells)
    }

    /// Returns the number of cells and of places in lists.
    pub(super) fn total(&self) -> usize {
        self.cells.len().saturating_add(self.lists.len())
    }

    /// Returns a cell; an empty one for a number beyond all.
    #[inline(always)]
    pub(super) fn get(&self, number: usize) -> Cell {
        self.cells.get(number).copied().unwrap_or(Cell::EMPTY)
    }

    /// Sets a cell.
    pub(super) fn set(&mut self, number: usize, to: Cell) {
        if let Some(cell) = self.cells.get_mut(number) {
            *cell = to;
        }
    }

    /// Returns the cells from number `first` on, to be changed.
    pub(super) fn tail_mut(&mut self, first: usize) -> &mut [Cell] {
        self.cells.get_mut(first..).unwrap_or_default()
    }

    /// Appends `count` empty cells. Returns the number of the first one.
    pub(super) fn add(&mut self, count: usize) -> Result<usize, NoMemory> {
        let first = self.cells.len();
        self.cells.reserve(count)?;
        for _ in 0..count {
            self.cells.push(Cell::EMPTY)?;
        }
        Ok(first)
    }

    /// Drops the cells from number `first` on.
    pub(super) fn truncate(&mut self, first: usize) {
        self.cells.truncate(first);
    }

    /// Puts `row` in a cell that will have `rows` of them, behind those that are there.
    pub(super) fn put(&mut self, number: usize, row: RowId, rows: u8) -> Result<(), NoMemory> {
        if rows <= 1 {
            self.set(number, Cell::row(row).last());
            return Ok(());
        }
        let place = match self.get(number).list_place() {
            Some(place) => place,
            None => {
                let place = self.lists.len();
                for _ in 1..rows {
                    self.lists.push(Cell::EMPTY)?;
                }
                // The last place is marked before it has a row.
                self.lists.push(Cell::EMPTY.last())?;
                self.set(number, Cell::list(place)?);
                place
            }
        };
        let mut list = self.lists.get_mut(place..).unwrap_or_default().iter_mut();
        if let Some(free) = list.find(|place| !place.is_row()) {
            *free = Cell(free.0 | Cell::row(row).0);
        }
        Ok(())
    }

    /// Returns the cell of `rows`, which become a list where they are more than one.
    pub(super) fn leaf(&mut self, rows: impl Iterator<Item = RowId>) -> Result<Cell, NoMemory> {
        let place = self.lists.len();
        for row in rows {
            self.lists.push(Cell::row(row))?;
        }
        let count = self.lists.len().saturating_sub(place);
        let Some(last) = self.lists.last_mut().filter(|_| count != 0) else {
            return Ok(Cell::EMPTY);
        };
        *last = last.last();
        let last = *last;
        if count == 1 {
            self.lists.truncate(place);
            return Ok(last);
        }
        Cell::list(place)
    }

    /// Returns the rows of a list, in their order, and what lies behind them: the last one has
    /// [`Cell::LAST`] set. [`None`] for a row alone, and for an empty cell.
    #[inline(always)]
    pub(super) fn list(&self, cell: Cell) -> Option<&[Cell]> {
        match cell.0 & Cell::LIST {
            0 => None,
            _ => self.lists.get((cell.0 & !Cell::KIND) as usize..),
        }
    }

    /// Returns the cells from number `start` to ahead of number `end`.
    pub(super) fn range(&self, start: usize, end: usize) -> &[Cell] {
        self.cells.get(start..end).unwrap_or_default()
    }

    /// Returns all lists, one behind the other.
    pub(super) fn lists(&self) -> &[Cell] {
        &self.lists
    }

    /// Returns the rows of a cell that is no node: of a list, or the one.
    pub(super) fn rows(&self, cell: Cell) -> impl Iterator<Item = Cell> + '_ {
        let alone = Some(cell).filter(|cell| cell.is_row());
        let list = match cell.list_place().filter(|_| cell.node().is_none()) {
            Some(place) => self.lists.get(place..).unwrap_or_default(),
            None => &[],
        };
        let last = list.iter().position(|row| row.0 & Cell::LAST != 0);
        let end = last.map_or(0, |last| last.saturating_add(1));
        alone
            .into_iter()
            .chain(list.get(..end).unwrap_or_default().iter().copied())
    }

    /// Returns how much there is, for [`undo`](Self::undo).
    pub(super) fn extent(&self) -> CellsExtent {
        CellsExtent {
            cells: self.cells.len(),
            lists: self.lists.len(),
        }
    }

    /// Drops what was added since.
    pub(super) fn undo(&mut self, to: CellsExtent) {
        self.cells.truncate(to.cells);
        self.lists.truncate(to.lists);
    }
}
