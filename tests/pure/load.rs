// SPDX-License-Identifier: GPL-2.0

//! `load` ... `commit`: in pieces as in one, and what it makes of the table.

use ctskip_pure::{
    language::{
        refusal::Errno,
        report::Report, //
    },
    table::{
        load::{
            LeftOut,
            Load,
            Progress,
            MAX_LINE, //
        },
        Change,
        Entry,
        Table,
        MAX_RULES, //
    },
};
use ctskip_testkit::{
    rules::{
        Kind,
        Spec,
        Style, //
    },
    source::proptest::made,
    world::{
        changed,
        ids,
        slot_numbers,
        table,
        text_of,
        Slot,
        World, //
    }, //
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{
        select,
        Index, //
    }, //
};

/// What comes of pieces that are fed one by one.
enum Fed {
    Open,
    Commit(Load),
    Abort,
    Refused(Report),
}

fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Fed {
    let mut load = Load::new();
    let mut pieces = pieces.into_iter();
    while let Some(piece) = pieces.next() {
        match load.feed(piece, &World::default()) {
            Ok(Progress::Open) => {}
            Ok(end) => {
                // `commit` may come to its end ahead of its newline, which then is a write of nothing.
                let blank = |piece: &[u8]| piece.trim_ascii().is_empty();
                assert!(pieces.all(blank), "pieces behind the end");
                return match end {
                    Progress::Commit => Fed::Commit(load),
                    _ => Fed::Abort,
                };
            }
            Err(report) => return Fed::Refused(report),
        }
    }
    Fed::Open
}

/// `text` in pieces, cut at each of these places.
fn cut<'a>(text: &'a str, cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|ends| &text.as_bytes()[ends[0]..ends[1]])
        .collect()
}

/// A load in one piece, committed.
fn load(base: &Table<Slot>, text: &str, world: &World) -> Result<Option<Change<Slot>>, Report> {
    match feed([text.as_bytes()]) {
        Fed::Commit(load) => load.commit(base, world),
        Fed::Refused(report) => Err(report),
        Fed::Open | Fed::Abort => panic!("{text:?} came to no commit"),
    }
}

/// The table that it makes.
#[track_caller]
fn loaded(base: &Table<Slot>, text: &str, world: &World) -> Table<Slot> {
    match load(base, text, world) {
        Ok(Some(change)) => change.table,
        Ok(None) => panic!("{text:?} changed nothing"),
        Err(report) => panic!("{text:?}: line {}: {report}", report.line()),
    }
}

#[track_caller]
fn assert_refused(base: &Table<Slot>, text: &str, errno: Errno, what: &str, place: (u32, usize)) {
    let world = World::default();
    let report = load(base, text, &world)
        .map(drop)
        .expect_err("it was accepted");
    assert_eq!(
        (
            report.refusal().errno,
            report.refusal().what,
            (report.line(), report.column())
        ),
        (errno, what, place),
        "{text:?}: {report}"
    );
    assert_eq!(world.live(), 0);
}

/// One rule a port.
fn lines(ports: &[u16]) -> String {
    let line = |port: &u16| format!("udp dport={port}\n");
    ports.iter().map(line).collect()
}

#[test]
fn the_table_becomes_what_is_loaded() {
    let world = World::default();
    let base = loaded(
        &Table::new(),
        &format!("load\n{}commit\n", lines(&[1, 2, 3])),
        &world,
    );
    assert_eq!(ids(&base), [1, 2, 3]);

    // The same again is no change, however it is spelt.
    for text in [
        "load\nudp dport=1\nudp dport=2\nudp dport=3\ncommit\n",
        "load\nadd udp dport=1\n\n# x\nskip+udp+dport=2-2; add udp dport=3 id=3\ncommit\n",
        "load;udp dport=1;udp dport=2;udp dport=3;commit\n",
        "load++udp+dport=1++udp+dport=2++udp+dport=3++commit\n",
        "# ctskip 1 mode=skip\nload\nskip udp dport=1 id=1\nskip udp dport=2 id=2\nskip udp dport=3 id=3\ncommit # x\n\n#\n",
    ] {
        assert!(matches!(load(&base, text, &world), Ok(None)), "{text:?}");
    }
    assert_eq!(world.live(), 3);

    // Rules that were there keep their ids and counters, in whatever order.
    let next = loaded(
        &base,
        &format!("load\n{}commit\n", lines(&[3, 4, 1])),
        &world,
    );
    assert_eq!(
        text_of(&next),
        "skip udp dport=3 id=3\nskip udp dport=4 id=4\nskip udp dport=1 id=1\n"
    );
    assert_eq!(slot_numbers(&next), [3, 4, 1]);
    assert!(loaded(&next, "load\ncommit\n", &world).entries().is_empty());
}

