// SPDX-License-Identifier: GPL-2.0

//! The packed form of a rule: 16 bytes, and one small allocation for a rule that does not fit.
//!
//! A table has up to 131,072 rules, and most rules are short: a protocol, an address, a port.
//!
//! # Layout
//!
//! A packed rule is a [`Head`] of eight bits and a number of runs. A run holds one term: a first byte
//! that says which, then its data. The runs stand in the order of [`Kind`]. The first byte is:
//!
//! | upper half | lower half | the run |
//! |---|---|---|
//! | 0 | | none: from here on, zeros fill the form |
//! | 1 | a place in [`protocol::NAMES`] | the only protocol, one of the first 16 with a name; no data |
//! | 2 to 10 | number of elements, less one | a list |
//! | 14 | a place in [`FixedField::ALL`] | the value, then the mask of a field that no direction exchanges |
//! | 15 | which value | a value that is no list; some have no data |
//!
//! For example, `skip udp dst=10.0.0.1 dport=53` is ten bytes behind its head, `IPV4`:
//!
//! ```text
//! 11                 Named, the name at place 1: udp
//! 40 20 0a000001     Destination, one element: 32 bits of 10.0.0.1
//! 70 3500            DestinationPort, one element (little-endian)
//! ```
//!
//! # Room for more terms
//!
//! All bits of the head are used: they are the bits that a packet or a commit needs of every rule. A
//! further term of one bit is a value without data, one byte, as `netns=init` is. Twelve values are free,
//! 14 fields, and the upper halves 11 to 13: three lists, or 16 more values each.

use crate::pure::{
    alloc::{
        Arc,
        NoMemory,
        Vec, //
    },
    rule::{
        draft::{
            Element,
            RuleDraft, //
        },
        fixed::FixedField,
        value::{
            protocol,
            Action,
            Family,
            Local,
            Netns,
            NetnsId, //
        }, //
    }, //
};

/// A packed rule, and the number that the rule has in its table.
///
/// # Invariants
///
/// The bytes are as [`Packed::new`] writes them, in the shortest form that holds them. So two packed
/// rules are equal where their bytes are equal.
#[derive(Clone)]
pub(super) struct Packed(Form);

/// The bytes of the runs, with zeros behind them to fill the form. The `u32` is the rule's number,
/// which is no part of the rule itself.
///
/// | form | byte 0 | 1 | 2 to 3 | 4 to 7 | 8 to 11 | 12 to 15 |
/// |---|---|---|---|---|---|---|
/// | `Short` | 0 | head | runs | runs | runs | number |
/// | `Middle` | 1 | head | | number | pointer to runs | pointer |
/// | `Long` | 2 | head | | number | pointer to runs | pointer |
///
/// The head is at one place in all, so that it is read without a look at the form.
#[derive(Clone)]
#[repr(u8)]
enum Form {
    Short(Head, [u8; Self::SHORT], u32),
    Middle(Head, u32, Arc<[u8; Self::MIDDLE]>),
    Long(Head, u32, Arc<Vec<u8>>),
}

impl Form {
    /// The longest runs of a short form.
    const SHORT: usize = 10;
    /// The longest runs of a middle form, which with the count of references fill 32 bytes.
    const MIDDLE: usize = 28;
}

const _: () = assert!(size_of::<Packed>() == 16);

/// The bits that every rule has.
///
/// | bit | set |
/// |---|---|
/// | 0 | `track` |
/// | 1 | IPv4 only |
/// | 2 | IPv6 only |
/// | 3 | `local=src` |
/// | 4 | `local=dst` |
/// | 5 | `nat=ok` |
/// | 6 | `oneway` |
/// | 7 | `dev=` or `netns=` is among the runs |
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Head(u8);

impl Head {
    pub(super) const TRACK: u8 = 1;
    pub(super) const IPV4: u8 = 1 << 1;
    pub(super) const IPV6: u8 = 1 << 2;
    pub(super) const LOCAL_SOURCE: u8 = 1 << 3;
    pub(super) const LOCAL_DESTINATION: u8 = 1 << 4;
    pub(super) const NAT_OK: u8 = 1 << 5;
    pub(super) const ONEWAY: u8 = 1 << 6;
    /// Each commit asks all rules for their devices and namespaces, and most rules name none.
    pub(super) const PLACE: u8 = 1 << 7;

