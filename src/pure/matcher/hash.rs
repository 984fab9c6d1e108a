// SPDX-License-Identifier: GPL-2.0

//! Hash tables of rules that specify certain bits of addresses, ports and protocol.
//!
//! A packet is looked up in each table twice, once as it is and once exchanged, so that a rule is in
//! one place whatever directions it matches. Rows that share a cell are compared one by one: masks are
//! chosen so that these are few. A row too many for its cell stays out, and goes to the decision trees
//! ([`tree`](super::tree)), as do all rows that specify no table's bits.
//!
//! These are the tuples of Srinivasan, Suri and Varghese (tuple space search, SIGCOMM 1999), made
//! fewer as in TupleMerge (Daly et al., IEEE/ACM Transactions on Networking 27, 2019): a table takes
//! rules that specify more bits than its mask, too.

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
            RowId, //
        },
        combination::Combination,
        cost::{
            Cost,
            CELLS_PER_ROW,
            ROWS_PER_CELL,
            TABLES,
            TABLES_LEAVE,
            TABLE_COST,
            TABLE_PART,
            TABLE_PREFIXES,
            TABLE_ROWS,
            TABLE_ROW_COST,
            TABLE_SAMPLE, //
        },
        estimate::{
            distinct,
            worth,
            Seen, //
        },
        found::Found,
        row::Rows,
        slice::Slice,
        words::{
            common_bits,
            high,
            pair,
            Probe,
            ProbeMask,
            Probes,
            PROTOCOL_SHIFT, //
        },
    },
    rule::Prefix, //
};

/// The bits that a combination specifies, as written.
#[derive(Clone, Copy)]
pub(super) struct Pattern {
    value: ProbeMask,
    mask: ProbeMask,
    /// Whether these bits say all that the combination does: its ports end where bits do.
    is_whole: bool,
    row: RowId,
}

impl Pattern {
    /// Returns the pattern of a combination whose row compares all of it.
    pub(super) fn new(combination: &Combination, row: RowId) -> Self {
        let address = |prefix: Option<Prefix>| {
            prefix.map_or((0, 0), |prefix| (high(prefix.value()), high(prefix.mask())))
        };
        let source = address(combination.source);
        let destination = address(combination.destination);
        let ports = [combination.source_ports, combination.destination_ports];
        let [source_bits, destination_bits] = ports.map(common_bits);
        let [source_port, destination_port] = ports.map(|(first, _)| first);
        let protocol = |number: u8| u64::from(number) << PROTOCOL_SHIFT;
        let mask = ProbeMask {
            addresses: source.1 | destination.1 >> 32,
            rest: pair(source_bits, destination_bits)
                | protocol(combination.protocol.map_or(0, |_| u8::MAX)),
        };
        let value = ProbeMask {
            addresses: source.0 | destination.0 >> 32,
            rest: pair(source_port, destination_port) | protocol(combination.protocol.unwrap_or(0)),
        };
        Self {
            value: value.and(mask),
            mask,
            is_whole: ports.iter().all(ends_with_bits),
            row,
        }
    }

    /// Returns whether all bits of `mask` are specified.
    fn specifies(&self, mask: ProbeMask) -> bool {
        self.mask.and(mask) == mask
    }
}

/// Returns whether the ports that share the first bits of a range are that range.
fn ends_with_bits(range: &(u16, u16)) -> bool {
    let free = !common_bits(*range);
    range.0 & free == 0 && range.1 & free == free
}

/// One hash table.
#[derive(Clone, Copy)]
struct HashTable {
    /// The bits that all of its rows specify, and that are hashed.
    mask: ProbeMask,
    /// The order of the first of its rules.
    first: u32,
    /// The number of its first cell.
    base: u32,
    /// How many bits of a hash are dropped behind the number of the cell.
    shift: u32,
    /// The most rows that share a cell.
    most: u8,
}

impl HashTable {
    /// Returns the order of the first of its rules.
    fn first(&self) -> u32 {
        self.first
    }

    /// Returns the number of the cell of a packet, or of a pattern's value.
    #[inline(always)]
    fn cell(&self, value: ProbeMask) -> usize {
        let number = value.and(self.mask).hash().wrapping_shr(self.shift);
        (self.base as usize).wrapping_add(number as usize)
    }

    /// Returns the cost of a lookup at worst.
    fn worst_cost(&self) -> Cost {
        u32::from(self.most)
            .saturating_mul(2 * TABLE_ROW_COST)
            .saturating_add(TABLE_COST)
    }
}

/// The hash tables of a matcher, section by section.
pub(super) struct HashTables {
    tables: Vec<HashTable>,
    cells: Cells,
}

