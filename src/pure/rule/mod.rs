// SPDX-License-Identifier: GPL-2.0

//! One rule: what it matches and what it does.
//!
//! A [`Rule`] is made by [`parse`] only, so each one is checked and in canonical order: equal rules
//! print alike and compare equal. It is written out by [`print`].
//!
//! [`parse`]: crate::pure::language::parse
//! [`print`]: crate::pure::language::print
//!
//! A table has very many of them, so a rule is kept as few bytes: 16 with its number, and a small
//! allocation behind those for what does not fit.

use crate::pure::alloc::{
    Arc,
    NoMemory,
    Vec, //
};

/// The address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Where a packet is looked at: `NF_INET_PRE_ROUTING` or `NF_INET_LOCAL_OUT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Packets that come in.
    PreRouting,
    /// Packets that this host made.
    LocalOut,
}

impl HookPoint {
    /// Where the other direction of a flow of this host passes.
    pub const fn opposite(self) -> Self {
        match self {
            Self::PreRouting => Self::LocalOut,
            Self::LocalOut => Self::PreRouting,
        }
    }
}

/// What a rule does with the packets that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Keep them out of conntrack.
    Skip,
    /// Leave them to conntrack, whatever later rules say.
    Track,
}

/// The end of a flow that is this host (`local=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// The source as the rule writes it.
    Source,
    /// The destination as the rule writes it.
    Destination,
}

/// IP protocol numbers that have a name in rules.
///
/// See `include/uapi/linux/in.h` and `include/uapi/linux/in6.h`.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IP in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ESP.
    pub const ESP: u8 = 50;
    /// AH.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMP6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;

    /// The names, in the order in which messages list them.
    pub const NAMES: [(&str, u8); 9] = [
        ("tcp", TCP),
        ("udp", UDP),
        ("sctp", SCTP),
        ("icmp", ICMP),
        ("icmp6", ICMP6),
        ("gre", GRE),
        ("esp", ESP),
        ("ah", AH),
        ("ipip", IPIP),
    ];

    /// The numbers, in the same order.
    pub(super) const NUMBERS: &[u8] = &[TCP, UDP, SCTP, ICMP, ICMP6, GRE, ESP, AH, IPIP];

    /// Whether source and destination port are the first four bytes of its header.
    pub const fn has_ports(protocol: u8) -> bool {
        matches!(protocol, TCP | UDP | SCTP)
    }

    /// Whether it is an IPv6 extension header, which is never the protocol of an IPv6 packet.
    ///
    /// As `ipv6_ext_hdr()` in `net/ipv6/exthdrs_core.c`.
    pub const fn is_extension_header(protocol: u8) -> bool {
        matches!(protocol, 0 | 43 | 44 | 51 | 59 | 60)
    }
}

/// An address prefix.
///
/// # Invariants
///
/// No bit of `address` from bit `len` on, counted from the most significant, is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    address: [u8; 16],
    len: u8,
}

impl Prefix {
    /// The prefix of `len` bits of `address`: network byte order, an IPv4 address in the first four
    /// bytes. `None` where a bit beyond `len` is set.
    pub fn new(address: [u8; 16], len: u8) -> Option<Self> {
        // INVARIANT: Just checked.
        (u128::from_be_bytes(address) & !Self::mask_of(len) == 0).then_some(Self { address, len })
    }

    /// The address in network byte order, an IPv4 one in the first four bytes.
    pub fn address(&self) -> [u8; 16] {
        self.address
    }

    /// The length in bits.
    pub fn bits(&self) -> u8 {
        self.len
    }

    /// The address as a number, most significant bit first.
    pub fn value(&self) -> u128 {
        u128::from_be_bytes(self.address)
    }

    /// The bits of an address that the prefix decides.
    pub fn mask(&self) -> u128 {
        Self::mask_of(self.len)
    }

    fn mask_of(len: u8) -> u128 {
        !u128::MAX.checked_shr(u32::from(len)).unwrap_or(0)
    }
}

/// A range of ports or types, both ends included.
///
/// # Invariants
///
/// `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range<T> {
    first: T,
    last: T,
}

