// SPDX-License-Identifier: GPL-2.0

//! Which rules make a lookup dear, and in which namespaces: for the refusal of a table.

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use crate::pure::{
    alloc::{
        NoMemory,
        Vec, //
    },
    matcher::{
        cost::Cost,
        found::Order, //
    },
    rule::{
        Family,
        Netns, //
    },
    sort::sort_by_key, //
};

/// The lookup that costs most of all, at worst.
///
/// Printed as `20224 instructions for ip in netns init, to compare a packet with rules 7,12 and 15 more`:
/// the rules that packets are compared with one by one then, the dearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dearest {
    /// The cost of the lookup, in instructions, roughly.
    pub cost: usize,
    /// The namespaces in which it costs that.
    netns: Netns,
    family: Family,
    /// The ids of the dearest rules, the dearest first; 0 where there are fewer.
    ids: [u32; Self::SHOWN],
    /// How many more rules there are.
    more: usize,
}

impl Dearest {
    /// The number of rules that are shown.
    const SHOWN: usize = 6;

    /// Returns a lookup of that cost in which packets are compared with `rows` one by one: the order of a
    /// row's rule, and its cost. `id` gives the id of a rule.
    pub(super) fn new(
        cost: usize,
        netns: Netns,
        family: Family,
        mut rows: Vec<(Order, Cost)>,
        id: impl Fn(Order) -> Option<u32>,
    ) -> Result<Self, NoMemory> {
        // The rows of each rule together.
        sort_by_key(&mut rows, |(order, _)| *order);
        let mut rules = Vec::new();
        for own in rows.chunk_by(|(a, _), (b, _)| a == b) {
            if let Some((order, _)) = own.first() {
                let cost = own
                    .iter()
                    .fold(0u32, |sum, (_, cost)| sum.saturating_add(*cost));
                rules.push((u32::MAX.saturating_sub(cost), *order))?;
            }
        }
        sort_by_key(&mut rules, |rule| *rule);
        let mut ids = [0; Self::SHOWN];
        let dearest = rules.iter().filter_map(|(_, order)| id(*order));
        ids.iter_mut().zip(dearest).for_each(|(to, id)| *to = id);
        Ok(Self {
            cost,
            netns,
            family,
            ids,
            more: rules.len().saturating_sub(Self::SHOWN),
        })
    }

    /// Returns the ids of the dearest rules, the dearest first.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.ids.iter().copied().filter(|id| *id != 0)
    }
}

impl Display for Dearest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        };
        write!(f, "{} instructions for {family} in netns ", self.cost)?;
        match self.netns {
            Netns::Any => f.write_str("any")?,
            Netns::Init => f.write_str("init")?,
            Netns::NotInit => f.write_str("other than init")?,
            Netns::Only(id) => write!(f, "{}", id.inum)?,
        }
        f.write_str(", to compare a packet with rules ")?;
        for (i, id) in self.ids().enumerate() {
            write!(f, "{}{id}", if i == 0 { "" } else { "," })?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
