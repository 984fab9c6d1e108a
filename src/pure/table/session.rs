// SPDX-License-Identifier: GPL-2.0

//! Who may write, and which texts are carried out: the protocol of the file `rules`.
//!
//! A write is a transaction by itself, or a piece of a `load`. One `load` can be open at a time. It belongs
//! to the open file that its first piece came through, and may span writes.
//!
//! What comes behind a refused write is probably the rest of the same text: a `skip` rule behind the
//! `track` rule that was to go ahead of it, or lines of a `load`. It must not be carried out without what
//! was refused. So it is refused through the same open file until a `load` begins anew. It is not
//! reported, so that the report of the refused text stays.
//!
//! An open file is in one of these [states](FileState):
//!
//! - **Plain**: each write is a transaction by itself. So it begins.
//! - **Loading**: its `load` is open; each write is a piece of it.
//! - **Stopped**: a write was refused; what follows is a rest.
//! - **Superseded**: its `load` was open when another one took over; its writer does not know that yet.
//!
//! | state | write | outcome | next state |
//! |---|---|---|---|
//! | Plain | a transaction that asks for nothing | accepted | Plain |
//! | Plain | a transaction that changes the table, or purges | to be carried out | Stopped |
//! | Plain | a transaction that is refused, or may have been cut | refused | Stopped |
//! | Stopped | anything but a `load` | refused, not reported | Stopped |
//! | Superseded | anything but a `load` | refused: another one took over | Stopped |
//! | all but Loading | `load`, and no other is open, or its file is closed | a first piece | Loading |
//! | all but Loading | `load`, and the other one has been silent for 10 s | a first piece; the other file is Superseded | Loading |
//! | all but Loading | `load`, and the other one has been heard since | refused with EBUSY | Stopped |
//! | all but Loading | `load`, and no memory for noting the other file | refused with ENOMEM | Stopped |
//! | Loading | a piece, and more are to come | read | Loading |
//! | Loading | a piece that is refused | refused; the `load` is dropped | Stopped |
//! | Loading | `abort` | the `load` is dropped | Plain |
//! | Loading | `commit` that asks for nothing | accepted | Plain |
//! | Loading | `commit` that changes the table, or purges | to be carried out | Stopped |
//! | Stopped | [`Session::done()`]: it was carried out | | Plain |
//!
//! A `load` whose file all have closed is dropped at the next write through any file, and by
//! [`Session::forget_closed()`]. What is to be told to others than the writer is noted:
//! [`Session::events()`].

#![expect(
    clippy::result_large_err,
    reason = "a boxed report would need memory to tell that there is none"
)]

use core::time::Duration;

use crate::pure::{
    alloc::Vec,
    language::{
        refusal::{
            Errno,
            Refusal, //
        },
        report::Report, //
    },
    rule::Namespaces,
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
        },
        Slots,
        Table, //
    },
};

/// How long a `load` may be silent before another one may take over.
pub const SILENCE: Duration = Duration::from_secs(10);

/// An open file, for the length of a write through it.
pub trait Stream {
    /// The open file when it is kept.
    type Held: HeldStream;

    /// Keeps the open file, to know it again.
    fn hold(&self) -> Self::Held;

    /// Returns whether `held` is this open file.
    fn is(&self, held: &Self::Held) -> bool;

    /// Has [`Self::is_stopped()`] return `stopped` from now on.
    fn stop(&self, stopped: bool);

    /// Returns whether this open file is stopped; `false` when it is opened.
    fn is_stopped(&self) -> bool;
}

/// An open file that is kept.
pub trait HeldStream {
    /// Who wrote.
    type Writer: Copy;

    /// Returns whether all others have closed it.
    fn is_gone(&self) -> bool;

    /// Returns who wrote when it was [kept](Stream::hold).
    fn writer(&self) -> Self::Writer;
}

/// A clock that never goes back.
pub trait Clock {
    /// A moment of it.
    type Moment: Copy;

    /// Returns the current moment.
    fn now(&self) -> Self::Moment;

    /// Returns the time since a moment.
    fn elapsed(&self, since: Self::Moment) -> Duration;
}

/// Why a write is not carried out.
#[expect(
    clippy::large_enum_variant,
    reason = "a boxed report would need memory to tell that there is none"
)]
pub enum Rejection {
    /// It is refused.
    Refused(Report),
    /// It is the rest of a text that was refused: not reported, so that the report of that text stays.
    Rest,
}

