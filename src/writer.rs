// SPDX-License-Identifier: GPL-2.0

//! The write side: texts become tables, and these come into force in all namespaces.
//!
//! # Locks
//!
//! - `writing` is held for a write to `rules`, its parsing and compiling included: there is one writer of
//!   rules at a time. Who waits for it may be killed.
//! - The lock of [`Nets`] nests inside it, and is held for moments. The mode is set by it alone: nobody
//!   waits for a compile to switch ctskip off.
//! - `refused` may be taken inside `writing`. Nothing is taken inside of it.
//!
//! All are taken in process context. A namespace is looked at under none of them
//! ([`NetHandle::with()`](crate::linux::net::NetHandle::with)).

#![expect(
    clippy::result_large_err,
    reason = "a boxed report would need memory to tell that there is none"
)]

use core::time::Duration;

use kernel::{
    impl_has_delayed_work, new_delayed_work, new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Monotonic,
        Msecs, //
    },
    workqueue::{
        DelayedWork,
        WorkItem, //
    },
};

use crate::{
    linux::{
        compat::ecanceled,
        net::NetHandle,
        percpu::{
            Slot,
            SlotPool, //
        },
        pernet::{
            impl_has_pernet_slot,
            PerNet, //
        },
        sysfs::{
            HeldFile,
            OpenFile, //
        },
        task::{
            self,
            TaskName, //
        },
        workqueue::{
            enqueue_delayed,
            impl_has_handle,
            Handle, //
        },
    },
    log::{
        self,
        Commit, //
    },
    nets::Nets,
    packet::NetState,
    publish::{
        InForce,
        Published, //
    },
    pure::{
        alloc::NoMemory,
        language::{
            refusal::{
                Errno,
                Refusal, //
            },
            report::Report, //
        },
        matcher::{
            dearest::Dearest,
            limits::{
                Limits,
                Stop, //
            },
            ruleset::Ruleset,
            scope::Scope, //
        },
        packet::verdict::Mode,
        table::{
            command,
            load::LeftOut,
            selection::{
                Done,
                Selection, //
            },
            session::{
                self,
                Clock,
                Events,
                HeldStream,
                Lost,
                Rejection,
                Session,
                Stream, //
            },
            Change,
            Slots,
            Table, //
        },
    },
    purge::{
        End,
        Outcome,
        Prepared, //
    },
};

/// The delay before the next try where there was no memory to take out rules, at first, in milliseconds.
/// An unload waits for it.
const RETRY: Msecs = 1000;
/// That delay at most; it doubles with each try.
const RETRY_MOST: Msecs = 8 * RETRY;

/// How often it is seen whether the file of an open `load` was closed, in milliseconds. No call tells.
/// An unload waits for it.
const LOOK_FOR_CLOSED: Msecs = 500;

/// The number of the work item that takes out the rules of namespaces that are gone.
const GONE: u64 = 0;
/// The number of the one that looks for closed files.
const CLOSED: u64 = 1;

/// The write side: what is written becomes a table, and that comes into force.
#[pin_data]
pub(crate) struct Writer {
    queue: Handle,
    slots: SlotPool,
    settings: Settings,
    nets: Arc<Nets>,
    #[pin]
    writing: Mutex<Writing>,
    #[pin]
    refused: Mutex<Option<Refused>>,
    #[pin]
    gone: DelayedWork<Writer, GONE>,
    #[pin]
    closed: DelayedWork<Writer, CLOSED>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, GONE> for Writer { self.gone }
    impl HasDelayedWork<Self, CLOSED> for Writer { self.closed }
}
impl_has_handle!(Writer, queue);

/// What the module's parameters say of all tables.
pub(crate) struct Settings {
    /// Whether an ICMP error is decided by the packet that it quotes.
    pub(crate) icmp_errors: bool,
    /// How many instructions the lookup of a packet may take at worst, roughly.
    pub(crate) worst_lookup: usize,
}

/// Why a change was not put in force.
enum NotCommitted {
    /// The table was not compiled.
    Stopped(Stop),
    /// By it, a packet may cost too much.
    TooDear(Dearest),
}

