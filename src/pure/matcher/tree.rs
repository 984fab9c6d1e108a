// SPDX-License-Identifier: GPL-2.0

//! Decision trees: tell which rows a packet is to be compared with.
//!
//! A node takes some bits of one word of the packet's key and has a cell for each value that they
//! can have, or for each hash of them. A cell is empty, a row, a list of rows, or a node again.
//!
//! Where all rules of a node say the same bits, whatever values, a node hashes these: no rule lies in
//! two cells, however sparse the values are. Else four or eight neighbouring bits are cut, and a rule
//! that does not say them lies in several cells. What a cut leaves is estimated from a sample of the
//! rules; where wide rules make it look useless, the first rules are looked at by themselves, as they
//! hide those behind them.
//!
//! Left out of a cell is what can never be the first to match there: what lies behind a rule that
//! matches all that is left, and, of long lists, what is alike to a rule before as far as the cell
//! goes. A rule behind which others were left out is noted ([`Trees::hides`]), as these may have to
//! come back when it goes.
//!
//! Each tree has room for so many cells and places in lists ([`ROOM`]), of which each part has its
//! share, large ones more than in proportion, and takes what those before it left. Where there is no
//! more, or too much was looked at ([`WORK`]), a list stays as long as it is, and is written in any case.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    bitmap,
    matcher::{
        row::{
            Part,
            RowId,
            Rows,
            ALL, //
        },
        words::{
            pair,
            place,
            Words,
            CLASS_SHIFT,
            DESTINATION_PORT_SHIFT,
            HASH,
            PROTOCOL_SHIFT,
            SOURCE_PORT_SHIFT,
            TRANSPORT,
            WORDS, //
        },
    },
    rule::{
        Family,
        Mark, //
    },
};

/// What is found in a place: nothing, a row, the start of a list of rows, or a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell(pub(super) u32);

impl Cell {
    pub(super) const EMPTY: Self = Self(0);
    const ROW: u32 = 1 << 30;
    const LIST: u32 = 2 << 30;
    const NODE: u32 = 3 << 30;
    const KIND: u32 = 3 << 30;
    /// Marks the last row of a list, and a row by itself.
    pub(super) const LAST: u32 = 1 << 29;

    fn row(id: RowId) -> Self {
        Self(Self::ROW | id.0)
    }

    fn last(self) -> Self {
        Self(self.0 | Self::LAST)
    }

    fn at(kind: u32, place: usize) -> Result<Self, NoMemory> {
        match u32::try_from(place) {
            Ok(place) if place & Self::KIND == 0 => Ok(Self(kind | place)),
            _ => Err(NoMemory),
        }
    }

    /// Whether it is one row, [`RowId::bare`].
    #[inline(always)]
    pub(super) fn is_bare(self) -> bool {
        self.0 & (Self::LIST | RowId::BARE) == RowId::BARE
    }

    /// The node's number, if it is one.
    #[inline(always)]
    fn node(self) -> Option<usize> {
        (self.0 >= Self::NODE).then_some((self.0 & !Self::KIND) as usize)
    }
}

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

/// The ports in the word [`TRANSPORT`].
const PORT_BITS: u64 = 0xffff_ffff << DESTINATION_PORT_SHIFT;

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

/// The trees of a matcher.
pub(super) struct Trees {
    nodes: Vec<Node>,
    cells: Vec<Cell>,
    lists: Vec<Cell>,
    /// A bit for the position of each rule behind which others were left out of some cell.
    hiding: Vec<u32>,
}

/// What a search of a tree takes at worst, in instructions, roughly.
pub(super) type Cost = u32;

/// How many instructions a node takes.
const NODE_COST: Cost = 19;

impl Trees {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            cells: Vec::new(),
            lists: Vec::new(),
            hiding: Vec::new(),
        }
    }

    /// The cell of that number.
    #[inline(always)]
    pub(super) fn cell(&self, number: usize) -> Cell {
        self.cells.get(number).copied().unwrap_or(Cell::EMPTY)
    }

    /// The cell of that number, to be changed.
    pub(super) fn cell_mut(&mut self, number: usize) -> Option<&mut Cell> {
        self.cells.get_mut(number)
    }

    /// Adds that many empty cells, and gives the number of the first one.
    pub(super) fn add_cells(&mut self, count: usize) -> Result<usize, NoMemory> {
        let first = self.cells.len();
        self.cells.reserve(count)?;
        for _ in 0..count {
            self.cells.push(Cell::EMPTY)?;
        }
        Ok(first)
    }

    /// Puts a row in a cell that says how many there will be, or that has one of these already.
    pub(super) fn put(&mut self, number: usize, row: RowId) -> Result<(), NoMemory> {
        let cell = self.cell(number);
        if cell.0 == 1 {
            return self.set(number, Cell::row(row).last());
        }
        let mut place = (cell.0 & !Cell::KIND) as usize;
        if cell.0 & Cell::KIND == 0 {
            // The last place of a list is marked before it has a row.
            place = self.lists.len();
            for _ in 1..cell.0 {
                self.lists.push(Cell::EMPTY)?;
            }
            self.lists.push(Cell::EMPTY.last())?;
            self.set(number, Cell::at(Cell::LIST, place)?)?;
        }
        let mut list = self.lists.get_mut(place..).unwrap_or_default().iter_mut();
        if let Some(free) = list.find(|place| place.0 & Cell::KIND == 0) {
            *free = Cell(free.0 | Cell::row(row).0);
        }
        Ok(())
    }

    fn set(&mut self, number: usize, to: Cell) -> Result<(), NoMemory> {
        *self.cells.get_mut(number).ok_or(NoMemory)? = to;
        Ok(())
    }

    /// Goes from `cell` down to what is no node: nothing, a row, or a list of rows.
    #[inline(always)]
    pub(super) fn descend(&self, mut cell: Cell, words: &Words) -> Cell {
        while let Some(number) = cell.node() {
            let Some(node) = self.nodes.get(number) else {
                return Cell::EMPTY;
            };
            let index = (node.base as usize).wrapping_add(node.index(words));
            cell = self.cells.get(index).copied().unwrap_or(Cell::EMPTY);
        }
        cell
    }

    /// The rows of a list, in their order, and what lies behind them: the last one has
    /// [`Cell::LAST`] set. `None` for what is no list.
    #[inline(always)]
    pub(super) fn list(&self, cell: Cell) -> Option<&[Cell]> {
        match cell.0 & Cell::LIST {
            0 => None,
            _ => self.lists.get((cell.0 & !Cell::KIND) as usize..),
        }
    }

    /// Whether rules behind that of number `rule` were left out of some cell.
    pub(super) fn hides(&self, rule: u32) -> bool {
        bitmap::is_set(&self.hiding, rule as usize)
    }

    /// Notes how much there is, for [`undo`](Self::undo).
    pub(super) fn extent(&self) -> Extent {
        Extent {
            nodes: self.nodes.len(),
            cells: self.cells.len(),
            lists: self.lists.len(),
        }
    }

    /// Drops what was made since.
    pub(super) fn undo(&mut self, to: Extent) {
        self.nodes.truncate(to.nodes);
        self.cells.truncate(to.cells);
        self.lists.truncate(to.lists);
    }

    /// Makes room to note which of so many rules hide others.
    pub(super) fn reserve(&mut self, rules: usize) -> Result<(), NoMemory> {
        self.hiding = bitmap::empty(rules)?;
        Ok(())
    }
}

