// SPDX-License-Identifier: GPL-2.0

//! A packet: what is read of it, and what is done with it.
//!
//! [`header`] makes a key of its headers' bytes; [`verdict`] decides by the rule that matches the key;
//! [`counter`] says what is counted. [`conn`] makes keys of a conntrack entry.

pub mod conn;
pub mod counter;
pub mod ends;
pub mod header;
pub mod verdict;
