// SPDX-License-Identifier: GPL-2.0

//! Writes that are no `load`: each command, and that all lines of a write count or none.

use ctskip_pure::{
    language::{
        refusal::Errno,
        report::Report, //
    },
    rule::Rule,
    table::{
        command,
        listing::Listing,
        selection::Selection,
        Change,
        Table,
        MAX_RULES, //
    },
};
use ctskip_testkit::world::{
    changed,
    ids,
    netns,
    purged_by,
    run,
    slot_numbers,
    table,
    text_of,
    Slot,
    World, //
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select, //
};

const THREE: &str = "udp dport=1 tag=a\nudp dport=2 tag=b\nudp dport=3 tag=a\n";

/// The destination ports of a table's rules, in order: what tells them from each other.
fn ports_of(table: &Table<Slot>) -> Vec<u16> {
    let port = |rule: &Rule| {
        rule.destination_ports()
            .next()
            .map_or(0, |range| range.first())
    };
    table
        .entries()
        .iter()
        .map(|entry| port(entry.rule()))
        .collect()
}

fn sum_of(table: &Table<Slot>) -> u64 {
    Listing::new(table).unwrap().sum()
}

#[track_caller]
fn assert_errno(result: Result<Option<Change<Slot>>, Report>, errno: Errno) -> Report {
    let report = result.map(drop).expect_err("it was accepted");
    assert_eq!(report.refusal().errno, errno, "{report}");
    report
}

#[test]
fn rules_are_added_at_the_end() {
    let world = World::default();
    let table = table(
        "udp dport=1\nadd udp dport=2\n  add udp dport=3; udp dport=4\n",
        &world,
    );
    assert_eq!(ports_of(&table), [1, 2, 3, 4]);
    assert_eq!(ids(&table), [1, 2, 3, 4]);
    assert_eq!(world.live(), 4);
    drop(table);
    assert_eq!(world.live(), 0);
}

#[test]
fn rules_are_inserted() {
    let world = World::default();
    let base = table(THREE, &world);
    assert_eq!(
        ports_of(&changed(&base, "insert udp dport=9\n", &world)),
        [9, 1, 2, 3]
    );
    assert_eq!(
        ports_of(&changed(&base, "insert before=1 udp dport=9\n", &world)),
        [9, 1, 2, 3]
    );
    assert_eq!(
        ports_of(&changed(&base, "insert before=3 udp dport=9\n", &world)),
        [1, 2, 9, 3]
    );
    let twice = changed(
        &base,
        "insert udp dport=8\ninsert udp dport=9 id=50\n",
        &world,
    );
    assert_eq!(ports_of(&twice), [9, 8, 1, 2, 3]);
    assert_eq!(ids(&twice), [50, 4, 1, 2, 3]);
    let chained = changed(
        &base,
        "insert udp dport=8 id=77\ninsert before=77 udp dport=9\n",
        &world,
    );
    assert_eq!(ports_of(&chained), [9, 8, 1, 2, 3]);
    assert_eq!(ids(&chained), [78, 77, 1, 2, 3]);
    let empty = Table::new();
    assert_eq!(
        ports_of(&changed(&empty, "insert udp dport=9\n", &world)),
        [9]
    );
}

#[test]
fn rules_are_deleted() {
    let world = World::default();
    let base = table(THREE, &world);
    for (text, left) in [
        ("delete 1\n", vec![2, 3]),
        ("delete id=2\n", vec![1, 3]),
        ("delete 3\ndelete 1\n", vec![2]),
        ("delete tag=a\n", vec![2]),
        ("delete tag=b\n", vec![1, 3]),
        ("flush\n", vec![]),
        ("flush; udp dport=7\n", vec![7]),
        ("delete 2\nudp dport=2 tag=b\n", vec![1, 3, 2]),
        ("delete+2++udp+dport=7\n", vec![1, 3, 7]),
    ] {
        let next = changed(&base, text, &world);
        assert_eq!(ports_of(&next), left, "{text:?}");
    }
    assert_eq!(world.live(), 3);
}

