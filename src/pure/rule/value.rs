// SPDX-License-Identifier: GPL-2.0

//! The values that rules are made of.
//!
//! Each type holds valid values only: its constructor checks them.

/// The address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The action of a rule on the packets that it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Keep them out of conntrack.
    #[default]
    Skip,
    /// Leave them to conntrack, whatever later rules say.
    Track,
}

/// The end of a flow that is an address of the namespace (`local=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// The source as the rule writes it.
    Source,
    /// The destination as the rule writes it.
    Destination,
}

impl Local {
    /// Returns the other end.
    #[inline]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// IP protocol numbers that have a name in rules.
///
/// See `include/uapi/linux/in.h`, `include/uapi/linux/in6.h`, and the registry of protocol numbers of IANA
/// for those that Linux has no name for.
pub mod protocol {
    use super::Family;

    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// IP in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// IPv6 in IP, as a sit device sends it.
    pub const SIT: u8 = 41;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ESP.
    pub const ESP: u8 = 50;
    /// AH.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMP6: u8 = 58;
    /// OSPF.
    pub const OSPF: u8 = 89;
    /// Ethernet in IP.
    pub const ETHERIP: u8 = 97;
    /// PIM.
    pub const PIM: u8 = 103;
    /// IP payload compression.
    pub const IPCOMP: u8 = 108;
    /// VRRP.
    pub const VRRP: u8 = 112;
    /// L2TP, straight over IP.
    pub const L2TP: u8 = 115;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;

    /// The protocols with a name, in the order in which messages list them. The first 16 may be packed
    /// shorter than the others.
    pub const NAMES: [&str; 19] = [
        "tcp", "udp", "sctp", "icmp", "icmp6", "gre", "esp", "ah", "ipip", "sit", "ospf", "vrrp",
        "igmp", "pim", "l2tp", "dccp", "udplite", "ipcomp", "etherip",
    ];

    /// The numbers of [`NAMES`], at the same places.
    pub(in crate::pure::rule) const NUMBERS: [u8; 19] = [
        TCP, UDP, SCTP, ICMP, ICMP6, GRE, ESP, AH, IPIP, SIT, OSPF, VRRP, IGMP, PIM, L2TP, DCCP,
        UDPLITE, IPCOMP, ETHERIP,
    ];

    /// Returns the number of a protocol with a name.
    pub fn number(name: &[u8]) -> Option<u8> {
        let place = NAMES.iter().position(|known| known.as_bytes() == name)?;
        NUMBERS.get(place).copied()
    }

    /// Returns the name of a protocol; [`None`] where it has none.
    pub fn name(number: u8) -> Option<&'static str> {
        let place = NUMBERS.iter().position(|known| *known == number)?;
        NAMES.get(place).copied()
    }

    /// Returns the family of the packets that can carry one of `protocols`, where it is the same for all
    /// of them; else [`None`].
    pub fn family(mut protocols: impl Iterator<Item = u8>) -> Option<Family> {
        let family = family_of(protocols.next()?)?;
        protocols
            .all(|number| family_of(number) == Some(family))
            .then_some(family)
    }

    /// Returns the family of the packets that can carry `protocol`; [`None`]: both.
    ///
    /// The groups of IPv6 are managed by ICMPv6, not by IGMP. In IPv6, the number of an extension header
    /// is never the protocol.
    pub const fn family_of(protocol: u8) -> Option<Family> {
        match protocol {
            ICMP | IGMP => Some(Family::Ipv4),
            ICMP6 => Some(Family::Ipv6),
            _ if is_extension_header(protocol) => Some(Family::Ipv4),
            _ => None,
        }
    }

    /// Returns whether source and destination port are the first four bytes of the protocol's header.
    pub const fn has_ports(protocol: u8) -> bool {
        matches!(protocol, TCP | UDP | SCTP)
    }

    /// Returns whether `protocol` is an IPv6 extension header, which is never the protocol of an IPv6
    /// packet.
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
    pub(super) address: [u8; 16],
    pub(super) len: u8,
}

impl Prefix {
    /// Returns the prefix of `len` bits of `address`; [`None`] where a bit beyond `len` is set.
    ///
    /// The address is in network byte order, an IPv4 address in the first four bytes.
    pub fn new(address: [u8; 16], len: u8) -> Option<Self> {
        // INVARIANT: Just checked.
        (u128::from_be_bytes(address) & !Self::mask_of(len) == 0).then_some(Self { address, len })
    }

