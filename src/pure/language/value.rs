// SPDX-License-Identifier: GPL-2.0

//! Values read from text.
//!
//! Each function takes the text of one value and its column in the line, and returns the value or the
//! refusal of the text.

use core::{
    net::{
        Ipv4Addr,
        Ipv6Addr, //
    },
    str::FromStr, //
};

use crate::pure::{
    language::{
        names,
        print::DisplayPrefix,
        refusal::{
            Errno,
            Likely,
            Refusal, //
        },
        spelling::Nearest,
        text::column, //
    },
    rule::{
        Device,
        Family,
        Local,
        Mark,
        Namespaces,
        Netns,
        NoNetns,
        Prefix,
        Range,
        Tag,
        TcpFlags, //
    }, //
};

const BACKWARDS: &str = "a range that runs backwards";

/// What is wrong with addresses of two families, and what was expected.
pub(super) const OTHER_FAMILY: &str = "an address of the other family";
pub(super) const ONE_FAMILY: &str = "one family a rule";

/// Returns a decimal number without sign; [`None`] where `text` is none, or over 32 bits.
pub(super) fn number(text: &[u8]) -> Option<u32> {
    digits(text, 10)
}

fn digits(text: &[u8], radix: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |value, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        value.checked_mul(radix)?.checked_add(digit)
    })
}

/// Returns a number that is decimal, or hexadecimal behind `0x`.
fn based_number(text: &[u8]) -> Option<u32> {
    match text.strip_prefix(b"0x").or(text.strip_prefix(b"0X")) {
        Some(hex) => digits(hex, 16),
        None => digits(text, 10),
    }
}

/// Returns the number or range up to `max` that `text` is elsewhere: with `:`, with an end left open, or
/// hexadecimal.
pub(super) fn likely_numbers(text: &[u8], max: u16) -> Option<Likely> {
    let number = |text: &[u8]| {
        let number = u16::try_from(based_number(text)?).ok()?;
        (number <= max).then_some(number)
    };
    let sign = text.iter().position(|b| matches!(b, b'-' | b':'));
    let (first, last) = match sign.and_then(|sign| text.split_at_checked(sign)) {
        None => (number(text)?, number(text)?),
        // Neither end.
        Some((b"", [_])) => return None,
        Some((first, last)) => {
            let last = last.get(1..)?;
            let end = |text: &[u8], or| match text {
                b"" => Some(or),
                text => number(text),
            };
            (end(first, 0)?, end(last, max)?)
        }
    };
    Range::new(first, last).map(Likely::Numbers)
}

/// Reads `N` or `N-N`, each at most `max`.
fn range<T: Copy + PartialOrd + TryFrom<u32>>(
    text: &[u8],
    at: usize,
    max: u16,
    expected: &'static str,
) -> Result<Range<T>, Refusal> {
    let mut ends = text.splitn(2, |b| *b == b'-');
    let mut end = |or: Option<u32>| match ends.next() {
        None => or.ok_or(at),
        Some(end) => number(end)
            .filter(|n| *n <= max.into())
            .ok_or_else(|| at.saturating_add(column(text, end))),
    };
    let wrong = |at| {
        Refusal::invalid(at, "not a number in range", expected).likely(likely_numbers(text, max))
    };
    let first = end(None).map_err(wrong)?;
    let last = end(Some(first)).map_err(wrong)?;
    T::try_from(first)
        .ok()
        .zip(T::try_from(last).ok())
        .and_then(|(first, last)| Range::new(first, last))
        .ok_or(Refusal::invalid(at, BACKWARDS, expected))
}

/// Reads an element of `sport=` or `dport=`.
pub(super) fn ports(text: &[u8], at: usize) -> Result<Range<u16>, Refusal> {
    const EXPECTED: &str = "a port from 0 to 65535, or a range P-P that runs upwards";
    let refusal = |what| Refusal::invalid(at, what, EXPECTED);
    if text.contains(&b':') {
        return Err(refusal("a range with `:`, as iptables writes it")
            .likely(likely_numbers(text, u16::MAX)));
    }
    if text.first().is_some_and(u8::is_ascii_alphabetic) {
        let port = names::service(text).and_then(|port| Range::new(port, port));
        return Err(refusal("a name where the number of a port is needed")
            .likely(port.map(Likely::Numbers)));
    }
    range(text, at, u16::MAX, EXPECTED)
}