#[test]
fn rules_to_purge_by() {
    let world = World::default();
    let base = table(THREE, &world);
    let by = |text: &str| purged_by(&base, text, &world).ok().flatten();
    for (text, ids) in [
        ("purge 1\n", &[1][..]),
        ("purge id=3,1\n", &[1, 3]),
        ("purge tag=a\n", &[1, 3]),
        ("purge 2\npurge tag=b; purge 1\n", &[1, 2, 2]),
        // Those of the table that the write makes.
        ("udp dport=4\npurge 4\n", &[4]),
        ("delete 1\npurge tag=a\n", &[3]),
        ("track tcp any tag=a\npurge tag=a\n", &[1, 3, 4]),
    ] {
        let Some(Selection::Ids(seen)) = by(text) else {
            panic!("{text:?}");
        };
        assert_eq!(&*seen, ids, "{text:?}");
    }
    for text in [
        "purge\n",
        "purge 1; purge\n",
        "purge\npurge 1 # x\n\n",
        "flush; purge\n",
    ] {
        assert!(matches!(by(text), Some(Selection::All)), "{text:?}");
    }
    assert!(by("udp dport=4\n").is_none());
    // By itself it changes nothing; with other commands, they are carried out.
    assert!(matches!(run(&base, "purge\n", &world), Ok(None)));
    assert_eq!(ids(&changed(&base, "delete 2\npurge\n", &world)), [1, 3]);
}

#[test]
fn rules_that_are_selected() {
    let world = World::default();
    let table = table(
        "udp dport=1 id=5\ntrack udp dport=2 id=3\nudp dport=3 id=9\n",
        &world,
    );
    let all = |selection: &Selection| -> Vec<u32> {
        let entries = table.entries().iter();
        let skips = entries.filter(|entry| selection.skips(entry));
        skips.map(|entry| entry.id()).collect()
    };
    for selection in [Selection::All, Selection::Loaded] {
        assert_eq!(all(&selection), [5, 9]);
        assert_eq!(selection.count(&table), 2);
        assert!(selection.has(3) && selection.has(4));
    }
    let some = purged_by(&table, "purge 9\n", &world)
        .ok()
        .flatten()
        .unwrap();
    assert_eq!(all(&some), [9]);
    assert_eq!(some.count(&table), 1);
}

#[test]
fn a_purge_while_no_rule_acts() {
    for (text, line, column) in [
        ("purge\n", 1, 1),
        ("udp any # purge\nudp any;  purge 1\n", 2, 11),
    ] {
        let report = command::idle_purge(text.as_bytes());
        assert_eq!((report.line(), report.column()), (line, column), "{report}");
        assert_eq!(report.refusal().errno, Errno::Inval);
    }
}

#[test]
fn numbers_ascend_and_are_not_given_again() {
    let world = World::default();
    let base = table(
        "udp dport=1\nudp dport=2 id=10\nudp dport=3\nudp dport=4 id=5\nudp dport=5\n",
        &world,
    );
    assert_eq!(ids(&base), [1, 10, 11, 5, 12]);
    let next = changed(&base, "delete 12\n", &world);
    let next = changed(&next, "udp dport=6\n", &world);
    assert_eq!(ids(&next), [1, 10, 11, 5, 13]);
    let next = changed(&next, "flush\n", &world);
    assert_eq!(ids(&changed(&next, "udp dport=6\n", &world)), [14]);
    // One that is free may be asked for, as soon as the same write has freed it.
    assert_eq!(
        ids(&changed(&base, "delete 5; udp dport=9 id=5\n", &world)),
        [1, 10, 11, 12, 5]
    );
    for id in [1, 5, 10, 12] {
        let report = assert_errno(
            run(&base, &format!("udp any id={id}\n"), &world),
            Errno::Exist,
        );
        assert_eq!(report.column(), 9);
    }
}

