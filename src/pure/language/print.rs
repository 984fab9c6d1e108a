// SPDX-License-Identifier: GPL-2.0

//! A rule as text, in the canonical form: parsed again, it gives an equal rule.
//!
//! The terms stand in one order, lists are sorted, the action is always written, the family and
//! `any` where they are needed. The id is not part of it.

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
    Netns,
    Prefix,
    Range,
    Rule, //
};

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action() {
            Action::Skip => "skip",
            Action::Track => "track",
        })?;
        match self.family() {
            Some(Family::Ipv4) if !self.implies_family() => f.write_str(" ip")?,
            Some(Family::Ipv6) if !self.implies_family() => f.write_str(" ip6")?,
            _ => {}
        }
        self.fmt_protocols(f)?;
        let family = self.family().unwrap_or(Family::Ipv4);
        let prefix = |p: Prefix| DisplayPrefix(family, p);
        fmt_list(f, "src=", self.sources().map(prefix))?;
        fmt_list(f, "dst=", self.destinations().map(prefix))?;
        fmt_list(f, "sport=", self.source_ports())?;
        fmt_list(f, "dport=", self.destination_ports())?;
        fmt_list(f, "type=", self.icmp_types())?;
        match self.local() {
            None => {}
            Some(Local::Source) => f.write_str(" local=src")?,
            Some(Local::Destination) => f.write_str(" local=dst")?,
        }
        fmt_list(f, "dev=", self.devices())?;
        if let Some(mark) = self.mark() {
            write!(f, " mark={:#x}", mark.value())?;
            if mark.mask() != u32::MAX {
                write!(f, "/{:#x}", mark.mask())?;
            }
        }
        match self.netns() {
            Netns::Any => {}
            Netns::Init => f.write_str(" netns=init")?,
            Netns::NotInit => f.write_str(" netns!=init")?,
            Netns::Only(id) => write!(f, " netns={}", id.inum)?,
        }
        if self.nat_ok() {
            f.write_str(" nat=ok")?;
        }
        if self.oneway() {
            f.write_str(" oneway")?;
        }
        if !self.is_narrow() {
            f.write_str(" any")?;
        }
        if let Some(tag) = self.tag() {
            write!(f, " tag={tag}")?;
        }
        Ok(())
    }
}

impl Rule {
    /// Whether addresses or protocols say the family.
    pub(super) fn implies_family(&self) -> bool {
        self.sources().next().is_some()
            || self.destinations().next().is_some()
            || family_of_protocols(self.protocols()).is_some()
    }

    fn fmt_protocols(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = |number: u8| {
            protocol::NAMES
                .iter()
                .find(|(_, n)| *n == number)
                .map(|(name, _)| *name)
        };
        for (i, number) in self.protocols().enumerate() {
            match (i, name(number)) {
                (0, Some(name)) => write!(f, " {name}")?,
                (0, None) => write!(f, " proto={number}")?,
                (_, Some(name)) => write!(f, ",{name}")?,
                (_, None) => write!(f, ",{number}")?,
            }
        }
        Ok(())
    }
}

/// The family of the packets that can carry one of `protocols`, where they say one.
pub(super) fn family_of_protocols(protocols: impl Iterator<Item = u8>) -> Option<Family> {
    let mut family = None;
    for number in protocols {
        let of_this = match number {
            protocol::ICMP => Family::Ipv4,
            protocol::ICMP6 => Family::Ipv6,
            _ => return None,
        };
        if family.is_some_and(|f| f != of_this) {
            return None;
        }
        family = Some(of_this);
    }
    family
}

fn fmt_list(
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

/// A prefix with the family that says how to write its address.
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