/// Reads an element of `type=` in a rule whose protocols are all of `family`; [`None`]: of both.
pub(super) fn icmp_types(
    text: &[u8],
    at: usize,
    family: Option<Family>,
) -> Result<Range<u8>, Refusal> {
    const EXPECTED: &str =
        "a type from 0 to 255, a range N-N that runs upwards, or a name such as echo-request";
    if let Some(slash) = text.iter().position(|b| *b == b'/') {
        return Err(Refusal::invalid(
            at.saturating_add(slash),
            "a code of ICMP, which no rule names",
            "the type alone",
        ));
    }
    if !text.first().is_some_and(u8::is_ascii_alphabetic) {
        return range(text, at, u8::MAX.into(), EXPECTED);
    }
    let Some(family) = family else {
        return Err(Refusal::invalid(
            at,
            "the name of a type, which has one number in ICMP and another in ICMPv6",
            "numbers; or a rule with icmp, and one with icmp6",
        ));
    };
    let types = names::icmp_types(family);
    let named = types.iter().find(|(name, _)| name.as_bytes() == text);
    let number = named.and_then(|(_, number)| Range::new(*number, *number));
    number.ok_or_else(|| {
        let mut nearest = Nearest::to(text);
        types.iter().for_each(|(name, _)| nearest.offer(name));
        Refusal::invalid(at, "not the name of an ICMP type", EXPECTED)
            .likely(nearest.word().map(Likely::Word))
    })
}

/// What `src=` and `dst=` take.
const ADDRESS: &str = "an IPv4 or IPv6 address, no name, with /LEN for a prefix, or a range A-A";

/// Reads an address: its family, and its bytes as a [`Prefix`] has them.
fn address(text: &[u8], at: usize) -> Result<(Family, [u8; 16]), Refusal> {
    let text = core::str::from_utf8(text).unwrap_or_default();
    if let Ok(v4) = Ipv4Addr::from_str(text) {
        return Ok((Family::Ipv4, of_v4(v4)));
    }
    Ipv6Addr::from_str(text)
        .map(|v6| (Family::Ipv6, v6.octets()))
        .map_err(|_| Refusal::invalid(at, "not an address", ADDRESS))
}

/// Returns the bytes of an IPv4 address as a [`Prefix`] has them.
fn of_v4(v4: Ipv4Addr) -> [u8; 16] {
    let mut address = [0; 16];
    for (to, from) in address.iter_mut().zip(v4.octets()) {
        *to = from;
    }
    address
}

/// Returns the number of bits of an address of `family`.
const fn bits(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    }
}

/// Refuses a prefix of IPv4 addresses in IPv6's form, `::ffff:A`.
///
/// Programs print the address of an IPv4 peer so; in the header of a packet it does not stand
/// (`ip6_rcv_core()` in `net/ipv6/ip6_input.c`).
fn check_mapped((family, address): (Family, [u8; 16]), len: u8, at: usize) -> Result<(), Refusal> {
    let mapped = match family {
        Family::Ipv6 => Ipv6Addr::from(address).to_ipv4_mapped(),
        Family::Ipv4 => None,
    };
    let (Some(v4), Some(len)) = (mapped, len.checked_sub(96)) else {
        return Ok(());
    };
    Err(Refusal::invalid(
        at,
        "an IPv4 address in the form of IPv6, which no packet has",
        "the IPv4 address",
    )
    .likely(cut(Family::Ipv4, of_v4(v4), len)))
}

/// Returns the prefix of `len` bits that `address` lies in, as a hint.
fn cut(family: Family, address: [u8; 16], len: u8) -> Option<Likely> {
    let cut = u128::from_be_bytes(address) & !u128::MAX.checked_shr(len.into()).unwrap_or(0);
    let prefix = Prefix::new(cut.to_be_bytes(), len)?;
    Some(Likely::Prefix(DisplayPrefix(family, prefix)))
}

