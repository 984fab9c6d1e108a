// SPDX-License-Identifier: GPL-2.0

//! The one who writes: takes texts, makes tables of them, publishes them to all namespaces.
//!
//! `writer` is held for a transaction, its parsing and compiling included. `state` is held for
//! moments, as a namespace's making and end wait for it; it nests inside `writer`. Under neither is a
//! namespace looked at ([`NetHandle::with()`]). A table's `listing` is held while its text is written
//! out, inside of no other lock. All locks are taken in process context.

#![expect(
    clippy::result_large_err,
    reason = "a boxed report would need memory to tell that there is none"
)]

use core::fmt::Display;

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
        Delta,
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
    held,
    linux::{
        net::{
            self,
            NetHandle, //
        },
        percpu::{
            Slot,
            SlotPool, //
        },
        rcu::Shared,
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
    packet::NetState,
    pure::{
        alloc::{
            self,
            NoMemory, //
        },
        language::{
            refusal::{
                Errno,
                Refusal, //
            },
            report::Report, //
        },
        matcher::{
            plan::View,
            ruleset::Ruleset,
            scope::Scope, //
        },
        packet::{
            counter::Counter,
            verdict::Mode, //
        },
        rule::{
            Namespaces,
            Netns,
            NetnsId, //
        },
        table::{
            self,
            command::{
                self,
                Load,
                Progress, //
            },
            listing::Listing,
            Change,
            Table, //
        },
    },
};

/// How long a `load` may be silent before it gives way to another.
const SILENCE: Delta = Delta::from_secs(10);

/// How many milliseconds later what there was no memory for is tried again, at first and at most. An
/// unload waits for that.
const RETRY: Msecs = 1000;
const RETRY_MOST: Msecs = 8 * RETRY;

/// All that namespaces and files share.
#[pin_data]
pub(crate) struct Control {
    queue: Handle,
    slots: SlotPool,
    icmp_errors: bool,
    #[pin]
    writer: Mutex<Writing>,
    #[pin]
    state: Mutex<InForce>,
    #[pin]
    refused: Mutex<Option<Refused>>,
    #[pin]
    work: DelayedWork<Control>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Control { self.work }
}
impl_has_handle!(Control, queue);

/// What only writers need.
struct Writing {
    load: Option<OpenLoad>,
    /// Those whose `load` another one has taken over: what is left of its text must not be carried
    /// out. Where a load was refused, its open file itself remembers that.
    overtaken: KVVec<HeldFile>,
    /// When to try again what there is no memory for, the next time.
    retry: Msecs,
}

/// A `load` that spans writes.
struct OpenLoad {
    file: HeldFile,
    load: Load,
    heard: Instant<Monotonic>,
}

impl OpenLoad {
    fn gives_way(&self) -> bool {
        self.heard.elapsed() >= SILENCE
    }
}

/// The last refused write.
#[derive(Clone)]
pub(crate) struct Refused {
    /// What was wrong.
    pub(crate) report: Report,
    /// The generation of the table that it left as it was.
    pub(crate) generation: u64,
    /// Who wrote.
    pub(crate) writer: TaskName,
    /// Its number, counted from 1 since the module was loaded.
    pub(crate) number: u64,
}

/// What is in force.
struct InForce {
    published: Arc<Published>,
    views: Views,
    mode: Mode,
    nets: KVVec<Arc<NetState>>,
    /// How many namespaces have left the list: those behind them have moved up then.
    left: u64,
    /// In how many namespaces there was no room for the hooks.
    without_hooks: usize,
    /// Whether namespaces leave because the module does.
    unloading: bool,
    /// What namespaces that are gone have counted.
    past: [u64; Counter::COUNT],
}

/// A table in force, and what is told of it.
#[pin_data]
pub(crate) struct Published {
    /// The rules.
    pub(crate) ruleset: alloc::Arc<Ruleset<Slot>>,
    /// How many commits there were.
    pub(crate) generation: u64,
    /// Made for the first one who asks.
    #[pin]
    listing: Mutex<Option<Arc<Listing>>>,
}

