// SPDX-License-Identifier: GPL-2.0

//! What is shown: reports with their line and caret, lines of the listings and where they start,
//! and how text is cut into statements.

use std::collections::BTreeSet;

use ctskip_pure::{
    language::{
        refusal::Refusal,
        report::Report,
        text::{
            statements,
            without_comment,
            Word, //
        },
    },
    table::{
        listing::{
            CounterLine,
            Counts,
            Listing,
            Offsets,
            RuleLine, //
        },
        show::{
            AverageChain,
            LastError,
            NetnsLine,
            RulesHead,
            StatsLine, //
        },
        Entry,
        Table,
        MAX_RULES, //
    },
};
use proptest::{
    collection::vec,
    prelude::*, //
};

use super::{
    common::{
        run,
        table,
        Counted,
        Slot, //
    },
    specs::{
        spec_lists,
        Style, //
    }, //
};

/// The most of a line that a report shows.
const EXCERPT: usize = 160;

fn report(column: usize, text: &[u8]) -> Report {
    Report::new(Refusal::invalid(column, "what", "expected"), 7, text)
}

/// The lines of a report.
fn fields(report: &Report) -> Vec<String> {
    report.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn reports_show_the_line_with_a_caret() {
    let shown = report(4, b"udp frob any\n");
    assert_eq!(
        (shown.line(), shown.column(), shown.excerpt()),
        (7, 5, "udp frob any")
    );
    assert_eq!(
        shown.to_string(),
        "error=what\nexpected=expected\nlikely=\ntext=udp frob any\nhere=    ^\n"
    );
    // Behind the end of the line, where something is missing.
    assert_eq!(fields(&report(3, b"add"))[3..], ["text=add", "here=   ^"]);
    assert_eq!(fields(&report(0, b""))[3..], ["text=", "here="]);
    // The blanks at the end of a line are not shown, a place in them is.
    assert_eq!(
        fields(&report(6, b"add    "))[3..],
        ["text=add", "here=      ^"]
    );
}

#[test]
fn reports_show_only_what_prints() {
    let shown = report(7, b"\tudp\0\xc3\xa9\x1b[0m \"x\" ~\x7f");
    assert_eq!(shown.excerpt(), " udp????[0m \"x\" ~?");
    assert_eq!(fields(&shown)[4], "here=       ^");
}

#[test]
fn reports_give_the_likely_spelling() {
    let slots = Counted::default();
    let base = table("any\n", &slots);
    for (text, likely) in [
        ("udpp dport=53\n", "likely=udp"),
        ("udp dst=10.1.2.3/8\n", "likely=10.0.0.0/8"),
        ("udp dst=2001:db8::1/32\n", "likely=2001:db8::/32"),
        ("udp\n", "likely="),
        ("del 5\n", "likely=delete"),
        ("frobnicate\n", "likely="),
    ] {
        let report = run(&base, text, &slots).map(drop).expect_err("accepted");
        assert_eq!(fields(&report)[2], likely);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Of a long line a part is shown, in which the caret stands under the byte that is meant.
    #[test]
    fn reports_show_the_byte_that_is_meant(text in vec(b'!'..=b'~', 1..1000), column in 0..1000usize) {
        let column = column % (text.len() + 1);
        let shown = report(column, &text);
        prop_assert_eq!(shown.column(), column + 1);
        prop_assert_eq!(shown.excerpt().len(), text.len().min(EXCERPT));
        let lines = fields(&shown);
        let caret = lines[4].strip_prefix("here=").unwrap().find('^').unwrap();
        prop_assert_eq!(caret, shown.caret());
        let excerpt = lines[3].strip_prefix("text=").unwrap().as_bytes();
        prop_assert_eq!(excerpt.get(caret), text.get(column));
        // It is a part of the line, and what lies around the place is in it.
        let start = column - caret;
        prop_assert_eq!(&text[start..start + excerpt.len()], excerpt);
        prop_assert!(caret >= column.min(EXCERPT / 2));
        prop_assert!(caret == column || excerpt.len() - caret >= (text.len() - column).min(EXCERPT / 2));
    }

    /// Whatever the text and the place are, a report is five lines of what prints.
    #[test]
    fn reports_of_anything(text in vec(any::<u8>(), 0..400), column in prop_oneof![0..500usize, any::<usize>()]) {
        let shown = report(column, &text).to_string();
        prop_assert_eq!(shown.lines().count(), 5);
        prop_assert!(shown.ends_with("^\n") || shown.ends_with("text=\nhere=\n"));
        prop_assert!(shown.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
        prop_assert!(shown.len() < 500);
    }

    /// The lengths of lines are known without writing them, whatever the counts are.
    #[test]
    fn lines_are_as_long_as_said(
        specs in spec_lists(1..4),
        ids in vec(prop_oneof![1..20u32, any::<u32>()], 4),
        numbers in vec((numbers(), numbers(), numbers()), 4),
    ) {
        let slots = Counted::default();
        let mut given = BTreeSet::from([0]);
        let mut text = String::new();
        for (spec, mut id) in specs.iter().zip(ids) {
            while !given.insert(id) {
                id = id.wrapping_add(1);
            }
            text += &format!("{} id={id}\n", spec.text(&Style::plain()));
        }
        let table = table(&text, &slots);
        let counts = numbers.into_iter().map(|(packets, bytes, held)| Counts { packets, bytes, held });
        for (entry, counts) in table.entries().iter().zip(counts.clone()) {
            check_lines(entry, counts);
        }
        check_listing(&table, counts.collect());
    }

    /// A line at or ahead of any offset is found, and less than a step ahead of it.
    #[test]
    fn offsets_are_sums_of_lengths(lengths in vec(1..500usize, 0..400), offset in 0..120_000u64) {
        let offsets = offsets_of(&lengths);
        let (line, start) = offsets.line_before(offset);
        let sum = |count: usize| lengths[..count].iter().map(|len| u64::try_from(*len).unwrap()).sum::<u64>();
        prop_assert!(line <= lengths.len());
        prop_assert_eq!(start, sum(line));
        prop_assert!(start <= offset);
        for step in (0..lengths.len()).step_by(64) {
            prop_assert_eq!(offsets.line_before(sum(step)), (step, sum(step)));
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

/// The listing of a table knows the lengths of its lines, whatever the counts are.
fn check_listing(table: &Table<Slot>, counts: Vec<Counts>) {
    let listing = Listing::new(table).unwrap();
    let rules: Vec<_> = table
        .entries()
        .iter()
        .map(|entry| RuleLine(entry).to_string().len())
        .collect();
    let counters: Vec<_> = table
        .entries()
        .iter()
        .zip(counts)
        .map(|(entry, counts)| CounterLine(entry, counts).to_string().len())
        .collect();
    assert_eq!(*listing.rule_lines(), offsets_of(&rules));
    assert_eq!(*listing.counter_lines(), offsets_of(&counters));
}

fn check_lines(entry: &Entry<Slot>, counts: Counts) {
    let text = entry.rule().to_string();
    let line = RuleLine(entry).to_string();
    assert_eq!(line, format!("{text} id={}\n", entry.id()));

    let line = CounterLine(entry, counts).to_string();
    assert_eq!(line.matches('\n').count(), 1);
    // The fields are told apart by blanks; the rule is what stands between the quotes.
    let (fields, rule) = line.split_once(" rule=\"").unwrap();
    assert_eq!(rule, format!("{text}\"\n"));
    let tag = entry.rule().tag().unwrap_or("");
    let expected = format!(
        "id={} packets={} bytes={} held={} tag={tag}",
        entry.id(),
        counts.packets,
        counts.bytes,
        counts.held
    );
    assert_eq!(
        fields.split_whitespace().collect::<Vec<_>>().join(" "),
        expected
    );
}

#[test]
fn counter_lines() {
    let slots = Counted::default();
    let table = table("udp dport=53 tag=dns\n", &slots);
    let entry = &table.entries()[0];
    let line = |packets| {
        CounterLine(
            entry,
            Counts {
                packets,
                bytes: 2,
                held: 3,
            },
        )
        .to_string()
    };
    let blanks = " ".repeat(57);
    assert_eq!(
        line(1),
        format!(
            "id=1 packets=1 bytes=2 held=3 tag=dns {blanks}rule=\"skip udp dport=53 tag=dns\"\n"
        )
    );
    assert_eq!(line(u64::MAX).len(), line(0).len());
}

#[test]
fn offsets_of_nothing() {
    let offsets = offsets_of(&[]);
    assert_eq!(offsets.line_before(0), (0, 0));
    assert_eq!(offsets.line_before(u64::MAX), (0, 0));
}

/// The words of each statement, each with its column.
fn cut(line: &str) -> Vec<Vec<(String, usize)>> {
    let word = |word: Word<'_>| (String::from_utf8_lossy(word.text).into_owned(), word.column);
    statements(line.as_bytes())
        .map(|statement| statement.words().map(word).collect())
        .collect()
}

fn words(words: &[(&str, usize)]) -> Vec<(String, usize)> {
    words
        .iter()
        .map(|(text, column)| ((*text).to_owned(), *column))
        .collect()
}

#[test]
fn statements_end_at_semicolon_and_comment() {
    assert_eq!(
        cut(" udp dport=53 ;; tcp any;# x; y"),
        [
            words(&[("udp", 1), ("dport=53", 5)]),
            words(&[("tcp", 17), ("any", 21)])
        ]
    );
    assert_eq!(cut("\tudp\t\tany\r"), [words(&[("udp", 1), ("any", 6)])]);
    for nothing in [
        "",
        " ",
        ";",
        " ; ;; ",
        "# udp any",
        "  # only a comment",
        "++",
        "++;++",
    ] {
        assert!(cut(nothing).is_empty(), "{nothing:?}");
    }
    assert_eq!(without_comment(b"udp any # x # y"), b"udp any ");
    assert_eq!(without_comment(b"#"), b"");
}

#[test]
fn plus_stands_for_a_space_only_where_there_is_none() {
    assert_eq!(
        cut("udp+dport=53++tcp+dst=10.0.0.0/8"),
        [
            words(&[("udp", 0), ("dport=53", 4)]),
            words(&[("tcp", 14), ("dst=10.0.0.0/8", 18)])
        ]
    );
    assert_eq!(
        cut("udp dev=eth+ any"),
        [words(&[("udp", 0), ("dev=eth+", 4), ("any", 13)])]
    );
    assert_eq!(
        cut("a b;c+d"),
        [words(&[("a", 0), ("b", 2)]), words(&[("c", 4), ("d", 6)])]
    );
    assert_eq!(cut("a++b c"), [words(&[("a++b", 0), ("c", 5)])]);
    assert_eq!(cut("a++++b"), [words(&[("a", 0)]), words(&[("b", 5)])]);
    // Between two flags of TCP it joins them.
    assert_eq!(
        cut("flags=syn+ack/syn+ack+any++flags=syn+synack++ack+flags=+ack"),
        [
            words(&[("flags=syn+ack/syn+ack", 0), ("any", 22)]),
            words(&[("flags=syn", 27), ("synack", 37)]),
            words(&[("ack", 45), ("flags=+ack", 49)]),
        ]
    );
    assert_eq!(
        cut("flags=syn ack"),
        [words(&[("flags=syn", 0), ("ack", 10)])]
    );
}

#[test]
fn stray_plus_is_found() {
    let stray = |line: &str| {
        statements(line.as_bytes())
            .map(|s| s.stray_plus())
            .collect::<Vec<_>>()
    };
    assert_eq!(stray("udp+dev=eth+"), [Some(11)]);
    assert_eq!(stray(" +udp+any"), [Some(1)]);
    assert_eq!(stray("a+++b"), [None, Some(3)]);
    assert_eq!(stray("dev=eth+ any"), [None]);
    assert_eq!(stray("a+b;c"), [None, None]);
}

#[test]
fn statements_know_where_they_start() {
    let starts = |line: &str| {
        statements(line.as_bytes())
            .map(|s| s.column())
            .collect::<Vec<_>>()
    };
    assert_eq!(starts("  a b ;c++d;  e"), [2, 7, 10, 14]);
}

/// Each line of `netns` has the same length, so that a reader finds the next one.
#[test]
fn netns_lines_are_all_of_one_length() {
    let least = NetnsLine::default();
    assert_eq!(
        least.to_string(),
        "netns=0          ct=off entries=0          max=0          drop=0                    \
         early_drop=0                    nat=no  rules=0      skipped=0                    \
         held=0                   \n"
    );
    let most = NetnsLine {
        inum: u32::MAX,
        conntrack: true,
        entries: u32::MAX,
        max: u32::MAX,
        drop: u64::MAX,
        early_drop: u64::MAX,
        nat: true,
        rules: MAX_RULES,
        skipped: u64::MAX,
        held: u64::MAX,
    };
    for line in [least, most] {
        assert_eq!(line.to_string().len() as u64, NetnsLine::LEN, "{line}");
    }
}

#[test]
fn lines_of_the_other_files() {
    let head = RulesHead {
        version: "0.1.0",
        mode: "skip",
        generation: 7,
        rules: 2,
        sum: 0xab,
    };
    assert_eq!(
        head.to_string(),
        "# ctskip 0.1.0 mode=skip generation=7 rules=2 sum=00000000000000ab\n"
    );
    let line = StatsLine("seen", 5).to_string();
    assert_eq!(line, "seen=5                   \n");
    assert_eq!(StatsLine("seen", u64::MAX).to_string().len(), line.len());
    // An entry is in two chains.
    for (entries, buckets, expected) in [
        (0, 0, "0.00"),
        (9, 0, "0.00"),
        (1, 200, "0.01"),
        (100, 64, "3.12"),
        (u64::MAX, 1, "184467440737095516.15"),
    ] {
        let chain = AverageChain { entries, buckets };
        assert_eq!(chain.to_string(), format!("average_chain={expected}\n"));
    }
    let shown = LastError {
        report: &report(4, b"udp frob any\n"),
        generation: 3,
        writer: "bash[42]",
    };
    assert_eq!(
        shown.to_string(),
        "errno=EINVAL\nline=7\ncolumn=5\ngeneration=3\nwriter=bash[42]\nerror=what\n\
         expected=expected\nlikely=\ntext=udp frob any\nhere=    ^\n"
    );
}
