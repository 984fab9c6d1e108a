// SPDX-License-Identifier: GPL-2.0

//! Compiled tables of every shape held against the oracle: a million packets for each, edits, and
//! memory that runs out.
//!
//! What is in a table is looked up with [`Reference`], which finds in tables of any size what the
//! oracle would, and is itself held against it here. An ordinary run has tables of up to 4,096
//! rules, `cargo test --release -- --ignored` the same number of packets with 65,536.

use ctskip_pure::{
    alloc::Arc,
    rule::Rule, //
};

use super::{
    common::failing_in_turn,
    shapes::{
        compiled::{
            self,
            changed,
            loaded,
            table,
            Compiled,
            Probe,
            Table, //
        },
        reference::Reference,
        trace::Trace,
        Random,
        Shape, //
    }, //
};

/// What the oracle says: going through all rules.
fn oracle(rules: &[&Rule], probe: &Probe) -> Option<usize> {
    rules.iter().position(|rule| compiled::matches(rule, probe))
}

/// Looks `packets` up that are within rules of the table or near to them, and counts those that
/// match. Every 64th one, the reference itself is held against the oracle.
fn hold_against_oracle(shape: Shape, rules: usize, packets: usize) -> usize {
    let seed = rules as u64;
    let compiled = Compiled::new(table(&shape.rules(rules, seed)));
    let rules = compiled::rules(compiled.table());
    let reference = Reference::new(&rules);
    let mut trace = Trace::new(seed);
    let mut matched = 0;
    for n in 0..packets {
        let probe = trace.near(&rules);
        let expected = reference.first_match(&probe);
        if n % 64 == 0 && rules.len() < 1000 {
            assert_eq!(expected, oracle(&rules, &probe), "the reference: {probe:?}");
        }
        assert_found(&compiled, &probe, expected);
        matched += usize::from(expected.is_some());
    }
    matched
}

#[track_caller]
fn assert_found(compiled: &Compiled, probe: &Probe, expected: Option<usize>) {
    let found = compiled.first_match(probe);
    if found != expected {
        let rules = compiled::rules(compiled.table());
        let text = |at: Option<usize>| at.map(|at| (at, rules[at].to_string()));
        panic!(
            "of {} rules, {:?} and not {:?} for {probe:?}",
            rules.len(),
            text(found),
            text(expected)
        );
    }
}

/// Of the million, how many packets for a table of so many rules.
const TABLES: [(usize, usize); 7] = [
    (1, 50_000),
    (2, 50_000),
    (7, 100_000),
    (40, 200_000),
    (300, 300_000),
    (1089, 200_000),
    (4096, 100_000),
];

fn a_million_packets(shape: Shape) {
    let matched: usize = TABLES
        .iter()
        .map(|(rules, packets)| hold_against_oracle(shape, *rules, *packets))
        .sum();
    // Neither all nor none, or else they are not worth much.
    let percent = matched / 10_000;
    assert!((30..99).contains(&percent), "{percent} % match");
}

/// Edits one after the other: what is made of the last compiled table says what the oracle says of the
/// new one.
fn edits(shape: Shape) {
    let random = &mut Random::new(7);
    for (count, edits, packets) in [(3, 100, 40), (150, 150, 80), (1500, 30, 400)] {
        let more = shape.rules(count, 6);
        let mut compiled = Compiled::new(table(&shape.rules(count, 5)));
        for _ in 0..edits {
            let Some(new) = edited(compiled.table(), &more, random) else {
                continue;
            };
            compiled = compiled.updated(new);
            let rules = compiled::rules(compiled.table());
            if rules.is_empty() {
                compiled = compiled.updated(table(&more));
                continue;
            }
            let reference = Reference::new(&rules);
            let mut trace = Trace::new(random.next());
            for _ in 0..packets {
                let probe = trace.near(&rules);
                assert_found(&compiled, &probe, reference.first_match(&probe));
            }
        }
    }
}

