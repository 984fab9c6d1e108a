// SPDX-License-Identifier: GPL-2.0

//! Tables like those that ClassBench makes (Taylor and Turner, IEEE/ACM Transactions on Networking
//! 15, 2007) of its seeds `acl1`, `fw1` and `ipc1`.
//!
//! As there: a protocol is drawn, then which class of ports it names on either side (all, 1024 and
//! above, a range, one), then for that class a pair of prefix lengths, then addresses. These come
//! from one tree of bits for sources and one for destinations, in which each level splits with a
//! certain probability, and the halves of a split are of unequal weight. Lengths are blurred a
//! little, equal rules are dropped, and rules that cover less stand first.
//!
//! The weights of `acl1` are those of its parameter file, rounded, with small ones put together.
//! Those of `fw1` and `ipc1` were estimated from parts of published sets of 1,000 and 10,000 filters
//! made of them. Left out: TCP flags, and the correlation between the two
//! addresses, and rules without any address or port, since nothing would miss a table that has them.

use std::collections::HashSet;

use super::prefix4;
use crate::source::{
    mixed,
    Source, //
};

/// What a rule says of a port.
#[derive(Clone, Copy)]
enum Ports {
    /// Nothing.
    All,
    /// 1024 to 65535.
    High,
    /// One of the kind's ranges.
    Range,
    /// One of the kind's ports.
    One,
}

use Ports::{
    All,
    High,
    One,
    Range, //
};

/// The lengths of source and destination prefix, with weights.
type Lengths = &'static [(u64, (u32, u32))];

/// Levels of a tree of bits: from that one on, how many of 100 nodes split, and the weight of the
/// lighter half of 100.
type Levels = &'static [(u32, (u64, u64))];

/// What a kind of tables is made of.
pub(super) struct Kind {
    protocols: &'static [(u64, &'static str)],
    /// For TCP and UDP: the classes of source and destination port, and the lengths that go with
    /// them.
    tcp: &'static [(u64, (Ports, Ports, Lengths))],
    udp: &'static [(u64, (Ports, Ports, Lengths))],
    /// For the protocols that have no ports.
    others: Lengths,
    /// How many of 100 ICMP rules name a type.
    typed: u64,
    sources: Levels,
    destinations: Levels,
    ports: &'static [(u64, u16)],
    ranges: &'static [(u64, (u16, u16))],
}

const ACL_ALL: Lengths = &[
    (49, (32, 32)),
    (11, (32, 24)),
    (10, (23, 32)),
    (8, (32, 22)),
    (5, (23, 16)),
    (3, (31, 32)),
    (4, (30, 22)),
    (5, (23, 10)),
    (2, (0, 8)),
];
const ACL_ONE: Lengths = &[
    (85, (32, 32)),
    (3, (31, 32)),
    (1, (32, 31)),
    (4, (32, 22)),
    (3, (23, 32)),
    (2, (30, 22)),
    (1, (32, 30)),
];
const ACL_RANGE: Lengths = &[(95, (32, 32)), (4, (31, 32)), (1, (23, 32))];