#[test]
fn the_change_is_counted() {
    let world = World::default();
    let base = table(&lines(&[1, 2, 3, 4]), &world);
    for (ports, added, removed) in [
        (&[1u16, 2, 3][..], 0, 1),
        (&[1, 2, 3, 4, 5], 1, 0),
        (&[4, 3, 2, 1], 0, 0),
        (&[9, 8, 7], 3, 4),
        (&[1, 9, 4], 1, 2),
        (&[], 0, 4),
    ] {
        let change = match load(&base, &format!("load\n{}commit\n", lines(ports)), &world) {
            Ok(Some(change)) => change,
            _ => panic!("{ports:?}"),
        };
        assert_eq!(
            (change.added, change.removed),
            (added, removed),
            "{ports:?}"
        );
    }
}

/// Of rules that are the same, each keeps its own id.
#[test]
fn rules_that_are_the_same() {
    let world = World::default();
    let base = table(&lines(&[1, 1, 2, 1]), &world);
    let next = loaded(&base, &format!("load\n{}commit\n", lines(&[1, 1])), &world);
    assert_eq!(ids(&next), [1, 2]);
    let next = loaded(
        &base,
        &format!("load\n{}commit\n", lines(&[1, 1, 1, 1])),
        &world,
    );
    assert_eq!(ids(&next), [1, 2, 4, 5]);
    // A line with a number takes the rule of that number, and leaves the others to the rest.
    let next = loaded(
        &base,
        "load\nudp dport=1\nudp dport=1 id=1\ncommit\n",
        &world,
    );
    assert_eq!(ids(&next), [2, 1]);
    assert_eq!(slot_numbers(&next), [2, 1]);
    let next = loaded(
        &base,
        "load\nudp dport=1 id=9\nudp dport=1\ncommit\n",
        &world,
    );
    assert_eq!(ids(&next), [9, 1]);
    assert_ne!(slot_numbers(&next)[0], 2);
}

/// `load tag=T` replaces T's rules where they stand, and no others.
#[test]
fn loads_of_a_tag() {
    let world = World::default();
    let base = table(
        "udp dport=1\nudp dport=2 tag=a\nudp dport=3\nudp dport=4 tag=a\nudp dport=5 tag=b\n",
        &world,
    );
    let ports = |text: &str| -> String {
        let next = loaded(&base, text, &world);
        let port_and_tag = |entry: &Entry<Slot>| {
            let tag = entry.rule().tag().unwrap_or("");
            format!("{}{tag} ", entry.rule().destination_ports().next().unwrap())
        };
        next.entries().iter().map(port_and_tag).collect()
    };
    assert_eq!(
        ports("load tag=a\nudp dport=6\nudp dport=7\ncommit\n"),
        "1 6a 3 7a 5b "
    );
    assert_eq!(
        ports("load tag=a\nudp dport=6\nudp dport=7\nudp dport=8\ncommit\n"),
        "1 6a 3 7a 8a 5b "
    );
    assert_eq!(
        ports("load tag=a\nudp dport=6 tag=a\ncommit\n"),
        "1 6a 3 5b "
    );
    assert_eq!(ports("load tag=a\ncommit\n"), "1 3 5b ");
    assert_eq!(
        ports("load tag=a\nudp dport=4\nudp dport=2\ncommit\n"),
        "1 4a 3 2a 5b "
    );
    assert_eq!(ports("load tag=b\nudp dport=6\ncommit\n"), "1 2a 3 4a 6b ");
    // A tag that no rule has: at the end.
    assert_eq!(
        ports("load tag=c\nudp dport=6\nudp dport=7\ncommit\n"),
        "1 2a 3 4a 5b 6c 7c "
    );
    // A rule without the tag is another rule, even with the same terms.
    assert_eq!(ports("load tag=a\nudp dport=1\ncommit\n"), "1 1a 3 5b ");
    let same = "load tag=a\nudp dport=2\nudp dport=4\ncommit\n";
    assert!(matches!(load(&base, same, &world), Ok(None)));

    const OTHER: &str = "a rule of another tag than the load's";
    assert_refused(
        &base,
        "load tag=a\nudp dport=2\n udp dport=5 tag=b\ncommit\n",
        Errno::Inval,
        OTHER,
        (2, 2),
    );
    const EXIST: &str = "the id of another rule";
    assert_refused(
        &base,
        "load tag=a\n\nudp dport=9 id=5\ncommit\n",
        Errno::Exist,
        EXIST,
        (2, 13),
    );
    // The number of one of its own rules that goes may be given to another.
    assert_eq!(
        ports("load tag=a\nudp dport=9 id=4\ncommit\n"),
        "1 9a 3 5b "
    );
}

