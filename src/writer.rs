// SPDX-License-Identifier: GPL-2.0

//! The write side: texts become tables, and these come into force in all namespaces.
//!
//! # Locks
//!
//! - `writing` is held for a write, its parsing and compiling included: there is one writer at a time.
//! - The lock of [`Nets`] nests inside it, and is held for moments.
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
        task::TaskName,
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
    purge::{
        End,
        Outcome,
        Prepared, //
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
            ruleset::Ruleset,
            scope::Scope, //
        },
        packet::verdict::Mode,
        table::{
            command,
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
    icmp_errors: bool,
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
    pub(crate) fn new(queue: Handle, mode: Mode, icmp_errors: bool) -> Result<Arc<Self>> {
        let slots = SlotPool::new()?;
        if mode == Mode::Observe {
            slots.observe()?;
        }
        let published = Published::new(Table::new(), 0, None).map_err(|NoMemory| ENOMEM)?;
        let in_force = InForce::new(&queue, published, mode, icmp_errors)?;
        let nets = Arc::pin_init(Nets::new(in_force), GFP_KERNEL)?;
        let writer = pin_init!(Self {
            queue,
            slots,
            icmp_errors,
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
    /// Fails with `ENOMEM`, or `EINVAL` where the text is refused; the log says why.
    pub(crate) fn load_parameter(self: &Arc<Self>, text: &[u8]) -> Result {
        let writing = self.writing.lock();
        let report = match command::from_parameter(text, &*self.nets, &self.slots) {
            Ok(None) => return Ok(()),
            Ok(Some(change)) => match self.commit(change) {
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
            _ => Err(EINVAL),
        }
    }

    /// Carries out a write to `rules` through `file`, as a whole or not at all.
    ///
    /// Fails with the errno of the refusal, which `last_error` then tells of; with `EINVAL` alone for
    /// text that stands behind a refused one. Where its purge ends early, what it has committed stays, and it
    /// fails with `ENOMEM`, or with `EINTR` alone.
    pub(crate) fn write(self: &Arc<Self>, file: &OpenFile<'_>, text: &[u8]) -> Result {
        let mut writing = self.writing.lock();
        let read = self.read(&mut writing.session, file, text);
        self.tell(&mut writing.session, read.is_ok());
        let Done { change, purge } = match read {
            Ok(done) => done,
            Err(Rejection::Rest) => return Err(EINVAL),
            Err(Rejection::Refused(report)) => return Err(self.refuse(report)),
        };
        if matches!(purge, Some(Selection::All | Selection::Ids(_))) && !self.nets.rules_act() {
            return Err(self.refuse_idle(text));
        }
        let (commit, prepared) = match self.carry_out(change, purge) {
            Ok(done) => done,
            Err(NoMemory) => return Err(self.refuse_without_memory()),
        };
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
                self.end_of_purge(outcome.end)
            }
        }
    }

    /// Notes the refusal of a purge in a mode in which no rule acts. Not inlined, nor is the next one: their
    /// reports must not lie below a commit.
    #[inline(never)]
    fn refuse_idle(&self, text: &[u8]) -> Error {
        self.refuse(command::idle_purge(text))
    }

    /// Notes that memory was wanting.
    #[inline(never)]
    fn refuse_without_memory(&self) -> Error {
        self.refuse(NoMemory.into())
    }

    /// Returns the result of a write whose purge has ended so.
    fn end_of_purge(&self, end: End) -> Result {
        match end {
            End::Whole | End::Idle(_) => Ok(()),
            End::NoMemory => Err(self.refuse_without_memory()),
            End::Stopped | End::Killed => Err(EINTR),
        }
    }

    /// Logs a commit of the current task. `writing` is not held.
    fn log(&self, done: Commit) {
        log::commit(done, format_args!("by {}", TaskName::current()));
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

    /// Tells what a write has brought about beside its own outcome. `writing` is held.
    ///
    /// `was_taken`: whether it was not refused. Has it seen later whether files are closed that are kept.
    fn tell(
        self: &Arc<Self>,
        session: &mut Session<HeldWriter, MonotonicClock>,
        was_taken: bool,
    ) {
        let Events { lost, left_out } = session.events();
        if let Some(load) = lost {
            log::lost(&load);
            if load.how == Lost::Closed {
                self.note(session::closed(), load.writer);
            }
        }
        if was_taken && left_out.rules != 0 {
            log::left_out(left_out);
        }
        if session.keeps_files() {
            // Where it is queued already, it comes sooner.
            let _ = enqueue_delayed::<_, CLOSED>(self.clone(), msecs_to_jiffies(LOOK_FOR_CLOSED));
        }
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
    /// for: both, or none. `writing` is held.
    fn carry_out(
        self: &Arc<Self>,
        change: Option<Change<Slot>>,
        purge: Option<Selection>,
    ) -> Result<(Option<Commit>, Option<Prepared>), NoMemory> {
        let (last, mode) = self.nets.published();
        let prepare = |published: &Published| {
            purge
                .map(|selection| Prepared::new(&self.nets, published, mode, selection))
                .transpose()
        };
        match change {
            None => Ok((None, prepare(&last)?)),
            Some(change) => {
                let (commit, prepared) = self.commit_with(change, prepare)?;
                Ok((Some(commit), prepared))
            }
        }
    }

    /// Compiles a new table aside and puts it in force. `writing` is held.
    fn commit(self: &Arc<Self>, change: Change<Slot>) -> Result<Commit, NoMemory> {
        Ok(self.commit_with(change, |_| Ok(()))?.0)
    }

    /// Compiles a new table aside, calls `prepare` with it, and puts it in force. `writing` is held.
    fn commit_with<T>(
        self: &Arc<Self>,
        change: Change<Slot>,
        prepare: impl FnOnce(&Published) -> Result<T, NoMemory>,
    ) -> Result<(Commit, T), NoMemory> {
        let (last, mode) = self.nets.published();
        let generation = last.generation.wrapping_add(1);
        let published = Published::new(change.table, generation, Some(&last.ruleset))?;
        let prepared = prepare(&published)?;
        self.publish(published, mode).map_err(|_| NoMemory)?;
        let commit = Commit {
            generation,
            added: change.added,
            removed: change.removed,
        };
        Ok((commit, prepared))
    }

    /// Has all namespaces' packets decided by `published`. `writing` is held.
    fn publish(self: &Arc<Self>, published: Arc<Published>, mode: Mode) -> Result {
        let next = InForce::new(&self.queue, published, mode, self.icmp_errors)?;
        if self.nets.publish(next) {
            self.take_out_gone();
        }
        Ok(())
    }

    /// Sets the mode to the one that `text` names.
    ///
    /// Fails with `EINVAL` or `ENOMEM`, of which `last_error` tells.
    pub(crate) fn set_mode(self: &Arc<Self>, text: &[u8]) -> Result {
        let _writing = self.writing.lock();
        let Some(mode) = Mode::parse(text.trim_ascii()) else {
            let refusal = Refusal::invalid(0, "not a mode", "skip, observe or off");
            return Err(self.refuse(Report::new(refusal, 1, text)));
        };
        let (published, last) = self.nets.published();
        if mode != last {
            let ready = match mode {
                Mode::Observe => self.slots.observe(),
                _ => Ok(()),
            };
            ready
                .and_then(|()| self.publish(published, mode))
                .map_err(|_| self.refuse(NoMemory.into()))?;
            log::mode(mode);
        }
        Ok(())
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
        let done = change.and_then(|change| change.map(|c| writer.commit(c)).transpose());
        let delay = core::mem::replace(&mut writing.retry, RETRY);
        match done {
            Ok(Some(done)) => log::commit(done, "as their namespaces are gone"),
            Ok(None) => {}
            Err(NoMemory) => {
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
        writer.tell(&mut writing.session, true);
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
        Errno::Busy => EBUSY,
        Errno::NoMem => ENOMEM,
        Errno::Canceled => ECANCELED,
    }
}
