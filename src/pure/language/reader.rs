// SPDX-License-Identifier: GPL-2.0

//! The state of reading one rule: the terms read so far.

use crate::pure::{
    language::{
        refusal::Refusal,
        text::column,
        value, //
    },
    rule::{
        Element,
        Namespaces,
        Prefix,
        RuleDraft,
        Tag,
        MAX_LIST, //
    }, //
};

/// A term of the language: what can stand once in a rule.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Term {
    /// `skip` or `track`.
    Action,
    /// A list of protocols, with or without `proto=`.
    Protocols,
    /// `ip` or `ip6`.
    Family,
    /// `src=`.
    Sources,
    /// `dst=`.
    Destinations,
    /// `sport=`.
    SourcePorts,
    /// `dport=`.
    DestinationPorts,
    /// `type=`.
    IcmpTypes,
    /// `flags=`.
    Flags,
    /// `local=`.
    Local,
    /// `dev=`.
    Devices,
    /// `mark=`.
    Mark,
    /// `netns=` or `netns!=`.
    Netns,
    /// `nat=`.
    Nat,
    /// `oneway`.
    Oneway,
    /// `any`.
    Any,
    /// `tag=`.
    Tag,
    /// `id=`.
    Id,
}

impl Term {
    /// The number of terms.
    pub(super) const COUNT: usize = Self::Id as usize + 1;
}

/// A term as it is written.
#[derive(Clone, Copy)]
pub(super) struct Written<'w> {
    /// The term without its value: a word, or `KEY=`.
    pub(super) key: &'w [u8],
    /// Its value; empty for a word.
    pub(super) value: &'w [u8],
    /// The column of the term.
    pub(super) start: usize,
    /// The column of the value.
    pub(super) at: usize,
}

/// A rule of which not all terms are read.
pub(super) struct Reader<'n> {
    /// Finds what `netns=` names.
    pub(super) namespaces: &'n dyn Namespaces,
    /// The column of each term that was read.
    columns: [Option<usize>; Term::COUNT],
    /// `id=`.
    pub(super) id: Option<u32>,
    /// The terms read so far, without checks across terms.
    pub(super) rule: RuleDraft,
}

impl<'n> Reader<'n> {
    /// Returns a reader that has read nothing. `tag` is for a rule that names none.
    pub(super) fn new(namespaces: &'n dyn Namespaces, tag: Option<&Tag>) -> Self {
        Self {
            namespaces,
            columns: [None; Term::COUNT],
            id: None,
            rule: RuleDraft::new(tag.copied()),
        }
    }

    /// Returns the column of `term`; [`None`] where it was not read.
    pub(super) fn column(&self, term: Term) -> Option<usize> {
        self.columns.get(term as usize).copied().flatten()
    }

    /// Returns the column of the first term.
    pub(super) fn first_column(&self) -> usize {
        self.columns.iter().flatten().copied().min().unwrap_or(0)
    }

    /// Notes that `term` stands at `column`. Returns whether it is the first of its kind.
    pub(super) fn note(&mut self, term: Term, column: usize) -> bool {
        match self.columns.get_mut(term as usize) {
            Some(place @ None) => {
                *place = Some(column);
                true
            }
            _ => false,
        }
    }

    /// Returns the protocols read so far.
    pub(super) fn protocols(&self) -> impl Iterator<Item = u8> + '_ {
        self.rule
            .elements
            .iter()
            .filter_map(|element| match element {
                Element::Protocol(protocol) => Some(*protocol),
                _ => None,
            })
    }

    /// Reads a list of up to [`MAX_LIST`] elements, each by `element`.
    pub(super) fn list(
        &mut self,
        written: &Written<'_>,
        mut element: impl FnMut(&[u8], usize) -> Result<Element, Refusal>,
    ) -> Result<(), Refusal> {
        let Written { value, at, .. } = *written;
        for (i, item) in value.split(|b| *b == b',').enumerate() {
            let at = at.saturating_add(column(value, item));
            if i >= MAX_LIST {
                return Err(Refusal::invalid(
                    at,
                    "a list too long",
                    "up to 16 elements; the rest in another rule",
                ));
            }
            if item.is_empty() {
                return Err(Refusal::invalid(
                    at,
                    "a value is missing",
                    "values joined by single commas",
                ));
            }
            self.rule.elements.push(element(item, at)?)?;
        }
        Ok(())
    }

    /// Reads a list of prefixes, all of one family.
    pub(super) fn prefixes(
        &mut self,
        written: &Written<'_>,
        element: fn(Prefix) -> Element,
    ) -> Result<(), Refusal> {
        // The family as other terms said it so far, and from here on as the first address says it.
        let mut family = self.rule.family;
        self.list(written, |item, at| {
            let (own, prefix) = value::prefix(item, at)?;
            if *family.get_or_insert(own) != own {
                return Err(Refusal::invalid(
                    at,
                    "an address of the other family",
                    "one family a rule",
                ));
            }
            Ok(element(prefix))
        })?;
        self.rule.family = family;
        Ok(())
    }
}
