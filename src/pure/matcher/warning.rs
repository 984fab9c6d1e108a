// SPDX-License-Identifier: GPL-2.0

//! Which rules the log warns of, and in which namespaces.
//!
//! Nothing is decided by it: whether a packet is held says [`verdict`](crate::pure::packet::verdict).

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    matcher::{
        ruleset::Ruleset,
        scope::Scope, //
    },
    packet::header::Needs,
    rule::{
        Action,
        Device,
        Family,
        Netns,
        Rule, //
    },
};

/// A set of address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// Whether IPv4 is in it.
    pub ipv4: bool,
    /// Whether IPv6 is in it.
    pub ipv6: bool,
}

/// A kind of rules that may not do in some namespaces what their author expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The NAT guard holds the rules where NAT is in use.
    Held,
    /// The rules act also where NAT is in use (`nat=ok`). If an end of their flows is an end of a
    /// translated flow, too, its answers go out untranslated.
    NatOk,
    /// The rules name one device, and both directions. Where packets are forwarded, the other direction
    /// comes in by another device.
    OneDevice,
}

impl Warning {
    /// Returns whether one of some rules may be of this kind, by the fields that these need: most tables
    /// need not be gone through.
    pub fn may_be_about(self, needs: Needs) -> bool {
        self != Self::OneDevice || needs.has(Needs::DEVICE)
    }

    /// Returns whether `rule` is of this kind.
    fn is_about(self, rule: &Rule) -> bool {
        match self {
            Self::Held => rule.action() == Action::Skip && !rule.nat_ok(),
            Self::NatOk => rule.action() == Action::Skip && rule.nat_ok(),
            Self::OneDevice => {
                let mut devices = rule.devices();
                let is_one = |device: Device| !device.wildcard() && device.name() != b"lo";
                !rule.oneway() && devices.next().is_some_and(is_one) && devices.next().is_none()
            }
        }
    }

    /// Returns the families of the packets for which `rule` is of this kind.
    fn families(self, rule: &Rule) -> Families {
        let is_about = self.is_about(rule);
        Families {
            ipv4: is_about && rule.family() != Some(Family::Ipv6),
            ipv6: is_about && rule.family() != Some(Family::Ipv4),
        }
    }
}

impl Families {
    /// Returns whether no family is in it.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Returns the families that are in either.
    fn or(self, other: Self) -> Self {
        Self {
            ipv4: self.ipv4 || other.ipv4,
            ipv6: self.ipv6 || other.ipv6,
        }
    }

    /// Returns whether a family is in both.
    pub fn meet(self, other: Self) -> bool {
        self.ipv4 && other.ipv4 || self.ipv6 && other.ipv6
    }
}

/// The families of the rules that a warning is about, by the namespaces that the rules are for.
pub struct Warned {
    any: Families,
    init: Families,
    not_init: Families,
    /// In the order of [`Scope::Named`].
    named: Vec<Families>,
}

impl Warned {
    /// Goes through all rules once.
    pub fn new<S>(warning: Warning, ruleset: &Ruleset<S>) -> Result<Self, NoMemory> {
        let count = ruleset.named().count();
        let mut named = Vec::with_capacity(count)?;
        for _ in 0..count {
            named.push(Families::default())?;
        }
        let mut found = Self {
            any: Families::default(),
            init: Families::default(),
            not_init: Families::default(),
            named,
        };
        for entry in ruleset.table().entries() {
            let rule = entry.rule();
            let families = match rule.netns() {
                Netns::Any => Some(&mut found.any),
                Netns::Init => Some(&mut found.init),
                Netns::NotInit => Some(&mut found.not_init),
                Netns::Only(id) => match ruleset.scope(false, id.cookie) {
                    Scope::Named(number) => found.named.get_mut(number),
                    Scope::Init | Scope::Other => None,
                },
            };
            if let Some(families) = families {
                *families = families.or(warning.families(rule));
            }
        }
        Ok(found)
    }

    /// Returns the families of the rules that hold in `scope`.
    pub fn in_scope(&self, scope: Scope) -> Families {
        match scope {
            Scope::Init => self.any.or(self.init),
            Scope::Other => self.any.or(self.not_init),
            Scope::Named(number) => {
                let own = self.named.get(number).copied().unwrap_or_default();
                self.any.or(self.not_init).or(own)
            }
        }
    }
}

/// The rules that a warning is about in a namespace, printed as their ids in the order of the table:
/// `1,2,5`, and the number of further ones behind the first 16.
pub struct WarnedRules<'a, S> {
    /// The warning.
    pub warning: Warning,
    /// The rules.
    pub ruleset: &'a Ruleset<S>,
    /// The scope of the namespace.
    pub scope: Scope,
    /// The families for which it is true of the namespace.
    pub families: Families,
}

impl<S> WarnedRules<'_, S> {
    /// Returns their ids.
    fn ids(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        let entries = self.ruleset.table().entries().iter();
        entries
            .filter(|entry| {
                let rule = entry.rule();
                self.warning.families(rule).meet(self.families)
                    && self.ruleset.holds_in(self.scope, rule.netns())
            })
            .map(|entry| entry.id())
    }
}

impl<S> Display for WarnedRules<'_, S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Ids(self.ids()).fmt(f)
    }
}

/// The ids of rules, printed as `1,2,5`, and the number of further ones behind the first 16.
pub(super) struct Ids<I>(pub(super) I);

impl<I: Iterator<Item = u32> + Clone> Display for Ids<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        /// The number of ids that are printed.
        const MOST: usize = 16;

        let Self(ids) = self;
        for (i, id) in ids.clone().take(MOST).enumerate() {
            write!(f, "{}{id}", if i == 0 { "" } else { "," })?;
        }
        match ids.clone().skip(MOST).count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
