// SPDX-License-Identifier: GPL-2.0

//! Finds the first of some rules that matches a key.
//!
//! Each rule is compiled into rows, which a packet is compared with in full ([`row`](row)).
//! Which rows to compare is told in one of two ways, or both:
//!
//! - Where nearly all rules for IPv4 say the same kinds of bits, by hash tables
//!   ([`tuple`](hash)). A rule is in one of them once; a packet is looked up in both directions.
//! - Else, and for what is left, by decision trees ([`tree`](tree)), one for each group of rules
//!   that say the same kind of bits ([`group`](group)). A rule that matches both directions is
//!   in the trees twice, once as written and once exchanged, so that a packet is looked up once.
//!
//! Each table and tree knows the first of its rules, and is passed over once a rule ahead of that has
//! matched.
//!
//! One matcher holds the rules of all network namespaces; a [`Section`] is those of one group of
//! namespaces.
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
//! | trees only | 502 / 362 | the same | 3 fewer, the same |
//! | trees only, one group of all long prefixes | | 3,196 / 354 | |
//! | one hash table, exact, in C | 270 / 166 | | 48 |
//! | nft's hash set; pipapo (16,384 rules) | 1,196 / 1,063 | 5,932 / 5,710 | 88 |
//!
//! - Rules one by one: 10 to 20 instructions each, so it stays for a few rules only
//!   ([`few`](linear)).
//! - Hash tables as far as they go and trees for the rest, for `acl`: a fifth dearer than trees only, as
//!   packets pass both. So there are tables only where next to nothing is left.
//! - Six hash tables with relaxed masks, as of TupleMerge, and binary trees for what shares a place
//!   (counted by callgrind, without the hook): 276 / 161 for `exact`, but 1,711 for `acl`, as five to six
//!   trees of 18 instructions a node are passed; and choosing tables took seconds for rules with lists.
//! - Groups chosen by how many rules say their bits: of popular sources, thousands of rules shared a
//!   cell. Now what counts is how few share one, and pairs of prefixes are tried.
//! - Memory for trees ([`tree`](tree)): 8, 16 or 32 words an item change the mean by a tenth,
//!   and the slowest packet by half.
//! - Memory and time for the parts of a tree as they come: those at the side left none for the one with
//!   most rules, and 4,096 nested prefixes of IPv6 were one list, at half a million instructions. Now
//!   each has its share ([`tree`](tree)). What no group takes is divided by direction where that
//!   is twice as good, so that all rules of a tree say the same port: then such a table costs 970.
//! - Rows of lists, IPv6 addresses, marks or devices without a look at six bits of each value first
//!   ([`filter`](filter)): 14,688 / 15,021 for 4,096 rules with lists of 16, 8 and 8, now
//!   6,207 / 5,995.
//! - Ports are ranked where rules name ranges: without, ranges that nest at odd ends made leaves of
//!   thousands of rows.
//!
//! What `acl` cost beyond a hash table when it was 1,178 / 952: four to five groups of 25 instructions
//! each, 13 nodes of 17, 12 to 15 rows of 20, which other rules of the same prefixes have left in the
//! way.

pub mod held;
pub mod linear;
#[cfg(not(MODULE))]
pub mod oracle;
pub mod plan;
pub mod ruleset;
pub mod scope;

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

#[cfg(not(MODULE))]
pub use compile::Alone;
