// SPDX-License-Identifier: GPL-2.0

//! Who may write, and which texts are carried out: the protocol of the file `rules`.
//!
//! A write is a transaction by itself, or a piece of a `load`. One `load` can be open at a time. It belongs
//! to the open file that its first piece came through, and may span writes.
//!
//! Where a `load` is refused, or a text was cut, a rest may come behind it that must not be carried out as
//! other commands. So it is refused through the same open file until a `load` begins anew. It is not
//! reported, so that the report of the refused text stays.
//!
//! An open file is in one of these [states](FileState):
//!
//! - **Plain**: each write is a transaction by itself. So it begins.
//! - **Loading**: its `load` is open; each write is a piece of it.
//! - **Stopped**: a text was refused or cut; what follows is a rest.
//! - **Superseded**: its `load` was open when another one took over; what follows is a rest.
//!
//! | state | write | outcome | next state |
//! |---|---|---|---|
//! | Plain | a transaction | carried out, or refused as a whole | Plain |
//! | Plain | the start of a text that was cut | refused | Stopped |
//! | Stopped, Superseded | anything but a `load` | refused, not reported | as before |
//! | all but Loading | `load`, and no other is open, or its file is closed | a first piece | Loading |
//! | all but Loading | `load`, and the other one has been silent for 10 s | a first piece; the other file is Superseded | Loading |
//! | all but Loading | `load`, and the other one has been heard since | refused with EBUSY | Stopped |
//! | all but Loading | `load`, and no memory for noting the other file | refused with ENOMEM | Stopped |
//! | Loading | a piece, and more are to come | read | Loading |
//! | Loading | a piece that is refused | refused; the `load` is dropped | Stopped |
//! | Loading | `abort` | the `load` is dropped | Plain |
//! | Loading | `commit` that changes nothing | accepted | Plain |
//! | Loading | `commit` that changes the table | a change to be put in force | Stopped |
//! | Stopped | [`Session::committed()`]: the change is in force | | Plain |
//!
//! A `load` whose file all have closed is dropped at the next write through any file.

#![expect(
    clippy::result_large_err,
    reason = "a boxed report would need memory to tell that there is none"
)]

use core::time::Duration;

use crate::pure::{
    alloc::Vec,
    language::report::Report,
    rule::Namespaces,
    table::{
        command,
        load::{
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
    /// Returns whether all others have closed it.
    fn is_gone(&self) -> bool;
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
    /// It is the rest of a text that was refused, cut or superseded: not reported, so that the report of
    /// that text stays.
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
    /// What follows is the rest of a text that was refused or cut.
    Stopped,
    /// What follows is the rest of a `load` that another one took over from.
    Superseded,
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
    /// Returns the change that it makes, if any, and the rules to purge by then. Once the change is in force,
    /// [`Self::committed()`] is to be called; where it could not be made, nothing is. Process context, may sleep.
    pub fn write<F: Stream<Held = H>, S: Clone + Ord>(
        &mut self,
        file: &F,
        text: &[u8],
        base: &Table<S>,
        namespaces: &dyn Namespaces,
        slots: &dyn Slots<S>,
    ) -> Result<Done<S>, Rejection> {
        self.forget_closed();
        let state = self.state(file);
        let open = match self.load.take_if(|_| state == FileState::Loading) {
            Some(open) => open,
            None if command::opens_load(text) => self.open(file, text)?,
            None => {
                return match state {
                    FileState::Plain => self.transaction(file, text, base, namespaces, slots),
                    _ => Err(Rejection::Rest),
                };
            }
        };
        Ok(self.feed(file, open, text, base, namespaces, slots)?)
    }

    /// Takes note that the change of the last write, which was through `file`, is in force.
    pub fn committed<F: Stream<Held = H>>(&self, file: &F) {
        file.stop(false);
    }

    /// Drops all that is remembered of open files that all others have closed.
    fn forget_closed(&mut self) {
        self.superseded.retain(|file| !file.is_gone());
        self.load.take_if(|open| open.file.is_gone());
    }

    /// Opens a `load` for `file`, whose first piece is `text`. Where that is refused, the file is stopped.
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
    /// The file is stopped where the piece is refused, and until the change that it makes is in force.
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
            Progress::Commit => Done {
                purge: open.load.purges().then_some(Selection::Loaded),
                change: open.load.commit(base, slots)?,
            },
        };
        file.stop(done.change.is_some());
        Ok(done)
    }

    /// Carries out a write that is no piece of a `load`. Where it may have been cut, the file is stopped.
    fn transaction<F: Stream<Held = H>, S: Clone + Ord>(
        &self,
        file: &F,
        text: &[u8],
        base: &Table<S>,
        namespaces: &dyn Namespaces,
        slots: &dyn Slots<S>,
    ) -> Result<Done<S>, Rejection> {
        if command::may_be_cut(text, self.page) {
            file.stop(true);
        }
        if text.len() >= self.page {
            return Err(command::full_page(text).into());
        }
        Ok(command::run(base, text, namespaces, slots)?)
    }
}
