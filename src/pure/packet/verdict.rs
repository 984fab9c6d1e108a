// SPDX-License-Identifier: GPL-2.0

//! What is done with a packet: the first rule that matches decides, the NAT guard may hold it.

use crate::pure::{
    rule::Action,
    table::Entry, //
};

/// The mode: how packets are treated that rules match.
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

/// The decision on a packet.
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
