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
            RulesHead,
            StatsLine, //
        },
        MAX_RULES, //
    }, //
};

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