impl From<Stop> for NotCommitted {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

impl From<NoMemory> for NotCommitted {
    fn from(error: NoMemory) -> Self {
        Self::Stopped(error.into())
    }
}

impl From<NotCommitted> for Report {
    fn from(why: NotCommitted) -> Self {
        match why {
            NotCommitted::Stopped(Stop::NoMemory) => NoMemory.into(),
            NotCommitted::Stopped(Stop::Interrupted) => interrupted(),
            NotCommitted::Stopped(Stop::TooLarge) => Self::of_all(
                Refusal::new(
                    Errno::TooBig,
                    0,
                    "the compiled table would take over 256 MiB",
                    "fewer rules, shorter lists, or prefixes and ranges that overlap less",
                ),
                "",
            ),
            NotCommitted::Stopped(Stop::PurgeTooLarge) => Self::of_all(
                Refusal::new(
                    Errno::TooBig,
                    0,
                    "the purge would take over 256 MiB",
                    "fewer rules with dev=, mark=, flags= or local=, or shorter lists in them",
                ),
                "",
            ),
            NotCommitted::TooDear(dearest) => Self::of_all(
                Refusal::new(
                    Errno::TooBig,
                    0,
                    "a packet would cost more than worst_lookup allows",
                    "fewer rules, shorter lists, or prefixes and ranges that overlap less",
                ),
                dearest,
            ),
        }
    }
}

/// Returns the report of a change whose compile was given up.
///
/// A writer that lives on does not get EINTR: it would write again, through a file that is stopped.
fn interrupted() -> Report {
    let (errno, what) = match task::current_is_killed() {
        true => (Errno::Intr, "the writer was killed"),
        false => (Errno::NoDev, "the module goes"),
    };
    Report::of_all(Refusal::new(errno, 0, what, ""), "")
}

/// The limits of a compile, or a search: it ends where nobody waits for what comes of it any more.
pub(crate) struct WhileWanted<'a>(pub(crate) Option<&'a Nets>);

impl Limits for WhileWanted<'_> {
    fn is_interrupted(&self) -> bool {
        task::current_is_killed() || self.0.is_some_and(Nets::is_unloading)
    }
}

/// The state of the write side, besides the table.
struct Writing {
    session: Session<HeldWriter, MonotonicClock>,
    /// The delay before the next try, in milliseconds.
    retry: Msecs,
}

/// The last refused write.
#[derive(Clone)]
pub(crate) struct Refused {
    /// The reason.
    pub(crate) report: Report,
    /// The generation of the table that it left as it was.
    pub(crate) generation: u64,
    /// The task that wrote.
    pub(crate) writer: TaskName,
    /// The number of refused writes since the module was loaded, this one included.
    pub(crate) number: u64,
}

impl Writer {
    /// Makes a writer with an empty table in force, and no namespaces yet. `queue` takes what cannot be
    /// done at once.
    ///
    /// Fails with `ENOMEM`.
    #[inline(never)]
    pub(crate) fn new(queue: Handle, mode: Mode, settings: Settings) -> Result<Arc<Self>> {
        let slots = SlotPool::new()?;
        if mode == Mode::Observe {
            slots.observe()?;
        }
        let limits = WhileWanted(None);
        let nothing = Change {
            table: Table::new(),
            added: 0,
            removed: 0,
        };
        let published = Published::new(nothing, 0, None, &limits).map_err(|_| ENOMEM)?;
        let in_force = InForce::new(&queue, published, mode, settings.icmp_errors)?;
        let nets = Arc::pin_init(Nets::new(in_force), GFP_KERNEL)?;
        let writer = pin_init!(Self {
            queue,
            slots,
            settings,
            nets,
            writing <- new_mutex!(Writing {
                session: Session::new(MonotonicClock, PAGE_SIZE),
                retry: RETRY,
            }),
            refused <- new_mutex!(None),
            gone <- new_delayed_work!("Writer::gone"),
            closed <- new_delayed_work!("Writer::closed"),
        });
        Arc::pin_init(writer, GFP_KERNEL)
    }

