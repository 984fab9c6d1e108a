// SPDX-License-Identifier: GPL-2.0

//! Which rules NAT holds, and where: what the log says at a commit.
//!
//! What is decided of a packet does not come from here, but from [`verdict`](crate::pure::packet::verdict).

use core::fmt::Display;

use kernel::{
    fmt::Formatter,
    prelude::*,
    sync::Arc, //
};

use crate::{
    linux::percpu::Slot,
    packet::NetState,
    pure::{
        matcher::{
            ruleset::Ruleset,
            scope::Scope, //
        },
        rule::{
            Action,
            Family,
            Netns,
            Rule, //
        },
    },
};

/// Logs which rules NAT holds in which of `nets`.
///
/// Process context; no lock may be held under which a namespace is looked at. Goes through the rules
/// where NAT is in use anywhere, once for all namespaces, and again for those few that are logged.
/// Fails with `ENOMEM`.
pub(crate) fn log(ruleset: &Ruleset<Slot>, nets: &[Arc<NetState>]) -> Result {
    /// How many namespaces at most.
    const MOST: usize = 16;

    let mut may_be_held = None;
    let mut logged = 0usize;
    for net in nets {
        let handle = net.handle();
        let nat = |family| handle.with(|net| net.nat_in_use(family)) == Some(true);
        let families = Families {
            ipv4: nat(Family::Ipv4),
            ipv6: nat(Family::Ipv6),
        };
        if families == Families::default() {
            continue;
        }
        let rules = match &mut may_be_held {
            Some(found) => found,
            None => may_be_held.insert(MayBeHeld::new(ruleset)?),
        };
        let scope = ruleset.scope(handle.is_init(), handle.id().cookie);
        if !rules.in_scope(scope).meet(families) {
            continue;
        }
        if logged == MOST {
            pr_info!("rules are held in further namespaces: see the file netns\n");
            break;
        }
        logged = logged.saturating_add(1);
        let held = Held {
            ruleset,
            scope,
            families,
        };
        pr_info!(
            "rules {} are held in netns {}: NAT is in use there, and they do not say nat=ok\n",
            format_args!("{held}"),
            handle.id().inum,
        );
    }
    Ok(())
}

/// Some of the two families.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Families {
    ipv4: bool,
    ipv6: bool,
}

impl Families {
    /// Those of whose packets NAT, where it is in use, holds some that the rule matches.
    fn held(rule: &Rule) -> Self {
        let is_held = rule.action() == Action::Skip && !rule.nat_ok();
        Self {
            ipv4: is_held && rule.family() != Some(Family::Ipv6),
            ipv6: is_held && rule.family() != Some(Family::Ipv4),
        }
    }

    /// Those that are in either.
    fn or(self, other: Self) -> Self {
        Self {
            ipv4: self.ipv4 || other.ipv4,
            ipv6: self.ipv6 || other.ipv6,
        }
    }

    /// Whether a family is in both.
    fn meet(self, other: Self) -> bool {
        self.ipv4 && other.ipv4 || self.ipv6 && other.ipv6
    }
}

/// The families of which there are rules that NAT may hold, by the namespaces that the rules are for.
struct MayBeHeld {
    any: Families,
    init: Families,
    not_init: Families,
    /// In the order of [`Scope::Named`].
    named: KVVec<Families>,
}

impl MayBeHeld {
    fn new(ruleset: &Ruleset<Slot>) -> Result<Self> {
        let mut found = Self {
            any: Families::default(),
            init: Families::default(),
            not_init: Families::default(),
            named: KVVec::from_elem(Families::default(), ruleset.named().count(), GFP_KERNEL)?,
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
                *families = families.or(Families::held(rule));
            }
        }
        Ok(found)
    }

    /// Those of the rules that hold in `scope`.
    fn in_scope(&self, scope: Scope) -> Families {
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

/// The rules that NAT holds in a namespace; printed as their ids.
struct Held<'a> {
    ruleset: &'a Ruleset<Slot>,
    scope: Scope,
    /// For which NAT is in use.
    families: Families,
}

impl Held<'_> {
    fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        let entries = self.ruleset.table().entries().iter();
        entries
            .filter(|entry| {
                let rule = entry.rule();
                Families::held(rule).meet(self.families)
                    && self.ruleset.holds_in(self.scope, rule.netns())
            })
            .map(|entry| entry.id())
    }
}

impl Display for Held<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        /// How many ids at most.
        const MOST: usize = 16;

        for (i, id) in self.ids().take(MOST).enumerate() {
            write!(f, "{}{id}", if i == 0 { "" } else { "," })?;
        }
        match self.ids().skip(MOST).count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
