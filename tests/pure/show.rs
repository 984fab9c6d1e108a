// SPDX-License-Identifier: GPL-2.0

//! The texts of the files.

use ctskip_pure::{
    language::{
        refusal::Refusal,
        report::Report, //
    },
    table::{
        show::{
            AverageChain,
            KeptLine,
            LastError,
            NetnsLine,
            NetnsRow,
            RulesHead,
            StatsLine, //
        },
        MAX_RULES, //
    }, //
};

/// Each line of `netns` has the same length, so that a reader finds the next one. Its numbers are not
/// padded, and of usual ones, a line has 120 columns at most.
#[test]
fn netns_lines_are_all_of_one_length() {
    let least = NetnsLine::default();
    let usual = NetnsLine {
        inum: Some(4_026_532_310),
        conntrack: true,
        entries: 26_214,
        max: 262_144,
        drop: 176,
        nat_ipv4: true,
        rules: 12,
        skipped: 88_112,
        ..least
    };
    let most = NetnsLine {
        inum: Some(u32::MAX),
        conntrack: true,
        entries: u32::MAX,
        max: u32::MAX,
        drop: u64::MAX,
        drop_new: u64::MAX,
        early_drop: u64::MAX,
        nat_ipv4: true,
        nat_ipv6: true,
        no_hooks: true,
        rules: MAX_RULES,
        skipped: u64::MAX,
        held: u64::MAX,
        left_entry: u64::MAX,
        left_template: u64::MAX,
        left_untracked: u64::MAX,
    };
    // A host whose own traffic over lo is skipped in part.
    let init = NetnsLine {
        inum: None,
        nat_ipv4: false,
        left_entry: 4_432,
        left_untracked: 12_012,
        ..usual
    };
    let shown = |line: &NetnsLine| line.to_string();
    assert_eq!(
        shown(&least),
        "netns=init ct=off entries=0 max=0 drop=0 nat=no rules=0 skipped=0"
    );
    assert_eq!(
        shown(&usual),
        "netns=4026532310 ct=on entries=26214 max=262144 drop=176 nat=ipv4 rules=12 skipped=88112"
    );
    assert!(shown(&most).contains(" nat=both "));
    assert!(shown(&most).ends_with(" hooks=no"));
    let ipv6 = NetnsLine {
        nat_ipv4: false,
        ..most
    };
    assert!(shown(&ipv6).contains(" nat=ipv6 "));

    for line in [least, usual, init] {
        assert_eq!(line.room(), NetnsLine::LEN, "{line}");
    }
    assert_eq!((NetnsLine::LEN, most.room()), (120, 336));
    for len in [most.room(), 400] {
        for line in [least, usual, init, most] {
            let row = NetnsRow(&line, len).to_string();
            assert_eq!(row.len(), len);
            assert_eq!(row.trim_end_matches(' ').trim_end(), shown(&line));
            assert!(row.ends_with('\n'));
        }
    }
    // The longest one that fits.
    let mut line = init;
    while line.room() == NetnsLine::LEN {
        assert!(shown(&line).len() < NetnsLine::LEN);
        line.skipped = line.skipped.saturating_mul(10);
    }
    assert_eq!((shown(&line).len(), line.room()), (NetnsLine::LEN, 128));
}

/// Each of the counts that are mostly 0 stands at the end of the line where it is not, under its own
/// name.
#[test]
fn netns_shows_some_counts_where_they_are_not_0() {
    let line = NetnsLine {
        drop_new: 1,
        early_drop: 2,
        held: 3,
        left_entry: 4,
        left_template: 5,
        left_untracked: 6,
        ..NetnsLine::default()
    };
    let usual = "netns=init ct=off entries=0 max=0 drop=0 nat=no rules=0 skipped=0";
    let counts = [
        "drop_new=1",
        "early_drop=2",
        "held=3",
        "left_entry=4",
        "left_template=5",
        "left_untracked=6",
    ];
    assert_eq!(line.to_string(), format!("{usual} {}", counts.join(" ")));
    let only = NetnsLine {
        left_template: 5,
        no_hooks: true,
        ..NetnsLine::default()
    };
    assert_eq!(
        only.to_string(),
        format!("{usual} left_template=5 hooks=no")
    );
}

/// The keys of the longest line are those of the document's table, in its order.
#[test]
fn netns_keys_are_documented() {
    let document = include_str!("../../docs/files.md");
    let (_, section) = document.split_once("\n### netns\n").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let documented: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|cell| cell.split(", "))
        .map(|key| key.trim_matches('`'))
        .collect();
    let line = NetnsLine {
        drop_new: 1,
        early_drop: 1,
        held: 1,
        left_entry: 1,
        left_template: 1,
        left_untracked: 1,
        no_hooks: true,
        ..NetnsLine::default()
    };
    let line = line.to_string();
    let shown: Vec<_> = line
        .split(' ')
        .filter_map(|word| word.split('=').next())
        .collect();
    assert_eq!(shown, documented);
    // What it says of them, too: in its example, no key stands elsewhere.
    let example = section.lines().find_map(|line| line.strip_prefix("    "));
    let keys = example
        .unwrap()
        .split(' ')
        .filter_map(|word| word.split('=').next());
    let mut rest = documented.iter();
    for key in keys {
        assert!(rest.any(|other| *other == key), "{key}");
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
    let line = KeptLine("marked", 5).to_string();
    assert_eq!(line, "kept_marked=5                   \n");
    assert_eq!(KeptLine("marked", u64::MAX).to_string().len(), line.len());
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
    let refusal = Refusal::invalid(4, "what", "expected");
    let shown = LastError {
        report: &Report::new(refusal, 7, b"udp frob any\n"),
        generation: 3,
        writer: "bash[42]",
    };
    assert_eq!(
        shown.to_string(),
        "errno=EINVAL\nline=7\ncolumn=5\ngeneration=3\nwriter=bash[42]\nerror=what\n\
         expected=expected\nlikely=\ntext=udp frob any\nhere=    ^\n"
    );
}
