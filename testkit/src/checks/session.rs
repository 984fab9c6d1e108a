// SPDX-License-Identifier: GPL-2.0

//! Writes through some open files, by a clock made by hand: the outcome of each is what a model says.
//!
//! The model knows the state of each file by name, and reads a `load` anew from its first piece with each
//! further one. The input is a list of operations, of two bytes or more each; see [`Op::read()`].

use std::{
    cell::Cell,
    rc::{
        Rc,
        Weak, //
    },
    time::Duration, //
};

use ctskip_pure::{
    alloc,
    language::{
        refusal::Errno,
        report::Report, //
    },
    table::{
        command,
        load::{
            LeftOut,
            Load,
            Progress, //
        },
        selection::{
            Done,
            Selection, //
        }, //
        session::{
            superseded,
            Clock,
            Events,
            FileState,
            HeldStream,
            Lost,
            LostLoad,
            Rejection,
            Session,
            Stream,
            SILENCE, //
        },
    },
};

use crate::world::{
    loaded,
    text_of,
    Slot,
    Table,
    World, //
};

/// The bytes that are handed over at once: few, so that short texts are cut.
pub const PAGE: usize = 64;

/// The table to begin with.
const BASE: &str = "udp dport=1\nudp dport=2 tag=a\n";

/// An open file, made up.
pub struct File(Rc<Node>);

/// An open file that is kept.
pub struct Held(Rc<Node>);

/// The state of an open file.
pub struct Node {
    number: usize,
    is_open: Cell<bool>,
    is_stopped: Cell<bool>,
}

impl File {
    /// Opens it, as the writer of that number.
    pub fn open(number: usize) -> Self {
        Self(Rc::new(Node {
            number,
            is_open: Cell::new(true),
            is_stopped: Cell::new(false),
        }))
    }

    /// Closes it, as its last user does. Returns what is left where it is still kept.
    pub fn close(self) -> Weak<Node> {
        self.0.is_open.set(false);
        Rc::downgrade(&self.0)
    }

    /// Returns how often it is kept.
    pub fn held(&self) -> usize {
        Rc::strong_count(&self.0) - 1
    }
}

impl Stream for File {
    type Held = Held;

    fn hold(&self) -> Held {
        Held(self.0.clone())
    }

    fn is(&self, held: &Held) -> bool {
        Rc::ptr_eq(&self.0, &held.0)
    }

    fn stop(&self, stopped: bool) {
        self.0.is_stopped.set(stopped);
    }

    fn is_stopped(&self) -> bool {
        self.0.is_stopped.get()
    }
}

impl HeldStream for Held {
    type Writer = usize;

    fn writer(&self) -> usize {
        self.0.number
    }

    fn is_gone(&self) -> bool {
        !self.0.is_open.get()
    }
}

/// A clock that goes on when told.
#[derive(Clone, Default)]
struct HandClock(Rc<Cell<Duration>>);

impl Clock for HandClock {
    type Moment = Duration;

    fn now(&self) -> Duration {
        self.0.get()
    }

    fn elapsed(&self, since: Duration) -> Duration {
        self.0.get() - since
    }
}

/// The outcome of a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted, and nothing changes.
    Accepted,
    /// A new table, as text.
    Changed(String),
    /// A purge: the new table, if anything changes, and the rules.
    Purges(Option<String>, String),
    /// Refused: the errno, the line, and what is reported.
    Refused(Errno, u32, String),
    /// Refused as the rest of a text, and not reported.
    Rest,
}

impl Outcome {
    fn refused(report: &Report) -> Self {
        Self::Refused(report.refusal().errno, report.line(), report.to_string())
    }

    fn of(result: Result<&Done<Slot>, &Report>) -> Self {
        let done = match result {
            Ok(done) => done,
            Err(report) => return Self::refused(report),
        };
        let table = done.change.as_ref().map(|change| text_of(&change.table));
        match (table, &done.purge) {
            (table, Some(by)) => Self::Purges(table, format!("{by:?}")),
            (None, None) => Self::Accepted,
            (Some(table), None) => Self::Changed(table),
        }
    }

