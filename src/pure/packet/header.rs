// SPDX-License-Identifier: GPL-2.0

//! Dissection: a packet's headers are read into the key that rules are compared with.
//!
//! Headers are read as conntrack reads them (`nf_conntrack_core.c`, `ipv6_skip_exthdr()`): a field that
//! cannot be read is missing from the key, and the packet is not refused. As conntrack, this does not
//! look at the version, which the hook's family tells, nor at whether an IPv4 header is too short. Not
//! every packet at the hooks has been through `ip_rcv()`: a raw socket sends any version
//! (`IP_HDRINCL`), and segment routing hands on any header (`input_action_end_dx4()`).

use crate::pure::rule::{
    protocol,
    DeviceName,
    Family,
    Fixed,
    FixedField,
    Rule, //
};

/// The bytes of a packet from its network header on.
pub trait Bytes {
    /// Returns the `N` bytes at `offset`; [`None`] where the packet ends before their end.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Returns the first `N` bytes where they are in the linear part; [`None`] does not mean that the
    /// packet is shorter.
    fn read_in_place<const N: usize>(&self) -> Option<[u8; N]> {
        self.read(0)
    }
}

impl Bytes for [u8] {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let end = offset.checked_add(N)?;
        self.get(offset..end)?.try_into().ok()
    }
}

/// Returns a device's name from the 16 bytes that hold it, as two words in memory.
///
/// The bytes behind its NUL are cleared: a longer name that the device had before may have left its
/// end there.
#[inline(always)]
pub fn device_name([first, second]: [u64; 2]) -> DeviceName {
    let (first, ends) = until_nul(first);
    let second = if ends { 0 } else { until_nul(second).0 };
    let mut name = DeviceName::default();
    let bytes = [first, second].map(u64::to_ne_bytes);
    for (to, from) in name.iter_mut().zip(bytes.as_flattened()) {
        *to = *from;
    }
    name
}

/// Returns eight bytes with those behind the first NUL cleared, and whether there is a NUL.
#[inline(always)]
fn until_nul(word: u64) -> (u64, bool) {
    const ONES: u64 = u64::MAX / 0xff;

    let word = u64::from_le(word);
    // The lowest bit that is set is the highest of the first byte that is 0.
    let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
    let before = zeros.wrapping_sub(1) & !zeros;
    ((word & before).to_le(), zeros != 0)
}

/// The fields of the header behind the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nothing: another protocol, a later fragment, or cut short.
    Unknown,
    /// Source and destination port of TCP, UDP or SCTP, host byte order.
    Ports(u16, u16),
    /// The type of ICMP or ICMPv6.
    IcmpType(u8),
}

/// The fields of a [`Key`] that are read only for rules that name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs(u8);

impl Needs {
    /// No such field.
    pub const NONE: Self = Self(0);
    /// [`Key::device`].
    pub const DEVICE: Self = Self(1);
    /// Which ends are local ([`Ends`](super::ends::Ends)): no field of a key, but asked for as rarely.
    pub const LOCAL: Self = Self(1 << 1);
    /// Every such field but the device.
    pub const RARE: Self = Self(!1);
    /// Every such field.
    pub const ALL: Self = Self(!0);

    /// Returns the fields that `rule` names.
    pub fn of(rule: &Rule) -> Self {
        let field = |is_named: bool, field: Self| if is_named { field } else { Self::NONE };
        field(rule.devices().next().is_some(), Self::DEVICE)
            .and(field(rule.local().is_some(), Self::LOCAL))
            .and(Self(rule.fixed().optional().wrapping_shl(1)))
    }

    /// Returns `field`, which not every packet has.
    pub const fn field(field: FixedField) -> Self {
        Self(field.bit().wrapping_shl(1))
    }

    /// Returns the fields of either.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether one of `fields` is needed.
    #[inline(always)]
    pub const fn has(self, fields: Self) -> bool {
        self.0 & fields.0 != 0
    }
}

/// The fields of a packet that rules are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The family.
    pub family: Family,
    /// The protocol behind IPv6 extension headers.
    pub protocol: u8,
    /// The source as a number, most significant bit first; an IPv4 address in the top 32 bits.
    pub source: u128,
    /// The destination, likewise.
    pub destination: u128,
    /// Ports or type.
    pub transport: Transport,
    /// Whether the packet is an ICMP error, which only rules that name its type match themselves.
    pub error: bool,
    /// The device that it comes in by or goes out by.
    pub device: DeviceName,
    /// The fields that no direction exchanges; `skb->mark` in any case.
    pub fixed: Fixed,
}

