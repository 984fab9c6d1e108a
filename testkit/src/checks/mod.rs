// SPDX-License-Identifier: GPL-2.0

//! What must hold of any bytes: one function for each fuzz target. It panics where something does not
//! hold.
//!
//! libFuzzer calls them by `make fuzz`, and looks for bytes that make one of them panic. The ordinary
//! tests call them with the files of `fuzz/corpus`, among which are all that were ever found.

mod edits;
mod flows;
mod headers;
mod matcher;
mod rules;
pub mod session;
mod transactions;

pub use self::{
    edits::edits,
    flows::flows,
    headers::headers,
    matcher::matcher,
    rules::rules,
    session::session,
    transactions::transactions, //
};
