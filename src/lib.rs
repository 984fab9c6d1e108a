// SPDX-License-Identifier: GPL-2.0

//! The host crate `ctskip-pure`: the pure core alone, for its tests, fuzz targets and benchmarks.
//!
//! The module itself has its root in `ctskip_main.rs`.

pub mod pure;

pub use pure::*;