    /// Returns the address in network byte order, an IPv4 address in the first four bytes.
    pub fn address(&self) -> [u8; 16] {
        self.address
    }

    /// Returns the length in bits.
    pub fn bits(&self) -> u8 {
        self.len
    }

    /// Returns the address as a number: its first byte is the most significant one.
    pub fn value(&self) -> u128 {
        u128::from_be_bytes(self.address)
    }

    /// Returns the bits of an address that the prefix compares, as a mask of [`Self::value`].
    pub fn mask(&self) -> u128 {
        Self::mask_of(self.len)
    }

    /// Returns the fewest prefixes that together are the addresses from `first` to `last`, in order, of a
    /// family whose addresses have `bits` bits.
    ///
    /// Both are numbers as [`Self::value`] gives them, without a bit beyond `bits`; no prefix where `last`
    /// is less than `first`.
    pub fn of_range(first: u128, last: u128, bits: u8) -> impl Iterator<Item = Self> {
        let unit = !Self::mask_of(bits);
        let mut rest = (first <= last).then_some((first, last | unit));
        core::iter::from_fn(move || {
            let (first, last) = rest?;
            // The shortest prefix that begins with `first` and ends no later than `last`.
            let fits = |len: &u8| {
                let host = !Self::mask_of(*len);
                first & host == 0 && first | host <= last
            };
            let len = (0..=bits).find(fits)?;
            let next = (first | !Self::mask_of(len)).checked_add(1);
            rest = next.filter(|next| *next <= last).map(|next| (next, last));
            Self::new(first.to_be_bytes(), len)
        })
    }

    /// Returns a mask of the `len` highest bits.
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
    pub(super) first: T,
    pub(super) last: T,
}

impl<T: Copy + PartialOrd> Range<T> {
    /// Returns the range; [`None`] where it runs backwards.
    pub fn new(first: T, last: T) -> Option<Self> {
        // INVARIANT: Just checked.
        (first <= last).then_some(Self { first, last })
    }

    /// Returns the lowest value.
    pub fn first(&self) -> T {
        self.first
    }

    /// Returns the highest value.
    pub fn last(&self) -> T {
        self.last
    }

    /// Returns whether `value` lies in the range.
    pub fn contains(&self, value: T) -> bool {
        self.first <= value && value <= self.last
    }
}

/// The name of a network device, NUL-padded as `net_device.name`.
pub type DeviceName = [u8; 16];

/// An element of `dev=`: a device's name, or with a wildcard the start of a device's name.
///
/// # Invariants
///
/// `len` is from 1 to 15; all bytes of `name` from `len` on are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    pub(super) name: DeviceName,
    pub(super) len: u8,
    pub(super) wildcard: bool,
}

impl Device {
    /// Returns the device of that name, or with `wildcard` all devices whose name starts with `name`.
    /// [`None`] where the name is empty or over 15 bytes long.
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

    /// Returns the name or its start, without padding.
    pub fn name(&self) -> &[u8] {
        self.name.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Returns whether any name that starts with [`Self::name`] matches.
    pub fn wildcard(&self) -> bool {
        self.wildcard
    }

    /// Returns whether a device of this name matches.
    pub fn matches(&self, device: &DeviceName) -> bool {
        u128::from_ne_bytes(*device) & self.mask() == self.value()
    }

    /// Returns the padded name as a number in the host's byte order.
    pub fn value(&self) -> u128 {
        u128::from_ne_bytes(self.name)
    }

    /// Returns the bytes of a padded name that are compared, as a mask of [`Self::value`]: all of them,
    /// or for a wildcard the first ones.
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

/// `mark=`: the bits of `skb->mark` that are compared, and their values.
///
/// # Invariants
///
/// `mask` is not zero, and `value` has no bit outside `mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(super) value: u32,
    pub(super) mask: u32,
}

impl Mark {
    /// Returns the mark; [`None`] where the mask is zero or does not cover the value.
    pub fn new(value: u32, mask: u32) -> Option<Self> {
        // INVARIANT: Just checked.
        (mask != 0 && value & !mask == 0).then_some(Self { value, mask })
    }

