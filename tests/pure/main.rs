// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure core, from outside. A module has the name of the source file that it tests;
//! `corpus` and `shapes` have the names of their inputs. One binary, so that they are linked once.

#![expect(
    clippy::result_large_err,
    reason = "the core's reports are as large as they are"
)]

use ctskip_pure::packet::header::Key;

mod alloc;
mod command;
mod conn;
mod corpus;
mod dearest;
mod flows;
mod hash;
mod header;
mod limits;
mod linear;
mod listing;
mod load;
mod oracle;
mod parse;
mod plan;
mod print;
mod purge;
mod report;
mod ruleset;
mod session;
mod shadow;
mod shapes;
mod show;
mod terms;
mod text;
mod value;
mod verdict;
mod warning;

/// A packet's key, and where it is an ICMP error, the key of the packet that it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    key: Key,
    quoted: Option<Key>,
}
