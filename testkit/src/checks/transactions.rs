// SPDX-License-Identifier: GPL-2.0

//! Transactions in pieces: where a text is cut makes no difference.
//!
//! The input is text; the bytes behind its last NUL, if there is one, say how it is cut.

use ctskip_pure::{
    language::{
        report::Report,
        text::statements, //
    },
    table::{
        command,
        load::{
            Load,
            Progress, //
        },
        Change, //
    },
};

use super::rules::refused;
use crate::world::{
    loaded,
    text_of,
    Slot,
    Table,
    World, //
};

/// The table that the commands are about.
const BASE: &str = "udp dport=53 tag=a\ntcp dst=10.0.0.0/8 dport=80 tag=b\nicmp type=8 id=9\n\
                    udp dport=53 tag=b\ntrack udp any netns=4026532001\n";

/// Takes a write, or the pieces of a `load`.
pub fn transactions(data: &[u8]) {
    let last_nul = data.iter().rposition(|byte| *byte == 0);
    let (text, cuts) = match last_nul {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let world = &World::default();
    let base = loaded(&Table::new(), BASE, world).expect("rules");
    parameter(text, world);
    if command::opens_load(text) {
        load(&base, text, cuts, world);
    } else {
        write(&base, text, world);
    }
}

/// What a reader is told of a refusal.
fn told(report: &Report) -> (u32, usize, String) {
    (report.line(), report.column(), report.to_string())
}

/// The line that a report names is there, and the report shows its place.
fn check(report: &Report, text: &[u8]) {
    if let Some(number) = (report.line() as usize).checked_sub(1) {
        let line = text.split(|byte| *byte == b'\n').nth(number);
        refused(report.refusal(), line.expect("a line of the text"));
    }
}

/// As [`check()`], of a `load`: lines are counted from the one behind the `load`, if it stands alone.
fn check_load(report: &Report, text: &[u8]) {
    let mut lines = text.split(|byte| *byte == b'\n');
    let opening = lines.position(|line| statements(line).next().is_some());
    let alone = |line| statements(line).nth(1).is_none();
    let opening = opening.expect("a load");
    let mut lines = text.split(|byte| *byte == b'\n');
    let ahead = match alone(lines.nth(opening).expect("the load")) {
        true => opening + 1,
        false => 0,
    };
    let Some(number) = (report.line() as usize).checked_sub(1) else {
        return;
    };
    // The line of the `load` itself has the number that it has in the text.
    let number = [number + ahead, number].into_iter().find(|number| {
        let line = text.split(|byte| *byte == b'\n').nth(*number);
        line.is_some_and(|line| {
            Report::new(report.refusal().clone(), report.line(), line).excerpt() == report.excerpt()
        })
    });
    // A refusal at the end has no line at hand.
    assert!(number.is_some() || report.excerpt().is_empty(), "{report}");
}

/// A new table's numbers add up; written out and loaded, it changes nothing.
fn changed(base: &Table, change: Change<Slot>, world: &World) -> Table {
    let table = change.table;
    assert_eq!(
        base.entries().len() + change.added,
        table.entries().len() + change.removed
    );
    let mut ids: Vec<u32> = table.entries().iter().map(|entry| entry.id()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    assert!(loaded(&table, &text_of(&table), world).is_none());
    table
}

/// A write's lines one by one do what they do together, and fail where they fail together; but for a command
/// behind a purge.
fn write(base: &Table, text: &[u8], world: &World) {
    let whole = command::run(base, text, world, world).map(|done| done.change);
    if let Err(report) = &whole {
        check(report, text);
    }
    let behind = |report: &Report| report.refusal().what == "a command behind a purge";
    // An id that a line gives counts for the next lines of the write, though nothing comes of it.
    let no_id_left = |report: &Report| report.refusal().what.starts_with("no number is left");
    let apart = |report: &Report| behind(report) || no_id_left(report);
    if !text.ends_with(b"\n") || whole.as_ref().is_err_and(apart) {
        return;
    }
    let mut table = None;
    for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        let done = command::run(table.as_ref().unwrap_or(base), line, world, world);
        match done.map(|done| done.change) {
            Ok(Some(change)) => {
                table = Some(changed(table.as_ref().unwrap_or(base), change, world))
            }
            Ok(None) => {}
            Err(report) => {
                let (_, column, said) = told(&report);
                let whole = whole.err().expect("a refusal");
                assert_eq!(told(&whole), (number, column, said));
                return;
            }
        }
    }
    let one_by_one = text_of(table.as_ref().unwrap_or(base));
    let together = match whole {
        Ok(Some(change)) => text_of(&changed(base, change, world)),
        Ok(None) => text_of(base),
        Err(report) => panic!("refused: {}: {report}", report.line()),
    };
    assert_eq!(together, one_by_one);
}

/// What came of a `load`.
enum Fed {
    Commit(Option<String>),
    Abort,
    Open,
    Refused(Box<Report>),
    /// Refused by its commit.
    NotCommitted(Box<Report>),
}

/// Feeds pieces until the load ends; gives how many bytes it took, too.
fn feed<'a>(base: &Table, pieces: impl Iterator<Item = &'a [u8]>, world: &World) -> (Fed, usize) {
    let mut load = Load::new();
    let mut len = 0;
    for piece in pieces {
        len += piece.len();
        match load.feed(piece, world) {
            Ok(Progress::Open) => {}
            Ok(Progress::Abort) => return (Fed::Abort, len),
            Ok(Progress::Commit) => {
                let fed = match load.commit(base, world) {
                    Ok(change) => Fed::Commit(change.map(|c| text_of(&changed(base, c, world)))),
                    Err(report) => Fed::NotCommitted(report.into()),
                };
                return (fed, len);
            }
            Err(report) => return (Fed::Refused(report.into()), len),
        }
    }
    (Fed::Open, len)
}