impl<T: Copy + PartialOrd> Range<T> {
    /// The range; `None` where it runs backwards.
    pub fn new(first: T, last: T) -> Option<Self> {
        // INVARIANT: Just checked.
        (first <= last).then_some(Self { first, last })
    }

    /// The lowest value.
    pub fn first(&self) -> T {
        self.first
    }

    /// The highest value.
    pub fn last(&self) -> T {
        self.last
    }

    /// Whether `value` lies in the range.
    pub fn contains(&self, value: T) -> bool {
        self.first <= value && value <= self.last
    }
}

/// The name of a network device, NUL-padded as `net_device.name`.
pub type DeviceName = [u8; 16];

/// The devices that `dev=` names: one by its name, or all whose name starts so.
///
/// # Invariants
///
/// `len` is from 1 to 15; all bytes of `name` from `len` on are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    name: DeviceName,
    len: u8,
    wildcard: bool,
}

impl Device {
    /// The device `name`, or where `wildcard` all that start with it. `None` where it is empty or
    /// longer than a device's name can be.
    pub fn new(name: &[u8], wildcard: bool) -> Option<Self> {
        let mut padded = DeviceName::default();
        if name.is_empty() || name.len() >= padded.len() {
            return None;
        }
        padded.get_mut(..name.len())?.copy_from_slice(name);
        // INVARIANT: The length was checked, the rest is still zero.
        Some(Self {
            name: padded,
            len: u8::try_from(name.len()).ok()?,
            wildcard,
        })
    }

    /// The name or its start, without padding.
    pub fn name(&self) -> &[u8] {
        self.name.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether any name that starts with [`name`](Self::name) matches.
    pub fn wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether `device` is one of them.
    pub fn matches(&self, device: &DeviceName) -> bool {
        u128::from_ne_bytes(*device) & self.mask() == self.value()
    }

    /// The padded name as a number.
    pub fn value(&self) -> u128 {
        u128::from_ne_bytes(self.name)
    }

    /// The bytes of a padded name that decide: all, or for a wildcard the first ones.
    pub fn mask(&self) -> u128 {
        if !self.wildcard {
            return u128::MAX;
        }
        let mut mask = [0; 16];
        for byte in mask.iter_mut().take(usize::from(self.len)) {
            *byte = u8::MAX;
        }
        u128::from_ne_bytes(mask)
    }
}

/// `mark=`: the bits of `skb->mark` that decide, and what they are.
///
/// # Invariants
///
/// `mask` is not zero, and `value` has no bit outside `mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    value: u32,
    mask: u32,
}

impl Mark {
    /// The mark; `None` where the mask is zero or does not cover the value.
    pub fn new(value: u32, mask: u32) -> Option<Self> {
        // INVARIANT: Just checked.
        (mask != 0 && value & !mask == 0).then_some(Self { value, mask })
    }

    /// What the bits are.
    pub fn value(&self) -> u32 {
        self.value
    }

    /// Which bits decide.
    pub fn mask(&self) -> u32 {
        self.mask
    }

    /// Whether a packet's mark is this.
    pub fn matches(&self, mark: u32) -> bool {
        mark & self.mask == self.value
    }
}

/// A network namespace that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetnsId {
    /// What tells it from all others, past ones too (`net->net_cookie`).
    pub cookie: u64,
    /// The inode number by which users know it (`net->ns.inum`).
    pub inum: u32,
}

/// Which network namespaces a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netns {
    /// Every one.
    Any,
    /// The initial one.
    Init,
    /// Every one but the initial one.
    NotInit,
    /// That one.
    Only(NetnsId),
}

/// Finds network namespaces for `netns=`.
pub trait Namespaces {
    /// The namespace of that inode number, if there is one.
    fn by_inum(&self, inum: u32) -> Option<Netns>;

    /// The namespace of the process of that number, as the writer numbers processes.
    fn by_pid(&self, pid: u32) -> Option<Netns>;
}

/// The name of a group of rules: 1 to 31 of `A-Za-z0-9._-`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    name: [u8; Tag::MAX],
    len: u8,
}

