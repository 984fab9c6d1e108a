// SPDX-License-Identifier: GPL-2.0

//! The state of reading one rule: the terms read so far.

use crate::pure::{
    alloc::Vec,
    language::{
        print::DisplayPrefix,
        refusal::{
            Likely,
            Refusal, //
        },
        text::column,
        value, //
    },
    rule::{
        protocol,
        Element,
        Namespaces,
        Prefix,
        Range,
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
pub(super) struct Reader<'a> {
    /// Finds what `netns=` names.
    pub(super) namespaces: &'a dyn Namespaces,
    /// Whether values are read as iptables and nft do, where it is plain what they mean.
    is_lenient: bool,
    /// The column of each term that was read.
    columns: [Option<usize>; Term::COUNT],
    /// `id=`.
    pub(super) id: Option<u32>,
    /// `type=`. What a name in it means depends on the protocol, which may stand behind it.
    pub(super) icmp_types: Option<Written<'a>>,
    /// The terms read so far, without checks across terms.
    pub(super) rule: RuleDraft,
}

impl<'a> Reader<'a> {
    /// Returns a reader that has read nothing. `tag` is for a rule that names none.
    pub(super) fn new(namespaces: &'a dyn Namespaces, tag: Option<&Tag>) -> Self {
        Self {
            namespaces,
            is_lenient: false,
            columns: [None; Term::COUNT],
            id: None,
            icmp_types: None,
            rule: RuleDraft::new(tag.copied()),
        }
    }

    /// Returns a reader that reads values as iptables and nft do, where it is plain what they mean.
    pub(super) fn lenient(namespaces: &'a dyn Namespaces) -> Self {
        Self {
            is_lenient: true,
            ..Self::new(namespaces, None)
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
        self.items(written, |elements, item, at| {
            Ok(elements.push(element(item, at)?)?)
        })
    }

    /// Reads a list, each item of it by `read`, which appends the elements that the item stands for.
    fn items(
        &mut self,
        written: &Written<'_>,
        mut read: impl FnMut(&mut Vec<Element>, &[u8], usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Written { value, at, .. } = *written;
        if value.starts_with(b"{") {
            return Err(Refusal::invalid(
                at,
                "braces around a list, as nft writes them",
                "values joined by commas, without braces",
            ));
        }
        let elements = &mut self.rule.elements;
        let most = elements.len().saturating_add(MAX_LIST);
        for item in value.split(|b| *b == b',') {
            let at = at.saturating_add(column(value, item));
            let too_long = || {
                Refusal::invalid(
                    at,
                    "a list too long",
                    "up to 16 elements; the rest in another rule",
                )
            };
            if elements.len() >= most {
                return Err(too_long());
            }
            if item.is_empty() {
                return Err(Refusal::invalid(
                    at,
                    "a value is missing",
                    "values joined by single commas",
                ));
            }
            read(elements, item, at)?;
            if elements.len() > most {
                return Err(too_long());
            }
        }
        Ok(())
    }

    /// Reads a list of prefixes, and of ranges of addresses, all of one family.
    pub(super) fn prefixes(
        &mut self,
        written: &Written<'_>,
        element: fn(Prefix) -> Element,
    ) -> Result<(), Refusal> {
        // The family as other terms said it so far, and from here on as the first address says it.
        let mut family = self.rule.family;
        let is_lenient = self.is_lenient;
        self.items(written, |elements, item, at| {
            let mut check = |own| match *family.get_or_insert(own) == own {
                true => Ok(()),
                false => Err(Refusal::invalid(at, value::OTHER_FAMILY, value::ONE_FAMILY)),
            };
            if value::is_address_range(item) {
                let (own, prefixes) = value::address_range(item, at, MAX_LIST)?;
                check(own)?;
                for prefix in prefixes {
                    elements.push(element(prefix))?;
                }
                return Ok(());
            }
            let (own, prefix) = match value::prefix(item, at) {
                Err(Refusal {
                    likely: Some(Likely::Prefix(DisplayPrefix(own, prefix))),
                    ..
                }) if is_lenient => (own, prefix),
                found => found?,
            };
            check(own)?;
            Ok(elements.push(element(prefix))?)
        })?;
        self.rule.family = family;
        Ok(())
    }

    /// Reads a list of ports.
    pub(super) fn ports(
        &mut self,
        written: &Written<'_>,
        element: fn(Range<u16>) -> Element,
    ) -> Result<(), Refusal> {
        let is_lenient = self.is_lenient;
        self.list(written, |item, at| match value::ports(item, at) {
            Err(Refusal {
                likely: Some(Likely::Numbers(ports)),
                ..
            }) if is_lenient => Ok(element(ports)),
            found => found.map(element),
        })
    }

    /// Reads a list of devices.
    pub(super) fn devices(&mut self, written: &Written<'_>) -> Result<(), Refusal> {
        let is_lenient = self.is_lenient;
        self.list(written, |item, at| match value::device(item, at) {
            Err(Refusal {
                likely: Some(Likely::Device(device)),
                ..
            }) if is_lenient => Ok(Element::Device(device)),
            found => found.map(Element::Device),
        })
    }

    /// Reads `type=`, where the rule has it. All protocols are read.
    pub(super) fn read_icmp_types(&mut self) -> Result<(), Refusal> {
        let Some(written) = self.icmp_types.take() else {
            return Ok(());
        };
        let family = protocol::family(self.protocols());
        let is_lenient = self.is_lenient;
        self.list(&written, |item, at| {
            let found = value::icmp_types(item, at, family);
            let meant = match &found {
                Err(Refusal {
                    likely: Some(Likely::Numbers(types)),
                    ..
                }) if is_lenient => u8::try_from(types.first())
                    .ok()
                    .zip(u8::try_from(types.last()).ok())
                    .and_then(|(first, last)| Range::new(first, last)),
                _ => None,
            };
            meant.map_or(found, Ok).map(Element::IcmpType)
        })
    }
}