/// None is given twice: behind the highest one there is none, until the rule that has it has gone.
#[test]
fn numbers_run_out() {
    let world = World::default();
    let base = table(
        "udp dport=1 id=4294967293\nudp dport=2\nudp dport=3\n",
        &world,
    );
    assert_eq!(ids(&base), [u32::MAX - 2, u32::MAX - 1, u32::MAX]);
    for text in [
        "udp dport=4\n",
        "insert udp dport=4\n",
        "udp dport=4 id=7; udp dport=5\n",
        // What the same write has freed is not given again.
        "delete 4294967295\nudp dport=4\n",
        "flush\nudp dport=4\n",
    ] {
        let report = assert_errno(run(&base, text, &world), Errno::NoSpc);
        assert!(report.refusal().what.starts_with("no number is left"));
    }
    assert_errno(run(&base, "udp any id=4294967295\n", &world), Errno::Exist);
    // A number that is not in use may be asked for.
    let next = changed(&base, "udp dport=4 id=1\n", &world);
    let next = changed(&next, "delete 4294967295\n", &world);
    let next = changed(&next, "udp dport=5\n", &world);
    assert_eq!(ids(&next), [u32::MAX - 2, u32::MAX - 1, 1, u32::MAX]);
    let next = changed(&next, "delete 4294967293; delete 4294967294\n", &world);
    let next = changed(&next, "delete 4294967295\n", &world);
    let next = changed(&next, "udp dport=6\nudp dport=7\n", &world);
    assert_eq!(ids(&next), [1, 2, 3]);
}

#[test]
fn a_refused_line_takes_all_others_with_it() {
    let world = World::default();
    let base = table(THREE, &world);
    let before = text_of(&base);
    for bad in [
        "frob",
        "udp any id=2",
        "delete 9",
        "delete tag=x",
        "insert before=9 udp any",
        "load",
        "commit",
    ] {
        for text in [
            format!("{bad}\n"),
            format!("udp dport=7\nudp dport=8\n{bad}\n"),
            format!("flush\nudp dport=7 id=2\n{bad}\nudp dport=8\n"),
            format!("delete tag=a; insert udp dport=7 id=9000 tag=y; {bad}; flush\n"),
        ] {
            let Err(report) = run(&base, &text, &world) else {
                panic!("{text:?} was accepted");
            };
            assert_eq!(
                report.excerpt(),
                text.lines().find(|l| l.contains(bad)).unwrap()
            );
            assert_eq!(text_of(&base), before);
            assert_eq!(world.live(), 3);
        }
    }
}

#[test]
fn what_changes_nothing_makes_no_table() {
    let world = World::default();
    let base = table(THREE, &world);
    for text in [
        "",
        "\n",
        "# udp any\n",
        " ; ;\n\n",
        "udp dport=9 id=9\ndelete 9\n",
    ] {
        assert!(matches!(run(&base, text, &world), Ok(None)), "{text:?}");
    }
    // The same rule once more is a rule more, and a rule made anew has counters of its own.
    assert_eq!(
        ports_of(&changed(&base, "udp dport=1 tag=a\n", &world)),
        [1, 2, 3, 1]
    );
    let anew = changed(&base, "delete 3\nudp dport=3 tag=a id=3\n", &world);
    assert_eq!(text_of(&anew), text_of(&base));
    assert_ne!(slot_numbers(&anew), slot_numbers(&base));
}

#[test]
fn the_parameter_makes_a_table() {
    let world = World::default();
    let made = |text: &str| match command::from_parameter(text.as_bytes(), &world, &world) {
        Ok(change) => change.map(|change| change.table),
        Err(report) => panic!("{text:?}: {report}"),
    };
    for empty in ["", " ", "\n"] {
        assert!(made(empty).is_none());
    }
    let table = made("udp+dport=53++tcp+dst=10.0.0.0/8+dport=6379++track+any").unwrap();
    assert_eq!(
        text_of(&table),
        "skip udp dport=53 id=1\nskip tcp dst=10.0.0.0/8 dport=6379 id=2\ntrack any id=3\n"
    );
    let table = made("udp dport=1 id=7; udp dport=2\nudp dport=3").unwrap();
    assert_eq!(
        text_of(&table),
        "skip udp dport=1 id=7\nskip udp dport=2 id=8\nskip udp dport=3 id=9\n"
    );
}

