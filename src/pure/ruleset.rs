// SPDX-License-Identifier: GPL-2.0

//! A table compiled for all network namespaces at once.
//!
//! Rules are grouped by the namespaces that they hold in, and each group has one matcher: those for
//! every namespace are compiled once however many namespaces there are, and a namespace never looks
//! at another's rules.

use super::{
    alloc::{
        Arc,
        Vec, //
    },
    error::NoMemory,
    header::Key,
    matcher::Matcher,
    rule::{
        Netns,
        NetnsId, //
    },
    sort::sort_by_key,
    table::{
        Entry,
        Table, //
    },
};

/// The rules that hold in a namespace, besides those for every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The initial namespace: `netns=init`.
    Init,
    /// Any other: `netns!=init`.
    Other,
    /// One that rules name: `netns!=init`, and the group of that number.
    Named(usize),
}

/// The rules that name one namespace.
struct Group {
    id: NetnsId,
    matcher: Matcher,
}

/// A table, compiled.
pub struct Ruleset<S> {
    table: Arc<Table<S>>,
    every: Matcher,
    init: Matcher,
    not_init: Matcher,
    /// Ascending by cookie.
    named: Vec<Group>,
    names_devices: bool,
}

impl<S> Ruleset<S> {
    /// Compiles `table`. Process context, may sleep.
    pub fn compile(table: Arc<Table<S>>) -> Result<Self, NoMemory> {
        let group = |netns: Netns| {
            let rules = table.entries().iter().map(|entry| entry.rule()).enumerate();
            Matcher::compile(rules.filter(|(_, rule)| rule.netns() == netns))
        };
        // The rules for single namespaces, those of each together.
        let mut single = Vec::new();
        for (position, entry) in table.entries().iter().enumerate() {
            if let Netns::Only(id) = entry.rule().netns() {
                single.push((id, position))?;
            }
        }
        sort_by_key(&mut single, |(id, position)| (id.cookie, *position));
        let mut named = Vec::new();
        for group in single.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((id, _)) = group.first() else {
                continue;
            };
            let rules = group.iter().filter_map(|(_, position)| {
                let entry = table.entries().get(*position)?;
                Some((*position, entry.rule()))
            });
            named.push(Group {
                id: *id,
                matcher: Matcher::compile(rules)?,
            })?;
        }
        let mut rules = table.entries().iter().map(|entry| entry.rule());
        Ok(Self {
            names_devices: rules.any(|rule| rule.devices().next().is_some()),
            every: group(Netns::Any)?,
            init: group(Netns::Init)?,
            not_init: group(Netns::NotInit)?,
            named,
            table,
        })
    }

    /// The table that it was compiled from.
    pub fn table(&self) -> &Arc<Table<S>> {
        &self.table
    }

    /// The namespaces that rules name, in the order of [`Scope::Named`].
    pub fn named(&self) -> impl Iterator<Item = NetnsId> + '_ {
        self.named.iter().map(|group| group.id)
    }

    /// Whether a rule says `dev=`: else keys need no device.
    #[inline]
    pub fn names_devices(&self) -> bool {
        self.names_devices
    }

    /// The scope of the namespace of that cookie.
    pub fn scope(&self, is_init: bool, cookie: u64) -> Scope {
        if is_init {
            return Scope::Init;
        }
        match self.named.binary_search_by_key(&cookie, |g| g.id.cookie) {
            Ok(group) => Scope::Named(group),
            Err(_) => Scope::Other,
        }
    }

    /// Whether a rule of `netns` holds in `scope`.
    pub fn holds_in(&self, scope: Scope, netns: Netns) -> bool {
        match netns {
            Netns::Any => true,
            Netns::Init => scope == Scope::Init,
            Netns::NotInit => scope != Scope::Init,
            Netns::Only(id) => matches!(
                scope,
                Scope::Named(group) if self.named.get(group).is_some_and(|g| g.id == id)
            ),
        }
    }

    /// How many rules hold in `scope`.
    pub fn len_in(&self, scope: Scope) -> usize {
        self.matchers(scope)
            .fold(0, |sum, matcher| sum.saturating_add(matcher.len()))
    }

    /// The position in the table of the first rule that holds in `scope` and matches `key`.
    ///
    /// Any context.
    #[inline]
    pub fn lookup(&self, scope: Scope, key: &Key) -> Option<u32> {
        self.matchers(scope)
            .filter_map(|matcher| matcher.first_match(key))
            .min()
    }

    /// The entry at a position that [`lookup`](Self::lookup) gave.
    #[inline]
    pub fn entry(&self, position: u32) -> Option<&Entry<S>> {
        let entry = self.table.entries().get(usize::try_from(position).ok()?)?;
        Some(entry)
    }

    /// The matchers that count in `scope`.
    #[inline]
    fn matchers(&self, scope: Scope) -> impl Iterator<Item = &Matcher> {
        let (second, third) = match scope {
            Scope::Init => (&self.init, None),
            Scope::Other => (&self.not_init, None),
            Scope::Named(group) => (&self.not_init, self.named.get(group)),
        };
        [Some(&self.every), Some(second), third.map(|g| &g.matcher)]
            .into_iter()
            .flatten()
            .filter(|matcher| !matcher.is_empty())
    }
}