    fn new(draft: &RuleDraft) -> Self {
        let bit = |set, bit| if set { bit } else { 0 };
        let names_device = matches!(draft.elements.last(), Some(Element::Device(_)));
        Self(
            bit(draft.action == Action::Track, Self::TRACK)
                | bit(draft.family == Some(Family::Ipv4), Self::IPV4)
                | bit(draft.family == Some(Family::Ipv6), Self::IPV6)
                | bit(draft.local == Some(Local::Source), Self::LOCAL_SOURCE)
                | bit(
                    draft.local == Some(Local::Destination),
                    Self::LOCAL_DESTINATION,
                )
                | bit(draft.nat_ok, Self::NAT_OK)
                | bit(draft.oneway, Self::ONEWAY)
                | bit(names_device || draft.netns != Netns::Any, Self::PLACE),
        )
    }

    /// Returns whether `bit` is set.
    #[inline(always)]
    pub(super) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// The term that a run holds. Its number is the run's first byte, for a list of one element.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// No run.
    End = 0x00,
    /// The only protocol, one of the first 16 that have a name.
    Named = 0x10,
    /// One byte each.
    Protocol = 0x20,
    /// The length, then the address; 5 or 17 bytes each.
    Source = 0x30,
    /// As [`Self::Source`].
    Destination = 0x40,
    /// Two bytes each, where each element is one port.
    SourcePort = 0x50,
    /// The first, then the last port; 4 bytes each.
    SourcePorts = 0x60,
    /// As [`Self::SourcePort`].
    DestinationPort = 0x70,
    /// As [`Self::SourcePorts`].
    DestinationPorts = 0x80,
    /// The first, then the last type; 2 bytes each.
    IcmpType = 0x90,
    /// The length of the name, with the highest bit set for a wildcard, then the padded name; 17 bytes
    /// each.
    Device = 0xa0,
    /// A field that no direction exchanges, the first one: the value, then the mask, little-endian.
    Fixed = 0xe0,
    /// `netns=init`; no data.
    Init = 0xf0,
    /// `netns!=init`; no data.
    NotInit = 0xf1,
    /// Another namespace: the cookie, then the inode number; 12 bytes.
    Only = 0xf2,
    /// The length, then the name.
    Tag = 0xf3,
}

impl Kind {
    /// The kinds by the upper half of a first byte, and the size of an element in bytes; 0 where the
    /// kind does not tell.
    const LISTS: [(Self, u8); 11] = [
        (Self::End, 0),
        (Self::Named, 0),
        (Self::Protocol, 1),
        (Self::Source, 0),
        (Self::Destination, 0),
        (Self::SourcePort, 2),
        (Self::SourcePorts, 4),
        (Self::DestinationPort, 2),
        (Self::DestinationPorts, 4),
        (Self::IcmpType, 2),
        (Self::Device, 17),
    ];

    /// The kinds by the lower half of a first byte whose upper half is 15, and the size of the value in
    /// bytes; 0 where there is no value, or the kind does not tell.
    const VALUES: [(Self, u8); 4] = [
        (Self::Init, 0),
        (Self::NotInit, 0),
        (Self::Only, 12),
        (Self::Tag, 0),
    ];

    /// The kind of a run, the size of an element and the number of elements, by the run's first byte.
    const BY_FIRST: [Option<(Self, u8, u8)>; 256] = Self::by_first();

    /// Returns [`Self::BY_FIRST`].
    const fn by_first() -> [Option<(Self, u8, u8)>; 256] {
        let mut table = [None; 256];
        let mut rest: &mut [Option<(Self, u8, u8)>] = &mut table;
        let mut first = 0usize;
        while let [place, behind @ ..] = rest {
            let (upper, lower) = (first >> 4, first & 15);
            *place = match upper {
                15 => match nth(&Self::VALUES, lower) {
                    Some((kind, size)) => Some((kind, size, 1)),
                    None => None,
                },
                14 => match nth(&FixedField::ALL, lower) {
                    Some(field) => Some((Self::Fixed, field.size(), 2)),
                    None => None,
                },
                _ => match nth(&Self::LISTS, upper) {
                    Some((kind, size)) => Some((kind, size, lower.wrapping_add(1) as u8)),
                    None => None,
                },
            };
            rest = behind;
            first = first.wrapping_add(1);
        }
        table
    }

    /// Returns the first byte of a list of `count` elements, 1 to 16.
    fn list(self, count: usize) -> u8 {
        let more = u8::try_from(count.saturating_sub(1)).unwrap_or(0);
        self as u8 | more & 15
    }
}

/// Returns the element of number `n`; for tables made when the module is built.
const fn nth<T: Copy>(mut list: &[T], mut n: usize) -> Option<T> {
    while let [first, rest @ ..] = list {
        if n == 0 {
            return Some(*first);
        }
        (list, n) = (rest, n.wrapping_sub(1));
    }
    None
}

