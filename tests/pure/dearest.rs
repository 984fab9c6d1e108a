// SPDX-License-Identifier: GPL-2.0

//! Which tables are refused as packets would cost too much, and the rules that are named then.

use ctskip_pure::{
    alloc::Arc,
    matcher::{
        dearest::Dearest,
        ruleset::Ruleset, //
    },
};
use ctskip_testkit::{
    shapes::Shape,
    world::{
        changed,
        failing_in_turn,
        lines,
        table,
        Slot,
        Table,
        Unlimited,
        World, //
    },
};

/// The bound that the module has by itself.
const MOST: usize = 8192;

fn compiled(table: Table) -> Ruleset<Slot> {
    Ruleset::compile(Arc::new(table).unwrap(), &Unlimited).unwrap()
}

fn of_text(text: &str) -> Ruleset<Slot> {
    compiled(table(text, &World::default()))
}

fn dear() -> Ruleset<Slot> {
    of_text(&lines(&Shape::LongLists.rules(512, 1)))
}

fn refused(ruleset: &Ruleset<Slot>, last: &Ruleset<Slot>) -> Option<Dearest> {
    ruleset.too_dear(last, MOST, &Unlimited).unwrap()
}

/// So many rules of marks, each under a mask of its own.
fn marks(count: usize, netns: &str) -> String {
    let mask = |n: usize| 1u32 << (n % 30) | 1 << 31 | 1 << (n / 30);
    let rule = |n| format!("udp mark={0:#x}/{0:#x}{netns}\n", mask(n));
    (0..count).map(rule).collect()
}

#[test]
fn a_dear_table_is_refused_behind_a_cheap_one() {
    let (none, dear) = (of_text(""), dear());
    assert!(dear.worst_cost() > MOST);
    let why = refused(&dear, &none).expect("refused");
    assert_eq!(why.cost, dear.worst_cost());
    assert!(dear
        .too_dear(&none, usize::MAX, &Unlimited)
        .unwrap()
        .is_none());
    assert!(dear
        .too_dear(&none, why.cost, &Unlimited)
        .unwrap()
        .is_none());
    assert!(dear
        .too_dear(&none, why.cost - 1, &Unlimited)
        .unwrap()
        .is_some());
}

#[test]
fn a_table_no_dearer_than_the_last_is_not_refused() {
    let dear = dear();
    assert!(refused(&dear, &dear).is_none());
    let cheap = of_text(&lines(&Shape::Exact.rules(1000, 1)));
    assert!(refused(&cheap, &dear).is_none());
    assert!(refused(&cheap, &of_text("")).is_none());
    // One rule less, of few more.
    let world = World::default();
    let base = table(&lines(&Shape::LongLists.rules(600, 1)), &world);
    let last = compiled(table(&lines(&Shape::LongLists.rules(600, 1)), &world));
    let next = compiled(changed(&base, "delete 300\n", &world));
    assert!(refused(&next, &last).is_none());
    // A rule more.
    let more = changed(&base, &marks(40, ""), &world);
    assert!(refused(&compiled(more), &last).is_some());
}

#[test]
fn the_rules_that_make_it_so_are_named() {
    let cheap = lines(&Shape::Exact.rules(300, 1));
    let dear = lines(&Shape::LongLists.rules(512, 1));
    let ruleset = of_text(&format!("{cheap}{dear}"));
    let why = ruleset.dearest(&Unlimited).unwrap();
    assert_eq!(why.cost, ruleset.worst_cost());
    let ids: Vec<u32> = why.ids().collect();
    assert_eq!(ids.len(), 6);
    assert!(ids.iter().all(|id| *id > 300), "{ids:?}");
    let shown = why.to_string();
    let start = format!(
        "{} instructions for ip in netns init, to compare a packet with rules {},{}",
        why.cost, ids[0], ids[1]
    );
    assert!(shown.starts_with(&start), "{shown}");
    assert!(shown.ends_with(" more"), "{shown}");
    assert!(shown.len() <= 160, "{shown}");
}

#[test]
fn the_namespaces_and_the_family_are_named() {
    for (netns, shown) in [
        (" netns=4026532001", "netns 4026532001,"),
        (" netns!=init", "netns other than init,"),
        (" netns=init", "netns init,"),
    ] {
        let ruleset = of_text(&format!("udp dport=53\n{}", marks(100, netns)));
        let why = ruleset.dearest(&Unlimited).unwrap().to_string();
        assert!(why.contains(shown), "{why}");
        assert!(why.contains(" for ip in "), "{why}");
    }
    let rule = |n: u32| {
        format!(
            "ip6 udp mark={0:#x}/{0:#x}",
            3u32 << (n % 31) | 1 << (n / 31)
        )
    };
    let rules: Vec<String> = (0..100).map(rule).collect();
    let why = of_text(&lines(&rules))
        .dearest(&Unlimited)
        .unwrap()
        .to_string();
    assert!(why.contains(" for ip6 in netns init,"), "{why}");
}

/// Rules that were deleted since all were compiled are not named, those that were added are.
#[test]
fn rules_added_and_deleted_since() {
    let world = World::default();
    let text = format!("{}{}", lines(&Shape::Exact.rules(600, 1)), marks(3, ""));
    let base = table(&text, &world);
    let last = compiled(table(&text, &world));
    let text = format!("delete 601\ndelete 602\n{}", marks(3, ""));
    let next = Arc::new(changed(&base, &text, &world)).unwrap();
    let next = last.updated(next, &Unlimited).unwrap();
    let mut ids: Vec<u32> = next.dearest(&Unlimited).unwrap().ids().collect();
    ids.retain(|id| *id > 600);
    ids.sort();
    assert!(!ids.is_empty() && ids[0] >= 603, "{ids:?}");
    assert!(ids.last().is_some_and(|id| *id >= 604), "{ids:?}");
}

#[test]
fn a_table_of_no_rules_has_none_to_name() {
    let why = of_text("").dearest(&Unlimited).unwrap();
    assert_eq!(why.ids().count(), 0);
}

#[test]
fn without_memory() {
    let dear = dear();
    assert!(failing_in_turn(|| dear.dearest(&Unlimited), |result| result.is_ok()) >= 3);
}