impl Published {
    /// Compiles `table`, which is that of `last` changed, where there is one.
    fn new(
        table: Table<Slot>,
        generation: u64,
        last: Option<&Ruleset<Slot>>,
    ) -> Result<Arc<Self>, NoMemory> {
        let table = alloc::Arc::new(table)?;
        let ruleset = match last {
            None => Ruleset::compile(table)?,
            Some(last) => last.updated(table)?,
        };
        let ruleset = alloc::Arc::new(ruleset)?;
        let published = pin_init!(Self {
            ruleset,
            generation,
            listing <- new_mutex!(None),
        });
        Arc::pin_init(published, GFP_KERNEL).map_err(|_| NoMemory)
    }

    /// The rules in order.
    pub(crate) fn table(&self) -> &Table<Slot> {
        self.ruleset.table()
    }

    /// What is known of the text of its rules, which is written for that if it was not before.
    pub(crate) fn listing(&self) -> Result<Arc<Listing>> {
        let mut listing = self.listing.lock();
        if let Some(listing) = &*listing {
            return Ok(listing.clone());
        }
        let made = Listing::new(self.table()).map_err(|NoMemory| ENOMEM)?;
        let made = Arc::new(made, GFP_KERNEL)?;
        *listing = Some(made.clone());
        Ok(made)
    }
}

/// A view for each scope.
struct Views {
    init: Shared<View<Slot>>,
    other: Shared<View<Slot>>,
    /// As many as the ruleset has named namespaces, and in its order.
    named: KVVec<Shared<View<Slot>>>,
}

impl Views {
    fn of(&self, scope: Scope) -> &Shared<View<Slot>> {
        match scope {
            Scope::Init => &self.init,
            Scope::Other => &self.other,
            Scope::Named(group) => self.named.get(group).unwrap_or(&self.other),
        }
    }
}

impl InForce {
    fn scope(&self, net: &NetHandle) -> Scope {
        let ruleset = &self.published.ruleset;
        ruleset.scope(net.is_init(), net.id().cookie)
    }
}

impl Control {
    /// No rules yet. `queue` takes what cannot be done at once.
    pub(crate) fn new(queue: Handle, mode: Mode, icmp_errors: bool) -> Result<Arc<Self>> {
        let slots = SlotPool::new()?;
        let published = Published::new(Table::new(), 0, None).map_err(|NoMemory| ENOMEM)?;
        let views = make_views(&queue, &published, mode, icmp_errors)?;
        let control = pin_init!(Self {
            queue,
            slots,
            icmp_errors,
            writer <- new_mutex!(Writing {
                load: None,
                overtaken: KVVec::new(),
                retry: RETRY,
            }),
            state <- new_mutex!(InForce {
                published,
                views,
                mode,
                nets: KVVec::new(),
                left: 0,
                without_hooks: 0,
                unloading: false,
                past: [0; Counter::COUNT],
            }),
            refused <- new_mutex!(None),
            work <- new_delayed_work!("Control::work"),
        });
        Arc::pin_init(control, GFP_KERNEL)
    }

    /// Makes the state of a new namespace.
    ///
    /// Builds no table: no rule names it yet.
    pub(crate) fn join(&self, net: NetHandle) -> Result<Arc<NetState>> {
        let view = |state: &InForce| state.views.of(state.scope(&net)).clone();
        let first = view(&self.state.lock());
        // Allocated without the lock, which all namespaces' making and end wait for.
        let net = Arc::new(NetState::new(net.clone(), first)?, GFP_KERNEL)?;
        let mut larger = KVVec::new();
        loop {
            let mut state = self.state.lock();
            let count = state.nets.len();
            if count < larger.capacity() {
                for net in state.nets.drain_all() {
                    // Cannot fail: there is room for more.
                    let _ = larger.push_within_capacity(net);
                }
                core::mem::swap(&mut state.nets, &mut larger);
            }
            if state.nets.push_within_capacity(net.clone()).is_ok() {
                net.publish(view(&state));
                return Ok(net);
            }
            drop(state);
            larger = KVVec::with_capacity(count.saturating_mul(2).max(8), GFP_KERNEL)?;
        }
    }

