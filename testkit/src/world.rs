// SPDX-License-Identifier: GPL-2.0

//! A host, in as far as rules depend on it: network namespaces, processes, and slots that count
//! themselves. Texts become rules and tables here.

use std::{
    cell::Cell,
    cmp::Ordering,
    net::IpAddr,
    rc::Rc, //
};

use ctskip_pure::{
    alloc::{
        self,
        Arc,
        NoMemory, //
    },
    language::{
        parse::{
            parse,
            Parsed, //
        },
        refusal::Refusal,
        report::Report,
        text::statements, //
    },
    matcher::limits::Limits,
    packet::header::{
        Key,
        Transport, //
    },
    rule::{
        DeviceName,
        Family,
        Fixed,
        Namespaces,
        Netns,
        NetnsId,
        NoNetns,
        Rule, //
    },
    table::{
        self,
        command,
        listing::RuleLine,
        load::{
            Load,
            Progress, //
        },
        selection::Selection,
        Change,
        Slots, //
    },
};

/// A table whose rules are counted by a [`World`].
pub type Table = table::Table<Slot>;

/// A caller that waits for a table for as long as it takes, and has memory.
pub struct Unlimited;

impl Limits for Unlimited {
    fn is_interrupted(&self) -> bool {
        false
    }

    fn most_bytes(&self) -> usize {
        usize::MAX
    }
}

/// A host.
///
/// Its network namespaces are the initial one ([`INIT_INUM`], process 1), and [`NAMESPACES`] others:
/// namespace N has the inode number [`FIRST_INUM`] + N, is that of process 100 + N, and is called nsN.
/// Some further paths lead to the initial one, to what is none, and nowhere.
///
/// It hands out slots and knows how many of them are alive. Their allocation may fail as any other
/// does: see [`failing_in_turn()`].
#[derive(Default)]
pub struct World {
    live: Rc<Cell<usize>>,
    made: Cell<usize>,
}

/// The inode number of the initial namespace.
pub const INIT_INUM: u32 = 4_026_531_833;
/// The inode number of namespace 0.
pub const FIRST_INUM: u32 = 4_026_532_000;
/// How many namespaces there are besides the initial one.
pub const NAMESPACES: u32 = 400;

/// The process of namespace 0.
const FIRST_PID: u32 = 100;

/// Returns namespace `n`.
pub fn netns(n: u32) -> NetnsId {
    assert!(n < NAMESPACES);
    NetnsId {
        cookie: cookie(FIRST_INUM + n),
        inum: FIRST_INUM + n,
    }
}

/// Returns the cookie of the namespace of an inode number. A larger inode number has a smaller cookie.
pub fn cookie(inum: u32) -> u64 {
    u64::from(u32::MAX - inum) + 2
}

impl Namespaces for World {
    fn by_inum(&self, inum: u32) -> Option<Netns> {
        match inum {
            INIT_INUM => Some(Netns::Init),
            _ => numbered(inum.checked_sub(FIRST_INUM)?),
        }
    }

    fn by_pid(&self, pid: u32) -> Option<Netns> {
        match pid {
            1 => Some(Netns::Init),
            _ => numbered(pid.checked_sub(FIRST_PID)?),
        }
    }

    fn by_path(&self, folder: &str, name: &[u8]) -> Result<Netns, NoNetns> {
        let path = format!("{folder}{}", String::from_utf8_lossy(name));
        match path.as_str() {
            "/run/netns/host" => return Ok(Netns::Init),
            "/etc/passwd" | "/run/netns/file" => return Err(NoNetns::Other),
            "/proc/1/ns/net" => return Err(NoNetns::NotCached),
            _ => {}
        }
        let number = path.strip_prefix("/run/netns/ns");
        let number = number.and_then(|number| number.parse().ok());
        number.and_then(numbered).ok_or(NoNetns::Missing)
    }
}

/// Returns namespace `n`, if there is one.
fn numbered(n: u32) -> Option<Netns> {
    (n < NAMESPACES).then(|| Netns::Only(netns(n)))
}

/// A rule's slot: its number tells it from the others of its world. Clones are the same slot.
#[derive(Clone)]
pub struct Slot(Rc<Live>);

/// Dies with the last clone of a slot.
struct Live {
    live: Rc<Cell<usize>>,
    number: usize,
}