/// The caller's knowledge of a packet besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The family of the hook.
    pub family: Family,
    /// The device, NUL-padded; zeros where it is not needed.
    pub device: DeviceName,
    /// `skb->mark`.
    pub mark: u32,
    /// Whether ICMP errors follow the packet that they quote (`icmp_errors=1`).
    pub icmp_errors: bool,
    /// The fields of the key that are to be read, of those that not every table needs.
    pub needs: Needs,
}

/// Returns the key of a packet; [`None`] where it cannot be read: neither its IP header nor, for IPv6,
/// which protocol is behind the extension headers. What that packet is, no rule can say.
#[inline]
pub fn dissect(bytes: &(impl Bytes + ?Sized), context: &Context) -> Option<Key> {
    let ip = ip_header(bytes, context.family, 0)?;
    let transport = ip.transport(bytes, context.family);
    Some(Key {
        family: context.family,
        protocol: ip.protocol,
        source: ip.source,
        destination: ip.destination,
        transport,
        error: is_error(context.family, transport) && context.icmp_errors,
        device: context.device,
        fixed: fixed(bytes, context, ip.protocol, ip.transport_offset),
    })
}

/// Returns the fields that no direction exchanges; `offset` is that of the header of `protocol`.
#[inline(always)]
fn fixed(
    bytes: &(impl Bytes + ?Sized),
    context: &Context,
    protocol: u8,
    offset: Option<usize>,
) -> Fixed {
    let mark = Fixed::new(context.mark);
    if !context.needs.has(const { Needs::field(FixedField::FLAGS) }) {
        return mark;
    }
    match tcp_flags(bytes, protocol, offset) {
        Some(flags) => mark.with(FixedField::FLAGS, flags.into()),
        None => mark,
    }
}

/// Returns byte 13 of the header at `offset`, where that is of TCP (RFC 9293).
#[inline]
fn tcp_flags(bytes: &(impl Bytes + ?Sized), protocol: u8, offset: Option<usize>) -> Option<u8> {
    const FLAGS_OFFSET: usize = 13;

    if protocol != protocol::TCP {
        return None;
    }
    let [flags] = bytes.read(offset?.checked_add(FLAGS_OFFSET)?)?;
    Some(flags)
}

/// Returns the key that [`dissect`] returns, for a packet with TCP, UDP or SCTP right behind an IP
/// header without options, as nearly all packets are. [`None`] for any other packet, and where ports
/// are outside the linear part.
#[inline(always)]
pub fn dissect_plain(bytes: &(impl Bytes + ?Sized), context: &Context) -> Option<Key> {
    let (protocol, source, destination, ports, header_len) = match context.family {
        Family::Ipv4 => {
            let header: &[u8] = &bytes.read_in_place::<24>()?;
            if header.read(0)? != [0x45] || ipv4_is_later_fragment(header.read(6)?) {
                return None;
            }
            (
                header.read(9)?,
                ipv4_address(header.read(12)?),
                ipv4_address(header.read(16)?),
                header.read(20)?,
                20,
            )
        }
        Family::Ipv6 => {
            let header: &[u8] = &bytes.read_in_place::<44>()?;
            (
                header.read(6)?,
                u128::from_be_bytes(header.read(8)?),
                u128::from_be_bytes(header.read(24)?),
                header.read(40)?,
                40,
            )
        }
    };
    let [protocol] = protocol;
    if !protocol::has_ports(protocol) {
        return None;
    }
    Some(Key {
        family: context.family,
        protocol,
        source,
        destination,
        transport: ports_of(ports),
        error: false,
        device: context.device,
        fixed: fixed(bytes, context, protocol, Some(header_len)),
    })
}

/// Returns the key of the packet that an ICMP error quotes, as that was sent; `error` is the key that
/// [`dissect`] made of the error's bytes.
///
/// [`None`] where the quoted packet cannot be read, is an error itself, or was not sent by the
/// destination of `error`.
pub fn quoted(bytes: &(impl Bytes + ?Sized), error: &Key) -> Option<Key> {
    let ip = quoted_header(bytes, error)?;
    if ip.source != error.destination {
        return None;
    }
    let transport = ip.transport(bytes, error.family);
    if is_error(error.family, transport) {
        return None;
    }
    Some(Key {
        protocol: ip.protocol,
        source: ip.source,
        destination: ip.destination,
        transport,
        error: false,
        // Of the fields that no direction exchanges, the mark is the error's. The quoted flags lie behind the
        // eight bytes that every error quotes (RFC 792), and are not read where more is quoted: rules that
        // name flags decide no errors.
        ..*error
    })
}

/// Reads the IP header of the packet that an ICMP error quotes; `error` is that error's key.
fn quoted_header(bytes: &(impl Bytes + ?Sized), error: &Key) -> Option<IpHeader> {
    let offset = ip_header(bytes, error.family, 0)?.transport_offset?;
    ip_header(bytes, error.family, quoted_offset(bytes, error, offset)?)
}

