// SPDX-License-Identifier: GPL-2.0

//! The lines of the listings, and where they start.

use std::collections::BTreeSet;

use ctskip_pure::table::{
    listing::{
        counter_lines,
        CounterLine,
        Counts,
        Listing,
        Offsets,
        RuleLine,
        Shadow,
        Tags, //
    },
    Entry,
    Table, //
};
use ctskip_testkit::{
    rules::{
        Kind,
        Spec,
        Style, //
    },
    source::proptest::made,
    world::{
        table,
        Slot,
        World, //
    }, //
};
use proptest::{
    collection::vec,
    prelude::*, //
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The lengths of lines are known without writing them, whatever the counts are that there is room for.
    #[test]
    fn lines_are_as_long_as_said(
        specs in vec(made(160, |source| Spec::make(source, Kind::Any(3))), 1..4),
        ids in vec(prop_oneof![1..20u32, any::<u32>()], 4),
        numbers in vec((numbers(), numbers(), numbers(), numbers()), 4),
    ) {
        let world = World::default();
        let mut given = BTreeSet::from([0]);
        let mut text = String::new();
        for (spec, mut id) in specs.iter().zip(ids) {
            while !given.insert(id) {
                id = id.wrapping_add(1);
            }
            text += &format!("{} id={id}\n", spec.text(&Style::plain()));
        }
        let table = table(&text, &world);
        let counts = numbers.into_iter().map(|(packets, bytes, held, observed)| Counts { packets, bytes, held, observed });
        let shadows = [Shadow::None, Shadow::By(1), Shadow::Unknown, Shadow::By(u32::MAX)];
        for ((entry, counts), shadow) in table.entries().iter().zip(counts.clone()).zip(shadows) {
            check_lines(entry, counts, shadow);
        }
        check_listing(&table, counts.collect(), shadows);
    }

    /// There is room for any counts, and it is of few sizes.
    #[test]
    fn there_is_room(packets in numbers(), bytes in numbers(), held in numbers(), observed in numbers()) {
        let counts = Counts { packets, bytes, held, observed };
        let (room, digits) = (counts.room(), counts.digits());
        prop_assert!(room >= digits && room < digits.max(24) + 8);
        prop_assert!(room >= 24 && room % 8 == 0);
    }

    /// A line at or ahead of any offset is found, and less than a step ahead of it.
    #[test]
    fn offsets_are_sums_of_lengths(
        lengths in vec(1..500usize, 0..400),
        offset in 0..120_000u64,
        more in 0..90usize,
    ) {
        let offsets = offsets_of(&lengths);
        let (line, start) = offsets.line_before(offset, more);
        let sum = |count: usize| lengths[..count].iter().map(|len| (*len + more) as u64).sum::<u64>();
        prop_assert!(line <= lengths.len());
        prop_assert_eq!(start, sum(line));
        prop_assert!(start <= offset);
        for step in (0..lengths.len()).step_by(64) {
            prop_assert_eq!(offsets.line_before(sum(step), more), (step, sum(step)));
        }
        // The wanted line is one of the next ones.
        let wanted = (0..lengths.len()).take_while(|i| sum(*i) <= offset).last().unwrap_or(0);
        prop_assert!((line..line + 64).contains(&wanted), "{} {}", line, wanted);
    }
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..12u64,
        any::<u64>(),
        Just(u64::MAX),
        (0..20u32).prop_map(|digits| 10u64.pow(digits)),
        (1..20u32).prop_map(|digits| 10u64.pow(digits) - 1),
    ]
}

fn offsets_of(lengths: &[usize]) -> Offsets {
    let mut offsets = Offsets::new(lengths.len()).unwrap();
    for len in lengths {
        offsets.push(*len).unwrap();
    }
    offsets
}

/// The lengths of a table's lines are known, whatever the counts are.
fn check_listing(table: &Table<Slot>, counts: Vec<Counts>, shadows: [Shadow; 4]) {
    let listing = Listing::new(table).unwrap();
    let rules: Vec<_> = table
        .entries()
        .iter()
        .map(|entry| RuleLine(entry).to_string().len())
        .collect();
    assert_eq!(*listing.rule_lines(), offsets_of(&rules));
    let lines = table.entries().iter().zip(counts).zip(shadows);
    let counters: Vec<_> = lines
        .map(|((entry, counts), shadow)| counter_line(entry, counts, shadow, 80).len() - 80)
        .collect();
    let places = counter_lines(table, |position| shadows[position]).unwrap();
    assert_eq!(places, offsets_of(&counters));
}

fn counter_line(entry: &Entry<Slot>, counts: Counts, shadow: Shadow, room: usize) -> String {
    let line = CounterLine {
        entry,
        counts,
        shadow,
        room,
    };
    line.to_string()
}