/// It takes rules as a write does, and is told so.
#[test]
fn the_parameter_takes_rules_only() {
    let world = World::default();
    let read = |text: &str| command::from_parameter(text.as_bytes(), &world, &world);
    let table = match read("add udp dport=1; add+udp+dport=2++add+udp+dport=3\nadd udp+dport=4") {
        Ok(Some(change)) => change.table,
        _ => panic!("refused"),
    };
    assert_eq!(ports_of(&table), [1, 2, 3, 4]);
    for text in [
        "insert udp any",
        "delete 1",
        "flush",
        "load",
        "commit",
        "abort",
    ] {
        let report = assert_errno(read(&format!("udp any; {text}")), Errno::Inval);
        let what = "a command in the first table, which has rules only";
        assert_eq!((report.refusal().what, report.column()), (what, 10));
    }
    let report = assert_errno(read("add frob"), Errno::Inval);
    let expected = report.refusal().expected;
    assert!(expected.starts_with("a protocol, or one of "), "{expected}");
    let report = assert_errno(read("add"), Errno::Inval);
    assert_eq!(report.column(), 4);
}

/// Behind a command as without one.
#[test]
fn rules_without_white_space_behind_a_command() {
    let world = World::default();
    let table = table(
        "add udp+dport=1\ninsert udp+dport=2\ninsert before=1 udp+dport=3\nadd tcp+flags=syn+ack+dport=4\n\
         insert+before=1+udp+dport=5\nadd\tudp+dport=6;add any\n",
        &world,
    );
    assert_eq!(ports_of(&table), [2, 3, 5, 1, 4, 6, 0]);
    for (text, what, column) in [
        ("add udp+dport=1+\n", "a `+` that separates nothing", 16),
        ("add +udp+dport=1\n", "a `+` that separates nothing", 5),
        ("+add+udp+dport=1\n", "a `+` that separates nothing", 1),
        ("add+\n", "a `+` that separates nothing", 4),
        ("add\n", "a rule is missing", 4),
        ("insert before=1\n", "a rule is missing", 16),
        ("add udp+dport=1 any\n", "an unknown word", 5),
        ("add udp dport=1+any\n", "not a number in range", 15),
    ] {
        let report = assert_errno(run(&table, text, &world), Errno::Inval);
        assert_eq!(
            (report.refusal().what, report.column()),
            (what, column),
            "{text}"
        );
    }
}

#[test]
fn a_write_is_a_load_by_its_first_word() {
    for text in [
        "load",
        "load\n",
        "load tag=a\nudp any",
        "\n\n# x\n  load\n",
        "load;udp any",
        "load+tag=a",
        ";;load",
    ] {
        assert!(command::opens_load(text.as_bytes()), "{text:?}");
    }
    for text in [
        "",
        "\n",
        "# load\n",
        "add load\n",
        "udp any\nload\n",
        "loads\n",
        "commit\nload\n",
    ] {
        assert!(!command::opens_load(text.as_bytes()), "{text:?}");
    }
}

/// Refusals that the caller finds reason for: they too point to a place in the text.
#[test]
fn refusals_of_the_caller() {
    let place = |report: &Report| (report.refusal().errno, report.line(), report.column());
    for (text, line, column) in [
        ("load\n", 1, 1),
        ("# x\n\n  load tag=a\nudp any\n", 3, 3),
        ("", 0, 1),
    ] {
        let report = command::busy(text.as_bytes());
        assert_eq!(place(&report), (Errno::Busy, line, column), "{text:?}");
    }
    for (text, line, column) in [("udp any\ntcp any", 2, 8), ("udp any\n", 2, 1), ("", 1, 1)] {
        let report = command::full_page(text.as_bytes());
        assert_eq!(place(&report), (Errno::Inval, line, column), "{text:?}");
    }
}

#[test]
fn errno_names() {
    for (errno, name) in [
        (Errno::Inval, "EINVAL"),
        (Errno::Exist, "EEXIST"),
        (Errno::NoEnt, "ENOENT"),
        (Errno::Srch, "ESRCH"),
        (Errno::NoSpc, "ENOSPC"),
        (Errno::Busy, "EBUSY"),
        (Errno::NoMem, "ENOMEM"),
        (Errno::NoDev, "ENODEV"),
        (Errno::Canceled, "ECANCELED"),
    ] {
        assert_eq!(errno.name(), name);
    }
}