/// The hash tables of a section, and the rows in them.
#[derive(Default)]
pub(super) struct Built {
    /// The tables.
    pub(super) tables: Slice,
    /// A bit for each single row of the section that is in one of them, from its first row on.
    placed: Vec<u32>,
    first_row: usize,
}

impl Built {
    /// Returns whether a row is in one of the tables.
    pub(super) fn has(&self, row: RowId) -> bool {
        let number = row.index().wrapping_sub(self.first_row);
        !row.is_lists() && bitmap::is_set(&self.placed, number)
    }
}

impl HashTables {
    /// Returns no tables.
    pub(super) const fn new() -> Self {
        Self {
            tables: Vec::new(),
            cells: Cells::new(),
        }
    }

    /// Builds the tables of a section whose rows for IPv4 are `patterns`, ascending, and `lists` rows
    /// of lists. Builds none where too many rows would be left. Process context.
    pub(super) fn build(
        &mut self,
        mut patterns: Vec<Pattern>,
        lists: usize,
        first_row: usize,
        rows: &Rows,
    ) -> Result<Built, NoMemory> {
        let total = patterns.len().saturating_add(lists);
        let mut built = Built {
            tables: Slice::default(),
            placed: bitmap::empty(rows.singles().saturating_sub(first_row))?,
            first_row,
        };
        let (start, extent) = (self.tables.len(), self.cells.extent());
        let mut count = 0usize;
        for _ in 0..TABLES {
            let Some(mask) = choose_mask(&patterns, total)? else {
                break;
            };
            let table = self.add_table(&mut patterns, mask, rows, |row| {
                count = count.saturating_add(1);
                bitmap::set(&mut built.placed, row.index().wrapping_sub(first_row));
            })?;
            self.tables.push(table)?;
        }
        if total.saturating_sub(count) > total / TABLES_LEAVE {
            self.cells.undo(extent);
            self.tables.truncate(start);
            return Ok(Built::default());
        }
        built.tables = Slice::sorted(&mut self.tables, start, HashTable::first);
        Ok(built)
    }

    /// Makes a table of those `patterns` that specify `mask`, and takes them out. Calls `placed` for each
    /// row that has room in its cell.
    #[inline(never)]
    fn add_table(
        &mut self,
        patterns: &mut Vec<Pattern>,
        mask: ProbeMask,
        rows: &Rows,
        mut placed: impl FnMut(RowId),
    ) -> Result<HashTable, NoMemory> {
        let mut own = Vec::with_capacity(patterns.len())?;
        for pattern in patterns.iter().filter(|pattern| pattern.specifies(mask)) {
            own.push(*pattern)?;
        }
        patterns.retain(|pattern| !pattern.specifies(mask));
        let width = own
            .len()
            .saturating_mul(CELLS_PER_ROW)
            .next_power_of_two()
            .ilog2();
        let count = 1usize.wrapping_shl(width);
        let mut table = HashTable {
            mask,
            first: 0,
            base: self.cells.end(),
            shift: u64::BITS.wrapping_sub(width),
            most: 0,
        };
        self.cells.add(count)?;
        let base = table.base as usize;
        let mut counts: Vec<u8> = Vec::with_capacity(count)?;
        for _ in 0..count {
            counts.push(0)?;
        }
        own.retain(|pattern| {
            let cell = table.cell(pattern.value).wrapping_sub(base);
            let Some(rows) = counts.get_mut(cell).filter(|rows| **rows < ROWS_PER_CELL) else {
                return false;
            };
            *rows = rows.wrapping_add(1);
            table.most = table.most.max(*rows);
            true
        });
        table.first = own
            .first()
            .map_or(u32::MAX, |pattern| rows.order(pattern.row));
        for pattern in own.iter() {
            let row = match pattern.is_whole && pattern.mask == mask {
                true => pattern.row.whole(),
                false => pattern.row,
            };
            let cell = table.cell(pattern.value);
            let count = counts.get(cell.wrapping_sub(base)).copied();
            self.cells.put(cell, row, count.unwrap_or(1))?;
            placed(pattern.row);
        }
        Ok(table)
    }

    /// Returns the tables of several sections as those of one.
    pub(super) fn joined(
        &mut self,
        tables: impl Iterator<Item = Slice> + Clone,
    ) -> Result<Slice, NoMemory> {
        Slice::joined(&mut self.tables, tables, HashTable::first)
    }

    /// Returns the cost of a lookup in some tables at worst.
    pub(super) fn worst_cost(&self, tables: Slice) -> usize {
        let costs = tables.of(&self.tables).iter().map(HashTable::worst_cost);
        costs.fold(0usize, |sum, cost| sum.saturating_add(cost as usize))
    }