pub(super) const ACL: Kind = Kind {
    protocols: &[(87, "tcp"), (8, ""), (3, "icmp"), (1, "udp")],
    tcp: &[
        (22, (All, All, ACL_ALL)),
        (13, (All, Range, ACL_RANGE)),
        (65, (All, One, ACL_ONE)),
    ],
    udp: &[(12, (All, Range, ACL_RANGE)), (88, (All, One, ACL_ONE))],
    others: ACL_ALL,
    typed: 0,
    sources: &[
        (0, (100, 1)),
        (6, (50, 1)),
        (7, (0, 0)),
        (24, (58, 32)),
        (26, (77, 38)),
        (30, (53, 34)),
        (31, (26, 35)),
    ],
    destinations: &[
        (0, (90, 24)),
        (3, (70, 17)),
        (5, (35, 22)),
        (9, (8, 15)),
        (11, (21, 30)),
        (15, (10, 20)),
        (19, (6, 28)),
        (23, (9, 38)),
        (29, (11, 36)),
    ],
    ports: &[
        (19, 1521),
        (5, 1526),
        (4, 1221),
        (4, 1433),
        (3, 1525),
        (3, 135),
        (3, 14753),
        (2, 1712),
        (2, 1711),
        (2, 1704),
        (2, 1708),
        (2, 5555),
        (2, 1705),
        (2, 6000),
        (2, 20),
        (2, 21),
        (2, 1724),
        (2, 1717),
        (2, 1707),
        (2, 1733),
        (2, 1706),
        (2, 5540),
        (2, 5541),
        (2, 1734),
        (1, 1489),
        (1, 1490),
        (1, 5632),
        (1, 5631),
        (1, 6789),
        (1, 1715),
        (1, 2121),
        (1, 32200),
        (1, 443),
        (1, 80),
        (1, 31000),
        (1, 27000),
        (1, 65500),
    ],
    ranges: &[
        (8, (1600, 1649)),
        (7, (1300, 1349)),
        (7, (1300, 1350)),
        (5, (7500, 7599)),
        (5, (2200, 2210)),
        (4, (1025, 65535)),
        (4, (5001, 65535)),
        (4, (1700, 1750)),
        (4, (32200, 32207)),
        (4, (8000, 8100)),
        (2, (61700, 61709)),
        (2, (61500, 61509)),
        (2, (61800, 61809)),
        (2, (61100, 61119)),
        (2, (62000, 62009)),
        (2, (1700, 1720)),
        (2, (20000, 20010)),
        (1, (62200, 62239)),
        (1, (1300, 1399)),
    ],
};

const FIREWALL_IN: Lengths = &[
    (45, (0, 32)),
    (20, (0, 30)),
    (8, (1, 32)),
    (4, (2, 32)),
    (10, (32, 32)),
    (3, (28, 30)),
];
const FIREWALL_OUT: Lengths = &[
    (55, (32, 0)),
    (20, (30, 0)),
    (6, (32, 1)),
    (3, (32, 2)),
    (8, (0, 32)),
    (5, (28, 28)),
];
const FIREWALL_HIGH: Lengths = &[
    (35, (32, 32)),
    (25, (0, 31)),
    (15, (32, 21)),
    (10, (31, 31)),
    (10, (1, 32)),
];
const FIREWALL_ALL: Lengths = &[
    (25, (32, 0)),
    (20, (28, 0)),
    (10, (26, 1)),
    (8, (31, 1)),
    (12, (32, 30)),
    (12, (31, 28)),
    (5, (27, 32)),
    (6, (0, 32)),
];

pub(super) const FIREWALL: Kind = Kind {
    protocols: &[(58, "tcp"), (30, "udp"), (5, "icmp"), (5, "gre"), (2, "")],
    tcp: &[
        (68, (All, One, FIREWALL_IN)),
        (22, (All, All, FIREWALL_ALL)),
        (10, (High, High, FIREWALL_HIGH)),
    ],
    udp: &[
        (45, (All, One, FIREWALL_IN)),
        (33, (One, All, FIREWALL_OUT)),
        (6, (One, High, FIREWALL_OUT)),
        (5, (High, One, FIREWALL_IN)),
        (6, (High, High, FIREWALL_HIGH)),
        (5, (One, One, FIREWALL_OUT)),
    ],
    others: FIREWALL_ALL,
    typed: 60,
    sources: &[
        (0, (80, 30)),
        (4, (15, 30)),
        (16, (20, 30)),
        (22, (50, 35)),
        (28, (60, 35)),
    ],
    destinations: &[
        (0, (90, 35)),
        (3, (5, 30)),
        (16, (20, 30)),
        (22, (40, 35)),
        (28, (60, 35)),
    ],
    ports: &[
        (10, 22),
        (10, 25),
        (9, 53),
        (9, 80),
        (6, 161),
        (5, 123),
        (5, 750),
        (5, 69),
        (4, 23),
        (4, 67),
        (4, 88),
        (3, 110),
        (3, 113),
        (3, 119),
        (3, 179),
        (3, 443),
        (3, 544),
        (3, 7648),
        (3, 24032),
        (2, 21),
        (2, 37),
        (2, 5999),
        (2, 162),
        (1, 137),
        (1, 139),
        (1, 143),
        (1, 754),
        (1, 871),
        (1, 879),
        (1, 2055),
        (1, 2105),
        (1, 2401),
        (1, 7326),
        (1, 8080),
    ],
    ranges: &[(1, (1024, 65535))],
};

