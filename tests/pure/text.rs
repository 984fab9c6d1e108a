// SPDX-License-Identifier: GPL-2.0

//! How text is cut into statements and words.

use ctskip_pure::language::text::{
    statements,
    without_comment,
    Word, //
};

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