    /// Returns the namespaces, and what is in force in them.
    pub(crate) fn nets(&self) -> &Arc<Nets> {
        &self.nets
    }

    /// Makes the table of the module parameter `rules`, once, before any write.
    ///
    /// Fails with `ENOMEM`, with `EINTR` where the task is to end, or `EINVAL` where the text is refused;
    /// the log says why.
    #[inline(never)]
    pub(crate) fn load_parameter(self: &Arc<Self>, text: &[u8]) -> Result {
        let writing = self.writing.lock();
        let report = match command::from_parameter(text, &*self.nets, &self.slots) {
            Ok(None) => return Ok(()),
            Ok(Some(change)) => match self.commit(change, self.settings.worst_lookup) {
                Ok(done) => {
                    drop(writing);
                    self.log(done);
                    return Ok(());
                }
                Err(error) => error.into(),
            },
            Err(report) => report,
        };
        log::refused_parameter(&report);
        match report.refusal().errno {
            Errno::NoMem => Err(ENOMEM),
            Errno::Intr => Err(EINTR),
            _ => Err(EINVAL),
        }
    }

    /// Carries out a write to `rules` through `file`, as a whole or not at all.
    ///
    /// Fails with the errno of the refusal, which `last_error` then tells of; with `EINVAL` alone for
    /// text that stands behind a refused one, and with `EINTR` alone where a signal ends the task before
    /// its turn. Where its purge ends early, what it has committed stays, and it fails with `ENOMEM`, or with
    /// `EAGAIN`, `ECANCELED`, `ENODEV` or `EINTR` alone.
    pub(crate) fn write(self: &Arc<Self>, file: &OpenFile<'_>, text: &[u8]) -> Result {
        let mut writing = task::lock_killable(&self.writing)?;
        let (Done { change, purge }, left_out) =
            self.read_or_refuse(&mut writing.session, file, text)?;
        if matches!(purge, Some(Selection::All | Selection::Ids(_))) && !self.nets.rules_act() {
            return Err(self.refuse_idle(text));
        }
        let (commit, prepared) = match self.carry_out(change, purge) {
            Ok(done) => done,
            Err(why) => return Err(self.refuse_commit(why)),
        };
        if left_out.rules != 0 {
            log::left_out(left_out);
        }
        // Under the lock: the rules that it is by stay until it is done.
        let outcome = prepared.map(|prepared| prepared.run(&self.nets));
        if outcome.as_ref().is_none_or(Outcome::is_done) {
            writing.session.done(file);
        }
        drop(writing);
        if let Some(commit) = commit {
            self.log(commit);
        }
        match outcome {
            None => Ok(()),
            Some(outcome) => {
                log::purge(&outcome);
                Self::end_of_purge(outcome.end)
            }
        }
    }

    /// Reads a write as [`Self::read()`] does, and tells of what it has ended. Notes a refusal, and returns its
    /// error. Returns what it does, and what its `load` leaves out.
    #[inline(never)]
    fn read_or_refuse(
        self: &Arc<Self>,
        session: &mut Session<HeldWriter, MonotonicClock>,
        file: &OpenFile<'_>,
        text: &[u8],
    ) -> Result<(Done<Slot>, LeftOut)> {
        let read = self.read(session, file, text);
        let left_out = self.tell(session);
        match read {
            Ok(done) => Ok((done, left_out)),
            Err(Rejection::Rest) => Err(EINVAL),
            Err(Rejection::Refused(report)) => Err(self.refuse(report)),
        }
    }

    /// Notes why a change was not put in force. Not inlined, nor are the next ones: their reports must not lie
    /// below a commit.
    #[inline(never)]
    fn refuse_commit(&self, why: NotCommitted) -> Error {
        self.refuse(why.into())
    }

    /// Notes the refusal of a purge in a mode in which no rule acts.
    #[inline(never)]
    fn refuse_idle(&self, text: &[u8]) -> Error {
        self.refuse(command::idle_purge(text))
    }

