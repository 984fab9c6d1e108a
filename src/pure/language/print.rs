// SPDX-License-Identifier: GPL-2.0

//! The terms of a rule as text, in the canonical form.
//!
//! A list is sorted, a value is written in one way only, and a term that the rule does not say is not
//! written. All terms but the action have a space ahead of them.

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

/// Writes the end of the flow that is this host.
pub(super) fn local(rule: &Rule, f: &mut Formatter<'_>) -> fmt::Result {
    match rule.local() {
        None => Ok(()),
        Some(Local::Source) => f.write_str(" local=src"),
        Some(Local::Destination) => f.write_str(" local=dst"),
    }
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

/// Writes `word` where it is said.
pub(super) fn word(f: &mut Formatter<'_>, word: &str, is_said: bool) -> fmt::Result {
    match is_said {
        true => f.write_str(word),
        false => Ok(()),
    }
}

/// Writes `key` and the prefixes of `rule`, where there are any.
pub(super) fn prefixes(
    f: &mut Formatter<'_>,
    key: &str,
    rule: &Rule,
    prefixes: impl Iterator<Item = Prefix>,
) -> fmt::Result {
    let family = rule.family().unwrap_or(Family::Ipv4);
    let prefixes = prefixes.map(|prefix| DisplayPrefix(family, prefix));
    list(f, key, prefixes)
}

/// Writes `key` and the elements, where there are any.
pub(super) fn list(
    f: &mut Formatter<'_>,
    key: &str,
    elements: impl Iterator<Item = impl Display>,
) -> fmt::Result {
    for (i, element) in elements.enumerate() {
        let ahead = if i == 0 { key } else { "," };
        write!(f, "{ahead}{element}")?;
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