impl Tag {
    /// The longest tag, in bytes.
    pub const MAX: usize = 31;

    /// The tag, if `name` is one.
    pub fn new(name: &[u8]) -> Option<Self> {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || !name.iter().all(allowed) {
            return None;
        }
        let mut tag = Self {
            name: [0; Self::MAX],
            len: u8::try_from(name.len()).ok()?,
        };
        tag.name.get_mut(..name.len())?.copy_from_slice(name);
        Some(tag)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.name
            .get(..usize::from(self.len))
            .and_then(|name| core::str::from_utf8(name).ok())
            .unwrap_or_default()
    }
}

impl core::fmt::Debug for Tag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// One element of one of a rule's lists.
///
/// The order of the variants is the order in which a rule prints its lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
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

/// What a rule is made of: all that it says.
///
/// # Invariants
///
/// Once [`Rule::new`] is given it:
///
/// - `terms` is sorted and holds nothing twice.
/// - Each list in it has at most [`MAX_LIST`] elements, and their lengths multiply to at most
///   [`MAX_PRODUCT`].
/// - Addresses are of `family`, which then is `Some`.
/// - Ports stand only where every protocol has ports, types only where every protocol is ICMP or
///   ICMPv6.
///
/// [`MAX_LIST`]: crate::pure::language::parse::MAX_LIST
/// [`MAX_PRODUCT`]: crate::pure::language::parse::MAX_PRODUCT
pub(super) struct Parts {
    pub(super) action: Action,
    pub(super) family: Option<Family>,
    pub(super) local: Option<Local>,
    pub(super) nat_ok: bool,
    pub(super) oneway: bool,
    pub(super) mark: Option<Mark>,
    pub(super) netns: Netns,
    pub(super) tag: Option<Tag>,
    pub(super) terms: Vec<Term>,
}

/// One rule.
///
/// # Invariants
///
/// The bytes are as [`Rule::new`] writes them, in the shortest form that holds them. So rules are
/// equal where their bytes are.
#[derive(Clone)]
pub struct Rule(Form);

/// The bytes, with zeros behind them to fill the form. Beside them, as there is room, the number that
/// the rule has in its table, which is no part of the rule itself.
///
/// Laid out so that the head is at the same place in all.
#[derive(Clone)]
#[repr(u8)]
enum Form {
    Short(Head, [u8; 10], u32),
    Middle(Head, u32, Arc<[u8; 28]>),
    Long(Head, u32, Arc<Vec<u8>>),
}

const _: () = assert!(size_of::<Rule>() == 16);

/// What every rule says, a bit or two each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head(u8);

impl Head {
    const TRACK: u8 = 1;
    const IPV4: u8 = 1 << 1;
    const IPV6: u8 = 1 << 2;
    const LOCAL_SOURCE: u8 = 1 << 3;
    const LOCAL_DESTINATION: u8 = 1 << 4;
    const NAT_OK: u8 = 1 << 5;
    const ONEWAY: u8 = 1 << 6;
    /// Whether it says `dev=` or `netns=`: all rules are asked at each commit, and most do not.
    const PLACE: u8 = 1 << 7;