    /// Returns the result of a write whose purge has ended so. What it has committed stays, so it is not refused.
    fn end_of_purge(end: End) -> Result {
        match end {
            End::Whole | End::Idle(_) => Ok(()),
            End::NoMemory => Err(ENOMEM),
            End::Resized => Err(EAGAIN),
            End::OtherMode => Err(ecanceled()),
            End::Unloading => Err(ENODEV),
            End::Killed => Err(EINTR),
        }
    }

    /// Logs a commit of the current task. `writing` is not held.
    fn log(&self, done: Commit) {
        log::commit(&done, format_args!("by {}", TaskName::current()));
        log::shadowed(&done, &WhileWanted(Some(&self.nets)));
        log::warn(&self.nets);
    }

    /// Notes a refusal of the current task's write for `last_error`, logs it, and returns its error.
    fn refuse(&self, report: Report) -> Error {
        let writer = TaskName::current();
        let errno = report.refusal().errno;
        log::refused(&report, writer);
        self.note(report, writer);
        to_error(errno)
    }

    /// Notes for `last_error` what is to be told to `writer`.
    ///
    /// Not inlined: its frame must not lie below those of a commit.
    #[inline(never)]
    fn note(&self, report: Report, writer: TaskName) {
        let generation = self.nets.published().0.generation;
        let mut refused = self.refused.lock();
        *refused = Some(Refused {
            report,
            generation,
            writer,
            number: refused
                .as_ref()
                .map_or(1, |last| last.number.wrapping_add(1)),
        });
    }

    /// Tells what a write has brought about beside its own outcome, and returns what its `load` leaves out.
    /// `writing` is held.
    ///
    /// Has it seen later whether files are closed that are kept.
    fn tell(self: &Arc<Self>, session: &mut Session<HeldWriter, MonotonicClock>) -> LeftOut {
        let Events { lost, left_out } = session.events();
        if let Some(load) = lost {
            log::lost(&load);
            if load.how == Lost::Closed {
                self.note(session::closed(), load.writer);
            }
        }
        if session.keeps_files() {
            // Where it is queued already, it comes sooner.
            let _ = enqueue_delayed::<_, CLOSED>(self.clone(), msecs_to_jiffies(LOOK_FOR_CLOSED));
        }
        left_out
    }

    /// Reads a write, and returns what it does. `writing` is held.
    ///
    /// Not inlined: its frame must not lie below those of a commit.
    #[inline(never)]
    fn read(
        &self,
        session: &mut Session<HeldWriter, MonotonicClock>,
        file: &OpenFile<'_>,
        text: &[u8],
    ) -> Result<Done<Slot>, Rejection> {
        let (published, _) = self.nets.published();
        session.write(file, text, published.table(), &*self.nets, &self.slots)
    }

    /// Puts a change in force, if there is one, and prepares a purge by what is then in force, if that is asked
    /// for: both, or none. `writing` is held. Not inlined, for the stack.
    #[inline(never)]
    fn carry_out(
        self: &Arc<Self>,
        change: Option<Change<Slot>>,
        purge: Option<Selection>,
    ) -> Result<(Option<Commit>, Option<Prepared>), NotCommitted> {
        let prepare = |published: &Published, mode: Mode, limits: &dyn Limits| {
            purge
                .map(|selection| Prepared::new(&self.nets, published, mode, selection, limits))
                .transpose()
        };
        match change {
            None => {
                let (last, mode) = self.nets.published();
                let limits = WhileWanted(Some(&self.nets));
                Ok((None, prepare(&last, mode, &limits)?))
            }
            Some(change) => {
                let most = self.settings.worst_lookup;
                let (commit, prepared) = self.commit_with(change, most, prepare)?;
                Ok((Some(commit), prepared))
            }
        }
    }

    /// Compiles a new table aside and puts it in force. `writing` is held.
    ///
    /// A lookup may cost `most`, or as much as it does. A table that only lacks rules of the last one is never
    /// refused for its memory.
    fn commit(self: &Arc<Self>, change: Change<Slot>, most: usize) -> Result<Commit, NotCommitted> {
        Ok(self.commit_with(change, most, |_, _, _| Ok(()))?.0)
    }

