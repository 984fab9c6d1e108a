// SPDX-License-Identifier: GPL-2.0

//! Who may write: each line of the table in the session's head, and all of them in any order.

use std::time::Duration;

use ctskip_pure::{
    language::refusal::Errno,
    table::{
        load::LeftOut,
        session::{
            closed,
            FileState,
            Lost,
            LostLoad,
            SILENCE, //
        }, //
    },
};
use ctskip_testkit::{
    checks::session::{
        play,
        Desk,
        File,
        Op,
        Outcome,
        FILES,
        PAGE,
        TEXTS,
        TIMES, //
    },
    world::text_of, //
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select, //
};

const A_MOMENT: Duration = Duration::from_millis(1);

/// A session with two open files.
struct Office {
    desk: Desk,
    one: File,
    other: File,
}

impl Office {
    fn new() -> Self {
        Self {
            desk: Desk::new(),
            one: File::open(1),
            other: File::open(2),
        }
    }

    /// With a `load` of the first file open, and one rule in it.
    fn loading() -> Self {
        let mut office = Self::new();
        office.one("load\nudp dport=9\n", Outcome::Accepted, FileState::Loading);
        office
    }

    #[track_caller]
    fn one(&mut self, text: &str, outcome: Outcome, state: FileState) {
        let seen = self.desk.write(&self.one, text.as_bytes(), None, true);
        assert_eq!((seen, self.desk.state(&self.one)), (outcome, state));
    }

    #[track_caller]
    fn other(&mut self, text: &str, outcome: Outcome, state: FileState) {
        let seen = self.desk.write(&self.other, text.as_bytes(), None, true);
        assert_eq!((seen, self.desk.state(&self.other)), (outcome, state));
    }

    /// The first file's write is refused, whatever is reported. Returns why.
    #[track_caller]
    fn refused(&mut self, text: &str, state: FileState) -> String {
        let before = text_of(&self.desk.table);
        let seen = self.desk.write(&self.one, text.as_bytes(), None, true);
        let Outcome::Refused(Errno::Inval, _, report) = seen else {
            panic!("{text:?}: {seen:?}");
        };
        assert_eq!(self.desk.state(&self.one), state, "{text:?}");
        assert_eq!(text_of(&self.desk.table), before);
        report
    }

    /// The first file is stopped: nothing is carried out but a `load`, and that is as ever.
    #[track_caller]
    fn goes_on_with_a_load_only(mut self, state: FileState) {
        for text in ["udp dport=5\n", "commit\n", "abort\n", "frob\n", "", "x"] {
            self.one(text, Outcome::Rest, state);
        }
        self.one("load\nudp dport=9\n", Outcome::Accepted, FileState::Loading);
        self.one("commit\n", changed("9 id=3"), FileState::Plain);
        self.one("flush\n", changed_to(""), FileState::Plain);
    }
}

/// The outcome of a change to a table of one rule.
fn changed(port_and_id: &str) -> Outcome {
    changed_to(&format!("skip udp dport={port_and_id}\n"))
}

fn changed_to(text: &str) -> Outcome {
    Outcome::Changed(text.to_owned())
}

const BASE: &str = "skip udp dport=1 id=1\nskip udp dport=2 tag=a id=2\n";

#[test]
fn session_of_transactions() {
    let mut office = Office::new();
    office.one("delete 2\n", changed("1 id=1"), FileState::Plain);
    office.one(
        "delete 1\nudp dport=1 id=1\n",
        changed("1 id=1"),
        FileState::Plain,
    );
    office.one("", Outcome::Accepted, FileState::Plain);
    office.one("# nothing\n", Outcome::Accepted, FileState::Plain);
}

/// `{ echo "track ..."; echo "skip ..."; } > rules`: without the first one, the second is not carried out.
#[test]
fn session_of_a_refused_transaction() {
    for text in ["udp dport=3\nfrob\n", "commit\n", "udp any\nload\n"] {
        let mut office = Office::new();
        office.refused(text, FileState::Stopped);
        // No other file is concerned.
        office.other("# x\n", Outcome::Accepted, FileState::Plain);
        office.goes_on_with_a_load_only(FileState::Stopped);
    }
    let mut office = Office::new();
    let seen = office.desk.write(&office.one, b"delete 9\n", None, true);
    assert!(matches!(seen, Outcome::Refused(Errno::NoEnt, ..)));
    office.goes_on_with_a_load_only(FileState::Stopped);
}