/// Reads an element of `src=` or `dst=` that is no range.
pub(super) fn prefix(text: &[u8], at: usize) -> Result<(Family, Prefix), Refusal> {
    if let Some(address) = in_brackets(text) {
        return Err(
            Refusal::invalid(at, "brackets around an address", ADDRESS).likely(cut(
                Family::Ipv6,
                address,
                bits(Family::Ipv6),
            )),
        );
    }
    let mut parts = text.splitn(2, |b| *b == b'/');
    let before = parts.next().unwrap_or_default();
    let (family, address) = address(before, at)?;
    let len = match parts.next() {
        None => bits(family),
        Some(len) => number(len)
            .and_then(|len| u8::try_from(len).ok())
            .filter(|len| *len <= bits(family))
            .ok_or_else(|| {
                let at = at.saturating_add(column(text, len));
                let likely = mask_len(family, len).and_then(|len| cut(family, address, len));
                Refusal::invalid(
                    at,
                    "not a prefix length",
                    "0 to 32 for IPv4, 0 to 128 for IPv6, in decimal",
                )
                .likely(likely)
            })?,
    };
    check_mapped((family, address), len, at)?;
    let prefix = Prefix::new(address, len).ok_or_else(|| {
        Refusal::invalid(
            at,
            "an address with a bit set below the prefix length",
            "the first address of the prefix",
        )
        .likely(cut(family, address, len))
    })?;
    Ok((family, prefix))
}

/// Returns the IPv6 address between brackets.
fn in_brackets(text: &[u8]) -> Option<[u8; 16]> {
    let inner = text.strip_prefix(b"[")?.strip_suffix(b"]")?;
    match address(inner, 0) {
        Ok((Family::Ipv6, address)) => Some(address),
        _ => None,
    }
}

/// Returns the address and the port of `A:P` or `[A]:P`, as sockets are written.
pub(super) fn address_and_port(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().rposition(|b| *b == b':')?;
    let (before, port) = (text.get(..colon)?, text.get(colon.saturating_add(1)..)?);
    u16::try_from(number(port)?).ok()?;
    if in_brackets(before).is_some() {
        let inner = before.strip_prefix(b"[")?.strip_suffix(b"]")?;
        return Some((inner, port));
    }
    match address(before, 0) {
        Ok((Family::Ipv4, _)) => Some((before, port)),
        _ => None,
    }
}

/// Returns whether a value stands for all values.
pub(crate) fn is_every(text: &[u8]) -> bool {
    matches!(text, b"any" | b"all" | b"*")
}

/// Returns whether `byte` is a quote.
pub(super) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'')
}

/// Returns a text without the quotes at its ends.
pub(super) fn unquoted(text: &[u8]) -> &[u8] {
    let is_other = |byte: &u8| !is_quote(*byte);
    let first = text.iter().position(is_other);
    let last = text.iter().rposition(is_other);
    let between = first
        .zip(last)
        .and_then(|(first, last)| text.get(first..=last));
    between.unwrap_or_default()
}

/// Returns the number of bits that the netmask `text` has, where they are the highest ones.
fn mask_len(family: Family, text: &[u8]) -> Option<u8> {
    let (own, mask) = address(text, 0).ok()?;
    let mask = u128::from_be_bytes(mask);
    let len = u8::try_from(mask.leading_ones()).ok()?;
    let is_mask = own == family && mask.count_ones() == u32::from(len);
    is_mask.then_some(len)
}

/// Returns whether an element of `src=` or `dst=` is a range.
pub(super) fn is_address_range(text: &[u8]) -> bool {
    let sign = text.iter().find(|b| matches!(b, b'-' | b'/'));
    sign == Some(&b'-')
}

/// Reads an element of `src=` or `dst=` that is a range, `A-A`: returns the family and the prefixes, of
/// which there are `most` at most.
pub(super) fn address_range(
    text: &[u8],
    at: usize,
    most: usize,
) -> Result<(Family, impl Iterator<Item = Prefix>), Refusal> {
    let mut ends = text.splitn(2, |b| *b == b'-');
    let mut end = || {
        let end = ends.next().unwrap_or_default();
        let at = at.saturating_add(column(text, end));
        Ok::<_, Refusal>((address(end, at)?, at))
    };
    let (((family, first), _), ((other, last), last_at)) = (end()?, end()?);
    if family != other {
        return Err(Refusal::invalid(last_at, OTHER_FAMILY, ONE_FAMILY));
    }
    if check_mapped((family, last), bits(family), last_at).is_err() {
        check_mapped((family, first), bits(family), at)?;
    }
    let [first, last] = [first, last].map(u128::from_be_bytes);
    if first > last {
        return Err(Refusal::invalid(at, BACKWARDS, ADDRESS));
    }
    let prefixes = || Prefix::of_range(first, last, bits(family));
    if prefixes().take(most.saturating_add(1)).count() > most {
        return Err(Refusal::invalid(
            at,
            "a range of more prefixes than a list may have",
            "a range that up to 16 prefixes make, or several rules",
        ));
    }
    Ok((family, prefixes()))
}

