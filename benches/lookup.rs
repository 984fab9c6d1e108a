// SPDX-License-Identifier: GPL-2.0

//! How long a lookup takes on this machine, beside the same packets looked up in a hash map.
//!
//! ```sh
//! cargo bench --bench lookup
//! cargo bench --bench lookup -- acl/cold
//! ```
//!
//! `warm`: the same few packets over and over. `cold`: a burst of packets after the caches were
//! filled with other things, as in a machine that has more to do than to look at packets. The floor
//! is the hash map of the standard library, with one five-tuple a rule: as many as there are rules,
//! though they could not stand for prefixes or ranges.
//!
//! One CPU, cycles and caches as they are; for counts that are the same in every run see
//! `instructions`.

use std::{
    collections::HashMap,
    hint::black_box,
    time::{
        Duration,
        Instant, //
    }, //
};

use criterion::{
    Bencher,
    BenchmarkId,
    Criterion, //
};
use ctskip_pure::packet::header::{
    Key,
    Transport, //
};
use ctskip_testkit::{
    compiled::{
        look_up,
        Compiled, //
    },
    shapes::{
        trace::{
            self,
            Wanted, //
        },
        Shape, //
    },
    world::{
        self,
        lines,
        INIT_INUM, //
    },
};

const SHAPES: [(Shape, &str); 4] = [
    (Shape::Exact, "exact"),
    (Shape::Acl, "acl"),
    (Shape::Firewall, "firewall"),
    (Shape::NestedPairs, "nested-pairs"),
];
const RULES: [usize; 5] = [1, 16, 256, 4096, 65_536];

/// The packets that are looked up warm.
const FEW: usize = 64;
/// Those that come after the caches were filled.
const BURST: usize = 8;
/// More than the caches of one CPU hold, and what it shares.
const CACHES: usize = 64 << 20;

/// A packet as a hash map tells it from others.
type Tuple = (u128, u128, u8, u16, u16);

fn tuple(key: &Key) -> Tuple {
    let (source_port, destination_port) = match key.transport {
        Transport::Ports(source, destination) => (source, destination),
        Transport::IcmpType(icmp_type) => (icmp_type.into(), 0),
        Transport::Unknown => (0, 0),
    };
    let Key {
        source,
        destination,
        protocol,
        ..
    } = *key;
    (source, destination, protocol, source_port, destination_port)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    lookups(&mut criterion);
    criterion.final_summary();
}

fn lookups(criterion: &mut Criterion) {
    let mut other_things = vec![0u8; CACHES];
    for (shape, name) in SHAPES {
        let mut warm = criterion.benchmark_group(format!("{name}/warm"));
        warm.warm_up_time(Duration::from_millis(200));
        warm.measurement_time(Duration::from_millis(800));
        for rules in RULES {
            let case = Case::new(shape, rules);
            let view = case.compiled.view(INIT_INUM);
            for (what, keys) in [("match", &case.matching), ("miss", &case.missing)] {
                let few = &keys[..FEW];
                warm.bench_function(BenchmarkId::new(format!("ctskip {what}"), rules), |b| {
                    round(b, few, |key| look_up(view, key));
                });
                warm.bench_function(BenchmarkId::new(format!("hash map {what}"), rules), |b| {
                    round(b, few, |key| case.map.get(&tuple(key)).copied());
                });
            }
        }
        warm.finish();

        let mut cold = criterion.benchmark_group(format!("{name}/cold"));
        cold.sample_size(10);
        cold.warm_up_time(Duration::from_millis(200));
        cold.measurement_time(Duration::from_millis(1500));
        for rules in RULES {
            let case = Case::new(shape, rules);
            let view = case.compiled.view(INIT_INUM);
            for (what, keys) in [("match", &case.matching), ("miss", &case.missing)] {
                cold.bench_function(BenchmarkId::new(format!("ctskip {what}"), rules), |b| {
                    bursts(b, keys, &mut other_things, |key| look_up(view, key));
                });
                cold.bench_function(BenchmarkId::new(format!("hash map {what}"), rules), |b| {
                    bursts(b, keys, &mut other_things, |key| {
                        case.map.get(&tuple(key)).copied()
                    });
                });
            }
        }
        cold.finish();
    }
}

/// A table, packets that it matches and packets that it does not, and the hash map that does the same
/// for these packets.
struct Case {
    compiled: Compiled,
    matching: Vec<Key>,
    missing: Vec<Key>,
    map: HashMap<Tuple, u32>,
}

impl Case {
    fn new(shape: Shape, count: usize) -> Self {
        let compiled = Compiled::of_text(&lines(&shape.rules(count, 1)));
        let rules = world::rules(compiled.table());
        let packets =
            |wanted, len| trace::packets(&rules, wanted, false, len, 1).expect("no such packets");
        let len = count.max(4096);
        let matching = packets(Wanted::Match, len);
        let missing = packets(Wanted::Miss, 4096);
        let map = matching
            .iter()
            .map(tuple)
            .zip(0..)
            .take(count.max(FEW))
            .collect();
        Self {
            compiled,
            matching,
            missing,
            map,
        }
    }
}

/// One lookup after the other.
fn round(bencher: &mut Bencher<'_>, keys: &[Key], look_up: impl Fn(&Key) -> Option<u32>) {
    let mut keys = keys.iter().cycle();
    bencher.iter(|| {
        look_up(black_box(
            keys.next().unwrap_or_else(|| unreachable!("a cycle")),
        ))
    });
}

/// A burst of lookups, the caches filled with other things, the next burst: the mean of one lookup.
fn bursts(
    bencher: &mut Bencher<'_>,
    keys: &[Key],
    other_things: &mut [u8],
    look_up: impl Fn(&Key) -> Option<u32>,
) {
    let mut bursts = keys.chunks_exact(BURST).cycle();
    bencher.iter_custom(|lookups| {
        let rounds = lookups.div_ceil(BURST as u64);
        let mut time = Duration::ZERO;
        for _ in 0..rounds {
            for line in other_things.chunks_mut(64) {
                line[0] = line[0].wrapping_add(1);
            }
            black_box(&other_things);
            let burst = bursts.next().unwrap_or_default();
            let start = Instant::now();
            for key in burst {
                black_box(look_up(black_box(key)));
            }
            time += start.elapsed();
        }
        time.mul_f64(lookups as f64 / (rounds * BURST as u64) as f64)
    });
}