/// A load in pieces is what it is in one, unless it came to its end ahead of what is or would be refused
/// behind that; and it is what the bytes that it took are in one.
fn load(base: &Table, text: &[u8], cuts: &[u8], world: &World) {
    let mut rest = text;
    let mut sizes = cuts.iter().cycle();
    let pieces = std::iter::from_fn(|| {
        let size = sizes.next().map_or(rest.len(), |cut| usize::from(*cut) + 1);
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    let (many, len) = feed(base, pieces, world);
    let (whole, _) = feed(base, [text].into_iter(), world);
    if let Fed::Refused(report) | Fed::NotCommitted(report) = &whole {
        check_load(report, text);
    }
    let ended = |fed: &Fed| !matches!(fed, Fed::Open | Fed::Refused(_));
    // Behind an end not even a comment may begin whose rest may come with the next piece. And a line with an
    // end in it is read though its newline has not come.
    let is_whole = text[..len].ends_with(b"\n");
    let behind = |fed: &Fed| match fed {
        Fed::Refused(report) => !is_whole || report.refusal().what.starts_with("text behind"),
        _ => false,
    };
    if !behind(&many) && (ended(&whole) || !ended(&many)) {
        same(&whole, &many);
    }
    let (taken, _) = feed(base, [&text[..len]].into_iter(), world);
    same(&taken, &many);
}

fn same(one: &Fed, many: &Fed) {
    match (one, many) {
        (Fed::Commit(one), Fed::Commit(many)) => assert_eq!(one, many),
        (Fed::Refused(one), Fed::Refused(many))
        | (Fed::NotCommitted(one), Fed::NotCommitted(many)) => assert_eq!(told(one), told(many)),
        (Fed::Open, Fed::Open) | (Fed::Abort, Fed::Abort) => {}
        _ => panic!("another end in pieces"),
    }
}

/// As a parameter, a text that is taken makes the table that it makes as a `load`.
fn parameter(text: &[u8], world: &World) {
    match command::from_parameter(text, world, world) {
        Ok(None) => {
            assert_eq!(
                text.split(|byte| *byte == b'\n')
                    .flat_map(statements)
                    .count(),
                0
            );
        }
        Ok(Some(change)) => {
            let text = String::from_utf8_lossy(text).into_owned() + "\n";
            let as_load = loaded(&Table::new(), &text, world).expect("rules");
            assert_eq!(text_of(&change.table), text_of(&as_load));
        }
        Err(report) => check(&report, text),
    }
}
