// SPDX-License-Identifier: GPL-2.0

//! One rule: what it matches and what it does.
//!
//! A [`Rule`] is made by [`parse`](super::parse) only, so each one is checked and in canonical
//! order: equal rules print alike and compare equal. It is written out by [`print`](super::print).

use super::alloc::{
    Arc,
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

/// One rule.
///
/// # Invariants
///
/// - `terms` is sorted and holds nothing twice.
/// - Each list in it has at most [`MAX_LIST`](super::parse::MAX_LIST) elements, and their lengths
///   multiply to at most [`MAX_PRODUCT`](super::parse::MAX_PRODUCT).
/// - Addresses are of `family`, which then is `Some`.
/// - Ports stand only where every protocol has ports, types only where every protocol is ICMP or
///   ICMPv6.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) action: Action,
    pub(super) family: Option<Family>,
    pub(super) local: Option<Local>,
    pub(super) nat_ok: bool,
    pub(super) oneway: bool,
    pub(super) mark: Option<Mark>,
    pub(super) netns: Netns,
    pub(super) tag: Option<Arc<Tag>>,
    pub(super) terms: Vec<Term>,
}

impl Rule {
    /// What it does.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The family of the packets that it matches; `None`: both.
    pub fn family(&self) -> Option<Family> {
        self.family
    }

    /// The end that is this host.
    pub fn local(&self) -> Option<Local> {
        self.local
    }

    /// Whether its flows are never translated (`nat=ok`).
    pub fn nat_ok(&self) -> bool {
        self.nat_ok
    }

    /// Whether it matches the direction as written only.
    pub fn oneway(&self) -> bool {
        self.oneway
    }

    /// The packet mark.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Where it holds.
    pub fn netns(&self) -> Netns {
        self.netns
    }

    /// The group that it belongs to.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_deref()
    }

    /// The elements of its lists, sorted.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The protocols; none: every one.
    pub fn protocols(&self) -> impl Iterator<Item = u8> + Clone + '_ {
        self.terms.iter().filter_map(|term| match term {
            Term::Protocol(protocol) => Some(*protocol),
            _ => None,
        })
    }

    /// The source prefixes; none: every one.
    pub fn sources(&self) -> impl Iterator<Item = Prefix> + Clone + '_ {
        self.terms.iter().filter_map(|term| match term {
            Term::Source(prefix) => Some(*prefix),
            _ => None,
        })
    }

    /// The destination prefixes; none: every one.
    pub fn destinations(&self) -> impl Iterator<Item = Prefix> + Clone + '_ {
        self.terms.iter().filter_map(|term| match term {
            Term::Destination(prefix) => Some(*prefix),
            _ => None,
        })
    }

    /// The source ports; none: every one.
    pub fn source_ports(&self) -> impl Iterator<Item = Range<u16>> + Clone + '_ {
        self.terms.iter().filter_map(|term| match term {
            Term::SourcePort(range) => Some(*range),
            _ => None,
        })
    }

    /// The destination ports; none: every one.
    pub fn destination_ports(&self) -> impl Iterator<Item = Range<u16>> + Clone + '_ {
        self.terms.iter().filter_map(|term| match term {
            Term::DestinationPort(range) => Some(*range),
            _ => None,
        })
    }

    /// The ICMP types; none: every one.
    pub fn icmp_types(&self) -> impl Iterator<Item = Range<u8>> + Clone + '_ {
        self.terms.iter().filter_map(|term| match term {
            Term::IcmpType(range) => Some(*range),
            _ => None,
        })
    }

    /// The devices; none: every one.
    pub fn devices(&self) -> impl Iterator<Item = Device> + Clone + '_ {
        self.terms.iter().filter_map(|term| match term {
            Term::Device(device) => Some(*device),
            _ => None,
        })
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