// Each kind stands at the place of its number.
const _: () = {
    let mut lists: &[(Kind, u8)] = &Kind::LISTS;
    let mut values: &[(Kind, u8)] = &Kind::VALUES;
    let mut number = 0u8;
    while let [(kind, _), rest @ ..] = lists {
        assert!(*kind as u8 == number);
        (lists, number) = (rest, number.wrapping_add(0x10));
    }
    number = 0xf0;
    while let [(kind, _), rest @ ..] = values {
        assert!(*kind as u8 == number);
        (values, number) = (rest, number.wrapping_add(1));
    }
};

/// The runs of a rule: the kind and the data of each.
#[derive(Clone)]
pub(super) struct Runs<'a> {
    rest: &'a [u8],
    /// The size of a prefix in bytes.
    prefix: usize,
}

impl<'a> Runs<'a> {
    /// Returns the size of a prefix in bytes.
    pub(super) fn prefix_size(&self) -> usize {
        self.prefix
    }

    /// Returns the data of the run of `kind`; empty where there is none.
    pub(super) fn of(mut self, kind: Kind) -> &'a [u8] {
        self.find(|(own, _)| *own == kind)
            .map_or(&[], |(_, data)| data)
    }

    /// Returns the fields that no direction exchanges: the value, then the mask of each.
    pub(super) fn fields(mut self) -> impl Iterator<Item = (FixedField, &'a [u8])> {
        core::iter::from_fn(move || loop {
            let first = self.rest.first().copied()?;
            if let (Kind::Fixed, data) = self.next()? {
                return Some((nth(&FixedField::ALL, usize::from(first & 15))?, data));
            }
        })
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = (Kind, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (first, rest) = self.rest.split_first()?;
        let (kind, size, count) = (*Kind::BY_FIRST.get(usize::from(*first))?)?;
        let size = match kind {
            Kind::End => return None,
            Kind::Named => {
                self.rest = rest;
                let place = usize::from(first & 15);
                return Some((Kind::Protocol, protocol::NUMBERS.get(place..=place)?));
            }
            Kind::Source | Kind::Destination => self.prefix,
            Kind::Tag => usize::from(*rest.first()?).saturating_add(1),
            _ => usize::from(size),
        };
        let len = size.saturating_mul(usize::from(count));
        let (data, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some((kind, data))
    }
}

/// The bytes of a rule as they are written, one run after the other.
#[derive(Default)]
struct Sink {
    len: usize,
    /// The first bytes: all bytes of most rules.
    start: [u8; Form::MIDDLE],
    /// All bytes, where `start` is too short for them; else empty.
    all: Vec<u8>,
}

impl Sink {
    /// Appends `bytes`.
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), NoMemory> {
        let end = self.len.saturating_add(N);
        let rest = self.start.get_mut(self.len..).unwrap_or_default();
        match rest.first_chunk_mut::<N>() {
            Some(room) => *room = bytes,
            None => {
                if self.all.is_empty() {
                    let start = self.start.get(..self.len).unwrap_or_default();
                    self.all.extend_from_slice(start)?;
                }
                self.all.extend_from_slice(&bytes)?;
            }
        }
        self.len = end;
        Ok(())
    }

    /// Appends the runs of `draft`.
    fn put_runs(&mut self, draft: &RuleDraft) -> Result<(), NoMemory> {
        let mut rest = &*draft.elements;
        while let Some(first) = rest.first() {
            let len = rest
                .iter()
                .take_while(|element| element.is_of_list_of(first))
                .count();
            let (list, behind) = rest.split_at_checked(len).unwrap_or_default();
            rest = behind;
            self.put_list(draft.family, list)?;
        }
        for field in FixedField::ALL {
            let Some((value, mask)) = draft.fixed.get(field) else {
                continue;
            };
            self.put([Kind::Fixed as u8 | field.number() & 15])?;
            for number in [value, mask] {
                let bytes = number.to_le_bytes().into_iter();
                for byte in bytes.take(field.size().into()) {
                    self.put([byte])?;
                }
            }
        }
        match draft.netns {
            Netns::Any => {}
            Netns::Init => self.put([Kind::Init as u8])?,
            Netns::NotInit => self.put([Kind::NotInit as u8])?,
            Netns::Only(NetnsId { cookie, inum }) => {
                self.put([Kind::Only as u8])?;
                self.put(cookie.to_ne_bytes())?;
                self.put(inum.to_ne_bytes())?;
            }
        }
        if let Some(tag) = &draft.tag {
            self.put([Kind::Tag as u8, tag.len])?;
            for byte in tag.as_str().bytes() {
                self.put([byte])?;
            }
        }
        Ok(())
    }

    /// Appends the run of `list`, whose elements are of one list.
    fn put_list(&mut self, family: Option<Family>, list: &[Element]) -> Result<(), NoMemory> {
        let are_ports = list.iter().any(|element| match element {
            Element::SourcePort(range) | Element::DestinationPort(range) => {
                range.first() != range.last()
            }
            _ => false,
        });
        let kind = match list {
            [] => return Ok(()),
            [Element::Protocol(number)] => {
                // Half a byte says which.
                let mut named = protocol::NUMBERS.iter().take(16);
                if let Some(place) = named.position(|named| named == number) {
                    return self.put([Kind::Named.list(place.saturating_add(1))]);
                }
                Kind::Protocol
            }
            [Element::Protocol(_), ..] => Kind::Protocol,
            [Element::Source(_), ..] => Kind::Source,
            [Element::Destination(_), ..] => Kind::Destination,
            [Element::SourcePort(_), ..] if are_ports => Kind::SourcePorts,
            [Element::SourcePort(_), ..] => Kind::SourcePort,
            [Element::DestinationPort(_), ..] if are_ports => Kind::DestinationPorts,
            [Element::DestinationPort(_), ..] => Kind::DestinationPort,
            [Element::IcmpType(_), ..] => Kind::IcmpType,
            [Element::Device(_), ..] => Kind::Device,
        };
        self.put([kind.list(list.len())])?;
        for element in list {
            match element {
                Element::Protocol(number) => self.put([*number])?,
                Element::Source(prefix) | Element::Destination(prefix) => {
                    let address = prefix.address();
                    let [a, b, c, d, ..] = address;
                    self.put([prefix.bits()])?;
                    match family {
                        Some(Family::Ipv6) => self.put(address)?,
                        _ => self.put([a, b, c, d])?,
                    }
                }
                Element::SourcePort(range) | Element::DestinationPort(range) => {
                    self.put(range.first().to_ne_bytes())?;
                    if are_ports {
                        self.put(range.last().to_ne_bytes())?;
                    }
                }
                Element::IcmpType(range) => self.put([range.first(), range.last()])?,
                Element::Device(device) => {
                    self.put([device.len | u8::from(device.wildcard) << 7])?;
                    self.put(device.name)?;
                }
            }
        }
        Ok(())
    }
}

