// SPDX-License-Identifier: GPL-2.0

//! Reports of refusals: the line, and the caret below the place.

use ctskip_pure::language::{
    refusal::{
        Errno,
        Refusal, //
    },
    report::Report, //
};
use ctskip_testkit::world::{
    run,
    table,
    World, //
};
use proptest::{
    collection::vec,
    prelude::*, //
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
fn reports_of_a_text_as_a_whole_have_no_place() {
    let refusal = Refusal::new(Errno::TooBig, 0, "what", "expected");
    let shown = Report::of_all(refusal.clone(), format_args!("{} rules", 7));
    assert_eq!((shown.line(), shown.excerpt()), (0, "7 rules"));
    assert_eq!(
        shown.to_string(),
        "error=what\nexpected=expected\nlikely=\ntext=7 rules\nhere=\n"
    );
    // What does not fit is left out.
    let long = Report::of_all(
        refusal,
        format_args!("{}{}", "x".repeat(150), "y".repeat(150)),
    );
    assert_eq!(long.excerpt().len(), EXCERPT);
    assert!(long.excerpt().ends_with("xyyyyyyyyyy"));
}

#[test]
fn reports_show_only_what_prints() {
    let shown = report(7, b"\tudp\0\xc3\xa9\x1b[0m \"x\" ~\x7f");
    assert_eq!(shown.excerpt(), " udp????[0m \"x\" ~?");
    assert_eq!(fields(&shown)[4], "here=       ^");
}

#[test]
fn reports_give_the_likely_spelling() {
    let world = World::default();
    let base = table("any\n", &world);
    for (text, likely) in [
        ("udpp dport=53\n", "likely=udp"),
        ("udp dst=10.1.2.3/8\n", "likely=10.0.0.0/8"),
        ("udp dst=2001:db8::1/32\n", "likely=2001:db8::/32"),
        ("udp\n", "likely="),
        ("del 5\n", "likely=delete"),
        ("frobnicate\n", "likely="),
    ] {
        let report = run(&base, text, &world).map(drop).expect_err("accepted");
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
}