    /// Tells whether the module may do without its hooks in `net`, which has no room for them, and logs
    /// where that is.
    ///
    /// In all but the initial namespace it may: whoever has one could keep it from all others else.
    /// Fails with `E2BIG`.
    pub(crate) fn no_room(&self, net: &NetHandle) -> Result {
        /// How many namespaces the log names: others make them.
        const MOST: usize = 16;

        if net.is_init() {
            pr_err!("netns init: no room for a hook, see nft list hooks\n");
            return Err(E2BIG);
        }
        let mut state = self.state.lock();
        let count = state.without_hooks;
        state.without_hooks = count.saturating_add(1);
        drop(state);
        let inum = net.id().inum;
        match count {
            0..MOST => pr_warn!(
                "netns {}: no room for a hook, so no rule acts there\n",
                inum
            ),
            MOST => pr_warn!("further namespaces have no room for a hook\n"),
            _ => {}
        }
        Ok(())
    }

    /// Forgets a namespace that ends. Rules for it go soon after.
    pub(crate) fn leave(self: &Arc<Self>, net: &Arc<NetState>) {
        let mut state = self.state.lock();
        if let Some(at) = state.nets.iter().position(|other| Arc::ptr_eq(other, net)) {
            // Cannot fail: the index was just found.
            let _ = state.nets.remove(at);
            for (past, count) in state.past.iter_mut().zip(net.counts()) {
                *past = past.wrapping_add(count);
            }
            state.left = state.left.wrapping_add(1);
        }
        if !state.unloading && matches!(state.scope(net.handle()), Scope::Named(_)) {
            // Where it is queued already, it will see this namespace gone too.
            let _ = self.queue.enqueue(self.clone());
        }
    }

    /// Has the rules for namespaces kept, as all namespaces are about to leave.
    pub(crate) fn unload(&self) {
        self.state.lock().unloading = true;
    }

    /// Makes the table of the module parameter `rules`.
    pub(crate) fn load_parameter(self: &Arc<Self>, text: &[u8]) -> Result {
        let writing = self.writer.lock();
        let report = match command::from_parameter(text, &**self, &self.slots) {
            Ok(None) => return Ok(()),
            Ok(Some(change)) => match self.commit(change) {
                Ok(done) => {
                    drop(writing);
                    done.log(format_args!("by {}", TaskName::current()));
                    self.log_held();
                    return Ok(());
                }
                Err(error) => error.into(),
            },
            Err(report) => report,
        };
        log_report(&report);
        match report.refusal().errno {
            Errno::NoMem => Err(ENOMEM),
            _ => Err(EINVAL),
        }
    }

    /// Carries out a write to `rules` from `file`.
    pub(crate) fn write(self: &Arc<Self>, file: &OpenFile<'_>, text: &[u8]) -> Result {
        let mut writing = self.writer.lock();
        match self.read(&mut writing, file, text) {
            Ok(None) => return Ok(()),
            Ok(Some(change)) => {
                if let Ok(done) = self.commit(change) {
                    file.stop(false);
                    drop(writing);
                    done.log(format_args!("by {}", TaskName::current()));
                    self.log_held();
                    return Ok(());
                }
            }
            Err(None) => return Err(EINVAL),
            Err(Some(report)) => return Err(self.refuse(report)),
        }
        Err(self.refuse(NoMemory.into()))
    }

    /// Notes a refusal for `last_error`, and gives its error.
    fn refuse(&self, report: Report) -> Error {
        let errno = report.refusal().errno;
        let generation = self.published().0.generation;
        let mut refused = self.refused.lock();
        *refused = Some(Refused {
            report,
            generation,
            writer: TaskName::current(),
            number: refused
                .as_ref()
                .map_or(1, |last| last.number.wrapping_add(1)),
        });
        to_error(errno)
    }