/// A part of a rule in one direction: the box in the space of keys that it matches.
#[derive(Clone, Copy)]
pub(super) struct Item {
    /// The bits that are said, of ports their common first ones, and what they are.
    value: Words,
    mask: Words,
    /// Source ports and destination ports, or types, as they lie in words.
    ports: [(u16, u16); 2],
    /// A bit for each number of a class.
    class: u8,
    /// Whether all that is in the box matches.
    exact: bool,
    row: RowId,
}

/// Which part of a rule an [`Item`] is to be of.
pub(super) struct Source<'p> {
    pub(super) family: Family,
    pub(super) part: &'p Part,
    pub(super) mark: Option<Mark>,
    /// The ports of the packet that match, as they lie in words.
    pub(super) ports: [(u16, u16); 2],
    /// See [`Class::in_direction`](super::words::Class::in_direction).
    pub(super) class: u8,
    pub(super) row: RowId,
    pub(super) exchanged: bool,
    /// Whether all that is in the box matches.
    pub(super) exact: bool,
}

impl Item {
    /// The part as a box.
    pub(super) fn new(of: &Source<'_>) -> Self {
        let Source {
            family,
            part,
            mark,
            ports,
            class,
            row,
            exchanged,
            exact,
        } = *of;
        let (source, destination) = match exchanged {
            false => (part.source, part.destination),
            true => (part.destination, part.source),
        };
        let [source_bits, destination_bits] = ports.map(fixed);
        let words = |source: u128, destination: u128, ports: u64, protocol: u8, mark, device| {
            let [a, b, c, d] = place(family, source, destination, ports);
            let transport = ports | u64::from(protocol) << PROTOCOL_SHIFT;
            let [upper, lower] = [device >> 64, device & u128::from(u64::MAX)];
            [
                a,
                b,
                c,
                d,
                transport,
                u64::from(mark) << 32,
                upper as u64,
                lower as u64,
            ]
        };
        let mask = words(
            source.map_or(0, |p| p.mask()),
            destination.map_or(0, |p| p.mask()),
            pair(source_bits, destination_bits),
            part.protocol.map_or(0, |_| u8::MAX),
            mark.map_or(0, |m| m.mask()),
            part.device.1,
        );
        let [(source_first, _), (destination_first, _)] = ports;
        let value = words(
            source.map_or(0, |p| p.value()),
            destination.map_or(0, |p| p.value()),
            pair(
                source_first & source_bits,
                destination_first & destination_bits,
            ),
            part.protocol.unwrap_or(0),
            mark.map_or(0, |m| m.value()),
            part.device.0,
        );
        Self {
            value,
            mask,
            ports,
            class,
            exact,
            row,
        }
    }

    pub(super) fn value(&self, word: usize) -> u64 {
        self.value.get(word).copied().unwrap_or(0)
    }

    pub(super) fn mask(&self, word: usize) -> u64 {
        self.mask.get(word).copied().unwrap_or(0)
    }
}

/// The first bits that all of a range have in common, as a mask.
pub(super) fn fixed((first, last): (u16, u16)) -> u16 {
    let differ = first ^ last;
    !u16::MAX.checked_shr(differ.leading_zeros()).unwrap_or(0)
}

/// The bits of a key that are known where a cell is reached.
#[derive(Clone, Copy)]
struct Known {
    value: Words,
    mask: Words,
    class: u8,
}

impl Known {
    /// At a root, where ports are below `ports`.
    fn at_root(ports: u32) -> Self {
        // Types lie there too.
        let high = !u16::MAX
            .checked_shr(ports.saturating_sub(1).leading_zeros().wrapping_sub(16))
            .unwrap_or(0)
            & 0xff00;
        let mut mask = [0; WORDS];
        if let Some(word) = mask.get_mut(TRANSPORT) {
            *word = pair(high, high);
        }
        Self {
            value: [0; WORDS],
            mask,
            class: u8::MAX,
        }
    }

