// SPDX-License-Identifier: GPL-2.0

//! Raw bindings for C that the kernel crate does not bind. `bindgen` makes them at build time.
//!
//! They share the kernel crate's types. Only the wrappers in this folder may use them.
//!
//! C header: `rust-bindings/bindings_helper.h`

#![allow(
    clippy::all,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]

include!(concat!(
    env!("CTSKIP_OBJTREE"),
    "/rust-bindings/bindings.rs"
));