/// Reads an element of `dev=`.
pub(super) fn device(text: &[u8], at: usize) -> Result<Device, Refusal> {
    const EXPECTED: &str = "a device's name, or the start of one and `*`";
    // It would be a name, of a device that nobody has.
    if let [first @ b'\'', .., last] = text {
        if first == last {
            return Err(Refusal::invalid(at, "not the name of a device", EXPECTED));
        }
    }
    let (name, wildcard) = match text.strip_suffix(b"*") {
        Some(name) => (name, true),
        None => (text, false),
    };
    if let Some(start) = text.strip_suffix(b"+") {
        return Err(Refusal::invalid(
            at,
            "`+` for any ending, as iptables writes it",
            "`*`, as in eth*",
        )
        .likely(Device::new(start, true).map(Likely::Device)));
    }
    // The kernel lets no device be called `all`, and tcpdump calls them all `any`.
    if is_every(text) {
        return Err(Refusal::invalid(
            at,
            "every device",
            "no dev=, which is for every device; or a device's name",
        ));
    }
    if let Some(at_sign) = text.iter().position(|b| *b == b'@') {
        let name = text.get(..at_sign).unwrap_or_default();
        return Err(Refusal::invalid(
            at,
            "a device with the one below it, as `ip link` prints them",
            "the name ahead of the `@`",
        )
        .likely(Device::new(name, false).map(Likely::Device)));
    }
    let forbidden = |b: &u8| matches!(b, b'/' | b':' | b'*' | b'"');
    if name.iter().any(forbidden) || matches!(name, b"." | b"..") {
        return Err(Refusal::invalid(at, "not the name of a device", EXPECTED));
    }
    Device::new(name, wildcard).ok_or(Refusal::invalid(
        at,
        "not the name of a device: it has 1 to 15 characters",
        EXPECTED,
    ))
}

/// Reads the value of `local=`.
pub(super) fn local(text: &[u8], at: usize) -> Result<Local, Refusal> {
    match text {
        b"src" => Ok(Local::Source),
        b"dst" => Ok(Local::Destination),
        _ => Err(Refusal::invalid(
            at,
            "not an end of a flow",
            "local=dst or local=src",
        )),
    }
}

/// Reads the value of `mark=`.
pub(super) fn mark(text: &[u8], at: usize) -> Result<Mark, Refusal> {
    let mut parts = text.splitn(2, |b| *b == b'/');
    let bits = parts.next().and_then(based_number);
    let mask = parts.next().map_or(Some(u32::MAX), based_number);
    let (Some(bits), Some(mask)) = (bits, mask) else {
        return Err(Refusal::invalid(
            at,
            "not a mark",
            "V or V/M, each of 32 bits, decimal or 0x",
        ));
    };
    Mark::new(bits, mask).ok_or(Refusal::invalid(
        at,
        "a mark with bits outside its mask, or a mask of zero",
        "V/M where M covers all bits of V",
    ))
}

