// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure core, from outside: each module is about one step of the way of a rule or of a
//! packet. One binary, so that they share their helpers and are linked once.

#![expect(
    clippy::result_large_err,
    reason = "the core's reports are as large as they are"
)]

#[path = "../../fuzz/src/checks/mod.rs"]
mod checks;
mod commands;
mod common;
mod corpus;
mod dissect;
mod few;
mod hashed;
mod held;
mod language;
mod large;
mod load;
mod matching;
mod meaning;
mod memory;
mod output;
mod session;
#[expect(dead_code, reason = "benchmarks and examples use the rest")]
mod shapes;
mod specs;
mod verdict;
