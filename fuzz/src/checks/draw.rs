// SPDX-License-Identifier: GPL-2.0

//! Rules and packets drawn from bytes: few values each, so that they meet.

use std::{
    fmt::Display,
    net::{
        Ipv4Addr,
        Ipv6Addr, //
    }, //
};

use arbitrary::{
    Result,
    Unstructured, //
};
use ctskip_pure::{
    packet::header::{
        Flags,
        Key,
        Transport, //
    },
    rule::{
        answering_type,
        Device,
        Family,
        HookPoint,
        Netns,
        Prefix,
        Range,
        Rule, //
    },
};

use crate::shapes::compiled::{
    Probe,
    FIRST_INUM,
    INIT_INUM, //
};

const ADDRESSES: [u128; 6] = [
    0,
    u128::MAX,
    0x0a00_0000 << 96,
    0x0aff_ff01 << 96,
    0xc0a8_0001 << 96,
    0x2001_0db8 << 96 | 1,
];
const PORTS: [u16; 10] = [0, 1, 53, 80, 255, 256, 1023, 1024, 0x7fff, u16::MAX];
const TYPES: [u8; 12] = [0, 3, 8, 11, 13, 14, 128, 129, 133, 137, 254, 255];
const DEVICES: [&str; 6] = ["eth0", "eth1", "e", "lo", "fifteen-letters", "eth0.7"];
const MARKS: [u32; 5] = [0, 1, 0x10, 0xff00, u32::MAX];
/// Those that rules name, and one more.
const NAMESPACES: u32 = 3;

/// A rule as text, which is rarely refused.
pub(super) fn rule(u: &mut Unstructured<'_>) -> Result<String> {
    let mut text = u.choose(&["", "", "skip", "track"])?.to_string();
    let v6 = u.ratio(1, 4)?;
    let protocols: &[&str] = match v6 {
        false => &[
            "udp",
            "tcp",
            "tcp,udp",
            "udp,sctp",
            "icmp",
            "icmp,gre",
            "proto=200",
            "",
        ],
        true => &[
            "udp",
            "tcp",
            "tcp,udp,sctp",
            "icmp6",
            "icmp6,esp",
            "proto=4",
            "",
        ],
    };
    let protocol = *u.choose(protocols)?;
    let mut term = |more: &str| {
        text.push(' ');
        text.push_str(more);
    };
    term(protocol);
    // The terms that follow, a bit each.
    let terms: u16 = u.arbitrary()?;
    let says = |n: u16| terms >> n & 1 != 0;
    for (n, key) in [(0, "src"), (1, "dst")] {
        if says(n) {
            term(&list(u, key, |u| prefix(u, v6))?);
        }
    }
    let has_ports = protocol
        .split(',')
        .all(|p| matches!(p, "udp" | "tcp" | "sctp"));
    for (n, key) in [(2, "sport"), (3, "dport")] {
        if says(n) && has_ports {
            term(&list(u, key, |u| range(u, &PORTS))?);
        }
    }
    if says(2) && matches!(protocol, "icmp" | "icmp6") {
        term(&list(u, "type", |u| range(u, &TYPES))?);
    }
    if says(4) {
        term(u.choose(&["local=src", "local=dst"])?);
    }
    if says(5) && says(6) {
        term(&list(u, "dev", |u| {
            let name = *u.choose(&DEVICES)?;
            let len = u.int_in_range(1..=name.len())?;
            let star = if len < name.len() { "*" } else { "" };
            Ok(format!("{}{star}", &name[..len]))
        })?);
    }
    if says(7) && says(8) {
        let mask = *u.choose(&MARKS)?;
        term(&format!("mark={}/{mask:#x}", u.choose(&MARKS)? & mask));
    }
    if says(14) && protocol == "tcp" {
        term(u.choose(&[
            "flags=syn",
            "flags=syn+ack",
            "flags=rst/rst",
            "flags=ack/syn+ack",
        ])?);
    }
    if says(9) && says(10) {
        let number = FIRST_INUM as u32 + u.int_in_range(0..=NAMESPACES - 1)?;
        let numbered = format!("netns={number}");
        term(u.choose(&["netns=init", "netns!=init", &numbered])?);
    }
    if says(11) {
        term("nat=ok");
    }
    if says(12) {
        term("oneway");
    }
    if !says(0) && !says(1) && !has_ports && !protocol.starts_with("icmp") {
        term(if v6 { "ip6" } else { "ip" });
    }
    if says(13) {
        term("tag=t");
    }
    term("any");
    Ok(text)
}

