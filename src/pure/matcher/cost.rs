// SPDX-License-Identifier: GPL-2.0

//! All tuned numbers of the matcher, each with what it buys.
//!
//! A cost is a number of instructions, roughly. `make bench` counts what a packet really takes, and
//! `cargo bench --bench instructions` counts it on the host.

/// The cost of a search, in instructions, roughly.
pub(super) type Cost = u32;

// The linear table.

/// The most rows of a linear table for one hook. Each costs a packet 6 instructions; from about 8 on,
/// hash tables and trees cost less.
pub(super) const LINEAR_ROWS: usize = 8;
/// The most rules of a table that is searched for the few rules of one scope: bounds the work of making
/// a view.
pub(super) const LINEAR_RULES: usize = 64;

// Hash tables.

/// The most hash tables of a section. A packet that matches no rule is looked up in all of them.
pub(super) const TABLES: usize = 8;
/// The cells of a hash table for each of its rows, at least: three of four rows are alone in their cell,
/// and three of four packets that match none meet an empty one.
pub(super) const CELLS_PER_ROW: usize = 3;
/// The most rows of a cell of a hash table. A row beyond goes to a tree: this bounds the slowest packet.
pub(super) const ROWS_PER_CELL: u8 = 8;
/// The fewest rows that make a hash table.
pub(super) const TABLE_ROWS: usize = 4;
/// The smallest part of a section's rows that makes a hash table: one of so many. A smaller table costs
/// all packets more than it saves those that match.
pub(super) const TABLE_PART: usize = 16;
/// The rows that are looked at to choose a hash table's mask: bounds the time of a compile.
pub(super) const TABLE_SAMPLE: usize = 512;
/// The lengths of the prefixes that a hash table's mask may have. With more of them, choosing takes
/// longer and packets gain nothing.
pub(super) const TABLE_PREFIXES: [u32; 8] = [32, 30, 27, 24, 20, 16, 8, 0];
/// The part of a section's rows for IPv4 that hash tables may leave to trees: one of so many. With
/// more, packets pass tables and trees, and trees alone cost less.
pub(super) const TABLES_LEAVE: usize = 32;
/// The cost of a lookup in a hash table, both directions, without the rows of the cells.
pub(super) const TABLE_COST: Cost = 40;
/// The cost of a row in a cell of a hash table.
pub(super) const TABLE_ROW_COST: Cost = 30;

// Groups of rules, each of which has a tree.

/// The most groups of a section; the last one may have a tree for each direction. A packet that matches
/// no rule passes the trees of all groups.
pub(super) const GROUPS: usize = 12;
/// The most items that are made no group of any more: a tree of all of them is as good.
pub(super) const GROUP_FEW: usize = 8;
/// The fewest different values of a group's mask: with fewer, a tree cuts by these bits as well.
pub(super) const GROUP_VALUES: usize = 8;
/// The smallest part of the items that makes a group: one of so many.
pub(super) const GROUP_PART: usize = 32;
/// The items that are looked at to choose a group's mask: bounds the time of a compile.
pub(super) const GROUP_SAMPLE: usize = 1024;
/// The items whose own masks of marks, flags and devices are tried for a group.
pub(super) const GROUP_OWN_MASKS: usize = 16;
/// The lengths of IPv4 prefixes that a group's mask may have of one address.
pub(super) const GROUP_PREFIXES: [u32; 8] = [8, 12, 16, 20, 22, 24, 28, 32];
/// The lengths of IPv4 prefixes that a group's mask may have of both addresses. Without pairs, `chains`
/// and `acl` need twice the memory.
pub(super) const GROUP_PAIRS: [u32; 6] = [12, 16, 20, 24, 28, 32];
/// The lengths of IPv6 prefixes that a group's mask may have, in the upper half of an address.
pub(super) const GROUP_PREFIXES_UPPER: [u32; 4] = [32, 48, 56, 64];
/// The lengths that it may have in the lower half.
pub(super) const GROUP_PREFIXES_LOWER: [u32; 2] = [32, 64];
/// The part of the items that may be left for one tree of those that no group takes: one of so many.
pub(super) const REST_PART: usize = 8;
/// The mean cost at which the tree of the rest is good enough, and no more groups are made of it. It
/// trades: without it, packets of `acl` that match cost an eighth less, and those that miss two thirds
/// more.
pub(super) const REST_COST: Cost = 160;
/// The fewest items of the rest that may be divided by their direction.
pub(super) const REST_DIVIDED: usize = 64;
/// The cost of a lookup beside its trees.
pub(super) const LOOKUP_COST: usize = 40;
/// The cost of a tree beside its nodes and rows.
pub(super) const TREE_COST: usize = 16;
/// The fewest ranges of ports in a table for ports to be ranked: a rank costs a packet two loads, and
/// the ranks 128 KiB. Without, ranges that nest at odd ends share leaves of thousands of rows.
pub(super) const RANKED_RANGES: usize = 8;

// Trees.