/// Reads the value of `flags=`: `F` or `F/M`, each of names joined by `+`.
pub(super) fn flags(text: &[u8], at: usize) -> Result<TcpFlags, Refusal> {
    const EXPECTED: &str =
        "F or F/M, each of fin, syn, rst, psh, ack, urg, ece and cwr joined by `+`";
    let bits = |names: &[u8]| {
        let mut names = names.split(|b| *b == b'+');
        names.try_fold(0, |bits, name| match TcpFlags::bit(name) {
            Some(bit) => Ok(bits | bit),
            None => {
                let at = at.saturating_add(column(text, name));
                let mut nearest = Nearest::to(name);
                for flag in TcpFlags::NAMES {
                    nearest.offer(flag);
                }
                let refusal = Refusal::invalid(at, "not a flag of TCP", EXPECTED);
                Err(refusal.likely(nearest.word().map(Likely::Word)))
            }
        })
    };
    let mut parts = text.splitn(2, |b| *b == b'/');
    let value = bits(parts.next().unwrap_or_default())?;
    let mask = parts.next().map(bits).transpose()?;
    TcpFlags::new(value, mask).ok_or(Refusal::invalid(
        at,
        "flags outside their mask",
        "F/M where M has all flags of F",
    ))
}

/// Reads the value of `netns=`.
pub(super) fn netns(text: &[u8], at: usize, namespaces: &dyn Namespaces) -> Result<Netns, Refusal> {
    const EXPECTED: &str = "init, an inode number, pid:N, a name in /run/netns, or a path";
    const MISSING: &str = "no such network namespace";
    if text == b"init" {
        return Ok(Netns::Init);
    }
    let is_name = text.first().is_some_and(u8::is_ascii_alphabetic) && !text.contains(&b':');
    match text {
        [b'/', ..] => return netns_file("", text, at, namespaces),
        _ if is_name => {
            return netns_file("/run/netns/", text, at, namespaces);
        }
        _ => {}
    }
    let (is_pid, digits) = match text.strip_prefix(b"pid:") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let Some(number) = number(digits) else {
        return Err(Refusal::invalid(at, "not a network namespace", EXPECTED));
    };
    let (found, expected) = match is_pid {
        true => (
            namespaces.by_pid(number),
            "the number of a process that runs",
        ),
        false => (
            namespaces.by_inum(number),
            "an inode number as lsns -t net prints it",
        ),
    };
    found.ok_or(Refusal::new(Errno::Srch, at, MISSING, expected))
}

/// Reads the name of a file that is a network namespace, in `folder`; of no folder, a path.
fn netns_file(
    folder: &str,
    name: &[u8],
    at: usize,
    namespaces: &dyn Namespaces,
) -> Result<Netns, Refusal> {
    /// The longest path, in bytes.
    const MOST: usize = 255;

    if folder.len().saturating_add(name.len()) > MOST {
        return Err(Refusal::invalid(
            at,
            "not the path of a network namespace",
            "a path of up to 255 bytes",
        ));
    }
    namespaces.by_path(folder, name).map_err(|why| match why {
        NoNetns::Missing if folder.is_empty() => Refusal::new(
            Errno::Srch,
            at,
            "no such file",
            "the path of a network namespace, as the writer sees it",
        ),
        NoNetns::Missing => Refusal::new(
            Errno::Srch,
            at,
            "no such network namespace",
            "a name as `ip netns` prints it; init, an inode number, pid:N, or a path",
        ),
        NoNetns::Other => Refusal::invalid(
            at,
            "a file that is not a network namespace",
            "a file as `ip netns add` makes it in /run/netns",
        ),
        NoNetns::NotCached => Refusal::invalid(
            at,
            "a file that is not there, or that the kernel must ask a file system for",
            "pid:N in place of /proc/N/ns/net; or the number that `stat -L -c %i PATH` prints",
        ),
    })
}

/// Reads the value of `netns!=`.
pub(super) fn not_netns(text: &[u8], at: usize) -> Result<Netns, Refusal> {
    match text {
        b"init" => Ok(Netns::NotInit),
        _ => Err(Refusal::invalid(
            at,
            "only the initial namespace can be left out",
            "netns!=init",
        )),
    }
}

/// Reads the value of `tag=`.
pub(crate) fn tag(text: &[u8], at: usize) -> Result<Tag, Refusal> {
    Tag::new(text).ok_or(Refusal::invalid(
        at,
        "not a tag",
        "1 to 63 of A-Z, a-z, 0-9, `.`, `_`, `:`, `/` and `-`",
    ))
}

/// Reads a rule's id.
pub(crate) fn id(text: &[u8], at: usize) -> Result<u32, Refusal> {
    number(text).filter(|id| *id != 0).ok_or(Refusal::invalid(
        at,
        "not the id of a rule",
        "an id from 1 to 4294967295",
    ))
}