#[test]
fn what_a_load_refuses() {
    let world = World::default();
    let base = table(&lines(&[1, 2]), &world);
    for (text, what, place) in [
        ("load\nflush\ncommit\n", "a command inside a load", (1, 1)),
        (
            "load\nudp any; delete 1\ncommit\n",
            "a command inside a load",
            (1, 10),
        ),
        (
            "load\ninsert udp any\ncommit\n",
            "an insert inside a load, whose rules stand in the order of its lines",
            (1, 1),
        ),
        ("load\nload\ncommit\n", "a command inside a load", (1, 1)),
        (
            "load\nload tag=a\ncommit\n",
            "a command inside a load",
            (1, 1),
        ),
        (
            "load\nudp any\ncommit\nudp any\n",
            "text behind the commit or abort of a load",
            (3, 1),
        ),
        (
            "load\nudp any\ncommit; udp any\n",
            "text behind the commit or abort of a load",
            (2, 9),
        ),
        (
            "load\nudp any\ncommit\n  udp",
            "text behind the commit or abort of a load",
            (3, 3),
        ),
        (
            "load\nabort\ncommit\n",
            "text behind the commit or abort of a load",
            (2, 1),
        ),
        ("load\ncommit now\n", "a word too many", (1, 8)),
        ("load\nabort it\n", "a word too many", (1, 7)),
        ("load all\ncommit\n", "not what a load may have", (1, 6)),
        ("load udp any\ncommit\n", "not what a load may have", (1, 6)),
        (
            "load tag=a udp\ncommit\n",
            "not what a load may have",
            (1, 12),
        ),
        ("load tag=a tag=a\n", "not what a load may have", (1, 12)),
        (
            "load lenient lenient\n",
            "not what a load may have",
            (1, 14),
        ),
        ("load tag=\ncommit\n", "not a tag", (1, 10)),
        ("load tag=a=b\ncommit\n", "not a tag", (1, 10)),
        ("load\nadd\ncommit\n", "a rule is missing", (1, 4)),
        (
            "load\nudp dport=1\n tcp frob\ncommit\n",
            "an unknown word",
            (2, 6),
        ),
        ("load\n+\ncommit\n", "a `+` that separates nothing", (1, 1)),
    ] {
        assert_refused(&base, text, Errno::Inval, what, place);
    }
    const EXIST: &str = "the id of another rule";
    assert_refused(
        &base,
        "load\nudp any id=7\ntcp any id=7\ncommit\n",
        Errno::Exist,
        EXIST,
        (2, 9),
    );
    // Rule 1 stays, so its number is not free.
    assert_refused(
        &base,
        "load\nudp dport=1\ntcp any id=1\ncommit\n",
        Errno::Exist,
        EXIST,
        (2, 9),
    );
    const NO_NETNS: &str = "no such network namespace";
    assert_refused(
        &base,
        "load\nudp any netns=5\ncommit\n",
        Errno::Srch,
        NO_NETNS,
        (1, 15),
    );
}

