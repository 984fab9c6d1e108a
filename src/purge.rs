// SPDX-License-Identifier: GPL-2.0

//! A purge: the conntrack entries of flows that rules keep out of conntrack are deleted.
//!
//! An entry that is older than its rule does not learn what the flow sends. Were the rule taken back, the
//! flow would meet that entry again, and a TCP connection would stall. What is deleted says
//! [`pure::matcher::purge`](crate::pure::matcher::purge).
//!
//! Runs in process context, under the writer's lock ([`crate::writer`]), so that the rules stay as they are.
//! No lock is held that a packet waits for, but the lock of one bucket of conntrack's hash at a time.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    linux::{
        compat::ecanceled,
        conntrack::{
            sweep,
            Room,
            Sweep, //
        },
        net::Net,
        percpu::Slot, //
    },
    nets::Nets,
    publish::Published,
    pure::{
        matcher::{
            limits::{
                Limits,
                Stop, //
            },
            purge::{
                Fate,
                Home,
                Purge, //
            },
        },
        packet::{
            conn::{
                Conn,
                Purged, //
            },
            verdict::Mode, //
        },
        sort::sort_by_key,
        table::selection::Selection, //
    },
};

/// How a purge has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All entries were looked at.
    Whole,
    /// None was, as no rule acts in this mode.
    Idle(Mode),
    /// A bucket had more entries than there was memory for.
    NoMemory,
    /// The hash was resized again and again.
    Resized,
    /// The mode has changed.
    OtherMode,
    /// The module goes.
    Unloading,
    /// The task was killed.
    Killed,
}

/// What a purge has done.
pub(crate) struct Outcome {
    /// The number of `skip` rules that it was by.
    pub(crate) rules: usize,
    /// The numbers of entries.
    pub(crate) purged: Purged,
    /// How it has ended.
    pub(crate) end: End,
}

impl Outcome {
    /// Returns whether nothing is left to be done.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.end, End::Whole | End::Idle(_))
    }
}

/// A purge that is prepared: nothing of it is done yet.
pub(crate) struct Prepared {
    rules: usize,
    /// The mode; where that is not skip, no rule acts, and nothing is to be done.
    mode: Mode,
    /// Whether that is no failure: `commit purge`.
    may_be_idle: bool,
    work: Option<KBox<Work>>,
}

impl Prepared {
    /// Prepares a purge by the selected rules of `published`, which is in force or will be. All that it needs
    /// is allocated now: so what is committed with it is committed only where it can be carried out.
    ///
    /// Process context; takes up to seconds. Not inlined: its frame must not lie below a commit.
    #[inline(never)]
    pub(crate) fn new(
        nets: &Arc<Nets>,
        published: &Published,
        mode: Mode,
        selection: Selection,
        limits: &dyn Limits,
    ) -> Result<Self, Stop> {
        let rules = selection.count(published.table());
        let may_be_idle = matches!(selection, Selection::Loaded);
        let work = match mode {
            Mode::Skip => Some(Work::new(nets, published, selection, limits)?),
            Mode::Observe | Mode::Off => None,
        };
        Ok(Self {
            rules,
            mode,
            may_be_idle,
            work,
        })
    }

    /// Carries it out: its rules are in force. Counts what it has done in `nets`.
    ///
    /// Where it ends early, what it has deleted stays deleted. Process context; takes up to seconds.
    #[inline(never)]
    pub(crate) fn run(self, nets: &Nets) -> Outcome {
        let (purged, end) = match self.work {
            // The mode may have changed since it was prepared.
            None if self.may_be_idle && !nets.rules_act() => {
                (Purged::default(), End::Idle(self.mode))
            }
            None => (Purged::default(), End::OtherMode),
            Some(work) => work.run(),
        };
        nets.count_purged(&purged);
        Outcome {
            rules: self.rules,
            purged,
            end,
        }
    }
}

/// What a purge works with.
struct Work {
    nets: Arc<Nets>,
    purge: Purge<Slot>,
    room: Option<Room>,
    /// The cookies of the namespaces in which rules act, ascending.
    acting: KVVec<u64>,
    purged: Purged,
}

impl Work {
    /// Allocates all that it needs.
    fn new(
        nets: &Arc<Nets>,
        published: &Published,
        selection: Selection,
        limits: &dyn Limits,
    ) -> Result<KBox<Self>, Stop> {
        let work = Self {
            nets: nets.clone(),
            purge: Purge::new(&published.ruleset, selection, limits)?,
            room: Some(Room::new().map_err(|_| Stop::NoMemory)?),
            acting: acting(nets).map_err(|_| Stop::NoMemory)?,
            purged: Purged::default(),
        };
        KBox::new(work, GFP_KERNEL).map_err(|_| Stop::NoMemory)
    }

    /// Carries it out. Returns what it has done, and how it has ended.
    fn run(mut self: KBox<Self>) -> (Purged, End) {
        // Namespaces may have come while the table was not in force. One that comes later has no entry yet, and
        // the rules act there from its first packet on. Without memory, the ones before are all that is known.
        if let Ok(acting) = acting(&self.nets) {
            self.acting = acting;
        }
        let Some(room) = self.room.take() else {
            return (self.purged, End::NoMemory);
        };
        let (deleted, result) = sweep(room, &mut *self);
        self.purged.deleted = deleted;
        let end = match result {
            Ok(()) => End::Whole,
            Err(error) if error == ENOMEM => End::NoMemory,
            Err(error) if error == ecanceled() => End::OtherMode,
            Err(error) if error == ENODEV => End::Unloading,
            Err(error) if error == EAGAIN => End::Resized,
            Err(_) => End::Killed,
        };
        (self.purged, end)
    }
}

/// Returns the cookies of the namespaces in which rules act, ascending. Fails with `ENOMEM`.
fn acting(nets: &Nets) -> Result<KVVec<u64>> {
    let (all, _) = nets.nets()?;
    let mut acting = KVVec::with_capacity(all.len(), GFP_KERNEL)?;
    for net in all.iter().filter(|net| net.has_hooks()) {
        // Cannot fail: there is room.
        let _ = acting.push_within_capacity(net.handle().id().cookie);
    }
    sort_by_key(&mut acting, |cookie| *cookie);
    Ok(acting)
}

impl Sweep for Work {
    fn begin(&mut self) {
        self.purged = Purged::default();
    }

    fn go_on(&mut self) -> Result {
        match self.nets.rules_act() {
            true => Ok(()),
            false if self.nets.is_unloading() => Err(ENODEV),
            false => Err(ecanceled()),
        }
    }

    fn is_to_go(&mut self, conn: &Conn, net: Net<'_>) -> Result<bool> {
        let id = net.id();
        if self.acting.binary_search(&id.cookie).is_err() {
            return Ok(false);
        }
        self.go_on()?;
        let home = Home {
            is_init: id == Net::init().id(),
            id,
        };
        Ok(
            match self
                .purge
                .judge(home, conn, |family| net.nat_in_use(family))
            {
                Fate::Left => false,
                Fate::Kept(why) => {
                    self.purged.keep(why);
                    false
                }
                Fate::Deleted => true,
            },
        )
    }
}
