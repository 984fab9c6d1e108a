// SPDX-License-Identifier: GPL-2.0

//! What the other modules share: namespaces, slots that are counted, tables made of text, keys.

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
        refusal::{
            Likely,
            Refusal, //
        },
        report::Report,
        text::statements, //
    },
    packet::header::{
        Flags,
        Key,
        Transport, //
    },
    rule::{
        DeviceName,
        Family,
        HookPoint,
        Namespaces,
        Netns,
        NetnsId,
        Rule, //
    },
    table::{
        command,
        Change,
        Slots,
        Table, //
    },
};

/// A packet's key, and where it is an ICMP error, that of the packet that it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) key: Key,
    pub(crate) quoted: Option<Key>,
}

/// The namespaces of a host: the initial one, and those of inode numbers 4026532000 to 4026532009.
///
/// Process 1 runs in the initial one, process 100 + N in that of 4026532000 + N.
pub(crate) struct Host;

pub(crate) const INIT_INUM: u32 = 4_026_531_833;
pub(crate) const FIRST_INUM: u32 = 4_026_532_000;

/// The namespace of number `n`, as [`Host`] knows it.
pub(crate) fn netns(n: u32) -> NetnsId {
    assert!(n < 10);
    NetnsId {
        cookie: cookie(n),
        inum: FIRST_INUM + n,
    }
}

/// Its cookie; the order of cookies is not that of inode numbers.
pub(crate) fn cookie(n: u32) -> u64 {
    1000 - u64::from(n)
}

impl Namespaces for Host {
    fn by_inum(&self, inum: u32) -> Option<Netns> {
        match inum {
            INIT_INUM => Some(Netns::Init),
            _ => {
                let n = inum.checked_sub(FIRST_INUM).filter(|n| *n < 10)?;
                Some(Netns::Only(netns(n)))
            }
        }
    }

    fn by_pid(&self, pid: u32) -> Option<Netns> {
        match pid {
            1 => Some(Netns::Init),
            100..=109 => Some(Netns::Only(netns(pid - 100))),
            _ => None,
        }
    }
}

/// Hands out slots and knows how many are alive. Their allocation fails as any other.
#[derive(Default)]
pub(crate) struct Counted {
    live: Rc<Cell<usize>>,
    made: Cell<usize>,
}

/// One slot: its number says which one it is. Its clones are the same one.
#[derive(Clone)]
pub(crate) struct Slot(Rc<Live>);

/// What dies with the last clone of a slot.
struct Live {
    live: Rc<Cell<usize>>,
    number: usize,
}

impl Slot {
    pub(crate) fn number(&self) -> usize {
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

impl Counted {
    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }
}

impl Slots<Slot> for Counted {
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

/// Reads a rule.
pub(crate) fn read(text: &str) -> Result<Parsed, Refusal> {
    let mut all = statements(text.as_bytes());
    let statement = all.next().expect("no statement");
    assert!(all.next().is_none(), "two statements in {text:?}");
    parse(statement.words(), &Host, None)
}

/// The rule that `text` is.
pub(crate) fn rule(text: &str) -> Rule {
    match read(text) {
        Ok(parsed) => parsed.rule,
        Err(refusal) => panic!("{text:?}: {refusal:?}"),
    }
}

pub(crate) fn run(
    base: &Table<Slot>,
    text: &str,
    slots: &Counted,
) -> Result<Option<Change<Slot>>, Report> {
    command::run(base, text.as_bytes(), &Host, slots)
}

/// The table that a write makes of `base`.
pub(crate) fn changed(base: &Table<Slot>, text: &str, slots: &Counted) -> Table<Slot> {
    match run(base, text, slots) {
        Ok(Some(change)) => change.table,
        Ok(None) => panic!("{text:?} changed nothing"),
        Err(report) => panic!("{text:?}: line {}: {report}", report.line()),
    }
}

/// A table of these rules and commands.
pub(crate) fn table(text: &str, slots: &Counted) -> Table<Slot> {
    changed(&Table::new(), text, slots)
}

/// A table as text: a rule a line, with its id.
pub(crate) fn text_of<S>(table: &Table<S>) -> String {
    let line = |entry: &_| ctskip_pure::table::listing::RuleLine(entry).to_string();
    table.entries().iter().map(line).collect()
}

/// The ids of a table, in its order.
pub(crate) fn ids<S>(table: &Table<S>) -> Vec<u32> {
    table.entries().iter().map(|entry| entry.id()).collect()
}

/// The numbers of a table's slots, in its order.
pub(crate) fn slot_numbers(table: &Table<Slot>) -> Vec<usize> {
    table
        .entries()
        .iter()
        .map(|entry| entry.slot().number())
        .collect()
}

/// The likely spelling of a refusal, as text.
pub(crate) fn likely(refusal: &Refusal) -> String {
    refusal
        .likely
        .as_ref()
        .map(Likely::to_string)
        .unwrap_or_default()
}

/// An address as keys hold it.
pub(crate) fn number(address: &str) -> u128 {
    match address.parse().expect("an address") {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// A device's name as keys hold it.
pub(crate) fn device(name: &str) -> DeviceName {
    let mut padded = DeviceName::default();
    padded[..name.len()].copy_from_slice(name.as_bytes());
    padded
}

/// The key of a packet from `source` to `destination` at PRE_ROUTING on eth0.
pub(crate) fn key(protocol: u8, source: &str, destination: &str, transport: Transport) -> Key {
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
        point: HookPoint::PreRouting,
        device: device("eth0"),
        mark: 0,
        flags: Flags::UNKNOWN,
    }
}

/// Runs `action` with the first, second, ... allocation failing, until it needs no more.
///
/// `check` is given the result of each; the last is the first one that did not run out. Returns how
/// many allocations it took.
pub(crate) fn failing_in_turn<T>(
    mut action: impl FnMut() -> T,
    mut done: impl FnMut(T) -> bool,
) -> u32 {
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