    fn new(parts: &Parts) -> Self {
        let bit = |set, bit| if set { bit } else { 0 };
        Self(
            bit(parts.action == Action::Track, Self::TRACK)
                | bit(parts.family == Some(Family::Ipv4), Self::IPV4)
                | bit(parts.family == Some(Family::Ipv6), Self::IPV6)
                | bit(parts.local == Some(Local::Source), Self::LOCAL_SOURCE)
                | bit(
                    parts.local == Some(Local::Destination),
                    Self::LOCAL_DESTINATION,
                )
                | bit(parts.nat_ok, Self::NAT_OK)
                | bit(parts.oneway, Self::ONEWAY)
                | bit(parts.names_place(), Self::PLACE),
        )
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// What a run of bytes behind the head holds: a list, or a term that is no list.
///
/// A run is a byte with its kind and, for a list, the number of elements less one, then its data.
/// The runs of a rule stand in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No run: the bytes from here on only fill the form.
    End,
    /// One protocol that has a name: in place of the count, its place in
    /// [`NAMES`](protocol::NAMES), and no data.
    Named,
    /// One byte each.
    Protocol,
    /// The length, then the address; 5 or 17 bytes each.
    Source,
    /// As the sources.
    Destination,
    /// Two bytes each, where no element is a range of more than one.
    SourcePort,
    /// The first, then the last one; 4 bytes each.
    SourcePorts,
    /// As `SourcePort`.
    DestinationPort,
    /// As `SourcePorts`.
    DestinationPorts,
    /// The first, then the last one.
    IcmpType,
    /// The length of the name, with the highest bit set for a wildcard, then the padded name.
    Device,
    /// The value, then the mask.
    Mark,
    /// `netns=init`.
    Init,
    /// `netns!=init`.
    NotInit,
    /// The cookie, then the inode number.
    Only,
    /// The length, then the name.
    Tag,
}

impl Kind {
    /// All of them, at the places of their numbers.
    const ALL: [Self; 16] = [
        Self::End,
        Self::Named,
        Self::Protocol,
        Self::Source,
        Self::Destination,
        Self::SourcePort,
        Self::SourcePorts,
        Self::DestinationPort,
        Self::DestinationPorts,
        Self::IcmpType,
        Self::Device,
        Self::Mark,
        Self::Init,
        Self::NotInit,
        Self::Only,
        Self::Tag,
    ];

    /// The first byte of a run of `count` elements.
    fn byte(self, count: usize) -> u8 {
        let count = u8::try_from(count.saturating_sub(1)).unwrap_or(0);
        (self as u8) << 4 | count & 15
    }
}

/// The runs of a rule, one after the other.
#[derive(Clone)]
struct Runs<'a> {
    rest: &'a [u8],
    /// The bytes of a prefix.
    prefix: usize,
}

impl<'a> Iterator for Runs<'a> {
    type Item = (Kind, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (first, rest) = self.rest.split_first()?;
        let kind = *Kind::ALL.get(usize::from(first >> 4))?;
        let size = match kind {
            Kind::End => return None,
            Kind::Named => {
                self.rest = rest;
                let place = usize::from(first & 15);
                return Some((Kind::Protocol, protocol::NUMBERS.get(place..=place)?));
            }
            Kind::Protocol => 1,
            Kind::Source | Kind::Destination => self.prefix,
            Kind::SourcePort | Kind::DestinationPort | Kind::IcmpType => 2,
            Kind::SourcePorts | Kind::DestinationPorts => 4,
            Kind::Device => 17,
            Kind::Mark => 8,
            Kind::Init | Kind::NotInit => 0,
            Kind::Only => 12,
            Kind::Tag => usize::from(*rest.first()?).saturating_add(1),
        };
        let count = usize::from(first & 15).saturating_add(1);
        let (data, rest) = rest.split_at_checked(size.saturating_mul(count))?;
        self.rest = rest;
        Some((kind, data))
    }
}

/// The data of the run of `kind`; empty where there is none.
fn find(mut runs: Runs<'_>, kind: Kind) -> &[u8] {
    runs.find(|(k, _)| *k == kind).map_or(&[], |(_, data)| data)
}

/// Takes the bytes of a rule, one run after the other.
#[derive(Default)]
struct Sink {
    len: usize,
    /// The first bytes: all that most rules have.
    start: [u8; 28],
    /// All of them, where they are more.
    all: Vec<u8>,
}

impl Sink {
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
}

impl Parts {
    fn names_place(&self) -> bool {
        self.netns != Netns::Any || matches!(self.terms.last(), Some(Term::Device(_)))
    }