#[test]
fn session_of_a_text_that_was_cut() {
    let mut office = Office::new();
    let why = office.refused("delete 1\ndelete 2", FileState::Stopped);
    assert!(why.contains("no newline at the end"), "{why}");
    office.goes_on_with_a_load_only(FileState::Stopped);

    // A page is full though its last line ends with it.
    let page = |len: usize| format!("delete 1\n{}\n", "#".repeat(len - "delete 1\n\n".len()));
    for len in [PAGE, PAGE + 1] {
        let mut office = Office::new();
        let why = office.refused(&page(len), FileState::Stopped);
        assert!(why.contains("a page or more"), "{why}");
        office.goes_on_with_a_load_only(FileState::Stopped);
    }
    let mut office = Office::new();
    let after = changed("2 tag=a id=2");
    office.one(&page(PAGE - 1), after, FileState::Plain);
}

#[test]
fn session_of_a_load_in_pieces() {
    let mut office = Office::loading();
    // A page may be full there, and a line cut.
    let page = "#".repeat(PAGE);
    office.one(&page, Outcome::Accepted, FileState::Loading);
    office.one("\nudp dp", Outcome::Accepted, FileState::Loading);
    office.one("", Outcome::Accepted, FileState::Loading);
    // Others write meanwhile; the load replaces what they wrote.
    office.other("flush\n", changed_to(""), FileState::Plain);
    office.one("ort=8\n", Outcome::Accepted, FileState::Loading);
    let after = "skip udp dport=9 id=3\nskip udp dport=8 id=4\n";
    office.one("commit\n", changed_to(after), FileState::Plain);
    office.one("flush\n", changed_to(""), FileState::Plain);
}

#[test]
fn session_of_a_load_that_ends_without_a_change() {
    let mut office = Office::loading();
    office.one("abort\n", Outcome::Accepted, FileState::Plain);
    office.one("load\nudp dport=1\n", Outcome::Accepted, FileState::Loading);
    office.one(
        "udp dport=2 tag=a\ncommit\n",
        Outcome::Accepted,
        FileState::Plain,
    );
    assert_eq!(text_of(&office.desk.table), BASE);
    office.other("load\n", Outcome::Accepted, FileState::Loading);
    office.one("delete 1\n", changed("2 tag=a id=2"), FileState::Plain);
}

/// The outcome of a purge, and of the change that it comes with.
fn purges(table: Option<&str>, by: &str) -> Outcome {
    Outcome::Purges(table.map(str::to_owned), by.to_owned())
}

#[test]
fn session_of_purges() {
    let after = "skip udp dport=9 id=3\n";
    for end in [
        "commit purge\n",
        "commit purge # x\n",
        "\ncommit\tpurge",
        "commit+purge\n",
    ] {
        let mut office = Office::loading();
        let state = FileState::Plain;
        let text = end.replace('\t', " ");
        office.one(&text, purges(Some(after), "Loaded"), state);
    }
    // One that changes nothing; in pieces.
    let mut office = Office::new();
    let rules = "load\nudp dport=1\nudp dport=2 tag=a\nco";
    office.one(rules, Outcome::Accepted, FileState::Loading);
    office.one("mmit pu", Outcome::Accepted, FileState::Loading);
    office.one("rge\n", purges(None, "Loaded"), FileState::Plain);
    // Cut behind `commit`, which then is the end: the rest asks for the same.
    office.one(
        "load\nudp dport=9\ncommit",
        changed("9 id=3"),
        FileState::Plain,
    );
    office.one(" purge\n", purges(None, "All"), FileState::Plain);
    office.one(
        "delete 3\npurge\n",
        purges(Some(""), "All"),
        FileState::Plain,
    );

    // What comes behind one that was not carried out must not be.
    let mut office = Office::new();
    let seen = office.desk.write(&office.one, b"purge\n", None, false);
    assert_eq!(seen, purges(None, "All"));
    office.goes_on_with_a_load_only(FileState::Stopped);

    let mut office = Office::loading();
    let why = office.refused("commit purge 1\n", FileState::Stopped);
    assert!(why.contains("a word too many"), "{why}");
    let mut office = Office::loading();
    let why = office.refused("purge\n", FileState::Stopped);
    assert!(why.contains("a command inside a load"), "{why}");
    office.goes_on_with_a_load_only(FileState::Stopped);
}