    /// The new table, if anything changes.
    fn table(&self) -> Option<&str> {
        match self {
            Self::Changed(table) | Self::Purges(Some(table), _) => Some(table),
            _ => None,
        }
    }

    /// Whether memory was wanting.
    fn is_no_memory(&self) -> bool {
        matches!(self, Self::Refused(Errno::NoMem, ..))
    }
}

/// A session, its clock and its table.
pub struct Desk {
    session: Session<Held, HandClock>,
    clock: HandClock,
    world: World,
    /// The table in force.
    pub table: Table,
}

impl Default for Desk {
    fn default() -> Self {
        let clock = HandClock::default();
        let world = World::default();
        Self {
            session: Session::new(clock.clone(), PAGE),
            clock,
            table: loaded(&Table::new(), BASE, &world).expect("rules"),
            world,
        }
    }
}

impl Desk {
    /// Returns a session of no writers, with a table of two rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the time go on.
    pub fn wait(&self, time: Duration) {
        self.clock.0.set(self.clock.0.get() + time);
    }

    /// Returns the state of a file.
    pub fn state(&self, file: &File) -> FileState {
        self.session.state(file)
    }

    /// Returns what the last write has brought about, once.
    pub fn events(&mut self) -> Events<usize> {
        self.session.events()
    }

    /// Looks for files that are closed; returns whether files are still kept.
    pub fn forget_closed(&mut self) -> bool {
        self.session.forget_closed()
    }