fn check_lines(entry: &Entry<Slot>, counts: Counts, shadow: Shadow) {
    let text = entry.rule().to_string();
    let line = RuleLine(entry).to_string();
    assert_eq!(line, format!("{text} id={}\n", entry.id()));

    let line = counter_line(entry, counts, shadow, 80);
    let of_nothing = counter_line(entry, Counts::default(), shadow, 80);
    assert_eq!(line.len(), of_nothing.len());
    // No blank stands there for nothing.
    let exact = counter_line(entry, counts, shadow, counts.digits());
    assert_eq!(exact.len(), line.len() - (80 - counts.digits()));
    assert!(!exact.contains("  "));
    assert_eq!(line.matches('\n').count(), 1);
    // The fields are told apart by blanks; the rule is what stands between the quotes.
    let (fields, rule) = line.split_once(" rule=\"").unwrap();
    assert_eq!(rule, format!("{text}\"\n"));
    let tag = entry.rule().tag().unwrap_or("");
    let shadowed = match shadow {
        Shadow::None => String::new(),
        Shadow::By(id) => format!(" shadowed_by={id}"),
        Shadow::Unknown => " shadowed_by=?".to_string(),
    };
    let expected = format!(
        "id={} packets={} bytes={} held={} observed={} tag={tag}{shadowed}",
        entry.id(),
        counts.packets,
        counts.bytes,
        counts.held,
        counts.observed
    );
    assert_eq!(
        fields.split_whitespace().collect::<Vec<_>>().join(" "),
        expected
    );
}

/// A line fits most terminals: of a rule that has counted 100 million packets, too.
#[test]
fn lines_of_counters() {
    let world = World::default();
    let table = table("udp dst=192.0.2.53 dport=53 tag=dns\n", &world);
    let entry = &table.entries()[0];
    let line = |packets, room| {
        let counts = Counts {
            packets,
            bytes: 2,
            held: 3,
            observed: 4,
        };
        counter_line(entry, counts, Shadow::None, room)
    };
    let many = Counts {
        packets: 100_000_000,
        bytes: 150_000_000_000,
        ..Counts::default()
    };
    assert_eq!(many.room(), Counts::default().room());
    let expected = format!(
        "id=1 packets=1 bytes=2 held=3 observed=4 tag=dns {}rule=\"skip udp dst=192.0.2.53 dport=53 tag=dns\"\n",
        " ".repeat(20)
    );
    assert_eq!(line(1, many.room()), expected);
    assert!(expected.len() <= 120);
    assert_eq!(line(u64::MAX, 80).len(), line(0, 80).len());
    let document = include_str!("../../docs/files.md");
    let example = document
        .lines()
        .find(|line| line.starts_with("    id=1 packets="));
    let shown = line(1, 4)
        .replace("bytes=2", "bytes=260")
        .replace("packets=1", "packets=4");
    let shown = shown
        .replace("held=3", "held=0")
        .replace("observed=4", "observed=0");
    assert_eq!(example.map(str::trim), Some(shown.trim_end()));
}

/// The lines of `tags`, one behind the other, at the places that are said.
fn tags(text: &str) -> String {
    let table = table(text, &World::default());
    let tags = Tags::new(&table).unwrap();
    let mut lengths = Vec::new();
    let lines = (0..).map_while(|at| Some(tags.line(at, &table)?.to_string()));
    let text = lines.inspect(|line| lengths.push(line.len())).collect();
    assert_eq!(*tags.lines(), offsets_of(&lengths));
    text
}

/// A tag's sum is that of a table of its rules alone, without their ids.
#[test]
fn sums_of_tags() {
    let sum = |text: &str| Listing::new(&table(text, &World::default())).unwrap().sum();
    let all = "udp dport=3 tag=web\nudp dport=1 tag=dns\nudp dport=4\nudp dport=2 tag=dns\n";
    let dns = sum("udp dport=1 tag=dns id=9\nudp dport=2 tag=dns\n");
    let web = sum("udp dport=3 tag=web\n");
    let none = sum("udp dport=4\n");
    let expected = format!(
        "tag= rules=1 sum={none:016x}\ntag=dns rules=2 sum={dns:016x}\ntag=web rules=1 sum={web:016x}\n"
    );
    assert_eq!(tags(all), expected);
    assert_ne!(dns, sum("udp dport=2 tag=dns\nudp dport=1 tag=dns\n"));
    assert_eq!(tags(""), "");
    assert_eq!(
        tags("udp dport=4\n"),
        format!("tag= rules=1 sum={none:016x}\n")
    );
    // As many tags as rules.
    let many = (0..300).rev().fold(String::new(), |text, n| {
        text + &format!("udp any tag=t{n:03}\n")
    });
    let many = tags(&many);
    let names: Vec<_> = many
        .lines()
        .map(|line| line.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(names.len(), 300);
    assert!(names.is_sorted());
}

#[test]
fn offsets_of_nothing() {
    let offsets = offsets_of(&[]);
    assert_eq!(offsets.line_before(0, 9), (0, 0));
    assert_eq!(offsets.line_before(u64::MAX, 9), (0, 0));
}
