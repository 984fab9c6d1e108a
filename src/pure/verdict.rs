// SPDX-License-Identifier: GPL-2.0

//! What is done with a packet: the first rule that matches decides, the NAT guard may hold it.

use super::{
    header::Key,
    matcher::Order,
    rule::Action,
    ruleset::{
        Ruleset,
        Scope, //
    },
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

/// Decides on the packet of `key` by the rules of `ruleset` that hold in `scope`.
///
/// `quoted` gives the key of the packet that it quotes, and is asked only where it is an ICMP error;
/// `nat_in_use` tells whether the namespace translates packets of this family, and is asked only
/// where the answer matters.
#[inline(always)]
pub fn decide<'a, S>(
    ruleset: &'a Ruleset<S>,
    scope: Scope,
    key: &Key,
    quoted: impl FnOnce() -> Option<Key>,
    nat_in_use: impl FnOnce() -> bool,
) -> Verdict<'a, S> {
    let own = ruleset.lookup(scope, key);
    let quoted = match key.error {
        true => quoted().and_then(|key| look_up_quoted(ruleset, scope, &key)),
        false => None,
    };
    let (index, followed) = match (own, quoted) {
        (Some(own), Some(quoted)) => (own.min(quoted), quoted < own),
        (Some(own), None) => (own, false),
        (None, Some(quoted)) => (quoted, true),
        (None, None) => return Verdict::NoRule,
    };
    let Some(entry) = ruleset.entry(index) else {
        return Verdict::NoRule;
    };
    match entry.rule().action() {
        Action::Track => Verdict::Track(entry),
        Action::Skip if !entry.rule().nat_ok() && nat_in_use() => Verdict::Held(entry),
        Action::Skip => Verdict::Skip { entry, followed },
    }
}

/// Looks up the packet that an error quotes: seldom, so out of the way of the others.
#[cold]
fn look_up_quoted<S>(ruleset: &Ruleset<S>, scope: Scope, key: &Key) -> Option<Order> {
    ruleset.lookup(scope, key)
}
