// SPDX-License-Identifier: GPL-2.0

//! The matcher: finds the first of a table's rules that matches a packet.
//!
//! A [`ruleset`] is a table compiled for all network namespaces. [`plan`] chooses, for each namespace, the
//! engine that packets are looked up by:
//!
//! - [`linear`] compares a packet with each of a few rules.
//! - [`hash`] finds the rows to compare in hash tables, where nearly all rules for IPv4 specify one of a few
//!   kinds of bits. A rule is in one table, once; a packet is looked up in both directions.
//! - [`tree`] finds the rows to compare in decision trees, one for each group of rules that specify the same
//!   kind of bits. A rule that matches both directions is in the trees twice, as written and exchanged, so
//!   that a packet is looked up once. Trees take what hash tables leave.
//!
//! [`purge`] looks up flows that have conntrack entries, to tell which of them rules skip. [`shadow`] finds
//! rules that are never the first to match.
//!
//! A row ([`row`]) has the last word: a packet is compared with all that its rule says. Each table and tree
//! knows the first of its rules, and is passed over once a rule ahead of that has matched.
//!
//! # What was chosen, and against what
//!
//! Instructions a packet for match and miss of 65,536 rules, both directions, and bytes a rule with its
//! counters for two CPUs, by `make bench`. `exact` is (source, destination port), `acl` as ClassBench's
//! acl1.
//!
//! | | exact | acl | bytes: exact, acl |
//! |---|---:|---:|---:|
//! | this | 369 / 183 | 1,311 / 893 | 128, 259 |
//! | trees only | 502 / 362 | 1,311 / 893 | 125, 259 |
//! | trees only, one group of all long prefixes | | 3,196 / 354 | |
//! | one hash table, exact, in C | 270 / 166 | | 48 |
//! | nft's hash set; pipapo (16,384 rules) | 1,196 / 1,063 | 5,932 / 5,710 | 88 |
//!
//! - Rules one by one cost 10 to 20 instructions each. So this is for a few rules only.
//! - Hash tables as far as they go, and trees for the rest, cost `acl` a fifth more than trees alone:
//!   packets pass both. So there are tables only where next to nothing is left for trees.
//! - Six hash tables with relaxed masks, as in TupleMerge, with binary trees in crowded cells (counted by
//!   callgrind, without the hook) cost 276 / 161 for `exact`, but 1,711 for `acl`: packets pass five to six
//!   trees, at 18 instructions a node. Choosing the tables took seconds for rules with lists.
//! - Groups were chosen by how many rules specify their bits. Then thousands of rules with popular sources
//!   shared a cell. Now a group is worth more where few rules share a value, and pairs of prefixes are tried.
//! - Room for trees: 8, 16 or 32 cells an item change the mean by a tenth, and the slowest packet by half.
//! - Room and work were given to the parts of a tree as they came. Small parts left none for the largest,
//!   and 4,096 nested prefixes of IPv6 were one list, at half a million instructions. Now each part has its
//!   share. The rest that no group takes is divided by direction where that is twice as good, so that all
//!   rules of a tree specify the same port: then such a table costs 970.
//! - Rows of lists, IPv6 addresses, marks or devices: without a first look at six bits of each value
//!   ([`filter`]), 4,096 rules with lists of 16, 8 and 8 cost 14,688 / 15,021; with it, 6,207 / 5,995.
//! - Ports are ranked where rules name ranges. Without, ranges that nest at odd ends made leaves of
//!   thousands of rows.
//!
//! When `acl` cost 1,178 / 952, its cost beyond a hash table was: four to five groups of 25 instructions,
//! 13 nodes of 17, and 12 to 15 rows of 20, of rules with the same prefixes.

pub mod dearest;
pub mod limits;
pub mod linear;
#[cfg(not(MODULE))]
pub mod oracle;
pub mod plan;
pub mod purge;
pub mod ruleset;
pub mod scope;
pub mod shadow;
pub mod warning;

mod cells;
mod combination;
mod compile;
mod cost;
mod delta;
mod estimate;
mod filter;
mod found;
mod hash;
mod ranks;
mod row;
mod slice;
mod tree;
mod words;