    /// Writes. The allocations fail after `memory` more of them, if any; what the write asks for is done if
    /// it `commits`.
    pub fn write(
        &mut self,
        file: &File,
        text: &[u8],
        memory: Option<u32>,
        commits: bool,
    ) -> Outcome {
        alloc::fail_after(memory);
        let result = self
            .session
            .write(file, text, &self.table, &self.world, &self.world);
        alloc::fail_after(None);
        match result {
            Ok(done) => {
                let outcome = Outcome::of(Ok(&done));
                if commits && done.is_something() {
                    if let Some(change) = done.change {
                        self.table = change.table;
                    }
                    self.session.done(file);
                }
                outcome
            }
            Err(Rejection::Refused(report)) => Outcome::refused(&report),
            Err(Rejection::Rest) => Outcome::Rest,
        }
    }
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Op {
    /// A write through the file of that number; see [`Desk::write()`].
    Write {
        /// The number of the file.
        file: usize,
        /// The text.
        text: Vec<u8>,
        /// After how many allocations there is no memory.
        memory: Option<u32>,
        /// Whether what it asks for is done.
        commits: bool,
    },
    /// The file is closed, and another one opened in its place.
    Reopen(usize),
    /// Milliseconds go by.
    Wait(u64),
}

/// The number of open files.
pub const FILES: usize = 3;

/// Texts that are written.
pub const TEXTS: [&str; 28] = [
    "load\n",
    "udp dport=3\n",
    "commit\n",
    "abort\n",
    "load tag=a\n",
    "load\nudp dport=1\ncommit\n",
    "load; udp any; commit\n",
    "udp dport=2 tag=a\n",
    "frob\n",
    "flush\n",
    "delete 1\n",
    "udp dport=4",
    "com",
    "mit\n",
    "load",
    "",
    "load\nfrob\n",
    "tcp any\ntcp any id=1\n",
    "load lenient\nudp dport=7 netns=5\nudp dport=8\n",
    "load; udp dport=5; commit",
    "load++udp+dport=6++commit",
    "commit # x",
    "# 34567890123456789012345678901234567890123456789012345678901234\n",
    "load\n# 789012345678901234567890123456789012345678901234567890123",
    "commit purge\n",
    "purge\n",
    "udp dport=5\npurge 1,2\n",
    "purge tag=a\n",
];

/// Times that go by, in milliseconds.
pub const TIMES: [u64; 4] = [1, 5_000, 9_999, 10_000];

impl Op {
    /// Reads one from the start of `bytes`.
    ///
    /// The first byte says what happens and, in its upper half, through which file; the second which text
    /// is written or how long it takes, or from 0xe0 on, how many bytes of text follow.
    fn read(bytes: &mut impl Iterator<Item = u8>) -> Option<Self> {
        let (first, second) = (bytes.next()?, bytes.next()?);
        let file = usize::from(first >> 4) % FILES;
        let mut write = |memory, commits| {
            let text = match second.checked_sub(0xe0) {
                Some(len) => bytes.by_ref().take(len.into()).collect(),
                None => TEXTS[usize::from(second) % TEXTS.len()].into(),
            };
            Op::Write {
                file,
                text,
                memory,
                commits,
            }
        };
        Some(match first % 16 {
            memory @ 0..4 => write(Some(memory.into()), true),
            4 => write(None, false),
            5 => Op::Reopen(file),
            6 | 7 => Op::Wait(TIMES[usize::from(second) % TIMES.len()]),
            _ => write(None, true),
        })
    }
}

/// What the model knows.
struct Model {
    states: [FileState; FILES],
    /// The file of the `load` that is open, its pieces, and when the last one came.
    load: Option<(usize, Vec<Vec<u8>>, Duration)>,
    /// The `load` that was closed since the last write.
    closed: Option<LostLoad<usize>>,
    /// What the write brings about.
    events: Events<usize>,
}

/// Nothing.
const NO_EVENTS: Events<usize> = Events {
    lost: None,
    left_out: LeftOut { rules: 0, line: 0 },
};

/// Returns how a `load` of these pieces is lost.
fn lost(how: Lost, writer: usize, pieces: &[Vec<u8>]) -> LostLoad<usize> {
    let mut load = Load::new();
    for piece in pieces {
        assert!(matches!(
            load.feed(piece, &World::default()),
            Ok(Progress::Open)
        ));
    }
    LostLoad {
        how,
        writer,
        rules: load.rules(),
    }
}

impl Model {
    /// Returns the outcome of a write with enough memory, and changes as that does.
    fn write(&mut self, file: usize, text: &[u8], desk: &Desk) -> Outcome {
        let (world, now) = (&desk.world, desk.clock.now());
        self.events = Events {
            lost: self.closed.take(),
            ..NO_EVENTS
        };
        let mut pieces = match self.load.take() {
            Some((loading, pieces, _)) if loading == file => pieces,
            other if command::opens_load(text) => {
                if let Some((loading, pieces, heard)) = &other {
                    if now - *heard < SILENCE {
                        self.load = other;
                        self.states[file] = FileState::Stopped;
                        return Outcome::refused(&command::busy(text));
                    }
                    self.states[*loading] = FileState::Superseded;
                    self.events.lost = Some(lost(Lost::Superseded, *loading, pieces));
                }
                Vec::new()
            }
            other => {
                self.load = other;
                return self.transaction(file, text, desk);
            }
        };
        pieces.push(text.to_vec());

        let mut load = Load::new();
        let (last, before) = pieces.split_last().expect("a piece");
        for piece in before {
            assert!(matches!(load.feed(piece, world), Ok(Progress::Open)));
        }
        let (state, outcome) = match load.feed(last, world) {
            Ok(Progress::Open) => {
                self.load = Some((file, pieces, now));
                (FileState::Loading, Outcome::Accepted)
            }
            Ok(Progress::Abort) => (FileState::Plain, Outcome::Accepted),
            Ok(Progress::Commit) => {
                let left_out = load.left_out();
                let purge = load.purges().then_some(Selection::Loaded);
                let result = load.commit(&desk.table, world);
                if result.is_ok() {
                    self.events.left_out = left_out;
                }
                let result = result.map(|change| Done { change, purge });
                let outcome = Outcome::of(result.as_ref());
                match outcome {
                    Outcome::Accepted => (FileState::Plain, outcome),
                    _ => (FileState::Stopped, outcome),
                }
            }
            Err(report) => (FileState::Stopped, Outcome::refused(&report)),
        };
        self.states[file] = state;
        outcome
    }

