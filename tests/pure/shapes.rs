// SPDX-License-Identifier: GPL-2.0

//! Compiled tables of every shape held against the oracle: a million packets for each, edits, and
//! memory that runs out.
//!
//! What is in a table is looked up with [`Reference`], which finds in tables of any size what the
//! oracle would, and is itself held against it here. An ordinary run has tables of up to 4,096
//! rules, `cargo test --release -- --ignored` the same number of packets with 65,536.

use ctskip_pure::{
    alloc::Arc,
    rule::FixedField, //
};
use ctskip_testkit::{
    compiled::{
        first_match,
        Compiled, //
    },
    packets::{
        near,
        Probe, //
    },
    reference::Reference,
    shapes::{
        trace::trace,
        Shape, //
    },
    source::{
        mixed,
        Random,
        Source, //
    },
    world::{
        self,
        changed,
        failing_in_turn,
        lines,
        loaded,
        table,
        Table,
        World, //
    }, //
};

/// Looks `packets` up that are within rules of the table or near to them, and counts those that
/// match. Every 64th one, the reference itself is held against the oracle.
fn hold_against_oracle(shape: Shape, rules: usize, packets: usize) -> usize {
    let seed = rules as u64;
    let compiled = Compiled::of_text(&lines(&shape.rules(rules, seed)));
    let rules = world::rules(compiled.table());
    let reference = Reference::new(&rules);
    let trace: &mut dyn Source = &mut trace(seed);
    let mut matched = 0;
    for n in 0..packets {
        let probe = near(trace, &rules);
        let expected = reference.first_match(&probe);
        if n % 64 == 0 && rules.len() < 1000 {
            assert_eq!(
                expected,
                first_match(rules.iter().copied(), &probe),
                "the reference: {probe:?}"
            );
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
        let rules = world::rules(compiled.table());
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
    let world = World::default();
    // Few rules and many, with commands that replace the table among others, and without.
    for (count, edits, packets, commands) in [
        (3, 100, 40, ALL_COMMANDS),
        (150, 100, 80, ALL_COMMANDS),
        (150, 300, 60, SMALL_COMMANDS),
        (1500, 60, 200, SMALL_COMMANDS),
    ] {
        let random: &mut dyn Source = &mut Random::new(7);
        let more = shape.rules(count, 6);
        let mut compiled = Compiled::new(table(&lines(&shape.rules(count, 5)), &world));
        for _ in 0..edits {
            if compiled.table().entries().is_empty() {
                compiled = compiled.updated(table(&lines(&more), &world));
            }
            let command = random.below(commands);
            if let Some(new) = edited(compiled.table(), &more, command, random, &world) {
                compiled = compiled.updated(new);
                hold_edited(&compiled, packets, random);
            }
        }
    }
}

/// Tables of the same rules, some of them moved and some left out, one after the other: what moves
/// back is where it was compiled, what hid others may go and they move.
fn orders(shape: Shape) {
    let world = World::default();
    let random: &mut dyn Source = &mut Random::new(11);
    let mut rules = shape.rules(700, 5);
    let mut compiled = Compiled::new(table(&lines(&rules), &world));
    for round in 0..24 {
        if round % 3 == 0 {
            rules.remove(random.index(rules.len()));
        }
        let mut moved = rules.clone();
        if round % 2 == 0 {
            for _ in 0..4 {
                let at = random.index(moved.len() - 1);
                moved.swap(at, at + 1);
            }
        }
        let new = loaded(compiled.table(), &lines(&moved), &world);
        compiled = compiled.updated(new.expect("a table"));
        hold_edited(&compiled, 400, random);
    }
}

fn hold_edited(compiled: &Compiled, packets: usize, random: &mut dyn Source) {
    let rules = world::rules(compiled.table());
    if rules.is_empty() {
        return;
    }
    let reference = Reference::new(&rules);
    let trace: &mut dyn Source = &mut trace(random.number());
    for _ in 0..packets {
        let probe = near(trace, &rules);
        assert_found(compiled, &probe, reference.first_match(&probe));
    }
}

/// More rules than there were go in at one place, each ahead of that before or behind it; then all
/// go out, one by one.
fn edits_at_one_place(shape: Shape) {
    let world = World::default();
    let random: &mut dyn Source = &mut Random::new(8);
    let more = shape.rules(700, 9);
    let mut compiled = Compiled::new(table(&lines(&shape.rules(100, 5)), &world));
    let mut place = 50;
    for (n, rule) in more.iter().enumerate() {
        let new = changed(
            compiled.table(),
            &format!("insert before={place} {rule}\n"),
            &world,
        );
        compiled = compiled.updated(new);
        if n % 3 == 0 {
            place = compiled
                .table()
                .entries()
                .iter()
                .map(|e| e.id())
                .max()
                .unwrap();
        }
        if n % 20 == 0 {
            hold_edited(&compiled, 40, random);
        }
    }
    while !compiled.table().entries().is_empty() {
        let entries = compiled.table().entries();
        let delete = format!("delete {}\n", entries[random.index(entries.len())].id());
        compiled = compiled.updated(changed(compiled.table(), &delete, &world));
        if compiled.table().entries().len() % 20 == 0 {
            hold_edited(&compiled, 40, random);
        }
    }
}

/// How many commands [`edited`] knows that change a few rules, and how many in all.
const SMALL_COMMANDS: u64 = 20;
const ALL_COMMANDS: u64 = 24;

/// The table after one write; `None` where it changed nothing.
fn edited(
    base: &Table,
    more: &[String],
    command: u64,
    random: &mut dyn Source,
    world: &World,
) -> Option<Table> {
    let entries = base.entries();
    let one = entries[random.index(entries.len())].id();
    let two = entries[random.index(entries.len())].id();
    let rule = &more[random.index(more.len())];
    let tagged = entries.iter().any(|entry| entry.rule().tag().is_some());
    let commands = match command {
        0..6 => format!("delete {one}\n"),
        6..9 => format!("add {rule}\n"),
        9..12 => format!("insert {rule}\n"),
        12..16 => format!("insert before={one} {rule}\n"),
        16 if one != two => format!("delete {one}\ninsert before={two} {rule}\ndelete {two}\n"),
        17 => format!("insert {rule} tag=t\nadd {rule} tag=t\ninsert before={one} {rule} tag=t\n"),
        18 if tagged => "delete tag=t\n".to_string(),
        16..20 => format!("delete {one}\nadd {rule} tag=t\n"),
        20 => "flush\n".to_string(),
        21 => return loaded(base, &lines(more), world),
        // Half of the rules stay, and the order of all is another.
        _ => {
            let half = entries.len().div_ceil(2);
            let stay = entries[..half].iter().map(|entry| entry.rule().to_string());
            let mut rules: Vec<String> = stay.chain(more[..more.len() / 2].to_vec()).collect();
            rules.sort();
            return loaded(base, &lines(&rules), world);
        }
    };
    Some(changed(base, &commands, world))
}

/// What a packet costs at worst, as the matcher estimates it: 4,096 rules one by one would be over
/// 100,000 instructions.
fn worst(shape: Shape) {
    let compiled = Compiled::of_text(&lines(&shape.rules(4096, 1)));
    let most = match shape {
        Shape::LongLists => 50_000,
        Shape::Mixed => 20_000,
        _ => 6_000,
    };
    let worst = compiled.ruleset().worst_cost();
    assert!(worst < most, "{worst} instructions");
}

/// Each allocation of a compile fails in its turn, and each of an update.
fn memory(shape: Shape) {
    let world = World::default();
    let rules = shape.rules(40, 3);
    let first = Arc::new(table(&lines(&rules), &world)).unwrap();
    let compiled = out_of_memory(|| Compiled::try_new(&first));

    // Of more rules, not all are compiled again.
    let rules = shape.rules(700, 3);
    let base = Compiled::new(table(&lines(&rules), &world));
    let edits = format!("delete 690\ninsert before=20 {}\n", rules[39]);
    let second = Arc::new(changed(base.table(), &edits, &world)).unwrap();
    let updated = out_of_memory(|| base.try_updated(&second));
    assert!(!updated.ruleset().is_whole());
    for compiled in [&compiled, &updated] {
        let rules = world::rules(compiled.table());
        let trace: &mut dyn Source = &mut trace(4);
        for _ in 0..500 {
            let probe = near(trace, &rules);
            assert_found(compiled, &probe, first_match(rules.iter().copied(), &probe));
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

/// What a seed makes does not change: recorded figures depend on the rules and packets of shapes.
#[test]
fn rules_and_packets_of_a_seed() {
    const EXPECTED: [u64; 17] = [
        0xe3e4_93f3_f387_83c6,
        0x2395_4700_a473_8314,
        0x8555_fe50_5fa3_9cc9,
        0x08a6_dc76_1071_779f,
        0x2931_a4d9_306e_5287,
        0xe9a7_8000_b4e9_8deb,
        0xda4b_62cc_9c1c_b988,
        0x6800_a8bb_853f_27e4,
        0x57c3_824a_2bcf_8993,
        0xa778_186b_b9e9_9e6e,
        0xf69c_c439_61e3_ee2d,
        0xef2e_0c5f_fc20_e450,
        0x335b_5969_c584_4dec,
        0x348d_0dc6_d152_ac80,
        0x09e6_6038_3902_7ed2,
        0xe7a4_aaf7_a2b8_7400,
        0xbdcc_8f95_4040_881a,
    ];

    let digest = |last: u64, text: String| text.bytes().fold(last, |h, b| mixed(h ^ u64::from(b)));
    let made = Shape::ALL.map(|(shape, _)| {
        let text = lines(&shape.rules(300, 1));
        let table = table(&text, &World::default());
        let rules = world::rules(&table);
        let trace: &mut dyn Source = &mut trace(1);
        (0..1000).fold(digest(1, text), |last, _| {
            let Probe { netns, key } = near(trace, &rules);
            let ends = (key.source, key.destination, key.transport, key.error);
            let mark = key.fixed.get(FixedField::MARK).unwrap_or(0);
            let rest = (key.family, key.protocol, key.device, mark);
            digest(last, format!("{netns} {ends:?} {rest:?}"))
        })
    });
    assert_eq!(made, EXPECTED, "{made:#018x?}");
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
            fn orders() {
                super::orders(Shape::$shape);
            }

            #[test]
            fn edits_at_one_place() {
                super::edits_at_one_place(Shape::$shape);
            }

            #[test]
            fn worst() {
                super::worst(Shape::$shape);
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