#[test]
fn a_table_holds_so_many_rules_and_no_more() {
    let world = World::default();
    let text = "udp dport=1\n".repeat(MAX_RULES);
    let full = table(&text, &world);
    assert_eq!(full.entries().len(), MAX_RULES);
    let report = assert_errno(run(&full, "udp dport=2\n", &world), Errno::NoSpc);
    assert_eq!(report.line(), 1);
    assert_errno(run(&full, "insert udp dport=2\n", &world), Errno::NoSpc);
    let report = assert_errno(
        run(&Table::new(), &format!("{text}udp dport=2\n"), &world),
        Errno::NoSpc,
    );
    assert_eq!(usize::try_from(report.line()).unwrap(), MAX_RULES + 1);
    assert_eq!(world.live(), MAX_RULES);
    // The rules are counted at the end of the write, whatever order it has.
    for text in ["delete 77\nudp dport=2\n", "udp dport=2\ndelete 77\n"] {
        let next = changed(&full, text, &world);
        assert_eq!(next.entries().len(), MAX_RULES);
    }
    let text = "udp dport=2; delete 77\nudp dport=3 # x\n delete 78; udp dport=4; udp dport=5\n";
    let report = assert_errno(run(&full, text, &world), Errno::NoSpc);
    assert_eq!((report.line(), report.column()), (3, 13));
    let text = "udp dport=2\nudp dport=3\ndelete 78\n";
    let report = assert_errno(run(&full, text, &world), Errno::NoSpc);
    assert_eq!((report.line(), report.column()), (1, 1));
}

#[test]
fn the_rules_of_a_namespace_go_with_it() {
    let world = World::default();
    let base = table(
        "udp dport=1 netns=4026532001\nudp dport=2\nudp dport=3 netns=4026532002\nudp dport=4 netns=init\n\
         udp dport=5 netns!=init\nudp dport=6 netns=pid:101\n",
        &world,
    );
    let change = base.without_netns(|id| id == netns(1)).unwrap().unwrap();
    assert_eq!(ports_of(&change.table), [2, 3, 4, 5]);
    assert_eq!((change.added, change.removed), (0, 2));
    assert!(change
        .table
        .without_netns(|id| id == netns(1))
        .unwrap()
        .is_none());
    let both = base.without_netns(|id| id != netns(7)).unwrap().unwrap();
    assert_eq!(ports_of(&both.table), [2, 4, 5]);
    assert_eq!(both.removed, 3);
    assert!(base.without_netns(|id| id == netns(7)).unwrap().is_none());
    assert_eq!(
        ids(&changed(&change.table, "udp any\n", &world)),
        [2, 3, 4, 5, 7]
    );
}