    /// Reads a write; gives what it is to change, if anything. An error without a report is of text
    /// behind one that was reported.
    ///
    /// Not inlined: no frame of this one is to lie below those of a commit.
    #[inline(never)]
    fn read(
        &self,
        writing: &mut Writing,
        file: &OpenFile<'_>,
        text: &[u8],
    ) -> Result<Option<Change<Slot>>, Option<Report>> {
        writing.overtaken.retain(|overtaken| !overtaken.is_gone());
        writing.load.take_if(|open| open.file.is_gone());

        let open = match writing.load.take_if(|open| open.file.is(file)) {
            Some(open) => open,
            None if command::opens_load(text) => {
                // Until it is open, what follows is not to be carried out either.
                file.stop(true);
                let open = Self::open_load(writing, file, text)?;
                file.stop(false);
                open
            }
            None => {
                let overtaken = || writing.overtaken.iter().any(|other| other.is(file));
                if file.is_stopped() || overtaken() {
                    return Err(None);
                }
                if command::may_be_cut(text, PAGE_SIZE) {
                    file.stop(true);
                }
                if text.len() >= PAGE_SIZE {
                    return Err(Some(command::full_page(text)));
                }
                let published = self.published().0;
                return Ok(command::run(published.table(), text, self, &self.slots)?);
            }
        };
        self.feed(writing, file, open, text)
    }

    /// Opens a `load` for `file`, whose first piece is `text`.
    fn open_load(
        writing: &mut Writing,
        file: &OpenFile<'_>,
        text: &[u8],
    ) -> Result<OpenLoad, Report> {
        if let Some(other) = &writing.load {
            if !other.gives_way() {
                return Err(command::busy(text));
            }
            let room = writing.overtaken.reserve(1, GFP_KERNEL);
            room.map_err(|_| Report::from(NoMemory))?;
        }
        writing.overtaken.retain(|overtaken| !overtaken.is(file));
        if let Some(other) = writing.load.take() {
            // Does not fail: there is room.
            let _ = writing.overtaken.push_within_capacity(other.file);
        }
        Ok(OpenLoad {
            file: file.hold(),
            load: Load::new(),
            heard: Instant::now(),
        })
    }

    /// Gives one more piece to a `load`, which stays open or ends by it. Where it ends, what follows is
    /// not to be carried out before its change is made.
    fn feed(
        &self,
        writing: &mut Writing,
        file: &OpenFile<'_>,
        mut open: OpenLoad,
        text: &[u8],
    ) -> Result<Option<Change<Slot>>, Option<Report>> {
        file.stop(true);
        let change = match open.load.feed(text, self)? {
            Progress::Open => {
                open.heard = Instant::now();
                writing.load = Some(open);
                None
            }
            Progress::Abort => None,
            Progress::Commit => {
                let published = self.published().0;
                open.load.commit(published.table(), &self.slots)?
            }
        };
        file.stop(change.is_some());
        Ok(change)
    }

    /// Compiles a new table aside and publishes it to all namespaces. `writer` is held.
    fn commit(self: &Arc<Self>, change: Change<Slot>) -> Result<Commit, NoMemory> {
        let (last, mode) = self.published();
        let generation = last.generation.wrapping_add(1);
        let published = Published::new(change.table, generation, Some(&last.ruleset))?;
        self.publish(published, mode).map_err(|_| NoMemory)?;
        Ok(Commit {
            generation,
            added: change.added,
            removed: change.removed,
        })
    }

    /// Has all namespaces' packets decided by `published`. `writer` is held.
    fn publish(self: &Arc<Self>, published: Arc<Published>, mode: Mode) -> Result {
        let views = make_views(&self.queue, &published, mode, self.icmp_errors)?;
        // Dropped behind the lock: the last reference on a table takes its time.
        let _last;
        let mut state = self.state.lock();
        _last = (
            core::mem::replace(&mut state.published, published),
            core::mem::replace(&mut state.views, views),
        );
        state.mode = mode;
        let mut named = 0usize;
        for net in &state.nets {
            let scope = state.scope(net.handle());
            named = named.saturating_add(usize::from(matches!(scope, Scope::Named(_))));
            net.publish(state.views.of(scope).clone());
        }
        if named < state.views.named.len() {
            // One went between the parsing of its name and now.
            let _ = self.queue.enqueue(self.clone());
        }
        drop(state);
        Ok(())
    }

