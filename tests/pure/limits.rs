// SPDX-License-Identifier: GPL-2.0

//! A compile that is ended from outside, that takes too much memory, or too much work.

use std::{
    cell::Cell,
    net::Ipv4Addr, //
};

use ctskip_pure::{
    alloc::Arc,
    matcher::{
        limits::{
            Limits,
            Stop, //
        },
        purge::Purge,
        ruleset::Ruleset,
        shadow::Shadows, //
    },
    table::{
        listing::Shadow,
        selection::Selection, //
    },
};
use ctskip_testkit::{
    compiled::Compiled,
    shapes::Shape,
    source::{
        Random,
        Source, //
    },
    world::{
        changed,
        lines,
        run,
        table,
        World, //
    },
};

/// A caller that gives up when it was asked so often, and has so much memory.
struct Caller {
    asked: Cell<usize>,
    gives_up: usize,
    bytes: usize,
}

impl Caller {
    fn new(gives_up: usize, bytes: usize) -> Self {
        Self {
            asked: Cell::new(0),
            gives_up,
            bytes,
        }
    }
}

impl Limits for Caller {
    fn is_interrupted(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.asked.get() > self.gives_up
    }

    fn most_bytes(&self) -> usize {
        self.bytes
    }
}

#[test]
fn a_compile_ends_when_its_caller_gives_up() {
    let world = World::default();
    let table = Arc::new(table(&all_wide(64), &world)).unwrap();
    let patient = Caller::new(usize::MAX, usize::MAX);
    Ruleset::compile(table.clone(), &patient).unwrap();
    let asked = patient.asked.get();
    // Once for each kind of namespaces, and again and again while trees are built.
    assert!(asked > 20, "asked {asked} times");
    for gives_up in [0, 1, 2, 3, asked / 2, asked - 1] {
        let caller = Caller::new(gives_up, usize::MAX);
        let stopped = Ruleset::compile(table.clone(), &caller).err();
        assert_eq!(stopped, Some(Stop::Interrupted));
        // At once.
        assert_eq!(caller.asked.get(), gives_up + 1);
    }
    assert_eq!(world.live(), 64);
}

/// A caller is asked for each namespace, however few rules each has.
#[test]
fn a_compile_for_many_namespaces_ends_too() {
    let rule = |n: u64| format!("udp dport=53 netns={}", 4_026_532_000u64 + n % 40);
    let rules: Vec<String> = (0..400).map(rule).collect();
    let table = Arc::new(table(&lines(&rules), &World::default())).unwrap();
    let patient = Caller::new(usize::MAX, usize::MAX);
    Ruleset::compile(table, &patient).unwrap();
    assert!(patient.asked.get() >= 40);
}

#[test]
fn an_update_ends_when_its_caller_gives_up() {
    let world = World::default();
    let base = table(&lines(&Shape::Exact.rules(1000, 1)), &world);
    let base = Compiled::new(base);
    let new = changed(base.table(), "udp dport=53\n", &world);
    let new = Arc::new(new).unwrap();
    let caller = Caller::new(0, usize::MAX);
    let stopped = base.ruleset().updated(new.clone(), &caller).err();
    assert_eq!(stopped, Some(Stop::Interrupted));
    let caller = Caller::new(usize::MAX, usize::MAX);
    let updated = base.ruleset().updated(new, &caller).unwrap();
    assert!(!updated.is_whole());
}

#[test]
fn a_table_that_takes_too_much_memory_is_not_compiled() {
    let table = Arc::new(table(&all_wide(64), &World::default())).unwrap();
    let with = |bytes| Ruleset::compile(table.clone(), &Caller::new(usize::MAX, bytes)).err();
    assert_eq!(with(1 << 20), Some(Stop::TooLarge));
    assert_eq!(with(64 << 20), None);
}

/// A change that only takes rules out has all the memory that there is: it may be the way out.
#[test]
fn rules_can_be_deleted_from_a_table_that_takes_too_much_memory() {
    let world = World::default();
    let base = Compiled::new(table(&all_wide(64), &world));
    let update = |text: &str| {
        let change = run(base.table(), text, &world).ok().flatten().unwrap();
        let caller = Caller::new(usize::MAX, 1 << 20);
        base.ruleset().changed(change, &caller).err()
    };
    assert_eq!(update("delete 1\n"), None);
    assert_eq!(update("udp dport=53\n"), Some(Stop::TooLarge));
    assert_eq!(update("delete 1\nudp dport=53\n"), Some(Stop::TooLarge));
    // It still ends when its caller gives up.
    let change = run(base.table(), "delete 1\n", &world).ok().flatten();
    let caller = Caller::new(2, 1 << 20);
    let stopped = base.ruleset().changed(change.unwrap(), &caller).err();
    assert_eq!(stopped, Some(Stop::Interrupted));
}