#[test]
fn loads_go_on_until_their_end() {
    for open in [
        "",
        "load",
        "load\n",
        "load\nudp any\n",
        "load\nudp any\ncom",
        "load\n#commit\n",
        "load\n#commit",
        "load\nudp any commit",
        "load\nudp any tag=commit",
    ] {
        assert!(matches!(feed([open.as_bytes()]), Fed::Open), "{open:?}");
    }
    // The words that end it need no newline.
    for whole in [
        "load\nudp any\ncommit",
        "load\n commit ",
        "load;udp any;commit",
        "load\nudp any; commit",
        "load\n+commit",
        "load++udp+any++commit",
    ] {
        assert!(
            matches!(feed([whole.as_bytes()]), Fed::Commit(_)),
            "{whole:?}"
        );
    }
    assert!(matches!(
        feed([b"load\nudp any\nab".as_slice(), b"ort"]),
        Fed::Abort
    ));
    for aborted in [
        "load\nabort\n",
        "load\nudp any\nabort\n# x\n",
        "load; udp any; abort\n \n",
    ] {
        assert!(
            matches!(feed([aborted.as_bytes()]), Fed::Abort),
            "{aborted:?}"
        );
    }
    // Nothing is said to be done and then forgotten: what may go on is refused.
    for (cut, place) in [
        ("load\nudp any\ncommit;", (2, 7)),
        ("load\nudp any\ncommit ; ", (2, 8)),
        ("load\nudp any\nabort;", (2, 6)),
        ("load\nudp any\ncommit #x", (2, 8)),
        ("load;udp any;commit#", (1, 20)),
        ("load++udp+any++commit++", (1, 23)),
    ] {
        let Fed::Refused(report) = feed([cut.as_bytes()]) else {
            panic!("{cut:?}");
        };
        let what = report.refusal().what;
        assert!(what.starts_with("no newline at the end"), "{what}");
        assert_eq!((report.line(), report.column()), place, "{cut:?}");
    }
    for (wrong, what) in [
        ("load;udp any;commit;udp any", "text behind"),
        ("load;frob;commit", "an unknown word"),
        ("load;commit now", "a word too many"),
    ] {
        let Fed::Refused(report) = feed([wrong.as_bytes()]) else {
            panic!("{wrong:?}");
        };
        assert!(report.refusal().what.starts_with(what), "{report}");
    }
    // A line across three pieces, and a commit across two.
    let pieces: [&[u8]; 6] = [b"lo", b"ad\nudp dp", b"ort=5", b"3\ncom", b"mi", b"t\n"];
    let Fed::Commit(load) = feed(pieces) else {
        panic!("no commit");
    };
    let world = World::default();
    let Ok(Some(change)) = load.commit(&Table::new(), &world) else {
        panic!("no change");
    };
    assert_eq!(text_of(&change.table), "skip udp dport=53 id=1\n");
}

/// The lines of a file have the numbers that an editor shows, whatever stands ahead of the `load`.
#[test]
fn lines_are_counted_behind_the_load() {
    for (text, place) in [
        ("load\nudp any\n\nfrob\n", (3, 1)),
        ("load tag=a # x\nfrob\n", (1, 1)),
        ("# a comment\n\n  load\nudp any\nfrob\n", (2, 1)),
        // With a rule in its line, that is the first.
        ("load; udp any\nfrob\n", (2, 1)),
        ("load; frob\n", (1, 7)),
        // The line of the load itself, where it is wrong: as in the write.
        ("# x\n\nload x\n", (3, 6)),
    ] {
        for size in [1, 5, text.len()] {
            let Fed::Refused(report) = feed(text.as_bytes().chunks(size)) else {
                panic!("{text:?}");
            };
            assert_eq!((report.line(), report.column()), place, "{text:?}");
        }
    }
}

