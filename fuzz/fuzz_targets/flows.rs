// SPDX-License-Identifier: GPL-2.0

//! Fuzzes what `ctskip_testkit::checks::flows` says.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ctskip_testkit::checks::flows(data));
