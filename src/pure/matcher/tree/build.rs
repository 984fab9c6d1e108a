// SPDX-License-Identifier: GPL-2.0

//! The builder of one tree: from the root down, each node with the best cut that a sample shows.

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
        combination::ALL,
        cost::{
            Cost,
            CELLS_PER_ITEM,
            COPIES_BASE,
            COPIES_NARROW,
            COPIES_WIDE,
            CUT_GAIN,
            CUT_SAMPLE,
            ITEMS_CUT_WIDE,
            ITEMS_IN_ORDER,
            ITEMS_MANY,
            NODE_COST,
            ROOM_LEAST,
            ROOM_PER_ITEM,
            WORK_LEAST,
            WORK_MOST,
            WORK_PER_ITEM, //
        },
        estimate::{
            distinct,
            ratio, //
        },
        found::Order,
        row::Rows,
        tree::{
            cut::{
                judged_elsewhere,
                Cut,
                Hull,
                Known, //
            },
            item::Item,
            nodes::{
                Node,
                Nodes, //
            },
        },
        words::{
            Words,
            CLASS_SHIFT,
            CLASS_WIDTH,
            DESTINATION_PORT_SHIFT,
            HASH,
            PROTOCOL_SHIFT,
            SOURCE_PORT_SHIFT,
            TRANSPORT,
            WORDS, //
        },
    },
    rule::Family, //
};

/// A cell yet to be filled.
struct Task {
    /// The number of the cell.
    cell: usize,
    /// Where its items start and end in the stack of items.
    start: usize,
    end: usize,
    /// The bits of a key that are known there.
    known: Known,
    /// The cost of the nodes above it.
    cost: Cost,
    /// How many cells and places in lists there may be below.
    room: usize,
}

impl Task {
    /// Returns its share of the room, among other tasks.
    fn weight(&self) -> usize {
        let len = self.end.saturating_sub(self.start);
        len.saturating_mul(len.isqrt())
    }
}

/// Returns the work that so many items may take.
fn work_for(items: usize) -> usize {
    items
        .saturating_mul(WORK_PER_ITEM)
        .saturating_add(WORK_LEAST)
        .min(WORK_MOST)
}

/// A builder of trees.
pub(super) struct TreeBuilder<'b> {
    family: Family,
    rows: &'b Rows,
    items: &'b [Item],
    nodes: &'b mut Nodes,
    root: Known,
    /// How many cells and places in lists there may be when the tree is built.
    end: usize,
    /// The rooms of all [`tasks`](Self::tasks).
    reserved: usize,
    /// The numbers of the items of all tasks.
    stack: Vec<u32>,
    /// A hash table of the items that [`drop_equal`](Self::drop_equal) has met; kept to save allocations.
    seen: Vec<u32>,
    tasks: Vec<Task>,
    /// Cells, each with the one that it becomes a copy of.
    aliases: Vec<(usize, usize)>,
    /// How many items may still be looked at, or put in cells, for this tree.
    work: core::cell::Cell<usize>,
    /// How many may be looked at or put in cells for all trees yet to be built.
    work_left: usize,
    worst: Cost,
    /// The sum of the costs of reaching items, and the number of these.
    costs: u64,
    reached: u64,
}

/// A tree that was built.
pub(super) struct BuiltTree {
    pub(super) root: Cell,
    /// The cost of a search at worst.
    pub(super) worst: Cost,
    /// The mean cost of reaching a row and of comparing the rows beside it.
    pub(super) mean: Cost,
}

impl<'b> TreeBuilder<'b> {
    /// Returns a builder of trees of some of `items`, which ascend in the order of their rules. Ports in
    /// them are below `ports`.
    pub(super) fn new(
        family: Family,
        rows: &'b Rows,
        items: &'b [Item],
        nodes: &'b mut Nodes,
        ports: u32,
    ) -> Self {
        Self {
            family,
            rows,
            items,
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
            nodes,
        }
    }

    /// Returns the nodes that trees are appended to.
    pub(super) fn nodes(&mut self) -> &mut Nodes {
        self.nodes
    }

    /// Returns how many cells and places in lists there are.
    fn spent(&self) -> usize {
        self.nodes.cells.total()
    }

    /// Counts items that were looked at.
    fn spend(&self, items: usize) {
        self.work.set(self.work.get().saturating_sub(items));
    }

    /// Returns whether more items may be looked at.
    fn may_work(&self) -> bool {
        self.work.get() > 0
    }

