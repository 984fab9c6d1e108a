// SPDX-License-Identifier: GPL-2.0

//! The host crate `ctskip-pure`: the pure core alone, for its tests, fuzz targets and benchmarks.
//!
//! The module itself has its root in `ctskip_main.rs`.
//!
//! # Examples
//!
//! The way from a text to the verdict on a packet. The test kit stands for the kernel: its `World`
//! has the network namespaces, and hands out the slots that count packets.
//!
//! ```
//! use ctskip_pure::alloc::Arc;
//! use ctskip_pure::matcher::plan::{Plan, View};
//! use ctskip_pure::matcher::ruleset::Ruleset;
//! use ctskip_pure::matcher::scope::Scope;
//! use ctskip_pure::packet::header::Transport;
//! use ctskip_pure::packet::verdict::{Mode, Verdict};
//! use ctskip_pure::table::{command, Table};
//! use ctskip_testkit::world::{key, Unlimited, World};
//!
//! // A write to `rules` makes a new table of the last one.
//! let world = World::default();
//! let text = b"track udp dst=10.0.0.9 dport=53\nudp dport=53\n";
//! let change = command::run(&Table::new(), text, &world, &world).ok().unwrap().change.unwrap();
//! assert_eq!(change.added, 2);
//!
//! // The table is compiled, and each namespace has a view of it with a plan.
//! let table = Arc::new(change.table).unwrap();
//! let ruleset = Arc::new(Ruleset::compile(table, &Unlimited).unwrap()).unwrap();
//! let view = View::new(ruleset, Scope::Init, Mode::Skip, true);
//! assert_eq!(view.plan(), Plan::Linear);
//!
//! // The first rule that matches decides, in both directions of a flow.
//! let verdict = |from, to, ports| view.decide(&key(17, from, to, ports), None, |_| false, || false);
//! let query = verdict("10.0.0.1", "10.0.0.2", Transport::Ports(4000, 53));
//! assert!(matches!(query, Verdict::Skip { entry, .. } if entry.id() == 2));
//! let answer = verdict("10.0.0.9", "10.0.0.1", Transport::Ports(53, 4000));
//! assert!(matches!(answer, Verdict::Track(entry) if entry.id() == 1));
//! ```

pub mod pure;

pub use pure::*;
