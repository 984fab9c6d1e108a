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
        Prefix,
        Range,
        Tag,
        TcpFlags, //
    }, //
};

const BACKWARDS: &str = "a range that runs backwards";

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

/// Reads `N` or `N-N`, each at most `max`.
fn range<T: Copy + PartialOrd + TryFrom<u32>>(
    text: &[u8],
    at: usize,
    max: u32,
    expected: &'static str,
) -> Result<Range<T>, Refusal> {
    let mut ends = text.splitn(2, |b| *b == b'-');
    let mut end = |or: Option<u32>| match ends.next() {
        None => or.ok_or(at),
        Some(end) => number(end)
            .filter(|n| *n <= max)
            .ok_or_else(|| at.saturating_add(column(text, end))),
    };
    let wrong = |at| Refusal::invalid(at, "not a number in range", expected);
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
    range(text, at, u32::from(u16::MAX), EXPECTED)
}

/// Reads an element of `type=`.
pub(super) fn icmp_types(text: &[u8], at: usize) -> Result<Range<u8>, Refusal> {
    const EXPECTED: &str = "a type from 0 to 255, or a range N-N that runs upwards";
    range(text, at, u32::from(u8::MAX), EXPECTED)
}

/// Reads an element of `src=` or `dst=`.
pub(super) fn prefix(text: &[u8], at: usize) -> Result<(Family, Prefix), Refusal> {
    const EXPECTED: &str = "an IPv4 or IPv6 address, no name, with /LEN for a prefix";
    let mut parts = text.splitn(2, |b| *b == b'/');
    let text = core::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let (family, address, bits) = if let Ok(v4) = Ipv4Addr::from_str(text) {
        let mut address = [0; 16];
        for (to, from) in address.iter_mut().zip(v4.octets()) {
            *to = from;
        }
        (Family::Ipv4, address, 32)
    } else if let Ok(v6) = Ipv6Addr::from_str(text) {
        (Family::Ipv6, v6.octets(), 128)
    } else {
        return Err(Refusal::invalid(at, "not an address", EXPECTED));
    };
    let len = match parts.next() {
        None => bits,
        Some(len) => number(len)
            .and_then(|len| u8::try_from(len).ok())
            .filter(|len| *len <= bits)
            .ok_or(Refusal::invalid(
                at.saturating_add(text.len()).saturating_add(1),
                "not a prefix length",
                "0 to 32 for IPv4, 0 to 128 for IPv6, in decimal",
            ))?,
    };
    let Some(prefix) = Prefix::new(address, len) else {
        let cut = u128::from_be_bytes(address) & !u128::MAX.checked_shr(len.into()).unwrap_or(0);
        let likely = Prefix::new(cut.to_be_bytes(), len)
            .map(|prefix| Likely::Prefix(DisplayPrefix(family, prefix)));
        return Err(Refusal::invalid(
            at,
            "an address with a bit set below the prefix length",
            "the first address of the prefix",
        )
        .likely(likely));
    };
    Ok((family, prefix))
}

/// Reads an element of `dev=`.
pub(super) fn device(text: &[u8], at: usize) -> Result<Device, Refusal> {
    const EXPECTED: &str = "a device's name, or the start of one and `*`";
    let (name, wildcard) = match text.strip_suffix(b"*") {
        Some(name) => (name, true),
        None => (text, false),
    };
    if text.ends_with(b"+") {
        return Err(Refusal::invalid(
            at,
            "`+` for any ending, as iptables writes it",
            "`*`, as in eth*",
        )
        .likely(Some(Likely::Word("*"))));
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
    let number = |text: &[u8]| match text.strip_prefix(b"0x").or(text.strip_prefix(b"0X")) {
        Some(hex) => digits(hex, 16),
        None => digits(text, 10),
    };
    let mut parts = text.splitn(2, |b| *b == b'/');
    let bits = parts.next().and_then(number);
    let mask = parts.next().map_or(Some(u32::MAX), number);
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
    const EXPECTED: &str = "init, an inode number, or pid:N";
    const MISSING: &str = "no such network namespace";
    if text == b"init" {
        return Ok(Netns::Init);
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
        "1 to 31 of A-Z, a-z, 0-9, `.`, `_` and `-`",
    ))
}

/// Reads a rule's number.
pub(crate) fn id(text: &[u8], at: usize) -> Result<u32, Refusal> {
    number(text).filter(|id| *id != 0).ok_or(Refusal::invalid(
        at,
        "not the number of a rule",
        "a number from 1 to 4294967295",
    ))
}
