// SPDX-License-Identifier: GPL-2.0

//! How Linux is called: a safe interface to each part of the kernel that ctskip uses.
//!
//! All `unsafe` code is in this folder; `make lint` holds all other code to that. Nothing here knows what
//! ctskip decides.

pub(crate) mod accept;
mod bindings;
pub(crate) mod compat;
pub(crate) mod conntrack;
pub(crate) mod memory;
pub(crate) mod net;
pub(crate) mod netfilter;
pub(crate) mod params;
pub(crate) mod percpu;
pub(crate) mod pernet;
pub(crate) mod rcu;
pub(crate) mod skb;
pub(crate) mod sysfs;
pub(crate) mod task;
pub(crate) mod workqueue;