    /// Returns the values of the bits.
    pub fn value(&self) -> u32 {
        self.value
    }

    /// Returns the bits that are compared.
    pub fn mask(&self) -> u32 {
        self.mask
    }
}

/// `flags=`: the flags of a TCP header that are compared, and which of them are set.
///
/// Flags are the bits of byte 13 of the header (RFC 9293).
///
/// # Invariants
///
/// `value` is not zero, and has no bit outside `mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags {
    pub(super) value: u8,
    pub(super) mask: u8,
}

impl TcpFlags {
    /// The names of the flags, from bit 0 on.
    pub const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

    /// The flags that are compared where no mask is written, besides those that must be set: FIN, SYN,
    /// RST and ACK. So `flags=syn` is what iptables calls `--syn`.
    const ALWAYS: u8 = 0b1_0111;

    /// Returns the flags; [`None`] where no bit of `value` is set, or one outside `mask`. Without a
    /// mask, the bits of `value`, FIN, SYN, RST and ACK are compared.
    pub fn new(value: u8, mask: Option<u8>) -> Option<Self> {
        let mask = mask.unwrap_or(value | Self::ALWAYS);
        // INVARIANT: Just checked.
        (value != 0 && value & !mask == 0).then_some(Self { value, mask })
    }

    /// Returns the bit of the flag with the name `name`.
    pub const fn bit(name: &[u8]) -> Option<u8> {
        let (mut names, mut bit): (&[&str], u8) = (&Self::NAMES, 1);
        while let [known, rest @ ..] = names {
            if is_same(known.as_bytes(), name) {
                return Some(bit);
            }
            (names, bit) = (rest, bit.wrapping_shl(1));
        }
        None
    }

    /// Returns the bits that must be set.
    pub fn value(&self) -> u8 {
        self.value
    }

    /// Returns the bits that are compared.
    pub fn mask(&self) -> u8 {
        self.mask
    }
}

/// Returns whether two texts are the same, also when the module is built.
const fn is_same(mut a: &[u8], mut b: &[u8]) -> bool {
    while let ([x, rest @ ..], [y, others @ ..]) = (a, b) {
        if *x != *y {
            return false;
        }
        (a, b) = (rest, others);
    }
    a.is_empty() && b.is_empty()
}

/// A network namespace that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetnsId {
    /// A number that no other namespace has or had since the boot (`net->net_cookie`).
    pub cookie: u64,
    /// The inode number by which users know it (`net->ns.inum`).
    pub inum: u32,
}

/// The network namespaces in which a rule holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Netns {
    /// Every namespace.
    #[default]
    Any,
    /// The initial namespace.
    Init,
    /// Every namespace but the initial one.
    NotInit,
    /// This namespace, which is not the initial one.
    Only(NetnsId),
}

/// Finds network namespaces for `netns=`.
pub trait Namespaces {
    /// Returns the namespace with the inode number `inum`; [`None`] where there is none.
    fn by_inum(&self, inum: u32) -> Option<Netns>;

    /// Returns the namespace of the process `pid`, a number in the writer's PID namespace; [`None`] where
    /// there is no such process.
    fn by_pid(&self, pid: u32) -> Option<Netns>;

    /// Returns the namespace that the file of the path `folder` and `name` is, one behind the other, as the
    /// writer sees it. Nobody waits for a file system.
    fn by_path(&self, folder: &str, name: &[u8]) -> Result<Netns, NoNetns>;
}

/// Why a path names no network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoNetns {
    /// There is no such file.
    Missing,
    /// The file is no network namespace.
    Other,
    /// Where the path leads, if there is such a file, could not be found out; mostly, not without waiting for a
    /// file system.
    NotCached,
}

/// The name of a group of rules: 1 to 63 of `A-Za-z0-9._:/-`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    name: [u8; Tag::MAX],
    pub(super) len: u8,
}

impl Tag {
    /// The longest tag, in bytes.
    pub const MAX: usize = 63;

    /// Returns the tag; [`None`] where `name` is not a tag's name.
    pub fn new(name: &[u8]) -> Option<Self> {
        let allowed =
            |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'-');
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

    /// Returns the name.
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

/// Returns the ICMP type that answers `icmp_type`; [`None`] where no type does.
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