/// Returns the identifier of an ICMP echo request or reply; `key` is what [`dissect`] made of the same bytes.
///
/// The key does not have it: only flows are told apart by it, and those of few packets.
pub fn echo_identifier(bytes: &(impl Bytes + ?Sized), key: &Key) -> Option<u16> {
    ip_header(bytes, key.family, 0)?.echo_identifier(bytes, key)
}

/// Returns the identifier of an ICMP echo request or reply that an ICMP error quotes; `error` is the key
/// that [`dissect`] made of the same bytes, and `quoted` what [`quoted`] made of it.
pub fn quoted_echo_identifier(
    bytes: &(impl Bytes + ?Sized),
    error: &Key,
    quoted: &Key,
) -> Option<u16> {
    quoted_header(bytes, error)?.echo_identifier(bytes, quoted)
}

/// Returns the offset of the packet that the ICMP error at `offset` quotes (RFC 792, RFC 4443).
///
/// An ICMPv6 redirect quotes it in an option (RFC 4861), which is looked for among the first
/// eight. Linux writes the target's link-layer address ahead of it; conntrack knows it as the first
/// option only (`nf_conntrack_icmpv6_redirect()`).
fn quoted_offset(bytes: &(impl Bytes + ?Sized), error: &Key, offset: usize) -> Option<usize> {
    const ICMP_HEADER: usize = 8;
    const REDIRECT_HEADER: usize = 40;
    const OPTION_HEADER: usize = 8;
    const OPTION_REDIRECTED: u8 = 4;
    /// The options that are looked at.
    const OPTIONS: usize = 8;

    if (error.family, error.transport) != (Family::Ipv6, Transport::IcmpType(REDIRECT6)) {
        return offset.checked_add(ICMP_HEADER);
    }
    let mut option = offset.checked_add(REDIRECT_HEADER)?;
    for _ in 0..OPTIONS {
        match bytes.read::<2>(option)? {
            [_, 0] => return None,
            [OPTION_REDIRECTED, _] => return option.checked_add(OPTION_HEADER),
            [_, len] => option = option.checked_add(usize::from(len).wrapping_mul(8))?,
        }
    }
    None
}

/// The type of an ICMPv6 redirect.
const REDIRECT6: u8 = 137;

/// Returns whether the packet is an ICMP error, which quotes the packet that it is about.
#[inline]
pub(in crate::pure) fn is_error(family: Family, transport: Transport) -> bool {
    let Transport::IcmpType(icmp_type) = transport else {
        return false;
    };
    match family {
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        Family::Ipv4 => matches!(icmp_type, 3 | 4 | 5 | 11 | 12),
        // Unreachable, packet too big, time exceeded, parameter problem, redirect.
        Family::Ipv6 => matches!(icmp_type, 1..=4 | REDIRECT6),
    }
}

/// Returns whether the packet is an ICMP echo request or reply.
#[inline]
pub(in crate::pure) fn is_echo(family: Family, transport: Transport) -> bool {
    let Transport::IcmpType(icmp_type) = transport else {
        return false;
    };
    match family {
        Family::Ipv4 => matches!(icmp_type, 8 | 0),
        Family::Ipv6 => matches!(icmp_type, 128 | 129),
    }
}

/// The fields of an IP header.
struct IpHeader {
    source: u128,
    destination: u128,
    protocol: u8,
    /// The offset of the next header; [`None`] in a later fragment and where it cannot be found.
    transport_offset: Option<usize>,
}

impl IpHeader {
    /// Returns the fields of the header behind it.
    #[inline]
    fn transport(&self, bytes: &(impl Bytes + ?Sized), family: Family) -> Transport {
        match self.transport_offset {
            Some(offset) => transport(bytes, family, self.protocol, offset),
            None => Transport::Unknown,
        }
    }

    /// Returns the identifier of the ICMP header behind it, where `key` says that this is an echo.
    fn echo_identifier(&self, bytes: &(impl Bytes + ?Sized), key: &Key) -> Option<u16> {
        const IDENTIFIER_OFFSET: usize = 4;

        if !is_echo(key.family, key.transport) {
            return None;
        }
        let offset = self.transport_offset?.checked_add(IDENTIFIER_OFFSET)?;
        bytes.read(offset).map(u16::from_be_bytes)
    }
}

/// Reads the IP header at `offset`.
#[inline]
fn ip_header(bytes: &(impl Bytes + ?Sized), family: Family, offset: usize) -> Option<IpHeader> {
    match family {
        Family::Ipv4 => ipv4_header(bytes, offset),
        Family::Ipv6 => ipv6_header(bytes, offset),
    }
}