    /// Counts items that are reached at a cost.
    fn reach(&mut self, items: usize, cost: Cost, worst: Cost) {
        self.worst = self.worst.max(worst);
        self.costs = self
            .costs
            .saturating_add(u64::from(cost).saturating_mul(items as u64));
        self.reached = self.reached.saturating_add(items as u64);
    }

    /// Builds a tree of the items of these numbers, ascending.
    pub(super) fn tree(&mut self, numbers: &[u32]) -> Result<BuiltTree, NoMemory> {
        self.stack.clear();
        self.stack.extend_from_slice(numbers)?;
        (self.worst, self.costs, self.reached) = (0, 0, 0);
        let granted = work_for(numbers.len()).min(self.work_left);
        self.work.set(granted);
        let room = numbers
            .len()
            .saturating_mul(ROOM_PER_ITEM)
            .saturating_add(ROOM_LEAST);
        self.end = self.spent().saturating_add(room);
        let root = self.nodes.cells.add(1)?;
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
            self.fill_cell(&task)?;
        }
        while let Some((to, from)) = pop(&mut self.aliases) {
            let cell = self.nodes.cells.get(from);
            self.nodes.cells.set(to, cell);
        }
        let spent = granted.saturating_sub(self.work.get());
        self.work_left = self.work_left.saturating_sub(spent);
        let cell = self.nodes.cells.get(root);
        if root.wrapping_add(1) == self.nodes.cells.len() {
            self.nodes.cells.truncate(root);
        }
        let mean = self.costs.checked_div(self.reached).unwrap_or(0);
        Ok(BuiltTree {
            root: cell,
            worst: self.worst,
            mean: Cost::try_from(mean).unwrap_or(Cost::MAX),
        })
    }

    /// Returns an item.
    fn item(&self, number: u32) -> &'b Item {
        item_of(self.items, number)
    }

    /// Returns the order of the first of the items of these numbers.
    pub(super) fn first_order(&self, numbers: &[u32]) -> u32 {
        let first = numbers.first().and_then(|n| self.items.get(*n as usize));
        first.map_or(0, |item| self.rows.order(item.row))
    }

    /// Returns whether the item of that number matches packets exchanged.
    pub(super) fn is_exchanged(&self, number: u32) -> bool {
        self.item(number).row.is_exchanged()
    }

    /// Returns the numbers of the items from `start` to `end` of the stack.
    fn numbers(&self, start: usize, end: usize) -> &[u32] {
        self.stack.get(start..end).unwrap_or_default()
    }

    /// Makes a node or a leaf of a cell.
    fn fill_cell(&mut self, task: &Task) -> Result<(), NoMemory> {
        self.stack.truncate(task.end);
        let hull = self.hull(task.start, task.end);
        let end = self.truncate(task, &hull);
        let end = self.drop_equal(task, end)?;
        let hull = match end == task.end {
            true => hull,
            false => self.hull(task.start, end),
        };
        let len = end.saturating_sub(task.start);
        self.spend(len);
        // Its share, and some of the room that others left.
        let left = self.end.saturating_sub(self.spent());
        let left = left.saturating_sub(self.reserved);
        let most = left.min(len.saturating_mul(CELLS_PER_ITEM)).max(task.room);
        let cut = match len > 2 && self.may_work() {
            true => self.choose_cut(task, end, &hull, most),
            false => None,
        };
        match cut {
            Some(cut) => self.divide(task, end, &cut),
            None => {
                let cost = task.cost.saturating_add(hull.cost);
                self.reach(len, cost, task.cost.saturating_add(hull.worst));
                let cell = self.leaf(task.start, end)?;
                self.nodes.cells.set(task.cell, cell);
                Ok(())
            }
        }
    }

    /// Returns the hull of the items from `start` to `end` of the stack.
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
            let common = hull.common.iter_mut().zip(&item.mask);
            common.for_each(|(common, mask)| *common &= mask);
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

    /// Returns the end of the items, without the items behind one that matches all packets of the cell.
    fn truncate(&mut self, task: &Task, hull: &Hull) -> usize {
        // The bits of which an item may specify any: all packets of the cell have them.
        let mut settled: Words = [0; WORDS];
        for (word, settled) in settled.iter_mut().enumerate() {
            *settled =
                task.known.mask(word) | hull.agreed(word) | judged_elsewhere(self.family, word);
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
                    .zip(&settled)
                    .all(|(mask, settled)| mask & !settled == 0)
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
                self.note_shadowing(*number);
            }
        }
        end
    }

    /// Drops each item that is equal to one ahead of it as far as this cell goes: their residues are equal.
    /// Returns the end of the items that are left.
    #[inline(never)]
    fn drop_equal(&mut self, task: &Task, end: usize) -> Result<usize, NoMemory> {
        let len = end.saturating_sub(task.start);
        if len < ITEMS_MANY {
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
        let residue = |item: &Item| residue(item, &known, ports);
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
            let own = residue(item);
            let hash = own.iter().fold(0u64, |hash, word| {
                (hash ^ word).wrapping_mul(HASH).rotate_left(29)
            });
            let mut place = (hash.wrapping_mul(HASH) >> 32) as usize & size.wrapping_sub(1);
            let is_equal = loop {
                match seen.get(place) {
                    Some(&u32::MAX) | None => break false,
                    Some(other) if residue(self.item(*other)) == own => break true,
                    _ => place = place.wrapping_add(1) & size.wrapping_sub(1),
                }
            };
            if is_equal {
                if let Some(first) = seen.get(place) {
                    let first = *first;
                    if self.items.get(first as usize).map(|i| i.row) != Some(item.row) {
                        self.note_shadowing(first);
                    }
                }
                continue;
            }
            // An item that matches less than its box shadows nothing.
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

    /// Notes that items were left out behind one.
    fn note_shadowing(&mut self, number: u32) {
        let rule = Order::rule(self.rows.order(self.item(number).row));
        self.nodes.note_shadowing(rule);
    }

    /// Returns the cell of a leaf that has all the items.
    fn leaf(&mut self, start: usize, end: usize) -> Result<Cell, NoMemory> {
        let numbers = self.stack.get(start..end).unwrap_or_default();
        let rows = numbers
            .iter()
            .map(|number| item_of(self.items, *number).row);
        self.nodes.cells.leaf(rows)
    }

    /// Makes a node of a cell. Its items are appended to the stack once for each cell that they lie in.
    ///
    /// Until [`children`](Self::children) fills it, a cell of the node holds a number: first how many items
    /// it will have, then where its next item goes in the stack, and so at last where its items end.
    #[inline(never)]
    fn divide(&mut self, task: &Task, end: usize, cut: &Cut) -> Result<(), NoMemory> {
        let base = self.nodes.cells.add(cut.cells())?;
        let node = self.nodes.push(Node {
            mask: cut.mask,
            multiplier: cut.multiplier(),
            base: base as u32,
            shift: cut.drop() as u8,
            word: cut.word as u8,
        })?;
        self.nodes.cells.set(task.cell, node);
        let cells = self.nodes.cells.tail_mut(base);
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
        let mut sum = first as u32;
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

    /// Fills the cells of a node that have less than two items, and appends a task for each other. Each
    /// cell holds the end of its items in the stack; the items of the first one start at `start`.
    fn children(
        &mut self,
        task: &Task,
        cut: &Cut,
        base: usize,
        mut start: usize,
    ) -> Result<(), NoMemory> {
        // Many cells have equal items where items do not specify the bits.
        let mut latest: [(usize, usize, usize); 4] = [(0, 0, 0); 4];
        let cost = task.cost.saturating_add(NODE_COST);
        let (first, mut all) = (self.tasks.len(), 0usize);
        for number in 0..cut.cells() {
            let cell = base.wrapping_add(number);
            let end = self.nodes.cells.get(cell).0 as usize;
            let from = core::mem::replace(&mut start, end);
            if end.saturating_sub(from) < 2 {
                let only = self.numbers(from, end).first().copied();
                let row = only.map(|number| self.item(number).row);
                let (own, worst) = row.map_or((0, 0), |row| self.rows.cost(row));
                let items = usize::from(row.is_some());
                self.reach(items, cost.saturating_add(own), cost.saturating_add(worst));
                let to = row.map_or(Cell::EMPTY, |row| Cell::row(row).last());
                self.nodes.cells.set(cell, to);
                continue;
            }
            self.nodes.cells.set(cell, Cell::EMPTY);
            if cut.is_uniform() {
                let own = self.numbers(from, end);
                let equal = latest
                    .iter()
                    .find(|(_, from, end)| self.numbers(*from, *end) == own);
                if let Some((other, _, _)) = equal {
                    let pair = (cell, *other);
                    self.aliases.push(pair)?;
                    continue;
                }
                let [a, b, c, _] = latest;
                latest = [(cell, from, end), a, b, c];
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

    /// Returns the best cut of the items, with `most` cells at most; [`None`] where none is worth a node.
    #[inline(never)]
    fn choose_cut(&self, task: &Task, end: usize, hull: &Hull, most: usize) -> Option<Cut> {
        if most < 2 {
            return None;
        }
        let numbers = self.numbers(task.start, end);
        let len = numbers.len();
        let stride = len.div_ceil(CUT_SAMPLE);
        // A cut costs the items that it leaves to be compared, in 16ths of an item.
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
            let values = distinct(numbers, |number| self.item(number).value(word) & mask, len);
            let width = usize::BITS.wrapping_sub(values.saturating_sub(1).leading_zeros());
            let width = width.max(1).min(most.ilog2());
            // The items that share a cell by chance.
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
                    // Another hash at each depth: items that share a cell must not do so again.
                    hash: HASH.rotate_left(task.cost) | 1,
                    width,
                    within: ALL,
                },
            );
        }
        self.each_slice(task, hull, len, |cut| {
            if cut.cells() > most {
                return;
            }
            if let Some(left) = self.estimate_left(numbers, stride, &cut) {
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
        (len >= ITEMS_MANY || saved > u64::from(NODE_COST.saturating_add(CUT_GAIN))).then_some(cut)
    }

    /// Calls `with` for all cuts by neighbouring bits that may be worth a node for `len` items.
    fn each_slice(&self, task: &Task, hull: &Hull, len: usize, mut with: impl FnMut(Cut)) {
        let known = &task.known;
        // Long lists are cut by the first unknown bits of an address only: so prefixes come to match all
        // packets of a cell.
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
                if word < addresses
                    && len >= ITEMS_IN_ORDER
                    && !core::mem::replace(&mut is_first, false)
                {
                    continue;
                }
                with(Cut::slice(word, shift, 4, known));
                // Eight from there on, within the address, or above the class.
                let is_last = word == TRANSPORT && shift == PROTOCOL_SHIFT;
                if len >= ITEMS_CUT_WIDE && shift & 31 != 0 && !is_last {
                    with(Cut::slice(word, shift.wrapping_sub(4), 8, known));
                }
            }
        }
        if (known.class & hull.class).count_ones() > 1 {
            with(Cut::slice(TRANSPORT, CLASS_SHIFT, CLASS_WIDTH, known));
        }
        // Ports are cut by their first unknown bits: a range has all values of the others.
        for base in [SOURCE_PORT_SHIFT, DESTINATION_PORT_SHIFT] {
            let bits = known.mask(TRANSPORT).wrapping_shr(base) as u16;
            let unknown = u16::BITS.wrapping_sub(bits.leading_ones());
            for width in [4, 8] {
                let width = unknown.min(width);
                if width != 0 && (width <= 4 || len >= ITEMS_CUT_WIDE) {
                    let shift = base.wrapping_add(unknown).wrapping_sub(width);
                    with(Cut::slice(TRANSPORT, shift, width, known));
                }
            }
        }
    }

    /// Returns how many items share the cell of an item on the average, in 16ths; [`None`] where too many
    /// items lie in too many cells.
    #[inline(never)]
    fn estimate_left(&self, numbers: &[u32], stride: usize, cut: &Cut) -> Option<u64> {
        let mut counts = [0u16; 256];
        let mut sample = 0u64;
        // The items that lie in all cells.
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
        // In a sample, fewer items share a cell than in the whole.
        let scale = numbers.len() as u64;
        let left = ratio(ratio((squares << 4).wrapping_mul(scale), sum), sample);
        let copies = ratio(sum << 4, sample);
        let most = if cut.width > 4 {
            COPIES_WIDE
        } else {
            COPIES_NARROW
        };
        (copies <= most || numbers.len() >= ITEMS_MANY)
            .then_some(left.saturating_mul(copies.saturating_add(COPIES_BASE)) >> 6)
    }
}

/// Returns the residue of an item in a cell: the parts of it that still tell packets of the cell apart.
///
/// `open.mask` has the bits that are not known there, `ports` the ports that a packet can have, and
/// `open.class` its classes.
fn residue(item: &Item, open: &Known, ports: [(u16, u16); 2]) -> [u64; 2 * WORDS + 1] {
    let mut rest = [0; 2 * WORDS + 1];
    let [ranges, masked @ ..] = &mut rest;
    let words = item.mask.iter().zip(&item.value).zip(&open.mask);
    let bits = words.flat_map(|((mask, value), open)| [mask & open, value & open]);
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

/// Takes the last element.
fn pop<T>(vec: &mut Vec<T>) -> Option<T> {
    let last = vec.len().checked_sub(1)?;
    vec.remove(last)
}

/// Returns the item of that number; one that matches nothing for a number beyond all.
fn item_of(items: &[Item], number: u32) -> &Item {
    static NONE: Item = Item {
        value: [0; WORDS],
        mask: [0; WORDS],
        ports: [ALL; 2],
        class: 0,
        exact: false,
        row: RowId(0),
    };

    items.get(number as usize).unwrap_or(&NONE)
}