/// A command that a load does not take is not offered where a word is unknown.
#[test]
fn loads_expect_no_commands() {
    let Fed::Refused(report) = feed([b"load\nfrob\n".as_slice()]) else {
        panic!("taken");
    };
    let expected = report.refusal().expected;
    assert!(expected.starts_with("a protocol, or one of "), "{expected}");
}

/// A lenient load leaves out the rules whose namespaces do not exist, and no others.
#[test]
fn lenient_loads() {
    let world = World::default();
    let text = "udp dport=1 id=4\nudp dport=2 netns=5 id=9\nudp dport=3 netns=4026532001\n\
                add udp dport=4 netns=pid:5\nudp dport=5 netns!=init\n\
                udp dport=6 netns=gone\nudp dport=7 netns=/run/netns/gone\n";
    for (opening, tag) in [
        ("load lenient", ""),
        ("load tag=a lenient", " tag=a"),
        ("load lenient tag=a", " tag=a"),
    ] {
        let whole = format!("{opening}\n{text}commit\n");
        for size in [1, whole.len()] {
            let Fed::Commit(load) = feed(whole.as_bytes().chunks(size)) else {
                panic!("{opening}");
            };
            assert_eq!(load.left_out(), LeftOut { rules: 4, line: 2 });
            assert_eq!(load.rules(), 3);
            let change = load.commit(&Table::new(), &world).ok().flatten().unwrap();
            assert_eq!(
                text_of(&change.table),
                format!(
                    "skip udp dport=1{tag} id=4\nskip udp dport=3 netns=4026532001{tag} id=5\n\
                     skip udp dport=5 netns!=init{tag} id=6\n"
                )
            );
        }
    }
    let Fed::Commit(load) = feed([b"load\nudp any\ncommit\n".as_slice()]) else {
        panic!("refused");
    };
    assert_eq!(load.left_out(), LeftOut::default());
    // Whatever else is wrong with such a rule is refused.
    for (text, errno, what, place) in [
        (
            "udp netns=5 dprot=1",
            Errno::Inval,
            "an unknown word",
            (1, 13),
        ),
        ("udp netns=5", Errno::Inval, "a rule that matches", (1, 1)),
        (
            "udp any netns=5x",
            Errno::Inval,
            "not a network namespace",
            (1, 15),
        ),
        (
            "udp any netns=5 tag=b",
            Errno::Inval,
            "a rule of another tag",
            (1, 1),
        ),
    ] {
        let text = format!("load tag=a lenient\n{text}\n");
        let Fed::Refused(report) = feed([text.as_bytes()]) else {
            panic!("{text:?}");
        };
        assert_eq!(report.refusal().errno, errno);
        assert!(report.refusal().what.starts_with(what), "{report}");
        assert_eq!((report.line(), report.column()), place, "{text:?}");
    }
}

/// A line has an end, in one piece or in many.
#[test]
fn lines_have_a_longest_length() {
    let refused = |pieces: Vec<&[u8]>, number: u32| match feed(pieces) {
        Fed::Refused(report) => {
            assert_eq!(report.refusal().what, "a line too long");
            assert_eq!((report.line(), report.column()), (number, 1));
            assert!(report.excerpt().starts_with("##"), "{report}");
        }
        _ => panic!("accepted"),
    };
    let longest = format!("load\nudp any\n{}\ncommit\n", "#".repeat(MAX_LINE));
    let longer = format!("load\nudp any\n{}\ncommit\n", "#".repeat(MAX_LINE + 1));
    for size in [usize::MAX, 4096, 1000, 1] {
        let pieces = |text: &'static str| -> Vec<&[u8]> {
            text.as_bytes().chunks(size.min(text.len())).collect()
        };
        assert!(
            matches!(feed(pieces(longest.clone().leak())), Fed::Commit(_)),
            "{size}"
        );
        refused(pieces(longer.clone().leak()), 2);
    }
    // One that does not end is not waited for.
    refused(
        vec![b"load\n", "#".repeat(MAX_LINE + 1).leak().as_bytes()],
        1,
    );
}