    fn mask(&self, word: usize) -> u64 {
        self.mask.get(word).copied().unwrap_or(0)
    }

    /// The lowest and highest value of both ports.
    fn ports(&self) -> [(u16, u16); 2] {
        let [_, _, _, _, value, ..] = self.value;
        let [_, _, _, _, mask, ..] = self.mask;
        [SOURCE_PORT_SHIFT, DESTINATION_PORT_SHIFT].map(|shift| {
            let (value, mask) = (
                value.wrapping_shr(shift) as u16,
                mask.wrapping_shr(shift) as u16,
            );
            (value & mask, value & mask | !mask)
        })
    }
}

/// What the items of a cell have in common.
struct Hull {
    /// The bits that all of them say.
    common: Words,
    /// Those of them in which two differ, or that some say and others do not.
    differ: Words,
    /// What the first one says.
    value: Words,
    /// The bits that some say.
    any: Words,
    ports: [(u16, u16); 2],
    class: u8,
    /// The sum of the costs of comparing them.
    cost: u32,
    worst: u32,
}

impl Hull {
    /// The bits that all say alike.
    fn agreed(&self, word: usize) -> u64 {
        let at = |words: &Words| words.get(word).copied().unwrap_or(0);
        at(&self.common) & !at(&self.differ)
    }
}

/// How a node chooses.
#[derive(Clone, Copy)]
struct Cut {
    word: usize,
    mask: u64,
    /// What they are hashed by; 0 where they are neighbours.
    hash: u64,
    /// How many bits the number of a cell has.
    width: u32,
    /// Where it takes bits of a port, between which these are.
    within: (u16, u16),
}

impl Cut {
    /// Neighbouring bits, where a packet is known so well.
    fn slice(word: usize, shift: u32, width: u32, known: &Known) -> Self {
        let [source, destination] = known.ports();
        let bits = 1u64.wrapping_shl(width).wrapping_sub(1);
        Self {
            word,
            mask: bits.wrapping_shl(shift),
            hash: 0,
            width,
            within: match shift {
                SOURCE_PORT_SHIFT.. => source,
                _ => destination,
            },
        }
    }

    fn shift(&self) -> u32 {
        self.mask.trailing_zeros()
    }

    fn multiplier(&self) -> u64 {
        match self.hash {
            // The highest bit of the mask is to be the top one.
            0 => 1u64.wrapping_shl(self.mask.leading_zeros()),
            hash => hash,
        }
    }

    fn drop(&self) -> u32 {
        64u32.wrapping_sub(self.width)
    }

    fn cells(&self) -> usize {
        1usize.wrapping_shl(self.width)
    }

    /// Whether the item says none of the bits, and so lies in all cells. Of ports, protocols and
    /// classes it does not tell.
    fn is_everywhere(&self, item: &Item) -> bool {
        self.word != TRANSPORT && item.mask(self.word) & self.mask == 0
    }

    /// Calls `with` with the number of each cell that the item lies in.
    #[inline]
    fn each(&self, item: &Item, mut with: impl FnMut(usize)) {
        let value = item.value(self.word);
        if self.hash != 0 {
            let bits = (value & self.mask).wrapping_mul(self.hash);
            return with(bits.wrapping_shr(self.drop()) as usize);
        }
        let last = self.cells().wrapping_sub(1);
        let shift = self.shift();
        if self.word == TRANSPORT {
            let port = match shift {
                SOURCE_PORT_SHIFT.. => Some((item.ports[0], SOURCE_PORT_SHIFT)),
                DESTINATION_PORT_SHIFT.. => Some((item.ports[1], DESTINATION_PORT_SHIFT)),
                _ => None,
            };
            if let Some(((first, end), base)) = port {
                let shift = shift.wrapping_sub(base);
                let (first, end) = (first.max(self.within.0), end.min(self.within.1));
                if first > end {
                    return;
                }
                let first = usize::from(first.wrapping_shr(shift));
                let span = usize::from(end.wrapping_shr(shift)).wrapping_sub(first);
                for number in 0..=span.min(last) {
                    with(first.wrapping_add(number) & last);
                }
                return;
            }
            if shift < PROTOCOL_SHIFT {
                for number in 0..=last {
                    if item.class.wrapping_shr(number as u32) & 1 != 0 {
                        with(number);
                    }
                }
                return;
            }
        }
        let said = (item.mask(self.word) & self.mask).wrapping_shr(shift) as usize;
        let value = (value & self.mask).wrapping_shr(shift) as usize;
        let free = last & !said;
        // All subsets of the bits that are not said.
        let mut subset = 0usize;
        loop {
            with(value | subset);
            subset = subset.wrapping_sub(free) & free;
            if subset == 0 {
                return;
            }
        }
    }

    /// What is known in the cell of that number.
    fn known(&self, known: &Known, number: usize) -> Known {
        let mut known = *known;
        if self.hash != 0 {
            return known;
        }
        if self.word == TRANSPORT && self.shift() < PROTOCOL_SHIFT {
            known.class = 1u8.wrapping_shl(number as u32);
        }
        if let Some(mask) = known.mask.get_mut(self.word) {
            *mask |= self.mask;
        }
        if let Some(value) = known.value.get_mut(self.word) {
            *value = *value & !self.mask | (number as u64).wrapping_shl(self.shift());
        }
        known
    }

    /// Whether items that lie in the same cells look alike there.
    fn is_uniform(&self) -> bool {
        self.hash == 0 && !(self.word == TRANSPORT && self.shift() >= DESTINATION_PORT_SHIFT)
    }
}

