// SPDX-License-Identifier: GPL-2.0

//! Fuzzes what `checks::matcher` says.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ctskip_fuzz::matcher(data));