    /// As [`Self::commit()`]; calls `prepare` with the compiled table, the mode and what ends it, before that comes
    /// into force. `writing` is held.
    ///
    /// A table of fewer rules may cost more, too: a rule ahead may have left nothing to those that stay.
    fn commit_with<T>(
        self: &Arc<Self>,
        change: Change<Slot>,
        most: usize,
        prepare: impl FnOnce(&Published, Mode, &dyn Limits) -> Result<T, Stop>,
    ) -> Result<(Commit, T), NotCommitted> {
        let (last, mode) = self.nets.published();
        let generation = last.generation.wrapping_add(1);
        let limits = WhileWanted(Some(&self.nets));
        let (added, removed) = (change.added, change.removed);
        let published = Published::new(change, generation, Some(&last.ruleset), &limits)?;
        if let Some(dearest) = published.ruleset.too_dear(&last.ruleset, most, &limits)? {
            return Err(NotCommitted::TooDear(dearest));
        }
        let prepared = prepare(&published, mode, &limits)?;
        // By whatever mode is in force by now: it may change at any time.
        loop {
            let (last, mode) = self.nets.published();
            if self.publish(published.clone(), mode, (&last, mode))? {
                break;
            }
        }
        let commit = Commit {
            added,
            removed,
            published,
            last,
        };
        Ok((commit, prepared))
    }

    /// Has all namespaces' packets decided by `published` and `mode`, if `last` is in force. Returns whether
    /// it was.
    fn publish(
        self: &Arc<Self>,
        published: Arc<Published>,
        mode: Mode,
        last: (&Arc<Published>, Mode),
    ) -> Result<bool, NoMemory> {
        let icmp_errors = self.settings.icmp_errors;
        let next = InForce::new(&self.queue, published, mode, icmp_errors).map_err(|_| NoMemory)?;
        let Some(one_is_gone) = self.nets.publish(next, last.0, last.1) else {
            return Ok(false);
        };
        if one_is_gone {
            self.take_out_gone();
        }
        Ok(true)
    }

    /// Sets the mode to the one that `text` names. Does not wait for a write to `rules`.
    ///
    /// Fails with `EINVAL` or `ENOMEM`, of which `last_error` tells.
    pub(crate) fn set_mode(self: &Arc<Self>, text: &[u8]) -> Result {
        let Some(mode) = Mode::parse(text.trim_ascii()) else {
            let refusal = Refusal::invalid(0, "not a mode", "skip, observe or off");
            return Err(self.refuse(Report::new(refusal, 1, text)));
        };
        if mode == Mode::Observe {
            self.slots
                .observe()
                .map_err(|_| self.refuse(NoMemory.into()))?;
        }
        loop {
            let (published, last) = self.nets.published();
            if mode == last {
                return Ok(());
            }
            let done = self.publish(published.clone(), mode, (&published, last));
            if done.map_err(|error| self.refuse(error.into()))? {
                log::mode(mode);
                return Ok(());
            }
        }
    }

    /// Returns the last refused write.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused.lock().clone()
    }

    /// Has the rules for namespaces that are gone taken out soon.
    fn take_out_gone(self: &Arc<Self>) {
        // Where it is queued already, it will see this namespace gone too.
        let _ = self.queue.enqueue::<_, GONE>(self.clone());
    }

    /// Makes the table without the rules for namespaces that are gone; [`None`] where there are none.
    /// `writing` is held.
    fn without_gone(&self, ruleset: &Ruleset<Slot>) -> Result<Option<Change<Slot>>, NoMemory> {
        // Another run may have taken them out already.
        let Some(is_there) = self.nets.still_there(ruleset)? else {
            return Ok(None);
        };
        ruleset.table().without_netns(|id| {
            let scope = ruleset.scope(false, id.cookie);
            matches!(scope, Scope::Named(number) if is_there.get(number) == Some(&false))
        })
    }
}

impl WorkItem<GONE> for Writer {
    type Pointer = Arc<Self>;