/// The cost of a node.
pub(super) const NODE_COST: Cost = 19;
/// The saving that makes a cut worth more than the cost of its node.
pub(super) const CUT_GAIN: Cost = 6;
/// The cells and places in lists that a tree may have for each item. 8 or 32 change the mean cost by a
/// tenth, and that of the slowest packet by half.
pub(super) const ROOM_PER_ITEM: usize = 16;
/// The room that a tree has at least.
pub(super) const ROOM_LEAST: usize = 1 << 10;
/// The cells that a cut may have for each item of its node, as far as there is room.
pub(super) const CELLS_PER_ITEM: usize = 4;
/// The work for each item, and the least and the most work for all trees of a compile: items looked at or
/// put in cells. Beyond, cells are left as they are: this bounds the time of a compile. Tables like those
/// of ClassBench take some hundreds to some thousands for each item.
pub(super) const WORK_PER_ITEM: usize = 1 << 13;
/// See [`WORK_PER_ITEM`].
pub(super) const WORK_LEAST: usize = 1 << 16;
/// See [`WORK_PER_ITEM`].
pub(super) const WORK_MOST: usize = 1 << 30;
/// The items in cells that are filled before the limits of a compile are looked after: about a millisecond.
pub(super) const ITEMS_UNCHECKED: usize = 1 << 12;
/// The instructions, roughly, of other searches of a table before the limits are looked after: about a
/// millisecond.
pub(super) const WORK_UNCHECKED: usize = 1 << 20;
/// The instructions, roughly, for each place of a tree, where the dearest rules are looked for.
pub(super) const DEAREST_PLACE: usize = 16;
/// The bytes that the trees of a table may take, those in work included. Tables like those of ClassBench
/// take 0.3 KiB a rule, and 131,072 rules of short prefixes on both sides half of it.
pub(super) const MOST_BYTES: usize = 256 << 20;
/// The fewest items that are cut by the first unknown bits of an address only, so that prefixes come to
/// match all that is left.
pub(super) const ITEMS_IN_ORDER: usize = 256;
/// The fewest items that may be cut by eight bits at once.
pub(super) const ITEMS_CUT_WIDE: usize = 64;
/// The fewest items among which equal ones are dropped, and which are cut even where it seems not to
/// help.
pub(super) const ITEMS_MANY: usize = 48;
/// The items that are looked at to choose a cut: bounds the time of a compile.
pub(super) const CUT_SAMPLE: usize = 64;
/// The items that are looked at to estimate how many different values there are.
pub(super) const DISTINCT_SAMPLE: usize = 512;
/// The most copies of an item that a cut of four bits may make, in 16ths; above that, only long lists
/// are cut so.
pub(super) const COPIES_NARROW: u64 = 128;
/// The most copies that a cut of eight bits may make, in 16ths.
pub(super) const COPIES_WIDE: u64 = 64;
/// The weight of copies: the items that a cut leaves are multiplied by `(copies + COPIES_BASE) / 64`, with
/// copies in 16ths. A cut that makes none has the factor 1.
pub(super) const COPIES_BASE: u64 = 48;

// Rows.

/// The most combinations that a rule's lists are told apart in: one row each, in the place of one row of
/// lists.
pub(super) const COMBINATIONS: usize = 16;
/// The cost of a single row that fails early, as most do, and at worst of those that a packet meets in one
/// place: some of them fail late, all of them only where no rule specifies ports.
pub(super) const SINGLE_COST: (Cost, Cost) = (16, 30);
/// The cost of a row of lists that fails at its filters, as most do.
pub(super) const LISTS_COST: Cost = 45;
/// The cost of a row of lists at worst: for the row, and for each value of its lists.
pub(super) const LISTS_WORST: (Cost, Cost) = (100, 8);

// Updates.

/// The most rules that are compiled aside, for one update or several.
pub(super) const ADDED_RULES: usize = 255;
/// The most rules of a table that is compiled anew at each update: that takes less than a millisecond.
pub(super) const UPDATE_SMALL: usize = 512;
/// The part of the compiled rules that may be deleted before all are compiled anew: one of so many.
pub(super) const UPDATE_DELETED: usize = 4;
/// The rows that may be looked at in an update for rules that a deleted rule has shadowed: bounds its
/// time.
pub(super) const UPDATE_ROWS: usize = 1 << 21;
/// The rules that are looked at for one that is not where it is expected.
pub(super) const UPDATE_AHEAD: usize = 256;

// Shadowed rules.

/// The work of a search for shadowed rules, for each rule of the table, beside lookups: words of bitmaps, each
/// some 30 instructions. Where less is needed, less is done.
pub(super) const SHADOW_WORK_PER_RULE: usize = 32;
/// That work at least, and at most.
pub(super) const SHADOW_WORK_LEAST: usize = 1 << 21;
/// See [`SHADOW_WORK_LEAST`].
pub(super) const SHADOW_WORK_MOST: usize = 1 << 22;
/// The words that it takes as much work to look at as to hold a rule against another one.
pub(super) const SHADOW_PAIR: usize = 64;
/// The instructions of a word, roughly.
pub(super) const SHADOW_WORD: usize = 32;
/// The instructions that the lookups of such a search may take, each counted as the table's dearest one: enough
/// for two of each of 131,072 rules, where a lookup costs 8,192 at worst.
pub(super) const SHADOW_LOOKUPS: usize = 1 << 31;
/// The intervals that a field of the rules is cut into, about, and the rules that are looked at for that.
pub(super) const SHADOW_INTERVALS: usize = 128;
/// See [`SHADOW_INTERVALS`].
pub(super) const SHADOW_SAMPLE: usize = 512;