const CHAINS_ONE: Lengths = &[
    (45, (32, 32)),
    (10, (31, 32)),
    (10, (25, 32)),
    (10, (24, 32)),
    (5, (32, 24)),
    (6, (26, 31)),
    (4, (23, 32)),
    (4, (0, 24)),
    (5, (24, 0)),
    (2, (22, 0)),
];
const CHAINS_FROM: Lengths = &[
    (30, (32, 25)),
    (20, (32, 32)),
    (15, (31, 26)),
    (15, (32, 27)),
    (10, (32, 24)),
    (10, (0, 24)),
];
const CHAINS_ALL: Lengths = &[
    (25, (24, 24)),
    (15, (25, 24)),
    (12, (23, 24)),
    (10, (24, 26)),
    (8, (22, 25)),
    (8, (32, 32)),
    (6, (26, 22)),
    (5, (16, 26)),
    (5, (27, 17)),
    (4, (17, 24)),
    (2, (32, 0)),
];

pub(super) const CHAINS: Kind = Kind {
    protocols: &[(30, "tcp"), (32, "udp"), (33, ""), (3, "icmp"), (2, "ah")],
    tcp: &[
        (62, (All, One, CHAINS_ONE)),
        (16, (One, All, CHAINS_FROM)),
        (8, (All, All, CHAINS_ALL)),
        (7, (One, One, CHAINS_ONE)),
        (4, (Range, All, CHAINS_FROM)),
        (3, (All, Range, CHAINS_ONE)),
    ],
    udp: &[
        (63, (All, One, CHAINS_ONE)),
        (20, (One, All, CHAINS_FROM)),
        (7, (One, One, CHAINS_ONE)),
        (4, (High, All, CHAINS_FROM)),
        (3, (All, High, CHAINS_ONE)),
        (3, (Range, All, CHAINS_FROM)),
    ],
    others: CHAINS_ALL,
    typed: 70,
    sources: &[
        (0, (75, 28)),
        (4, (40, 28)),
        (9, (15, 28)),
        (16, (25, 30)),
        (24, (35, 32)),
        (30, (60, 35)),
    ],
    destinations: &[
        (0, (75, 30)),
        (4, (40, 30)),
        (9, (12, 28)),
        (16, (20, 30)),
        (24, (30, 32)),
        (30, (50, 35)),
    ],
    ports: &[
        (16, 69),
        (13, 80),
        (11, 53),
        (10, 514),
        (10, 9003),
        (8, 161),
        (5, 25),
        (4, 1433),
        (4, 5540),
        (3, 5520),
        (3, 137),
        (3, 143),
        (2, 5550),
        (2, 5510),
        (2, 113),
        (2, 119),
        (2, 22),
        (2, 1645),
        (2, 6970),
        (1, 139),
        (1, 443),
        (1, 500),
        (1, 524),
        (1, 1214),
        (1, 1723),
        (1, 5631),
        (1, 6699),
        (1, 7777),
        (1, 8875),
        (1, 32774),
    ],
    ranges: &[
        (4, (20, 21)),
        (3, (20, 23)),
        (3, (109, 110)),
        (2, (1645, 1646)),
        (1, (5000, 5001)),
    ],
};

/// One rule, in ClassBench's terms.
#[derive(PartialEq, Eq, Hash)]
struct Filter {
    protocol: &'static str,
    source: (u32, u32),
    destination: (u32, u32),
    source_ports: (u16, u16),
    destination_ports: (u16, u16),
    icmp_type: Option<u8>,
}

/// The texts of `count` different rules of that kind, narrow ones first.
pub(super) fn rules(kind: &Kind, count: usize, random: &mut dyn Source) -> Vec<String> {
    let trees = (random.number(), random.number());
    let mut seen = HashSet::new();
    let mut filters: Vec<Filter> = Vec::new();
    let mut drawn = 0usize;
    while seen.len() < count {
        // What the trees of a small network have is used up at some time: it grows then.
        drawn += 1;
        let grown = (drawn / (4 * count).max(1000)) as u64;
        let filter = filter(kind, trees, grown, random);
        if seen.insert(filter.text()) {
            filters.push(filter);
        }
    }
    filters.sort_by_key(Filter::size);
    filters.iter().map(Filter::text).collect()
}