/// A cell yet to be filled.
struct Task {
    /// Which one.
    cell: usize,
    /// Where its items are in the stack of items.
    start: usize,
    end: usize,
    known: Known,
    /// What it costs to get there.
    cost: Cost,
    /// How many cells and places in lists there may be below.
    room: usize,
}

impl Task {
    /// How much of the room it is to have, among others.
    fn weight(&self) -> usize {
        let len = self.end.saturating_sub(self.start);
        len.saturating_mul(len.isqrt())
    }
}

/// How many items may be looked at or put in cells for each one, at least and at most: beyond that,
/// cells are left as they are, so that this bounds the time that it takes. Tables like those of
/// ClassBench take some hundreds to some thousands.
const WORK: usize = 1 << 13;
/// See [`WORK`].
const LEAST_WORK: usize = 1 << 16;
/// See [`WORK`].
const MOST_WORK: usize = 1 << 30;
/// How many cells and places in lists there may be for each item.
const ROOM: usize = 16;
/// From how many items on cuts are made in order, and if need be where they seem not to help.
const LONG: usize = 256;
/// Of how many items eight bits are cut at once.
const LARGE: usize = 64;
/// Of how many items those that are alike are dropped.
const MANY: usize = 48;
/// How many items are looked at to choose a cut, and to estimate how many values there are.
const SAMPLE: usize = 64;
const LARGE_SAMPLE: usize = 512;

/// The work that so many items may take. See [`WORK`].
fn work_for(items: usize) -> usize {
    items
        .saturating_mul(WORK)
        .saturating_add(LEAST_WORK)
        .min(MOST_WORK)
}

/// Makes trees.
pub(super) struct Builder<'b> {
    family: Family,
    rows: &'b Rows,
    items: &'b [Item],
    trees: &'b mut Trees,
    /// What rule a row of that order is of.
    rule_of: fn(u32) -> u32,
    root: Known,
    /// How many cells and places in lists there may be in all of a tree.
    end: usize,
    /// The rooms of all [`tasks`](Self::tasks).
    reserved: usize,
    stack: Vec<u32>,
    /// What was met when looking for items that are alike; kept to save allocations.
    seen: Vec<u32>,
    tasks: Vec<Task>,
    /// Cells that become what others are.
    aliases: Vec<(usize, usize)>,
    /// How many items may be looked at, or put in cells, for the tree that is being made.
    work: core::cell::Cell<usize>,
    /// The same for all trees yet to be made.
    work_left: usize,
    worst: Cost,
    /// The sum of the costs of items, and their number.
    costs: u64,
    reached: u64,
}

/// A tree that was made.
pub(super) struct Tree {
    pub(super) root: Cell,
    /// What searching it takes at worst.
    pub(super) worst: Cost,
    /// What it takes on the average to come to a row and to compare those beside it.
    pub(super) mean: Cost,
}

/// How much there was of trees.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    nodes: usize,
    cells: usize,
    lists: usize,
}

impl<'b> Builder<'b> {
    /// Prepares trees of some of `items`, in the order of their rules.
    pub(super) fn new(
        family: Family,
        rows: &'b Rows,
        items: &'b [Item],
        trees: &'b mut Trees,
        rule_of: fn(u32) -> u32,
        ports: u32,
    ) -> Self {
        Self {
            family,
            rows,
            items,
            rule_of,
            root: Known::at_root(ports),
            end: 0,
            reserved: 0,
            stack: Vec::new(),
            seen: Vec::new(),
            tasks: Vec::new(),
            aliases: Vec::new(),
            work: core::cell::Cell::new(0),
            work_left: work_for(items.len()),
            worst: 0,
            costs: 0,
            reached: 0,
            trees,
        }
    }

    /// What it puts trees in.
    pub(super) fn trees(&mut self) -> &mut Trees {
        self.trees
    }

    fn spent(&self) -> usize {
        let cells = self.trees.cells.len();
        cells.saturating_add(self.trees.lists.len())
    }

    /// Notes that so many items were looked at.
    fn spend(&self, items: usize) {
        self.work.set(self.work.get().saturating_sub(items));
    }

    fn may_work(&self) -> bool {
        self.work.get() > 0
    }

    /// Notes that so many items are reached at such a cost.
    fn reach(&mut self, items: usize, cost: Cost, worst: Cost) {
        self.worst = self.worst.max(worst);
        self.costs = self
            .costs
            .saturating_add(u64::from(cost).saturating_mul(items as u64));
        self.reached = self.reached.saturating_add(items as u64);
    }

    /// Makes a tree of the items of these numbers, ascending.
    pub(super) fn tree(&mut self, numbers: &[u32]) -> Result<Tree, NoMemory> {
        self.stack.clear();
        self.stack.extend_from_slice(numbers)?;
        (self.worst, self.costs, self.reached) = (0, 0, 0);
        let granted = work_for(numbers.len()).min(self.work_left);
        self.work.set(granted);
        let room = numbers.len().saturating_mul(ROOM).saturating_add(1 << 10);
        self.end = self.spent().saturating_add(room);
        let root = self.trees.cells.len();
        self.trees.cells.push(Cell::EMPTY)?;
        self.tasks.push(Task {
            cell: root,
            start: 0,
            end: numbers.len(),
            known: self.root,
            cost: 0,
            room,
        })?;
        self.reserved = room;
        while let Some(task) = pop(&mut self.tasks) {
            self.reserved = self.reserved.saturating_sub(task.room);
            self.fill(&task)?;
        }
        while let Some((to, from)) = pop(&mut self.aliases) {
            let cell = self.trees.cells.get(from).copied().unwrap_or(Cell::EMPTY);
            self.set(to, cell);
        }
        let spent = granted.saturating_sub(self.work.get());
        self.work_left = self.work_left.saturating_sub(spent);
        let cell = self.trees.cells.get(root).copied().unwrap_or(Cell::EMPTY);
        if root.wrapping_add(1) == self.trees.cells.len() {
            self.trees.cells.truncate(root);
        }
        let mean = self.costs.checked_div(self.reached).unwrap_or(0);
        Ok(Tree {
            root: cell,
            worst: self.worst,
            mean: Cost::try_from(mean).unwrap_or(Cost::MAX),
        })
    }

