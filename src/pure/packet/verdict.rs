// SPDX-License-Identifier: GPL-2.0

//! What is done with a packet: the first rule that matches decides, the NAT guard may hold it.

use crate::pure::{
    matcher::{
        ruleset::Ruleset,
        Order, //
    },
    rule::Action,
    table::Entry, //
};

/// What the rules in force make of the packets (`mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Skip what is to be skipped.
    #[default]
    Skip,
    /// Match and count, mark nothing.
    Observe,
    /// Look at nothing.
    Off,
}

impl Mode {
    /// Reads a mode's name.
    pub fn parse(text: &[u8]) -> Option<Self> {
        [Self::Skip, Self::Observe, Self::Off]
            .into_iter()
            .find(|mode| mode.name().as_bytes() == text)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Observe => "observe",
            Self::Off => "off",
        }
    }
}

/// What the rules say of a packet.
pub enum Verdict<'a, S> {
    /// No rule matches.
    NoRule,
    /// A `track` rule matches.
    Track(&'a Entry<S>),
    /// A `skip` rule matches, but NAT is in use and the rule does not say `nat=ok`.
    Held(&'a Entry<S>),
    /// A `skip` rule matches.
    Skip {
        /// The rule.
        entry: &'a Entry<S>,
        /// Whether the packet is an ICMP error, and the rule matches the packet that it quotes.
        followed: bool,
    },
}

/// Decides on a packet by the rule that [`Ruleset::lookup`] has found for it.
///
/// `quoted` is the one for the packet that it quotes, where it is an ICMP error; `nat_in_use` tells
/// whether the namespace translates packets of this family, and is asked only where the answer
/// matters.
#[inline(always)]
pub fn decide<S>(
    ruleset: &Ruleset<S>,
    own: Option<Order>,
    quoted: Option<Order>,
    nat_in_use: impl FnOnce() -> bool,
) -> Verdict<'_, S> {
    let (first, followed) = match (own, quoted) {
        (Some(own), Some(quoted)) => (own.min(quoted), quoted < own),
        (Some(own), None) => (own, false),
        (None, Some(quoted)) => (quoted, true),
        (None, None) => return Verdict::NoRule,
    };
    match ruleset.entry(first) {
        Some(entry) => judge(entry, followed, nat_in_use),
        None => Verdict::NoRule,
    }
}

/// Decides on a packet by the rule of `entry`, which matches it or, where `followed`, the packet that
/// it quotes.
#[inline(always)]
pub fn judge<S>(
    entry: &Entry<S>,
    followed: bool,
    nat_in_use: impl FnOnce() -> bool,
) -> Verdict<'_, S> {
    match entry.rule().action() {
        Action::Track => Verdict::Track(entry),
        Action::Skip if !entry.rule().nat_ok() && nat_in_use() => Verdict::Held(entry),
        Action::Skip => Verdict::Skip { entry, followed },
    }
}
