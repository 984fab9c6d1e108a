// SPDX-License-Identifier: GPL-2.0

//! The terms of a rule as text, in the canonical form.
//!
//! A list is sorted, a value is written in one way only, and a term that the rule does not say is not
//! written. Each function writes one term with a space ahead of it.

use core::{
    fmt::{
        self,
        Display,
        Formatter,
        Write, //
    },
    net::{
        Ipv4Addr,
        Ipv6Addr, //
    },
};

use crate::pure::rule::{
    protocol,
    Action,
    Device,
    Family,
    Local,
    Mark,
    Netns,
    Prefix,
    Range,
    Rule,
    TcpFlags, //
};

/// Writes the action. It is the first term, without a space ahead of it.
pub(super) fn action(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str(match rule.action() {
        Action::Skip => "skip",
        Action::Track => "track",
    })
}

/// Writes the family, where neither addresses nor protocols say it, and the protocols.
pub(super) fn family_and_protocols(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    let is_implied = rule.sources().next().is_some()
        || rule.destinations().next().is_some()
        || protocol::family(rule.protocols()).is_some();
    match rule.family() {
        Some(Family::Ipv4) if !is_implied => f.write_str(" ip")?,
        Some(Family::Ipv6) if !is_implied => f.write_str(" ip6")?,
        _ => {}
    }
    for (i, number) in rule.protocols().enumerate() {
        match (i, protocol::name(number)) {
            (0, Some(name)) => write!(f, " {name}")?,
            (0, None) => write!(f, " proto={number}")?,
            (_, Some(name)) => write!(f, ",{name}")?,
            (_, None) => write!(f, ",{number}")?,
        }
    }
    Ok(())
}

/// Writes the source prefixes.
pub(super) fn sources(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    list(f, "src=", prefixes(rule, rule.sources()))
}

/// Writes the destination prefixes.
pub(super) fn destinations(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    list(f, "dst=", prefixes(rule, rule.destinations()))
}

/// Writes the source ports.
pub(super) fn source_ports(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    list(f, "sport=", rule.source_ports())
}

/// Writes the destination ports.
pub(super) fn destination_ports(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    list(f, "dport=", rule.destination_ports())
}

/// Writes the ICMP types.
pub(super) fn icmp_types(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    list(f, "type=", rule.icmp_types())
}

/// Writes the flags of TCP.
pub(super) fn flags(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    list(f, "flags=", rule.flags().into_iter())
}

/// Writes the end of the flow that is this host.
pub(super) fn local(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    match rule.local() {
        None => Ok(()),
        Some(Local::Source) => f.write_str(" local=src"),
        Some(Local::Destination) => f.write_str(" local=dst"),
    }
}

/// Writes the devices.
pub(super) fn devices(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    list(f, "dev=", rule.devices())
}

/// Writes the packet mark.
pub(super) fn mark(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    list(f, "mark=", rule.mark().into_iter())
}

/// Writes the namespaces.
pub(super) fn netns(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    match rule.netns() {
        Netns::Any => Ok(()),
        Netns::Init => f.write_str(" netns=init"),
        Netns::NotInit => f.write_str(" netns!=init"),
        Netns::Only(id) => write!(f, " netns={}", id.inum),
    }
}

/// Writes `nat=ok`.
pub(super) fn nat(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    word(f, " nat=ok", rule.nat_ok())
}

/// Writes `oneway`.
pub(super) fn oneway(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    word(f, " oneway", rule.oneway())
}

/// Writes `any` where the rule needs it.
pub(super) fn any(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    word(f, " any", !rule.is_narrow())
}

/// Writes the tag.
pub(super) fn tag(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    list(f, "tag=", rule.tag().into_iter())
}

/// Writes nothing: the number is no part of the rule.
pub(super) fn nothing(_: &Rule, _: &mut Formatter<'_>) -> fmt::Result {
    Ok(())
}

fn word(f: &mut Formatter<'_>, word: &str, is_said: bool) -> fmt::Result {
    match is_said {
        true => f.write_str(word),
        false => Ok(()),
    }
}

fn prefixes(
    rule: &Rule,
    prefixes: impl Iterator<Item = Prefix>,
) -> impl Iterator<Item = DisplayPrefix> {
    let family = rule.family().unwrap_or(Family::Ipv4);
    prefixes.map(move |prefix| DisplayPrefix(family, prefix))
}

fn list(
    f: &mut Formatter<'_>,
    key: &str,
    elements: impl Iterator<Item = impl Display>,
) -> fmt::Result {
    for (i, element) in elements.enumerate() {
        if i == 0 {
            write!(f, " {key}{element}")?;
        } else {
            write!(f, ",{element}")?;
        }
    }
    Ok(())
}

/// A prefix, with the family that says how its address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisplayPrefix(pub Family, pub Prefix);

impl Display for DisplayPrefix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(family, prefix) = self;
        let bits = match family {
            Family::Ipv4 => {
                let [a, b, c, d, ..] = prefix.address();
                write!(f, "{}", Ipv4Addr::new(a, b, c, d))?;
                32
            }
            Family::Ipv6 => {
                write!(f, "{}", Ipv6Addr::from(prefix.address()))?;
                128
            }
        };
        if prefix.bits() != bits {
            write!(f, "/{}", prefix.bits())?;
        }
        Ok(())
    }
}

impl<T: Copy + PartialOrd + Display> Display for Range<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first())?;
        if self.first() != self.last() {
            write!(f, "-{}", self.last())?;
        }
        Ok(())
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for byte in self.name() {
            f.write_char(char::from(*byte))?;
        }
        if self.wildcard() {
            f.write_char('*')?;
        }
        Ok(())
    }
}

impl Display for TcpFlags {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names = |f: &mut Formatter<'_>, bits: u8| {
            let names = TcpFlags::NAMES.iter();
            let mut names = names
                .filter(|name| TcpFlags::bit(name.as_bytes()).is_some_and(|bit| bits & bit != 0));
            names.next().map_or(Ok(()), |name| f.write_str(name))?;
            names.try_for_each(|name| write!(f, "+{name}"))
        };
        names(f, self.value())?;
        if TcpFlags::new(self.value(), None) != Some(*self) {
            f.write_char('/')?;
            names(f, self.mask())?;
        }
        Ok(())
    }
}

impl Display for Mark {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.value())?;
        if self.mask() != u32::MAX {
            write!(f, "/{:#x}", self.mask())?;
        }
        Ok(())
    }
}
