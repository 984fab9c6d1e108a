// SPDX-License-Identifier: GPL-2.0

//! Memory that runs out: each allocation fails in its turn, and nothing comes of it but the report.

use ctskip_pure::{
    alloc::Arc,
    language::{
        refusal::Errno,
        report::Report, //
    },
    matcher::ruleset::Ruleset,
    packet::{
        ends::NoEnds,
        header::Transport, //
    },
    table::{
        command,
        listing::{
            counter_lines,
            Listing,
            Shadow,
            Tags, //
        },
        load::{
            Load,
            Progress, //
        },
        Change,
        Table, //
    },
};

use ctskip_testkit::world::{
    changed,
    failing_in_turn,
    key,
    netns,
    read,
    run,
    table,
    text_of,
    Slot,
    Unlimited,
    World, //
};

const BASE: &str =
    "udp dport=1 tag=a\nudp dport=2 tag=b netns=4026532001\ntcp dst=10.0.0.0/8 dport=3,4 tag=a\n";

/// Runs `action` until it does not fail for want of memory any more; until then it must say so and
/// change nothing. It allocates at least `least` times.
#[track_caller]
fn assert_all_or_nothing(
    least: u32,
    action: impl Fn(&Table<Slot>, &World) -> Result<Option<Change<Slot>>, Report>,
) -> String {
    let world = World::default();
    let base = table(BASE, &world);
    let before = text_of(&base);
    let live = world.live();
    let mut after = String::new();
    let count = failing_in_turn(
        || action(&base, &world),
        |result| {
            match result {
                Err(report) if report.refusal().errno == Errno::NoMem => {
                    assert_eq!(world.live(), live, "slots leaked");
                    assert_eq!(text_of(&base), before);
                    assert!(!report.to_string().is_empty());
                    return false;
                }
                Err(report) => panic!("{report}"),
                Ok(None) => after = before.clone(),
                Ok(Some(change)) => after = text_of(&change.table),
            }
            true
        },
    );
    assert!(count >= least, "only {count} allocations");
    assert_eq!(world.live(), live);
    after
}

#[test]
fn writes() {
    let after = assert_all_or_nothing(12, |base, world| {
        run(
            base,
            "udp dport=9 tag=new\ninsert before=2 tcp src=::1,::2 dport=80 tag=other dev=eth0,eth1\n\
             delete 1\nudp dport=10 tag=new\n",
            world,
        )
    });
    assert_eq!(after.lines().count(), 5);
    assert_all_or_nothing(1, |base, world| run(base, "flush\n", world));
    assert_all_or_nothing(1, |base, world| run(base, "delete tag=a\n", world));
}

#[test]
fn loads() {
    let fed = |text: &'static str, size: usize| {
        move |base: &Table<Slot>, world: &World| {
            let mut load = Load::new();
            for piece in text.as_bytes().chunks(size) {
                if let Progress::Commit = load.feed(piece, world)? {
                    return load.commit(base, world);
                }
            }
            panic!("no commit");
        }
    };
    let text = "load\nudp dport=9 tag=x\nudp dport=2 tag=b netns=4026532001\nudp dport=1 tag=a\n\
                tcp dport=80 id=3000\nudp dport=9\ncommit\n";
    assert_all_or_nothing(15, fed(text, 4096));
    assert_all_or_nothing(20, fed(text, 7));
    let text = "load tag=a\nudp dport=9\nudp dport=1\ncommit\n";
    assert_all_or_nothing(9, fed(text, 4096));
    let same = "load tag=b\nudp dport=2 netns=4026532001\ncommit\n";
    assert_all_or_nothing(6, fed(same, 4096));
}

/// A hint that there is no memory for is left out, and the refusal stays what it is.
#[test]
fn hints() {
    for (text, hint) in [
        (
            "udp dst=10.0.0.0/8 dport!=53 tag=t",
            "insert track udp dst=10.0.0.0/8 dport=53 tag=t",
        ),
        ("udp dev=!lo any", "insert track udp dev=lo any"),
        (
            "-p udp -s 10.0.0.1,10.0.0.2 --dport 53",
            "udp src=10.0.0.1,10.0.0.2 dport=53",
        ),
    ] {
        let whole = read(text).unwrap_err();
        let mut without = 0;
        failing_in_turn(
            || read(text),
            |result| {
                let refusal = result.unwrap_err();
                if refusal.errno == Errno::NoMem {
                    return false;
                }
                assert_eq!((refusal.errno, refusal.what), (whole.errno, whole.what));
                let Some(likely) = refusal.likely else {
                    without += 1;
                    return false;
                };
                assert_eq!(likely.to_string(), hint);
                true
            },
        );
        assert!(without > 0, "{text}");
    }
}

#[test]
fn the_parameter() {
    assert_all_or_nothing(6, |_, world| {
        command::from_parameter(
            b"udp+dport=53+tag=a++tcp+dst=10.0.0.0/8+dport=1,2,3",
            world,
            world,
        )
    });
}

#[test]
fn namespaces_that_go() {
    let after = assert_all_or_nothing(1, |base, _| Ok(base.without_netns(|id| id == netns(1))?));
    assert_eq!(after.lines().count(), 2);
}

#[test]
fn compiling() {
    let world = World::default();
    let table = Arc::new(table(BASE, &world)).unwrap();
    let key = key(17, "10.0.0.1", "10.0.0.2", Transport::Ports(1, 4000));
    let count = failing_in_turn(
        || Ruleset::compile(table.clone(), &Unlimited),
        |result| match result {
            Err(_) => {
                assert_eq!(world.live(), 3);
                false
            }
            Ok(ruleset) => {
                let found = ruleset
                    .lookup(&ruleset.sections(ruleset.scope(true, 1)), &key, NoEnds)
                    .unwrap();
                assert_eq!(ruleset.entry(found).unwrap().id(), 1);
                true
            }
        },
    );
    assert!(count >= 6, "only {count} allocations");

    assert!(failing_in_turn(|| Listing::new(&table), |result| result.is_ok()) >= 1);
    let lines = || counter_lines(&table, |_| Shadow::None);
    assert!(failing_in_turn(lines, |result| result.is_ok()) >= 1);
    assert!(failing_in_turn(|| Tags::new(&table), |result| result.is_ok()) >= 2);

    let other = changed(
        &Table::new(),
        "udp src=10.0.0.1 dport=1 dev=lo\nicmp type=8\n",
        &world,
    );
    let other = Arc::new(other).unwrap();
    let count = failing_in_turn(
        || Ruleset::compile(other.clone(), &Unlimited),
        |result| result.is_ok(),
    );
    assert!(count >= 5, "only {count} allocations");
}