#[test]
fn numbers_of_a_load() {
    let world = World::default();
    // Given numbers count before the others are handed out.
    let next = loaded(
        &Table::new(),
        "load\nudp dport=1\nudp dport=2 id=7\nudp dport=3\ncommit\n",
        &world,
    );
    assert_eq!(ids(&next), [8, 7, 9]);
    // What went, does not come back under its number.
    let base = table("udp dport=1 id=4294967293\n", &world);
    let next = loaded(&base, "load\nudp dport=9 id=5\ncommit\n", &world);
    assert_eq!(ids(&changed(&next, "udp any\n", &world)), [5, u32::MAX - 1]);
    // There is no number behind the highest one.
    let text = format!("load\n{}commit\n", lines(&[2, 1, 3]));
    let next = loaded(&base, &text, &world);
    assert_eq!(ids(&next), [u32::MAX - 1, u32::MAX - 2, u32::MAX]);
    const NONE_LEFT: &str = "no number is left: a rule has the highest one, 4294967295";
    for (text, line) in [
        (format!("load\n{}commit\n", lines(&[2, 1, 3, 4])), 4),
        (
            "load\nudp dport=9\nudp dport=8 id=4294967295\ncommit\n".to_owned(),
            1,
        ),
    ] {
        let report = load(&base, &text, &world).map(drop).err().unwrap();
        let refusal = report.refusal();
        assert_eq!((refusal.errno, refusal.what), (Errno::NoSpc, NONE_LEFT));
        assert_eq!(report.line(), line);
    }
    // Not even where the one that has it goes by the same load; behind it, there is.
    let report = load(&next, "load\nudp dport=9\ncommit\n", &world);
    assert_eq!(report.map(drop).err().unwrap().refusal().what, NONE_LEFT);
    let text = format!("load\n{}commit\n", lines(&[2, 1]));
    let next = loaded(&next, &text, &world);
    let next = loaded(&next, "load\nudp dport=9\ncommit\n", &world);
    assert_eq!(ids(&next), [u32::MAX]);
    let next = loaded(&next, "load\ncommit\n", &world);
    let next = loaded(&next, "load\nudp dport=9\ncommit\n", &world);
    assert_eq!(ids(&next), [1]);
}

#[test]
fn a_load_holds_no_more_than_a_table() {
    let world = World::default();
    let rules = "udp dport=1\n".repeat(MAX_RULES);
    let full = loaded(&Table::new(), &format!("load\n{rules}commit\n"), &world);
    assert_eq!(full.entries().len(), MAX_RULES);
    assert!(matches!(
        load(&full, &format!("load\n{rules}commit\n"), &world),
        Ok(None)
    ));
    const WHAT: &str = "over 131,072 rules";
    let last = u32::try_from(MAX_RULES).unwrap() + 1;
    let over = format!("load\n{rules}udp dport=1\ncommit\n");
    assert_refused(&full, &over, Errno::NoSpc, WHAT, (last, 1));
    // Those of other tags count as well.
    let report = load(&full, "load tag=a\nudp dport=1\ncommit\n", &world)
        .map(drop)
        .err()
        .unwrap();
    assert_eq!((report.refusal().errno, report.line()), (Errno::NoSpc, 0));
    assert_eq!(world.live(), MAX_RULES);
}