    /// Writes all but the head.
    fn write(&self, out: &mut Sink) -> Result<(), NoMemory> {
        let mut rest = &*self.terms;
        while let Some(first) = rest.first() {
            let first = core::mem::discriminant(first);
            let same = |term: &&Term| core::mem::discriminant(*term) == first;
            let len = rest.iter().take_while(same).count();
            let (list, behind) = rest.split_at_checked(len).unwrap_or_default();
            rest = behind;
            self.write_list(list, out)?;
        }
        if let Some(mark) = self.mark {
            out.put([Kind::Mark.byte(1)])?;
            out.put(mark.value.to_ne_bytes())?;
            out.put(mark.mask.to_ne_bytes())?;
        }
        match self.netns {
            Netns::Any => {}
            Netns::Init => out.put([Kind::Init.byte(1)])?,
            Netns::NotInit => out.put([Kind::NotInit.byte(1)])?,
            Netns::Only(NetnsId { cookie, inum }) => {
                out.put([Kind::Only.byte(1)])?;
                out.put(cookie.to_ne_bytes())?;
                out.put(inum.to_ne_bytes())?;
            }
        }
        if let Some(tag) = &self.tag {
            out.put([Kind::Tag.byte(1), tag.len])?;
            for byte in tag.as_str().bytes() {
                out.put([byte])?;
            }
        }
        Ok(())
    }

    /// Writes a list, which has elements of one kind.
    fn write_list(&self, list: &[Term], out: &mut Sink) -> Result<(), NoMemory> {
        let ranges = list.iter().any(|term| match term {
            Term::SourcePort(range) | Term::DestinationPort(range) => range.first != range.last,
            _ => false,
        });
        let kind = match list {
            [] => return Ok(()),
            [Term::Protocol(number)] => {
                if let Some(place) = protocol::NUMBERS.iter().position(|named| named == number) {
                    return out.put([Kind::Named.byte(place.saturating_add(1))]);
                }
                Kind::Protocol
            }
            [Term::Protocol(_), ..] => Kind::Protocol,
            [Term::Source(_), ..] => Kind::Source,
            [Term::Destination(_), ..] => Kind::Destination,
            [Term::SourcePort(_), ..] if ranges => Kind::SourcePorts,
            [Term::SourcePort(_), ..] => Kind::SourcePort,
            [Term::DestinationPort(_), ..] if ranges => Kind::DestinationPorts,
            [Term::DestinationPort(_), ..] => Kind::DestinationPort,
            [Term::IcmpType(_), ..] => Kind::IcmpType,
            [Term::Device(_), ..] => Kind::Device,
        };
        out.put([kind.byte(list.len())])?;
        for term in list {
            match term {
                Term::Protocol(protocol) => out.put([*protocol])?,
                Term::Source(prefix) | Term::Destination(prefix) => {
                    let [a, b, c, d, ..] = prefix.address;
                    out.put([prefix.len])?;
                    match self.family {
                        Some(Family::Ipv6) => out.put(prefix.address)?,
                        _ => out.put([a, b, c, d])?,
                    }
                }
                Term::SourcePort(range) | Term::DestinationPort(range) => {
                    out.put(range.first.to_ne_bytes())?;
                    if ranges {
                        out.put(range.last.to_ne_bytes())?;
                    }
                }
                Term::IcmpType(range) => out.put([range.first, range.last])?,
                Term::Device(device) => {
                    out.put([device.len | u8::from(device.wildcard) << 7])?;
                    out.put(device.name)?;
                }
            }
        }
        Ok(())
    }
}

impl Rule {
    /// Makes the rule.
    pub(super) fn new(parts: &Parts) -> Result<Self, NoMemory> {
        let head = Head::new(parts);
        let mut out = Sink::default();
        parts.write(&mut out)?;
        if !out.all.is_empty() {
            return Ok(Self(Form::Long(head, 0, Arc::new(out.all)?)));
        }
        match out.start.first_chunk() {
            Some(short) if out.len <= short.len() => Ok(Self(Form::Short(head, *short, 0))),
            _ => Ok(Self(Form::Middle(head, 0, Arc::new(out.start)?))),
        }
    }

    #[inline]
    fn head(&self) -> Head {
        match self.0 {
            Form::Short(head, ..) | Form::Middle(head, ..) | Form::Long(head, ..) => head,
        }
    }

    /// The number that it was given, 0 before.
    pub(super) fn number(&self) -> u32 {
        match self.0 {
            Form::Short(_, _, number) | Form::Middle(_, number, _) | Form::Long(_, number, _) => {
                number
            }
        }
    }