/// What follows a refused piece is not carried out by itself.
#[test]
fn session_of_a_refused_load() {
    let mut office = Office::loading();
    office.refused("frob\nudp dport=6\n", FileState::Stopped);
    // It has made room for another one.
    office.other("load\n", Outcome::Accepted, FileState::Loading);
    office.other("abort\n", Outcome::Accepted, FileState::Plain);
    office.goes_on_with_a_load_only(FileState::Stopped);

    let mut office = Office::new();
    office.refused("load\nfrob\n", FileState::Stopped);
    office.goes_on_with_a_load_only(FileState::Stopped);

    // Refused only by its commit, or behind that.
    for end in ["tcp any id=7\ntcp any id=7\ncommit\n", "commit\nflush\n"] {
        let mut office = Office::loading();
        let before = text_of(&office.desk.table);
        let seen = office.desk.write(&office.one, end.as_bytes(), None, true);
        assert!(matches!(seen, Outcome::Refused(..)), "{seen:?}");
        assert_eq!(text_of(&office.desk.table), before);
        office.goes_on_with_a_load_only(FileState::Stopped);
    }
}

/// Until its change is in force, and where it cannot be, a load's file is stopped.
#[test]
fn session_of_a_change_that_is_not_made() {
    let mut office = Office::loading();
    let seen = office.desk.write(&office.one, b"commit\n", None, false);
    assert_eq!(seen, changed("9 id=3"));
    assert_eq!(text_of(&office.desk.table), BASE);
    office.goes_on_with_a_load_only(FileState::Stopped);

    let mut office = Office::new();
    let seen = office.desk.write(&office.one, b"flush\n", None, false);
    assert_eq!(seen, changed_to(""));
    assert_eq!(text_of(&office.desk.table), BASE);
    office.goes_on_with_a_load_only(FileState::Stopped);
}

const BUSY: &str = "another writer's load is open";

#[test]
fn session_is_busy_while_a_load_is_heard() {
    let mut office = Office::loading();
    for wait in [Duration::ZERO, SILENCE - A_MOMENT] {
        office.desk.wait(wait);
        let text = b"\nload\nudp dport=5\n";
        let seen = office.desk.write(&office.other, text, None, true);
        let Outcome::Refused(Errno::Busy, 2, why) = seen else {
            panic!("{seen:?}");
        };
        assert!(why.contains(BUSY), "{why}");
        // What follows is not carried out by itself.
        office.other("udp dport=6\n", Outcome::Rest, FileState::Stopped);
        office.other("commit\n", Outcome::Rest, FileState::Stopped);
    }
    // Silence is counted from the last piece.
    office.one("udp dport=8\n", Outcome::Accepted, FileState::Loading);
    office.desk.wait(SILENCE - A_MOMENT);
    let seen = office.desk.write(&office.other, b"load\n", None, true);
    assert!(matches!(seen, Outcome::Refused(Errno::Busy, 1, _)));
    assert_eq!(office.desk.state(&office.one), FileState::Loading);
    // A load of one's own is no other's.
    let why = office.refused("load\n", FileState::Stopped);
    assert!(why.contains("a command inside a load"), "{why}");
    office.other("load\n", Outcome::Accepted, FileState::Loading);
}

