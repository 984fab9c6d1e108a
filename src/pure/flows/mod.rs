// SPDX-License-Identifier: GPL-2.0

//! Flows that nothing needs an entry for: what is remembered of them where NAT is in use.
//!
//! A packet's [`key`] is that of its flow, the same in both directions. Its [`hash`] finds the flow's word
//! in the [`table`]. [`lifetime`] says for how long a word is good, [`quota`] how many a namespace may have
//! made lately.

pub mod hash;
pub mod key;
pub mod lifetime;
pub mod quota;
pub mod table;
pub mod word;