    /// Sets the mode to what `text` names.
    pub(crate) fn set_mode(self: &Arc<Self>, text: &[u8]) -> Result {
        let _writing = self.writer.lock();
        let Some(mode) = Mode::parse(text.trim_ascii()) else {
            let refusal = Refusal::invalid(0, "not a mode", "skip, observe or off");
            return Err(self.refuse(Report::new(refusal, 1, text)));
        };
        let (published, last) = self.published();
        if mode != last {
            self.publish(published, mode)
                .map_err(|_| self.refuse(NoMemory.into()))?;
            pr_info!(
                "mode {}, by {}\n",
                mode.name(),
                format_args!("{}", TaskName::current())
            );
        }
        Ok(())
    }

    /// The table in force, and the mode.
    pub(crate) fn published(&self) -> (Arc<Published>, Mode) {
        let state = self.state.lock();
        (state.published.clone(), state.mode)
    }

    /// The last refused write.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused.lock().clone()
    }

    /// The namespace of that number, how many rules hold in it, and how many have left the list so
    /// far.
    pub(crate) fn net(&self, index: usize) -> (Option<(Arc<NetState>, usize)>, u64) {
        let state = self.state.lock();
        let net = state.nets.get(index).map(|net| {
            let scope = state.scope(net.handle());
            (net.clone(), state.published.ruleset.len_in(scope))
        });
        (net, state.left)
    }

    /// All namespaces, in the order in which they came, and what those that are gone have counted: at one
    /// time, so that what each has counted is in one of them.
    pub(crate) fn nets(&self) -> Result<(KVVec<Arc<NetState>>, [u64; Counter::COUNT])> {
        let mut nets = KVVec::new();
        loop {
            let state = self.state.lock();
            let count = state.nets.len();
            if count <= nets.capacity() {
                for net in &state.nets {
                    // Cannot fail: there is room.
                    let _ = nets.push_within_capacity(net.clone());
                }
                return Ok((nets, state.past));
            }
            // As in `join()`. Some more, as namespaces may come meanwhile.
            drop(state);
            nets = KVVec::with_capacity(count.saturating_add(8), GFP_KERNEL)?;
        }
    }
}

impl WorkItem for Control {
    type Pointer = Arc<Self>;

    /// Takes out the rules for namespaces that are gone.
    fn run(control: Arc<Self>) {
        let mut writing = control.writer.lock();
        let (published, _) = control.published();
        let change = control.without_gone(&published.ruleset);
        let done = change.and_then(|change| change.map(|c| control.commit(c)).transpose());
        let delay = core::mem::replace(&mut writing.retry, RETRY);
        match done {
            Ok(Some(done)) => done.log("as their namespaces are gone"),
            Ok(None) => {}
            Err(NoMemory) => {
                if !control.state.lock().unloading {
                    if delay == RETRY {
                        pr_warn!(
                            "no memory to take out rules whose namespaces are gone: trying again\n"
                        );
                    }
                    // Where it is queued already, it comes sooner.
                    let _ = enqueue_delayed(control.clone(), msecs_to_jiffies(delay));
                }
                writing.retry = RETRY_MOST.min(delay.saturating_mul(2));
            }
        }
    }
}

