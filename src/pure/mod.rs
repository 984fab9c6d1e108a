// SPDX-License-Identifier: GPL-2.0

//! The pure core: what ctskip decides, with no kernel in it.
//!
//! The way of a rule is [`language`] (a text is cut, read and checked) -> [`rule`] -> [`table`] (the rules
//! in order, and the writes that change them) -> [`matcher`] (the table compiled for all namespaces).
//!
//! The way of a packet is [`packet::header`] (bytes to a key) -> [`matcher`] (the first rule that matches
//! the key) -> [`packet::verdict`].
//!
//! Where NAT is in use, a packet that is to be skipped is looked up in [`flows`], too.
//!
//! A folder uses those ahead of it only: [`rule`], [`language`], [`table`], [`packet`], [`flows`],
//! [`matcher`].
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
// Not in the module until its hooks use it.
#[cfg(not(MODULE))]
pub mod flows;
pub mod language;
pub mod matcher;
pub mod packet;
pub mod rule;
pub mod sort;
pub mod table;