#[test]
fn session_lets_a_load_take_over_from_a_silent_one() {
    assert_eq!(SILENCE, Duration::from_secs(10));
    let mut office = Office::loading();
    office.desk.wait(SILENCE);
    // Without another load, it goes on however long it was silent.
    office.other("# x\n", Outcome::Accepted, FileState::Plain);
    office.one("udp dport=8\n", Outcome::Accepted, FileState::Loading);
    office.desk.wait(SILENCE);
    office.other("load\nudp dport=7\n", Outcome::Accepted, FileState::Loading);
    assert_eq!(office.desk.state(&office.one), FileState::Superseded);
    assert_eq!(office.one.held(), 1);
    let lost = |how, rules| {
        let writer = 1;
        Some(LostLoad { how, writer, rules })
    };
    assert_eq!(office.desk.events().lost, lost(Lost::Superseded, 2));
    // It is told once, and kept no longer for that.
    let why = office.refused("udp dport=6\ncommit\n", FileState::Stopped);
    assert!(why.contains("another one took over"), "{why}");
    assert!(why.contains("text=udp dport=6\n"), "{why}");
    assert_eq!(office.one.held(), 0);
    office.one("commit\n", Outcome::Rest, FileState::Stopped);
    office.other("commit\n", changed("7 id=3"), FileState::Plain);
    assert_eq!(office.desk.events().lost, None);
    office.one("udp dport=6\n", Outcome::Rest, FileState::Stopped);
    office.one("load\n", Outcome::Accepted, FileState::Loading);
    office.one("commit\n", changed_to(""), FileState::Plain);
    office.one("udp dport=6\n", changed("6 id=4"), FileState::Plain);
}

/// One may take over from the one that took over from it.
#[test]
fn session_lets_loads_take_over_in_turn() {
    let mut office = Office::loading();
    for _ in 0..3 {
        office.desk.wait(SILENCE);
        office.other("load\n", Outcome::Accepted, FileState::Loading);
        assert_eq!(office.desk.state(&office.one), FileState::Superseded);
        office.desk.wait(SILENCE);
        office.one("load\n", Outcome::Accepted, FileState::Loading);
        assert_eq!(office.desk.state(&office.other), FileState::Superseded);
        assert_eq!((office.one.held(), office.other.held()), (1, 1));
    }
    // A superseded one that is too early is stopped.
    let seen = office.desk.write(&office.other, b"load\n", None, true);
    assert!(matches!(seen, Outcome::Refused(Errno::Busy, 1, _)));
    office.other("flush\n", Outcome::Rest, FileState::Stopped);
}

#[test]
fn session_forgets_files_that_are_closed() {
    let Office {
        mut desk,
        one,
        other,
    } = Office::loading();
    let closed = one.close();
    assert_eq!(closed.strong_count(), 1);
    // At once, and not only when the time has come.
    let seen = desk.write(&other, b"load\n", None, true);
    assert_eq!(seen, Outcome::Accepted);
    assert_eq!(closed.strong_count(), 0);

    let lost = LostLoad {
        how: Lost::Closed,
        writer: 1,
        rules: 1,
    };
    assert_eq!(desk.events().lost, Some(lost));
    assert_eq!(desk.events().lost, None);

    // Without a write, too.
    let Office {
        mut desk,
        one,
        other,
    } = Office::loading();
    assert!(desk.forget_closed());
    assert_eq!(desk.events().lost, None);
    let closed = one.close();
    assert!(!desk.forget_closed());
    assert_eq!(closed.strong_count(), 0);
    assert_eq!(desk.events().lost, Some(lost));
    let seen = desk.write(&other, b"# x\n", None, true);
    assert_eq!(seen, Outcome::Accepted);
    assert_eq!(desk.events().lost, None);

    // So does any write, and a file that was superseded is no more kept either.
    let Office {
        mut desk,
        one,
        other,
    } = Office::loading();
    desk.wait(SILENCE);
    let seen = desk.write(&other, b"load\n", None, true);
    assert_eq!(seen, Outcome::Accepted);
    let (one, other) = (one.close(), other.close());
    let third = File::open(3);
    let seen = desk.write(&third, b"", None, true);
    assert_eq!(seen, Outcome::Accepted);
    assert_eq!((one.strong_count(), other.strong_count()), (0, 0));
}