impl Control {
    /// The table without the rules for namespaces that are gone; [`None`] where there are none, and on
    /// unload, when all leave. `writer` is held.
    ///
    /// Goes through the namespaces once, however many rules there are.
    fn without_gone(&self, ruleset: &Ruleset<Slot>) -> Result<Option<Change<Slot>>, NoMemory> {
        let count = ruleset.named().count();
        let mut is_there = KVVec::from_elem(false, count, GFP_KERNEL).map_err(|_| NoMemory)?;
        let state = self.state.lock();
        if state.unloading {
            return Ok(None);
        }
        for net in &state.nets {
            let (is_init, id) = (net.handle().is_init(), net.handle().id());
            let Scope::Named(number) = ruleset.scope(is_init, id.cookie) else {
                continue;
            };
            if let Some(is_there) = is_there.get_mut(number) {
                *is_there = true;
            }
        }
        drop(state);
        // Another run may have taken them out already.
        if is_there.iter().all(|is_there| *is_there) {
            return Ok(None);
        }
        ruleset.table().without_netns(|id| {
            let scope = ruleset.scope(false, id.cookie);
            matches!(scope, Scope::Named(number) if is_there.get(number) == Some(&false))
        })
    }

    fn find(&self, wanted: impl Fn(NetnsId) -> bool) -> Option<Netns> {
        let state = self.state.lock();
        let net = state.nets.iter().find(|net| wanted(net.handle().id()))?;
        let NetnsId { cookie, inum } = net.handle().id();
        Some(match net.handle().is_init() {
            true => Netns::Init,
            false => Netns::Only(NetnsId { cookie, inum }),
        })
    }
}

impl Namespaces for Control {
    fn by_inum(&self, inum: u32) -> Option<Netns> {
        self.find(|id| id.inum == inum)
    }

    fn by_pid(&self, pid: u32) -> Option<Netns> {
        let found = net::find_by_pid(pid.try_into().ok()?).ok()?;
        self.find(|id| id == found)
    }
}

impl table::Slots<Slot> for SlotPool {
    fn allocate(&self) -> Result<Slot, NoMemory> {
        self.take().map_err(|_| NoMemory)
    }
}

/// Makes a view of `published` for each scope.
fn make_views(
    queue: &Handle,
    published: &Published,
    mode: Mode,
    icmp_errors: bool,
) -> Result<Views> {
    let ruleset = &published.ruleset;
    let view = |scope| {
        let view = View::new(ruleset.clone(), scope, mode, icmp_errors);
        Shared::new(view, queue.clone(), GFP_KERNEL)
    };
    let mut named = KVVec::new();
    for group in 0..ruleset.named().count() {
        named.push(view(Scope::Named(group))?, GFP_KERNEL)?;
    }
    Ok(Views {
        init: view(Scope::Init)?,
        other: view(Scope::Other)?,
        named,
    })
}

/// A commit that was made, and is to be logged.
struct Commit {
    generation: u64,
    added: usize,
    removed: usize,
}

impl Commit {
    fn log(self, why: impl Display) {
        pr_info!(
            "generation {}: +{} -{} rules, {}\n",
            self.generation,
            self.added,
            self.removed,
            format_args!("{why}"),
        );
    }
}

impl Control {
    /// Logs which rules NAT holds and where.
    fn log_held(&self) {
        // Without the memory for it, the log does without.
        if let Ok((nets, _)) = self.nets() {
            let (published, _) = self.published();
            let _ = held::log(&published.ruleset, &nets);
        }
    }
}

/// Logs why the parameter `rules` is refused.
fn log_report(report: &Report) {
    let refusal = report.refusal();
    pr_err!(
        "rules: line {} column {}: {}\n",
        report.line(),
        report.column(),
        refusal.what,
    );
    pr_err!("rules: expected {}\n", refusal.expected);
    if let Some(likely) = &refusal.likely {
        pr_err!("rules: likely {}\n", format_args!("{likely}"));
    }
    pr_err!("rules: {}\n", report.excerpt());
    let caret = report.caret().saturating_add(1);
    pr_err!("rules: {}\n", format_args!("{:>caret$}", "^"));
}

/// The error that a refused write fails with.
fn to_error(errno: Errno) -> Error {
    match errno {
        Errno::Inval => EINVAL,
        Errno::Exist => EEXIST,
        Errno::NoEnt => ENOENT,
        Errno::Srch => ESRCH,
        Errno::NoSpc => ENOSPC,
        Errno::Busy => EBUSY,
        Errno::NoMem => ENOMEM,
    }
}
