// SPDX-License-Identifier: GPL-2.0

//! The test kit: everything that the tests, the fuzz targets and the benchmarks of the pure core share.
//!
//! - [`source`]: where choices come from. A seed, the bytes of a fuzzer, or proptest.
//! - [`rules`]: the maker of rules, and [`packets`]: the maker of packets near to rules.
//! - [`shapes`]: tables of many kinds and any size, and the packets that benchmarks send.
//! - [`world`]: a host with its network namespaces and its rules' slots. Text becomes tables there.
//! - [`compiled`]: a table compiled for lookups, as the kernel has it.
//! - [`reference`]: the first rule that matches, found in another way than the matcher's.
//! - [`checks`]: what must hold of any bytes. Each function is one fuzz target.

pub mod checks;
pub mod compiled;
pub mod packets;
pub mod reference;
pub mod rules;
pub mod shapes;
pub mod source;
pub mod world;