    /// The same with that number.
    pub(super) fn numbered(mut self, given: u32) -> Self {
        match &mut self.0 {
            Form::Short(_, _, number) | Form::Middle(_, number, _) | Form::Long(_, number, _) => {
                *number = given;
            }
        }
        self
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short(_, bytes, _) => bytes,
            Form::Middle(_, _, bytes) => &bytes[..],
            Form::Long(_, _, bytes) => bytes,
        }
    }

    #[inline]
    fn runs(&self) -> Runs<'_> {
        Runs {
            rest: self.bytes(),
            prefix: match self.head().has(Head::IPV6) {
                true => 17,
                false => 5,
            },
        }
    }

    /// The runs where `dev=` or `netns=` is among them; else none.
    #[inline]
    fn runs_of_place(&self) -> Runs<'_> {
        match self.head().has(Head::PLACE) {
            true => self.runs(),
            false => Runs {
                rest: &[],
                prefix: 0,
            },
        }
    }

    /// The data of the run of `kind`; empty where there is none.
    fn run(&self, kind: Kind) -> &[u8] {
        find(self.runs(), kind)
    }

    /// Whether it names a protocol and an address, port, type or mark; a rule that does not must
    /// say `any`.
    pub(super) fn is_narrow(&self) -> bool {
        let (mut protocol, mut other) = (false, false);
        for (kind, _) in self.runs() {
            match kind {
                Kind::Named | Kind::Protocol => protocol = true,
                Kind::Source
                | Kind::Destination
                | Kind::SourcePort
                | Kind::SourcePorts
                | Kind::DestinationPort
                | Kind::DestinationPorts
                | Kind::IcmpType
                | Kind::Mark => other = true,
                Kind::End | Kind::Device | Kind::Init | Kind::NotInit | Kind::Only | Kind::Tag => {}
            }
        }
        protocol && other
    }

    /// A hash of all that it says, for finding equal ones.
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

    /// What it does.
    #[inline]
    pub fn action(&self) -> Action {
        match self.head().has(Head::TRACK) {
            true => Action::Track,
            false => Action::Skip,
        }
    }

    /// The family of the packets that it matches; `None`: both.
    pub fn family(&self) -> Option<Family> {
        match self.head() {
            head if head.has(Head::IPV4) => Some(Family::Ipv4),
            head if head.has(Head::IPV6) => Some(Family::Ipv6),
            _ => None,
        }
    }

    /// The end that is this host.
    pub fn local(&self) -> Option<Local> {
        match self.head() {
            head if head.has(Head::LOCAL_SOURCE) => Some(Local::Source),
            head if head.has(Head::LOCAL_DESTINATION) => Some(Local::Destination),
            _ => None,
        }
    }

    /// Whether its flows are never translated (`nat=ok`).
    #[inline]
    pub fn nat_ok(&self) -> bool {
        self.head().has(Head::NAT_OK)
    }

    /// Whether it matches the direction as written only.
    pub fn oneway(&self) -> bool {
        self.head().has(Head::ONEWAY)
    }

    /// The packet mark.
    pub fn mark(&self) -> Option<Mark> {
        let (value, mask) = self.run(Kind::Mark).split_first_chunk()?;
        Some(Mark {
            value: u32::from_ne_bytes(*value),
            mask: u32::from_ne_bytes(*mask.first_chunk()?),
        })
    }

    /// Where it holds.
    pub fn netns(&self) -> Netns {
        let place = self.runs_of_place().find_map(|(kind, data)| match kind {
            Kind::Init => Some(Netns::Init),
            Kind::NotInit => Some(Netns::NotInit),
            Kind::Only => {
                let (cookie, inum) = data.split_first_chunk()?;
                Some(Netns::Only(NetnsId {
                    cookie: u64::from_ne_bytes(*cookie),
                    inum: u32::from_ne_bytes(*inum.first_chunk()?),
                }))
            }
            _ => None,
        });
        place.unwrap_or(Netns::Any)
    }

    /// The name of the group that it belongs to.
    pub fn tag(&self) -> Option<&str> {
        let (_, name) = self.run(Kind::Tag).split_first()?;
        core::str::from_utf8(name).ok()
    }

    /// The protocols; none: every one.
    pub fn protocols(&self) -> impl Iterator<Item = u8> + Clone + '_ {
        self.run(Kind::Protocol).iter().copied()
    }

    /// The source prefixes; none: every one.
    pub fn sources(&self) -> impl Iterator<Item = Prefix> + Clone + '_ {
        self.prefixes(Kind::Source)
    }

    /// The destination prefixes; none: every one.
    pub fn destinations(&self) -> impl Iterator<Item = Prefix> + Clone + '_ {
        self.prefixes(Kind::Destination)
    }

    fn prefixes(&self, kind: Kind) -> impl Iterator<Item = Prefix> + Clone + '_ {
        let runs = self.runs();
        let size = runs.prefix;
        self.run(kind).chunks_exact(size).filter_map(|bytes| {
            let (len, bytes) = bytes.split_first()?;
            let mut address = [0; 16];
            address.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(Prefix { address, len: *len })
        })
    }

    /// The source ports; none: every one.
    pub fn source_ports(&self) -> impl Iterator<Item = Range<u16>> + Clone + '_ {
        self.ports(Kind::SourcePort, Kind::SourcePorts)
    }

    /// The destination ports; none: every one.
    pub fn destination_ports(&self) -> impl Iterator<Item = Range<u16>> + Clone + '_ {
        self.ports(Kind::DestinationPort, Kind::DestinationPorts)
    }

    fn ports(&self, single: Kind, ranges: Kind) -> impl Iterator<Item = Range<u16>> + Clone + '_ {
        let mut runs = self.runs();
        let (size, data) = runs
            .find_map(|(kind, data)| match kind {
                kind if kind == single => Some((2, data)),
                kind if kind == ranges => Some((4, data)),
                _ => None,
            })
            .unwrap_or((2, &[]));
        data.chunks_exact(size).filter_map(|bytes| {
            Some(Range {
                first: u16::from_ne_bytes(*bytes.first_chunk()?),
                last: u16::from_ne_bytes(*bytes.last_chunk()?),
            })
        })
    }

    /// The ICMP types; none: every one.
    pub fn icmp_types(&self) -> impl Iterator<Item = Range<u8>> + Clone + '_ {
        let pairs = self.run(Kind::IcmpType).chunks_exact(2);
        pairs.filter_map(|pair| match pair {
            [first, last] => Some(Range {
                first: *first,
                last: *last,
            }),
            _ => None,
        })
    }

    /// The devices; none: every one.
    pub fn devices(&self) -> impl Iterator<Item = Device> + Clone + '_ {
        let devices = find(self.runs_of_place(), Kind::Device).chunks_exact(17);
        devices.filter_map(|bytes| {
            let (len, name) = bytes.split_first()?;
            Some(Device {
                name: *name.first_chunk()?,
                len: len & 0x7f,
                wildcard: len >> 7 != 0,
            })
        })
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.head() == other.head() && self.bytes() == other.bytes()
    }
}

impl Eq for Rule {}

impl core::fmt::Debug for Rule {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// The ICMP type that answers `icmp_type`, where there is one.
///
/// As the `invmap` of `net/netfilter/nf_conntrack_proto_icmp.c` and `..._icmpv6.c`.
pub fn answering_type(family: Family, icmp_type: u8) -> Option<u8> {
    Some(match (family, icmp_type) {
        (Family::Ipv4, 0) => 8,
        (Family::Ipv4, 8) => 0,
        (Family::Ipv4, 13) => 14,
        (Family::Ipv4, 14) => 13,
        (Family::Ipv4, 15) => 16,
        (Family::Ipv4, 16) => 15,
        (Family::Ipv4, 17) => 18,
        (Family::Ipv4, 18) => 17,
        (Family::Ipv6, 128) => 129,
        (Family::Ipv6, 129) => 128,
        (Family::Ipv6, 139) => 140,
        (Family::Ipv6, 140) => 139,
        _ => return None,
    })
}