    fn set(&mut self, place: usize, cell: Cell) {
        if let Some(place) = self.trees.cells.get_mut(place) {
            *place = cell;
        }
    }

    fn item(&self, number: u32) -> &'b Item {
        static NONE: Item = Item {
            value: [0; WORDS],
            mask: [0; WORDS],
            ports: [ALL; 2],
            class: 0,
            exact: false,
            row: RowId(0),
        };
        self.items.get(number as usize).unwrap_or(&NONE)
    }

    /// The order of the first of the items of these numbers.
    pub(super) fn first_order(&self, numbers: &[u32]) -> u32 {
        let first = numbers.first().and_then(|n| self.items.get(*n as usize));
        first.map_or(0, |item| self.rows.order(item.row))
    }

    /// Whether the item of that number matches packets in the other direction than written.
    pub(super) fn is_exchanged(&self, number: u32) -> bool {
        self.item(number).row.is_exchanged()
    }

    fn numbers(&self, start: usize, end: usize) -> &[u32] {
        self.stack.get(start..end).unwrap_or_default()
    }

    fn fill(&mut self, task: &Task) -> Result<(), NoMemory> {
        self.stack.truncate(task.end);
        let hull = self.hull(task.start, task.end);
        let end = self.truncate(task, &hull);
        let end = self.drop_alike(task, end)?;
        let hull = match end == task.end {
            true => hull,
            false => self.hull(task.start, end),
        };
        let len = end.saturating_sub(task.start);
        self.spend(len);
        // Each has its share, and some of what others left.
        let left = self.end.saturating_sub(self.spent());
        let left = left.saturating_sub(self.reserved);
        let most = left.min(len.saturating_mul(4)).max(task.room);
        let cut = match len > 2 && self.may_work() {
            true => self.choose(task, end, &hull, most),
            false => None,
        };
        // Where wide rules hide those behind them, the first ones matter.
        let cut = match cut {
            None if len > SAMPLE && self.may_work() => {
                let end = task.start.saturating_add(SAMPLE);
                let hull = self.hull(task.start, end);
                self.choose(task, end, &hull, most)
                    .filter(|cut| cut.hash == 0)
            }
            cut => cut,
        };
        match cut {
            Some(cut) => self.divide(task, end, &cut),
            None => {
                let cost = task.cost.saturating_add(hull.cost);
                self.reach(len, cost, task.cost.saturating_add(hull.worst));
                let cell = self.leaf(task.start, end)?;
                self.set(task.cell, cell);
                Ok(())
            }
        }
    }

    fn hull(&self, start: usize, end: usize) -> Hull {
        let numbers = self.numbers(start, end);
        let first = numbers.first().map_or(0, |number| *number);
        let mut hull = Hull {
            common: [u64::MAX; WORDS],
            differ: [0; WORDS],
            value: self.item(first).value,
            any: [0; WORDS],
            ports: [(u16::MAX, 0); 2],
            class: 0,
            cost: 0,
            worst: 0,
        };
        for number in numbers {
            let item = self.item(*number);
            let said = hull.common.iter_mut().zip(&item.mask);
            said.for_each(|(common, mask)| *common &= mask);
            hull.any
                .iter_mut()
                .zip(&item.mask)
                .for_each(|(any, mask)| *any |= mask);
            let values = item.value.iter().zip(&hull.value);
            let differ = hull.differ.iter_mut().zip(values);
            differ.for_each(|(differ, (value, first))| *differ |= value ^ first);
            for (all, own) in hull.ports.iter_mut().zip(&item.ports) {
                *all = (all.0.min(own.0), all.1.max(own.1));
            }
            hull.class |= item.class;
            let (cost, worst) = self.rows.cost(item.row);
            hull.cost = hull.cost.saturating_add(cost);
            hull.worst = hull.worst.saturating_add(worst);
        }
        hull
    }

    /// The end of the items without those behind one that matches all that they can.
    fn truncate(&mut self, task: &Task, hull: &Hull) -> usize {
        let mut said: Words = [0; WORDS];
        for (word, said) in said.iter_mut().enumerate() {
            *said = task.known.mask(word) | hull.agreed(word) | judged_elsewhere(self.family, word);
        }
        let mut ports = task.known.ports();
        for (port, all) in ports.iter_mut().zip(&hull.ports) {
            *port = (port.0.max(all.0), port.1.min(all.1));
        }
        let class = task.known.class & hull.class;
        let covers = |item: &Item| {
            item.exact
                && class & !item.class == 0
                && item
                    .mask
                    .iter()
                    .zip(&said)
                    .all(|(mask, said)| mask & !said == 0)
                && item
                    .ports
                    .iter()
                    .zip(&ports)
                    .all(|(own, all)| own.0 <= all.0 && all.1 <= own.1)
        };
        let numbers = self.numbers(task.start, task.end);
        let Some(at) = numbers.iter().position(|n| covers(self.item(*n))) else {
            return task.end;
        };
        let end = task.start.saturating_add(at).saturating_add(1);
        if end < task.end {
            if let Some(number) = numbers.get(at) {
                self.note_hiding(*number);
            }
        }
        end
    }

    /// Drops the items that are alike to one before as far as this cell goes. Gives their end.
    #[inline(never)]
    fn drop_alike(&mut self, task: &Task, end: usize) -> Result<usize, NoMemory> {
        let len = end.saturating_sub(task.start);
        if len < MANY {
            return Ok(end);
        }
        let mut open = task.known.mask.map(|mask| !mask);
        for (word, open) in open.iter_mut().enumerate() {
            *open &= !judged_elsewhere(self.family, word);
        }
        let known = Known {
            mask: open,
            ..task.known
        };
        let ports = task.known.ports();
        let rest = |item: &Item| rest(item, &known, ports);
        let size = len.saturating_mul(2).next_power_of_two();
        let mut seen = core::mem::take(&mut self.seen);
        seen.clear();
        seen.reserve(size)?;
        for _ in 0..size {
            seen.push(u32::MAX)?;
        }
        let mut kept = task.start;
        for at in task.start..end {
            let number = self.stack.get(at).copied().unwrap_or(0);
            let item = self.item(number);
            let own = rest(item);
            let hash = own.iter().fold(0u64, |hash, word| {
                (hash ^ word).wrapping_mul(HASH).rotate_left(29)
            });
            let mut place = (hash.wrapping_mul(HASH) >> 32) as usize & size.wrapping_sub(1);
            let alike = loop {
                match seen.get(place) {
                    Some(&u32::MAX) | None => break false,
                    Some(other) if rest(self.item(*other)) == own => break true,
                    _ => place = place.wrapping_add(1) & size.wrapping_sub(1),
                }
            };
            if alike {
                if let Some(first) = seen.get(place) {
                    let first = *first;
                    if self.items.get(first as usize).map(|i| i.row) != Some(item.row) {
                        self.note_hiding(first);
                    }
                }
                continue;
            }
            // What matches less than its box hides nothing.
            if item.exact {
                if let Some(place) = seen.get_mut(place) {
                    *place = number;
                }
            }
            if let Some(place) = self.stack.get_mut(kept) {
                *place = number;
            }
            kept = kept.wrapping_add(1);
        }
        self.seen = seen;
        Ok(kept)
    }

    /// Notes that others were left out behind an item.
    fn note_hiding(&mut self, number: u32) {
        let rule = (self.rule_of)(self.rows.order(self.item(number).row));
        bitmap::set(&mut self.trees.hiding, rule as usize);
    }

    /// Writes a cell of the items as they are.
    fn leaf(&mut self, start: usize, end: usize) -> Result<Cell, NoMemory> {
        let place = self.trees.lists.len();
        let mut last = Cell::EMPTY;
        for at in start..end {
            let number = self.numbers(at, end).first().copied().unwrap_or(0);
            last = Cell::row(self.item(number).row);
            self.trees.lists.push(last)?;
        }
        match end.saturating_sub(start) {
            0 => Ok(Cell::EMPTY),
            1 => {
                self.trees.lists.truncate(place);
                Ok(last.last())
            }
            _ => {
                if let Some(end) = self.trees.lists.last_mut() {
                    *end = last.last();
                }
                Cell::at(Cell::LIST, place)
            }
        }
    }

    /// Makes a node of a cell.
    #[inline(never)]
    fn divide(&mut self, task: &Task, end: usize, cut: &Cut) -> Result<(), NoMemory> {
        let base = self.trees.cells.len();
        self.set(task.cell, Cell::at(Cell::NODE, self.trees.nodes.len())?);
        self.trees.nodes.push(Node {
            mask: cut.mask,
            multiplier: cut.multiplier(),
            base: u32::try_from(base).map_err(|_| NoMemory)?,
            shift: u8::try_from(cut.drop()).map_err(|_| NoMemory)?,
            word: u8::try_from(cut.word).map_err(|_| NoMemory)?,
        })?;
        self.trees.cells.reserve(cut.cells())?;
        // While it is filled, a cell counts the items that it will have, then says where they end.
        for _ in 0..cut.cells() {
            self.trees.cells.push(Cell::EMPTY)?;
        }
        let cells = self.trees.cells.get_mut(base..).unwrap_or_default();
        let mut total = 0usize;
        for at in task.start..end {
            let number = self.stack.get(at).copied().unwrap_or(0);
            let item = self.items.get(number as usize);
            let Some(item) = item else { continue };
            cut.each(item, |cell| {
                if let Some(cell) = cells.get_mut(cell) {
                    cell.0 = cell.0.wrapping_add(1);
                    total = total.wrapping_add(1);
                }
            });
        }
        let first = self.stack.len();
        self.stack.reserve(total)?;
        for _ in 0..total {
            self.stack.push(0)?;
        }
        let mut sum = u32::try_from(first).map_err(|_| NoMemory)?;
        for cell in cells.iter_mut() {
            sum = sum.wrapping_add(core::mem::replace(&mut cell.0, sum));
        }
        for at in task.start..end {
            let number = self.stack.get(at).copied().unwrap_or(0);
            let item = self.items.get(number as usize);
            let Some(item) = item else { continue };
            cut.each(item, |cell| {
                if let Some(cell) = cells.get_mut(cell) {
                    if let Some(place) = self.stack.get_mut(cell.0 as usize) {
                        *place = number;
                    }
                    cell.0 = cell.0.wrapping_add(1);
                }
            });
        }
        self.spend(total.saturating_mul(2));
        self.children(task, cut, base, first)
    }

    /// Fills the cells of a node, or notes what is to be done for that. Each cell says where its
    /// items end, the first ones starting at `start` of the stack.
    fn children(
        &mut self,
        task: &Task,
        cut: &Cut,
        base: usize,
        mut start: usize,
    ) -> Result<(), NoMemory> {
        // Of items that do not say the bits there are many alike.
        let mut alike: [(usize, usize, usize); 4] = [(0, 0, 0); 4];
        let cost = task.cost.saturating_add(NODE_COST);
        let (first, mut all) = (self.tasks.len(), 0usize);
        for number in 0..cut.cells() {
            let cell = base.wrapping_add(number);
            let end = self.trees.cells.get(cell).map_or(0, |cell| cell.0 as usize);
            let from = core::mem::replace(&mut start, end);
            if end.saturating_sub(from) < 2 {
                let only = self.numbers(from, end).first().copied();
                let row = only.map(|number| self.item(number).row);
                let (own, worst) = row.map_or((0, 0), |row| self.rows.cost(row));
                let items = usize::from(row.is_some());
                self.reach(items, cost.saturating_add(own), cost.saturating_add(worst));
                self.set(cell, row.map_or(Cell::EMPTY, |row| Cell::row(row).last()));
                continue;
            }
            self.set(cell, Cell::EMPTY);
            if cut.is_uniform() {
                let own = self.numbers(from, end);
                let same = alike
                    .iter()
                    .find(|(_, from, end)| self.numbers(*from, *end) == own);
                if let Some((other, _, _)) = same {
                    let pair = (cell, *other);
                    self.aliases.push(pair)?;
                    continue;
                }
                let [a, b, c, _] = alike;
                alike = [(cell, from, end), a, b, c];
            }
            let task = Task {
                cell,
                start: from,
                end,
                known: cut.known(&task.known, number),
                cost,
                room: 0,
            };
            all = all.saturating_add(task.weight());
            self.tasks.push(task)?;
        }
        let room = task.room.saturating_sub(cut.cells());
        for task in self.tasks.get_mut(first..).unwrap_or_default() {
            let share = room.saturating_mul(task.weight()).checked_div(all);
            task.room = share.unwrap_or(0);
            self.reserved = self.reserved.saturating_add(task.room);
        }
        Ok(())
    }

    /// The best way to divide the items among at most so many cells, if it is worth a node.
    #[inline(never)]
    fn choose(&self, task: &Task, end: usize, hull: &Hull, most: usize) -> Option<Cut> {
        if most < 2 {
            return None;
        }
        let numbers = self.numbers(task.start, end);
        let len = numbers.len();
        let stride = len.div_ceil(SAMPLE);
        // Costs are those of comparing what is left, in 16ths of an item.
        let whole = (len as u64) << 4;
        let mut best: Option<(u64, Cut)> = None;
        let mut offer = |cost: u64, cut: Cut| {
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, cut));
            }
        };
        for word in 0..WORDS {
            let common = hull.common.get(word).copied().unwrap_or(0);
            let differ = hull.differ.get(word).copied().unwrap_or(0);
            let mask = common & !task.known.mask(word);
            if mask & differ == 0 {
                continue;
            }
            let values = values(numbers, |number| self.item(number).value(word) & mask, len);
            let width = usize::BITS.wrapping_sub(values.saturating_sub(1).leading_zeros());
            let width = width.max(1).min(most.ilog2());
            // What shares a cell by chance.
            let cells = 1u64.wrapping_shl(width);
            let by_chance = match cells < values as u64 {
                true => ratio(whole, cells),
                false => ratio(whole, cells) / 2,
            };
            let left = ratio(whole, values as u64).saturating_add(by_chance);
            offer(
                left,
                Cut {
                    word,
                    mask,
                    // Another one at each depth: what shares a cell must not do so again.
                    hash: HASH.rotate_left(task.cost) | 1,
                    width,
                    within: ALL,
                },
            );
        }
        self.slices(task, hull, len, |cut| {
            if cut.cells() > most {
                return;
            }
            if let Some(left) = self.left(numbers, stride, &cut) {
                // More cells take more room.
                let more = match cut.width {
                    ..=4 => 0,
                    _ => (left / 4).saturating_add(8),
                };
                offer(left.saturating_add(more), cut);
            }
        });
        let (left, cut) = best?;
        let each = ratio(hull.cost.into(), len as u64);
        let saved = whole.saturating_sub(left).saturating_mul(each) >> 4;
        (len >= MANY || saved > u64::from(NODE_COST).saturating_add(6)).then_some(cut)
    }

    /// Gives all neighbouring bits to `with` that may be worth a node for so many items.
    fn slices(&self, task: &Task, hull: &Hull, len: usize, mut with: impl FnMut(Cut)) {
        let known = &task.known;
        // Of long lists, only the first bits of an address that are not known: so prefixes come to
        // match all that is left.
        let addresses = match self.family {
            Family::Ipv4 => 1,
            Family::Ipv6 => 4,
        };
        let mut is_first = true;
        for word in 0..WORDS {
            let any = hull.any.get(word).copied().unwrap_or(0);
            let varies = any & !hull.agreed(word) & !known.mask(word);
            let varies = varies & !judged_elsewhere(self.family, word);
            // Where an address starts, its first bits do.
            is_first |= matches!((self.family, word), (_, 0) | (Family::Ipv6, 2));
            for nibble in (0..16u32).rev() {
                let shift = nibble.wrapping_mul(4);
                is_first |= self.family == Family::Ipv4 && shift == 28;
                if varies.wrapping_shr(shift) & 0xf == 0 {
                    continue;
                }
                if word < addresses && len >= LONG && !core::mem::replace(&mut is_first, false) {
                    continue;
                }
                with(Cut::slice(word, shift, 4, known));
                // Eight from there on, within the address, or above the class.
                let is_last = word == TRANSPORT && shift == PROTOCOL_SHIFT;
                if len >= LARGE && shift & 31 != 0 && !is_last {
                    with(Cut::slice(word, shift.wrapping_sub(4), 8, known));
                }
            }
        }
        if (known.class & hull.class).count_ones() > 1 {
            with(Cut::slice(TRANSPORT, CLASS_SHIFT, 3, known));
        }
        // Of ports the first bits that are not known: of the others a range takes all.
        for base in [SOURCE_PORT_SHIFT, DESTINATION_PORT_SHIFT] {
            let bits = known.mask(TRANSPORT).wrapping_shr(base) as u16;
            let unknown = u16::BITS.wrapping_sub(bits.leading_ones());
            for width in [4, 8] {
                let width = unknown.min(width);
                if width != 0 && (width <= 4 || len >= LARGE) {
                    let shift = base.wrapping_add(unknown).wrapping_sub(width);
                    with(Cut::slice(TRANSPORT, shift, width, known));
                }
            }
        }
    }

    /// How many items, in 16ths, share the cell of an item on the average; `None` where too many lie
    /// in too many cells.
    #[inline(never)]
    fn left(&self, numbers: &[u32], stride: usize, cut: &Cut) -> Option<u64> {
        let mut counts = [0u16; 256];
        let mut sample = 0u64;
        // Of those that lie in all cells.
        let mut everywhere = 0u64;
        for number in numbers.iter().step_by(stride) {
            sample = sample.wrapping_add(1);
            let item = self.item(*number);
            if cut.is_everywhere(item) {
                everywhere = everywhere.wrapping_add(1);
                continue;
            }
            cut.each(item, |cell| {
                if let Some(count) = counts.get_mut(cell) {
                    *count = count.wrapping_add(1);
                }
            });
        }
        let (mut sum, mut squares) = (0u64, 0u64);
        for count in counts.iter().take(cut.cells()) {
            let count = u64::from(*count).wrapping_add(everywhere);
            sum = sum.wrapping_add(count);
            squares = squares.wrapping_add(count.wrapping_mul(count));
        }
        let apart = sum.saturating_sub(everywhere.saturating_mul(cut.cells() as u64));
        let looked_at = apart.saturating_add(sample) as usize;
        self.spend(looked_at.saturating_add(cut.cells()));
        // In a sample, a cell has fewer beside an item than it will have.
        let scale = numbers.len() as u64;
        let left = ratio(ratio((squares << 4).wrapping_mul(scale), sum), sample);
        let copies = ratio(sum << 4, sample);
        let most = if cut.width > 4 { 64 } else { 128 };
        (copies <= most || numbers.len() >= MANY)
            .then_some(left.saturating_mul(copies.saturating_add(48)) >> 6)
    }
}