fn filter(kind: &Kind, trees: (u64, u64), grown: u64, random: &mut dyn Source) -> Filter {
    let protocol = random.weighted(kind.protocols);
    let (from, to, lengths) = match protocol {
        "tcp" => random.weighted(kind.tcp),
        "udp" => random.weighted(kind.udp),
        _ => (All, All, kind.others),
    };
    let (source, destination) = random.weighted(lengths);
    let source = blurred(source, random);
    let destination = blurred(destination, random);
    let types = [0, 3, 4, 5, 8, 11, 13, 15, 17];
    Filter {
        protocol,
        source: (
            address(kind.sources, trees.0, source, grown, random),
            source,
        ),
        destination: (
            address(kind.destinations, trees.1, destination, grown, random),
            destination,
        ),
        source_ports: ports(kind, from, random),
        destination_ports: ports(kind, to, random),
        icmp_type: (protocol == "icmp" && random.percent(kind.typed)).then(|| random.pick(&types)),
    }
}

/// A length near to `len`, mostly that one.
fn blurred(len: u32, random: &mut dyn Source) -> u32 {
    match len {
        0 => 0,
        _ => {
            len - random
                .weighted(&[(80, 0), (12, 1), (6, 2), (2, 3)])
                .min(len - 1)
        }
    }
}

/// The address of a prefix that long, from a tree: its nodes are made when they are met, each of the
/// bits that lead to it.
fn address(levels: Levels, tree: u64, len: u32, grown: u64, random: &mut dyn Source) -> u32 {
    let mut path = 0u32;
    for level in 0..len {
        let node = mixed(tree ^ mixed(u64::from(path) << 6 | u64::from(level)));
        let (splits, lighter) = levels
            .iter()
            .rev()
            .find(|(from, _)| *from <= level)
            .map_or((0, 0), |(_, values)| *values);
        let heavy = (node >> 32) & 1;
        let split = node % 100 < (splits + 5 * grown).min(100);
        let other = split && random.percent(lighter.max(5 * grown.min(10)));
        let bit = match (level, path >> 24) {
            // Neither multicast nor loopback, nor network 0: what hosts send.
            (2, 0xc0) | (7, 0x7e) => 0,
            (7, 0) => 1,
            _ => heavy ^ u64::from(other),
        };
        path |= (bit as u32) << (31 - level);
    }
    path
}

fn ports(kind: &Kind, ports: Ports, random: &mut dyn Source) -> (u16, u16) {
    match ports {
        All => (0, 65535),
        High => (1024, 65535),
        Range => random.weighted(kind.ranges),
        One => {
            let port = random.weighted(kind.ports);
            (port, port)
        }
    }
}

impl Filter {
    /// The logarithm of how many headers it covers, roughly.
    fn size(&self) -> u32 {
        let width = |(first, last): (u16, u16)| 32 - u32::from(last - first).leading_zeros();
        let protocol = match (self.protocol, self.icmp_type) {
            ("", _) => 8,
            ("icmp", None) => 8,
            _ => 0,
        };
        (32 - self.source.1)
            + (32 - self.destination.1)
            + width(self.source_ports)
            + width(self.destination_ports)
            + protocol
    }

    fn text(&self) -> String {
        let address = |key: &str, (address, len): (u32, u32)| match len {
            0 => String::new(),
            32 => format!(" {key}={}", std::net::Ipv4Addr::from(address)),
            _ => format!(" {key}={}", prefix4(address, len)),
        };
        let ports = |key: &str, (first, last): (u16, u16)| match (first, last) {
            (0, 65535) => String::new(),
            _ if first == last => format!(" {key}={first}"),
            _ => format!(" {key}={first}-{last}"),
        };
        let mut terms = address("src", self.source)
            + &address("dst", self.destination)
            + &ports("sport", self.source_ports)
            + &ports("dport", self.destination_ports);
        if let Some(icmp_type) = self.icmp_type {
            terms += &format!(" type={icmp_type}");
        }
        if self.protocol.is_empty() || terms.is_empty() {
            terms += " any";
        }
        // Without an address, that it is IPv4 has to be said.
        let family = if self.source.1 + self.destination.1 == 0 {
            "ip "
        } else {
            ""
        };
        format!("{family}{}{terms}", self.protocol)
            .trim_start()
            .to_string()
    }
}