/// Memory that fails in the midst leaves the table, the other file's load, and this file stopped.
#[test]
fn session_without_memory() {
    /// Runs `write` on a new office with each allocation failing in its turn, at least `least` times;
    /// `check` sees what each leaves.
    fn failing(
        least: u32,
        office: fn() -> Office,
        text: &str,
        check: impl Fn(&mut Office),
        done: Outcome,
    ) {
        let mut memory = 0;
        loop {
            let mut office = office();
            let text = text.as_bytes();
            let seen = office.desk.write(&office.other, text, Some(memory), true);
            if seen == done {
                break;
            }
            assert!(
                matches!(seen, Outcome::Refused(Errno::NoMem, ..)),
                "{seen:?}"
            );
            assert_eq!(text_of(&office.desk.table), BASE);
            check(&mut office);
            memory += 1;
        }
        assert!(memory >= least, "{memory}");
    }

    let is_stopped = |office: &mut Office| {
        office.other("flush\n", Outcome::Rest, FileState::Stopped);
    };
    failing(
        4,
        Office::new,
        "load\nudp dport=7\ncommit\n",
        is_stopped,
        changed("7 id=3"),
    );
    failing(
        1,
        Office::new,
        "load\nudp dp",
        is_stopped,
        Outcome::Accepted,
    );
    failing(1, Office::new, "flush\n", is_stopped, changed_to(""));
    // Noting the other file comes first: without memory for that, its load stays open.
    let silent = || {
        let office = Office::loading();
        office.desk.wait(SILENCE);
        office
    };
    let noted = std::cell::Cell::new(0);
    failing(
        2,
        silent,
        "load\nudp dp",
        |office| {
            is_stopped(office);
            match office.desk.state(&office.one) {
                FileState::Loading => {
                    office.one("commit\n", changed("9 id=3"), FileState::Plain);
                    noted.set(noted.get() + 1);
                }
                state => assert_eq!(state, FileState::Superseded),
            }
        },
        Outcome::Accepted,
    );
    assert_eq!(noted.get(), 1);
}

/// Of a load that is committed, and of no other.
#[test]
fn session_tells_which_rules_are_left_out() {
    let mut office = Office::new();
    let left_out = |office: &mut Office| office.desk.events().left_out;
    let text = "load lenient\nudp dport=1\nudp dport=2 tag=a\nudp dport=3 netns=5\n";
    office.one(text, Outcome::Accepted, FileState::Loading);
    assert_eq!(left_out(&mut office), LeftOut::default());
    // Also where nothing changes.
    office.one("commit\n", Outcome::Accepted, FileState::Plain);
    assert_eq!(left_out(&mut office), LeftOut { rules: 1, line: 3 });
    office.one(text, Outcome::Accepted, FileState::Loading);
    office.one("abort\n", Outcome::Accepted, FileState::Plain);
    assert_eq!(left_out(&mut office), LeftOut::default());
    office.one(text, Outcome::Accepted, FileState::Loading);
    office.refused("frob\n", FileState::Stopped);
    assert_eq!(left_out(&mut office), LeftOut::default());
}

#[test]
fn session_reports_a_load_that_was_closed() {
    let report = closed();
    assert_eq!(
        (report.refusal().errno, report.line()),
        (Errno::Canceled, 0)
    );
    assert!(report.to_string().contains("closed without commit"));
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let text = prop_oneof![
        9 => select(TEXTS.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    let memory = proptest::option::weighted(0.2, 0..12u32);
    let write = (0..FILES, text, memory, proptest::bool::weighted(0.9)).prop_map(
        |(file, text, memory, commits)| Op::Write {
            file,
            text,
            memory,
            commits,
        },
    );
    let op = prop_oneof![
        8 => write,
        1 => (0..FILES).prop_map(Op::Reopen),
        2 => select(TIMES.to_vec()).prop_map(Op::Wait),
    ];
    vec(op, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever is written, through whichever file and whenever, has the outcome that the model says.
    #[test]
    fn session_does_as_the_model_does(ops in ops()) {
        play(&ops);
    }
}
