// SPDX-License-Identifier: GPL-2.0

//! The builder of one tree: from the root down, each node with the best cut that a sample shows.

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    bitmap,
    matcher::{
        cells::Cell,
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
        row::{
            RowId,
            Rows, //
        },
        tree::{
            cut::{
                judged_elsewhere,
                Cut,
                Hull,
                Known, //
            },
            item::Item,
            Node,
            Trees, //
        },
        words::{
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
    rule::Family, //
};

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

/// The work that so many items may take. See [`WORK`].
fn work_for(items: usize) -> usize {
    items
        .saturating_mul(WORK_PER_ITEM)
        .saturating_add(WORK_LEAST)
        .min(WORK_MOST)
}

/// Makes trees.
pub(super) struct TreeBuilder<'b> {
    family: Family,
    rows: &'b Rows,
    items: &'b [Item],
    trees: &'b mut Trees,
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
pub(super) struct BuiltTree {
    pub(super) root: Cell,
    /// What searching it takes at worst.
    pub(super) worst: Cost,
    /// What it takes on the average to come to a row and to compare those beside it.
    pub(super) mean: Cost,
}

impl<'b> TreeBuilder<'b> {
    /// Prepares trees of some of `items`, in the order of their rules.
    pub(super) fn new(
        family: Family,
        rows: &'b Rows,
        items: &'b [Item],
        trees: &'b mut Trees,
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
            trees,
        }
    }

    /// What it puts trees in.
    pub(super) fn trees(&mut self) -> &mut Trees {
        self.trees
    }

    fn spent(&self) -> usize {
        self.trees.cells.total()
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
        let root = self.trees.cells.add(1)?;
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
            let cell = self.trees.cells.get(from);
            self.trees.cells.set(to, cell);
        }
        let spent = granted.saturating_sub(self.work.get());
        self.work_left = self.work_left.saturating_sub(spent);
        let cell = self.trees.cells.get(root);
        if root.wrapping_add(1) == self.trees.cells.len() {
            self.trees.cells.truncate(root);
        }
        let mean = self.costs.checked_div(self.reached).unwrap_or(0);
        Ok(BuiltTree {
            root: cell,
            worst: self.worst,
            mean: Cost::try_from(mean).unwrap_or(Cost::MAX),
        })
    }

    fn item(&self, number: u32) -> &'b Item {
        item_of(self.items, number)
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

    fn fill_cell(&mut self, task: &Task) -> Result<(), NoMemory> {
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
                self.trees.cells.set(task.cell, cell);
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
                self.note_shadowing(*number);
            }
        }
        end
    }

    /// Drops the items that are alike to one before as far as this cell goes. Gives their end.
    #[inline(never)]
    fn drop_alike(&mut self, task: &Task, end: usize) -> Result<usize, NoMemory> {
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
            let alike = loop {
                match seen.get(place) {
                    Some(&u32::MAX) | None => break false,
                    Some(other) if residue(self.item(*other)) == own => break true,
                    _ => place = place.wrapping_add(1) & size.wrapping_sub(1),
                }
            };
            if alike {
                if let Some(first) = seen.get(place) {
                    let first = *first;
                    if self.items.get(first as usize).map(|i| i.row) != Some(item.row) {
                        self.note_shadowing(first);
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
    fn note_shadowing(&mut self, number: u32) {
        let rule = Order::rule(self.rows.order(self.item(number).row));
        bitmap::set(&mut self.trees.shadowing, rule as usize);
    }

    /// Returns the cell of a leaf that has all the items.
    fn leaf(&mut self, start: usize, end: usize) -> Result<Cell, NoMemory> {
        let numbers = self.stack.get(start..end).unwrap_or_default();
        let rows = numbers
            .iter()
            .map(|number| item_of(self.items, *number).row);
        self.trees.cells.leaf(rows)
    }

    /// Makes a node of a cell.
    #[inline(never)]
    fn divide(&mut self, task: &Task, end: usize, cut: &Cut) -> Result<(), NoMemory> {
        let base = self.trees.cells.add(cut.cells())?;
        let node = Cell::of_node(self.trees.nodes.len())?;
        self.trees.cells.set(task.cell, node);
        self.trees.nodes.push(Node {
            mask: cut.mask,
            multiplier: cut.multiplier(),
            base: base as u32,
            shift: cut.drop() as u8,
            word: cut.word as u8,
        })?;
        // While it is filled, a cell counts the items that it will have, then says where they end.
        let cells = self.trees.cells.from_mut(base);
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
            let end = self.trees.cells.get(cell).0 as usize;
            let from = core::mem::replace(&mut start, end);
            if end.saturating_sub(from) < 2 {
                let only = self.numbers(from, end).first().copied();
                let row = only.map(|number| self.item(number).row);
                let (own, worst) = row.map_or((0, 0), |row| self.rows.cost(row));
                let items = usize::from(row.is_some());
                self.reach(items, cost.saturating_add(own), cost.saturating_add(worst));
                let to = row.map_or(Cell::EMPTY, |row| Cell::row(row).last());
                self.trees.cells.set(cell, to);
                continue;
            }
            self.trees.cells.set(cell, Cell::EMPTY);
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
    fn choose_cut(&self, task: &Task, end: usize, hull: &Hull, most: usize) -> Option<Cut> {
        if most < 2 {
            return None;
        }
        let numbers = self.numbers(task.start, end);
        let len = numbers.len();
        let stride = len.div_ceil(CUT_SAMPLE);
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
            let values = distinct(numbers, |number| self.item(number).value(word) & mask, len);
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

    /// Gives all neighbouring bits to `with` that may be worth a node for so many items.
    fn each_slice(&self, task: &Task, hull: &Hull, len: usize, mut with: impl FnMut(Cut)) {
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
            with(Cut::slice(TRANSPORT, CLASS_SHIFT, 3, known));
        }
        // Of ports the first bits that are not known: of the others a range takes all.
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

    /// How many items, in 16ths, share the cell of an item on the average; `None` where too many lie
    /// in too many cells.
    #[inline(never)]
    fn estimate_left(&self, numbers: &[u32], stride: usize, cut: &Cut) -> Option<u64> {
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
        let most = if cut.width > 4 {
            COPIES_WIDE
        } else {
            COPIES_NARROW
        };
        (copies <= most || numbers.len() >= ITEMS_MANY)
            .then_some(left.saturating_mul(copies.saturating_add(COPIES_BASE)) >> 6)
    }
}

/// What is left of an item where all but the bits of `open.mask` are known, `ports` are those that a
/// packet can have, and `open.class` its classes.
fn residue(item: &Item, open: &Known, ports: [(u16, u16); 2]) -> [u64; 2 * WORDS + 1] {
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
