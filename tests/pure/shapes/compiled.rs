// SPDX-License-Identifier: GPL-2.0

//! The calls of the core that shapes, tests of large tables, examples and benchmarks make: rules to
//! a table, a table to a [`Compiled`], a packet looked up there. Nothing else of theirs knows how
//! the matcher is called, or what it gives.

use std::{
    cell::OnceCell,
    collections::HashMap,
    sync::atomic::{
        AtomicU64,
        Ordering, //
    }, //
};

use ctskip_pure::{
    alloc::{
        Arc,
        NoMemory, //
    },
    matcher::{
        linear::LinearTable,
        oracle,
        ruleset::Ruleset,
        scope::Scope, //
    },
    packet::header::Key,
    rule::{
        Namespaces,
        Netns,
        NetnsId,
        Rule, //
    },
    table::{
        self,
        command,
        load::{
            Load,
            Progress, //
        },
        Slots, //
    },
};

/// The inode number of the initial namespace.
pub(crate) const INIT_INUM: u32 = 4_026_531_833;
/// The lowest one of those that the shapes name.
pub(crate) const FIRST_INUM: u64 = 4_026_532_000;

/// A table whose rules count nothing: a slot is a number that no other one has.
pub(crate) type Table = table::Table<u64>;

/// A host on which every namespace is, and counters take no memory.
pub(crate) struct World;

impl Namespaces for World {
    fn by_inum(&self, inum: u32) -> Option<Netns> {
        Some(match inum {
            INIT_INUM => Netns::Init,
            _ => Netns::Only(NetnsId {
                cookie: cookie(inum),
                inum,
            }),
        })
    }

    fn by_pid(&self, _pid: u32) -> Option<Netns> {
        None
    }
}

impl Slots<u64> for World {
    fn allocate(&self) -> Result<u64, NoMemory> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The cookie of a namespace; the order of cookies is not that of inode numbers.
fn cookie(inum: u32) -> u64 {
    u64::from(u32::MAX - inum) + 2
}

/// The table of these rules.
pub(crate) fn table(rules: &[String]) -> Table {
    changed(&Table::new(), &(rules.join("\n") + "\n"))
}

/// The table that `commands` make of `base`, which they do change.
pub(crate) fn changed(base: &Table, commands: &str) -> Table {
    match command::run(base, commands.as_bytes(), &World, &World) {
        Ok(Some(change)) => change.table,
        Ok(None) => panic!("{commands:?} changes nothing"),
        Err(report) => panic!("line {}: {report}", report.line()),
    }
}

/// The table that a write makes of `base`; `None` where it is refused, or changes nothing.
pub(crate) fn written(base: &Table, commands: &str) -> Option<Table> {
    let change = command::run(base, commands.as_bytes(), &World, &World);
    change.ok()?.map(|change| change.table)
}

/// The table that a `load` of these lines, which comes in pages, makes of `base`; `None` where that
/// is the same one.
pub(crate) fn loaded(base: &Table, text: &str) -> Option<Table> {
    let text = format!("load\n{text}commit\n");
    let mut load = Load::new();
    for page in text.as_bytes().chunks(4096) {
        if let Ok(Progress::Commit) = load.feed(page, &World) {
            let change = load.commit(base, &World).ok().expect("a load");
            return change.map(|change| change.table);
        }
    }
    panic!("a load that is refused")
}

/// The rules of a table.
pub(crate) fn rules(table: &Table) -> Vec<&Rule> {
    table.entries().iter().map(|entry| entry.rule()).collect()
}

/// A packet, and the inode number of the namespace that it passes in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Probe {
    pub(crate) netns: u32,
    pub(crate) key: Key,
}

/// Whether a rule matches a packet: what compiled tables are held against.
pub(crate) fn matches(rule: &Rule, probe: &Probe) -> bool {
    let holds = match rule.netns() {
        Netns::Any => true,
        Netns::Init => probe.netns == INIT_INUM,
        Netns::NotInit => probe.netns != INIT_INUM,
        Netns::Only(id) => probe.netns == id.inum,
    };
    holds && oracle::matches(rule, &probe.key)
}

/// A compiled table.
pub(crate) struct Compiled {
    ruleset: Ruleset<u64>,
    /// Where each id stands in the table, once somebody asks.
    positions: OnceCell<HashMap<u32, usize>>,
}

impl Compiled {
    pub(crate) fn new(table: Table) -> Self {
        Self::try_new(&Arc::new(table).unwrap()).unwrap()
    }

    pub(crate) fn try_new(table: &Arc<Table>) -> Result<Self, NoMemory> {
        Ruleset::compile(table.clone()).map(Self::of)
    }

    /// The same for a table that differs by a few rules.
    pub(crate) fn updated(&self, table: Table) -> Self {
        self.try_updated(&Arc::new(table).unwrap()).unwrap()
    }

    pub(crate) fn try_updated(&self, table: &Arc<Table>) -> Result<Self, NoMemory> {
        self.ruleset.updated(table.clone()).map(Self::of)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.ruleset.is_whole()
    }

    fn of(ruleset: Ruleset<u64>) -> Self {
        Self {
            ruleset,
            positions: OnceCell::new(),
        }
    }

    pub(crate) fn table(&self) -> &Table {
        self.ruleset.table()
    }

    /// The position in the table of the first rule that matches.
    pub(crate) fn first_match(&self, probe: &Probe) -> Option<usize> {
        let id = self.id_of_first_match(self.scope(probe), &probe.key)?;
        let positions = self.positions.get_or_init(|| {
            let ids = self.table().entries().iter().map(|entry| entry.id());
            ids.zip(0..).collect()
        });
        Some(positions[&id])
    }

    /// What a lookup takes at worst, by the estimate that `stats` shows.
    pub(crate) fn worst(&self) -> usize {
        self.ruleset.worst_cost()
    }

    /// Whether the rules are few enough for [`LinearTable`], which is for this packet and finds another rule
    /// than that at `position`.
    pub(crate) fn few_differ(&self, probe: &Probe, position: Option<usize>) -> bool {
        let expected = position.map(|position| self.table().entries()[position].id());
        let few = LinearTable::build(&self.ruleset, self.scope(probe));
        let found = few.as_ref().map(|few| few.first_match(&probe.key));
        matches!(found, Some(Ok(found)) if found.map(|entry| entry.id()) != expected)
    }

    fn scope(&self, probe: &Probe) -> Scope {
        let cookie = cookie(probe.netns);
        self.ruleset.scope(probe.netns == INIT_INUM, cookie)
    }

    /// The id of the first rule that matches a packet of the initial namespace: what benchmarks time.
    #[inline]
    pub(crate) fn look_up(&self, key: &Key) -> Option<u32> {
        self.id_of_first_match(Scope::Init, key)
    }

    #[inline(always)]
    fn id_of_first_match(&self, scope: Scope, key: &Key) -> Option<u32> {
        let found = self.ruleset.lookup(&self.ruleset.sections(scope), key)?;
        Some(self.ruleset.entry(found)?.id())
    }
}