impl From<Report> for Rejection {
    fn from(report: Report) -> Self {
        Self::Refused(report)
    }
}

/// The state of an open file; see the [module's head](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Each write is a transaction by itself.
    Plain,
    /// Each write is a piece of the open `load`.
    Loading,
    /// What follows is the rest of a text that was refused.
    Stopped,
    /// What follows is the rest of a `load` that another one took over from, and its writer is to be told.
    Superseded,
}

/// How a `load` ended that was neither committed, nor aborted, nor refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// All have closed its file.
    Closed,
    /// Another one took over, after [`SILENCE`].
    Superseded,
}

/// A `load` that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostLoad<W> {
    /// How it ended.
    pub how: Lost,
    /// Who wrote its first piece.
    pub writer: W,
    /// The number of its rules, of which none is carried out.
    pub rules: usize,
}

/// Returns the report of a `load` whose file all have closed. It is about no write.
#[cold]
#[inline(never)]
pub fn closed() -> Report {
    let refusal = Refusal::new(
        Errno::Canceled,
        0,
        "the file of a load was closed without commit: nothing of it was carried out",
        "load, the rules and commit through one open file: { echo load && cat FILE && echo commit; } >rules",
    );
    Report::new(refusal, 0, b"")
}

/// Returns the report of `text`, the first write behind a `load` that another one took over from.
#[cold]
#[inline(never)]
pub fn superseded(text: &[u8]) -> Report {
    let refusal = Refusal::invalid(
        0,
        "this load was silent for 10 s, and another one took over: nothing of it was carried out",
        "load and all of its rules anew, with less than 10 s between two writes",
    );
    let first = text.split(|b| *b == b'\n').next();
    Report::new(refusal, 1, first.unwrap_or_default())
}

/// What a write has brought about beside its own outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events<W> {
    /// The `load` that was lost.
    pub lost: Option<LostLoad<W>>,
    /// The rules that a `load lenient` left out; none where no `load` was committed.
    pub left_out: LeftOut,
}

impl<W> Events<W> {
    /// Nothing.
    const NONE: Self = Self {
        lost: None,
        left_out: LeftOut { rules: 0, line: 0 },
    };
}

/// A `load` that is open.
struct OpenLoad<H, M> {
    file: H,
    load: Load,
    /// When its last piece came.
    heard: M,
}

/// All that is remembered from one write to the next.
///
/// An open file is Loading where it is the one of `load`, Superseded where it is in `superseded`; Stopped is
/// remembered by the open file itself.
pub struct Session<H: HeldStream, C: Clock> {
    /// [`None`]: no `load` is open.
    load: Option<OpenLoad<H, C::Moment>>,
    /// Each open file once.
    superseded: Vec<H>,
    events: Events<H::Writer>,
    clock: C,
    /// The most bytes of a write that the kernel hands over.
    page: usize,
}

impl<H: HeldStream, C: Clock> Session<H, C> {
    /// Makes a session in which nothing was written yet. Of a longer write, its user hands over `page` bytes.
    pub const fn new(clock: C, page: usize) -> Self {
        Self {
            load: None,
            superseded: Vec::new(),
            events: Events::NONE,
            clock,
            page,
        }
    }

    /// Returns the state of an open file.
    pub fn state<F: Stream<Held = H>>(&self, file: &F) -> FileState {
        if self.load.as_ref().is_some_and(|open| file.is(&open.file)) {
            FileState::Loading
        } else if file.is_stopped() {
            FileState::Stopped
        } else if self.superseded.iter().any(|other| file.is(other)) {
            FileState::Superseded
        } else {
            FileState::Plain
        }
    }

    /// Reads a write through `file`: `text`, of at most a page, for the table `base`.
    ///
    /// Returns the change that it makes, if any, and the rules to purge by then. Once both are done,
    /// [`Self::done()`] is to be called; where one could not be, nothing is. Process context, may sleep.
    pub fn write<F: Stream<Held = H>, S: Clone + Ord>(
        &mut self,
        file: &F,
        text: &[u8],
        base: &Table<S>,
        namespaces: &dyn Namespaces,
        slots: &dyn Slots<S>,
    ) -> Result<Done<S>, Rejection> {
        self.events = Events::NONE;
        self.forget_closed();
        let state = self.state(file);
        let open = match self.load.take_if(|_| state == FileState::Loading) {
            Some(open) => open,
            None if command::opens_load(text) => self.open(file, text)?,
            None => {
                return match state {
                    FileState::Plain => Ok(self.transaction(file, text, base, namespaces, slots)?),
                    FileState::Superseded => {
                        file.stop(true);
                        self.superseded.retain(|other| !file.is(other));
                        Err(superseded(text).into())
                    }
                    _ => Err(Rejection::Rest),
                };
            }
        };
        Ok(self.feed(file, open, text, base, namespaces, slots)?)
    }

