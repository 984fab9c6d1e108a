// SPDX-License-Identifier: GPL-2.0

//! Flows that nothing needs an entry for: what is remembered of them where NAT is in use.
//!
//! A packet's [`key`] is that of its flow, the same in both directions, and so is its [`hash`].

pub mod hash;
pub mod key;