/// The bits of a word that are ports, which are judged as ranges, or found in another word too.
fn judged_elsewhere(family: Family, word: usize) -> u64 {
    match (word, family) {
        (TRANSPORT, _) => PORT_BITS,
        (1 | 2, Family::Ipv4) => u64::MAX,
        _ => 0,
    }
}

/// What is left of an item where all but the bits of `open.mask` are known, `ports` are those that a
/// packet can have, and `open.class` its classes.
fn rest(item: &Item, open: &Known, ports: [(u16, u16); 2]) -> [u64; 2 * WORDS + 1] {
    let mut rest = [0; 2 * WORDS + 1];
    let [ranges, masked @ ..] = &mut rest;
    let said = item.mask.iter().zip(&item.value).zip(&open.mask);
    let bits = said.flat_map(|((mask, value), open)| [mask & open, value & open]);
    masked
        .iter_mut()
        .zip(bits)
        .for_each(|(to, bits)| *to = bits);
    // The lowest bits of this word are not in use.
    if let Some(word) = masked.get_mut(2 * TRANSPORT) {
        *word |= u64::from(item.class & open.class);
    }
    let clip = |own: (u16, u16), all: (u16, u16)| {
        u64::from(own.0.max(all.0)) << 16 | u64::from(own.1.min(all.1))
    };
    let [source, destination] = item.ports;
    let [all_source, all_destination] = ports;
    *ranges = clip(source, all_source) << 32 | clip(destination, all_destination);
    rest
}