/// One command, as the model below understands it.
#[derive(Clone, Debug)]
enum Command {
    Add(u16, Option<&'static str>, Option<u32>),
    Insert(Option<u32>, u16, Option<&'static str>, Option<u32>),
    Delete(u32),
    DeleteTag(&'static str),
    Flush,
}

impl Command {
    fn text(&self) -> String {
        let rule = |port: &u16, tag: &Option<&str>, id: &Option<u32>| {
            let tag = tag.map_or(String::new(), |tag| format!(" tag={tag}"));
            let id = id.map_or(String::new(), |id| format!(" id={id}"));
            format!("skip udp dport={port}{tag}{id}")
        };
        match self {
            Self::Add(port, tag, id) => format!("add {}", rule(port, tag, id)),
            Self::Insert(None, port, tag, id) => format!("insert {}", rule(port, tag, id)),
            Self::Insert(Some(before), port, tag, id) => {
                format!("insert before={before} {}", rule(port, tag, id))
            }
            Self::Delete(id) => format!("delete {id}"),
            Self::DeleteTag(tag) => format!("delete tag={tag}"),
            Self::Flush => "flush".to_owned(),
        }
    }
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let port = 1..6u16;
    let tag = || proptest::option::of(select(vec!["a", "b"]));
    let known = || 1..8u32;
    let id = || {
        proptest::option::weighted(
            0.3,
            prop_oneof![9 => 1..12u32, 1 => (u32::MAX - 2)..=u32::MAX],
        )
    };
    let one = prop_oneof![
        8 => (port.clone(), tag(), id()).prop_map(|(port, tag, id)| Command::Add(port, tag, id)),
        4 => (proptest::option::of(known()), port, tag(), id())
            .prop_map(|(before, port, tag, id)| Command::Insert(before, port, tag, id)),
        3 => known().prop_map(Command::Delete),
        1 => select(vec!["a", "b"]).prop_map(Command::DeleteTag),
        1 => Just(Command::Flush),
    ];
    vec(one, 0..6)
}

/// What a table should be, the simple way: each rule with a number of its own for ever.
#[derive(Clone, Default)]
struct Model {
    rules: Vec<ModelRule>,
    last: u32,
    made: u32,
}

#[derive(Clone)]
struct ModelRule {
    made: u32,
    id: u32,
    port: u16,
    tag: Option<&'static str>,
}

impl Model {
    fn text(&self) -> String {
        let line = |rule: &ModelRule| {
            let tag = rule.tag.map_or(String::new(), |tag| format!(" tag={tag}"));
            format!("skip udp dport={}{tag} id={}\n", rule.port, rule.id)
        };
        self.rules.iter().map(line).collect()
    }

    fn has(&self, id: u32) -> bool {
        self.rules.iter().any(|rule| rule.id == id)
    }

    fn put(
        &mut self,
        at: usize,
        port: u16,
        tag: Option<&'static str>,
        id: Option<u32>,
    ) -> Result<(), Errno> {
        let id = match id {
            Some(id) if self.has(id) => return Err(Errno::Exist),
            Some(id) => id,
            None => self.last.checked_add(1).ok_or(Errno::NoSpc)?,
        };
        // What was given once, is not given again by itself.
        self.last = self.last.max(id);
        self.made += 1;
        self.rules.insert(
            at,
            ModelRule {
                made: self.made,
                id,
                port,
                tag,
            },
        );
        Ok(())
    }

    fn carry_out(&mut self, command: &Command) -> Result<(), Errno> {
        let before = self.rules.len();
        match *command {
            Command::Add(port, tag, id) => return self.put(before, port, tag, id),
            Command::Insert(place, port, tag, id) => {
                let at = match place {
                    None => 0,
                    Some(id) => self
                        .rules
                        .iter()
                        .position(|r| r.id == id)
                        .ok_or(Errno::NoEnt)?,
                };
                return self.put(at, port, tag, id);
            }
            Command::Delete(id) => self.rules.retain(|rule| rule.id != id),
            Command::DeleteTag(tag) => self.rules.retain(|rule| rule.tag != Some(tag)),
            Command::Flush => {
                self.rules.clear();
                return Ok(());
            }
        }
        if self.rules.len() == before {
            Err(Errno::NoEnt)
        } else {
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Writes of several commands, one after the other, do what the model does.
    #[test]
    fn writes_do_what_the_model_does(writes in vec(commands(), 1..6)) {
        let world = World::default();
        let mut table = Table::<Slot>::new();
        let mut model = Model::default();
        for write in writes {
            let text: String = write.iter().map(|command| command.text() + "\n").collect();
            let mut next = model.clone();
            if next.last == u32::MAX {
                next.last = next.rules.iter().map(|rule| rule.id).max().unwrap_or(0);
            }
            let mut refused = None;
            for (number, command) in (1u32..).zip(&write) {
                if let Err(errno) = next.carry_out(command) {
                    refused = Some((number, errno));
                    break;
                }
            }
            let old = |made: u32| model.rules.iter().any(|rule| rule.made == made);
            let added = next.rules.iter().filter(|rule| !old(rule.made)).count();
            let new = |made: u32| next.rules.iter().any(|rule| rule.made == made);
            let removed = model.rules.iter().filter(|rule| !new(rule.made)).count();
            let moved = |rules: &[ModelRule]| rules.iter().map(|rule| rule.made).collect::<Vec<_>>();

            match (run(&table, &text, &world), refused) {
                (Err(report), Some((number, errno))) => {
                    prop_assert_eq!((report.line(), report.refusal().errno), (number, errno), "{}", text);
                }
                (Ok(None), None) => {
                    prop_assert_eq!(moved(&next.rules), moved(&model.rules), "{}", text);
                }
                (Ok(Some(change)), None) => {
                    prop_assert_ne!(moved(&next.rules), moved(&model.rules), "{}", &text);
                    prop_assert_eq!(text_of(&change.table), next.text(), "{}", text);
                    prop_assert_eq!((change.added, change.removed), (added, removed), "{}", text);
                    table = change.table;
                    model = next;
                }
                (Ok(_), Some(refused)) => prop_assert!(false, "{:?} expected: {}", refused, text),
                (Err(report), None) => prop_assert!(false, "{}: {}", text, report),
            }
            prop_assert_eq!(world.live(), table.entries().len());
            prop_assert_eq!(text_of(&table), model.text());
        }
    }

    /// The sum is of the rules and their order, however they came there.
    #[test]
    fn sums_are_of_rules_and_order(
        ports in vec(1..5u16, 0..6),
        others in vec(1..5u16, 0..6),
        detour in vec((0..6usize, 1..5u16), 0..4),
    ) {
        let world = World::default();
        let sum = |ports: &[u16]| {
            let line = |port: &u16| format!("udp dport={port}\n");
            let text: String = ports.iter().map(line).collect();
            match run(&Table::new(), &text, &world) {
                Ok(change) => sum_of(&change.map_or(Table::new(), |change| change.table)),
                Err(report) => panic!("{report}"),
            }
        };
        prop_assert_eq!(sum(&ports) == sum(&others), ports == others);

        // The same rules by another way, with other ids.
        let mut text = String::new();
        for (i, port) in ports.iter().enumerate().rev() {
            text += &format!("insert udp dport={port} id={}\n", 100 + i);
        }
        for (i, (before, port)) in detour.iter().enumerate() {
            let before = if *before < ports.len() { format!("before={}", 100 + before) } else { String::new() };
            text += &format!("insert {before} udp dport={port} id={}\ndelete {}\n", 500 + i, 500 + i);
        }
        let made = match run(&Table::new(), &text, &world) {
            Ok(change) => change.map_or(Table::new(), |change| change.table),
            Err(report) => panic!("{text}{report}"),
        };
        prop_assert_eq!(sum_of(&made), sum(&ports));
    }
}

/// A saved table comes back as it was, ids and all, as fast as one without.
#[test]
fn a_full_table_comes_back() {
    let world = World::default();
    let line = |id: usize| format!("udp dport=1 id={}\n", id * 3);
    let text: String = (1..=MAX_RULES).map(line).collect();
    let table = table(&text, &world);
    assert_eq!(text_of(&table), text.replace("udp", "skip udp"),);
}

/// The sum is over the whole canonical text.
#[test]
fn sums_tell_rules_apart() {
    let world = World::default();
    let texts = [
        "udp dport=53",
        "udp sport=53",
        "track udp dport=53",
        "udp dport=53 tag=a",
        "udp dport=53 oneway",
        "udp dport=53 nat=ok",
        "udp dport=53 netns=init",
        "tcp dport=53",
        "udp dport=53 dev=lo",
        "udp dport=53 dev=lo*",
        "ip udp dport=53",
        "udp dport=53 mark=1",
        "udp dport=53 local=dst",
    ];
    let sums: std::collections::BTreeSet<_> = texts
        .iter()
        .map(|text| sum_of(&table(&format!("{text}\n"), &world)))
        .collect();
    assert_eq!(sums.len(), texts.len());
    assert_eq!(
        sum_of(&table("udp any dport=53-53 id=9\n", &world)),
        sum_of(&table("skip+udp+dport=53\n", &world))
    );
    // One rule is not two, and none is none.
    assert!(!sums.contains(&sum_of(&Table::new())));
    assert!(!sums.contains(&sum_of(&table("udp dport=53\nudp dport=53\n", &world))));
}

/// A rule counts in one slot in all tables that hold it, and that lives as long as the last of them.
#[test]
fn slots_are_shared() {
    let world = World::default();
    let base = table(THREE, &world);
    let next = changed(&base, "insert udp dport=9\ndelete 2\n", &world);
    assert_eq!(slot_numbers(&base), [1, 2, 3]);
    assert_eq!(slot_numbers(&next), [4, 1, 3]);
    assert_eq!(world.live(), 4);
    drop(base);
    assert_eq!(world.live(), 3);
    drop(next);
    assert_eq!(world.live(), 0);
}
