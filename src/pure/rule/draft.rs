// SPDX-License-Identifier: GPL-2.0

//! The contents of a rule before it is packed.

use crate::pure::{
    alloc::Vec,
    rule::{
        fixed::FixedBits,
        value::{
            Action,
            Device,
            Family,
            Local,
            Netns,
            Prefix,
            Range,
            Tag, //
        }, //
    }, //
};

/// The most elements of one list.
pub(in crate::pure) const MAX_LIST: usize = 16;

/// The most combinations that the lists of one rule may make.
pub(in crate::pure) const MAX_PRODUCT: usize = 1024;

/// One element of one of a rule's lists.
///
/// The order of the variants is the order in which a rule prints its lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::pure) enum Element {
    /// The protocol after IPv6 extension headers.
    Protocol(u8),
    /// `src=`.
    Source(Prefix),
    /// `dst=`.
    Destination(Prefix),
    /// `sport=`, host byte order.
    SourcePort(Range<u16>),
    /// `dport=`, host byte order.
    DestinationPort(Range<u16>),
    /// `type=`.
    IcmpType(Range<u8>),
    /// `dev=`.
    Device(Device),
}

impl Element {
    /// Returns whether both are elements of one list.
    pub(in crate::pure) fn is_of_list_of(&self, other: &Self) -> bool {
        core::mem::discriminant(self) == core::mem::discriminant(other)
    }
}

/// A rule of which each term is a field.
///
/// # Invariants
///
/// When it is given to [`Rule::new`]:
///
/// - `elements` is sorted and holds no element twice.
/// - Each list in it has at most [`MAX_LIST`] elements, and their lengths multiply to at most
///   [`MAX_PRODUCT`].
/// - Addresses are of `family`, which is `Some` where there is an address.
/// - Ports stand only where every protocol has ports, types only where every protocol is ICMP or
///   ICMPv6, `flags` only where every protocol is TCP.
///
/// [`Rule::new`]: crate::pure::rule::Rule::new
#[derive(Default)]
pub(in crate::pure) struct RuleDraft {
    pub(in crate::pure) action: Action,
    pub(in crate::pure) family: Option<Family>,
    pub(in crate::pure) local: Option<Local>,
    pub(in crate::pure) nat_ok: bool,
    pub(in crate::pure) oneway: bool,
    /// `mark=`, `flags=`.
    pub(in crate::pure) fixed: FixedBits,
    pub(in crate::pure) netns: Netns,
    pub(in crate::pure) tag: Option<Tag>,
    /// The elements of all lists.
    pub(in crate::pure) elements: Vec<Element>,
}

impl RuleDraft {
    /// Returns the rule that skips every packet. `tag` is its group.
    pub(in crate::pure) fn new(tag: Option<Tag>) -> Self {
        Self {
            tag,
            ..Self::default()
        }
    }
}