/// Returns whether an IPv4 packet with this field of flags and offset is a fragment, and not the first.
#[inline(always)]
fn ipv4_is_later_fragment(field: [u8; 2]) -> bool {
    const OFFSET: u16 = 0x1fff;

    u16::from_ne_bytes(field) & OFFSET.to_be() != 0
}

/// Returns an IPv4 address as a number, in the top 32 bits.
#[inline(always)]
fn ipv4_address(octets: [u8; 4]) -> u128 {
    u128::from(u32::from_be_bytes(octets)) << 96
}

/// Reads an IPv4 header (RFC 791).
#[inline]
fn ipv4_header(bytes: &(impl Bytes + ?Sized), offset: usize) -> Option<IpHeader> {
    let [version_ihl, _, _, _, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        bytes.read::<20>(offset)?;
    let header_len = usize::from(version_ihl & 0xf).wrapping_mul(4);
    let first = !ipv4_is_later_fragment([f0, f1]);
    Some(IpHeader {
        source: ipv4_address([s0, s1, s2, s3]),
        destination: ipv4_address([d0, d1, d2, d3]),
        protocol,
        transport_offset: first.then(|| offset.checked_add(header_len)).flatten(),
    })
}

/// Reads an IPv6 header and walks the extension headers behind it (RFC 8200). [`None`] where these
/// cannot be walked to their end.
#[inline]
fn ipv6_header(bytes: &(impl Bytes + ?Sized), offset: usize) -> Option<IpHeader> {
    const HEADER_LEN: usize = 40;

    let [next_header] = bytes.read(offset.checked_add(6)?)?;
    let source = bytes.read::<16>(offset.checked_add(8)?)?;
    let destination = bytes.read::<16>(offset.checked_add(24)?)?;
    let (protocol, transport_offset) =
        skip_extension_headers(bytes, next_header, offset.checked_add(HEADER_LEN)?)?;
    Some(IpHeader {
        source: u128::from_be_bytes(source),
        destination: u128::from_be_bytes(destination),
        protocol,
        transport_offset,
    })
}

/// Returns the protocol behind the extension headers that start at `offset` with one of type `next`,
/// and the offset of its header, which later fragments do not have.
///
/// As `ipv6_skip_exthdr()`, with its limit on their number; but a later fragment keeps its protocol.
/// [`None`] where the protocol cannot be known: beyond that limit, where a header is cut short, and in a
/// later fragment that starts with more of them.
#[inline]
fn skip_extension_headers(
    bytes: &(impl Bytes + ?Sized),
    mut next: u8,
    mut offset: usize,
) -> Option<(u8, Option<usize>)> {
    const FRAGMENT: u8 = 44;
    const AUTH: u8 = 51;
    const NONE: u8 = 59;
    /// `IP6_MAX_EXT_HDRS_CNT`.
    const MAX_COUNT: usize = 12;
    const FRAGMENT_OFFSET: u16 = 0xfff8;

    for _ in 0..MAX_COUNT {
        if !protocol::is_extension_header(next) {
            return Some((next, Some(offset)));
        }
        if next == NONE {
            return Some((next, None));
        }
        let [following, len] = bytes.read(offset)?;
        let len = usize::from(len);
        let header_len = match next {
            FRAGMENT => {
                let field = u16::from_be_bytes(bytes.read(offset.wrapping_add(2))?);
                if field & FRAGMENT_OFFSET != 0 {
                    let is_known = !protocol::is_extension_header(following);
                    return is_known.then_some((following, None));
                }
                8
            }
            AUTH => len.wrapping_add(2).wrapping_mul(4),
            _ => len.wrapping_add(1).wrapping_mul(8),
        };
        next = following;
        offset = offset.wrapping_add(header_len);
    }
    match next {
        NONE => Some((next, None)),
        _ if protocol::is_extension_header(next) => None,
        _ => Some((next, Some(offset))),
    }
}

/// Returns the ports in the first four bytes of a header.
#[inline(always)]
fn ports_of(bytes: [u8; 4]) -> Transport {
    let both = u32::from_be_bytes(bytes);
    Transport::Ports((both >> 16) as u16, both as u16)
}

/// Reads the ports or the type of the header at `offset`.
#[inline]
fn transport(
    bytes: &(impl Bytes + ?Sized),
    family: Family,
    protocol: u8,
    offset: usize,
) -> Transport {
    match (family, protocol) {
        (_, p) if protocol::has_ports(p) => match bytes.read::<4>(offset) {
            Some(ports) => ports_of(ports),
            None => Transport::Unknown,
        },
        (Family::Ipv4, protocol::ICMP) | (Family::Ipv6, protocol::ICMP6) => {
            match bytes.read::<1>(offset) {
                Some([icmp_type]) => Transport::IcmpType(icmp_type),
                None => Transport::Unknown,
            }
        }
        _ => Transport::Unknown,
    }
}