    /// Searches the tables of a section for the first rule that matches a packet of IPv4. Any context.
    #[inline(always)]
    pub(super) fn first_match<'m>(
        &'m self,
        tables: Slice,
        rows: &Rows,
        probes: &Probes,
        mut found: Found<'m>,
    ) -> Found<'m> {
        for table in tables.of(&self.tables) {
            if table.first >= found.best() {
                break;
            }
            let [written, exchanged] = &probes.both;
            let cells = [
                self.cells.get(table.cell(written.bits())),
                self.cells.get(table.cell(exchanged.bits())),
            ];
            if cells == [Cell::EMPTY; 2] {
                continue;
            }
            let [as_written, as_exchanged] = cells;
            self.search_cell(table, rows, as_written, written, &mut found);
            self.search_cell(table, rows, as_exchanged, exchanged, &mut found);
        }
        found
    }

    /// Takes the first row of a cell that matches.
    #[inline(always)]
    fn search_cell(
        &self,
        table: &HashTable,
        rows: &Rows,
        cell: Cell,
        probe: &Probe,
        found: &mut Found<'_>,
    ) {
        if cell == Cell::EMPTY {
            return;
        }
        if !cell.is_whole() {
            let (deleted, best) = (found.deleted(), found.best());
            found.set_best(self.search_rows(table, rows, cell, *probe, deleted, best));
            return;
        }
        found.take(rows.compare_whole(cell.0, probe, &table.mask));
    }

    /// Returns the lowest order of a list's rows that match, or of a row that specifies more than the
    /// table's mask, if it is below `best`.
    ///
    /// Not inlined, so that packets that meet none need few registers.
    #[inline(never)]
    fn search_rows(
        &self,
        table: &HashTable,
        rows: &Rows,
        cell: Cell,
        probe: Probe,
        deleted: &[u32],
        best: u32,
    ) -> u32 {
        let mut found = Found::from_best(deleted, best);
        let compare = |row: Cell| rows.compare_in(row.0, &probe, &table.mask);
        match self.cells.list(cell) {
            None => {
                found.take(compare(cell));
            }
            Some(list) => found.take_first(list, compare),
        }
        found.best()
    }
}

/// Returns the mask that most patterns specify and that tells these apart best; [`None`] where none is
/// worth a table. `total` is the number of rows that the section has for IPv4.
#[inline(never)]
fn choose_mask(patterns: &[Pattern], total: usize) -> Result<Option<ProbeMask>, NoMemory> {
    let stride = patterns.len().div_ceil(TABLE_SAMPLE).max(1);
    let mut sample = Vec::with_capacity(TABLE_SAMPLE)?;
    for at in (0..patterns.len()).step_by(stride) {
        sample.push(at as u32)?;
    }
    let at = |number: u32| patterns.get(number as usize);
    let mut own = Vec::with_capacity(sample.len())?;
    let mut seen = Seen::new()?;
    let mut best: Option<(usize, ProbeMask)> = None;
    each_candidate(|mask| {
        own.clear();
        for number in sample.iter() {
            if at(*number).is_some_and(|pattern| pattern.specifies(mask)) {
                own.push(*number)?;
            }
        }
        let count = own.len().saturating_mul(stride);
        if count < TABLE_ROWS || count.saturating_mul(TABLE_PART) < total {
            return Ok(());
        }
        let hash = |number: u32| at(number).map_or(0, |pattern| pattern.value.and(mask).hash());
        let worth = worth(count, distinct(&mut seen, &own, hash, usize::MAX));
        if best.is_none_or(|(most, _)| worth > Some(most)) {
            best = worth.map(|worth| (worth, mask));
        }
        Ok(())
    })?;
    Ok(best.map(|(_, mask)| mask))
}

/// Calls `with` for all masks that are tried, masks of more bits first.
fn each_candidate(mut with: impl FnMut(ProbeMask) -> Result<(), NoMemory>) -> Result<(), NoMemory> {
    let mask = |len: u32| u64::from(!u32::MAX.checked_shr(len).unwrap_or(0));
    let all = u16::MAX;
    for source in TABLE_PREFIXES.map(mask) {
        for destination in TABLE_PREFIXES.map(mask) {
            for ports in [pair(all, all), pair(0, all), pair(all, 0), 0] {
                for protocol in [u64::from(u8::MAX) << PROTOCOL_SHIFT, 0] {
                    with(ProbeMask {
                        addresses: source << 32 | destination,
                        rest: ports | protocol,
                    })?;
                }
            }
        }
    }
    Ok(())
}