/// The table after one write, most often of one command; `None` where it changed nothing.
fn edited(base: &Table, more: &[String], random: &mut Random) -> Option<Table> {
    let ids: Vec<u32> = base.entries().iter().map(|entry| entry.id()).collect();
    let (one, two) = (
        ids[random.index(ids.len())],
        ids[random.index(ids.len())], //
    );
    let rule = &more[random.index(more.len())];
    let commands = match random.below(24) {
        0..6 => format!("delete {one}\n"),
        6..9 => format!("add {rule}\n"),
        9..12 => format!("insert {rule}\n"),
        12..16 => format!("insert before={one} {rule}\n"),
        16 if one != two => format!("delete {one}\ninsert before={two} {rule}\ndelete {two}\n"),
        17 => format!("insert {rule} tag=t\nadd {rule} tag=t\ninsert before={one} {rule} tag=t\n"),
        18 => format!("add {rule} tag=t\ndelete {one}\n"),
        19 if base
            .entries()
            .iter()
            .any(|entry| entry.rule().tag().is_some()) =>
        {
            "delete tag=t\n".to_string()
        }
        20 => "flush\n".to_string(),
        // Half of the rules stay, the order of all is another.
        21 => {
            let mut rules: Vec<String> = compiled::rules(base)
                .iter()
                .map(|r| r.to_string())
                .collect();
            rules.truncate(rules.len().div_ceil(2));
            rules.extend_from_slice(&more[..more.len() / 2]);
            rules.sort();
            return loaded(base, &(rules.join("\n") + "\n"));
        }
        22 => return loaded(base, &(more.join("\n") + "\n")),
        _ => format!("delete {one}\nadd {rule}\n"),
    };
    Some(changed(base, &commands))
}

/// Each allocation of a compile fails in its turn, and each of an update.
fn memory(shape: Shape) {
    let rules = shape.rules(40, 3);
    let first = Arc::new(table(&rules)).unwrap();
    let compiled = out_of_memory(|| Compiled::try_new(&first));
    let insert = format!("insert before=20 {}\n", rules[39]);
    let second = Arc::new(changed(&first, &insert)).unwrap();
    let updated = out_of_memory(|| compiled.try_updated(&second));
    for compiled in [&compiled, &updated] {
        let rules = compiled::rules(compiled.table());
        let mut trace = Trace::new(4);
        for _ in 0..500 {
            let probe = trace.near(&rules);
            assert_found(compiled, &probe, oracle(&rules, &probe));
        }
    }
}

/// What comes of it at last, after at least a few failures.
fn out_of_memory<T, E>(action: impl FnMut() -> Result<T, E>) -> T {
    let mut made = None;
    let count = failing_in_turn(action, |result| match result {
        Err(_) => false,
        Ok(result) => {
            made = Some(result);
            true
        }
    });
    assert!(count >= 2, "only {count} allocations");
    made.unwrap()
}

macro_rules! shapes {
    ($($name:ident: $shape:ident),* $(,)?) => {
        $(mod $name {
            use super::Shape;

            #[test]
            fn a_million_packets() {
                super::a_million_packets(Shape::$shape);
            }

            #[test]
            #[ignore = "takes minutes for all shapes"]
            fn a_million_packets_of_65536_rules() {
                assert!(super::hold_against_oracle(Shape::$shape, 65_536, 1_000_000) > 300_000);
            }

            #[test]
            fn edits() {
                super::edits(Shape::$shape);
            }

            #[test]
            fn memory() {
                super::memory(Shape::$shape);
            }
        })*

        /// No shape is forgotten.
        #[test]
        fn all_shapes() {
            let tested = [$(Shape::$shape),*];
            assert!(Shape::ALL.iter().all(|(shape, _)| tested.contains(shape)));
        }
    };
}

shapes! {
    exact: Exact,
    exact6: Exact6,
    acl: Acl,
    firewall: Firewall,
    chains: Chains,
    mixed: Mixed,
    pairs: Pairs,
    nested_pairs: NestedPairs,
    pairs6: Pairs6,
    nested_ports: NestedPorts,
    random_ports: RandomPorts,
    long_lists: LongLists,
    devices: Devices,
    marks: Marks,
    crossing: Crossing,
    classes: Classes,
    namespaces: Namespaces,
}