/// 10,000 rules, cut anywhere, over a table that shares half of them.
#[test]
fn ten_thousand_rules_in_pieces() {
    use proptest::{
        prelude::RngCore,
        test_runner::{
            RngAlgorithm,
            TestRng, //
        }, //
    };

    let world = World::default();
    let text = |from: u32, to: u32| -> String {
        let rule = |n: u32| {
            format!(
                "udp dst=10.{}.{}.0/24 dport=53 tag=t{}\n",
                n >> 8 & 255,
                n & 255,
                n % 7
            )
        };
        let rules: String = (from..to).map(rule).collect();
        format!("load\n{rules}commit\n")
    };
    let base = loaded(&Table::new(), &text(5_000, 15_000), &world);
    assert_eq!(base.entries().len(), 10_000);
    let wanted = text(0, 10_000);
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for longest in [1, 16, 4096, 65536] {
        let mut rest = wanted.as_bytes();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let len = 1 + usize::try_from(rng.next_u32()).unwrap() % longest;
            let (piece, after) = rest.split_at(len.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let Fed::Commit(load) = feed(pieces) else {
            panic!("no commit");
        };
        let Ok(Some(change)) = load.commit(&base, &world) else {
            panic!("no change");
        };
        assert_eq!((change.added, change.removed), (5_000, 5_000));
        let expected: Vec<u32> = (10_001..=15_000).chain(1..=5_000).collect();
        assert_eq!(ids(&change.table), expected);
        assert_eq!(world.live(), 15_000);
        assert!(matches!(
            self::load(&change.table, &wanted, &world),
            Ok(None)
        ));
    }
    assert_eq!(world.live(), 10_000);
}

/// A rule of a load's model: its terms, its tag, its id, its slot where it has one.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    port: u16,
    tag: Option<&'static str>,
    id: Option<u32>,
    slot: Option<usize>,
}

fn model_lines(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Line>> {
    let tag = proptest::option::of(select(vec!["a", "b"]));
    let id = proptest::option::weighted(0.25, 1..10u32);
    let line = (1..5u16, tag, id).prop_map(|(port, tag, id)| Line {
        port,
        tag,
        id,
        slot: None,
    });
    vec(line, count)
}

/// What a load should make of `base`, the simple way; ids that are not given stay `None`.
fn model(
    base: &[Line],
    tag: Option<&'static str>,
    mut lines: Vec<Line>,
) -> Result<Vec<Line>, Errno> {
    for line in &mut lines {
        if tag.is_some() && line.tag.is_some() && line.tag != tag {
            return Err(Errno::Inval);
        }
        line.tag = line.tag.or(tag);
    }
    let replaced = |line: &Line| tag.is_none() || line.tag == tag;
    let mut free: Vec<Line> = base.iter().filter(|line| replaced(line)).cloned().collect();
    for numbered in [true, false] {
        for line in lines
            .iter_mut()
            .filter(|line| line.slot.is_none() && line.id.is_some() == numbered)
        {
            let same = |old: &Line| {
                (old.port, old.tag) == (line.port, line.tag) && (!numbered || old.id == line.id)
            };
            if let Some(at) = free.iter().position(same) {
                *line = free.remove(at);
            }
        }
    }
    let kept = base.iter().filter(|line| !replaced(line));
    let mut ids: Vec<u32> = kept.chain(&lines).filter_map(|line| line.id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Errno::Exist);
    }
    let mut result: Vec<Line> = Vec::new();
    let mut lines = lines.into_iter();
    let mut places = base.iter().filter(|line| replaced(line)).count();
    for old in base {
        if !replaced(old) {
            result.push(old.clone());
            continue;
        }
        places -= 1;
        result.extend(lines.next());
        if places == 0 {
            result.extend(lines.by_ref());
        }
    }
    result.extend(lines);
    Ok(result)
}