impl Slot {
    /// Returns its number. The first one has 1, and a later one a larger number.
    pub fn number(&self) -> usize {
        self.0.number
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

impl Eq for Slot {}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl World {
    /// Returns how many slots are alive.
    pub fn live(&self) -> usize {
        self.live.get()
    }
}

impl Slots<Slot> for World {
    fn allocate(&self) -> Result<Slot, NoMemory> {
        // Fails when its turn has come.
        Arc::new(())?;
        self.live.set(self.live.get() + 1);
        self.made.set(self.made.get() + 1);
        Ok(Slot(Rc::new(Live {
            live: self.live.clone(),
            number: self.made.get(),
        })))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.live.set(self.live.get() - 1);
    }
}

/// Reads a text that is one rule.
pub fn read(text: &str) -> Result<Parsed, Refusal> {
    let mut all = statements(text.as_bytes());
    let statement = all.next().expect("no statement");
    assert!(all.next().is_none(), "two statements in {text:?}");
    parse(statement.words(), &World::default(), None)
}

/// Returns the rule that `text` is.
#[track_caller]
pub fn rule(text: &str) -> Rule {
    match read(text) {
        Ok(parsed) => parsed.rule,
        Err(refusal) => panic!("{text:?}: {refusal:?}"),
    }
}

/// Carries out a write.
#[expect(clippy::result_large_err, reason = "as the core's own")]
pub fn run(base: &Table, text: &str, world: &World) -> Result<Option<Change<Slot>>, Report> {
    Ok(command::run(base, text.as_bytes(), world, world)?.change)
}

/// Returns the rules that a write asks to purge by.
#[expect(clippy::result_large_err, reason = "as the core's own")]
pub fn purged_by(base: &Table, text: &str, world: &World) -> Result<Option<Selection>, Report> {
    Ok(command::run(base, text.as_bytes(), world, world)?.purge)
}

/// Returns the table that a write makes of `base`; `None` where it is refused, or changes nothing.
pub fn written(base: &Table, text: &str, world: &World) -> Option<Table> {
    Some(run(base, text, world).ok()??.table)
}

/// Returns the table that a write makes of `base`, which does change it.
#[track_caller]
pub fn changed(base: &Table, text: &str, world: &World) -> Table {
    match run(base, text, world) {
        Ok(Some(change)) => change.table,
        Ok(None) => panic!("{text:?} changed nothing"),
        Err(report) => panic!("{text:?}: line {}: {report}", report.line()),
    }
}

/// Returns the table that a `load` of these lines, which come in pages, makes of `base`; `None` where it
/// changes nothing.
pub fn loaded(base: &Table, lines: &str, world: &World) -> Option<Table> {
    let text = format!("load\n{lines}commit\n");
    let mut load = Load::new();
    for page in text.as_bytes().chunks(4096) {
        if let Ok(Progress::Commit) = load.feed(page, world) {
            let change = load.commit(base, world).ok().expect("a load");
            return change.map(|change| change.table);
        }
    }
    panic!("a load that is refused")
}

/// Returns a table of these rules and commands. Of an empty text, it has no rules.
#[track_caller]
pub fn table(text: &str, world: &World) -> Table {
    match text.is_empty() {
        true => Table::new(),
        false => changed(&Table::new(), text, world),
    }
}

/// Returns a text of one rule a line.
pub fn lines(rules: &[String]) -> String {
    rules.join("\n") + if rules.is_empty() { "" } else { "\n" }
}

/// Returns a table as text: a rule a line, with its id.
pub fn text_of(table: &Table) -> String {
    let line = |entry: &_| RuleLine(entry).to_string();
    table.entries().iter().map(line).collect()
}

/// Returns the rules of a table, in its order.
pub fn rules(table: &Table) -> Vec<&Rule> {
    table.entries().iter().map(|entry| entry.rule()).collect()
}

/// Returns the ids of a table, in its order.
pub fn ids(table: &Table) -> Vec<u32> {
    table.entries().iter().map(|entry| entry.id()).collect()
}

/// Returns the numbers of a table's slots, in its order.
pub fn slot_numbers(table: &Table) -> Vec<usize> {
    let number = |entry: &table::Entry<Slot>| entry.slot().number();
    table.entries().iter().map(number).collect()
}

/// Returns an address as keys hold it.
pub fn number(address: &str) -> u128 {
    match address.parse().expect("an address") {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Returns a device's name as keys hold it.
pub fn device(name: &str) -> DeviceName {
    let mut padded = DeviceName::default();
    padded[..name.len()].copy_from_slice(name.as_bytes());
    padded
}

/// Returns whether an address, as keys hold it, is one of the packet's namespace: the odd ones are.
pub fn is_local(address: u128) -> bool {
    let last = match address as u32 {
        0 => (address >> 96) as u32,
        last => last,
    };
    last % 2 == 1
}

/// Returns the key of a packet from `source` to `destination` on eth0.
pub fn key(protocol: u8, source: &str, destination: &str, transport: Transport) -> Key {
    Key {
        family: if source.contains(':') {
            Family::Ipv6
        } else {
            Family::Ipv4
        },
        protocol,
        source: number(source),
        destination: number(destination),
        transport,
        error: false,
        device: device("eth0"),
        fixed: Fixed::default(),
    }
}

/// Runs `action` with the first, second, ... allocation failing, until `done` says of its result that
/// it needed no more. Returns how many allocations it took.
pub fn failing_in_turn<T>(mut action: impl FnMut() -> T, mut done: impl FnMut(T) -> bool) -> u32 {
    for count in 0..100_000 {
        alloc::fail_after(Some(count));
        let result = action();
        alloc::fail_after(None);
        if done(result) {
            return count;
        }
    }
    panic!("never came to an end");
}