/// What an entry does not tell, the parts of a purge go without: they are alike here. Each alone has room.
#[test]
fn the_parts_of_a_purge_share_the_memory() {
    let rules = all_wide(64);
    let plain = Arc::new(table(&rules, &World::default())).unwrap();
    let compiles = |bytes: &usize| {
        let caller = Caller::new(usize::MAX, *bytes);
        Ruleset::compile(plain.clone(), &caller).is_ok()
    };
    let bytes = (1..)
        .map(|n| n << 18)
        .find(compiles)
        .expect("enough for the rules");

    let marked = |action: &str| -> String {
        let rule = |rule: &str| format!("{action} {rule} mark=1\n");
        rules.lines().map(rule).collect()
    };
    let text = marked("track") + &marked("skip");
    let compiled = Compiled::of_text(&text);
    let purge = |gives_up, bytes| {
        let caller = Caller::new(gives_up, bytes);
        Purge::new(compiled.ruleset(), Selection::All, &caller).err()
    };
    assert_eq!(purge(usize::MAX, bytes), Some(Stop::PurgeTooLarge));
    assert_eq!(purge(usize::MAX, 1 << 20), Some(Stop::PurgeTooLarge));
    assert_eq!(purge(usize::MAX, 4 * bytes), None);
    assert_eq!(purge(3, 4 * bytes), Some(Stop::Interrupted));
}

/// The dearest rules are looked for all over a table, once, and no longer than the caller waits.
#[test]
fn a_search_for_the_dearest_rules_ends_too() {
    let dear = Compiled::of_text(&all_wide(160));
    let patient = Caller::new(usize::MAX, usize::MAX);
    let found = dear.ruleset().dearest(&patient).unwrap();
    let asked = patient.asked.get();
    assert!((100..200).contains(&asked), "asked {asked} times");
    let none = Compiled::of_text("");
    for gives_up in [0, 1, asked - 1] {
        let caller = Caller::new(gives_up, usize::MAX);
        let most = found.cost - 1;
        let stopped = dear.ruleset().too_dear(none.ruleset(), most, &caller);
        assert_eq!(stopped, Err(Stop::Interrupted));
        assert_eq!(caller.asked.get(), gives_up + 1);
    }
}

/// By a dear table, each lookup takes long: no more are made than there is work for, and none once the caller
/// gives up.
#[test]
fn a_search_for_shadowed_rules_ends_too() {
    let cheap = lines(&Shape::Exact.rules(20_000, 1));
    let compiled = Compiled::of_text(&(cheap + &all_wide(160)));
    let ruleset = compiled.ruleset();
    let patient = Caller::new(usize::MAX, usize::MAX);
    let shadows = Shadows::of(ruleset, &patient).unwrap();
    let asked = patient.asked.get();
    let looked_at = 20_160 - shadows.unknown();
    assert!(shadows.known().all(|at| at < looked_at));
    assert_ne!(shadows.at(looked_at - 1), Shadow::Unknown);
    assert_eq!(shadows.at(looked_at), Shadow::Unknown);
    assert!(looked_at * ruleset.worst_cost() <= 1 << 31);
    assert!(asked > 1000, "asked {asked} times");
    for gives_up in [0, 1, asked / 2, asked - 1] {
        let caller = Caller::new(gives_up, usize::MAX);
        assert_eq!(Shadows::of(ruleset, &caller), Err(Stop::Interrupted));
        assert_eq!(caller.asked.get(), gives_up + 1);
    }

    // A rule in front, which none of the others is held against alone.
    let next = changed(compiled.table(), "insert udp dport=53\n", &World::default());
    let next = compiled.updated(next);
    let caller = Caller::new(3, usize::MAX);
    let since = Shadows::since(next.ruleset(), ruleset, &caller);
    assert_eq!(since, Err(Stop::Interrupted));
}

/// The bound of the module is beyond what large tables take that cost packets little.
#[test]
fn large_tables_have_the_memory_that_they_take() {
    struct Module;

    impl Limits for Module {
        fn is_interrupted(&self) -> bool {
            false
        }
    }

    for shape in [Shape::Acl, Shape::Pairs, Shape::RandomPorts] {
        let text = lines(&shape.rules(16_384, 1));
        let table = Arc::new(table(&text, &World::default())).unwrap();
        assert!(Ruleset::compile(table, &Module).is_ok());
    }
}

/// A rule of lists of short prefixes and wide ranges.
fn wide(random: &mut dyn Source) -> String {
    let mut prefixes = |count| {
        let mut list: Vec<String> = (0..count)
            .map(|_| {
                let len = 2 + random.below(8) as u32;
                let address = random.number() as u32 & u32::MAX << (32 - len);
                format!("{}/{len}", Ipv4Addr::from(address))
            })
            .collect();
        list.sort();
        list.dedup();
        list.join(",")
    };
    let (sources, destinations) = (prefixes(16), prefixes(8));
    let ports: Vec<String> = (0..8)
        .map(|_| {
            let first = random.below(25_000);
            format!("{first}-{}", first + random.below(40_000))
        })
        .collect();
    format!(
        "tcp src={sources} dst={destinations} dport={}",
        ports.join(",")
    )
}

fn all_wide(count: usize) -> String {
    let random: &mut dyn Source = &mut Random::new(1);
    let rules: Vec<String> = (0..count).map(|_| wide(random)).collect();
    lines(&rules)
}

/// Rules that take more work than there is: each part of a tree has its share, so that none is one long
/// list.
#[test]
fn work_is_shared_within_a_tree() {
    let worst = Compiled::of_text(&all_wide(160)).ruleset().worst_cost();
    assert!(worst < 250_000, "{worst} instructions");
}

/// The last group of rules has its share of the work, too: here, it was one list of 60 million
/// instructions.
#[test]
#[ignore = "takes a minute"]
fn work_is_shared_among_trees() {
    let rules = Shape::LongLists.rules(65_536, 1);
    let worst = Compiled::of_text(&lines(&rules)).ruleset().worst_cost();
    assert!(worst < 1_000_000, "{worst} instructions");
}
