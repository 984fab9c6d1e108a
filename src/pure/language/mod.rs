// SPDX-License-Identifier: GPL-2.0

//! The language: how a rule is written, and what a text that is none is told.
//!
//! [`text`] cuts a write into statements and words, [`parse`] reads and checks a rule, [`print`] writes
//! one out, [`refusal`] and [`report`] say why a text is refused and where.

pub mod parse;
pub mod print;
pub mod refusal;
pub mod report;
pub mod text;