    /// Takes out the rules for namespaces that are gone. Where there is no memory for that, it is tried
    /// again later.
    fn run(writer: Arc<Self>) {
        let mut writing = writer.writing.lock();
        let (published, _) = writer.nets.published();
        let change = writer.without_gone(&published.ruleset);
        let done = match change {
            // They cannot stay, whatever a lookup costs without them.
            Ok(change) => change
                .map(|change| writer.commit(change, usize::MAX))
                .transpose(),
            Err(error) => Err(error.into()),
        };
        let delay = core::mem::replace(&mut writing.retry, RETRY);
        match done {
            Ok(Some(done)) => {
                log::commit(&done, "as their namespaces are gone");
                log::too_dear(&done, writer.settings.worst_lookup);
            }
            Ok(None) => {}
            // Of memory: fewer rules are never too large, and no signal comes here.
            Err(_) => {
                if !writer.nets.is_unloading() {
                    if delay == RETRY {
                        pr_warn!(
                            "no memory to take out rules whose namespaces are gone: trying again\n"
                        );
                    }
                    // Where it is queued already, it comes sooner.
                    let _ = enqueue_delayed::<_, GONE>(writer.clone(), msecs_to_jiffies(delay));
                }
                writing.retry = RETRY_MOST.min(delay.saturating_mul(2));
            }
        }
    }
}

impl WorkItem<CLOSED> for Writer {
    type Pointer = Arc<Self>;

    /// Drops a `load` whose file was closed, and tells of it. Comes again while files are kept.
    fn run(writer: Arc<Self>) {
        if writer.nets.is_unloading() {
            return;
        }
        let mut writing = writer.writing.lock();
        writing.session.forget_closed();
        writer.tell(&mut writing.session);
    }
}

impl_has_pernet_slot!(NetState);

impl PerNet for NetState {
    type Shared = Writer;

    fn init(net: NetHandle, writer: &Arc<Writer>) -> Result<Arc<Self>> {
        writer.nets.join(net)
    }

    fn no_room(this: &Arc<Self>, writer: &Arc<Writer>) -> Result {
        writer.nets.no_room(this)
    }

    fn exit(this: &Arc<Self>, writer: &Arc<Writer>) {
        if writer.nets.leave(this) {
            writer.take_out_gone();
        }
    }
}

/// An open file that is kept, and who wrote through it then.
pub(crate) struct HeldWriter {
    file: HeldFile,
    writer: TaskName,
}

impl Stream for OpenFile<'_> {
    type Held = HeldWriter;

    fn hold(&self) -> HeldWriter {
        HeldWriter {
            file: OpenFile::hold(self),
            writer: TaskName::current(),
        }
    }

    fn is(&self, held: &HeldWriter) -> bool {
        held.file.is(self)
    }

    fn stop(&self, stopped: bool) {
        OpenFile::stop(self, stopped);
    }

    fn is_stopped(&self) -> bool {
        OpenFile::is_stopped(self)
    }
}

impl HeldStream for HeldWriter {
    type Writer = TaskName;

    fn is_gone(&self) -> bool {
        self.file.is_gone()
    }

    fn writer(&self) -> TaskName {
        self.writer
    }
}

/// The clock that the silence of a writer is measured with. C: `CLOCK_MONOTONIC`.
struct MonotonicClock;

impl Clock for MonotonicClock {
    type Moment = Instant<Monotonic>;

    fn now(&self) -> Self::Moment {
        Instant::now()
    }

    fn elapsed(&self, since: Self::Moment) -> Duration {
        let nanos = since.elapsed().as_nanos();
        Duration::from_nanos(nanos.try_into().unwrap_or(0))
    }
}

impl Slots<Slot> for SlotPool {
    fn allocate(&self) -> Result<Slot, NoMemory> {
        self.take().map_err(|_| NoMemory)
    }
}

/// Returns the error that a refused write fails with.
fn to_error(errno: Errno) -> Error {
    match errno {
        Errno::Inval => EINVAL,
        Errno::Exist => EEXIST,
        Errno::NoEnt => ENOENT,
        Errno::Srch => ESRCH,
        Errno::NoSpc => ENOSPC,
        Errno::TooBig => E2BIG,
        Errno::Busy => EBUSY,
        Errno::Intr => EINTR,
        Errno::NoDev => ENODEV,
        Errno::NoMem => ENOMEM,
        Errno::Canceled => ecanceled(),
    }
}