    /// Takes note that what the last write asks for, which was through `file`, is done.
    pub fn done<F: Stream<Held = H>>(&self, file: &F) {
        file.stop(false);
    }

    /// Returns what the last [`Self::write()`] or [`Self::forget_closed()`] has brought about, once.
    pub fn events(&mut self) -> Events<H::Writer> {
        core::mem::replace(&mut self.events, Events::NONE)
    }

    /// Drops all that is remembered of open files that all others have closed. Returns whether open files
    /// are still kept.
    pub fn forget_closed(&mut self) -> bool {
        self.superseded.retain(|file| !file.is_gone());
        if let Some(open) = self.load.take_if(|open| open.file.is_gone()) {
            self.lose(&open, Lost::Closed);
        }
        self.keeps_files()
    }

    /// Returns whether open files are kept: it is to be seen whether they are closed.
    pub fn keeps_files(&self) -> bool {
        self.load.is_some() || !self.superseded.is_empty()
    }

    /// Notes that a `load` is lost.
    fn lose(&mut self, open: &OpenLoad<H, C::Moment>, how: Lost) {
        self.events.lost = Some(LostLoad {
            how,
            writer: open.file.writer(),
            rules: open.load.rules(),
        });
    }

    // The functions below have frames of their own: a report is large, and they hold several.

    /// Opens a `load` for `file`, whose first piece is `text`. Where that is refused, the file is stopped.
    #[inline(never)]
    fn open<F: Stream<Held = H>>(
        &mut self,
        file: &F,
        text: &[u8],
    ) -> Result<OpenLoad<H, C::Moment>, Report> {
        file.stop(true);
        if let Some(other) = &self.load {
            if self.clock.elapsed(other.heard) < SILENCE {
                return Err(command::busy(text));
            }
            self.superseded.reserve(1)?;
        }
        self.superseded.retain(|other| !file.is(other));
        if let Some(other) = self.load.take() {
            self.lose(&other, Lost::Superseded);
            // Does not fail: there is room.
            let _ = self.superseded.push(other.file);
        }
        Ok(OpenLoad {
            file: file.hold(),
            load: Load::new(),
            heard: self.clock.now(),
        })
    }

    /// Feeds one more piece to a `load`, which stays open or ends by it.
    ///
    /// The file is stopped where the piece is refused, and until what it asks for is done.
    #[inline(never)]
    fn feed<F: Stream<Held = H>, S: Clone + Ord>(
        &mut self,
        file: &F,
        mut open: OpenLoad<H, C::Moment>,
        text: &[u8],
        base: &Table<S>,
        namespaces: &dyn Namespaces,
        slots: &dyn Slots<S>,
    ) -> Result<Done<S>, Report> {
        file.stop(true);
        let done = match open.load.feed(text, namespaces)? {
            Progress::Open => {
                open.heard = self.clock.now();
                self.load = Some(open);
                Done::NOTHING
            }
            Progress::Abort => Done::NOTHING,
            Progress::Commit => {
                let left_out = open.load.left_out();
                let purge = open.load.purges().then_some(Selection::Loaded);
                let change = open.load.commit(base, slots)?;
                self.events.left_out = left_out;
                Done { change, purge }
            }
        };
        file.stop(done.is_something());
        Ok(done)
    }

    /// Carries out a write that is no piece of a `load`.
    ///
    /// The file is stopped where it is refused, and until what it asks for is done.
    #[inline(never)]
    fn transaction<F: Stream<Held = H>, S: Clone + Ord>(
        &self,
        file: &F,
        text: &[u8],
        base: &Table<S>,
        namespaces: &dyn Namespaces,
        slots: &dyn Slots<S>,
    ) -> Result<Done<S>, Report> {
        file.stop(true);
        if text.len() >= self.page {
            return Err(command::full_page(text));
        }
        let done = command::run(base, text, namespaces, slots)?;
        file.stop(done.is_something());
        Ok(done)
    }
}
