// SPDX-License-Identifier: GPL-2.0

//! The language: how a rule is written, and what a text that is not a rule is told.
//!
//! [`text`] cuts a write into statements and words, and [`statement`] reads the words of one. [`parse`]
//! reads a rule from its words, by the table of terms ([`terms`]), whose rows use [`reader`], [`value`],
//! [`names`] and [`print`]; [`check`] looks at the rule as a whole. [`refusal`] and [`report`] say why a
//! text is refused and where. What was probably meant is found by [`spelling`], [`negation`] and
//! [`foreign`].

mod check;
mod foreign;
mod names;
mod negation;
pub mod parse;
pub mod print;
mod reader;
pub mod refusal;
pub mod report;
mod spelling;
pub(crate) mod statement;
mod terms;
pub mod text;
pub(crate) mod value;

#[cfg(not(MODULE))]
pub use {
    names::icmp_type_names,
    terms::{
        table,
        Row, //
    },
};
