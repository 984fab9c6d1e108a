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
    };
    let shown = |line: &NetnsLine| line.to_string();
    assert_eq!(
        shown(&least),
        "netns=init ct=off entries=0 max=0 drop=0 drop_new=0 early_drop=0 nat=no rules=0 \
         skipped=0 held=0"
    );
    assert_eq!(
        shown(&usual),
        "netns=4026532310 ct=on entries=26214 max=262144 drop=176 drop_new=0 early_drop=0 nat=ipv4 \
         rules=12 skipped=88112 held=0"
    );
    assert!(shown(&most).contains(" nat=both "));
    assert!(shown(&most).ends_with(" hooks=no"));
    let ipv6 = NetnsLine {
        nat_ipv4: false,
        ..most
    };
    assert!(shown(&ipv6).contains(" nat=ipv6 "));

    for line in [least, usual] {
        assert_eq!(line.room(), NetnsLine::LEN, "{line}");
    }
    assert_eq!((NetnsLine::LEN, most.room()), (120, 232));
    for len in [most.room(), 320] {
        for line in [least, usual, most] {
            let row = NetnsRow(&line, len).to_string();
            assert_eq!(row.len(), len);
            assert_eq!(row.trim_end_matches(' ').trim_end(), shown(&line));
            assert!(row.ends_with('\n'));
        }
    }
    // The longest one that fits.
    let mut line = usual;
    while line.room() == NetnsLine::LEN {
        assert!(shown(&line).len() < NetnsLine::LEN);
        line.skipped = line.skipped.saturating_mul(10);
    }
    assert_eq!((shown(&line).len(), line.room()), (NetnsLine::LEN, 128));
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