/// A list of mostly one element.
fn list(
    u: &mut Unstructured<'_>,
    key: &str,
    mut element: impl FnMut(&mut Unstructured<'_>) -> Result<String>,
) -> Result<String> {
    let len = *u.choose(&[1, 1, 1, 1, 2, 3, 5])?;
    let all: Vec<String> = (0..len).map(|_| element(u)).collect::<Result<_>>()?;
    Ok(format!("{key}={}", all.join(",")))
}

fn prefix(u: &mut Unstructured<'_>, v6: bool) -> Result<String> {
    let address = address(u)?;
    let bits = if v6 { 128 } else { 32 };
    let len: u32 = u.int_in_range(0..=bits)?;
    let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
    let address = address & mask;
    Ok(match v6 {
        false => format!("{}/{len}", Ipv4Addr::from((address >> 96) as u32)),
        true => format!("{}/{len}", Ipv6Addr::from(address)),
    })
}

/// One of a few, perhaps with a bit changed; or any.
fn address(u: &mut Unstructured<'_>) -> Result<u128> {
    let bit: u8 = u.arbitrary()?;
    Ok(match bit {
        0..128 => u.choose(&ADDRESSES)? ^ 1 << bit,
        128..=250 => *u.choose(&ADDRESSES)?,
        _ => u.arbitrary()?,
    })
}

fn range<T: Copy + Ord + Display>(u: &mut Unstructured<'_>, values: &[T]) -> Result<String> {
    let (a, b) = (*u.choose(values)?, *u.choose(values)?);
    Ok(match u.ratio(1, 2)? {
        true => a.to_string(),
        false => format!("{}-{}", a.min(b), a.max(b)),
    })
}

/// A packet; where there are rules, of parts of one of them, perhaps beside it.
pub(super) fn probe(u: &mut Unstructured<'_>, rules: &[&Rule]) -> Result<Probe> {
    let near = match rules {
        [] => None,
        _ => Some(*u.choose(rules)?),
    };
    // Which parts are not the rule's: mostly none.
    let strange: u16 = match u.ratio(1, 2)? {
        true => 0,
        false => u.arbitrary()?,
    };
    let of = |part: u16| near.filter(|_| strange >> part & 1 == 0);
    let family = match of(0).and_then(Rule::family) {
        Some(family) => family,
        None => *u.choose(&[Family::Ipv4, Family::Ipv6])?,
    };
    let protocol = one_of(u, of(1).map(Rule::protocols))?;
    let protocol = match protocol {
        Some(protocol) => protocol,
        None => *u.choose(&[17, 6, 1, 58, 132, 47, 200, 0, 255])?,
    };
    let mask = match family {
        Family::Ipv4 => !0 << 96,
        Family::Ipv6 => !0,
    };
    let source = inside(u, of(2).map(Rule::sources))? & mask;
    let destination = inside(u, of(3).map(Rule::destinations))? & mask;
    let transport = match protocol {
        _ if strange >> 12 == 15 => Transport::Unknown,
        6 | 17 | 132 => Transport::Ports(
            within(u, of(4).map(Rule::source_ports), &PORTS)?,
            within(u, of(5).map(Rule::destination_ports), &PORTS)?,
        ),
        1 | 58 => Transport::IcmpType(within(u, of(6).map(Rule::icmp_types), &TYPES)?),
        _ => Transport::Unknown,
    };
    let mark = of(7).and_then(Rule::mark);
    let any_mark = *u.choose(&MARKS)?;
    let named = one_of(u, of(8).map(Rule::devices))?;
    let mut key = Key {
        family,
        protocol,
        source,
        destination,
        transport,
        error: matches!(transport, Transport::IcmpType(_)) && strange >> 11 & 1 != 0,
        point: *u.choose(&[HookPoint::PreRouting, HookPoint::LocalOut])?,
        device: device(u, named)?,
        mark: mark.map_or(any_mark, |mark| mark.value() | any_mark & !mark.mask()),
        flags: match of(10).and_then(Rule::flags) {
            Some(flags) if protocol == 6 => {
                Flags::new(flags.value() | !flags.mask() & any_mark as u8)
            }
            _ => Flags::UNKNOWN,
        },
    };
    if u.ratio(1, 2)? {
        (key.source, key.destination) = (key.destination, key.source);
        key.transport = match key.transport {
            Transport::Ports(a, b) => Transport::Ports(b, a),
            Transport::IcmpType(t) => Transport::IcmpType(answering_type(family, t).unwrap_or(t)),
            Transport::Unknown => Transport::Unknown,
        };
    }
    let other = FIRST_INUM as u32 + u.int_in_range(0..=NAMESPACES)?;
    let netns = match of(9).map(Rule::netns) {
        Some(Netns::Only(id)) => id.inum,
        Some(Netns::Init) => INIT_INUM,
        Some(Netns::NotInit) => other,
        _ => *u.choose(&[INIT_INUM, other])?,
    };
    Ok(Probe { netns, key })
}

fn one_of<T>(
    u: &mut Unstructured<'_>,
    elements: Option<impl Iterator<Item = T>>,
) -> Result<Option<T>> {
    let mut all: Vec<T> = elements.into_iter().flatten().collect();
    if all.is_empty() {
        return Ok(None);
    }
    let index = u.choose_index(all.len())?;
    Ok(Some(all.swap_remove(index)))
}

/// An address of one of the prefixes, often the first or the last.
fn inside(
    u: &mut Unstructured<'_>,
    prefixes: Option<impl Iterator<Item = Prefix>>,
) -> Result<u128> {
    let prefix = one_of(u, prefixes)?;
    let low = *u.choose(&[0, u128::MAX, 1 << 96])?;
    match prefix {
        Some(prefix) => Ok(prefix.value() | low & !prefix.mask()),
        None => address(u),
    }
}

/// A value of one of the ranges: an end of it, or right beside.
fn within<T: Copy + PartialOrd + Step>(
    u: &mut Unstructured<'_>,
    ranges: Option<impl Iterator<Item = Range<T>>>,
    values: &[T],
) -> Result<T> {
    let Some(range) = one_of(u, ranges)? else {
        return Ok(*u.choose(values)?);
    };
    let end = *u.choose(&[range.first(), range.last()])?;
    Ok(end.step(*u.choose(&[0, 0, 0, 1, -1])?))
}

/// A number that has neighbours.
trait Step {
    fn step(self, by: i8) -> Self;
}

impl Step for u16 {
    fn step(self, by: i8) -> Self {
        self.wrapping_add_signed(by.into())
    }
}

impl Step for u8 {
    fn step(self, by: i8) -> Self {
        self.wrapping_add_signed(by)
    }
}

/// A name that the device of a rule matches; else any.
fn device(u: &mut Unstructured<'_>, of: Option<Device>) -> Result<[u8; 16]> {
    let mut name = [0; 16];
    let any = *u.choose(&DEVICES)?;
    name[..any.len()].copy_from_slice(any.as_bytes());
    if let Some(device) = of {
        let len = device.name().len();
        name[..len].copy_from_slice(device.name());
        if !device.wildcard() {
            name[len..].fill(0);
        }
    }
    Ok(name)
}
