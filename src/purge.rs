// SPDX-License-Identifier: GPL-2.0

//! A purge: the conntrack entries of flows that rules keep out of conntrack are deleted.
//!
//! An entry that is older than its rule does not learn what the flow sends. Were the rule taken back, the
//! flow would meet that entry again, and a TCP connection would stall. What is deleted says
//! [`pure::matcher::purge`](crate::pure::matcher::purge).
//!
//! Runs in process context, under the writer's lock ([`crate::writer`]), so that the rules stay as they are.
//! No lock is held that a packet waits for, but the lock of one bucket of conntrack's hash at a time.

use kernel::prelude::*;

use crate::{
    linux::{
        conntrack::{
            sweep,
            Sweep, //
        },
        net::Net,
        percpu::Slot, //
    },
    nets::Nets,
    pure::{
        alloc::{
            self,
            NoMemory, //
        },
        matcher::{
            purge::{
                Fate,
                Home,
                Purge, //
            },
            ruleset::Ruleset, //
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
    /// There was no memory for all of it.
    NoMemory,
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

/// Purges by the selected rules of the table in force. Counts what was done in `nets`.
///
/// Where it ends early, what it has deleted stays deleted. Process context; takes up to seconds.
#[inline(never)]
pub(crate) fn purge(nets: &Nets, selection: Selection) -> Outcome {
    let (published, mode) = nets.published();
    let mut outcome = Outcome {
        rules: selection.count(published.table()),
        purged: Purged::default(),
        end: End::Idle(mode),
    };
    if mode == Mode::Skip {
        outcome.end = match Purging::new(nets, &published.ruleset, selection) {
            Ok(purging) => purging.run(&mut outcome.purged),
            Err(NoMemory) => End::NoMemory,
        };
        nets.count_purged(&outcome.purged);
    }
    outcome
}

/// A purge under way.
struct Purging {
    purge: Purge<Slot>,
    /// The cookies of the namespaces in which rules act, ascending.
    acting: KVVec<u64>,
    purged: Purged,
}

impl Purging {
    /// Prepares it. Not inlined: its frame must not lie below those of the lookups.
    #[inline(never)]
    fn new(
        nets: &Nets,
        ruleset: &alloc::Arc<Ruleset<Slot>>,
        selection: Selection,
    ) -> Result<Self, NoMemory> {
        let (all, _) = nets.nets().map_err(|_| NoMemory)?;
        let mut acting = KVVec::with_capacity(all.len(), GFP_KERNEL).map_err(|_| NoMemory)?;
        // A namespace that comes now has no entry yet, and the rules act there from its first packet on.
        for net in all.iter().filter(|net| net.has_hooks()) {
            // Cannot fail: there is room.
            let _ = acting.push_within_capacity(net.handle().id().cookie);
        }
        sort_by_key(&mut acting, |cookie| *cookie);
        Ok(Self {
            purge: Purge::new(ruleset, selection)?,
            acting,
            purged: Purged::default(),
        })
    }

    /// Carries it out.
    fn run(mut self, purged: &mut Purged) -> End {
        let (deleted, result) = sweep(&mut self);
        *purged = self.purged;
        purged.deleted = deleted;
        match result {
            Ok(()) => End::Whole,
            Err(error) if error == ENOMEM => End::NoMemory,
            Err(_) => End::Killed,
        }
    }
}

impl Sweep for Purging {
    fn begin(&mut self) {
        self.purged = Purged::default();
    }

    fn is_to_go(&mut self, conn: &Conn, net: Net<'_>) -> bool {
        let id = net.id();
        if self.acting.binary_search(&id.cookie).is_err() {
            return false;
        }
        let home = Home {
            is_init: id == Net::init().id(),
            id,
        };
        match self.purge.judge(home, conn, |family| net.nat_in_use(family)) {
            Fate::Left => false,
            Fate::Kept(why) => {
                self.purged.keep(why);
                false
            }
            Fate::Deleted => true,
        }
    }
}