    /// A write that is no piece of a `load`.
    fn transaction(&mut self, file: usize, text: &[u8], desk: &Desk) -> Outcome {
        match std::mem::replace(&mut self.states[file], FileState::Stopped) {
            FileState::Plain => {}
            FileState::Superseded => return Outcome::refused(&superseded(text)),
            _ => return Outcome::Rest,
        }
        if text.len() >= PAGE {
            return Outcome::refused(&command::full_page(text));
        }
        let result = command::run(&desk.table, text, &desk.world, &desk.world);
        let outcome = Outcome::of(result.as_ref());
        if outcome == Outcome::Accepted {
            self.states[file] = FileState::Plain;
        }
        outcome
    }

    /// Changes as a write does that was refused for want of memory.
    ///
    /// Where it was to open a `load`, it may have taken over before or not: `is_superseded` says so.
    fn no_memory(&mut self, file: usize, text: &[u8], is_superseded: impl Fn(usize) -> bool) {
        match self.load.take() {
            Some((loading, ..)) if loading == file => {}
            other if command::opens_load(text) => match other {
                Some((loading, ..)) if is_superseded(loading) => {
                    self.states[loading] = FileState::Superseded;
                }
                _ => self.load = other,
            },
            other => self.load = other,
        }
        self.states[file] = FileState::Stopped;
    }
}

/// Has it all happen to a session, which must do as the model does.
pub fn play(ops: &[Op]) {
    let mut desk = Desk::new();
    let mut files: Vec<File> = (0..FILES).map(File::open).collect();
    let mut closed = Vec::new();
    let mut model = Model {
        states: [FileState::Plain; FILES],
        load: None,
        closed: None,
        events: NO_EVENTS,
    };
    for op in ops {
        match op {
            Op::Wait(time) => desk.wait(Duration::from_millis(*time)),
            Op::Reopen(file) => {
                let old = std::mem::replace(&mut files[*file], File::open(*file));
                closed.push(old.close());
                model.states[*file] = FileState::Plain;
                let open = model.load.take_if(|(loading, ..)| loading == file);
                if let Some((loading, pieces, _)) = open {
                    model.closed = Some(lost(Lost::Closed, loading, &pieces));
                }
            }
            Op::Write {
                file,
                text,
                memory,
                commits,
            } => {
                let base = text_of(&desk.table);
                let mut expected = Model {
                    load: model.load.clone(),
                    ..model
                };
                let outcome = expected.write(*file, text, &desk);
                let seen = desk.write(&files[*file], text, *memory, *commits);
                let events = desk.events();
                assert_eq!(desk.events(), NO_EVENTS);
                if memory.is_some() && seen.is_no_memory() {
                    let is_superseded = |n: usize| desk.state(&files[n]) == FileState::Superseded;
                    model.no_memory(*file, text, is_superseded);
                    // It is lost all the same.
                    assert_eq!(events.left_out, NO_EVENTS.left_out);
                    assert!(events.lost == expected.events.lost || events.lost == model.closed);
                    model.closed = None;
                } else {
                    assert_eq!(seen, outcome);
                    assert_eq!(events, expected.events);
                    model = expected;
                }
                if *commits && matches!(seen, Outcome::Changed(_) | Outcome::Purges(..)) {
                    model.states[*file] = FileState::Plain;
                }
                let table = seen.table().filter(|_| *commits);
                assert_eq!(text_of(&desk.table), table.unwrap_or(&base));
                check(&desk, &files, &closed, &model);
            }
        }
    }
}

/// The files have the model's states, and no file is kept that need not be.
fn check(desk: &Desk, files: &[File], closed: &[Weak<Node>], model: &Model) {
    for (file, state) in files.iter().zip(model.states) {
        assert_eq!(desk.state(file), state);
        match state {
            FileState::Plain => assert_eq!(file.held(), 0),
            FileState::Loading | FileState::Superseded => assert_eq!(file.held(), 1),
            // It may have been superseded before, and have said `load` since.
            FileState::Stopped => assert!(file.held() <= 1),
        }
    }
    assert!(closed.iter().all(|file| file.strong_count() == 0));
}

/// What happens, read from bytes.
pub fn session(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let ops = std::iter::from_fn(|| Op::read(&mut bytes));
    play(&ops.take(100).collect::<Vec<_>>());
}