impl Packed {
    /// Packs `draft`. The number is 0.
    pub(super) fn new(draft: &RuleDraft) -> Result<Self, NoMemory> {
        let head = Head::new(draft);
        let mut out = Sink::default();
        out.put_runs(draft)?;
        // INVARIANT: The first form that has room for the bytes is taken.
        if !out.all.is_empty() {
            return Ok(Self(Form::Long(head, 0, Arc::new(out.all)?)));
        }
        match out.start.first_chunk() {
            Some(short) if out.len <= short.len() => Ok(Self(Form::Short(head, *short, 0))),
            _ => Ok(Self(Form::Middle(head, 0, Arc::new(out.start)?))),
        }
    }

    /// Returns the head.
    #[inline]
    pub(super) fn head(&self) -> Head {
        match self.0 {
            Form::Short(head, ..) | Form::Middle(head, ..) | Form::Long(head, ..) => head,
        }
    }

    /// Returns the number.
    pub(super) fn number(&self) -> u32 {
        match self.0 {
            Form::Short(_, _, number) | Form::Middle(_, number, _) | Form::Long(_, number, _) => {
                number
            }
        }
    }

    /// Returns the rule with another number.
    pub(super) fn numbered(mut self, given: u32) -> Self {
        match &mut self.0 {
            Form::Short(_, _, number) | Form::Middle(_, number, _) | Form::Long(_, number, _) => {
                *number = given;
            }
        }
        self
    }

    /// Returns the bytes of the runs.
    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short(_, bytes, _) => bytes,
            Form::Middle(_, _, bytes) => &bytes[..],
            Form::Long(_, _, bytes) => bytes,
        }
    }

    /// Returns the runs.
    #[inline]
    pub(super) fn runs(&self) -> Runs<'_> {
        Runs {
            rest: self.bytes(),
            prefix: match self.head().has(Head::IPV6) {
                true => 17,
                false => 5,
            },
        }
    }

    /// Returns the runs where `dev=` or `netns=` is among them; else none.
    #[inline]
    pub(super) fn runs_of_place(&self) -> Runs<'_> {
        match self.head().has(Head::PLACE) {
            true => self.runs(),
            false => Runs {
                rest: &[],
                prefix: 0,
            },
        }
    }

    /// Returns a hash of all but the number (FNV-1a).
    pub(super) fn hash(&self) -> u32 {
        let hash = self
            .bytes()
            .iter()
            .fold(u64::from(self.head().0), |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        // The upper bits depend on all bytes.
        u32::try_from(hash >> 32).unwrap_or(0)
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.head() == other.head() && self.bytes() == other.bytes()
    }
}

impl Eq for Packed {}