fn as_text(lines: &[Line]) -> String {
    let one = |line: &Line| {
        let tag = line.tag.map_or(String::new(), |tag| format!(" tag={tag}"));
        let id = line.id.map_or(String::new(), |id| format!(" id={id}"));
        format!("skip udp dport={}{tag}{id}\n", line.port)
    };
    lines.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// A load makes of any table what the model says, slot by slot.
    #[test]
    fn loads_do_what_the_model_does(
        base in model_lines(0..8),
        lines in model_lines(0..8),
        tag in proptest::option::of(select(vec!["a", "b"])),
    ) {
        let world = World::default();
        // Made with ids that differ.
        let mut seen = Vec::new();
        let mut base = base;
        for line in &mut base {
            if line.id.is_some_and(|id| seen.contains(&id)) {
                line.id = None;
            }
            seen.extend(line.id);
        }
        let table = match load(&Table::new(), &format!("load\n{}commit\n", as_text(&base)), &world) {
            Ok(change) => change.map_or(Table::new(), |change| change.table),
            Err(report) => panic!("{report}"),
        };
        for (line, entry) in base.iter_mut().zip(table.entries()) {
            line.id = Some(entry.id());
            line.slot = Some(entry.slot().number());
        }
        let newest = base.iter().filter_map(|line| line.slot).max().unwrap_or(0);

        let opening = tag.map_or("load".to_owned(), |tag| format!("load tag={tag}"));
        let text = format!("{opening}\n{}commit\n", as_text(&lines));
        match (load(&table, &text, &world), model(&base, tag, lines)) {
            (Err(report), Err(errno)) => prop_assert_eq!(report.refusal().errno, errno),
            (Ok(None), Ok(expected)) => prop_assert_eq!(expected, base),
            (Ok(Some(change)), Ok(expected)) => {
                prop_assert_eq!(change.table.entries().len(), expected.len(), "{}", &text);
                let kept = expected.iter().filter(|line| line.slot.is_some()).count();
                prop_assert_eq!(change.added, expected.len() - kept);
                prop_assert_eq!(change.removed, base.len() - kept);
                let mut ids = ids(&change.table);
                for (entry, line) in change.table.entries().iter().zip(&expected) {
                    let rule = entry.rule().to_string();
                    prop_assert_eq!(rule + "\n", as_text(&[Line { id: None, ..line.clone() }]), "{}", &text);
                    if let Some(id) = line.id {
                        prop_assert_eq!(entry.id(), id, "{}", &text);
                    }
                    match line.slot {
                        Some(slot) => prop_assert_eq!(entry.slot().number(), slot, "{}", &text),
                        None => prop_assert!(entry.slot().number() > newest),
                    }
                }
                ids.sort_unstable();
                prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", ids);
                // Once more, nothing is left to do.
                prop_assert!(matches!(load(&change.table, &text, &world), Ok(None)), "{}", &text);
            }
            (Ok(_), Err(errno)) => prop_assert!(false, "{:?} expected: {}", errno, text),
            (Err(report), Ok(_)) => prop_assert!(false, "{}: {}", text, report),
        }
        prop_assert_eq!(world.live(), table.entries().len());
    }

    /// Where the text is cut makes no difference, neither to the table nor to what is refused.
    #[test]
    fn pieces_are_as_the_whole(
        specs in vec(made(160, |source| Spec::make(source, Kind::Any(3))), 0..8),
        style in made(42, Style::make),
        damage in proptest::option::of((any::<Index>(), select(vec!["@", ";", "\n", "#", "commit\n", "udp\n"]))),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let rules: String = specs.iter().map(|spec| spec.text(&style) + "\n").collect();
        let mut text = format!("load\n{rules}commit");
        if let Some((at, what)) = damage {
            text.insert_str(at.index(text.len()), what);
        }
        text.push('\n');
        let world = World::default();
        let one = feed([text.as_bytes()]);
        // A text with a commit in its middle would end there.
        if text.find("commit\n").is_some_and(|at| at + 7 < text.len()) {
            return Ok(());
        }
        // Nor is a line waited for in which it stands, and which may go on.
        if text.contains("commit;") || text.contains("commit#") {
            return Ok(());
        }
        let many = feed(cut(&text, &cuts));
        match (one, many) {
            (Fed::Commit(one), Fed::Commit(many)) => {
                match (one.commit(&Table::new(), &world), many.commit(&Table::new(), &world)) {
                    (Ok(None), Ok(None)) => {}
                    (Ok(Some(one)), Ok(Some(many))) => {
                        prop_assert_eq!(text_of(&one.table), text_of(&many.table));
                    }
                    (Err(one), Err(many)) => prop_assert_eq!(one.to_string(), many.to_string()),
                    _ => prop_assert!(false, "{:?}", text),
                }
            }
            (Fed::Refused(one), Fed::Refused(many)) => {
                prop_assert_eq!((one.line(), one.column()), (many.line(), many.column()));
                prop_assert_eq!(one.to_string(), many.to_string());
            }
            (Fed::Open, Fed::Open) | (Fed::Abort, Fed::Abort) => {}
            _ => prop_assert!(false, "{:?}", text),
        }
    }
}