/// How many different values there are, roughly, where there may be `most`: all numbers, or all that
/// these are a sample of.
///
/// Not inlined, as are others here that take much of the stack: what calls them goes deeper elsewhere.
#[inline(never)]
pub(super) fn values(numbers: &[u32], value: impl Fn(u32) -> u64, most: usize) -> usize {
    let mut seen = [0u64; 256];
    let stride = numbers.len().div_ceil(LARGE_SAMPLE).max(1);
    let (mut sample, mut distinct) = (0usize, 0usize);
    for number in numbers.iter().step_by(stride) {
        sample = sample.wrapping_add(1);
        let hash = value(*number).wrapping_mul(HASH) >> 50;
        let (word, bit) = ((hash >> 6) as usize, 1u64.wrapping_shl(hash as u32 & 63));
        if let Some(word) = seen.get_mut(word) {
            distinct = distinct.wrapping_add(usize::from(*word & bit == 0));
            *word |= bit;
        }
    }
    if stride == 1 && most == distinct.max(numbers.len()) {
        return distinct;
    }
    let alike = sample.saturating_sub(distinct);
    if alike > distinct {
        return distinct;
    }
    // From how many of a sample were alike, as of birthdays.
    let pairs = sample.saturating_mul(sample);
    let estimate = pairs.checked_div(alike.saturating_mul(2)).unwrap_or(pairs);
    estimate.max(distinct).min(most)
}

/// `a` divided by `b`, or by 1 where that is 0.
fn ratio(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(a)
}

fn pop<T>(vec: &mut Vec<T>) -> Option<T> {
    let last = vec.len().checked_sub(1)?;
    vec.remove(last)
}
