// SPDX-License-Identifier: GPL-2.0

//! The pure core: what ctskip decides, with no kernel in it.
//!
//! The way of a rule is [`text`] (a write cut into statements) -> [`parse`] (a statement read and
//! checked) -> [`rule`] (printed by [`print`]) -> [`table`] (the rules in order, and the transactions
//! over them) -> [`ruleset`] (a table compiled for all namespaces, and what has changed since) ->
//! [`matcher`]. There, a rule becomes rows that a packet is compared with ([`row`]; those of lists
//! turn most away by a [`filter`]). Where nearly all rules say the same kinds of bits, the rows are put
//! in hash tables ([`tuple`]); else, as boxes in the space of keys, in groups ([`group`]) and the groups
//! in decision trees ([`tree`]).
//!
//! The way of a packet is [`header`] (bytes to a key) -> [`words`] (the key as trees and rows take it)
//! -> [`matcher`] -> [`verdict`]; where few rules hold, [`few`] stands in for the matcher.
//!
//! It builds as a module of `ctskip.ko` and, unchanged, as the host crate `ctskip-pure`, where unit
//! and property tests run. It holds no `unsafe`, knows no kernel type, and every allocation goes
//! through [`alloc`], may fail, and is an error to the caller. Nothing here panics on any input: the
//! lints below refuse the means.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]

pub mod alloc;
mod bitmap;
pub mod command;
pub mod error;
pub mod few;
mod filter;
mod group;
pub mod header;
pub mod listing;
pub mod matcher;
#[cfg(not(MODULE))]
pub mod oracle;
pub mod parse;
pub mod print;
pub mod report;
mod row;
pub mod rule;
pub mod ruleset;
pub mod sort;
pub mod table;
pub mod text;
mod tree;
mod tuple;
pub mod verdict;
mod words;
